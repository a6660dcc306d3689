/**
 * One message as an element: its content, number, marks and actions.
 * @module
 */
import { contentOf } from "./content.js";
import { clock, h, iconButton } from "./dom.js";
import { icon } from "./icons.js";
import { growingElement, isOpen, startOf, streamElements } from "./growing.js";
import { isFor, ROOM } from "./mentions.js";
import { menuButton } from "./menu.js";
import { reactButton, reactionsElement } from "./reactions.js";
import { askReason } from "./report-form.js";

/** @typedef {import("../chatapi.js").Message} Message */
/** @typedef {{content: string, reply_to?: string | null, mentions?: string[], mention_room?: boolean, thread_id?: string, client_message_id: string, error?: string}} Draft a message that is not confirmed */
/** @typedef {{kind: string, label: string}} Mark */

/**
 * @typedef {object} Actions
 * @property {(message: Message) => void} reply
 * @property {(message: Message) => void} edit
 * @property {(message: Message) => void} remove
 * @property {(message: Message, emoji: string, active: boolean) => void} react
 * @property {(message: Message, pinned: boolean) => void} pin
 * @property {(message: Message, reason: string) => void} report
 * @property {(message: Message) => void} stop asks the sender of an open stream to end it
 * @property {(message: Message) => void} follow the message is on the page, and may be growing
 * @property {(messageId: string) => void} reveal shows a message, wherever in the room it is
 * @property {(messageId: string) => void} thread opens the thread of a message
 * @property {(draft: Draft) => void} retry
 * @property {() => (Node | string)[] | null} hint for a room without messages
 * @property {(message: Message) => {label: string, hint: string, text: string}[]} snippets what else of a message may be copied
 * @property {(text: string, what: string) => void} copy
 * @property {(limit?: number) => Promise<boolean>} older loads a page of history; false when there is no more
 */

/** @typedef {{user: string, people: import("./people.js").People, slotOf: (userId: string) => string | undefined}} Viewer who looks, and the colours of users who have fixed ones */

/**
 * @typedef {object} Around a message
 * @property {(messageId: string) => Message | undefined} get
 * @property {(message: Message) => Mark} markOf
 * @property {Actions} actions
 */

/** @typedef {Viewer & Around} View */

/** @param {Message} message @param {View} view @param {boolean} [unfolded] a long text is shown whole */
export function messageElement(message, view, unfolded) {
  const { people } = view;
  const own = message.sender_id === view.user;
  const gone = message.deleted_at !== null;
  const slot = view.slotOf(message.sender_id);
  const called = !gone && isFor(message, view.user);
  const mentioned = { users: [...(message.mentions ?? []), ...(message.mention_room ? [ROOM] : [])], own: view.user, nameOf: (/** @type {string} */ userId) => people.nameOf(userId) };
  return h("li", {
    part: "message", class: `message ${own ? "own" : "other"}${gone ? " gone" : ""}${called ? " called" : ""}`, tabindex: -1, "data-slot": slot, "data-seq": message.seq,
    "data-sender": message.sender_id, "data-time": Date.parse(message.created_at), "data-message": message.message_id,
    "data-streamed": Boolean(message.stream),
  },
    own ? null : people.avatar(message.sender_id, slot),
    h("div.bubble", { part: "bubble" },
      own ? null : h("p.sender", {}, people.nameElement(message.sender_id)),
      gone ? null : quote(message.reply_to, view),
      ...(gone ? [h("p.content", {}, "Message deleted")] : textOf(message, mentioned, unfolded)),
      h("p.meta", {},
        h("span.seq", { title: `number ${message.seq} in the room's log` }, `#${message.seq}`),
        called ? h("span.called-mark", { title: message.mention_room ? "mentions the room" : "mentions you" }, "@", h("span.sr", {}, "mentions you")) : null,
        message.pinned_at && !gone ? h("span.pinned", { title: `pinned at ${message.pinned_at}` }, icon("pin"), h("span.sr", {}, "pinned")) : null,
        message.edited_at && !gone ? h("span", { title: `edited at ${message.edited_at}` }, "edited") : null,
        ...(gone ? [] : streamElements(message, () => view.actions.stop(message))),
        h("time", { datetime: message.created_at, title: message.created_at }, clock(message.created_at)),
        own && !gone ? markElement(message, view) : null),
      threadElement(message, view)),
    gone ? null : tools(message, own, view),
    gone ? null : reactionsElement(message, view));
}

/** @param {Message} message @param {import("./content.js").Mentioned} mentioned @param {boolean} [unfolded] */
function textOf(message, mentioned, unfolded) {
  if (isOpen(message)) return [growingElement(message.content ?? "")];
  return message.content ? contentOf(message.content, mentioned, unfolded) : [h("p.content.no-text", {}, startOf(message, 0))];
}

/** Where a reply belongs, or how many replies there are. @param {Message} message @param {View} view */
function threadElement(message, { actions }) {
  const root = message.thread_id ?? message.message_id;
  const button = h("button.thread-link", { type: "button", onclick: () => actions.thread(root) }, icon("thread"), h("span"));
  showThread(button, message);
  return button;
}

/** @param {HTMLElement} button @param {Message} message */
export function showThread(button, { thread, thread_id: threadId }) {
  const count = thread?.reply_count ?? 0;
  button.hidden = !count && !threadId;
  /** @type {HTMLElement} */ (button.lastElementChild).textContent = threadId ? "in a thread" : count === 1 ? "1 reply" : `${count.toLocaleString()} replies`;
  button.title = thread ? `the last reply at ${thread.last_reply_at}` : "Show the thread";
}

/** @param {Message} message @param {boolean} own @param {View} view */
function tools(message, own, view) {
  const { actions } = view;
  const copies = () => [
    ...actions.snippets(message).map(({ label, hint, text }) => ({ label, hint, run: () => actions.copy(text, label.replace("Copy as ", "")) })),
    { label: "Copy the text", run: () => actions.copy(message.content ?? "", "The text") },
    { label: "Copy the id", hint: message.message_id, run: () => actions.copy(message.message_id, "The message's id") },
  ];
  return h("div.tools", {},
    reactButton(message, view),
    iconButton("reply", "Reply", () => actions.reply(message)),
    iconButton("thread", "Thread", () => actions.thread(message.thread_id ?? message.message_id)),
    own && !isOpen(message) ? iconButton("edit", "Edit", () => actions.edit(message)) : null,
    own ? iconButton("delete", "Delete", () => actions.remove(message)) : null,
    iconButton("pin", message.pinned_at ? "Unpin" : "Pin", () => actions.pin(message, !message.pinned_at), "button.icon-button.pin-button"),
    own ? null : reportButton(message, view),
    menuButton("Copy", () => ({ choices: copies() }), "copy"));
}

/** @param {Message} message @param {View} view */
function reportButton(message, { actions, people }) {
  const button = h("button.icon-button", {
    type: "button", title: "Report", "aria-label": "Report", "aria-haspopup": "dialog", "aria-expanded": "false",
    onclick: () => askReason(button, `Report this message of ${people.nameOf(message.sender_id)}`, (reason) => actions.report(message, reason)),
  }, icon("flag"));
  return button;
}

/** @param {string | null | undefined} messageId @param {View} view */
function quote(messageId, { get, actions, people }) {
  if (!messageId) return null;
  const target = get(messageId);
  return h("button.quote", { type: "button", title: "Show this message", onclick: () => actions.reveal(messageId) },
    target ? people.nameElement(target.sender_id, "b") : h("b", {}, "An earlier message"),
    h("span", { dir: "auto" }, target ? target.deleted_at ? "Message deleted" : startOf(target, 200) : ""));
}

/** @param {Message} message @param {View} view */
export function markElement(message, { markOf }) {
  const { kind, label } = markOf(message);
  return h("span.mark", { "data-mark": kind, title: label, "aria-label": label, role: "img" }, icon(kind === "stored" ? "check" : "checks"));
}

/** @param {Draft} draft @param {View} view @param {() => void} discard */
export function draftElement(draft, view, discard) {
  return h("li", { part: "message", class: `message own pending${draft.error ? " failed" : ""}` },
    h("div.bubble", { part: "bubble" }, quote(draft.reply_to, view), ...contentOf(draft.content, { users: [], own: view.user, nameOf: String }),
      h("p.meta", {}, draft.error ? h("span.failure", {}, draft.error) : h("span.sr", {}, "not stored yet"), icon("clock"))),
    draft.error ? h("div.tools", {}, iconButton("send", "Try again", () => view.actions.retry(draft)), iconButton("delete", "Discard", discard)) : null);
}
