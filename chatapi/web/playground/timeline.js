/**
 * One user's view of a room's messages: in order, with marks, actions and history on scroll.
 * @module
 */
import { avatar, clock, h, icon, iconButton } from "./dom.js";

/** @typedef {import("/sdk/chatapi.js").Message} Message */
/** @typedef {{content: string, reply_to?: string | null, client_message_id: string, error?: string}} Draft a message that is not confirmed */

/**
 * @typedef {object} Actions
 * @property {(message: Message) => void} reply
 * @property {(message: Message) => void} edit
 * @property {(message: Message) => void} remove
 * @property {(draft: Draft) => void} retry
 * @property {() => Promise<boolean>} older loads a page of history; false when there is no more
 */

const NEAR_END_PX = 80;
const GROUP_MS = 5 * 60_000; // messages of one sender within this time stand together

export class Timeline {
  /** @type {Map<string, {message: Message, element: HTMLElement}>} */ #items = new Map();
  /** @type {Map<string, HTMLElement>} */ #drafts = new Map();
  /** @type {(message: Message) => {kind: string, label: string}} */ #markOf = () => ({ kind: "check", label: "stored" });
  #loadingOlder = false;
  /** Before the last change of size, which must not hide the newest message. */ #atEnd = true;

  /** @param {string} user @param {(userId: string) => string | undefined} slotOf @param {Actions} actions */
  constructor(user, slotOf, actions) {
    this.user = user;
    this.slotOf = slotOf;
    this.actions = actions;
    this.top = h("div.history-end");
    this.list = h("ol.messages");
    this.drafts = h("ol.messages.drafts");
    this.typing = h("p.typing", { "aria-live": "polite" });
    this.log = h("div.log", { role: "log", tabindex: 0, "aria-label": `Messages as ${user} sees them` }, this.top, this.list, this.drafts, this.typing);
    this.newer = h("button.newer", { type: "button", hidden: true, onclick: () => this.toEnd() }, icon("down"), "New messages");
    this.element = h("div.timeline", {}, this.log, this.newer);
    this.log.addEventListener("scroll", () => {
      this.#atEnd = this.#nearEnd();
      if (this.#atEnd) this.newer.hidden = true;
    }, { passive: true });
    new ResizeObserver(() => { if (this.#atEnd) this.toEnd(); }).observe(this.log);
    this.watcher = new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) void this.#loadOlder(); },
      { root: this.log, rootMargin: "120px 0px 0px" });
  }

  /** @param {(message: Message) => {kind: string, label: string}} markOf @param {string} [notice] instead of messages */
  reset(markOf, notice) {
    this.watcher.disconnect();
    this.#items.clear();
    this.#drafts.clear();
    this.#markOf = markOf;
    this.list.replaceChildren();
    this.drafts.replaceChildren();
    this.typing.replaceChildren();
    this.top.replaceChildren(notice ? h("p.empty", {}, notice) : "");
    this.newer.hidden = true;
  }

  /** The first page is there: history may be asked for. @param {boolean} hasMore */
  started(hasMore) {
    if (!hasMore) this.#showBeginning();
    this.toEnd();
    if (hasMore) this.watcher.observe(this.top);
  }

  get oldestSeq() {
    for (const { message } of this.#items.values()) return Math.min(message.seq, ...[...this.#items.values()].map((item) => item.message.seq));
    return undefined;
  }

  /** @param {string} messageId */
  get(messageId) { return this.#items.get(messageId)?.message; }

  /** The newest own message that can still be edited. */
  lastOwn() {
    return [...this.#items.values()].map((item) => item.message).filter((message) => message.sender_id === this.user && !message.deleted_at)
      .sort((one, other) => other.seq - one.seq)[0];
  }

  /** Puts a message in its place, or a changed one in the place of the old. @param {Message} message @param {{recovered?: boolean}} [how] */
  put(message, how = {}) {
    const stick = this.#nearEnd();
    const known = this.#items.get(message.message_id);
    const element = this.#render(message);
    element.dataset.seq = String(message.seq);
    if (how.recovered) element.classList.add("recovered");
    if (known) known.element.replaceWith(element);
    else this.#place(element);
    this.#items.set(message.message_id, { message, element });
    if (message.client_message_id) this.dropDraft(message.client_message_id);
    this.#group(element);
    if (element.nextElementSibling) this.#group(/** @type {HTMLElement} */ (element.nextElementSibling));
    for (const { message: other } of known ? this.#items.values() : []) if (other.reply_to === message.message_id) this.#redraw(other);
    if (stick) this.toEnd();
    else if (!known && !this.#loadingOlder) this.newer.hidden = false;
  }

  /** @param {Message[]} messages */
  putAll(messages) {
    for (const message of messages) if (!this.#items.has(message.message_id)) this.put(message);
  }

  /** A line that is not a message. @param {string} text @param {string} [kind] @param {number} [seq] */
  note(text, kind = "", seq) {
    const stick = this.#nearEnd();
    const element = h("li.note", { class: `note ${kind}` }, h("span", {}, text));
    element.dataset.seq = String(seq ?? /** @type {any} */ (this.list.lastElementChild)?.dataset.seq ?? 0);
    this.#place(element);
    if (stick) this.toEnd();
  }

  /** @param {Draft} draft */
  putDraft(draft) {
    const element = h("li.message.own", { class: `message own pending${draft.error ? " failed" : ""}` },
      h("div.bubble", {}, this.#quote(draft.reply_to), h("p.content", {}, draft.content),
        h("p.meta", {}, draft.error ? h("span.failure", {}, draft.error) : "", icon("clock"))),
      draft.error ? h("div.tools", {}, iconButton("send", "Try again", () => this.actions.retry(draft)),
        iconButton("delete", "Discard", () => this.dropDraft(draft.client_message_id))) : null);
    this.dropDraft(draft.client_message_id);
    this.#drafts.set(draft.client_message_id, element);
    this.drafts.append(element);
    this.toEnd();
  }

  /** @param {string} clientMessageId */
  dropDraft(clientMessageId) {
    this.#drafts.get(clientMessageId)?.remove();
    this.#drafts.delete(clientMessageId);
  }

  /** Receipts have moved. */
  refreshMarks() {
    for (const { message, element } of this.#items.values()) {
      const mark = element.querySelector(".mark");
      if (mark) mark.replaceWith(this.#mark(message));
    }
  }

  /** @param {string[]} users */
  showTyping(users) {
    const stick = this.#nearEnd();
    this.typing.replaceChildren(...(users.length ? [h("span.dots", { "aria-hidden": "true" }, h("i"), h("i"), h("i")),
      `${users.join(", ")} ${users.length > 1 ? "are" : "is"} typing`] : []));
    if (stick) this.toEnd();
  }

  toEnd() {
    this.log.scrollTop = this.log.scrollHeight;
    this.#atEnd = true;
    this.newer.hidden = true;
  }

  #nearEnd() { return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < NEAR_END_PX; }

  async #loadOlder() {
    if (this.#loadingOlder) return;
    this.#loadingOlder = true;
    this.top.replaceChildren(h("span.muted", {}, "Loading…"));
    const fromEnd = this.log.scrollHeight - this.log.scrollTop;
    let more = false;
    try {
      more = await this.actions.older();
    } finally {
      this.#loadingOlder = false;
      this.top.replaceChildren();
      this.watcher.disconnect();
      if (more) this.watcher.observe(this.top); // observing anew reports a top that is still in sight
      else this.#showBeginning();
      this.log.scrollTop = this.log.scrollHeight - fromEnd;
    }
  }

  #showBeginning() {
    this.top.replaceChildren(h("p.beginning", {}, this.#items.size ? "The beginning of this room" : "No messages yet. Say hello."));
  }

  /** Behind what has the same or a lower `data-seq`. @param {HTMLElement} element */
  #place(element) {
    const seq = Number(element.dataset.seq);
    let before = null;
    for (let last = this.list.lastElementChild; last && Number(last.dataset.seq) > seq; last = last.previousElementSibling) before = last;
    this.list.insertBefore(element, before);
    const beginning = this.top.querySelector(".beginning");
    if (beginning) beginning.textContent = "The beginning of this room";
  }

  /** @param {HTMLElement} element */
  #group(element) {
    const previous = /** @type {HTMLElement | null} */ (element.previousElementSibling);
    const same = previous?.dataset.sender === element.dataset.sender && element.dataset.sender !== undefined
      && Number(element.dataset.time) - Number(previous?.dataset.time) < GROUP_MS;
    element.classList.toggle("grouped", same);
  }

  /** @param {Message} message */
  #redraw(message) {
    const item = this.#items.get(message.message_id);
    if (!item) return;
    const element = this.#render(message);
    element.dataset.seq = String(message.seq);
    item.element.replaceWith(element);
    item.element = element;
    this.#group(element);
  }

  /** @param {Message} message */
  #render(message) {
    const own = message.sender_id === this.user;
    const gone = message.deleted_at !== null;
    const slot = this.slotOf(message.sender_id);
    return h("li", {
      class: `message ${own ? "own" : "other"}${gone ? " gone" : ""}`, tabindex: -1, "data-slot": slot,
      "data-sender": message.sender_id, "data-time": Date.parse(message.created_at), "data-message": message.message_id,
    },
      own ? null : avatar(message.sender_id, slot),
      h("div.bubble", {},
        own ? null : h("p.sender", {}, message.sender_id),
        gone ? null : this.#quote(message.reply_to),
        h("p.content", {}, gone ? "Message deleted" : message.content),
        h("p.meta", {},
          message.edited_at && !gone ? h("span", { title: `edited at ${message.edited_at}` }, "edited") : null,
          h("time", { datetime: message.created_at, title: `${message.created_at}, seq ${message.seq}` }, clock(message.created_at)),
          own && !gone ? this.#mark(message) : null)),
      gone ? null : h("div.tools", {},
        iconButton("reply", "Reply", () => this.actions.reply(message)),
        own ? iconButton("edit", "Edit", () => this.actions.edit(message)) : null,
        own ? iconButton("delete", "Delete", () => this.actions.remove(message)) : null));
  }

  /** @param {string | null | undefined} messageId */
  #quote(messageId) {
    if (!messageId) return null;
    const target = this.get(messageId);
    return h("button.quote", { type: "button", title: "Show this message", onclick: () => this.#show(messageId) },
      h("b", {}, target?.sender_id ?? "An earlier message"), h("span", {}, target ? target.content ?? "Message deleted" : ""));
  }

  /** @param {string} messageId */
  #show(messageId) {
    const element = this.#items.get(messageId)?.element;
    element?.scrollIntoView({ block: "center" });
    element?.focus();
  }

  /** @param {Message} message */
  #mark(message) {
    const { kind, label } = this.#markOf(message);
    return h("span.mark", { "data-mark": kind, title: label, "aria-label": label, role: "img" }, icon(kind === "stored" ? "check" : "checks"));
  }
}
