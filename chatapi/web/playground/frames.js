/**
 * The live frames of both users, in both directions: filtered, paused, opened as trees.
 * @module
 */
import { h, icon, iconButton, toast } from "./dom.js";

/** @typedef {import("/sdk/chatapi.js").ServerEvent} ServerEvent */
/** @typedef {{slot: "a" | "b", user: string, direction: "in" | "out", frame: ServerEvent, at: Date}} Entry */

const KEPT = 500; // of the newest frames, so that a long session stays quick
const NOISE = new Set(["ping", "pong", "typing", "typing.start", "typing.stop", "presence.update", "ack", "ack.received"]);

export class Frames {
  /** @type {Entry[]} */ #entries = [];
  #paused = false;
  #missed = 0;
  #filter = { a: true, b: true, noise: true, text: "" };

  /** @param {HTMLElement} root */
  constructor(root) {
    this.list = h("ol.frame-list", { tabindex: 0, "aria-label": "Frames, newest last" });
    this.empty = h("p.empty", {}, "Frames appear here as they cross the two WebSockets.");
    this.count = h("span.badge", { title: "frames shown" }, "0");
    this.pauseButton = h("button.icon-button", { type: "button", onclick: () => this.#togglePause() });
    this.userButtons = ["a", "b"].map((slot) => h("button.chip", {
      type: "button", "data-slot": slot, "aria-pressed": "true", onclick: (/** @type {any} */ { currentTarget }) => this.#toggle(slot, currentTarget),
    }));
    root.append(
      h("header.panel-head", {}, h("h2", {}, "Frames"), this.count, h("span.grow"), this.pauseButton,
        iconButton("delete", "Clear the list", () => this.#clear())),
      h("div.frame-filter", {},
        ...this.userButtons,
        h("button.chip", { type: "button", "aria-pressed": "true", title: "pings, acks, typing and presence",
          onclick: (/** @type {any} */ { currentTarget }) => this.#toggle("noise", currentTarget) }, "small talk"),
        h("input", { type: "search", placeholder: "type or text", "aria-label": "Filter frames by type or text",
          oninput: (/** @type {any} */ { target }) => { this.#filter.text = target.value.trim().toLowerCase(); this.#render(); } })),
      h("div.frame-body", {}, this.empty, this.list),
    );
    this.#showPause();
  }

  /** @param {string} a @param {string} b */
  setUsers(a, b) {
    this.userButtons[0].textContent = a;
    this.userButtons[1].textContent = b;
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
    return this.#filter[slot] && (noise || !NOISE.has(frame.type)) && (!text || JSON.stringify(frame).toLowerCase().includes(text));
  }

  #render() {
    this.list.replaceChildren();
    for (const entry of this.#entries) this.#append(entry);
    this.#showCount();
  }

  /** @param {Entry} entry */
  #append(entry) {
    if (!this.#passes(entry)) return;
    const atEnd = this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < 60;
    this.list.append(row(entry));
    if (this.list.childElementCount > KEPT) this.list.firstElementChild.remove();
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
  const details = h("details", { "data-slot": slot, "data-direction": direction, "data-type": frame.type },
    h("summary", {},
      h("span.arrow", { title: direction === "out" ? `${user} to the server` : `the server to ${user}` }, direction === "out" ? "↑" : "↓"),
      h("span.frame-type", {}, frame.type),
      h("span.frame-gist", {}, gist(frame)),
      h("time", { datetime: at.toISOString() }, at.toLocaleTimeString([], { hour12: false }) + "." + String(at.getMilliseconds()).padStart(3, "0"))));
  details.addEventListener("toggle", () => {
    if (details.childElementCount > 1) return;
    const text = JSON.stringify(frame, null, 2);
    details.append(h("div.tree", {},
      iconButton("copy", "Copy this frame", () => navigator.clipboard?.writeText(text).then(() => toast("Frame copied"))),
      tree(frame, 0)));
  }, { once: true });
  return h("li", {}, details);
}

/** What tells two frames of one type apart at a glance. @param {ServerEvent} frame */
function gist(frame) {
  if (frame.type === "error") return frame.message;
  if (frame.type === "ready") return frame.rooms.length === 1 ? "1 room" : `${frame.rooms.length} rooms`;
  if (frame.type === "sync" || frame.type === "sync.complete") return cursors(frame.rooms);
  if (frame.type === "sync.gap") return `#${frame.from_seq} to #${frame.to_seq}`;
  if (frame.room_type) return frame.name ?? frame.room_type;
  const parts = [];
  if (frame.seq !== undefined) parts.push(`#${frame.seq}`);
  if (typeof frame.content === "string") parts.push(frame.content);
  else if (frame.user_id) parts.push(frame.user_id);
  if (frame.action ?? frame.status ?? frame.topic) parts.push(frame.action ?? frame.status ?? frame.topic);
  return parts.join(" ").slice(0, 120);
}

/** @param {Record<string, number>} [rooms] */
function cursors(rooms = {}) {
  const seqs = Object.values(rooms);
  return seqs.length === 1 ? `#${seqs[0]}` : `${seqs.length} rooms`;
}

/** @param {unknown} value @param {number} depth @returns {HTMLElement} */
function tree(value, depth) {
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
