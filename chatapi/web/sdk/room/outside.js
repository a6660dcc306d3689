/**
 * Stands where others write, for a user who may not: why, and what there is to do about it.
 * @module
 */
import { h } from "./dom.js";

/** @typedef {import("../chatapi.js").Room} Room */
/** @typedef {{add: ((room: Room) => void) | null, join: (room: Room) => void, again: (room: Room) => void}} Remedies `add`: null where nobody else is there to do it */

export class Outside {
  /** @param {string} user @param {Remedies} remedies */
  constructor(user, remedies) {
    this.user = user;
    this.remedies = remedies;
    this.element = h("div.outside", { hidden: true });
  }

  hide() { this.element.hidden = true; }

  /** The user reads a channel. @param {Room} room */
  showFollowing(room) {
    this.#show(h("span.muted", {}, "Following without being a member."), h("button.button.primary", { type: "button", onclick: () => this.remedies.join(room) }, "Join to write"));
  }

  /** The user is not in the room. @param {Room} room */
  showStranger(room) {
    const { add } = this.remedies;
    if (!add) return this.hide();
    this.#show(room.type === "dm" ? "A direct message always has the same two members."
      : h("button.button.primary", { type: "button", onclick: () => add(room) }, `Add ${this.user}`));
  }

  /** The room could not be loaded. @param {Room} room */
  showFailure(room) { this.#show(h("button.button", { type: "button", onclick: () => this.remedies.again(room) }, "Try again")); }

  /** @param {...(Node | string)} what */
  #show(...what) {
    this.element.replaceChildren(...what);
    this.element.hidden = false;
  }
}
