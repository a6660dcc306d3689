/**
 * The pinned messages of the open room, above its messages.
 * @module
 */
import { clock, h, iconButton } from "./dom.js";
import { icon } from "./icons.js";
import { startOf } from "./growing.js";

/** @typedef {import("../chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("../chatapi.js").Message} Message */

const MOST = 100; // the server keeps no more
const AGAIN_MS = 100; // several changes at once, as after a reconnect, are one look

export class Pins {
  /** @type {string | null} */ #roomId = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  #mayPin = false;

  /** @param {ChatAPI} client @param {string} user @param {{show: (messageId: string) => void, unpin: (message: Message) => void}} actions @param {import("./people.js").People} people */
  constructor(client, user, actions, people) {
    this.people = people;
    this.client = client;
    this.actions = actions;
    this.count = h("span");
    this.list = h("ol.pin-list", { "aria-label": `Pinned messages as ${user} sees them` });
    this.element = h("details.pins", { hidden: true }, h("summary", {}, icon("pin"), this.count), this.list);
  }

  close() {
    this.#roomId = null;
    this.element.hidden = true;
    this.element.open = false;
  }

  /** @param {string} roomId @param {boolean} mayPin */
  open(roomId, mayPin) {
    this.#mayPin = mayPin;
    this.#roomId = roomId;
    void this.#load();
  }

  /** A message was pinned or unpinned, or one that was pinned has changed. */
  refreshSoon() {
    this.#timer ??= setTimeout(() => { this.#timer = undefined; void this.#load(); }, AGAIN_MS);
  }

  async #load() {
    const roomId = this.#roomId;
    if (roomId === null) return;
    const page = await this.client.listPins(roomId, { limit: MOST }).catch(() => null); // being offline is shown already
    if (!page || roomId !== this.#roomId) return;
    this.element.hidden = !page.messages.length;
    this.count.textContent = `${page.messages.length} pinned ${page.messages.length === 1 ? "message" : "messages"}`;
    this.list.replaceChildren(...page.messages.map((message) => this.#row(message)));
  }

  /** @param {Message} message */
  #row(message) {
    return h("li.pin", { "data-pin": message.message_id },
      h("button.quote", { type: "button", title: "Show this message", onclick: () => this.actions.show(message.message_id) },
        h("span", {}, this.people.nameElement(message.sender_id, "b"), " ", h("time.muted", { datetime: message.created_at }, clock(message.created_at))),
        h("span", { dir: "auto" }, startOf(message, 200))),
      this.#mayPin ? iconButton("close", "Unpin", () => this.actions.unpin(message)) : null);
  }
}
