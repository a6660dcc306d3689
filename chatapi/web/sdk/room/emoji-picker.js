/**
 * A small choice of emoji, and a field for any other.
 * @module
 */
import { h } from "./dom.js";
import { openBeside, rove } from "./popover.js";

const COLUMNS = 6;
const MAX_BYTES = 64;

/** With the names that are read out. */
const EMOJI = {
  "👍": "thumbs up", "👎": "thumbs down", "❤️": "heart", "😂": "tears of joy", "🎉": "party", "😮": "surprised",
  "😢": "crying", "😍": "in love", "😎": "sunglasses", "🤔": "thinking", "😅": "relieved", "😴": "asleep",
  "🙏": "thank you", "👏": "applause", "🙌": "raised hands", "💪": "strong", "👀": "looking", "🔥": "fire",
  "🚀": "rocket", "💯": "hundred points", "✅": "done", "❌": "cross", "💡": "idea", "☕": "coffee",
};

/** An emoji as it is read out. @param {string} emoji */
export function nameOfEmoji(emoji) {
  return /** @type {Record<string, string>} */ (EMOJI)[emoji] ?? emoji;
}

/** @param {HTMLElement} button to which it belongs @param {string} label @param {(emoji: string) => void} chosen */
export function pickEmoji(button, label, chosen) {
  const choose = (/** @type {string} */ emoji) => { panel.hidePopover(); chosen(emoji); };
  const buttons = Object.entries(EMOJI).map(([emoji, name], at) => h("button.emoji", {
    type: "button", tabindex: at ? -1 : 0, title: name, "aria-label": name, onclick: () => choose(emoji),
  }, emoji));
  const other = h("input", { "aria-label": "Another emoji", placeholder: "another emoji or :name:", autocomplete: "off", spellcheck: "false", oninput: () => other.setCustomValidity("") });
  const form = h("form.emoji-other", {
    onsubmit: (/** @type {Event} */ event) => {
      event.preventDefault();
      const emoji = other.value.trim();
      const problem = problemOf(emoji);
      other.setCustomValidity(problem);
      if (problem) other.reportValidity();
      else choose(emoji);
    },
  }, other, h("button.button.small", { type: "submit" }, "React"));
  const panel = h("div.menu.emoji-picker", { popover: "auto", role: "dialog", "aria-label": label },
    h("div.emoji-grid", { role: "group", "aria-label": "Emoji", onkeydown: (/** @type {KeyboardEvent} */ event) => rove(event, buttons, COLUMNS) }, ...buttons), form);
  openBeside(button, panel);
  buttons[0].focus();
}

/** @param {string} emoji @returns {string} empty when the server will take it */
function problemOf(emoji) {
  if (!emoji || /[\s\p{Cc}]/u.test(emoji)) return "An emoji or a name, without spaces.";
  return new TextEncoder().encode(emoji).length > MAX_BYTES ? `At most ${MAX_BYTES} bytes.` : "";
}
