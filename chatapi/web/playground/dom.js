/**
 * Elements from data. Strings become text nodes and nothing here parses HTML, so that no content can become markup.
 * @module
 */

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

const SVG = "http://www.w3.org/2000/svg";

/** One of the symbols that index.html defines. @param {string} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
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

let toastTimer = 0;

/** A line at the bottom of the page, for a few seconds. @param {string} text */
export function toast(text) {
  const element = /** @type {HTMLElement} */ (document.getElementById("toast"));
  element.textContent = text;
  element.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { element.hidden = true; }, 6000);
}

/** The text for an error. @param {any} error */
export function describe(error) {
  return error.field ? `${error.field}: ${error.message}` : error.message;
}
