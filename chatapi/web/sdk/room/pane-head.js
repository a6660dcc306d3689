/**
 * The head of a pane: which user, in which room, with whom, and how the connection is.
 * @module
 */
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { isBan } from "./reasons.js";

const SHOWN = 3; // of the other members; of more than that two, and how many else
/** @type {Record<string, string>} */
const STATE_TEXT = { connecting: "connecting", syncing: "catching up", live: "live", waiting: "offline", paused: "cut", closed: "closed" };

/** Where WebSockets do not pass. @type {Record<string, string>} */
const LIVE_TEXT = { sse: "live over SSE", poll: "live by polls" };

export class PaneHead {
  /** @type {ReturnType<typeof setInterval> | undefined} */ #countdown;

  /** @param {string} user @param {string | undefined} slot @param {import("./surroundings.js").Surroundings} around @param {{toggle: () => void, retry: () => void}} actions */
  constructor(user, slot, { people, isAtPlay, details }, actions) {
    this.user = user;
    this.people = people;
    this.isAtPlay = isAtPlay;
    this.unread = h("span.badge.unread", { hidden: true });
    this.room = details ? h("button.pane-room", { type: "button", dir: "auto", hidden: true, onclick: details }) : h("h2.pane-room", { dir: "auto" });
    this.others = h("p.others");
    this.state = h("span.state", { "data-state": "connecting" }, "connecting");
    this.cut = h("button.button.small", { type: "button", onclick: () => actions.toggle() });
    this.element = h("header.pane-head", { part: "head" }, ...(isAtPlay
      ? [people.avatar(user, slot), h("div.pane-title", {}, h("div.pane-names", {}, h("h2", {}, people.nameElement(user)), this.others), this.room), this.unread, this.state, this.cut]
      : [h("div.pane-title", {}, this.room, this.others), this.unread, this.state]));
    this.reason = h("span");
    this.next = h("span.next-try", { "aria-hidden": "true" }); // counts down: not to be read out each second
    this.retry = h("button.button.small", { type: "button", onclick: () => actions.retry() }, "Retry now");
    this.notice = h("div.notice", { hidden: true }, h("p", {}, this.reason, " ", this.next), this.retry);
    this.spoken = h("p.sr", { role: "status" });
    this.element.append(this.spoken);
    this.#showCut(false);
  }

  close() { clearInterval(this.#countdown); }

  /** @param {string} name */
  showRoom(name) {
    this.room.textContent = name;
    this.room.title = this.isAtPlay ? `${name}: show its members` : name;
    this.room.hidden = false;
  }

  /** @param {string[]} others @param {number} count of all others @param {Set<string> | null} online null: nobody tells */
  showOthers(others, count, online) {
    const shown = others.slice(0, count > SHOWN ? SHOWN - 1 : SHOWN);
    this.others.replaceChildren(...shown.map((userId) => {
      if (!online) return this.people.nameElement(userId);
      const status = online.has(userId) ? "online" : "offline";
      return h("span.presence", { "data-online": String(status === "online") }, this.people.nameElement(userId), h("span.sr", {}, ` is ${status}`));
    }), ...(count > shown.length ? [h("span.more", {}, `+${(count - shown.length).toLocaleString()}`)] : []));
    this.others.title = others.slice(0, 30).map((userId) => online ? `${this.people.nameOf(userId)} (${online.has(userId) ? "online" : "offline"})` : this.people.nameOf(userId)).join(", ")
      + (count > Math.min(others.length, 30) ? ` and ${(count - Math.min(others.length, 30)).toLocaleString()} more` : "");
  }

  /** @param {number} unread */
  showUnread(unread) {
    this.unread.hidden = !unread;
    this.unread.textContent = unread >= 1000 ? "1000+" : String(unread);
    this.unread.title = this.isAtPlay ? `${unread} unread: look into this pane to read` : `${unread} unread`;
  }

  /** @param {import("./link.js").Condition} condition */
  showCondition({ state, reason, retryAt, error, transport = "websocket" }) {
    const text = (state === "live" && LIVE_TEXT[transport]) || STATE_TEXT[state];
    this.state.dataset.state = state;
    this.state.textContent = state === "closed" && isBan(error) ? "banned" : text;
    this.state.title = reason || `the connection is ${text}`;
    this.#showCut(state === "paused" || state === "closed");
    this.notice.hidden = !reason;
    this.reason.textContent = reason;
    const spoken = this.isAtPlay ? `${this.user}: ${reason || text}` : reason || text;
    if (state !== "connecting" && state !== "syncing" && this.spoken.textContent !== spoken) this.spoken.textContent = spoken;
    clearInterval(this.#countdown);
    const count = () => {
      const seconds = Math.max(0, Math.ceil(((retryAt ?? 0) - Date.now()) / 1000));
      this.next.textContent = state === "connecting" ? "Trying now …" : retryAt === null ? "" : `Next try in ${seconds} s.`;
    };
    count();
    if (retryAt !== null) this.#countdown = setInterval(count, 500);
  }

  /** @param {boolean} cut */
  #showCut(cut) {
    const label = cut ? "Reconnect" : "Cut";
    this.cut.replaceChildren(icon(cut ? "plug" : "cut"), h("span.cut-label", {}, label));
    this.cut.title = cut ? "Connect again and catch up" : "Cut this user's connection";
  }
}
