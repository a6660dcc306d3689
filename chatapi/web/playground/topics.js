/**
 * Notifications: topics that the two users subscribe to, what they were notified of, and a form to notify.
 * @module
 */
import { clock, describe, h, iconButton } from "/sdk/room/dom.js";
import { toast } from "./toast.js";
import { people } from "./people.js";
import { tree } from "./tree.js";

/** @typedef {import("/sdk/chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("/sdk/chatapi.js").Room} Room */

const PAGE = 20;

export class Topics {
  /** @type {Inbox[]} */ #inboxes;
  /** @type {Room | null} */ #room = null;

  /** @param {HTMLElement} root @param {Record<"a" | "b", ChatAPI>} clients @param {Record<"a" | "b", string>} users @param {(pending: number) => void} pending told how many wait for their ack */
  constructor(root, clients, users, pending) {
    this.client = clients.a;
    const tell = () => pending(this.#inboxes.reduce((sum, inbox) => sum + inbox.pending, 0));
    this.#inboxes = /** @type {const} */ (["a", "b"]).map((slot) => new Inbox(clients[slot], users[slot], slot, tell));
    this.topic = h("input", { "aria-label": "Topic", placeholder: "topic", value: "order.shipped", required: true, maxlength: 200, dir: "auto" });
    this.payload = h("textarea.raw-input", { rows: 3, spellcheck: "false", "aria-label": "Payload, as JSON", dir: "ltr" });
    this.payload.value = '{"order": 42}';
    this.users = h("input", { "aria-label": "User ids, separated by commas", placeholder: "user ids, separated by commas", autocomplete: "off", spellcheck: "false" });
    this.subscribers = h("input", { type: "checkbox", checked: true });
    this.members = h("input", { type: "checkbox" });
    this.outcome = h("p.outcome", { role: "status", hidden: true });
    const form = h("form.notify-form", { onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); void this.#notify(); } },
      h("h2", {}, "Notify"), this.topic, this.payload, this.users,
      h("label.check", {}, this.subscribers, "subscribers of the topic"), h("label.check", {}, this.members, "members of the open room"),
      h("div.raw-row", {}, h("button.button.small.primary", { type: "submit" }, "Notify"), this.outcome));
    root.replaceChildren(h("div.side-scroll", { tabindex: 0, role: "region", "aria-label": "Notifications" }, form, ...this.#inboxes.map((inbox) => inbox.element)));
  }

  /** @param {Room} room */
  open(room) { this.#room = room; }

  /** @param {boolean} shown */
  show(shown) { if (shown) for (const inbox of this.#inboxes) inbox.refresh(); }

  /** A notification came in. @param {"a" | "b"} slot */
  heard(slot) { this.#inboxes.find((inbox) => inbox.slot === slot)?.refreshSoon(); }

  async #notify() {
    try {
      const userIds = this.users.value.split(/[\s,]+/).filter(Boolean);
      const { recipients } = await this.client.notify({
        topic: this.topic.value.trim(), payload: parse(this.payload.value),
        targets: {
          ...(userIds.length && { user_ids: userIds }),
          ...(this.subscribers.checked && { topic_subscribers: true }),
          ...(this.members.checked && this.#room && { room_id: this.#room.room_id }),
        },
      });
      this.#say(`Stored for ${recipients === 1 ? "1 recipient" : `${recipients.toLocaleString()} recipients`}.`, false);
    } catch (error) {
      this.#say(describe(error), true);
    }
  }

  /** @param {string} text @param {boolean} failed */
  #say(text, failed) {
    this.outcome.hidden = false;
    this.outcome.dataset.failed = String(failed);
    this.outcome.textContent = text;
  }
}

/** @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch (/** @type {any} */ error) {
    throw Object.assign(new Error(error.message), { field: "payload" });
  }
}

/** One user's subscriptions and notifications. */
class Inbox {
  /** @type {Map<string, any>} */ #items = new Map();
  /** @type {string | undefined} */ #cursor;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;

  /** @param {ChatAPI} client @param {string} user @param {"a" | "b"} slot @param {() => void} changed */
  constructor(client, user, slot, changed) {
    this.client = client;
    this.slot = slot;
    this.changed = changed;
    this.topics = h("ul.topic-list", { "aria-label": `Topics of ${user}` });
    this.list = h("ol.notification-list", { "aria-label": `Notifications of ${user}` });
    this.more = h("button.button.small", { type: "button", hidden: true, onclick: () => this.#loadMore() }, "Older ones");
    this.input = h("input", { "aria-label": `Topic for ${user}`, placeholder: "topic", required: true, maxlength: 200, dir: "auto" });
    this.element = h("section.inbox", { "data-slot": slot, "aria-label": `Notifications of ${user}` },
      h("h2", {}, people.avatar(user, slot), h("span.member-name", { title: user }, user)),
      this.topics,
      h("form.side-form", { onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); void this.#subscribe(); } },
        this.input, h("button.button.small", { type: "submit" }, "Subscribe")),
      this.list, this.more);
  }

  get pending() { return [...this.#items.values()].filter((item) => !item.acked_at && item.status !== "delivered").length; }

  refreshSoon() {
    this.#timer ??= setTimeout(() => { this.#timer = undefined; void this.refresh(); }, 150);
  }

  refresh() {
    return this.#try(async () => {
      const [{ subscriptions }, page] = await Promise.all([this.#allSubscriptions(), this.client.listNotifications({ limit: PAGE })]);
      this.topics.replaceChildren(...subscriptions.map((one) => h("li.topic", {}, h("span", { dir: "auto", title: one.topic }, one.topic),
        iconButton("close", `Remove the topic ${one.topic}`, () => this.#unsubscribe(one.subscription_id)))));
      const first = this.#items.size === 0;
      const older = [...this.#items].filter(([id]) => !page.notifications.some((one) => one.notification_id === id));
      this.#items = new Map([...page.notifications.map((/** @type {any} */ one) => /** @type {[string, any]} */ ([one.notification_id, one])), ...older]);
      if (first) this.#remember(page);
      this.#render();
    });
  }

  /** All pages, as a list without its end would hide what one is told of. @returns {Promise<{subscriptions: any[]}>} */
  async #allSubscriptions() {
    const subscriptions = [];
    for (let page; !page || (page.has_more && subscriptions.length < 1000);) {
      page = /** @type {any} */ (await /** @type {any} */ (this.client).listSubscriptions({ limit: 100, offset: subscriptions.length }));
      subscriptions.push(...page.subscriptions);
      if (!page.subscriptions.length) break;
    }
    return { subscriptions };
  }

  #loadMore() {
    return this.#try(async () => {
      const start = this.#cursor ? { cursor: this.#cursor } : { offset: this.#items.size };
      const page = await this.client.listNotifications(/** @type {any} */ ({ limit: PAGE, ...start }));
      for (const item of page.notifications) this.#items.set(item.notification_id, item);
      this.#remember(page);
      this.#render();
    });
  }

  /** @param {any} page */
  #remember(page) {
    this.#cursor = page.next_cursor ?? undefined;
    this.more.hidden = !page.has_more;
  }

  #render() {
    this.list.replaceChildren(...[...this.#items.values()].map((item) => this.#row(item)));
    if (!this.#items.size) this.list.append(h("li.muted", {}, "No notifications yet."));
    this.changed();
  }

  /** @param {any} item */
  #row(item) {
    const open = !item.acked_at && item.status !== "delivered";
    return h("li.notification", { "data-status": open ? "pending" : "delivered" },
      h("div.notification-head", {}, h("b", { dir: "auto", title: item.topic }, item.topic), h("span.role", {}, open ? "pending" : "acknowledged"),
        h("time.muted", { datetime: item.created_at, title: item.created_at }, clock(item.created_at)),
        open ? h("button.button.small", { type: "button", onclick: () => this.#ack(item.notification_id) }, "Ack") : null),
      h("div.notification-payload", {}, tree(item.payload)));
  }

  /** @param {string} notificationId */
  #ack(notificationId) {
    return this.#try(async () => {
      await this.client.ackNotification(notificationId);
      await this.refresh();
    });
  }

  #subscribe() {
    return this.#try(async () => {
      await this.client.subscribeTopic(this.input.value.trim());
      this.input.value = "";
      await this.refresh();
    });
  }

  /** @param {string} subscriptionId */
  #unsubscribe(subscriptionId) {
    return this.#try(async () => {
      await this.client.unsubscribeTopic(subscriptionId);
      await this.refresh();
    });
  }

  /** @param {() => Promise<unknown>} change */
  async #try(change) {
    try {
      await change();
    } catch (error) {
      toast(`Notifications: ${describe(error)}`);
    }
  }
}
