/**
 * A box that opens beside a button. Escape or a click elsewhere closes it, and gives the focus back to the button.
 * @module
 */
import { focusedBeside, isFocusLost } from "./dom.js";

const GAP_PX = 4;

/** @param {HTMLElement} button @param {HTMLElement} panel with the attribute `popover` */
export function openBeside(button, panel) {
  const findButton = finderOf(button);
  panel.addEventListener("toggle", (/** @type {any} */ { newState }) => {
    if (newState === "open") return;
    button.setAttribute("aria-expanded", "false");
    if (panel.matches(":focus-within") || isFocusLost()) findButton()?.focus();
    panel.remove();
  });
  (button.closest("section") ?? document.body).append(panel); // within a landmark
  panel.showPopover();
  button.setAttribute("aria-expanded", "true");
  place(panel, button.getBoundingClientRect());
}

/** The button, or the one that stands in its place since its message or member was drawn again. @param {HTMLElement} button @returns {() => HTMLElement | null} */
function finderOf(button) {
  const home = /** @type {HTMLElement | null} */ (button.closest("[data-message], [data-user]"));
  const section = button.closest("section");
  const label = `[aria-label="${CSS.escape(button.getAttribute("aria-label") ?? "")}"]`;
  const key = home?.dataset.message ? `[data-message="${CSS.escape(home.dataset.message)}"]` : `[data-user="${CSS.escape(home?.dataset.user ?? "")}"]`;
  return () => button.isConnected ? button : section?.querySelector(`${key} ${label}`) ?? null;
}

/** Below the button or above it, whatever has room. @param {HTMLElement} panel @param {DOMRect} at */
function place(panel, at) {
  const { width, height } = panel.getBoundingClientRect();
  const left = Math.max(GAP_PX, Math.min(at.left, innerWidth - width - GAP_PX));
  const below = at.bottom + GAP_PX;
  const top = below + height < innerHeight ? below : Math.max(GAP_PX, at.top - height - GAP_PX);
  panel.style.setProperty("left", `${left}px`);
  panel.style.setProperty("top", `${top}px`);
}

/**
 * Moves the focus among elements of which the Tab key reaches only one: arrows, Home and End.
 * @param {KeyboardEvent} event @param {HTMLElement[]} items @param {number} [columns] 1: a list from top to bottom; 0: a row of any length
 */
export function rove(event, items, columns = 1) {
  const at = items.indexOf(/** @type {HTMLElement} */ (focusedBeside(items[0])));
  const vertical = columns && { ArrowDown: at + columns, ArrowUp: at - columns };
  const horizontal = columns !== 1 && { ArrowRight: at + 1, ArrowLeft: at - 1 };
  const to = { ...vertical, ...horizontal, Home: 0, End: items.length - 1 }[event.key];
  if (to === undefined || at < 0) return;
  event.preventDefault();
  const next = items[(to + items.length) % items.length];
  for (const item of items) item.tabIndex = item === next ? 0 : -1;
  next.focus();
}
