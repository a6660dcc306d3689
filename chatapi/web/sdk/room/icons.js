/**
 * The icons, as paths in a square of 20 by 20. They are drawn in place: a shadow root cannot use symbols of the page around it.
 * @module
 */

/** @type {Record<string, string>} */
const PATHS = {
  send: "M3 10 17 3.5l-4.5 14-3-6zM9.5 11.5l3.5-4",
  react: "M3.2 10a6.8 6.8 0 1 0 13.6 0a6.8 6.8 0 1 0 -13.6 0 M7 11.8a3.6 3.6 0 0 0 6 0M7.6 8h.01M12.4 8h.01",
  pin: "M7 3h6l-.8 6 2.8 2.5H5L7.8 9zM10 11.5V17",
  thread: "M4 4h12v8H9l-4 4v-4H4z M7 8h6",
  reply: "M8 4 3.5 8.5 8 13 M4 8.5h7a5 5 0 0 1 5 5V16",
  edit: "M4 16l.8-3.4L13 4.4a1.6 1.6 0 0 1 2.3 0l.3.3a1.6 1.6 0 0 1 0 2.3l-8.2 8.2z",
  delete: "M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6",
  plus: "M10 4v12M4 10h12",
  close: "m5 5 10 10M15 5 5 15",
  copy: "M7 7h9v9H7z M13 7V4H4v9h3",
  cut: "M7 3v4M13 3v4M5 7h10v2a5 5 0 0 1-5 5v3 M3 17 17 3",
  plug: "M7 3v4M13 3v4M5 7h10v2a5 5 0 0 1-10 0zM10 14v3",
  stop: "M7 5.5h6a1.5 1.5 0 0 1 1.5 1.5v6a1.5 1.5 0 0 1-1.5 1.5H7A1.5 1.5 0 0 1 5.5 13V7A1.5 1.5 0 0 1 7 5.5z",
  pause: "M7 5v10M13 5v10",
  play: "M6.5 4.5v11l9-5.5z",
  down: "M10 4v12M5 11l5 5 5-5",
  clock: "M3.5 10a6.5 6.5 0 1 0 13 0a6.5 6.5 0 1 0 -13 0 M10 6.5V10l2.5 1.5",
  check: "m4.5 10.5 4 4 7.5-9",
  checks: "m1.5 10.5 4 4 7.5-9M9.5 13.2l1.3 1.3 7.5-9",
  more: "M4.5 10h.01M10 10h.01M15.5 10h.01",
  flag: "M5 17V4h9.5l-2 3.5 2 3.5H5",
  at: "M7.2 10a2.8 2.8 0 1 0 5.6 0a2.8 2.8 0 1 0 -5.6 0 M12.8 7.2v3.6a2 2 0 0 0 4 0V10a6.8 6.8 0 1 0-2.7 5.4",
};

const SVG = "http://www.w3.org/2000/svg";

/** @param {string} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  for (const [key, value] of Object.entries({ class: "icon", viewBox: "0 0 20 20", "data-icon": name, "aria-hidden": "true" })) svg.setAttribute(key, value);
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}
