/**
 * A button that opens a short list of things to do.
 * @module
 */
import { h, icon } from "./dom.js";

/** @typedef {{label: string, hint?: string, danger?: boolean, run: () => unknown}} Choice */

const GAP_PX = 4;

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
  const menu = h("div.menu", { popover: "auto", role: "menu", "aria-label": label, onkeydown: (/** @type {KeyboardEvent} */ event) => move(event, items) },
    title ? h("p.menu-title", { role: "presentation" }, title) : null, ...items);
  menu.addEventListener("toggle", (/** @type {any} */ { newState }) => {
    if (newState === "open") return;
    button.setAttribute("aria-expanded", "false");
    if (menu.contains(document.activeElement) || document.activeElement === document.body) button.focus();
    menu.remove();
  });
  (button.closest("section") ?? document.body).append(menu); // within a landmark
  menu.showPopover();
  button.setAttribute("aria-expanded", "true");
  place(menu, button.getBoundingClientRect());
  items[0]?.focus();
}

/** Below the button or above it, whatever has room. @param {HTMLElement} menu @param {DOMRect} at */
function place(menu, at) {
  const { width, height } = menu.getBoundingClientRect();
  const left = Math.max(GAP_PX, Math.min(at.left, innerWidth - width - GAP_PX));
  const below = at.bottom + GAP_PX;
  const top = below + height < innerHeight ? below : Math.max(GAP_PX, at.top - height - GAP_PX);
  menu.style.setProperty("left", `${left}px`);
  menu.style.setProperty("top", `${top}px`);
}

/** @param {KeyboardEvent} event @param {HTMLElement[]} items */
function move(event, items) {
  const at = items.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  items[(to + items.length) % items.length]?.focus();
}
