/**
 * A thread: a message and the replies to it, in place of the room's messages.
 * @module
 */
import { applyEvent } from "../chatapi.js";
import { h, iconButton } from "./dom.js";
import { icon } from "./icons.js";
import { Timeline } from "./timeline.js";

/** @typedef {import("../chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("../chatapi.js").Message} Message */
/** @typedef {import("../chatapi.js").ServerEvent} ServerEvent */

const PAGE = 30;

export class Thread {
  /** @type {Message | null} */ root = null;
  /** @type {number | undefined} */ #oldest;

  /** @param {ChatAPI} client @param {import("./message.js").Viewer} viewer @param {import("./message.js").Actions} actions @param {HTMLElement} place after which it stands @param {(byHand: boolean) => void} closed */
  constructor(client, viewer, actions, place, closed) {
    const { user } = viewer;
    this.client = client;
    this.place = place;
    this.closed = closed;
    this.timeline = new Timeline(viewer, { ...actions, older: (limit) => this.#loadOlder(limit) }, "thread");
    this.timeline.log.setAttribute("aria-label", `A thread as ${user} sees it`);
    this.title = h("h3", { tabindex: -1 });
    this.element = h("section.thread", { "aria-label": `Thread, ${user}` },
      h("header.thread-head", {}, icon("thread"), this.title, iconButton("close", "Close the thread", () => this.close())), this.timeline.element);
  }

  /** @param {Message} root @param {(message: Message) => import("./message.js").Mark} markOf */
  async open(root, markOf) {
    this.root = root;
    this.#oldest = undefined;
    this.timeline.reset(markOf);
    this.timeline.put(root);
    this.place.after(this.element);
    this.#showTitle();
    const { messages, has_more: hasMore } = await this.client.listMessages(root.room_id, { thread_id: root.message_id, limit: PAGE });
    if (this.root?.message_id !== root.message_id) return;
    this.#take(messages);
    this.timeline.started(hasMore);
  }

  close(byHand = true) {
    if (!this.root) return;
    this.root = null;
    this.element.remove();
    this.closed(byHand);
  }

  /** An event of the room, which may be of this thread. @param {ServerEvent} event */
  apply(event) {
    const root = this.root;
    if (!root) return;
    this.root = applyEvent(root, event);
    this.timeline.change(event);
    if (event.type === "message" && event.thread_id === root.message_id && !this.timeline.get(event.message_id)) this.timeline.put(/** @type {any} */ (event));
    if (this.root !== root) this.#showTitle();
  }

  #showTitle() {
    const count = this.root?.thread?.reply_count ?? 0;
    this.title.textContent = count === 1 ? "Thread: 1 reply" : `Thread: ${count.toLocaleString()} replies`;
  }

  /** @param {Message[]} messages */
  #take(messages) {
    this.#oldest = messages[0]?.seq ?? this.#oldest;
    this.timeline.putAll(messages);
  }

  /** @param {number} [limit] */
  async #loadOlder(limit = PAGE) {
    const root = this.root;
    if (!root || this.#oldest === undefined) return false;
    const page = await this.client.listMessages(root.room_id, { thread_id: root.message_id, before_seq: this.#oldest, limit }).catch(() => ({ messages: [], has_more: true }));
    if (this.root?.message_id !== root.message_id) return false;
    this.#take(page.messages);
    return page.has_more;
  }
}
