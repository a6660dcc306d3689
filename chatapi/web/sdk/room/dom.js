/**
 * Elements from data. Strings become text nodes and nothing here parses HTML, so that no content can become markup.
 * @module
 */
import { icon } from "./icons.js";

/**
 * @param {string} tag with classes: `"button.primary"`
 * @param {Record<string, any>} [props] `on…` listeners, `data-…`, `aria-…` and other attributes; false and null leave out
 * @param {...(Node | string | null | false | undefined)} children
 * @returns {any}
 */
export function h(tag, props = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(props)) {
    if (value === false || value == null) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** @param {string} name @param {string} label @param {(event: Event) => void} onclick @param {string} [tag] */
export function iconButton(name, label, onclick, tag = "button.icon-button") {
  return h(tag, { type: "button", title: label, "aria-label": label, onclick }, icon(name));
}

/** A colour of one's own for any user id. @param {string} userId */
export function hueOf(userId) {
  let hash = 7;
  for (const char of userId) hash = (hash * 31 + /** @type {number} */ (char.codePointAt(0))) % 3600;
  return hash % 360;
}

// Made once: a formatter for each message would take longer than the message.
const CLOCK = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat([], { weekday: "long", day: "numeric", month: "long", year: "numeric" });

/** @param {string} time RFC 3339 */
export function clock(time) { return CLOCK.format(new Date(time)); }

/** @param {number} time in ms */
export function day(time) { return DAY.format(new Date(time)); }

/** The time of day, and the day unless it is today. @param {number} time in ms */
export function moment(time) { return day(time) === day(Date.now()) ? CLOCK.format(time) : `${CLOCK.format(time)} on ${day(time)}`; }

/** A length of time in the unit that suits it. @param {number} seconds */
export function duration(seconds) {
  const [size, unit] = seconds < 60 ? [1, "second"] : seconds < 3600 ? [60, "minute"] : seconds < 86_400 ? [3600, "hour"] : [86_400, "day"];
  const count = Math.ceil(seconds / size);
  return `${count.toLocaleString()} ${unit}${count === 1 ? "" : "s"}`;
}

/** How long ago that was. @param {number} time in ms */
export function ago(time) {
  const seconds = (Date.now() - time) / 1000;
  if (seconds < 60) return "just now";
  const [size, unit] = seconds < 3600 ? [60, "minute"] : seconds < 86_400 ? [3600, "hour"] : [86_400, "day"];
  const count = Math.floor(seconds / size);
  return `${count.toLocaleString()} ${unit}${count === 1 ? "" : "s"} ago`;
}

/** The text for an error. @param {any} error */
export function describe(error) {
  return error.field ? `${error.field}: ${error.message}` : error.message;
}

/** The element that has the focus in the document or the shadow root of another one. @param {Node} node @returns {Element | null} */
export function focusedBeside(node) { return /** @type {any} */ (node.getRootNode()).activeElement ?? null; }

/** Whether nothing has the focus, as after its element was removed. */
export function isFocusLost() { return document.activeElement === null || document.activeElement === document.body; }
