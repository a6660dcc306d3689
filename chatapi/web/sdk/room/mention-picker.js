/**
 * The list that opens over the composer when `@` is typed. The focus stays in the text; arrows choose, Enter and Tab take, Escape closes.
 * @module
 */
import { focusedBeside, h } from "./dom.js";

/** @typedef {{user: string, everybody: boolean}} Suggestion */

const BEFORE_CARET = /(?:^|[\s(])@(\S{0,100})$/u;

export class MentionPicker {
  /** @type {Suggestion[]} */ #suggestions = [];
  #at = 0;
  #asked = 0;

  /** @param {HTMLTextAreaElement} input @param {string} id @param {(start: string) => Promise<Suggestion[]>} suggest @param {import("./people.js").People} people */
  constructor(input, id, suggest, people) {
    this.people = people;
    this.input = input;
    this.suggest = suggest;
    this.list = h("ul.mention-list", { id, role: "listbox", "aria-label": "Members to mention", hidden: true });
    this.spoken = h("p.sr", { "aria-live": "polite" });
    this.element = h("div", {}, this.list, this.spoken);
    for (const [name, value] of [["aria-autocomplete", "list"], ["aria-haspopup", "listbox"], ["aria-controls", id]]) input.setAttribute(name, value);
    input.addEventListener("input", () => void this.#look());
    input.addEventListener("click", () => void this.#look());
    input.addEventListener("blur", () => this.close());
  }

  get isOpen() { return !this.list.hidden; }

  /** @param {KeyboardEvent} event @returns {boolean} whether the key was for this list */
  key(event) {
    if (!this.isOpen || event.isComposing) return false;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) this.#choose(this.#at + step);
    else if (event.key === "Enter" || event.key === "Tab") this.#take(this.#suggestions[this.#at]);
    else if (event.key === "Escape") this.close();
    else return false;
    event.preventDefault();
    return true;
  }

  close() {
    this.#asked++;
    this.list.hidden = true;
    this.input.removeAttribute("aria-activedescendant");
    this.spoken.textContent = "";
  }

  /** The text between `@` and the caret, or null. */
  #start() {
    const { value, selectionStart, selectionEnd } = this.input;
    return selectionStart === selectionEnd ? BEFORE_CARET.exec(value.slice(0, selectionStart))?.[1] ?? null : null;
  }

  async #look() {
    const start = this.#start();
    if (start === null) return this.close();
    const asked = ++this.#asked;
    const suggestions = await this.suggest(start);
    if (asked !== this.#asked) return;
    if (!suggestions.length || focusedBeside(this.input) !== this.input) return this.close();
    this.#suggestions = suggestions;
    this.list.replaceChildren(...suggestions.map((one, at) => h("li.mention-option", {
      id: `${this.list.id}-${at}`, role: "option", "aria-selected": "false",
      onpointerdown: (/** @type {Event} */ event) => { event.preventDefault(); this.#take(one); },
    }, ...(one.everybody ? [h("span.avatar", { "aria-hidden": "true" }, "@"), h("span.member-name", {}, one.user), h("small", {}, "everybody")]
      : [this.people.avatar(one.user), this.people.nameElement(one.user, "span.member-name"), this.people.idElement(one.user)]))));
    this.list.hidden = false;
    this.#choose(0);
    this.spoken.textContent = `${suggestions.length} to mention. Arrows choose, Enter takes.`;
  }

  /** @param {number} at */
  #choose(at) {
    const options = /** @type {HTMLElement[]} */ ([...this.list.children]);
    this.#at = (at + options.length) % options.length;
    options.forEach((option, index) => option.setAttribute("aria-selected", String(index === this.#at)));
    options[this.#at].scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", options[this.#at].id);
  }

  /** @param {Suggestion} suggestion */
  #take({ user }) {
    const start = this.#start();
    if (start === null) return this.close();
    const end = this.input.selectionStart;
    this.input.setRangeText(`@${user} `, end - start.length - 1, end, "end");
    this.input.dispatchEvent(new Event("input"));
    this.close();
  }
}
