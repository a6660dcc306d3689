/**
 * Text into the clipboard, also where the browser keeps `navigator.clipboard` from a page: on plain http of another host.
 * @module
 */
import { focusedBeside, h } from "./dom.js";

/** Copies, and says so only when it is true; else shows the text to be copied by hand. @param {string} text @param {string} what @param {(said: string) => void} say @param {Element} [home] in which elements may stand for a moment */
export async function copy(text, what, say, home = document.querySelector("dialog[open]") ?? document.body) {
  if (await toClipboard(text, home)) say(`${what} copied`);
  else showByHand(text, what, home);
}

/** @param {string} text @param {Element} home @returns {Promise<boolean>} whether it is there */
async function toClipboard(text, home) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch { /* not permitted: the older way may be */ }
  }
  return toClipboardByCommand(text, home);
}

/** @param {string} text @param {Element} home beside an open dialog nothing takes the focus */
function toClipboardByCommand(text, home) {
  const before = /** @type {HTMLElement | null} */ (focusedBeside(home));
  const area = h("textarea.offscreen", { readonly: true, "aria-hidden": "true", tabindex: -1 });
  area.value = text;
  home.append(area);
  area.select();
  let done = false;
  try {
    done = document.execCommand("copy");
  } catch { /* told by the result */ }
  area.remove();
  before?.focus();
  return done;
}

/** @param {string} text @param {string} what @param {Element} home */
function showByHand(text, what, home) {
  const area = h("textarea.by-hand", { readonly: true, rows: 8, "aria-label": what });
  area.value = text;
  const dialog = h("dialog", { "aria-labelledby": "by-hand-title" },
    h("form.sheet", { method: "dialog" }, h("h2", { id: "by-hand-title" }, "Copy by hand"),
      h("p.muted", {}, "This browser lets no script of this page write to the clipboard."), area,
      h("div.actions", {}, h("button.button.primary", {}, "Done"))));
  dialog.addEventListener("close", () => dialog.remove());
  home.append(dialog);
  dialog.showModal();
  area.select();
}
