/**
 * Text into the clipboard, also where the browser keeps `navigator.clipboard` from a page: on plain http of another host.
 * @module
 */
import { h, toast } from "./dom.js";

/** Copies, and says so only when it is true; else shows the text to be copied by hand. @param {string} text @param {string} what */
export async function copy(text, what) {
  if (await toClipboard(text)) toast(`${what} copied`);
  else showByHand(text, what);
}

/** @param {string} text @returns {Promise<boolean>} whether it is there */
async function toClipboard(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch { /* not permitted: the older way may be */ }
  }
  return toClipboardByCommand(text);
}

/** @param {string} text */
function toClipboardByCommand(text) {
  const before = /** @type {HTMLElement | null} */ (document.activeElement);
  const area = h("textarea.offscreen", { readonly: true, "aria-hidden": "true", tabindex: -1 });
  area.value = text;
  (document.querySelector("dialog[open]") ?? document.body).append(area); // beside an open dialog nothing takes the focus
  area.select();
  let done = false;
  try {
    done = document.execCommand("copy");
  } catch { /* told by the result */ }
  area.remove();
  before?.focus();
  return done;
}

/** @param {string} text @param {string} what */
function showByHand(text, what) {
  const area = h("textarea.by-hand", { readonly: true, rows: 8, "aria-label": what });
  area.value = text;
  const dialog = h("dialog", { "aria-labelledby": "by-hand-title" },
    h("form.sheet", { method: "dialog" }, h("h2", { id: "by-hand-title" }, "Copy by hand"),
      h("p.muted", {}, "This browser lets no script of this page write to the clipboard."), area,
      h("div.actions", {}, h("button.button.primary", {}, "Done"))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  area.select();
}
