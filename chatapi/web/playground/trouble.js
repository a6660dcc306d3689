/**
 * Stands in place of the chat while the page could not begin: the reason, and the next try.
 * @module
 */
import { h } from "/sdk/room/dom.js";

const FIRST_MS = 2000;
const LONGEST_MS = 30_000;

export class Trouble {
  /** @type {ReturnType<typeof setInterval> | undefined} */ #countdown;
  #failures = 0;
  #until = 0;

  /** @param {HTMLElement} root @param {() => unknown} retry */
  constructor(root, retry) {
    this.root = root;
    this.retry = retry;
    this.reason = h("p", { role: "alert" });
    this.next = h("p.muted", { "aria-hidden": "true" });
    this.way = h("a.button.primary", { hidden: true }, "Open the playground there");
    this.element = h("section.panel.trouble", { "aria-label": "No connection" }, h("h2", {}, "No connection"), this.reason, this.next, this.way,
      this.again = h("button.button", { type: "button", onclick: () => this.#try() }, "Retry now"));
    for (const type of ["focus", "online"]) addEventListener(type, () => { if (this.element.isConnected) this.#try(); });
  }

  /** @param {string} reason @param {string} [elsewhere] a server that may have what is missing here */
  show(reason, elsewhere) {
    const delayMs = Math.min(LONGEST_MS, FIRST_MS * 2 ** this.#failures++);
    this.#until = Date.now() + delayMs;
    if (this.reason.textContent !== reason) this.reason.textContent = reason;
    this.way.hidden = !elsewhere || !/^https?:\/\//.test(elsewhere);
    this.again.classList.toggle("primary", this.way.hidden);
    this.way.href = this.way.hidden ? "" : `${elsewhere}/playground`;
    if (!this.element.isConnected) this.root.replaceChildren(this.element);
    clearInterval(this.#countdown);
    this.#countdown = setInterval(() => this.#count(), 500);
    this.#count();
  }

  hide() {
    clearInterval(this.#countdown);
    this.#failures = 0;
    this.element.remove();
  }

  #count() {
    const seconds = Math.ceil((this.#until - Date.now()) / 1000);
    this.next.textContent = `Next try in ${Math.max(0, seconds)} s.`;
    if (seconds <= 0) this.#try();
  }

  #try() {
    clearInterval(this.#countdown);
    this.next.textContent = "Trying now …";
    void this.retry();
  }
}
