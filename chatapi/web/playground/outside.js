/**
 * Stands where others write, for a user who may not: why, and what there is to do about it.
 * @module
 */
import { h } from "./dom.js";

/** @typedef {import("/sdk/chatapi.js").Room} Room */
/** @typedef {Record<"add" | "join" | "again", (room: Room) => void>} Remedies */

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
    this.#show(room.type === "dm" ? "A direct message always has the same two members."
      : h("button.button.primary", { type: "button", onclick: () => this.remedies.add(room) }, `Add ${this.user}`));
  }

  /** The room could not be loaded. @param {Room} room */
  showFailure(room) { this.#show(h("button.button", { type: "button", onclick: () => this.remedies.again(room) }, "Try again")); }

  /** @param {...(Node | string)} what */
  #show(...what) {
    this.element.replaceChildren(...what);
    this.element.hidden = false;
  }
}
