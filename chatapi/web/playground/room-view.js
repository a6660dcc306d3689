/**
 * How the two users see the open room: of what their backend is told while they are away, and whether it is in their list.
 * @module
 */
import { h } from "/sdk/room/dom.js";
import { people } from "./people.js";

/** @typedef {import("/sdk/chatapi.js").NotifyLevel} NotifyLevel */
/** @typedef {import("/sdk/chatapi.js").Standing} Standing */
/** @typedef {"a" | "b"} Slot */

/** @type {[NotifyLevel, string][]} */
const LEVELS = [["all", "all"], ["mentions", "mentions"], ["none", "nothing"]];

/** @param {Record<Slot, string>} users @param {Partial<Record<Slot, Standing>>} standings @param {(slot: Slot, change: {notify?: NotifyLevel, hidden?: boolean}) => unknown} change */
export function roomViewElement(users, standings, change) {
  return h("div.room-view", {}, h("p.muted", {}, "Notify of, while away"), ...(/** @type {const} */ (["a", "b"])).map((slot) => {
    const standing = standings[slot];
    return standing ? rowOf(users[slot], standing, (one) => change(slot, one)) : null;
  }));
}

/** @param {string} user @param {Standing} standing @param {(change: {notify?: NotifyLevel, hidden?: boolean}) => unknown} change */
function rowOf(user, { notify, hidden }, change) {
  const select = h("select", { "aria-label": `Notify ${user} of`, title: `what the backend is told of while ${user} is away`, onchange: () => change({ notify: select.value }) },
    ...LEVELS.map(([level, text]) => h("option", { value: level, selected: level === notify }, text)));
  return h("div.room-view-row", {}, people.nameElement(user), select,
    h("button.button.small", { type: "button", "aria-label": hidden ? `Show the room to ${user}` : `Hide the room from ${user}`, onclick: () => change({ hidden: !hidden }) }, hidden ? "Show" : "Hide"));
}
