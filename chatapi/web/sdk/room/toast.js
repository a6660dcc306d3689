/**
 * A line that is shown for a few seconds, and read out.
 * @module
 */

const SHOWN_MS = 6000;

export class Toast {
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;

  /** @param {HTMLElement} element */
  constructor(element) { this.element = element; }

  /** @param {string} text */
  show(text) {
    this.element.textContent = text;
    this.element.hidden = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => { this.element.hidden = true; }, SHOWN_MS);
  }
}
