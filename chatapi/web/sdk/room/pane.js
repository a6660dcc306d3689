/**
 * A room as one user sees it: its messages, a field to write, and the state of the connection.
 * @module
 */
import { applyEvent, isLogEvent } from "../chatapi.js";
import { actionsOf } from "./actions.js";
import { Addressees } from "./addressees.js";
import { Composer } from "./composer.js";
import { describe, h } from "./dom.js";
import { describeReaction, describeRoomChanges } from "./event-texts.js";
import { Growth } from "./growing.js";
import { Link } from "./link.js";
import { PAGE, readRoom } from "./opening.js";
import { Outage } from "./outage.js";
import { Outside } from "./outside.js";
import { PaneHead } from "./pane-head.js";
import { Permission } from "./permission.js";
import { Pins } from "./pins.js";
import { explainRefusal, isBan, isOutside } from "./reasons.js";
import { Roster } from "./roster.js";
import { Thread } from "./thread.js";
import { Timeline } from "./timeline.js";
import { Typists } from "./typists.js";
import { Unread } from "./unread.js";
import { Writer } from "./writer.js";

/** @typedef {import("../chatapi.js").ChatAPI} ChatAPI */
/** @typedef {import("../chatapi.js").Message} Message */
/** @typedef {import("../chatapi.js").Room} Room */
/** @typedef {import("../chatapi.js").ServerEvent} ServerEvent */
/** @typedef {import("./surroundings.js").Surroundings} Surroundings */
/** @typedef {{room_id: string} & Partial<Room>} Wanted a room, of which no more than the id may be known */

export class Pane {
  /** @type {Room | null} */ #room = null;
  #member = false;
  /** Counts openings, so that what a slow answer brings for an earlier room is dropped. */ #opening = 0;
  /** Resolves once the room has been loaded, or not. @type {Promise<void>} */ #loading = Promise.resolve();
  /** Events that came while the room was loading. @type {ServerEvent[] | null} */ #early = null;
  /** The room could not be loaded for this user, */ #refused = false;
  /** though it may be there. */ #failed = false;
  #attended = false;
  #outage = new Outage();

  /** @param {ChatAPI} client @param {import("./link.js").Ways} ways @param {string} user @param {Surroundings} around */
  constructor(client, ways, user, around) {
    this.client = client;
    this.user = user;
    this.slot = around.slotOf(user);
    this.around = around;
    this.roster = new Roster(user);
    this.writer = new Writer(this);
    this.addressees = new Addressees(client, user, this.roster, around.people);
    this.permission = new Permission(around.words.whole, (obstacle) => {
      this.composer.bar(obstacle, this.#early ? "" : "You may write again.");
      this.#showMayPost();
      if (this.link?.ban && obstacle?.kind !== "banned") around.readmitted();
    });
    const actions = actionsOf(this, {
      retry: (draft) => { if (this.#room) void this.writer.send(this.#room.room_id, draft); },
      thread: (messageId) => this.#openThread(messageId),
      older: (limit) => this.#loadOlder(limit),
    });
    const viewer = { user, people: around.people, slotOf: around.slotOf };
    this.timeline = new Timeline(viewer, actions);
    this.thread = new Thread(client, viewer, actions, this.timeline.element, (byHand) => this.#closeThread(byHand));
    this.growth = new Growth(() => this.connection, [this.timeline, this.thread.timeline]);
    this.pins = new Pins(client, user, {
      show: (messageId) => this.reveal(messageId),
      unpin: (message) => this.writer.pin(message, false),
    }, around.people);
    this.typists = new Typists((userIds) => this.timeline.showTyping(userIds));
    this.composer = new Composer(user, around.people, {
      send: (content, replyTo) => void this.#write(content, replyTo),
      edit: (message, content) => this.writer.edit(message, content),
      suggest: (start) => this.addressees.suggest(start),
      typing: (active) => { if (this.#room && !this.composer.isBarred) this.connection.typing(this.#room.room_id, active); },
      lastOwn: () => this.timeline.lastOwn(),
    });
    this.head = new PaneHead(user, this.slot, around, { toggle: () => this.link.toggle(), retry: () => this.link.retryNow() });
    this.unread = new Unread((count) => { this.head.showUnread(count); around.unread(count); }, (seq) => {
      if (this.#room) this.#try(this.connection.read(this.#room.room_id, seq));
    });
    this.outside = new Outside(user, {
      add: around.invite && ((room) => this.#try(Promise.resolve(around.invite?.(room.room_id, user)))),
      join: (room) => this.#try(client.addMember(room.room_id, user)),
      again: (room) => this.open(room),
    });
    this.spoken = h("p.sr", { "aria-live": "polite" });
    this.element = h("section.pane.panel", { part: "panel", "data-slot": this.slot, "aria-label": user, onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event) },
      this.head.element, this.spoken, this.head.notice, this.pins.element, this.timeline.element, this.outside.element, this.composer.element);
    this.link = new Link(client, user, ways, around.words, {
      frame: (direction, frame) => around.frame({ direction, frame }),
      event: (event) => this.#onEvent(event),
      condition: (condition) => this.#onCondition(condition),
      error: (error) => this.complain(error),
      rooms: () => this.#reconsider(),
    });
  }

  get connection() { return this.link.connection; }

  /** Whether the open room could be loaded for this user. */
  get canRead() { return this.#room !== null && !this.#refused; }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const elsewhere = event.defaultPrevented || /** @type {HTMLElement} */ (event.target).closest("[popover]");
    if (event.key === "Escape" && !elsewhere) this.thread.close();
  }

  /** The user looks at this pane, or no longer does. @param {boolean} attended */
  attend(attended) {
    this.#attended = attended;
    this.element.classList.toggle("attended", attended);
    if (attended) this.unread.markRead();
  }

  /** The names for a raw frame about the open room. @returns {{room_id?: string, message_id?: string, seq: number, open?: Message}} */
  present() {
    const own = this.timeline.lastOwn();
    return { room_id: this.#room?.room_id, seq: this.timeline.newestSeq, open: this.timeline.lastOpen(), ...(own && { message_id: own.message_id }) };
  }

  close() {
    this.link.close();
    this.head.close();
    this.permission.stop();
    this.composer.close();
    this.typists.clear();
    this.unread.clear();
    this.timeline.close();
    this.thread.timeline.close();
    this.element.remove();
  }

  /** @param {Wanted} wanted */
  async open(wanted) {
    const room = /** @type {Room} */ (wanted); // the rest is read below
    const opening = ++this.#opening;
    if (this.#room && !this.#member && this.#room.room_id !== room.room_id) this.#try(this.connection.unsubscribe(this.#room.room_id));
    this.#room = room;
    this.#early = [];
    this.roster.clear();
    this.addressees.open(room);
    this.permission.open(room);
    this.showBlock();
    this.unread.clear();
    this.#failed = this.#refused = false;
    this.composer.open(room.room_id);
    this.thread.close(false);
    this.pins.close();
    this.typists.clear();
    this.growth.clear();
    this.timeline.reset((message) => this.roster.markOf(message));
    this.showName();
    this.#loading = this.#load(room, opening).catch((/** @type {any} */ error) => { if (opening === this.#opening) this.#refuse(error); });
    await this.#loading;
  }

  /** The open room is a dm, perhaps, in which neither may write. */
  showBlock() { if (this.#room) this.permission.setBlock(this.around.blockIn(this.#room)); }

  /** Shows a message of the open room, wherever in its history that is. @param {string} messageId @param {boolean} [focus] @returns {Promise<boolean>} */
  async reveal(messageId, focus = true) {
    const room = this.#room;
    if (!room) return false;
    if (this.thread.root) {
      if (this.thread.timeline.show(messageId, focus)) return true;
      this.thread.close(false);
    }
    await this.#loading;
    if (!this.timeline.get(messageId)) {
      const found = await this.client.getMessage(room.room_id, messageId).catch(() => null); // retention may have taken it
      if (found && room === this.#room) await this.timeline.reach(found.seq);
    }
    const shown = this.timeline.show(messageId, focus);
    if (!shown && focus) this.around.say("It cannot be shown: it is too far back, or no longer there.");
    return shown;
  }

  /** Somebody may have let this user in. @param {string} roomId */
  reconsider(roomId) { if (this.#refused && this.#room?.room_id === roomId) void this.open(this.#room); }

  /** The room's name, which others may have changed. */
  showName() {
    if (!this.#room) return;
    const name = this.around.nameOf(this.#room);
    this.head.showRoom(name);
    this.element.setAttribute("aria-label", this.around.isAtPlay ? `${this.user} in ${name}` : `Chat: ${name}`);
  }

  /** @param {Wanted} wanted @param {number} opening */
  async #load(wanted, opening) {
    const roomId = wanted.room_id;
    const room = wanted.type ? /** @type {Room} */ (wanted) : await this.client.getRoom(roomId);
    if (opening !== this.#opening) return;
    if (room !== wanted) this.#learnRoom(room);
    const opened = await readRoom(this.client, room, this.user, {
      findMembership: async () => Boolean(this.around.standing(roomId)) || this.link.findMembership(roomId),
      follow: () => this.connection.subscribe(roomId),
      isCurrent: () => opening === this.#opening,
    });
    if (!opened) return;
    const { page } = opened;
    this.#member = opened.isMember;
    this.around.people.learn(opened.members);
    this.roster.fill(opened);
    this.#showStanding(page.messages);
    this.timeline.putAll(page.messages);
    this.timeline.started(page.has_more);
    this.#countUnread(page);
    const early = this.#early ?? [];
    this.#early = null;
    for (const event of early) this.#apply(event);
    this.#showComposer();
    this.#showOthers();
    if (this.#attended) this.unread.markRead();
    this.around.opened({ room: /** @type {Room} */ (this.#room) });
  }

  /** More of the open room than its id. @param {Room} room */
  #learnRoom(room) {
    this.#room = room;
    this.addressees.open(room);
    this.permission.setRoom(room);
    this.showBlock();
    this.showName();
  }

  /** There is no room to open. */
  showNothing() {
    this.timeline.reset(() => ({ kind: "stored", label: "" }), "No room is open. Choose one, or make one.");
    this.composer.element.hidden = true;
  }

  /** Shows the actions that this user may take here, as the first page says. @param {Message[]} messages */
  #showStanding(messages) {
    this.#showMember();
    for (const message of messages) if (message.sender_id === this.user) this.permission.posted(message.created_at);
  }

  #showMember() {
    const room = /** @type {Room} */ (this.#room);
    const member = this.roster.get(this.user) ?? this.around.standing(room.room_id);
    const mayPin = this.#member && (room.type === "dm" || member?.role === "admin");
    this.permission.setMember(member);
    this.element.classList.toggle("may-pin", mayPin);
    this.pins.open(room.room_id, mayPin);
    this.#showMayPost();
  }

  /** Members who may post may stop a stream, in slow mode too. */
  #showMayPost() { this.element.classList.toggle("may-post", this.#member && ["slow", undefined].includes(this.permission.obstacle?.kind)); }

  /** @param {{messages: Message[], has_more: boolean}} page */
  #countUnread(page) {
    const roomId = /** @type {Room} */ (this.#room).room_id;
    const standing = this.around.standing(roomId);
    const lastRead = this.roster.lastRead(this.user) ?? this.link.lastRead(roomId) ?? standing?.last_read;
    if (!this.#member || lastRead === undefined) return;
    this.roster.receive(this.user, 0, lastRead);
    this.unread.start(page, this.user, lastRead, standing?.unread_count ?? 0);
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
    this.roster.count = 0;
    const room = /** @type {Room} */ (this.#room);
    this.#refused = true;
    this.#failed = !isOutside(error);
    const { isAtPlay, words } = this.around;
    const isWhole = this.link.ban !== null || this.around.isBanned();
    this.timeline.reset(() => ({ kind: "stored", label: "" }), explainRefusal(error, isAtPlay ? { ...words, user: `${this.user} is` } : words, isWhole));
    this.#showOthers();
    this.composer.element.hidden = true;
    if (this.#failed || !isAtPlay) this.outside.showFailure(room);
    else if (isBan(error)) this.outside.hide();
    else this.outside.showStranger(room);
    this.around.opened({ error });
  }

  #showComposer() {
    this.composer.element.hidden = !this.#member;
    if (this.#member) this.outside.hide();
    else this.outside.showFollowing(/** @type {Room} */ (this.#room));
  }

  #showOthers() {
    const told = this.#member && this.link?.isUp && this.roster.hasPresence; // users who only follow are not told of presence
    this.head.showOthers(this.roster.others.map((member) => member.user_id), this.roster.count - (this.#member ? 1 : 0), told ? this.roster.online : null);
  }

  /* The connection */

  /** @param {import("./link.js").Condition} condition */
  #onCondition(condition) {
    this.head.showCondition(condition);
    this.permission.setBan(this.link?.ban ?? null);
    this.element.classList.toggle("offline", condition.state !== "live" && condition.state !== "syncing");
    if (condition.state === "waiting" || condition.state === "paused") this.#outage.lost();
    this.#showOthers();
    this.around.condition(condition);
  }

  /** @param {ServerEvent} event */
  #onEvent(event) {
    if (event.type === "ready") {
      this.permission.setClock(event.server_time);
      this.#outage.back();
    } else if (event.type === "sync.complete") this.#recovered();
    if (isLogEvent(event) && !this.#isOwnDraft(event)) this.#outage.count();
    this.around.happened(event);
    if (event.type === "presence.update") return this.#onPresence(event);
    if (event.type === "sync.reset" && this.#room) return void this.open(this.#room); // the server has another past now
    if (event.room_id !== this.#room?.room_id) return;
    if (this.#early) this.#early.push(event);
    else this.#apply(event);
  }

  /** Whether the event confirms what was written here. @param {ServerEvent} event */
  #isOwnDraft({ sender_id: sender, client_message_id: id }) { return sender === this.user && (this.timeline.hasDraft(id) || this.thread.timeline.hasDraft(id)); }

  #recovered() {
    const text = this.#outage.end();
    if (!text) return;
    if (this.around.isAtPlay) this.timeline.note(text, "recovery");
    if (this.#room && this.#failed) return void this.open(this.#room);
    void this.#refreshPresence();
  }

  /** Presence is not in the log, so what changed meanwhile is asked for. */
  async #refreshPresence() {
    const room = this.#room;
    if (!room || !this.#member || !this.roster.hasPresence) return;
    const { online } = await this.client.getPresence(room.room_id).catch(() => ({ online: null }));
    if (!online || room !== this.#room) return;
    this.roster.online = new Set(online);
    this.#showOthers();
  }

  /** @param {ServerEvent} event */
  #onPresence({ user_id: userId, status }) {
    if (status === "offline") this.roster.online.delete(userId);
    else this.roster.online.add(userId); // away, busy, or any status of a newer server: the user is there
    this.#showOthers();
  }

  /** An event of the open room. @param {ServerEvent} event */
  #apply(event) {
    switch (event.type) {
      case "message.state": return this.growth.follow(event.message);
      case "message.cancel_requested": return this.growth.stopAsked(event.message_id);
      case "message": return this.#onMessage(/** @type {any} */ (event));
      case "message.edited": case "message.finished": case "message.deleted":
      case "message.pinned": case "message.unpinned": return this.#onChanged(event);
      case "reaction.added": case "reaction.removed": return this.#onReaction(event);
      case "typing": return event.action === "start" ? this.typists.start(event.user_id) : this.typists.stop(event.user_id);
      case "ack.received": case "read.updated": return this.#onReceipt(event.user_id, event.seq, event.type === "read.updated" ? event.seq : 0);
      case "member.joined": case "member.updated": case "member.left":
      case "member.banned": case "member.unbanned": return this.#onMember(event);
      case "room.updated": return this.#onRoom(event);
      case "room.deleted": return this.#refuse({ status: 404 });
      case "room.created": return void this.open(/** @type {Room} */ (this.#room)); // this user was added
    }
  }

  /** @param {Message} message */
  #onMessage(message) {
    if (this.permission.obstacle?.kind === "blocked") this.around.refused(); // then the block has ended
    this.typists.stop(message.sender_id);
    const known = this.timeline.get(message.message_id);
    if (message.thread_id) this.timeline.change({ ...message, type: "message" }); // its root counts it
    this.thread.apply({ ...message, type: "message" });
    if (message.sender_id === this.user) this.permission.posted(message.created_at);
    this.timeline.put(known ? applyEvent(known, { ...message, type: "message" }) : message, { recovered: this.#outage.isRecovering && message.sender_id !== this.user });
    if (message.sender_id === this.user || message.deleted_at) return;
    if (!this.#member) return; // users who only follow have no receipt
    this.unread.came(message.seq, !known && message.seq > (this.roster.lastRead(this.user) ?? 0));
    if (this.#attended) this.unread.markRead();
  }

  /** Of a message that may be here: an edit, a pin, or its end. @param {ServerEvent} event */
  #onChanged(event) {
    this.timeline.change(event);
    this.thread.apply(event);
    this.pins.refreshSoon();
  }

  /** @param {ServerEvent} event */
  #onReaction(event) {
    const known = this.timeline.get(event.message_id);
    if (!known) return;
    this.timeline.change(event);
    this.thread.apply(event);
    if (event.user_id === this.user || this.#outage.isRecovering) return;
    this.spoken.textContent = describeReaction(event, known, (userId) => this.around.people.nameOf(userId));
  }

  /** @param {ServerEvent} event */
  #onRoom({ name, metadata, posting, slow_mode_seconds, seq }) {
    const before = /** @type {Room} */ (this.#room);
    this.#room = { ...before, name, metadata, posting, slow_mode_seconds };
    this.showName();
    this.permission.setRoom(this.#room);
    for (const text of describeRoomChanges(before, this.#room)) this.timeline.note(text, "", seq);
  }

  /** @param {ServerEvent} event */
  #onMember(event) {
    const { type, user_id: userId, seq } = event;
    this.timeline.note(`${this.around.people.nameOf(userId)} ${this.roster.apply(event)}`, "", seq);
    if (type === "member.left" || type === "member.banned") this.addressees.forget(userId);
    if (userId !== this.user) return this.#showOthers();
    if (type === "member.unbanned") return;
    if (type !== "member.updated") return void this.open(/** @type {Room} */ (this.#room));
    this.#showMember();
  }

  /** @param {string} userId @param {number} ack @param {number} read */
  #onReceipt(userId, ack, read) {
    this.roster.receive(userId, ack, read);
    if (userId !== this.user) this.timeline.refreshMarks();
    else if (read) this.unread.readUpTo(read, this.timeline.countAfter(read));
  }

  /** @param {number} [limit] @returns {Promise<boolean>} */
  async #loadOlder(limit = PAGE) {
    const opening = this.#opening;
    const before = this.timeline.oldestSeq;
    if (!this.#room || before === undefined) return false;
    try {
      const page = await this.client.listMessages(this.#room.room_id, { before_seq: before, limit });
      if (opening !== this.#opening) return false;
      this.timeline.putAll(page.messages);
      return page.has_more;
    } catch (error) {
      this.around.say(describe(error));
      return false;
    }
  }

  /* Writing */

  /** Until the room has been loaded, nobody knows who can be mentioned. @param {string} content @param {string | null} replyTo */
  async #write(content, replyTo) {
    const roomId = /** @type {Room} */ (this.#room).room_id;
    for (let loading; loading !== this.#loading;) await (loading = this.#loading);
    if (roomId === this.#room?.room_id) return this.writer.send(roomId, this.writer.draft(content, replyTo));
    this.composer.putBack(roomId, content);
    this.around.say("Not sent: another room was opened.");
  }

  /** @param {string} messageId */
  async #openThread(messageId) {
    const room = /** @type {Room} */ (this.#room);
    await this.#try((async () => {
      const root = this.timeline.get(messageId) ?? await this.client.getMessage(room.room_id, messageId);
      if (room.room_id !== this.#room?.room_id) return;
      this.composer.cancel();
      this.timeline.element.hidden = true;
      this.composer.input.placeholder = "Reply in the thread";
      const opened = this.thread.open(root, (message) => this.roster.markOf(message));
      this.thread.title.focus();
      await opened;
    })());
  }

  /** @param {boolean} byHand */
  #closeThread(byHand) {
    this.timeline.element.hidden = false;
    this.composer.cancel();
    this.composer.input.placeholder = "Message";
    this.timeline.toEnd();
    if (byHand) this.timeline.log.focus({ preventScroll: true });
  }

  /** @param {Promise<unknown>} call */
  async #try(call) {
    try {
      await call;
    } catch (error) {
      this.complain(error);
    }
  }

  /** @param {any} error */
  complain(error) {
    if (error.code !== "CLOSED" && !isBan(error)) this.around.complain(error);
  }
}
