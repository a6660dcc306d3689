/**
 * Where one user writes: new messages, replies and edits.
 * @module
 */
import { h, icon, iconButton } from "./dom.js";

/** @typedef {import("/sdk/chatapi.js").Message} Message */

/**
 * @typedef {object} Writing
 * @property {(content: string, replyTo: string | null) => void} send
 * @property {(message: Message, content: string) => void} edit
 * @property {(active: boolean) => void} typing
 * @property {() => Message | undefined} lastOwn
 */

const MAX_HEIGHT_PX = 160;

export class Composer {
  /** @type {Message | null} */ #editing = null;
  /** @type {Message | null} */ #replying = null;

  /** @param {string} user @param {Writing} writing */
  constructor(user, writing) {
    this.writing = writing;
    this.hint = h("div.hint", { hidden: true });
    this.input = h("textarea", {
      rows: 1, placeholder: "Message", "aria-label": `Message as ${user}`, maxlength: 65536, dir: "auto",
      oninput: () => this.#typed(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event), onblur: () => writing.typing(false),
    });
    this.element = h("form.composer", { onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); this.#submit(); } },
      this.hint,
      h("div.composer-row", {}, this.input, h("button.send", { type: "submit", title: "Send", "aria-label": `Send as ${user}` }, icon("send"))));
  }

  /** @param {Message} message */
  reply(message) {
    this.cancel();
    this.#replying = message;
    this.#showHint(`Reply to ${message.sender_id}`, message.content ?? "");
  }

  /** @param {Message} message */
  edit(message) {
    this.cancel();
    this.#editing = message;
    this.input.value = message.content;
    this.#showHint("Edit", message.content ?? "");
  }

  cancel() {
    if (this.#editing) this.input.value = "";
    this.#editing = this.#replying = null;
    this.hint.hidden = true;
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
    if (!this.#editing) this.writing.typing(this.input.value !== "");
  }

  #fit() {
    this.input.style.setProperty("height", "auto");
    this.input.style.setProperty("height", `${Math.min(this.input.scrollHeight + 2, MAX_HEIGHT_PX)}px`);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === "Escape") this.cancel();
    else if (event.key === "ArrowUp" && this.input.value === "") {
      const last = this.writing.lastOwn();
      if (last) { event.preventDefault(); this.edit(last); }
    }
  }

  #submit() {
    const content = this.input.value.trim();
    if (!content) return;
    const editing = this.#editing;
    const replyTo = this.#replying?.message_id ?? null;
    this.#editing = null;
    this.input.value = "";
    this.cancel();
    if (!editing) this.writing.send(content, replyTo);
    else if (content !== editing.content) this.writing.edit(editing, content);
  }
}
