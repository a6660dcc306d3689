/**
 * Contents as nodes: links that are safe to click, and long texts folded. Nothing here parses HTML.
 * @module
 */
import { h } from "./dom.js";
import { piecesOf, ROOM } from "./mentions.js";

const FOLD_CHARS = 1200;
const FOLD_LINES = 16;
/** Signs that are never part of an address: spaces, quotes, controls, and what turns the direction of writing. */
const LINK = /https?:\/\/[^\s<>"`\p{Cc}\p{Bidi_C}\ufffc\ufffd]+/giu;
const CLOSERS = { ")": "(", "]": "[", "}": "{" };
const TRAILING = new Set([...".,;:!?'*_~…。，、！？；：）」』】》"]);

/** @typedef {{text: string, href?: string, user?: string}} Part */
/** @typedef {{users: string[], own: string, nameOf: (userId: string) => string}} Mentioned whom a message mentions, and who looks */

/**
 * Cuts a text into plain parts and links. A link is `http` or `https`, and names no user: `https://bank.example@evil.example`
 * leads elsewhere than it seems. The text of a link stays as it was written.
 * @param {string} text @returns {Part[]}
 */
export function partsOf(text) {
  /** @type {Part[]} */
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(LINK)) {
    const start = match.index;
    if (start > 0 && /[\p{L}\p{N}_]/u.test(text[start - 1])) continue; // the middle of a word
    const candidate = withoutTrailing(match[0]);
    const href = hrefOf(candidate);
    if (!href) continue;
    if (start > end) parts.push({ text: text.slice(end, start) });
    parts.push({ text: candidate, href });
    end = start + candidate.length;
  }
  if (end < text.length) parts.push({ text: text.slice(end) });
  return parts;
}

/** Punctuation at the end belongs to the sentence, and a bracket that the address did not open to what is around it. @param {string} url */
function withoutTrailing(url) {
  /** @type {Record<string, number>} */
  const surplus = {};
  for (const [closer, opener] of Object.entries(CLOSERS)) surplus[closer] = url.split(closer).length - url.split(opener).length;
  let end = url.length;
  for (; end > 0; end--) {
    const last = url[end - 1];
    if (surplus[last] > 0) surplus[last]--;
    else if (!TRAILING.has(last)) break;
  }
  return url.slice(0, end);
}

/** @param {string} text @returns {string | null} */
function hrefOf(text) {
  if (!URL.canParse(text)) return null;
  const url = new URL(text);
  const plain = (url.protocol === "https:" || url.protocol === "http:") && url.hostname !== "" && !url.username && !url.password;
  return plain ? url.href : null;
}

/** @param {Part[]} parts @param {Mentioned} mentioned */
function nodesOf(parts, { own, nameOf }) {
  return parts.map(({ text, href, user }) => {
    if (href !== undefined) return h("a.link", { href, target: "_blank", rel: "noopener noreferrer nofollow", title: href }, text);
    if (user === undefined) return text;
    return h(user === own || user === ROOM ? "mark.mention" : "span.mention", { title: user === ROOM ? "everybody in the room" : nameOf(user) }, text);
  });
}

/** The first part of a long text, or null when it is short. A link is there whole or not at all. @param {Part[]} parts @returns {Part[] | null} */
function folded(parts) {
  /** @type {Part[]} */
  const kept = [];
  let chars = FOLD_CHARS;
  let lines = FOLD_LINES;
  for (const part of parts) {
    const cut = cutOf(part.text, chars, lines);
    if (cut < part.text.length) {
      if (!part.href && !part.user) kept.push({ text: part.text.slice(0, cut) });
      kept.push({ text: "…" });
      return kept;
    }
    kept.push(part);
    chars -= part.text.length;
    lines -= part.text.split("\n").length - 1;
  }
  return null;
}

/** Where a text of so many characters and lines ends. @param {string} text @param {number} chars @param {number} lines */
function cutOf(text, chars, lines) {
  let cut = Math.min(text.length, chars);
  let at = -1;
  for (let line = 0; line < lines; line++) {
    at = text.indexOf("\n", at + 1);
    if (at < 0) break;
  }
  if (at >= 0) cut = Math.min(cut, at);
  const half = cut < text.length && /[\udc00-\udfff]/.test(text[cut]); // no character is cut in two
  return Math.max(0, half ? cut - 1 : cut);
}

/**
 * The paragraph, and the button that unfolds it where it is long.
 * @param {string} text @param {Mentioned} mentioned @param {boolean} [unfolded] at first @returns {HTMLElement[]}
 */
export function contentOf(text, mentioned, unfolded = false) {
  const parts = partsOf(text).flatMap((part) => part.href === undefined ? piecesOf(part.text, mentioned.users) : [part]);
  const start = folded(parts);
  const paragraph = h("p.content", { dir: "auto" });
  if (!start) {
    paragraph.append(...nodesOf(parts, mentioned));
    return [paragraph];
  }
  const lines = text.split("\n").length;
  const size = lines > FOLD_LINES ? `${lines.toLocaleString()} lines` : `${text.length.toLocaleString()} characters`;
  const button = h("button.unfold", {
    type: "button", onclick: () => show(button.getAttribute("aria-expanded") !== "true"),
  });
  const show = (/** @type {boolean} */ open) => {
    paragraph.replaceChildren(...nodesOf(open ? parts : start, mentioned));
    button.setAttribute("aria-expanded", String(open));
    button.textContent = open ? "Show less" : `Show all ${size}`;
  };
  show(unfolded);
  return [paragraph, button];
}
