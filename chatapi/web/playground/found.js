/**
 * A message in a list of such that were found, with its sender, its room and its time. It leads to its place in the room.
 * @module
 */
import { clock, day, h } from "/sdk/room/dom.js";
import { people } from "./people.js";

/** @typedef {import("/sdk/chatapi.js").Message} Message */

/** @param {Message} message @param {string} room its name @param {(string | Node)[]} text @param {() => void} open @returns {HTMLElement} */
export function foundElement(message, room, text, open) {
  const at = Date.parse(message.created_at);
  const today = day(at) === day(Date.now());
  return h("li", {}, h("button.result", { type: "button", onclick: open },
    h("span.result-head", {}, people.nameElement(message.sender_id, "b"), h("span.muted", {}, "in ", h("bdi", {}, room)),
      h("time.muted", { datetime: message.created_at, title: day(at) }, today ? clock(message.created_at) : new Date(at).toLocaleDateString())),
    h("span.result-text", { dir: "auto" }, ...text)));
}
