/**
 * The line in the composer that says why nothing can be written now, with the time that is left. It is read out once, not each second.
 * @module
 */
import { duration, h } from "./dom.js";

/** @typedef {import("./permission.js").Obstacle} Obstacle */

const TICK_MS = 250;

export class ObstacleLine {
  /** @type {ReturnType<typeof setInterval> | undefined} */ #countdown;

  /** @param {string} id of the text that is read out */
  constructor(id) {
    this.spoken = h("p.sr", { id, "aria-live": "polite" });
    this.left = h("span.obstacle-left");
    this.line = h("p.obstacle", { hidden: true, "aria-hidden": "true" });
    this.remedy = h("button.button.small", { type: "button", hidden: true });
    this.element = h("div.obstacle-row", {}, this.line, this.remedy, this.spoken);
  }

  /** @param {Obstacle | null} obstacle @param {string} [over] what is said when there is none any more */
  show(obstacle, over = "") {
    clearInterval(this.#countdown);
    this.line.hidden = !obstacle;
    this.remedy.hidden = !obstacle?.remedy;
    this.remedy.textContent = obstacle?.remedy?.label ?? "";
    this.remedy.onclick = () => obstacle?.remedy?.run();
    this.line.replaceChildren(obstacle ? obstacle.reason.replace(/\.$/, "") : "", " ", this.left);
    if (!obstacle) return this.#say(over);
    this.line.dataset.kind = obstacle.kind;
    const seconds = () => Math.max(0, ((obstacle.until ?? 0) - Date.now()) / 1000);
    const count = () => { this.left.textContent = obstacle.until === null ? "" : timer(Math.ceil(seconds())); };
    count();
    if (obstacle.until !== null) this.#countdown = setInterval(count, TICK_MS);
    this.#say(obstacle.kind === "slow" ? `${obstacle.reason} in ${duration(Math.round(seconds()))}.` : obstacle.reason);
  }

  stop() { clearInterval(this.#countdown); }

  /** @param {string} text */
  #say(text) { if (this.spoken.textContent !== text) this.spoken.textContent = text; }
}

/** `0:07`, `12:30`, `1:00:00` @param {number} seconds */
function timer(seconds) {
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const [first, ...rest] = parts[0] ? parts : parts.slice(1);
  return [first, ...rest.map((part) => String(part).padStart(2, "0"))].join(":");
}
