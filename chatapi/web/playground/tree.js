/**
 * JSON as a tree that opens and closes.
 * @module
 */
import { h } from "/sdk/room/dom.js";

/** @param {unknown} value @param {number} [depth] @returns {HTMLElement} */
export function tree(value, depth = 0) {
  if (value === null || typeof value !== "object") {
    return h("span", { class: `json-${value === null ? "null" : typeof value}` }, JSON.stringify(value));
  }
  const entries = Object.entries(value);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  if (!entries.length) return h("span.json-brace", {}, open + close);
  const branch = h("details.json", { open: depth < 2 },
    h("summary", {}, h("span.json-brace", {}, open), h("span.json-size", {}, ` ${entries.length} `)));
  for (const [key, child] of entries) {
    branch.append(h("div.json-entry", {}, Array.isArray(value) ? null : h("span.json-key", {}, `${key}: `), tree(child, depth + 1)));
  }
  branch.append(h("span.json-brace", {}, close));
  return branch;
}
