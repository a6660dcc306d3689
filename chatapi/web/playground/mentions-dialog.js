/**
 * A dialog with the messages that mention one of the two users, in all their rooms, the newest first.
 * @module
 */
import { describe, h, iconButton } from "/sdk/room/dom.js";
import { foundElement } from "./found.js";
import { piecesOf, ROOM } from "/sdk/room/mentions.js";

/** @typedef {import("/sdk/chatapi.js").Message} Message */
/** @typedef {import("./search.js").Given} Given */

const PAGE = 20;
const SHOWN_CHARS = 240;

export class MentionsDialog {
  /** @type {Given | null} */ #given = null;
  /** @type {string | undefined} */ #cursor;
  #asked = 0;

  constructor() {
    this.user = h("select", { "aria-label": "Mentions of", onchange: () => void this.#start() });
    this.outcome = h("p.muted", { role: "status" });
    this.list = h("ol.result-list", { "aria-label": "Messages with a mention" });
    this.more = h("button.button.small", { type: "button", hidden: true, onclick: () => this.#load() }, "More");
    this.element = h("dialog.search", { "aria-labelledby": "mentions-title" },
      h("div.search-form", {}, h("h2", { id: "mentions-title" }, "Mentions"), this.user, iconButton("close", "Close the mentions", () => this.element.close())),
      this.outcome, h("div.search-scroll", {}, this.list, this.more));
    document.body.append(this.element);
  }

  /** @param {Given} given of the present session */
  begin(given) {
    this.#given = given;
    this.user.replaceChildren(...Object.entries(given.users).map(([slot, user]) => h("option", { value: slot }, user)));
  }

  ask() {
    if (!this.#given) return;
    this.element.showModal();
    this.user.focus();
    void this.#start();
  }

  #start() {
    this.#asked++;
    this.#cursor = undefined;
    this.list.replaceChildren();
    this.more.hidden = true;
    this.outcome.textContent = "Loading …";
    return this.#load();
  }

  async #load() {
    const given = this.#given;
    const asked = this.#asked;
    if (!given) return;
    const slot = /** @type {"a" | "b"} */ (this.user.value);
    try {
      const page = await given.clients[slot].listMentions({ limit: PAGE, ...(this.#cursor && { cursor: this.#cursor }) });
      const rows = await Promise.all(page.messages.map((message) => this.#row(given, slot, message)));
      if (asked !== this.#asked) return;
      this.#cursor = page.next_cursor;
      this.more.hidden = !page.has_more;
      this.list.append(...rows);
      const count = this.list.childElementCount;
      this.outcome.textContent = count ? `${count}${page.has_more ? "+" : ""} ${count === 1 ? "message mentions" : "messages mention"} ${given.users[slot]}` : `Nobody has mentioned ${given.users[slot]} yet.`;
    } catch (error) {
      if (asked === this.#asked) this.outcome.textContent = describe(error);
    }
  }

  /** @param {Given} given @param {"a" | "b"} slot @param {Message} message */
  async #row(given, slot, message) {
    const user = given.users[slot];
    const text = [...(message.content ?? "")].slice(0, SHOWN_CHARS).join("");
    const nodes = piecesOf(text, [user, ...(message.mention_room ? [ROOM] : [])]).map((piece) => piece.user ? h("mark", {}, piece.text) : piece.text);
    return foundElement(message, await given.nameOf(message.room_id), nodes, () => { this.element.close(); given.open(message, slot); });
  }
}
