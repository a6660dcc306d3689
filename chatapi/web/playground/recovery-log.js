/**
 * Tells in plain words how the two connections get lost, wait, come back and send again.
 * @module
 */
import { h } from "/sdk/room/dom.js";

/** @typedef {import("/sdk/room/link.js").Condition} Condition */

const KEPT = 200; // lines
const TIME = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 1, hourCycle: "h23" });
/** @type {Record<string, string>} */
const SENT = {
  send_message: "a message", "message.edit": "an edit", "message.delete": "a deletion", "message.append": "a piece of a stream",
  "message.finish": "the end of a stream", "reaction.add": "a reaction", "reaction.remove": "the end of a reaction",
};
const OVER = { websocket: "", sse: " over Server-Sent Events", poll: " over long polls" };

/** One connection. */
class Line {
  state = "";
  /** @type {number | null} */ lostAt = null;
  caughtUp = 0;
  /** Frames without an answer, by their `request_id`. @type {Map<string, {what: string, again: boolean}>} */ open = new Map();
}

export class RecoveryLog {
  #lines = { a: new Line(), b: new Line() };
  /** @type {Record<"a" | "b", string>} */ #users = { a: "", b: "" };

  constructor() {
    this.list = h("div.recovery-list", { role: "log", "aria-label": "What the connections do", tabindex: 0 });
    this.element = h("section.recovery", { "aria-label": "Recovery" },
      h("div.admin-head", {}, h("h2", {}, "What the connections do"), h("button.button.small", { type: "button", onclick: () => this.list.replaceChildren() }, "Clear")), this.list);
  }

  /** A session begins. @param {Record<"a" | "b", string>} users */
  begin(users) {
    this.#users = users;
    this.#lines = { a: new Line(), b: new Line() };
  }

  /** @param {"a" | "b"} slot @param {Condition} condition */
  condition(slot, condition) {
    const line = this.#lines[slot];
    const { state, reason, retryAt, transport } = condition;
    if (state === line.state) return; // only its reason is known better now
    line.state = state;
    const over = OVER[transport ?? "websocket"];
    if (state === "connecting") this.#add(slot, "try", `connecting${over}`);
    if (state === "syncing") this.#add(slot, "try", "connected, catching up");
    if (state === "live") this.#backAgain(slot, line, over);
    if (state === "waiting") {
      const text = line.lostAt === null ? "lost" : "not connected";
      line.lostAt ??= Date.now();
      line.caughtUp = 0;
      const seconds = Math.max(0, ((retryAt ?? 0) - Date.now()) / 1000).toFixed(1);
      this.#add(slot, "lost", `${text}${reason ? `: ${reason.replace(/\.$/, "")}` : ""}; the next try in ${seconds} s`);
    }
    if (state === "paused") this.#add(slot, "lost", "cut by hand");
    if (state === "closed") this.#add(slot, "lost", `ended${reason ? `: ${reason}` : ""}`);
  }

  /** @param {"a" | "b"} slot @param {"in" | "out"} direction @param {any} frame */
  frame(slot, direction, frame) {
    const { open, lostAt } = this.#lines[slot];
    const line = this.#lines[slot];
    if (direction === "in" && frame.type === "message" && lostAt !== null) line.caughtUp++;
    const id = frame.request_id;
    if (typeof id !== "string") return;
    if (direction === "out") {
      const what = SENT[frame.type];
      if (!what) return;
      const sent = open.get(id);
      open.set(id, { what, again: sent !== undefined });
      if (sent) this.#add(slot, "try", `sent again: ${what}`);
      return;
    }
    const sent = open.get(id);
    if (!sent) return;
    if (frame.type === "error") {
      this.#add(slot, "lost", `${sent.what} was refused with ${frame.code}`);
      return;
    }
    open.delete(id);
    if (sent.again) this.#add(slot, "back", `confirmed: ${sent.what}, stored once`);
  }

  /** @param {"a" | "b"} slot @param {Line} line @param {string} over */
  #backAgain(slot, line, over) {
    if (line.lostAt === null) return this.#add(slot, "back", `live${over}`);
    const seconds = ((Date.now() - line.lostAt) / 1000).toFixed(1);
    const missed = line.caughtUp ? `, with ${line.caughtUp === 1 ? "1 message" : `${line.caughtUp} messages`} that came meanwhile` : "";
    line.lostAt = null;
    this.#add(slot, "back", `recovered after ${seconds} s${over}${missed}`);
  }

  /** @param {"a" | "b"} slot @param {"try" | "lost" | "back"} kind @param {string} text */
  #add(slot, kind, text) {
    const { list } = this;
    const follows = list.scrollTop + list.clientHeight >= list.scrollHeight - 4;
    list.append(h("p", { "data-slot": slot, "data-kind": kind }, h("time", {}, TIME.format(new Date())), h("b", {}, this.#users[slot]), h("span", {}, text)));
    while (list.childElementCount > KEPT) list.firstElementChild.remove();
    if (follows) list.scrollTop = list.scrollHeight;
  }
}
