/**
 * Messages that are still being written: their text on the page, and how it comes.
 * @module
 */
import { focusedBeside, h } from "./dom.js";
import { icon } from "./icons.js";

/** @typedef {import("../chatapi.js").Connection} Connection */
/** @typedef {import("../chatapi.js").GrowingMessage} GrowingMessage */
/** @typedef {import("../chatapi.js").Message} Message */

const BLOCK_CHARS = 500; // then a block ends with its line: only the last one is copied and laid out again when text comes
const MAX_BLOCK_CHARS = 8000; // of a text without lines, whose blocks end with a word
const STATES = {
  open: "The sender is still writing it",
  done: "It was written in pieces, and is whole",
  cancelled: "It was stopped before its end",
  failed: "It broke off: its sender failed, or was away for too long",
};

/** @typedef {{end: number, start: number, last: Text | null}} Shown up to where a paragraph shows its text; where its last block starts, unless that is full */

/** @type {WeakMap<Element, Shown>} */
const shown = new WeakMap();

/** @param {Message} message */
export function isOpen({ stream }) { return stream?.state === "open"; }

/** How a stream stands, in words. @param {NonNullable<Message["stream"]>} stream */
export function wordsOf({ state, cancel_requested: wanted }) { return state !== "open" ? state : wanted ? "asked to stop" : "writing"; }

/** The start of a text for a line about it, or words that stand for it. @param {Message} message @param {number} chars */
export function startOf(message, chars) {
  const text = (message.content ?? "").slice(0, chars);
  if (isOpen(message)) return text ? `${text} … (being written)` : "being written …";
  return text || (message.stream ? "no text" : "");
}

/** The paragraph of a message that grows. It is not read out bit by bit, but once it is whole. @param {string} text */
export function growingElement(text) {
  const paragraph = h("p.content.growing", { dir: "auto", "aria-busy": "true", "aria-live": "off" });
  grow(paragraph, text);
  return paragraph;
}

/** Adds the text that is not there yet. @param {Element} paragraph @param {string} text */
export function grow(paragraph, text) {
  const state = shown.get(paragraph) ?? { end: 0, start: 0, last: null };
  shown.set(paragraph, state);
  while (state.end < text.length) {
    const { end } = state;
    if (!state.last) {
      state.start = end;
      state.last = document.createTextNode("");
      paragraph.append(h("span.block", {}, state.last));
    }
    state.end = endOfBlock(text, state.start, end);
    state.last.appendData(text.slice(end, state.end));
    if (state.end < text.length || (text[state.end - 1] === "\n" && state.end - state.start >= BLOCK_CHARS)) state.last = null;
  }
}

/** Where a block ends: behind a line, or a word, or with the text so far. @param {string} text @param {number} start of the block @param {number} from it is there up to here */
function endOfBlock(text, start, from) {
  const most = start + MAX_BLOCK_CHARS;
  const line = text.indexOf("\n", Math.max(from, start + BLOCK_CHARS - 1));
  if (line >= 0 && line < most) return line + 1;
  if (text.length <= most) return text.length;
  const word = text.lastIndexOf(" ", most) + 1;
  if (word > from) return word;
  return Math.max(from, most) + (/[\udc00-\udfff]/.test(text[Math.max(from, most)]) ? 1 : 0);
}

/** In the last line of a message: how its stream stands, and the button that stops it. @param {Message} message @param {() => void} stop */
export function streamElements(message, stop) {
  if (!message.stream) return [];
  const state = h("span.stream-state");
  const button = isOpen(message) ? h("button.stop", { type: "button", title: "Ask the sender to stop", onclick: stop }, icon("stop"), "Stop") : null;
  showState(state, button, message.stream);
  return [button, state, reasonOf(message)];
}

/** Why a stream has failed, if its sender has told. @param {Message} message */
function reasonOf({ stream, meta }) {
  const reason = stream?.state === "failed" ? meta?.error : undefined;
  return typeof reason === "string" ? h("span.stream-reason", { dir: "auto" }, reason) : null;
}

/** Somebody has asked the sender to stop. @param {HTMLElement} element of the message @param {Message} message */
export function showStopAsked(element, { stream }) {
  const button = /** @type {HTMLElement | null} */ (element.querySelector(".stop"));
  const focused = button !== null && button === focusedBeside(element);
  const state = /** @type {HTMLElement | null} */ (element.querySelector(".stream-state"));
  if (stream && state) showState(state, button, stream);
  if (focused) element.focus({ preventScroll: true });
}

/** @param {HTMLElement} element @param {HTMLElement | null} button @param {NonNullable<Message["stream"]>} stream */
function showState(element, button, stream) {
  element.dataset.stream = stream.state;
  element.title = /** @type {Record<string, string>} */ (STATES)[stream.state] ?? "";
  element.textContent = wordsOf(stream);
  if (button) button.hidden = stream.cancel_requested === true;
}

/** Follows the open streams of one room, over whichever connection there is. */
export class Growth {
  /** @type {Map<string, GrowingMessage>} */ #followed = new Map();

  /** @param {() => Connection} connection @param {import("./timeline.js").Timeline[]} timelines in which they may be */
  constructor(connection, timelines) {
    this.connection = connection;
    this.timelines = timelines;
  }

  /** Another room was opened. */
  clear() { this.#followed.clear(); }

  /** A message that is on the page, or comes there. @param {Message} message */
  follow(message) {
    if (!isOpen(message) || this.#followed.get(message.message_id)?.isOpen) return;
    const growing = this.connection().follow(message);
    this.#followed.set(message.message_id, growing);
    void this.#watch(growing);
  }

  /** Its sender was asked to stop. @param {string} messageId */
  stopAsked(messageId) { for (const timeline of this.timelines) timeline.stopAsked(messageId); }

  /** @param {GrowingMessage} growing */
  async #watch(growing) {
    const id = growing.message.message_id;
    for await (const _text of growing.text()) {
      if (this.#followed.get(id) !== growing) return;
      for (const timeline of this.timelines) timeline.grow(growing.message);
    }
    if (this.#followed.get(id) === growing) this.#followed.delete(id);
  }
}
