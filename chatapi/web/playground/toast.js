/**
 * A line at the bottom of the page, for a few seconds.
 * @module
 */
import { Toast } from "/sdk/room/toast.js";

const line = new Toast(/** @type {HTMLElement} */ (document.getElementById("toast")));

/** @param {string} text */
export function toast(text) { line.show(text); }
