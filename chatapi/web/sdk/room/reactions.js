/**
 * The reactions to one message: an emoji each, with their number and who they are from. They are one stop of the Tab key.
 * @module
 */
import { nameOfEmoji, pickEmoji } from "./emoji-picker.js";
import { focusedBeside, h, isFocusLost } from "./dom.js";
import { icon } from "./icons.js";
import { rove } from "./popover.js";

/** @typedef {import("../chatapi.js").Message} Message */
/** @typedef {import("../chatapi.js").ReactionSummary} ReactionSummary */
/** @typedef {import("./message.js").View} View */

const NAMED = 20; // of the users; the server names no more

/** @param {Message} message @param {View} view */
export function reactionsElement(message, view) {
  const row = h("div.reactions", {
    role: "toolbar", "aria-label": "Reactions", "aria-live": "off",
    onkeydown: (/** @type {KeyboardEvent} */ event) => rove(event, chipsOf(row), 0),
  });
  showReactions(row, message, view);
  return row;
}

/** @param {HTMLElement} row @returns {HTMLElement[]} */
const chipsOf = (row) => /** @type {HTMLElement[]} */ ([...row.children]);

/** Changes what differs, so that the focus stays where it is. @param {HTMLElement} row @param {Message} message @param {View} view */
export function showReactions(row, message, view) {
  const reactions = message.reactions ?? [];
  const focused = chipsOf(row).findIndex((chip) => chip === focusedBeside(row));
  const before = new Map(chipsOf(row).map((chip) => [chip.dataset.emoji, chip]));
  const chips = reactions.map((reaction) => before.get(reaction.emoji) ?? chip(message, reaction.emoji, view));
  for (const gone of before.values()) if (!chips.includes(gone)) gone.remove();
  chips.forEach((one, at) => {
    if (row.children[at] !== one) row.insertBefore(one, row.children[at] ?? null);
    label(one, reactions[at], view);
  });
  row.hidden = !chips.length;
  if (chips.length && !chips.some((one) => one.tabIndex === 0)) chips[0].tabIndex = 0;
  if (focused < 0 || !isFocusLost()) return;
  const next = chips[Math.min(focused, chips.length - 1)] ?? row.closest(".message")?.querySelector("[data-react]");
  next?.focus();
}

/** @param {Message} message @param {string} emoji @param {View} view */
function chip(message, emoji, view) {
  const element = h("button.reaction", {
    type: "button", tabindex: -1, "data-emoji": emoji,
    onclick: () => view.actions.react(message, emoji, element.getAttribute("aria-pressed") !== "true"),
  }, h("bdi", {}, emoji), " ", h("span.reaction-count"));
  return element;
}

/** @param {HTMLElement} element @param {ReactionSummary} reaction @param {View} view */
function label(element, { emoji, count, user_ids: userIds }, { user, people }) {
  const own = userIds.includes(user);
  const named = [...(own ? ["you"] : []), ...userIds.filter((userId) => userId !== user).map((userId) => people.nameOf(userId))].slice(0, NAMED);
  const others = count > named.length ? ` and ${(count - named.length).toLocaleString()} more` : "";
  element.setAttribute("aria-pressed", String(own));
  element.setAttribute("aria-label", `${nameOfEmoji(emoji)} ${count.toLocaleString()}: ${named.join(", ")}${others}`);
  element.title = `${named.join(", ")}${others} reacted with ${emoji}`;
  /** @type {HTMLElement} */ (element.lastElementChild).textContent = count.toLocaleString();
}

/** The button that opens the picker. @param {Message} message @param {View} view */
export function reactButton(message, view) {
  const button = h("button.icon-button", {
    type: "button", title: "React", "aria-label": "React", "aria-haspopup": "dialog", "aria-expanded": "false", "data-react": true,
    onclick: () => pickEmoji(button, `React to ${view.people.nameOf(message.sender_id)}`, (emoji) => view.actions.react(message, emoji, true)),
  }, icon("react"));
  return button;
}
