/**
 * The rules of the open room: the members who may post, and slow mode.
 * @module
 */
import { duration, h } from "/sdk/room/dom.js";

/** @typedef {import("/sdk/chatapi.js").Posting} Posting */
/** @typedef {import("/sdk/chatapi.js").Room} Room */

const SLOW_S = [0, 5, 30, 60, 300, 3600, 21_600];

export class RoomRules {
  /** @param {(change: {posting?: Posting, slow_mode_seconds?: number}) => unknown} change */
  constructor(change) {
    this.posting = h("select", { onchange: () => change({ posting: this.posting.value }) },
      h("option", { value: "members" }, "all members"), h("option", { value: "admins" }, "only admins"));
    this.slow = h("select", { onchange: () => change({ slow_mode_seconds: Number(this.slow.value) }) });
    this.element = h("div.room-rules", {},
      h("label", {}, "May post", this.posting), h("label", {}, "Slow mode", this.slow));
  }

  /** @param {Room} room */
  show({ type, posting, slow_mode_seconds: seconds }) {
    this.element.hidden = type === "dm";
    this.posting.value = posting;
    const choices = [...new Set([...SLOW_S, seconds])].sort((one, other) => one - other);
    this.slow.replaceChildren(...choices.map((one) => h("option", { value: one }, one ? duration(one) : "off")));
    this.slow.value = String(seconds);
  }
}
