/**
 * One user's view of a room's messages: in order, by day, with history on scroll.
 * @module
 */
import { applyEvent } from "../chatapi.js";
import { day, h } from "./dom.js";
import { icon } from "./icons.js";
import { grow, isOpen, showStopAsked } from "./growing.js";
import { draftElement, markElement, messageElement, showThread } from "./message.js";
import { showReactions } from "./reactions.js";

/** @typedef {import("../chatapi.js").Message} Message */
/** @typedef {import("./message.js").Draft} Draft */
/** @typedef {import("./message.js").Mark} Mark */

const NEAR_END_PX = 80;
const ROUNDING_PX = 2; // of a page that is zoomed
const GROUP_MS = 5 * 60_000; // messages of one sender within this time stand together
const KEPT = 600; // messages on the page; older ones come back from the history
const DROPPED = 200;
const REACHED_PAGE = 100;
const REACHED_PAGES = 20; // of so many messages: further back somebody has to scroll

export class Timeline {
  /** @type {Map<string, {message: Message, element: HTMLElement}>} */ #items = new Map();
  /** @type {Map<string, HTMLElement>} */ #drafts = new Map();
  /** The page of history that is loading; resolves with whether there is more. @type {Promise<boolean> | null} */ #loadingOlder = null;
  /** Where the page was scrolled to, in pixels. */ #scrolledTo = 0;
  /** Parts of a pixel by which the page was not scrolled yet: lines have fractions of them, places may not. */ #owed = 0;
  /** Messages whose new text the next frame shows. @type {Set<string>} */ #grown = new Set();
  #sticking = false;
  /** Before the last change of size, which must not hide the newest message. */ #atEnd = true;

  /** @param {import("./message.js").Viewer} viewer @param {import("./message.js").Actions} actions @param {string} [what] */
  constructor(viewer, actions, what = "room") {
    this.what = what;
    const { user } = viewer;
    this.user = user;
    this.older = actions.older;
    /** @type {import("./message.js").View} */
    this.view = {
      ...viewer, actions, markOf: () => ({ kind: "stored", label: "Stored" }),
      get: (messageId) => this.get(messageId),
    };
    this.top = h("div.history-end");
    this.list = h("ol.messages");
    this.drafts = h("ol.messages.drafts");
    this.typing = h("p.typing");
    this.log = h("div.log", { part: "log", role: "log", "aria-live": "off", tabindex: 0, "aria-label": `Messages as ${user} sees them` },
      this.top, this.list, this.drafts, this.typing);
    this.newer = h("button.newer", { type: "button", hidden: true, onclick: () => this.toEnd() }, icon("down"), "New messages");
    this.element = h("div.timeline", {}, this.log, this.newer);
    this.log.addEventListener("scroll", () => {
      const isUpwards = this.log.scrollTop < this.#scrolledTo - 1;
      this.#scrolledTo = this.log.scrollTop;
      if (this.#nearEnd(isUpwards ? ROUNDING_PX : NEAR_END_PX)) this.#atEnd = true;
      else if (isUpwards) this.#atEnd = false; // however little: a message that grows would take the reader back each time
      if (this.#atEnd) this.newer.hidden = true;
    }, { passive: true });
    this.sizes = new ResizeObserver(() => { if (this.#atEnd) this.toEnd(); });
    this.sizes.observe(this.log);
    this.watcher = new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) void this.#loadOlder(); },
      { root: this.log, rootMargin: "120px 0px 0px" });
  }

  /** @param {(message: Message) => Mark} markOf @param {string} [notice] instead of messages */
  reset(markOf, notice) {
    this.watcher.disconnect();
    this.log.setAttribute("aria-live", "off"); // screen readers do not read old messages aloud
    this.#items.clear();
    this.#drafts.clear();
    this.#grown.clear();
    this.view.markOf = markOf;
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
    setTimeout(() => this.log.setAttribute("aria-live", "polite"));
  }

  close() {
    this.watcher.disconnect();
    this.sizes.disconnect();
  }

  get oldestSeq() {
    let oldest = Infinity;
    for (const { message } of this.#items.values()) oldest = Math.min(oldest, message.seq);
    return oldest === Infinity ? undefined : oldest;
  }

  get newestSeq() { return Number(/** @type {any} */ (this.list.lastElementChild)?.dataset.seq ?? 0); }

  /** @param {string} messageId */
  get(messageId) { return this.#items.get(messageId)?.message; }

  /** How many messages of others are here after that number. @param {number} seq */
  countAfter(seq) {
    return [...this.#items.values()].filter(({ message }) => message.seq > seq && message.sender_id !== this.user && !message.deleted_at).length;
  }

  /** Whether it was written here, and waits to be stored. @param {string | null | undefined} clientMessageId */
  hasDraft(clientMessageId) { return this.#drafts.has(clientMessageId ?? ""); }

  /** The newest own message that can still be edited. */
  lastOwn() { return this.#newest((message) => message.sender_id === this.user && !message.deleted_at && !isOpen(message)); }

  /** The newest message that is still being written. */
  lastOpen() { return this.#newest(isOpen); }

  /** @param {(message: Message) => boolean} isMeant @returns {Message | undefined} */
  #newest(isMeant) {
    return [...this.#items.values()].map((item) => item.message).filter(isMeant).sort((one, other) => other.seq - one.seq)[0];
  }

  /** Puts a message in its place, or a changed one in the place of the old. @param {Message} message @param {{recovered?: boolean}} [how] */
  put(message, how = {}) {
    const known = this.#items.get(message.message_id);
    const element = messageElement(message, this.view, known && isWhole(known));
    if (how.recovered) element.classList.add("recovered");
    if (known) this.#hold(known.element, () => swap(known.element, element));
    else this.#place(element);
    this.#items.set(message.message_id, { message, element });
    this.view.actions.follow(message);
    if (message.client_message_id) this.dropDraft(message.client_message_id);
    this.#settle(element);
    for (const { message: other } of known ? this.#items.values() : []) if (other.reply_to === message.message_id) this.#redraw(other);
    if (this.#loadingOlder) return;
    if (this.#atEnd) this.#stick();
    else if (!known) this.newer.hidden = false;
    if (this.#atEnd && this.#items.size > KEPT) this.#dropOldest();
  }

  /** An event of a message that may be here, or of a reply to it. @param {import("../chatapi.js").ServerEvent} event */
  change(event) {
    const root = event.thread_id && this.get(event.thread_id);
    if (root) this.#putThread(applyEvent(root, event));
    const known = this.get(event.message_id);
    if (!known || known.deleted_at) return;
    const changed = applyEvent(known, event);
    if (event.type.startsWith("reaction.")) this.putReactions(changed);
    else this.put(changed);
  }

  /** The message has other reactions now; nothing else of it is drawn again, or read out. @param {Message} message */
  putReactions(message) {
    const item = this.#items.get(message.message_id);
    const row = /** @type {HTMLElement | null | undefined} */ (item?.element.querySelector(".reactions"));
    if (!item || !row) return;
    item.message = message;
    showReactions(row, message, this.view);
    if (this.#atEnd) this.#stick();
  }

  /** The message has other replies now. @param {Message} message */
  #putThread(message) {
    const item = this.#items.get(message.message_id);
    if (!item || item.message === message) return;
    item.message = message;
    showThread(/** @type {HTMLElement} */ (item.element.querySelector(".thread-link")), message);
    if (this.#atEnd) this.#stick();
  }

  /** An open stream has more text now, which the next frame shows. @param {Message} message */
  grow({ message_id: messageId, content, stream }) {
    const item = this.#items.get(messageId);
    if (!item || !isOpen(item.message) || stream?.state !== "open") return; // an event tells of its end
    const wanted = item.message.stream?.cancel_requested ?? stream.cancel_requested;
    item.message = { ...item.message, content, stream: { ...stream, ...(wanted && { cancel_requested: wanted }) } };
    if (!this.#grown.size) requestAnimationFrame(() => this.#drawGrown());
    this.#grown.add(messageId);
  }

  #drawGrown() {
    for (const messageId of this.#grown) {
      const { message, element } = this.#items.get(messageId) ?? {};
      const paragraph = element?.querySelector(".growing");
      if (element && paragraph) this.#hold(element, () => grow(paragraph, message?.content ?? ""));
    }
    this.#grown.clear();
    if (this.#atEnd) this.toEnd(); // in this very frame: one later the text would be seen to jump
  }

  /** The sender of an open stream was asked to stop. @param {string} messageId */
  stopAsked(messageId) {
    const item = this.#items.get(messageId);
    if (!item || !isOpen(item.message)) return;
    item.message = { ...item.message, stream: { .../** @type {any} */ (item.message.stream), cancel_requested: true } };
    showStopAsked(item.element, item.message);
  }

  /** The messages in sight stay where they are when one above them changes its height. @param {HTMLElement} element that changes @param {() => void} change */
  #hold(element, change) {
    const isAbove = !this.#atEnd && element.getBoundingClientRect().bottom <= this.log.getBoundingClientRect().top;
    const height = isAbove ? this.list.getBoundingClientRect().height : 0;
    change();
    if (!isAbove) return;
    this.#owed += this.list.getBoundingClientRect().height - height;
    const top = this.log.scrollTop;
    this.log.scrollTop = top + this.#owed;
    this.#scrolledTo = this.log.scrollTop;
    this.#owed -= this.#scrolledTo - top;
  }

  /** @param {Message[]} messages */
  putAll(messages) {
    for (const message of messages) if (!this.#items.has(message.message_id)) this.put(message);
  }

  /** A line that is not a message. @param {string} text @param {string} [kind] @param {number} [seq] */
  note(text, kind = "", seq) {
    const element = h("li.note", { class: `note ${kind}` }, h("span", {}, text));
    element.dataset.seq = String(seq ?? /** @type {any} */ (this.list.lastElementChild)?.dataset.seq ?? 0);
    this.#place(element);
    if (this.#atEnd) this.#stick();
  }

  /** @param {Draft} draft */
  putDraft(draft) {
    const element = draftElement(draft, this.view, () => this.dropDraft(draft.client_message_id));
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
    for (const { message, element } of this.#items.values()) element.querySelector(".mark")?.replaceWith(markElement(message, this.view));
  }

  /** Names have changed. Those of senders change by themselves. */
  refreshNames() {
    for (const { message, element } of this.#items.values()) {
      if (message.reactions) showReactions(/** @type {HTMLElement} */ (element.querySelector(".reactions")), message, this.view);
    }
  }

  /** @param {string[]} users */
  showTyping(users) {
    this.typing.replaceChildren(...(users.length ? [h("span.dots", { "aria-hidden": "true" }, h("i"), h("i"), h("i")),
      `${users.map((userId) => this.view.people.nameOf(userId)).join(", ")} ${users.length > 1 ? "are" : "is"} typing`] : []));
    if (this.#atEnd) this.#stick();
  }

  toEnd() {
    this.log.scrollTop = this.log.scrollHeight;
    this.#scrolledTo = this.log.scrollTop;
    this.#atEnd = true;
    this.newer.hidden = true;
  }

  /** To the end once for all that comes within a frame: each look at the height would lay the page out again. */
  #stick() {
    if (this.#sticking) return;
    this.#sticking = true;
    requestAnimationFrame(() => {
      this.#sticking = false;
      if (this.#atEnd) this.toEnd();
    });
  }

  /** @param {number} [distance] in pixels */
  #nearEnd(distance = NEAR_END_PX) { return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < distance; }

  /** Loads the history back to a `seq`, unless that is too far. @param {number} seq */
  async reach(seq) {
    for (let pages = 0; pages < REACHED_PAGES && (this.oldestSeq ?? 0) > seq; pages++) if (!await this.#loadOlder(REACHED_PAGE)) break;
  }

  /** @param {number} [limit] @returns {Promise<boolean>} */
  #loadOlder(limit) {
    this.#loadingOlder ??= this.#load(limit).finally(() => { this.#loadingOlder = null; });
    return this.#loadingOlder;
  }

  /** @param {number} [limit] */
  async #load(limit) {
    this.top.replaceChildren(h("span.muted", {}, "Loading…"));
    this.log.setAttribute("aria-live", "off");
    const fromEnd = this.log.scrollHeight - this.log.scrollTop;
    let more = false;
    try {
      more = await this.older(limit);
    } finally {
      this.top.replaceChildren();
      this.watcher.disconnect();
      if (more) this.watcher.observe(this.top); // observing again reports a top that is still in sight
      else this.#showBeginning();
      this.log.scrollTop = this.log.scrollHeight - fromEnd;
      setTimeout(() => this.log.setAttribute("aria-live", "polite"));
    }
    return more;
  }

  #showBeginning() {
    this.top.replaceChildren(h("p.beginning", {}, this.#items.size ? `The beginning of this ${this.what}` : "No messages yet. Say hello.",
      ...(this.#items.size ? [] : this.view.actions.hint() ?? [])));
  }

  /** Of a long session: the page stays quick, and the history brings them back. */
  #dropOldest() {
    const oldest = [...this.#items.values()].sort((one, other) => one.message.seq - other.message.seq).slice(0, DROPPED);
    for (const { message, element } of oldest) {
      this.#items.delete(message.message_id);
      element.remove();
    }
    const first = this.oldestSeq ?? 0;
    for (let line = this.list.firstElementChild; line && Number(line.dataset.seq) < first; line = this.list.firstElementChild) line.remove();
    this.top.replaceChildren();
    this.watcher.disconnect();
    this.watcher.observe(this.top);
  }

  /** Behind what has the same or a lower `data-seq`. @param {HTMLElement} element */
  #place(element) {
    const seq = Number(element.dataset.seq);
    let before = null;
    for (let last = this.list.lastElementChild; last && Number(last.dataset.seq) > seq; last = last.previousElementSibling) before = last;
    this.list.insertBefore(element, before);
    const beginning = this.top.querySelector(".beginning");
    if (beginning && element.classList.contains("message")) beginning.textContent = `The beginning of this ${this.what}`;
  }

  /** Day lines and groups around a message that is new here. @param {HTMLElement} element */
  #settle(element) {
    this.#separate(element);
    this.#group(element);
    let next = element.nextElementSibling;
    while (next && !next.classList.contains("message")) next = next.nextElementSibling;
    if (!next) return;
    this.#separate(/** @type {HTMLElement} */ (next));
    this.#group(/** @type {HTMLElement} */ (next));
  }

  /** The first message of a day has the day above it. @param {HTMLElement} element */
  #separate(element) {
    const above = /** @type {HTMLElement | null} */ (element.previousElementSibling);
    const line = above?.classList.contains("day") ? above : null;
    let previous = (line ?? element).previousElementSibling;
    while (previous && !previous.classList.contains("message")) previous = previous.previousElementSibling;
    const today = day(Number(element.dataset.time));
    const before = previous && day(Number(/** @type {HTMLElement} */ (previous).dataset.time));
    line?.remove();
    if (today === before) return;
    this.list.insertBefore(h("li.day", { "data-seq": element.dataset.seq }, h("span", {}, today)), element);
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
    const element = messageElement(message, this.view, isWhole(item));
    this.#hold(item.element, () => swap(item.element, element));
    item.element = element;
    this.#group(element);
  }

  /** @param {string} messageId @param {boolean} [focus] @returns {boolean} whether it is here */
  show(messageId, focus = true) {
    const element = this.#items.get(messageId)?.element;
    if (element) this.#atEnd = false; // else what comes next would scroll away from it
    element?.scrollIntoView({ block: "center" });
    if (this.#nearEnd()) this.#atEnd = true;
    if (focus) element?.focus({ preventScroll: true });
    return Boolean(element);
  }
}

/** Whether a long message is shown to its end: it was unfolded, or has grown so. @param {{message: Message, element: HTMLElement}} item */
function isWhole({ message, element }) { return isOpen(message) || element.querySelector('.unfold[aria-expanded="true"]') !== null; }

/** @param {HTMLElement} old @param {HTMLElement} element which takes the focus over */
function swap(old, element) {
  const focused = old.matches(":focus-within");
  old.replaceWith(element);
  if (focused) element.focus({ preventScroll: true });
}
