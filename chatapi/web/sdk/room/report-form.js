/**
 * A small form beside a button that asks why a message is reported.
 * @module
 */
import { h } from "./dom.js";
import { openBeside } from "./popover.js";

const MOST_CHARS = 1000;

/** @param {HTMLElement} button to which it belongs @param {string} label @param {(reason: string) => void} given */
export function askReason(button, label, given) {
  const reason = h("textarea", { rows: 3, "aria-label": "Reason", placeholder: "What is wrong with it?", maxlength: MOST_CHARS, required: true, dir: "auto", oninput: () => reason.setCustomValidity("") });
  const form = h("form.report-form", {
    onsubmit: (/** @type {Event} */ event) => {
      event.preventDefault();
      const text = reason.value.trim();
      reason.setCustomValidity(text ? "" : "A reason is needed.");
      if (!reason.reportValidity()) return;
      panel.hidePopover();
      given(text);
    },
  }, h("p", {}, label), reason, h("button.button.small.primary", { type: "submit" }, "Report"));
  const panel = h("div.menu", { popover: "auto", role: "dialog", "aria-label": label }, form);
  openBeside(button, panel);
  reason.focus();
}
