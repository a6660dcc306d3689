/**
 * The live frames of both users, in both directions: filtered, paused, opened as trees.
 * @module
 */
import { copy } from "/sdk/room/copy.js";
import { h, iconButton } from "/sdk/room/dom.js";
import { icon } from "/sdk/room/icons.js";
import { menuButton } from "/sdk/room/menu.js";
import { deedOf, snippetsOf } from "./snippets.js";
import { toast } from "./toast.js";
import { tree } from "./tree.js";

/** @typedef {import("/sdk/chatapi.js").ServerEvent} ServerEvent */
/** @typedef {{slot: "a" | "b", user: string, direction: "in" | "out", frame: any, at: Date}} Entry a raw frame may be anything, text that is not JSON too */

const KEPT = 500; // of the newest frames, so that a long session stays quick
const DRAW_MS = 100; // between two drawings
const TIME = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" });
const NOISE = new Set(["ping", "pong", "typing", "typing.start", "typing.stop", "presence.update", "ack", "ack.received"]);

export class Frames {
  /** @type {Entry[]} */ #entries = [];
  /** Not drawn yet. @type {Entry[]} */ #waiting = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  #drawnAt = 0;
  #paused = false;
  #missed = 0;
  #filter = { a: true, b: true, noise: true, text: "" };

  /** @param {HTMLElement} root */
  constructor(root) {
    this.list = h("ol.frame-list", { tabindex: 0, "aria-label": "Frames, newest last" });
    this.empty = h("p.empty", {}, "Frames appear here as they cross the two WebSockets.");
    this.count = h("span.badge", { title: "frames shown" }, "0");
    this.foot = h("div.frame-foot");
    this.pauseButton = h("button.icon-button", { type: "button", onclick: () => this.#togglePause() });
    this.userButtons = ["a", "b"].map((slot) => h("button.chip", {
      type: "button", "data-slot": slot, "aria-pressed": "true", onclick: (/** @type {any} */ { currentTarget }) => this.#toggle(slot, currentTarget),
    }));
    root.append(
      h("div.frame-filter", {},
        ...this.userButtons,
        h("button.chip", { type: "button", "aria-pressed": "true", title: "pings, acks, typing and presence",
          onclick: (/** @type {any} */ { currentTarget }) => this.#toggle("noise", currentTarget) }, "small talk"),
        h("input", { type: "search", placeholder: "type or text", "aria-label": "Filter frames by type or text",
          oninput: (/** @type {any} */ { target }) => { this.#filter.text = target.value.trim().toLowerCase(); this.#render(); } }),
        this.count, this.pauseButton, iconButton("delete", "Clear the list", () => this.#clear())),
      h("div.frame-body", {}, this.empty, this.list), this.foot);
    this.setUsers("first user", "second user");
    this.#showPause();
  }

  /** @param {string} a @param {string} b */
  setUsers(a, b) {
    for (const [button, user] of /** @type {[any, string][]} */ ([[this.userButtons[0], a], [this.userButtons[1], b]])) {
      button.textContent = user;
      button.title = user;
    }
  }

  /** @param {Entry} entry */
  add(entry) {
    this.#entries.push(entry);
    if (this.#entries.length > KEPT) this.#entries.shift();
    if (this.#paused) {
      this.#missed++;
      this.#showPause();
    } else this.#append(entry);
  }

  #clear() {
    this.#entries = [];
    this.#missed = 0;
    this.#render();
  }

  /** @param {"a" | "b" | "noise" | string} what @param {HTMLElement} button */
  #toggle(what, button) {
    const filter = /** @type {any} */ (this.#filter);
    filter[what] = !filter[what];
    button.setAttribute("aria-pressed", String(filter[what]));
    this.#render();
  }

  #togglePause() {
    this.#paused = !this.#paused;
    this.#missed = 0;
    this.#showPause();
    if (!this.#paused) this.#render();
  }

  #showPause() {
    const label = this.#paused ? "Continue the list" : "Pause the list";
    this.pauseButton.replaceChildren(icon(this.#paused ? "play" : "pause"), this.#missed ? h("span.badge", {}, String(this.#missed)) : "");
    this.pauseButton.setAttribute("aria-label", label);
    this.pauseButton.title = label;
    this.pauseButton.setAttribute("aria-pressed", String(this.#paused));
  }

  /** @param {Entry} entry */
  #passes({ slot, frame }) {
    const { noise, text } = this.#filter;
    return this.#filter[slot] && (noise || !NOISE.has(frame?.type)) && (!text || JSON.stringify(frame).toLowerCase().includes(text));
  }

  #render() {
    this.#waiting = [];
    this.list.replaceChildren(...this.#entries.filter((entry) => this.#passes(entry)).map(row));
    this.list.scrollTop = this.list.scrollHeight;
    this.#showCount();
  }

  /** Draws what has come together: each drawing lays out and paints the whole list. @param {Entry} entry */
  #append(entry) {
    if (!this.#passes(entry)) return;
    this.#waiting.push(entry);
    if (this.#waiting.length > KEPT) this.#waiting.shift(); // nothing is drawn while the page is hidden
    this.#timer ??= setTimeout(() => requestAnimationFrame(() => this.#draw()), Math.max(0, this.#drawnAt + DRAW_MS - Date.now()));
  }

  #draw() {
    this.#timer = undefined;
    this.#drawnAt = Date.now();
    const atEnd = this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < 60;
    this.list.append(...this.#waiting.splice(0).map(row));
    while (this.list.childElementCount > KEPT) this.list.firstElementChild.remove();
    this.#showCount();
    if (atEnd) this.list.scrollTop = this.list.scrollHeight;
  }

  #showCount() {
    this.count.textContent = String(this.list.childElementCount);
    this.empty.hidden = this.list.childElementCount > 0;
  }
}

/** @param {Entry} entry */
function row({ slot, user, direction, frame, at }) {
  const type = frame?.type ?? "not a frame";
  const preview = gist(frame);
  const details = h("details", { "data-slot": slot, "data-direction": direction, "data-type": type },
    h("summary", {},
      h("span.arrow", { title: direction === "out" ? `${user} to the server` : `the server to ${user}` }, direction === "out" ? "↑" : "↓"),
      h("span.sr", {}, direction === "out" ? `${user} sent ` : `${user} received `),
      h("span.frame-type", {}, String(type)),
      h("span.frame-gist", { dir: "auto", title: preview }, preview),
      h("time", { datetime: at.toISOString() }, TIME.format(at))));
  details.addEventListener("toggle", () => {
    if (details.childElementCount > 1) return;
    details.append(h("div.tree", {}, menuButton("Copy this frame", () => ({ choices: copies(frame, direction, user) }), "copy"), tree(frame)));
  }, { once: true });
  return h("li", {}, details);
}

/** @param {any} frame @param {"in" | "out"} direction @param {string} user @returns {import("/sdk/room/menu.js").Choice[]} */
function copies(frame, direction, user) {
  return [
    { label: "Copy as JSON", run: () => copy(typeof frame === "string" ? frame : JSON.stringify(frame, null, 2), "The frame", toast) },
    ...snippetsOf(deedOf(frame, direction), user).map(({ label, hint, text }) => ({ label, hint, run: () => copy(text, label.replace("Copy as ", ""), toast) })),
  ];
}

/** The part that tells two frames of one type apart at a glance. @param {ServerEvent} frame */
function gist(frame) {
  if (frame === null || typeof frame !== "object") return String(frame).slice(0, 120);
  if (frame.type === "error") return String(frame.message ?? frame.code);
  if (frame.type === "ready" || frame.type === "ready.rooms") return frame.rooms.length === 1 ? "1 room" : `${frame.rooms.length} rooms`;
  if (frame.rooms && !Array.isArray(frame.rooms)) return cursors(frame.rooms);
  if (frame.type === "sync.gap") return `#${frame.from_seq} to #${frame.to_seq}`;
  if (frame.room_type) return String(frame.name ?? frame.room_type);
  const parts = [];
  if (frame.seq !== undefined) parts.push(`#${frame.seq}`);
  if (typeof frame.content === "string") parts.push(frame.content);
  else if (typeof frame.text === "string") parts.push(`${frame.index}: ${frame.text}`);
  else if (frame.user_id) parts.push(frame.user_id);
  if (frame.emoji) parts.push(frame.emoji);
  if (frame.action ?? frame.status ?? frame.topic) parts.push(frame.action ?? frame.status ?? frame.topic);
  return parts.join(" ").slice(0, 120);
}

/** @param {Record<string, number>} [rooms] */
function cursors(rooms = {}) {
  const seqs = Object.values(rooms);
  return seqs.length === 1 ? `#${seqs[0]}` : `${seqs.length} rooms`;
}

