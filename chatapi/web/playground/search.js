/**
 * A dialog that searches the messages of one of the two users, with the hits marked. Results are shown as text, never as HTML.
 * @module
 */
import { describe, h, iconButton } from "/sdk/room/dom.js";
import { foundElement } from "./found.js";

/** @typedef {import("/sdk/chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("/sdk/chatapi.js").Message} Message */
/** @typedef {{text: string, hits: [number, number][]}} Snippet `hits`: in code points, half-open, in order */

const PAGE = 20;
const MOST_SKIPPED = 1000; // the server goes no further
const TYPING_MS = 200;

/**
 * @typedef {object} Given
 * @property {Record<"a" | "b", ChatAPI>} clients
 * @property {Record<"a" | "b", string>} users
 * @property {(roomId: string) => Promise<string>} nameOf
 * @property {(message: Message, slot: "a" | "b") => void} open shows a message in its room, to one of the two users
 */

export class Search {
  /** @type {Given | null} */ #given = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  #asked = 0;
  #found = 0;

  constructor() {
    this.user = h("select", { "aria-label": "Search as", onchange: () => this.#search() });
    this.input = h("input", { type: "search", "aria-label": "Words, “phrases” or prefix*", placeholder: "words, \"phrases\", prefix*", maxlength: 256, dir: "auto", oninput: () => this.#searchSoon() });
    this.outcome = h("p.muted", { role: "status" });
    this.list = h("ol.result-list", { "aria-label": "Messages that were found" });
    this.more = h("button.button.small", { type: "button", hidden: true, onclick: () => this.#load() }, "More");
    this.element = h("dialog.search", { "aria-label": "Search messages" },
      h("form.search-form", { onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); this.#search(); } },
        this.input, this.user, iconButton("close", "Close the search", () => this.element.close())),
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
    this.input.select();
    this.#search();
  }

  #searchSoon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#search(), TYPING_MS);
  }

  #search() {
    clearTimeout(this.#timer);
    this.#asked++;
    this.#found = 0;
    if (this.input.value.trim()) return void this.#load();
    this.list.replaceChildren();
    this.more.hidden = true;
    this.outcome.textContent = "";
  }

  async #load() {
    const given = this.#given;
    const asked = this.#asked;
    if (!given) return;
    try {
      const page = await given.clients[/** @type {"a" | "b"} */ (this.user.value)].search(this.input.value.trim(), { limit: PAGE, offset: this.#found });
      const rows = await Promise.all(page.results.map((/** @type {any} */ { message, snippet }) => this.#row(given, message, snippet)));
      if (asked !== this.#asked) return;
      if (!this.#found) this.list.replaceChildren();
      this.list.append(...rows);
      this.#found += rows.length;
      this.more.hidden = !page.has_more || this.#found > MOST_SKIPPED;
      this.outcome.textContent = this.#found ? `${this.#found}${page.has_more ? "+" : ""} found` : "Nothing found.";
    } catch (/** @type {any} */ error) {
      if (asked !== this.#asked) return;
      this.list.replaceChildren();
      this.more.hidden = true;
      this.outcome.textContent = describe(error);
    }
  }

  /** @param {Given} given @param {Message} message @param {Snippet} snippet */
  async #row(given, message, snippet) {
    const slot = /** @type {"a" | "b"} */ (this.user.value);
    return foundElement(message, await given.nameOf(message.room_id), marked(snippet), () => { this.element.close(); given.open(message, slot); });
  }
}

/** @param {Snippet} snippet @returns {(string | HTMLElement)[]} */
export function marked({ text, hits }) {
  const points = [...text];
  /** @type {(string | HTMLElement)[]} */
  const parts = [];
  let at = 0;
  for (const [start, end] of hits) {
    parts.push(points.slice(at, start).join(""), h("mark", {}, points.slice(start, end).join("")));
    at = end;
  }
  return [...parts, points.slice(at).join("")];
}
