/**
 * One of the two users: a connection of their own, and the open room as they see it.
 * @module
 */
import { avatar, describe, h, icon, iconButton, toast } from "./dom.js";
import { Timeline } from "./timeline.js";

/** @typedef {import("/sdk/chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("/sdk/chatapi.js").Message} Message */
/** @typedef {import("/sdk/chatapi.js").Room} Room */
/** @typedef {import("/sdk/chatapi.js").ServerEvent} ServerEvent */
/** @typedef {import("/sdk/chatapi.js").StateChange} StateChange */

/**
 * @typedef {object} Surroundings
 * @property {(entry: import("./frames.js").Entry) => void} frame
 * @property {(event: ServerEvent) => void} roomsChanged
 * @property {(userId: string) => "a" | "b" | undefined} slotOf
 * @property {(roomId: string, userId: string) => Promise<void>} invite lets the other user add this one
 * @property {(error: Error) => void} ended the connection is closed for good
 */

const PAGE = 30;
const READ_DELAY_MS = 80; // many messages at once, as after a reconnect, are one receipt
const LOGGED = new Set(["message", "message.edited", "message.deleted", "room.updated", "member.joined", "member.updated", "member.left"]);
const STATE_TEXT = { connecting: "connecting", syncing: "catching up", live: "live", waiting: "reconnecting", paused: "cut", closed: "closed" };

export class Pane {
  /** @type {Room | null} */ #room = null;
  /** Counts openings, so that what a slow answer brings for an earlier room is dropped. */ #opening = 0;
  /** Events that came while the room was loading. @type {ServerEvent[] | null} */ #early = null;
  /** @type {Map<string, {ack: number, read: number}>} */ #receipts = new Map();
  /** @type {Map<string, ReturnType<typeof setTimeout>>} */ #typists = new Map();
  /** @type {Map<string, string>} user → role */ #members = new Map();
  /** @type {Set<string>} */ #online = new Set();
  /** @type {Message | null} */ #editing = null;
  /** @type {Message | null} */ #replying = null;
  #attended = false;
  #unread = 0;
  /** The connection was lost at this time, and is not back. @type {number | null} */ #downSince = null;
  /** What came between `ready` and `sync.complete`. @type {{events: number, since: number} | null} */ #recovery = null;

  /** @param {ChatAPI} client @param {string} user @param {"a" | "b"} slot @param {Surroundings} surroundings */
  constructor(client, user, slot, surroundings) {
    this.client = client;
    this.user = user;
    this.slot = slot;
    this.around = surroundings;
    this.timeline = new Timeline(user, surroundings.slotOf, {
      reply: (message) => this.#startReply(message),
      edit: (message) => this.#startEdit(message),
      remove: (message) => this.#try(this.connection.delete(message.room_id, message.message_id)),
      retry: (draft) => this.#send(draft),
      older: () => this.#loadOlder(),
    });
    this.#build();
    this.connection = client.connect();
    this.#listen();
  }

  /** The user looks at this pane, or no longer does. @param {boolean} attended */
  attend(attended) {
    this.#attended = attended;
    this.element.classList.toggle("attended", attended);
    if (attended) this.#markRead();
  }

  close() {
    this.connection.close();
    this.element.remove();
  }

  /** @param {Room} room */
  async open(room) {
    const opening = ++this.#opening;
    if (this.#room && !this.#members.has(this.user)) this.#try(this.connection.unsubscribe(this.#room.room_id));
    this.#room = room;
    this.#early = [];
    this.#members.clear();
    this.#receipts.clear();
    this.#online.clear();
    this.#unread = 0;
    this.#newest = 0;
    this.#cancel();
    for (const userId of [...this.#typists.keys()]) this.#stopTyping(userId);
    this.timeline.reset((message) => this.#markOf(message));
    try {
      await this.#load(room, opening);
    } catch (/** @type {any} */ error) {
      if (opening === this.#opening) this.#refuse(error);
    }
  }

  /** @param {Room} room @param {number} opening */
  async #load(room, opening) {
    const roomId = room.room_id;
    const { members } = await this.client.listMembers(roomId, { limit: 100 });
    const isMember = members.some((member) => member.user_id === this.user);
    if (!isMember && room.type === "channel") await this.connection.subscribe(roomId);
    const [page, presence, receipts] = await Promise.all([
      this.client.listMessages(roomId, { limit: PAGE }),
      isMember ? this.client.getPresence(roomId) : { online: [] },
      isMember ? this.client.listReceipts(roomId, { limit: 100 }) : { receipts: [] },
    ]);
    if (opening !== this.#opening) return;
    for (const member of members) this.#members.set(member.user_id, member.role);
    for (const userId of presence.online) this.#online.add(userId);
    for (const receipt of receipts.receipts) this.#receipts.set(receipt.user_id, { ack: receipt.last_ack, read: receipt.last_read });
    const lastRead = this.#receipts.get(this.user)?.read ?? room.last_seq;
    this.timeline.putAll(page.messages);
    this.timeline.started(page.has_more);
    this.#unread = !isMember ? 0 : page.messages.filter((message) => message.sender_id !== this.user && message.seq > lastRead && !message.deleted_at).length;
    const early = this.#early ?? [];
    this.#early = null;
    for (const event of early) this.#apply(event);
    this.#showComposer();
    this.#showOthers();
    this.#showUnread();
    if (this.#attended) this.#markRead();
  }

  /** The room cannot be shown to this user. @param {any} error */
  #refuse(error) {
    this.#early = null;
    const outside = error.status === 403 || error.status === 404;
    this.timeline.reset(() => ({ kind: "stored", label: "" }), outside ? `${this.user} is not in this room.` : `Could not be loaded: ${describe(error)}`);
    this.#showOthers();
    this.composer.hidden = true;
    this.outside.hidden = false;
    const room = /** @type {Room} */ (this.#room);
    this.outside.replaceChildren(outside
      ? h("button.button.primary", { type: "button", onclick: () => this.#try(this.around.invite(room.room_id, this.user)) }, `Add ${this.user}`)
      : h("button.button", { type: "button", onclick: () => this.open(room) }, "Try again"));
  }

  /* What is on the page */

  #build() {
    this.stateText = h("span", {}, "connecting");
    this.statePill = h("span.state", { "data-state": "connecting", role: "status" }, this.stateText);
    this.cutButton = h("button.button.small", { type: "button", onclick: () => this.#toggleConnection() });
    this.unreadBadge = h("span.badge.unread", { hidden: true });
    this.others = h("p.others");
    this.hint = h("div.hint", { hidden: true });
    this.input = h("textarea", {
      rows: 1, placeholder: "Message", "aria-label": `Message as ${this.user}`, maxlength: 65536,
      oninput: () => this.#typed(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
      onblur: () => { if (this.#room) this.connection.typing(this.#room.room_id, false); },
    });
    this.composer = h("form.composer", { onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); this.#submit(); } },
      this.hint, h("div.composer-row", {}, this.input, h("button.send", { type: "submit", title: "Send", "aria-label": `Send as ${this.user}` }, icon("send"))));
    this.outside = h("div.outside", { hidden: true });
    this.element = h("section.pane.panel", { "data-slot": this.slot, "aria-label": this.user },
      h("header.pane-head", {}, avatar(this.user, this.slot),
        h("div.pane-title", {}, h("h2", {}, this.user), this.others),
        this.unreadBadge, this.statePill, this.cutButton),
      this.timeline.element, this.outside, this.composer);
    this.#showCut(false);
  }

  /** @param {boolean} cut */
  #showCut(cut) {
    const label = cut ? "Reconnect" : "Cut";
    this.cutButton.replaceChildren(icon(cut ? "plug" : "cut"), label);
    this.cutButton.title = cut ? "Connect again and catch up" : "Cut this user's connection";
  }

  #showComposer() {
    const room = /** @type {Room} */ (this.#room);
    const member = this.#members.has(this.user);
    this.composer.hidden = !member;
    this.outside.hidden = member;
    if (!member) {
      this.outside.replaceChildren(h("span.muted", {}, "Following without being a member."),
        h("button.button.primary", { type: "button", onclick: () => this.#try(this.client.addMember(room.room_id, this.user)) }, "Join to write"));
    }
  }

  #showOthers() {
    const others = [...this.#members.keys()].filter((userId) => userId !== this.user);
    const told = this.#members.has(this.user); // who only follows is not told of presence
    this.others.replaceChildren(...others.slice(0, 4).map((userId) => {
      const status = this.#online.has(userId) ? "online" : "offline";
      return told ? h("span.presence", { "data-online": String(status === "online"), title: status }, userId, h("span.sr", {}, ` is ${status}`))
        : h("span", {}, userId);
    }), ...(others.length > 4 ? [`+${others.length - 4}`] : []));
  }

  #showUnread() {
    this.unreadBadge.hidden = !this.#unread;
    this.unreadBadge.textContent = String(this.#unread);
    this.unreadBadge.title = `${this.#unread} unread: look into this pane to read`;
  }

  /** @param {StateChange} change */
  #showState({ state, delayMs }) {
    this.statePill.dataset.state = state;
    this.stateText.textContent = state === "waiting" && delayMs ? `retry in ${(delayMs / 1000).toFixed(1)} s` : STATE_TEXT[state];
    this.#showCut(state === "paused");
    this.element.classList.toggle("offline", state !== "live" && state !== "syncing");
  }

  /* The connection */

  #listen() {
    this.connection.on("frame", ({ direction, frame }) =>
      this.around.frame({ slot: this.slot, user: this.user, direction, frame, at: new Date() }));
    this.connection.on("state", (change) => this.#onState(change));
    this.connection.on("error", (error) => toast(`${this.user}: ${describe(error)}`));
    this.connection.on("*", (event) => this.#onEvent(event));
  }

  #toggleConnection() {
    if (this.connection.state === "paused") this.connection.resume();
    else this.connection.pause();
  }

  /** @param {StateChange} change */
  #onState(change) {
    this.#showState(change);
    if (change.state === "waiting" || change.state === "paused") this.#downSince ??= Date.now();
    if (change.state === "closed" && change.error) this.around.ended(change.error);
  }

  /** @param {ServerEvent} event */
  #onEvent(event) {
    if (event.type === "ready" && this.#downSince !== null) this.#recovery = { events: 0, since: performance.now() };
    else if (event.type === "sync.complete") this.#recovered();
    if (this.#recovery && LOGGED.has(event.type) && event.sender_id !== this.user) this.#recovery.events++;
    if (event.type.startsWith("room.") || LOGGED.has(event.type)
      || (event.type === "read.updated" && event.user_id === this.user)) this.around.roomsChanged(event);
    if (event.type === "presence.update") return this.#onPresence(event);
    if (event.type === "sync.reset" && this.#room) return void this.open(this.#room); // the server has another past now
    if (event.room_id !== this.#room?.room_id) return;
    if (this.#early) this.#early.push(event);
    else this.#apply(event);
  }

  #recovered() {
    if (!this.#recovery || this.#downSince === null) return;
    const { events, since } = this.#recovery;
    const away = ((Date.now() - this.#downSince) / 1000).toFixed(1);
    const took = Math.max(1, Math.round(performance.now() - since));
    this.timeline.note(`Back after ${away} s: ${events === 1 ? "1 event" : `${events} events`} recovered in ${took} ms`, "recovery");
    this.#recovery = null;
    this.#downSince = null;
    void this.#refreshPresence();
  }

  /** Presence is not in the log, so what changed meanwhile is asked for. */
  async #refreshPresence() {
    const room = this.#room;
    if (!room || !this.#members.has(this.user)) return;
    const { online } = await this.client.getPresence(room.room_id).catch(() => ({ online: null }));
    if (!online || room !== this.#room) return;
    this.#online = new Set(online);
    this.#showOthers();
  }

  /** @param {ServerEvent} event */
  #onPresence({ user_id: userId, status }) {
    if (status === "online") this.#online.add(userId);
    else this.#online.delete(userId);
    this.#showOthers();
  }

  /** An event of the open room. @param {ServerEvent} event */
  #apply(event) {
    switch (event.type) {
      case "message": return this.#onMessage(/** @type {any} */ (event));
      case "message.edited": return this.#onEdited(event);
      case "message.deleted": return this.#onDeleted(event);
      case "typing": return event.action === "start" ? this.#startTyping(event.user_id) : this.#stopTyping(event.user_id);
      case "ack.received": return this.#onReceipt(event.user_id, event.seq, 0);
      case "read.updated": return this.#onReceipt(event.user_id, event.seq, event.seq);
      case "member.joined":
      case "member.updated":
      case "member.left": return this.#onMember(event);
      case "room.updated":
        this.#room = { .../** @type {Room} */ (this.#room), name: event.name, metadata: event.metadata };
        return this.timeline.note(`The room is now called ${event.name ?? "nothing"}`, "", event.seq);
      case "room.deleted": return this.#refuse({ status: 404 });
      case "room.created": return void this.open(/** @type {Room} */ (this.#room)); // this user was added
    }
  }

  /** @param {Message} message */
  #onMessage(message) {
    this.#stopTyping(message.sender_id);
    const known = this.timeline.get(message.message_id);
    this.timeline.put(message, { recovered: Boolean(this.#recovery) && message.sender_id !== this.user });
    if (message.sender_id === this.user || message.deleted_at) return;
    this.#newest = message.seq;
    if (!this.#members.has(this.user)) return; // who only follows has no receipt
    if (known || message.seq <= (this.#receipts.get(this.user)?.read ?? 0)) return;
    this.#unread++;
    this.#showUnread();
    if (this.#attended) this.#markRead();
  }

  /** @param {ServerEvent} event */
  #onEdited({ message_id, content, meta, edited_at }) {
    const known = this.timeline.get(message_id);
    if (known && !known.deleted_at) this.timeline.put({ ...known, content, meta, edited_at });
  }

  /** @param {ServerEvent} event */
  #onDeleted({ message_id }) {
    const known = this.timeline.get(message_id);
    if (known) this.timeline.put({ ...known, content: null, deleted_at: known.deleted_at ?? new Date().toISOString() });
  }

  /** @param {ServerEvent} event */
  #onMember({ type, user_id: userId, role, seq }) {
    if (type === "member.left") this.#members.delete(userId);
    else this.#members.set(userId, role);
    const what = { "member.joined": "joined", "member.left": "left", "member.updated": `is now ${role}` }[type];
    this.timeline.note(`${userId} ${what}`, "", seq);
    if (userId === this.user) void this.open(/** @type {Room} */ (this.#room));
    else this.#showOthers();
  }

  /** @param {string} userId @param {number} ack @param {number} read */
  #onReceipt(userId, ack, read) {
    const known = this.#receipts.get(userId) ?? { ack: 0, read: 0 };
    this.#receipts.set(userId, { ack: Math.max(known.ack, ack), read: Math.max(known.read, read) });
    if (userId !== this.user) this.timeline.refreshMarks();
  }

  /** How far one's own message has come: with all the others, or only stored. @param {Message} message */
  #markOf(message) {
    const others = [...this.#members.keys()].filter((userId) => userId !== this.user).map((userId) => this.#receipts.get(userId));
    if (others.length && others.every((receipt) => (receipt?.read ?? 0) >= message.seq)) return { kind: "read", label: "Read" };
    if (others.length && others.every((receipt) => (receipt?.ack ?? 0) >= message.seq)) return { kind: "delivered", label: "Delivered" };
    return { kind: "stored", label: "Stored" };
  }

  /** The newest seq of the room that somebody else wrote. */ #newest = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #readTimer;

  #markRead() {
    const room = this.#room;
    if (!room || !this.#unread || !this.#members.has(this.user)) return;
    this.#unread = 0;
    this.#showUnread();
    clearTimeout(this.#readTimer);
    this.#readTimer = setTimeout(() => {
      if (room !== this.#room) return;
      const seq = Math.max(this.#newest, Number(this.timeline.list.lastElementChild?.dataset.seq ?? 0));
      this.#try(this.connection.read(room.room_id, seq));
    }, READ_DELAY_MS);
  }

  /** @param {string} userId */
  #startTyping(userId) {
    clearTimeout(this.#typists.get(userId));
    this.#typists.set(userId, setTimeout(() => this.#stopTyping(userId), 8000)); // a lost stop must not stay
    this.timeline.showTyping([...this.#typists.keys()]);
  }

  /** @param {string} userId */
  #stopTyping(userId) {
    clearTimeout(this.#typists.get(userId));
    if (this.#typists.delete(userId)) this.timeline.showTyping([...this.#typists.keys()]);
  }

  /** @returns {Promise<boolean>} */
  async #loadOlder() {
    const opening = this.#opening;
    const before = this.timeline.oldestSeq;
    if (!this.#room || before === undefined) return false;
    try {
      const page = await this.client.listMessages(this.#room.room_id, { before_seq: before, limit: PAGE });
      if (opening !== this.#opening) return false;
      this.timeline.putAll(page.messages);
      return page.has_more;
    } catch (error) {
      toast(describe(error));
      return false;
    }
  }

  /* Writing */

  /** @param {Message} message */
  #startReply(message) {
    this.#cancel();
    this.#replying = message;
    this.#showHint(`Reply to ${message.sender_id}`, message.content ?? "");
  }

  /** @param {Message} message */
  #startEdit(message) {
    this.#cancel();
    this.#editing = message;
    this.input.value = message.content;
    this.#showHint("Edit", message.content ?? "");
  }

  /** @param {string} title @param {string} text */
  #showHint(title, text) {
    this.hint.replaceChildren(h("b", {}, title), h("span", {}, text), iconButton("close", "Cancel", () => this.#cancel()));
    this.hint.hidden = false;
    this.#fit();
    this.input.focus();
  }

  #cancel() {
    if (this.#editing) this.input.value = "";
    this.#editing = this.#replying = null;
    this.hint.hidden = true;
    this.#fit();
  }

  #typed() {
    this.#fit();
    if (this.#room && !this.#editing) this.connection.typing(this.#room.room_id, this.input.value !== "");
  }

  #fit() {
    this.input.style.setProperty("height", "auto");
    this.input.style.setProperty("height", `${Math.min(this.input.scrollHeight, 160)}px`);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === "Escape") this.#cancel();
    else if (event.key === "ArrowUp" && this.input.value === "") {
      const last = this.timeline.lastOwn();
      if (last) { event.preventDefault(); this.#startEdit(last); }
    }
  }

  #submit() {
    const content = this.input.value.trim();
    const room = this.#room;
    if (!content || !room) return;
    this.input.value = "";
    const editing = this.#editing;
    const replyTo = this.#replying?.message_id ?? null;
    this.#editing = null;
    this.#cancel();
    if (!editing) this.#send({ content, reply_to: replyTo, client_message_id: `pg-${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 10)}` });
    else if (content !== editing.content) this.#try(this.connection.edit(room.room_id, editing.message_id, { content, meta: editing.meta }));
  }

  /** @param {import("./timeline.js").Draft} draft */
  async #send({ content, reply_to, client_message_id }) {
    const room = /** @type {Room} */ (this.#room);
    const draft = { content, reply_to, client_message_id };
    this.timeline.putDraft(draft);
    try {
      await this.connection.send(room.room_id, { content, client_message_id, ...(reply_to && { reply_to }) });
    } catch (/** @type {any} */ error) {
      if (error.code !== "CLOSED" && room === this.#room) this.timeline.putDraft({ ...draft, error: describe(error) });
    }
  }

  /** @param {Promise<unknown>} call */
  async #try(call) {
    try {
      await call;
    } catch (/** @type {any} */ error) {
      if (error.code !== "CLOSED") toast(`${this.user}: ${describe(error)}`);
    }
  }
}
