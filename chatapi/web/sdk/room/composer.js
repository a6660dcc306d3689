/**
 * Where one user writes: new messages, replies and edits.
 * @module
 */
import { focusedBeside, h, iconButton } from "./dom.js";
import { icon } from "./icons.js";
import { MentionPicker } from "./mention-picker.js";
import { ObstacleLine } from "./obstacle-line.js";

/** @typedef {import("../chatapi.js").Message} Message */
/** @typedef {import("./permission.js").Obstacle} Obstacle */

/**
 * @typedef {object} Writing
 * @property {(content: string, replyTo: string | null) => void} send
 * @property {(message: Message, content: string) => void} edit
 * @property {(active: boolean) => void} typing
 * @property {() => Message | undefined} lastOwn
 * @property {(start: string) => Promise<import("./mention-picker.js").Suggestion[]>} suggest members whose id or name begins so
 */

const MAX_HEIGHT_PX = 160;

export class Composer {
  /** @type {Message | null} */ #editing = null;
  /** @type {Message | null} */ #replying = null;
  /** @type {Obstacle | null} */ #obstacle = null;
  /** Where this tab keeps what is written in the open room. */ #place = "";

  /** @param {string} user @param {import("./people.js").People} people @param {Writing} writing */
  constructor(user, people, writing) {
    this.user = user;
    this.writing = writing;
    this.hint = h("div.hint", { hidden: true });
    this.line = new ObstacleLine("obstacle");
    this.input = h("textarea", {
      part: "input", rows: 1, placeholder: "Message", "aria-label": `Message as ${user}`, "aria-describedby": "obstacle", maxlength: 65536, dir: "auto",
      oninput: () => this.#typed(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event), onblur: () => writing.typing(false),
    });
    this.picker = new MentionPicker(this.input, "mentions", writing.suggest, people);
    this.button = h("button.send", { part: "send", type: "submit", title: "Send", "aria-label": `Send as ${user}` }, icon("send"));
    this.element = h("form.composer", { part: "composer", onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); this.#submit(); } },
      this.picker.element, this.line.element, this.hint, h("div.composer-row", {}, this.input, this.button));
  }

  /** A draft stays in its room until it is sent, also across a reload of the page. @param {string} roomId */
  open(roomId) {
    this.cancel();
    const before = this.#place;
    this.#place = this.#placeOf(roomId);
    if (!before && this.input.value) keep(this.#place, this.input.value); // written before there was a room
    else if (before !== this.#place) this.#restore();
  }

  /** The user may go on with this text, unless they have written something. @param {string} text */
  begin(text) {
    if (this.isBarred) return;
    if (!this.input.value) this.input.value = text;
    this.input.focus();
  }

  /** Content that could not be sent, though it is not in front of the user any more. @param {string} roomId @param {string} content */
  putBack(roomId, content) {
    const place = this.#placeOf(roomId);
    if (!kept(place)) keep(place, content);
    if (place === this.#place && !this.#editing) this.#restore();
  }

  /** Nothing may be written as long as there is an obstacle, but slow mode lets edits pass. @param {Obstacle | null} obstacle @param {string} [over] */
  bar(obstacle, over) {
    const focused = focusedBeside(this.line.remedy) === this.line.remedy;
    this.#obstacle = obstacle;
    this.line.show(obstacle, over);
    if (focused && !obstacle?.remedy) this.input.focus();
    if (obstacle && obstacle.kind !== "slow") this.cancel();
    else this.#fit();
  }

  get isBarred() { return this.#obstacle !== null && !(this.#obstacle.kind === "slow" && this.#editing); }

  /** @param {Message} message */
  reply(message) {
    if (this.isBarred) return;
    this.cancel();
    this.#replying = message;
    this.#showHint(`Reply to ${message.sender_id}`, message.content ?? "");
  }

  /** @param {Message} message */
  edit(message) {
    if (this.#obstacle && this.#obstacle.kind !== "slow") return;
    this.cancel();
    this.#editing = message;
    this.input.value = message.content;
    this.#showHint("Edit", message.content ?? "");
  }

  cancel() {
    const wasEditing = this.#editing !== null;
    this.#editing = this.#replying = null;
    this.hint.hidden = true;
    if (wasEditing) this.#restore();
    else this.#fit();
  }

  close() { this.line.stop(); }

  /** @param {string} roomId */
  #placeOf(roomId) { return `chatapi-draft ${this.user} ${roomId}`; }

  #restore() {
    this.input.value = kept(this.#place);
    this.#fit();
  }

  /** @param {string} title @param {string} text */
  #showHint(title, text) {
    this.hint.replaceChildren(h("b", {}, title), h("span", { dir: "auto", title: text.slice(0, 500) }, text.slice(0, 500)),
      iconButton("close", "Cancel", () => this.cancel()));
    this.hint.hidden = false;
    this.#fit();
    this.input.focus();
  }

  #typed() {
    this.#fit();
    if (this.#editing) return;
    if (this.#place) keep(this.#place, this.input.value);
    this.writing.typing(this.input.value !== "");
  }

  #fit() {
    const barred = this.isBarred;
    this.input.readOnly = barred; // not `disabled`, which would take the focus away and hide the reason from the keyboard
    this.button.disabled = barred;
    if (barred) this.input.setAttribute("aria-disabled", "true");
    else this.input.removeAttribute("aria-disabled");
    this.input.style.setProperty("height", "auto");
    const height = this.input.scrollHeight + 2;
    this.input.style.setProperty("height", `${Math.min(height, MAX_HEIGHT_PX)}px`);
    this.input.style.setProperty("overflow-y", height > MAX_HEIGHT_PX ? "auto" : "hidden"); // Firefox shows a bar where nothing can be scrolled
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (this.picker.key(event)) return;
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === "Escape") {
      if (!this.hint.hidden) event.preventDefault();
      this.cancel();
    }
    else if (event.key === "ArrowUp" && this.input.value === "") {
      const last = this.writing.lastOwn();
      if (last) { event.preventDefault(); this.edit(last); }
    }
  }

  #submit() {
    this.picker.close();
    const content = this.input.value.trim();
    if (!content || this.isBarred || !this.#place) return; // without a room yet, the text waits here
    const editing = this.#editing;
    const replyTo = this.#replying?.message_id ?? null;
    if (!editing) {
      this.input.value = "";
      keep(this.#place, "");
    }
    this.cancel();
    if (!editing) this.writing.send(content, replyTo);
    else if (content !== editing.content) this.writing.edit(editing, content);
  }
}

/** In this tab alone. @param {string} place @param {string} text */
function keep(place, text) {
  try {
    if (text) sessionStorage.setItem(place, text);
    else sessionStorage.removeItem(place);
  } catch { /* The tab may have no space left, or may keep nothing, and then the text is only in the field. */ }
}

/** @param {string} place @returns {string} */
function kept(place) {
  try {
    return sessionStorage.getItem(place) ?? "";
  } catch {
    return "";
  }
}
