/**
 * One of the two users: the open room as they see it.
 * @module
 */
import { isLogEvent } from "/sdk/chatapi.js";
import { Composer } from "./composer.js";
import { describe, h, toast } from "./dom.js";
import { PaneHead } from "./pane-head.js";
import { Link } from "./link.js";
import { Timeline } from "./timeline.js";

/** @typedef {import("/sdk/chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("/sdk/chatapi.js").Message} Message */
/** @typedef {import("/sdk/chatapi.js").Room} Room */
/** @typedef {import("/sdk/chatapi.js").ServerEvent} ServerEvent */
/** @typedef {import("/sdk/chatapi.js").Standing} Standing */

/**
 * @typedef {object} Surroundings
 * @property {(entry: {direction: "in" | "out", frame: any}) => void} frame
 * @property {(event: ServerEvent) => void} happened an event that rooms, members or notifications may show
 * @property {(userId: string) => "a" | "b" | undefined} slotOf
 * @property {(roomId: string) => Standing | undefined} standing how this user stands in a room, as far as the list of rooms is loaded
 * @property {(room: Room) => string} nameOf
 * @property {(roomId: string, userId: string) => Promise<void>} invite lets the other user add this one
 * @property {(condition: import("./link.js").Condition) => void} condition of the connection
 * @property {() => void} details shows more of the open room
 */

const PAGE = 30;
const READ_DELAY_MS = 80; // many messages at once, as after a reconnect, are one receipt
const KNOWN_MS = 2000; // for the connection to tell which rooms the user is in
const RECEIPTS_UP_TO = 100; // members: the server tells nobody of receipts in larger rooms,
const PRESENCE_UP_TO = 200; // nor of presence
const TYPING_MS = 8000; // a lost stop must not stay

export class Pane {
  /** @type {Room | null} */ #room = null;
  #member = false;
  /** Counts openings, so that what a slow answer brings for an earlier room is dropped. */ #opening = 0;
  /** Events that came while the room was loading. @type {ServerEvent[] | null} */ #early = null;
  /** @type {Map<string, {ack: number, read: number}>} */ #receipts = new Map();
  /** @type {Map<string, ReturnType<typeof setTimeout>>} */ #typists = new Map();
  /** The first of them, all in a small room. @type {Set<string>} */ #members = new Set();
  #memberCount = 0;
  /** @type {Set<string>} */ #online = new Set();
  /** The room could not be loaded, though it may be there. */ #failed = false;
  #attended = false;
  #unread = 0;
  /** The newest seq of the room that somebody else wrote. */ #newest = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #readTimer;
  /** The connection was lost at this time, and is not back. @type {number | null} */ #downSince = null;
  /** The events between `ready` and `sync.complete`. @type {{events: number, since: number} | null} */ #recovery = null;

  /** @param {ChatAPI} client @param {import("./link.js").Wire} wire @param {string} user @param {"a" | "b"} slot @param {Surroundings} around */
  constructor(client, wire, user, slot, around) {
    this.client = client;
    this.user = user;
    this.slot = slot;
    this.around = around;
    this.timeline = new Timeline(user, around.slotOf, {
      reply: (message) => this.composer.reply(message),
      edit: (message) => this.composer.edit(message),
      remove: (message) => this.#try(this.connection.delete(message.room_id, message.message_id)),
      retry: (draft) => this.#send(draft),
      older: () => this.#loadOlder(),
    });
    this.composer = new Composer(user, {
      send: (content, replyTo) => this.#send({ content, reply_to: replyTo, client_message_id: `pg-${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 10)}` }),
      edit: ({ room_id: roomId, message_id: messageId, meta }, content) => this.#try(this.connection.edit(roomId, messageId, { content, meta })),
      typing: (active) => { if (this.#room) this.connection.typing(this.#room.room_id, active); },
      lastOwn: () => this.timeline.lastOwn(),
    });
    this.head = new PaneHead(user, slot, { toggle: () => this.link.toggle(), retry: () => this.link.retryNow(), details: () => around.details() });
    this.outside = h("div.outside", { hidden: true });
    this.element = h("section.pane.panel", { "data-slot": slot, "aria-label": user },
      this.head.element, this.head.notice, this.timeline.element, this.outside, this.composer.element);
    this.link = new Link(client, user, wire, {
      frame: (direction, frame) => around.frame({ direction, frame }),
      event: (event) => this.#onEvent(event),
      condition: (condition) => this.#onCondition(condition),
      error: (error) => this.#complain(error),
      rooms: () => this.#reconsider(),
    });
  }

  get connection() { return this.link.connection; }

  /** The user looks at this pane, or no longer does. @param {boolean} attended */
  attend(attended) {
    this.#attended = attended;
    this.element.classList.toggle("attended", attended);
    if (attended) this.#markRead();
  }

  /** The names for a raw frame about the open room. @returns {import("./raw.js").Present} */
  present() {
    const own = this.timeline.lastOwn();
    return { room_id: this.#room?.room_id, seq: this.timeline.newestSeq, ...(own && { message_id: own.message_id }) };
  }

  close() {
    this.link.close();
    this.head.close();
    this.element.remove();
  }

  /** @param {Room} room */
  async open(room) {
    const opening = ++this.#opening;
    if (this.#room && !this.#member && this.#room.room_id !== room.room_id) this.#try(this.connection.unsubscribe(this.#room.room_id));
    this.#room = room;
    this.#early = [];
    this.#members.clear();
    this.#receipts.clear();
    this.#online.clear();
    this.#unread = 0;
    this.#newest = 0;
    this.#failed = false;
    this.composer.cancel();
    for (const userId of [...this.#typists.keys()]) this.#stopTyping(userId);
    this.timeline.reset((message) => this.#markOf(message));
    this.showName();
    try {
      await this.#load(room, opening);
    } catch (/** @type {any} */ error) {
      if (opening === this.#opening) this.#refuse(error);
    }
  }

  /** The room's name, which others may have changed. */
  showName() {
    if (!this.#room) return;
    const name = this.around.nameOf(this.#room);
    this.head.showRoom(name);
    this.element.setAttribute("aria-label", `${this.user} in ${name}`);
  }

  /** @param {Room} room @param {number} opening */
  async #load(room, opening) {
    const roomId = room.room_id;
    const { members, has_more: hasMore } = await this.client.listMembers(roomId, { limit: RECEIPTS_UP_TO });
    const member = await this.#findMembership(room, members.map((one) => one.user_id), hasMore);
    if (opening !== this.#opening) return;
    if (!member && room.type === "channel") await this.connection.subscribe(roomId);
    const count = hasMore ? Math.max(room.member_count, members.length + 1) : members.length;
    const [page, presence, receipts] = await Promise.all([
      this.client.listMessages(roomId, { limit: PAGE }),
      member && count <= PRESENCE_UP_TO ? this.client.getPresence(roomId) : { online: [] },
      member && count <= RECEIPTS_UP_TO ? this.client.listReceipts(roomId, { limit: RECEIPTS_UP_TO }) : { receipts: [] },
    ]);
    if (opening !== this.#opening) return;
    this.#member = member;
    this.#memberCount = count;
    for (const { user_id: userId } of members) this.#members.add(userId);
    for (const userId of presence.online) this.#online.add(userId);
    for (const receipt of receipts.receipts) this.#receipts.set(receipt.user_id, { ack: receipt.last_ack, read: receipt.last_read });
    this.timeline.putAll(page.messages);
    this.timeline.started(page.has_more);
    this.#unread = this.#countUnread(page);
    const early = this.#early ?? [];
    this.#early = null;
    for (const event of early) this.#apply(event);
    this.#showComposer();
    this.#showOthers();
    this.head.showUnread(this.#unread);
    if (this.#attended) this.#markRead();
  }

  /**
   * Whether this user is in the room. A list of members says so only when it is whole or names them: the connection knows all of
   * the user's rooms, and all who can read a private room are in it.
   * @param {Room} room @param {string[]} members the first of them @param {boolean} more there are
   */
  async #findMembership(room, members, more) {
    if (members.includes(this.user)) return true;
    if (!more) return false;
    if (room.type !== "channel" || this.around.standing(room.room_id)) return true;
    await this.link.known(KNOWN_MS);
    return this.link.isMember(room.room_id)
      ?? this.client.getPresence(room.room_id).then(() => true, (error) => { if (error.status === 403) return false; throw error; });
  }

  /** @param {{messages: Message[], has_more: boolean}} page */
  #countUnread({ messages, has_more: hasMore }) {
    const roomId = /** @type {Room} */ (this.#room).room_id;
    const standing = this.around.standing(roomId);
    const lastRead = this.#receipts.get(this.user)?.read ?? this.link.lastRead(roomId) ?? standing?.last_read;
    if (!this.#member || lastRead === undefined) return 0;
    this.#receipts.set(this.user, { ack: 0, ...this.#receipts.get(this.user), read: lastRead });
    const others = messages.filter((message) => message.sender_id !== this.user && !message.deleted_at);
    this.#newest = others.at(-1)?.seq ?? 0;
    const unread = others.filter((message) => message.seq > lastRead).length;
    const beyond = hasMore && messages[0].seq > lastRead + 1; // the page is not all of it
    return beyond ? Math.max(unread, standing?.unread_count ?? 0) : unread;
  }

  /** The connection tells its rooms: it may have been taken for something else. */
  #reconsider() {
    const room = this.#room;
    if (!room || this.#early) return;
    const member = this.link.isMember(room.room_id);
    if (member !== undefined && member !== this.#member) void this.open(room);
  }

  /** The room cannot be shown to this user. @param {any} error */
  #refuse(error) {
    this.#early = null;
    this.#member = false;
    this.#memberCount = 0;
    const room = /** @type {Room} */ (this.#room);
    const outside = error.status === 403 || error.status === 404;
    this.#failed = !outside;
    this.timeline.reset(() => ({ kind: "stored", label: "" }), outside ? `${this.user} is not in this room.` : `Could not be loaded: ${describe(error)}`);
    this.#showOthers();
    this.composer.element.hidden = true;
    this.outside.hidden = false;
    const add = h("button.button.primary", { type: "button", onclick: () => this.#try(this.around.invite(room.room_id, this.user)) }, `Add ${this.user}`);
    const again = h("button.button", { type: "button", onclick: () => this.open(room) }, "Try again");
    this.outside.replaceChildren(!outside ? again : room.type === "dm" ? "A direct message always has the same two members." : add);
  }

  #showComposer() {
    const room = /** @type {Room} */ (this.#room);
    this.composer.element.hidden = !this.#member;
    this.outside.hidden = this.#member;
    if (this.#member) return;
    this.outside.replaceChildren(h("span.muted", {}, "Following without being a member."),
      h("button.button.primary", { type: "button", onclick: () => this.#try(this.client.addMember(room.room_id, this.user)) }, "Join to write"));
  }

  #showOthers() {
    const others = [...this.#members].filter((userId) => userId !== this.user);
    const told = this.#member && this.link?.isUp && this.#memberCount <= PRESENCE_UP_TO; // users who only follow are not told of presence
    this.head.showOthers(others, this.#memberCount - (this.#member ? 1 : 0), told ? this.#online : null);
  }

  /* The connection */

  /** @param {import("./link.js").Condition} condition */
  #onCondition(condition) {
    this.head.showCondition(condition);
    this.element.classList.toggle("offline", condition.state !== "live" && condition.state !== "syncing");
    if (condition.state === "waiting" || condition.state === "paused") this.#downSince ??= Date.now();
    this.#showOthers();
    this.around.condition(condition);
  }

  /** @param {ServerEvent} event */
  #onEvent(event) {
    if (event.type === "ready" && this.#downSince !== null) this.#recovery = { events: 0, since: performance.now() };
    else if (event.type === "sync.complete") this.#recovered();
    if (this.#recovery && isLogEvent(event) && event.sender_id !== this.user) this.#recovery.events++;
    this.around.happened(event);
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
    if (this.#room && this.#failed) return void this.open(this.#room);
    void this.#refreshPresence();
  }

  /** Presence is not in the log, so what changed meanwhile is asked for. */
  async #refreshPresence() {
    const room = this.#room;
    if (!room || !this.#member || this.#memberCount > PRESENCE_UP_TO) return;
    const { online } = await this.client.getPresence(room.room_id).catch(() => ({ online: null }));
    if (!online || room !== this.#room) return;
    this.#online = new Set(online);
    this.#showOthers();
  }

  /** @param {ServerEvent} event */
  #onPresence({ user_id: userId, status }) {
    if (status === "offline") this.#online.delete(userId);
    else this.#online.add(userId); // away, busy, or any status of a newer server: the user is there
    this.#showOthers();
  }

  /** An event of the open room. @param {ServerEvent} event */
  #apply(event) {
    switch (event.type) {
      case "message": return this.#onMessage(/** @type {any} */ (event));
      case "message.edited": return this.#onEdited(event);
      case "message.deleted": return this.#onDeleted(event);
      case "reaction.added":
      case "reaction.removed":
      case "message.pinned":
      case "message.unpinned": return; // the timeline shows neither
      case "typing": return event.action === "start" ? this.#startTyping(event.user_id) : this.#stopTyping(event.user_id);
      case "ack.received": return this.#onReceipt(event.user_id, event.seq, 0);
      case "read.updated": return this.#onReceipt(event.user_id, event.seq, event.seq);
      case "member.joined":
      case "member.updated":
      case "member.left":
      case "member.banned":
      case "member.unbanned": return this.#onMember(event);
      case "room.updated":
        this.#room = { .../** @type {Room} */ (this.#room), name: event.name, metadata: event.metadata };
        this.showName();
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
    if (!this.#member) return; // users who only follow have no receipt
    if (known || message.seq <= (this.#receipts.get(this.user)?.read ?? 0)) return;
    this.head.showUnread(++this.#unread);
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
  #onMember({ type, user_id: userId, role, muted_until: mutedUntil, seq }) {
    if (type === "member.left" || type === "member.banned") {
      if (this.#members.delete(userId) || this.#memberCount > this.#members.size) this.#memberCount--;
    } else if (type === "member.joined" && !this.#members.has(userId)) {
      this.#memberCount++;
      if (this.#memberCount <= RECEIPTS_UP_TO) this.#members.add(userId);
    }
    const told = {
      "member.joined": "joined", "member.left": "left", "member.updated": mutedUntil ? "is muted" : `is now ${role}`,
      "member.banned": "is banned", "member.unbanned": "is no longer banned",
    };
    this.timeline.note(`${userId} ${told[type]}`, "", seq);
    if (userId === this.user && type !== "member.updated" && type !== "member.unbanned") void this.open(/** @type {Room} */ (this.#room));
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
    if (this.#memberCount > RECEIPTS_UP_TO) return { kind: "stored", label: `Stored; a room of more than ${RECEIPTS_UP_TO} tells nobody who has read` };
    const others = [...this.#members].filter((userId) => userId !== this.user).map((userId) => this.#receipts.get(userId));
    if (others.length && others.every((receipt) => (receipt?.read ?? 0) >= message.seq)) return { kind: "read", label: "Read" };
    if (others.length && others.every((receipt) => (receipt?.ack ?? 0) >= message.seq)) return { kind: "delivered", label: "Delivered" };
    return { kind: "stored", label: "Stored" };
  }

  #markRead() {
    const room = this.#room;
    if (!room || !this.#unread || !this.#member) return;
    this.head.showUnread(this.#unread = 0);
    clearTimeout(this.#readTimer);
    this.#readTimer = setTimeout(() => {
      if (room.room_id === this.#room?.room_id && this.#newest) this.#try(this.connection.read(room.room_id, this.#newest));
    }, READ_DELAY_MS);
  }

  /** @param {string} userId */
  #startTyping(userId) {
    clearTimeout(this.#typists.get(userId));
    this.#typists.set(userId, setTimeout(() => this.#stopTyping(userId), TYPING_MS));
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

  /** @param {import("./message.js").Draft} draft */
  async #send({ content, reply_to, client_message_id }) {
    const room = this.#room;
    if (!room) return;
    const draft = { content, reply_to, client_message_id };
    this.timeline.putDraft(draft);
    try {
      await this.connection.send(room.room_id, { content, client_message_id, ...(reply_to && { reply_to }) });
    } catch (/** @type {any} */ error) {
      if (error.code !== "CLOSED" && room.room_id === this.#room?.room_id) this.timeline.putDraft({ ...draft, error: describe(error) });
    }
  }

  /** @param {Promise<unknown>} call */
  async #try(call) {
    try {
      await call;
    } catch (error) {
      this.#complain(error);
    }
  }

  /** @param {any} error */
  #complain(error) {
    if (error.code !== "CLOSED") toast(`${this.user}: ${describe(error)}`);
  }
}
