"use client";
/**
 * ChatAPI for React 18 and newer: hooks over one connection. A room's messages as they now stand, the reader's own ones before the server
 * has them, who is online and who types, and what is unread.
 *
 *     const chat = new ChatAPI({ url, getToken }); // outside of components: it opens nothing yet
 *     <ChatAPIProvider client={chat}><Room roomId={roomId} /></ChatAPIProvider>
 *
 *     function Room({ roomId }) {
 *       const { messages, send } = useMessages(roomId);
 *       return <ol>{messages.map((message) => <li key={message.key}>{message.content}</li>)}</ol>;
 *     }
 *
 * @module chatapi/react
 */
import { createContext, createElement, useCallback, useContext, useEffect, useMemo, useSyncExternalStore } from "react";
import { ChatAPIError, applyEvent, isLogEvent, randomId } from "./chatapi.js";

/** @import { ChatAPI, Connection, EventMap, Message, NewMessage, Revision, Room, Sent, ServerEvent, Standing, State } from "./chatapi.js" */
/** @import { Context, ReactElement, ReactNode } from "react" */

/** @typedef {Message & {key: string, status: "sent"}} SentMessage a message of the room; `key` is for React, and stays when a draft becomes a message */
/**
 * A message that the server has not confirmed. `failed`: it was refused, or the connection has ended; `error` tells why.
 * @typedef {{key: string, status: "sending" | "failed", error?: Error, message_id: null, seq: null, room_id: string, sender_id: string,
 *   content: string, meta: Record<string, unknown> | null, reply_to: string | null, client_message_id: string, created_at: string,
 *   edited_at: null, deleted_at: null, thread_id?: string, mentions?: string[], mention_room?: boolean, stream?: undefined,
 *   reactions?: undefined, pinned_at?: undefined, thread?: undefined}} UnsentMessage
 */
/** @typedef {SentMessage | UnsentMessage} RoomMessage */

/**
 * @typedef {object} MessagesOptions
 * @property {string} [threadId] only the replies to this message; messages that are sent become replies to it
 * @property {boolean} [topLevel] all but replies
 * @property {number} [pageSize] messages of a page, 1 to 100 (50)
 */

/**
 * @typedef {object} MessagesState
 * @property {readonly RoomMessage[]} messages in the room's order, those that are not confirmed last; each stays the same object until it changes
 * @property {boolean} isLoading the first page, or another newest page in place of what is shown
 * @property {boolean} isLoadingOlder
 * @property {boolean} isLoadingNewer
 * @property {boolean} hasOlder
 * @property {boolean} hasNewer older pages have pushed the newest messages out: `loadNewer` and `showNewest` lead back
 * @property {Error | undefined} error why the last page could not be read, or why the room is not shown any more
 */

/**
 * @typedef {object} MessagesActions
 * @property {() => Promise<void>} loadOlder resolves when the page is there, or `error` says why it is not
 * @property {() => Promise<void>} loadNewer
 * @property {() => Promise<void>} showNewest
 * @property {(message: string | NewMessage) => Promise<Sent>} send shows the message at once. You need not wait for the promise: a
 *   refusal is in the list, as `failed`. Rejects with RangeError, and shows nothing, while 500 messages of the room are unsent
 * @property {(key: string) => Promise<Sent | undefined>} retry sends a failed message again; it is stored once in any case
 * @property {(key: string) => boolean} discard drops a failed message; false when it is not failed
 * @property {(messageId: string, change: string | Revision) => Promise<EventMap["message.edited"]>} edit
 * @property {(messageId: string) => Promise<EventMap["message.deleted"]>} remove
 * @property {(messageId: string, emoji: string) => Promise<EventMap["reaction.added"]>} react
 * @property {(messageId: string, emoji: string) => Promise<EventMap["reaction.removed"]>} unreact
 */

/** @typedef {{room: Room | undefined, isLoading: boolean, error: Error | undefined}} RoomShown */
/** @typedef {{online: readonly string[], isLoading: boolean, error: Error | undefined}} PresenceShown */
/** @typedef {{count: number, mentions: number, lastRead: number}} UnreadShown */
/** @typedef {{connection: Connection | undefined, state: State, error: Error | undefined, userId: string}} ConnectionShown `userId` is empty until the server has told it */

const LINGER_MS = 1_000; // from the last provider's end to the connection's: StrictMode and hot reloads mount again at once
const HIDDEN_MS = 100; // a page that is not visible gets no frames
const WINDOW = 500; // messages of a room that are held
const SLACK = 100; // above it, before the window is cut: once for a page, not for each message
const PAGE = 50;
const MAX_UNSENT = 500; // in one room
const MAX_HELD = 10_000; // events that come while a page is read; beyond it the page is read again
const KEPT_IDLE = 20; // of what no component shows, for those who return
const REFRESH_MS = 1_000; // at most one read in this time of what events tell only in part
const TYPING_MS = 7_000; // the server ends a typing after 6 s: if that is lost, so do we
const KNOWN_USERS = 10_000; // of whom it is known whether they are members
const LISTED_ROOMS = 1_000; // whose unread messages are counted: those with the newest activity
const LIST_PAGE = 100;

/* -------------------------------------------------------------------------------------- one thing to show ---- */

/**
 * One thing that hooks show: it is read from the server and then kept by the events. `snapshot` changes at most once a frame, and only
 * when there is something new to show.
 * @template S
 */
class Shown {
  /** @type {Chat} */ chat;
  /** @type {string} */ roomId;
  /** @type {S} */ snapshot;
  /** @type {Set<() => void>} */ listeners = new Set();
  /** A read that is under way. @type {{what: string, held: ServerEvent[], missed: boolean, promise: Promise<void>} | undefined} */ reading;
  /** @type {Error | undefined} */ error;
  isLoaded = false;
  isStarted = false;
  #life = new AbortController();
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #again;
  /** Something has changed that nobody looked at. */ #isStale = false;

  /** @param {Chat} chat @param {string} roomId @param {S} snapshot */
  constructor(chat, roomId, snapshot) {
    this.chat = chat;
    this.roomId = roomId;
    this.snapshot = snapshot;
  }

  /** Whether no component shows it, so that it may be dropped. */
  get isIdle() { return this.listeners.size === 0; }

  /** Once, when there is a connection. */
  start() {
    this.isStarted = true;
    void this.load();
  }

  stop() {
    this.#life.abort();
    clearTimeout(this.#again);
  }

  /** Somebody looks at it again. */
  wake() {
    if (!this.isStarted) this.start();
    else if (this.#isStale) void this.load();
  }

  /** @param {ServerEvent} event */
  take(event) {
    if (event.type === "sync.reset") return this.reset();
    if (this.reading && this.reading.held.push(event) > MAX_HELD) {
      this.reading.held = [];
      this.reading.missed = true;
    }
    this.apply(event);
  }

  /** A socket is ready; the first one, or another. @param {EventMap["ready"]} _ready @param {boolean} _isFirst */
  greet(_ready, _isFirst) { void this.load(); }

  /** The server's log is another one: it was restored from a backup. */
  reset() {
    this.#life.abort();
    this.#life = new AbortController();
    this.reading = undefined;
    void this.load();
  }

  /** Soon, for all events of that time together. */
  refresh() {
    if (this.isIdle) this.#isStale = true;
    else this.#again ??= setTimeout(() => { this.#again = undefined; void this.load(); }, REFRESH_MS);
  }

  /** One read at a time: the same one is shared, another one waits. @param {string} [what] @returns {Promise<void>} */
  load(what = "newest") {
    if (this.reading) return this.reading.what === what ? this.reading.promise : this.reading.promise.then(() => this.load(what));
    const reading = (this.reading = { what, held: /** @type {ServerEvent[]} */ ([]), missed: false, promise: Promise.resolve() });
    this.#isStale = false;
    this.changed();
    return (reading.promise = this.#read(reading));
  }

  /** Events that came meanwhile know more than the answer. @param {NonNullable<Shown<S>["reading"]>} reading */
  async #read(reading) {
    const { signal } = this.#life;
    try {
      let answer = await this.fetch(reading.what, signal);
      while (reading.missed) {
        reading.missed = false;
        answer = await this.fetch(reading.what, signal);
      }
      if (signal.aborted) return;
      this.accept(answer, reading.what);
      this.isLoaded = true;
      this.error = undefined;
    } catch (error) {
      if (signal.aborted) return;
      this.error = /** @type {Error} */ (error);
    }
    this.reading = undefined;
    if (!this.error) for (const event of reading.held) this.apply(event);
    this.changed();
    this.loaded();
  }

  changed() { this.chat.showSoon(this); }

  /** Shows what is new now, if there is anything. */
  flush() {
    const view = this.view();
    if (isSame(view, this.snapshot)) return;
    this.snapshot = view;
    this.tell();
  }

  tell() { for (const listener of [...this.listeners]) listener(); }

  /** @param {string} _what @param {AbortSignal} _signal @returns {Promise<any>} */
  async fetch(_what, _signal) { return undefined; }
  /** @param {any} _answer @param {string} _what */
  accept(_answer, _what) {}
  loaded() {}
  /** @param {ServerEvent} _event */
  apply(_event) {}
  /** @returns {S} */
  view() { return this.snapshot; }
}

/** Whether there is nothing to render: the same fields, or lists of the same items. @param {any} a @param {any} b @returns {boolean} */
function isSame(a, b) {
  const names = Object.keys(a);
  if (names.length !== Object.keys(b).length) return false;
  return names.every((name) => Object.is(a[name], b[name]) || (Array.isArray(a[name]) && Array.isArray(b[name]) && isSame(a[name], b[name])));
}

/** Whether an event tells that this user is a member no longer. @param {ServerEvent} event @param {string} userId */
function isRemovalOf(event, userId) {
  return (event.type === "member.left" || event.type === "member.banned") && event.user_id === userId;
}

function goneError() { return new ChatAPIError("NOT_FOUND", "the room was deleted"); }

/* --------------------------------------------------------------------------------------------- messages ---- */

/** @type {MessagesState} */
const NO_MESSAGES = { messages: [], isLoading: true, isLoadingOlder: false, isLoadingNewer: false, hasOlder: false, hasNewer: false, error: undefined };

/** @typedef {{fields: NewMessage & {client_message_id: string}, createdAt: string, error?: Error, item?: UnsentMessage}} Unsent */

/**
 * A window of a room's messages: at most WINDOW of them, without a hole. While it ends with the newest one, new ones join it and the oldest
 * leave. Older pages push the newest out, and then it is detached from what is live until newer pages lead back.
 * @extends {Shown<MessagesState>}
 */
class Timeline extends Shown {
  /** @type {MessagesOptions} */ #options;
  /** @type {Map<string, Message>} */ #messages = new Map();
  #hasOlder = false;
  #hasNewer = false;
  /** Of messages that were sent here, by message. @type {Map<string, string>} */ #keys = new Map();
  /** @type {Map<string, Unsent>} */ #unsent = new Map();
  /** Messages made of a draft and its confirmation: the event, or a page, tells the rest. @type {Set<string>} */ #provisional = new Set();
  /** The item of each message. @type {WeakMap<Message, SentMessage>} */ #items = new WeakMap();
  /** Events of messages that are read again, as deltas were missed. @type {Map<string, ServerEvent[]>} */ #rereading = new Map();
  /** The connection tells events from here on; a page that was read before may end earlier. */ #reach = 0;

  /** @param {Chat} chat @param {string} roomId @param {MessagesOptions} options */
  constructor(chat, roomId, options) {
    super(chat, roomId, NO_MESSAGES);
    this.#options = options;
  }

  get isIdle() { return super.isIdle && this.#unsent.size === 0; }

  start() {
    super.start();
    this.chat.follow(this);
  }

  stop() {
    super.stop();
    this.chat.unfollow(this);
  }

  /** @param {EventMap["ready"]} ready @param {boolean} isFirst */
  greet(ready, isFirst) {
    if (isFirst) {
      for (const unsent of this.#unsent.values()) unsent.item = undefined; // they show whose they are
      this.changed();
      this.reachTo(ready.rooms.find((room) => room.room_id === this.roomId)?.last_ack ?? 0);
    }
    if (this.error) void this.load();
  }

  reset() {
    this.#provisional.clear();
    this.#rereading.clear();
    super.reset();
  }

  /** @param {number} seq */
  reachTo(seq) {
    this.#reach = Math.max(this.#reach, seq);
    if (!this.reading && this.isLoaded) this.loaded();
  }

  loaded() {
    const newest = Math.max(0, ...[...this.#messages.values()].map(({ seq }) => seq));
    const isShort = this.#reach > newest && !this.#hasNewer && !this.error;
    this.#reach = 0;
    if (isShort) void this.load();
  }

  /** The server refuses to show the room, or it is gone. @param {Error} error */
  lose(error) {
    this.error = error;
    this.changed();
  }

  /** @param {string} what @param {AbortSignal} signal */
  fetch(what, signal) {
    const { threadId, topLevel, pageSize = PAGE } = this.#options;
    const sorted = this.#sorted();
    const page = {
      limit: pageSize,
      thread_id: threadId,
      top_level: topLevel,
      before_seq: what === "older" ? sorted[0]?.seq : undefined,
      after_seq: what === "newer" ? sorted[sorted.length - 1]?.seq : undefined,
    };
    return this.chat.client.listMessages(this.roomId, page, { signal });
  }

  /** @param {{messages: Message[], has_more: boolean}} page @param {string} what */
  accept({ messages, has_more: hasMore }, what) {
    if (what === "newest") {
      const before = this.#messages;
      this.#messages = new Map();
      for (const id of this.#provisional) this.#put(/** @type {Message} */ (before.get(id)));
      for (const id of this.#keys.keys()) if (!before.has(id)) this.#keys.delete(id);
      this.#hasNewer = false;
    }
    for (const message of messages) {
      this.#reconcile(message);
      this.#provisional.delete(message.message_id);
      this.#put(message);
    }
    if (what === "newer") this.#hasNewer = hasMore;
    else this.#hasOlder = hasMore;
    if (what === "older") this.#cut(-1);
    else this.#cut(0);
  }

  /** @param {ServerEvent} event */
  apply(event) {
    if (event.type === "room.deleted") return this.lose(goneError());
    if (event.type === "room.created" && this.error) return void this.load();
    if (event.type === "message") this.#meet(event);
    const ids = [event.type === "message" ? undefined : event.message_id ?? event.message?.message_id, event.thread_id];
    for (const id of ids) {
      const message = this.#messages.get(id);
      if (!message) continue;
      const waiting = this.#rereading.get(id);
      if (waiting) {
        if (waiting.length < MAX_HELD) waiting.push(event);
        continue;
      }
      const changed = applyEvent(message, event);
      if (changed !== message) this.#put(changed);
      else if (isAhead(message, event)) void this.#readAgain(id);
    }
  }

  /** A new message. One that is known already is as new as its event, or newer. @param {ServerEvent} event */
  #meet({ type: _, request_id: __, ...fields }) {
    const message = /** @type {Message} */ (/** @type {unknown} */ (fields));
    this.#reconcile(message);
    const known = this.#messages.get(message.message_id);
    if (this.#provisional.delete(message.message_id) && known) return this.#put({ ...known, ...message });
    if (known || this.#hasNewer || !this.#includes(message)) return;
    if (this.#hasOlder && message.seq < (this.#sorted()[0]?.seq ?? 0)) return;
    this.#put(message);
    if (this.#messages.size > WINDOW + SLACK) this.#cut(0);
  }

  /** @param {{thread_id?: string}} message */
  #includes({ thread_id: threadId }) {
    if (this.#options.threadId !== undefined) return threadId === this.#options.threadId;
    return !this.#options.topLevel || threadId === undefined;
  }

  /** A draft of ours has become this message. @param {Message} message */
  #reconcile({ client_message_id: id, sender_id: senderId, message_id: messageId }) {
    if (id === null || senderId !== this.chat.userId || !this.#unsent.delete(id)) return;
    this.#keys.set(messageId, id);
    this.changed();
  }

  /** @param {Message} message */
  #put(message) {
    this.#messages.set(message.message_id, message);
    this.changed();
  }

  /** Leaves WINDOW messages: those that are older go (0), or those that are newer (-1). @param {0 | -1} end */
  #cut(end) {
    const excess = this.#messages.size - WINDOW;
    if (excess <= 0) return;
    const sorted = this.#sorted();
    for (const { message_id: id } of end === 0 ? sorted.slice(0, excess) : sorted.slice(WINDOW)) {
      this.#messages.delete(id);
      this.#keys.delete(id);
      this.#provisional.delete(id);
    }
    if (end === 0) this.#hasOlder = true;
    else this.#hasNewer = true;
  }

  /** Deltas were missed. @param {string} messageId */
  async #readAgain(messageId) {
    /** @type {ServerEvent[]} */ const waiting = [];
    this.#rereading.set(messageId, waiting);
    const message = await this.chat.client.getMessage(this.roomId, messageId).catch(() => undefined); // the next delta asks again
    if (this.#rereading.get(messageId) !== waiting) return;
    this.#rereading.delete(messageId);
    if (message) waiting.unshift({ type: "message.state", room_id: this.roomId, message });
    for (const event of waiting) {
      const known = this.#messages.get(messageId);
      if (known) this.#put(applyEvent(known, event));
    }
  }

  #sorted() { return [...this.#messages.values()].sort((a, b) => a.seq - b.seq); }

  /** @returns {MessagesState} */
  view() {
    const what = this.reading?.what;
    return {
      messages: [...this.#sorted().map((message) => this.#itemOf(message)), ...(this.#hasNewer ? [] : this.#unsentItems())],
      isLoading: what === "newest",
      isLoadingOlder: what === "older",
      isLoadingNewer: what === "newer",
      hasOlder: this.#hasOlder,
      hasNewer: this.#hasNewer,
      error: this.error,
    };
  }

  /** @param {Message} message @returns {SentMessage} */
  #itemOf(message) {
    let item = this.#items.get(message);
    if (!item) this.#items.set(message, item = { ...message, key: this.#keys.get(message.message_id) ?? message.message_id, status: "sent" });
    return item;
  }

  #unsentItems() {
    return Array.from(this.#unsent.values(), (unsent) => (unsent.item ??= this.#unsentItem(unsent)));
  }

  /** @param {Unsent} unsent @returns {UnsentMessage} */
  #unsentItem({ fields, createdAt, error }) {
    return {
      ...asUnread(fields, this.roomId, this.chat.userId, createdAt),
      key: fields.client_message_id, status: error ? "failed" : "sending", ...(error && { error }), message_id: null, seq: null,
    };
  }

  /** @param {string | NewMessage} message @returns {Promise<Sent>} */
  send(message) {
    if (this.#unsent.size >= MAX_UNSENT) return Promise.reject(new RangeError(`${MAX_UNSENT} messages of this room are not sent yet`));
    const { threadId } = this.#options;
    const given = typeof message === "string" ? { content: message } : message;
    const fields = { ...(threadId !== undefined && { thread_id: threadId }), ...given, client_message_id: given.client_message_id ?? randomId() };
    if (this.#hasNewer) void this.load();
    return this.#transmit({ fields, createdAt: new Date().toISOString().replace("Z", "000Z") });
  }

  /** @param {string} key @returns {Promise<Sent | undefined>} */
  retry(key) {
    const unsent = this.#unsent.get(key);
    if (!unsent?.error) return Promise.resolve(undefined);
    return this.#transmit({ fields: unsent.fields, createdAt: unsent.createdAt });
  }

  /** @param {string} key */
  discard(key) {
    if (!this.#unsent.get(key)?.error) return false;
    this.#unsent.delete(key);
    this.chat.showNow(this);
    return true;
  }

  /** @param {Unsent} unsent @returns {Promise<Sent>} */
  #transmit(unsent) {
    const { client_message_id: id } = unsent.fields;
    this.#unsent.set(id, unsent);
    const sent = this.chat.call((connection) => connection.send(this.roomId, unsent.fields)).then(
      (answer) => { this.#confirm(unsent, answer); return answer; },
      (error) => {
        if (this.#unsent.get(id) === unsent) this.#unsent.set(id, { ...unsent, item: undefined, error });
        this.chat.showNow(this);
        throw error;
      },
    );
    sent.catch(() => {}); // the list tells of it
    this.chat.showNow(this);
    return sent;
  }

  /** Mostly before the event comes. @param {Unsent} unsent @param {Sent} answer */
  #confirm({ fields, createdAt }, { message_id: messageId, seq, created_at: at, stream }) {
    const id = fields.client_message_id;
    if (!this.#unsent.delete(id)) return; // an event or a page was quicker
    this.#keys.set(messageId, id);
    const known = this.#messages.get(messageId);
    if (!known && !this.#hasNewer && this.#includes({ thread_id: fields.thread_id ?? undefined })) {
      this.#provisional.add(messageId);
      this.#put({ ...asUnread(fields, this.roomId, this.chat.userId, at ?? createdAt), message_id: messageId, seq, ...(stream && { stream }) });
    }
    this.changed();
  }
}

/** A message as it will be read. @param {NewMessage & {client_message_id: string}} fields @param {string} roomId @param {string} userId @param {string} createdAt */
function asUnread(fields, roomId, userId, createdAt) {
  const { content, meta, reply_to: replyTo, client_message_id: id, thread_id: threadId, mentions, mention_room: mentionRoom } = fields;
  return {
    room_id: roomId, sender_id: userId, content, meta: meta ?? null, reply_to: replyTo ?? null, client_message_id: id, created_at: createdAt,
    edited_at: null, deleted_at: null,
    ...(threadId && { thread_id: threadId }), ...(mentions?.length && { mentions }), ...(mentionRoom && { mention_room: true }),
  };
}

/** Whether deltas before this one are missing. @param {Message} message @param {ServerEvent} event */
function isAhead({ stream }, event) {
  return event.type === "message.delta" && stream?.state === "open" && (stream.index ?? 0) < event.index;
}

/* ------------------------------------------------------------------- the room, presence, typing, unread ---- */

/** @type {RoomShown} */
const NO_ROOM = { room: undefined, isLoading: true, error: undefined };

/** @extends {Shown<RoomShown>} */
class Facts extends Shown {
  /** @type {Room | undefined} */ #room;

  /** @param {Chat} chat @param {string} roomId */
  constructor(chat, roomId) { super(chat, roomId, NO_ROOM); }

  start() {
    super.start();
    this.chat.follow(this);
  }

  stop() {
    super.stop();
    this.chat.unfollow(this);
  }

  /** @param {Error} error */
  lose(error) {
    this.error = error;
    this.changed();
  }

  /** @param {number} _seq */
  reachTo(_seq) {}

  /** @param {string} _what @param {AbortSignal} signal */
  fetch(_what, signal) { return this.chat.client.getRoom(this.roomId, { signal }); }

  /** @param {Room} room */
  accept(room) { this.#room = room; }

  /** @param {ServerEvent} event */
  apply(event) {
    if (event.type === "room.deleted") this.lose(goneError());
    else if (event.type === "room.created" || event.type.startsWith("member.")) this.refresh();
    else if (event.type === "room.updated" && this.#room && event.seq > this.#room.last_seq) {
      const { type: _, room_type: type, seq, request_id: __, ...fields } = event;
      this.#room = /** @type {Room} */ ({ ...this.#room, ...fields, type, last_seq: seq });
      this.changed();
    }
  }

  view() { return { room: this.#room, isLoading: this.reading !== undefined && !this.#room, error: this.error }; }
}

/** @type {PresenceShown} */
const NOBODY = { online: [], isLoading: true, error: undefined };

/**
 * The members of a room who are online. `presence.update` tells of users of all rooms: of those who are not known yet, a read of the
 * room's list tells whether they are members.
 * @extends {Shown<PresenceShown>}
 */
class Presence extends Shown {
  /** @type {Set<string>} */ #online = new Set();
  /** @type {Map<string, boolean>} */ #isMember = new Map();
  /** @type {Set<string>} */ #asked = new Set();

  /** @param {Chat} chat @param {string} roomId */
  constructor(chat, roomId) { super(chat, roomId, NOBODY); }

  start() {
    this.isStarted = true;
    if (this.chat.isReady) void this.load(); // before that the user is not online themselves
  }

  /** @param {string} _what @param {AbortSignal} signal */
  async fetch(_what, signal) {
    const asked = this.#asked;
    this.#asked = new Set(); // of those who come online from now on, the answer may not know yet
    const { online } = await this.chat.client.getPresence(this.roomId, { signal });
    return { online, asked };
  }

  /** @param {{online: string[], asked: Set<string>}} answer */
  accept({ online, asked }) {
    this.#online = new Set(online);
    for (const userId of asked) this.#learn(userId, this.#online.has(userId));
    for (const userId of online) this.#learn(userId, true);
  }

  /** @param {string} userId @param {boolean} isMember */
  #learn(userId, isMember) {
    this.#isMember.set(userId, isMember);
    if (this.#isMember.size > KNOWN_USERS) this.#isMember.clear();
  }

  /** @param {ServerEvent} event */
  apply({ type, user_id: userId, status }) {
    if (type === "member.joined") {
      this.#learn(userId, true);
      this.refresh();
    } else if (type === "member.left" || type === "member.banned") {
      this.#learn(userId, false);
      if (this.#online.delete(userId)) this.changed();
    } else if (type === "presence.update") this.#see(userId, status === "online");
  }

  /** @param {string} userId @param {boolean} isOnline */
  #see(userId, isOnline) {
    if (!isOnline) {
      if (this.#online.delete(userId)) this.changed();
      this.#asked.delete(userId);
    } else if (this.#isMember.get(userId)) {
      this.#online.add(userId);
      this.changed();
    } else if (!this.#isMember.has(userId)) {
      if (this.#asked.size < KNOWN_USERS) this.#asked.add(userId);
      this.refresh();
    }
  }

  view() { return { online: [...this.#online].sort(), isLoading: !this.isLoaded && !this.error, error: this.error }; }
}

/** @type {readonly string[]} */
const NO_TYPISTS = [];

/** @extends {Shown<readonly string[]>} */
class Typists extends Shown {
  /** Until when. @type {Map<string, number>} */ #until = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;

  /** @param {Chat} chat @param {string} roomId */
  constructor(chat, roomId) { super(chat, roomId, NO_TYPISTS); }

  start() { this.isStarted = true; }

  stop() {
    super.stop();
    clearTimeout(this.#timer);
  }

  greet() { this.reset(); }

  reset() {
    if (!this.#until.size) return;
    this.#until.clear();
    this.changed();
  }

  /** @param {ServerEvent} event */
  apply({ type, user_id: userId, action }) {
    if (type !== "typing") return;
    if (action === "start") {
      if (!this.#until.has(userId)) this.changed();
      this.#until.delete(userId);
      this.#until.set(userId, Date.now() + TYPING_MS);
      this.#timer ??= setTimeout(() => this.#expire(), TYPING_MS);
    } else if (this.#until.delete(userId)) this.changed(); // the server says so too when they have sent a message, or left
  }

  #expire() {
    this.#timer = undefined;
    const now = Date.now();
    for (const [userId, until] of this.#until) if (until <= now && this.#until.delete(userId)) this.changed();
    const [next] = this.#until.values();
    if (next !== undefined) this.#timer = setTimeout(() => this.#expire(), next - now);
  }

  view() { return [...this.#until.keys()]; }
}

/** @type {UnreadShown} */
const ALL_READ = { count: 0, mentions: 0, lastRead: 0 };

/** @typedef {{shown: UnreadShown, lastSeq: number}} Reading `lastSeq`: up to here everything is counted */

/**
 * The counts of unread messages in the user's rooms, read from the list of rooms and counted on. Where an event tells only that a count has changed,
 * the list is read again.
 * @extends {Shown<UnreadShown>}
 */
class Unread extends Shown {
  /** @type {Map<string, Reading>} */ #rooms = new Map();

  /** @param {Chat} chat */
  constructor(chat) { super(chat, "", ALL_READ); }

  start() {
    this.isStarted = true;
    if (this.chat.isReady) void this.load();
  }

  /** @param {string | null | undefined} roomId @returns {UnreadShown} */
  of(roomId) { return roomId === undefined ? this.snapshot : (this.#rooms.get(roomId ?? "")?.shown ?? ALL_READ); }

  /** @param {string} roomId */
  newestSeq(roomId) { return this.#rooms.get(roomId)?.lastSeq ?? 0; }

  /** @param {string} _what @param {AbortSignal} signal */
  async fetch(_what, signal) {
    const rooms = [];
    let cursor;
    do {
      const page = await this.chat.client.listRooms({ hidden: true, limit: LIST_PAGE, cursor }, { signal });
      rooms.push(...page.rooms);
      cursor = page.has_more ? page.next_cursor : undefined;
    } while (cursor && rooms.length < LISTED_ROOMS);
    return rooms;
  }

  /** @param {(Room & Standing)[]} rooms */
  accept(rooms) {
    const before = this.#rooms;
    this.#rooms = new Map();
    for (const { room_id: roomId, last_seq: lastSeq, unread_count: count, unread_mentions: mentions, last_read: lastRead } of rooms) {
      const known = before.get(roomId)?.shown;
      const now = { count, mentions, lastRead };
      this.#rooms.set(roomId, { shown: known && isSame(known, now) ? known : now, lastSeq });
    }
  }

  /** @param {ServerEvent} event */
  apply(event) {
    const { type, room_id: roomId } = event;
    if (type === "room.created") return this.refresh();
    if (type === "read.updated") return this.#read(event);
    if (type === "room.deleted" || isRemovalOf(event, this.chat.userId)) {
      if (this.#rooms.delete(roomId)) this.changed();
    } else if (isLogEvent(event)) this.#count(event);
  }

  /** @param {ServerEvent} event */
  #count(event) {
    const room = this.#rooms.get(event.room_id) ?? { shown: ALL_READ, lastSeq: 0 };
    const { shown } = room;
    if (room.lastSeq === 0 && (this.#rooms.size >= 2 * LISTED_ROOMS || !this.chat.connection?.isMember(event.room_id))) return;
    if (event.seq <= room.lastSeq) return;
    room.lastSeq = event.seq;
    this.#rooms.set(event.room_id, room);
    if (event.type === "message" && event.sender_id !== this.chat.userId && event.content !== null) {
      room.shown = { ...shown, count: shown.count + 1, mentions: shown.mentions + (this.#isMentioned(event) ? 1 : 0) };
      this.changed();
    } else if (event.target_seq > shown.lastRead) {
      const isOneLess = event.type === "message.deleted" && shown.count > 0;
      if (isOneLess || (event.type === "message.edited" && this.#isMentioned(event))) this.refresh();
    }
  }

  /** The user has read so far, here or elsewhere. @param {ServerEvent} event */
  #read({ room_id: roomId, user_id: userId, seq }) {
    const room = this.#rooms.get(roomId);
    if (userId !== this.chat.userId || !room || seq <= room.shown.lastRead) return;
    const isAll = seq >= room.lastSeq;
    room.shown = isAll ? { count: 0, mentions: 0, lastRead: seq } : { ...room.shown, lastRead: seq };
    this.changed();
    if (!isAll) this.refresh();
  }

  /** @param {ServerEvent} event */
  #isMentioned({ mentions, mention_room: room }) { return room === true || mentions?.includes(this.chat.userId) === true; }

  /** Each component looks whether its own room has changed. */
  flush() {
    super.flush();
    this.tell();
  }

  view() {
    const total = { ...ALL_READ };
    for (const { shown } of this.#rooms.values()) {
      total.count += shown.count;
      total.mentions += shown.mentions;
    }
    return total;
  }
}

/* ------------------------------------------------------------------------------------------ the connection ---- */

/** @type {ConnectionShown} */
const NO_CONNECTION = { connection: undefined, state: "connecting", error: undefined, userId: "" };

/** @extends {Shown<ConnectionShown>} */
class Status extends Shown {
  /** @param {Chat} chat */
  constructor(chat) { super(chat, "", NO_CONNECTION); }

  start() { this.isStarted = true; }
  greet() {}
  reset() {}

  view() {
    const { connection, userId } = this.chat;
    return { connection, state: connection?.state ?? "connecting", error: connection?.error, userId };
  }
}

/** One connection, and everything that hooks show of it. It opens nothing before a component is mounted. */
class Chat {
  /** @type {Connection | undefined} */ connection;
  userId = "";
  isReady = false;
  /** @type {Connection | undefined} */ #given;
  /** @type {ChatAPI} */ client;
  #users = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #closing;
  /** @type {(() => void)[]} */ #stops = [];
  /** By room, then by kind; those of no room under "". @type {Map<string, Map<string, Shown<any>>>} */ #rooms = new Map();
  /** Those that no component shows, the longest first. @type {Set<Shown<any>>} */ #idle = new Set();
  /** @type {Set<Shown<any>>} */ #dirty = new Set();
  /** @type {(() => void) | undefined} */ #cancelFrame;
  /** @type {Map<string, Set<Timeline | Facts>>} */ #followers = new Map();
  /** Channels that the user has not joined, and that are followed because something of them is shown. @type {Set<string>} */ #subscribed = new Set();
  /** Channels that are followed no longer: the connection passes over their events, until it subscribes again. @type {Set<string>} */ #left = new Set();

  /** @param {ChatAPI | Connection} source */
  constructor(source) {
    this.#given = "connect" in source ? undefined : source;
    this.client = "connect" in source ? source : source.client;
  }

  /** The connection is wanted, until what is returned is called. @returns {() => void} */
  retain() {
    clearTimeout(this.#closing);
    if (this.#users++ === 0 && !this.connection) this.#open();
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      if (--this.#users === 0) this.#closing = setTimeout(() => this.#close(), LINGER_MS);
    };
  }

  #open() {
    const connection = (this.connection = this.#given ?? this.client.connect());
    this.#stops = [
      connection.on("*", (event) => this.#take(event)),
      connection.on("state", () => this.#showStatus()),
    ];
    this.#showStatus();
    connection.ready.then((ready) => { if (this.connection === connection && !this.isReady) this.#greet(ready); }, () => {});
  }

  #close() {
    for (const stop of this.#stops) stop();
    for (const shown of this.#all()) shown.stop();
    this.#rooms.clear();
    this.#idle.clear();
    this.#dirty.clear();
    this.#cancelFrame?.();
    this.#cancelFrame = undefined;
    if (!this.#given) this.connection?.close();
    this.connection = undefined;
    this.isReady = false;
    this.#subscribed.clear();
    this.#left.clear();
  }

  #showStatus() {
    const status = this.find("", "status");
    if (status) this.showNow(status);
  }

  #all() { return [...this.#rooms.values()].flatMap((kinds) => [...kinds.values()]); }

  /** @param {ServerEvent} event */
  #take(event) {
    if (event.type === "ready") return this.#greet(/** @type {EventMap["ready"]} */ (event));
    if (isRemovalOf(event, this.userId) ? this.#followers.has(event.room_id) : event.type === "room.created" && this.#left.has(event.room_id)) this.#subscribe(event.room_id);
    if (event.room_id === undefined) for (const shown of this.#all()) shown.take(event);
    else for (const roomId of [event.room_id, ""]) for (const shown of this.#rooms.get(roomId)?.values() ?? []) shown.take(event);
  }

  /** @param {EventMap["ready"]} ready */
  #greet(ready) {
    const isFirst = !this.isReady;
    this.isReady = true;
    this.userId = ready.user_id;
    this.#showStatus();
    for (const roomId of this.#followers.keys()) if (isFirst || !this.#subscribed.has(roomId)) this.#subscribe(roomId);
    for (const shown of this.#all()) shown.greet(ready, isFirst);
  }

  /* Things that are shown */

  /** @param {string} roomId @param {string} kind @returns {Shown<any> | undefined} */
  find(roomId, kind) { return this.#rooms.get(roomId)?.get(kind); }

  /** @param {string} roomId @param {string} kind @param {() => Shown<any>} make @param {() => void} listener @returns {() => void} */
  subscribe(roomId, kind, make, listener) {
    const release = this.retain();
    const shown = this.find(roomId, kind) ?? make();
    const kinds = this.#rooms.get(roomId) ?? new Map();
    this.#rooms.set(roomId, kinds.set(kind, shown));
    shown.listeners.add(listener);
    this.#idle.delete(shown);
    shown.wake();
    return () => {
      shown.listeners.delete(listener);
      if (shown.listeners.size === 0 && this.find(roomId, kind) === shown) this.#rest(shown);
      release();
    };
  }

  /** Keeps it for those who return, until others have taken its place. @param {Shown<any>} shown */
  #rest(shown) {
    this.#idle.add(shown);
    for (const oldest of this.#idle) {
      if (this.#idle.size <= KEPT_IDLE) return;
      if (!oldest.isIdle) continue; // it has messages that are not sent
      this.#idle.delete(oldest);
      this.#forget(oldest);
    }
  }

  /** @param {Shown<any>} shown */
  #forget(shown) {
    shown.stop();
    this.#dirty.delete(shown);
    const kinds = this.#rooms.get(shown.roomId);
    for (const [kind, found] of kinds ?? []) if (found === shown) kinds?.delete(kind);
    if (kinds?.size === 0) this.#rooms.delete(shown.roomId);
  }

  /** With the next frame, together with all else that has changed. @param {Shown<any>} shown */
  showSoon(shown) {
    this.#dirty.add(shown);
    this.#cancelFrame ??= nextFrame(() => {
      this.#cancelFrame = undefined;
      const dirty = [...this.#dirty];
      this.#dirty.clear();
      for (const one of dirty) one.flush();
    });
  }

  /** @param {Shown<any>} shown */
  showNow(shown) {
    this.#dirty.delete(shown);
    shown.flush();
  }

  /* Calls */

  /** @template T @param {(connection: Connection) => Promise<T>} work @returns {Promise<T>} */
  call(work) {
    return this.connection ? work(this.connection) : Promise.reject(new ChatAPIError("CLOSED", "no component of this chat is mounted"));
  }

  /** Hears of the room, also if it is a channel that the user only reads. @param {Timeline | Facts} follower */
  follow(follower) {
    const { roomId } = follower;
    const followers = this.#followers.get(roomId) ?? new Set();
    this.#followers.set(roomId, followers.add(follower));
    if (this.isReady) this.#subscribe(roomId);
  }

  /** @param {Timeline | Facts} follower */
  unfollow(follower) {
    const { roomId } = follower;
    const followers = this.#followers.get(roomId);
    followers?.delete(follower);
    if (followers?.size !== 0) return;
    this.#followers.delete(roomId);
    if (!this.#subscribed.delete(roomId) || !this.connection || this.connection.isMember(roomId)) return;
    this.#left.add(roomId);
    this.connection.unsubscribe(roomId).catch(() => {}); // it is gone, or the connection
  }

  /** @param {string} roomId */
  #subscribe(roomId) {
    const { connection } = this;
    if (!connection || (connection.isMember(roomId) && !this.#left.has(roomId))) return;
    this.#left.delete(roomId);
    this.#subscribed.add(roomId);
    const followers = () => (this.connection === connection ? [...(this.#followers.get(roomId) ?? [])] : []);
    connection.subscribe(roomId).then(
      ({ last_seq: seq }) => { for (const follower of followers()) follower.reachTo(seq); },
      (error) => {
        this.#subscribed.delete(roomId);
        for (const follower of followers()) follower.lose(error);
      },
    );
  }
}

/** Once, with the next frame; where there are none, soon. Returns what cancels it. @param {() => void} work @returns {() => void} */
function nextFrame(work) {
  /** @type {number | undefined} */ let frame;
  const cancel = () => {
    clearTimeout(timer);
    if (frame !== undefined) cancelAnimationFrame(frame);
  };
  const run = () => { cancel(); work(); };
  const timer = setTimeout(run, HIDDEN_MS);
  if (typeof requestAnimationFrame === "function") frame = requestAnimationFrame(run);
  return cancel;
}

/* --------------------------------------------------------------------------------------------------- hooks ---- */

/** @type {Context<Chat | null>} */
const ChatContext = createContext(/** @type {Chat | null} */ (null));

/** @type {WeakMap<object, Chat>} */
const chats = new WeakMap();

/** One for each client or connection, whatever is mounted how often. @param {ChatAPI | Connection} source @returns {Chat} */
function chatOf(source) {
  const chat = chats.get(source) ?? new Chat(source);
  chats.set(source, chat);
  return chat;
}

/**
 * Gives the hooks below it their connection. With `client` it opens one when it is mounted, one for all providers of that client, and closes
 * it a second after the last of them has gone; make the client once, outside of components. A `connection` that is given stays yours: it is neither
 * opened nor closed.
 * @param {{client: ChatAPI, connection?: undefined, children?: ReactNode} | {connection: Connection, client?: undefined, children?: ReactNode}} props
 * @returns {ReactElement}
 */
export function ChatAPIProvider({ client, connection, children }) {
  const source = connection ?? client;
  if (!source) throw new TypeError("ChatAPIProvider needs a client or a connection");
  const chat = chatOf(source);
  useEffect(() => chat.retain(), [chat]);
  return createElement(ChatContext.Provider, { value: chat }, children);
}

function useChat() {
  const chat = useContext(ChatContext);
  if (!chat) throw new Error("this hook needs a ChatAPIProvider above it");
  return chat;
}

/**
 * @template S
 * @param {Chat} chat @param {string} roomId @param {string} kind @param {(chat: Chat) => Shown<any>} make
 * @param {S} empty of the server, and until it is shown @param {(shown: Shown<any>) => S} [select]
 * @returns {S}
 */
function useShown(chat, roomId, kind, make, empty, select = snapshotOf) {
  const subscribe = useCallback(
    (/** @type {() => void} */ listener) => (kind ? chat.subscribe(roomId, kind, () => make(chat), listener) : () => {}),
    [chat, roomId, kind], // `make` follows from these
  );
  const get = () => {
    const shown = kind ? chat.find(roomId, kind) : undefined;
    return shown ? select(shown) : empty;
  };
  return useSyncExternalStore(subscribe, get, () => empty);
}

/** @param {Shown<any>} shown */
function snapshotOf({ snapshot }) { return snapshot; }

/**
 * The connection and how it stands, for a line such as "reconnecting …" and for all that has no hook. On the server, and before the first
 * effect, `connection` is undefined.
 * @returns {ConnectionShown}
 */
export function useConnection() {
  return useShown(useChat(), "", "status", (chat) => new Status(chat), NO_CONNECTION);
}

const NO_ROOM_CHOSEN = { ...NO_ROOM, isLoading: false };

/**
 * A room, with its changes. `error` is the server's refusal, or `NOT_FOUND` once it was deleted. `roomId` may be null while none is chosen.
 * @param {string | null | undefined} roomId
 * @returns {RoomShown}
 */
export function useRoom(roomId) {
  return useShown(useChat(), roomId ?? "", roomId ? "room" : "", (chat) => new Facts(chat, roomId ?? ""), roomId ? NO_ROOM : NO_ROOM_CHOSEN);
}

const NONE_CHOSEN = { ...NO_MESSAGES, isLoading: false };

/**
 * A room's messages as they now stand, with edits, deletions, reactions and streams that grow, and what is not confirmed yet. The newest
 * page first; `loadOlder` adds the page before. At most 500 messages are held.
 * @param {string | null | undefined} roomId null while none is chosen
 * @param {MessagesOptions} [options]
 * @returns {MessagesState & MessagesActions}
 */
export function useMessages(roomId, { threadId, topLevel, pageSize } = {}) {
  const chat = useChat();
  const kind = roomId ? `messages ${JSON.stringify([threadId ?? null, topLevel ?? false, pageSize ?? PAGE])}` : "";
  const make = () => new Timeline(chat, roomId ?? "", { threadId, topLevel, pageSize });
  const shown = useShown(chat, roomId ?? "", kind, make, roomId ? NO_MESSAGES : NONE_CHOSEN);
  const actions = useMemo(() => actionsOf(chat, roomId ?? "", kind), [chat, roomId, kind]);
  return useMemo(() => ({ ...shown, ...actions }), [shown, actions]);
}

/** @param {Chat} chat @param {string} roomId @param {string} kind @returns {MessagesActions} */
function actionsOf(chat, roomId, kind) {
  const timeline = () => /** @type {Timeline | undefined} */ (chat.find(roomId, kind));
  const refused = () => Promise.reject(new ChatAPIError("CLOSED", "these messages are not shown any more"));
  return {
    loadOlder: async () => { if (timeline()?.snapshot.hasOlder) await timeline()?.load("older"); },
    loadNewer: async () => { if (timeline()?.snapshot.hasNewer) await timeline()?.load("newer"); },
    showNewest: async () => timeline()?.load(),
    send: (message) => timeline()?.send(message) ?? refused(),
    retry: (key) => timeline()?.retry(key) ?? refused(),
    discard: (key) => timeline()?.discard(key) ?? false,
    edit: (messageId, change) => chat.call((connection) => connection.edit(roomId, messageId, change)),
    remove: (messageId) => chat.call((connection) => connection.delete(roomId, messageId)),
    react: (messageId, emoji) => chat.call((connection) => connection.react(roomId, messageId, emoji)),
    unreact: (messageId, emoji) => chat.call((connection) => connection.unreact(roomId, messageId, emoji)),
  };
}

const NOBODY_CHOSEN = { ...NOBODY, isLoading: false };

/**
 * The ids of the room's members who are online, sorted. In rooms of more than 200 members the server tells no changes: there it is
 * as it was at the last connect.
 * @param {string | null | undefined} roomId
 * @returns {PresenceShown}
 */
export function usePresence(roomId) {
  return useShown(useChat(), roomId ?? "", roomId ? "presence" : "", (chat) => new Presence(chat, roomId ?? ""), roomId ? NOBODY : NOBODY_CHOSEN);
}

/**
 * The users who type in the room, without this one. Call `setTyping()` on every key, and `setTyping(false)` when the draft is given up.
 * @param {string | null | undefined} roomId
 * @returns {{typists: readonly string[], setTyping: (isTyping?: boolean) => void}}
 */
export function useTyping(roomId) {
  const chat = useChat();
  const typists = useShown(chat, roomId ?? "", roomId ? "typing" : "", () => new Typists(chat, roomId ?? ""), NO_TYPISTS);
  const setTyping = useCallback((isTyping = true) => { if (roomId) chat.connection?.typing(roomId, isTyping); }, [chat, roomId]);
  return useMemo(() => ({ typists, setTyping }), [typists, setTyping]);
}

/**
 * How many messages of others, and how many mentions, the user has not read in a room, each counted to 1,000; without a room, in all of them. Of the
 * 1,000 rooms with the newest activity. `markRead()` marks the room as read to its newest event, or to the `seq` that is given.
 * @param {string | null} [roomId] null while none is chosen
 * @returns {UnreadShown & {markRead: (seq?: number) => Promise<void>}}
 */
export function useUnread(roomId) {
  const chat = useChat();
  const unread = useShown(chat, "", "unread", () => new Unread(chat), ALL_READ, (shown) => /** @type {Unread} */ (shown).of(roomId));
  const markRead = useCallback(async (/** @type {number | undefined} */ seq) => {
    const known = /** @type {Unread | undefined} */ (chat.find("", "unread"))?.newestSeq(roomId ?? "");
    const upTo = seq ?? known;
    if (roomId && upTo) await chat.call((connection) => connection.read(roomId, upTo));
  }, [chat, roomId]);
  return useMemo(() => ({ count: unread.count, mentions: unread.mentions, lastRead: unread.lastRead, markRead }), [unread, markRead]);
}
