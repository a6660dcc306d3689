/**
 * A button that opens a short list of things to do.
 * @module
 */
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { openBeside, rove } from "./popover.js";

/** @typedef {{label: string, hint?: string, danger?: boolean, run: () => unknown}} Choice */

/** @param {string} label of the button @param {() => {title?: string, choices: Choice[]}} list asked when it opens @param {string} [glyph] */
export function menuButton(label, list, glyph = "more") {
  const button = h("button.icon-button", {
    type: "button", title: label, "aria-label": label, "aria-haspopup": "menu", "aria-expanded": "false",
    onclick: () => open(button, label, list()),
  }, icon(glyph));
  return button;
}

/** @param {HTMLElement} button @param {string} label @param {{title?: string, choices: Choice[]}} list */
function open(button, label, { title, choices }) {
  const items = choices.map(({ label: text, hint, danger, run }) => h("button.menu-item", {
    type: "button", role: "menuitem", tabindex: -1, "data-danger": danger,
    onclick: () => { menu.hidePopover(); void run(); },
  }, h("span", {}, text), hint ? h("small", {}, hint) : null));
  const menu = h("div.menu", { popover: "auto", role: "menu", "aria-label": label, onkeydown: (/** @type {KeyboardEvent} */ event) => rove(event, items) },
    title ? h("p.menu-title", { role: "presentation" }, title) : null, ...items);
  openBeside(button, menu);
  items[0]?.focus();
}
