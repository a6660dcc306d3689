/**
 * ChatAPI for JavaScript: the REST calls and a WebSocket connection that survives the network and the server.
 *
 * One file, no dependencies, for browsers and Node 20+. What travels keeps the wire's names (`room_id`, `reply_to`);
 * what is only this library's own is camelCase (`autoAck`).
 *
 *     import { ChatAPI } from "/sdk/chatapi.js";
 *     const chat = new ChatAPI({ url: location.origin, getToken: () => fetch("/my-backend/chat-token").then(r => r.text()) });
 *     const connection = chat.connect();
 *     connection.on("message", (message) => console.log(message.sender_id, message.content));
 *     await connection.send("room_…", "Hello");
 *
 * @module chatapi
 */

/* ------------------------------------------------------------------------------------------------ types ---- */

/**
 * Who is calling. Give `apiKey` and `userId` in a backend only; a page or an app gets a user token from its own
 * backend (`POST /tokens`), as `token` or, so that it can be renewed, as `getToken`.
 * @typedef {object} ClientOptions
 * @property {string} url where the server is: `https://chat.example.com`, a path in front of it included
 * @property {string} [apiKey]
 * @property {string} [userId]
 * @property {string} [token]
 * @property {() => string | Promise<string>} [getToken] asked at first, and again when the server refuses the last one
 * @property {typeof globalThis.fetch} [fetch]
 * @property {any} [WebSocket] a WHATWG WebSocket class; Node 20 has none, `ws` from npm is one
 * @property {number} [timeoutMs] of one HTTP try (30,000)
 * @property {number} [retries] how often an HTTP call is tried again (4)
 */

/**
 * @typedef {object} CallOptions
 * @property {AbortSignal} [signal]
 * @property {number} [retries]
 */

/** @typedef {Record<string, unknown>} Json */
/** @typedef {"dm" | "group" | "channel"} RoomType */
/** @typedef {"admin" | "member"} Role */

/**
 * @typedef {object} Room
 * @property {string} room_id
 * @property {RoomType} type
 * @property {string | null} unique_key
 * @property {string | null} name
 * @property {Json | null} metadata
 * @property {number} last_seq
 * @property {number} member_count
 * @property {string} created_by
 * @property {string} created_at
 * @property {string} updated_at
 */

/**
 * @typedef {object} Standing what `listRooms` adds to a room for the caller
 * @property {Role} role
 * @property {number} last_ack
 * @property {number} last_read
 * @property {number} unread_count
 * @property {Message | null} last_message
 */

/**
 * @typedef {object} Message
 * @property {string} message_id
 * @property {string} room_id
 * @property {number} seq
 * @property {string} sender_id
 * @property {string | null} content
 * @property {Json | null} meta
 * @property {string | null} reply_to
 * @property {string | null} client_message_id
 * @property {string} created_at
 * @property {string | null} edited_at
 * @property {string | null} deleted_at
 */

/** @typedef {{user_id: string, role: Role, joined_at: string}} Member */
/** @typedef {{user_id: string, last_ack: number, last_read: number}} Receipt */
/** @typedef {{notification_id: string, topic: string, payload: unknown, created_at: string}} Notification */
/** @typedef {{subscription_id: string, topic: string, created_at: string}} Subscription */
/** @typedef {{content: string, meta?: Json | null, reply_to?: string | null, client_message_id?: string}} NewMessage */
/** @typedef {{room_id: string, message_id: string, seq: number, client_message_id: string | null, created_at: string}} Sent */

/**
 * How far a device has come in each room. Keep it (as JSON) and give it to `connect`, and nothing is seen twice or missed.
 * @typedef {{epoch: string | null, rooms: Record<string, number>}} Cursors
 */

/**
 * @typedef {object} ConnectOptions
 * @property {Cursors} [cursors] where this device stopped; without it the server continues from what the user acknowledged
 * @property {boolean} [autoAck] acknowledge what has been handled (true)
 * @property {number} [minDelayMs] of the first reconnect (500)
 * @property {number} [maxDelayMs] of any reconnect (30,000)
 * @property {number} [maxPending] events waiting for their handlers before the connection is dropped until they are
 *   handled (10,000); nothing is lost by it
 */

/** @typedef {"connecting" | "syncing" | "live" | "waiting" | "paused" | "closed"} State */

/**
 * @typedef {object} StateChange
 * @property {State} state
 * @property {number} [delayMs] until the next try, when waiting
 * @property {number} [closeCode] of the socket that ended
 * @property {Error} [error] what ended the connection for good, or spoilt the last try
 */

/**
 * What `on` can be given. All but the last three come from the server; `"*"` is every one of those.
 * @typedef {{
   "ready": {type: "ready", connection_id: string, user_id: string, epoch: string, server_time: string,
     heartbeat_seconds: number,
     rooms: {room_id: string, type: RoomType, last_seq: number, last_ack: number, last_read: number}[]},
   "message": Message & {type: "message"},
   "message.edited": Message & {type: "message.edited", target_seq: number},
   "message.deleted": {type: "message.deleted", room_id: string, message_id: string, seq: number, target_seq: number},
   "room.created": RoomFields & {type: "room.created"},
   "room.updated": RoomFields & {type: "room.updated", seq: number},
   "room.deleted": RoomFields & {type: "room.deleted"},
   "member.joined": {type: "member.joined", room_id: string, user_id: string, role: Role, seq: number},
   "member.updated": {type: "member.updated", room_id: string, user_id: string, role: Role, seq: number},
   "member.left": {type: "member.left", room_id: string, user_id: string, seq: number},
   "ack.received": {type: "ack.received", room_id: string, seq: number, user_id: string},
   "read.updated": {type: "read.updated", room_id: string, seq: number, user_id: string},
   "presence.update": {type: "presence.update", user_id: string, status: "online" | "offline"},
   "typing": {type: "typing", room_id: string, user_id: string, action: "start" | "stop"},
   "notification": Notification & {type: "notification"},
   "sync.complete": {type: "sync.complete", rooms: Record<string, number>},
   "sync.reset": {type: "sync.reset", epoch: string, rooms: Record<string, number>},
   "server.shutdown": {type: "server.shutdown", reconnect_after_ms: number},
   "*": ServerEvent,
   "error": Error,
   "state": StateChange,
   "frame": {direction: "in" | "out", frame: ServerEvent},
}} EventMap
 *
 * `error`: a refused frame that nobody waits for, a handler that threw. `frame`: every frame as it passes.
 */

/** A room as its frames show it: `type` is the frame's there. @typedef {Omit<Room, "type"> & {room_type: RoomType}} RoomFields */
/** @typedef {{type: string, [field: string]: any}} ServerEvent */

/* ------------------------------------------------------------------------------------ limits and odds ---- */

const RETRY_BASE_MS = 250;
const RETRY_CAP_MS = 10_000;
/** A longer Retry-After is the caller's decision, so it gets the error. */
const RETRY_AFTER_LIMIT_S = 60;
const CONNECT_TIMEOUT_MS = 15_000; // from the first byte to `ready`
const STABLE_MS = 5_000; // a connection that lived this long starts the back-off anew
const MAX_FRAME_BYTES = 128 * 1024; // the server closes with 1009 above it
const MAX_SYNC_BYTES = 100 * 1024; // of cursors in one `sync`; the rooms beyond it are caught up over REST
const PAGE = 100;
const ACK_DELAY_MS = 100; // so that a burst of messages is one ack
const ACKS_PER_S = 15; // the server delays acks above 20 a second, and drops typing with them
const TYPING_REPEAT_MS = 3_000; // the server forgets a typist after 6 s
const REMEMBERED_NOTIFICATIONS = 10_000;
const ATTEMPTS = 5; // of a frame that is not a message; a message is tried until it is confirmed

/** What takes a number in the room's log. `ack.received` and `read.updated` carry a `seq` too, but are none of it. */
const LOGGED = new Set([
  "message", "message.edited", "message.deleted",
  "room.updated", "member.joined", "member.updated", "member.left",
]);

/** Answers that mean something only to the call that asked. */
const ANSWERS = new Set(["message.sent", "subscribed", "unsubscribed", "pong"]);

/** @type {Record<string, number>} */
const STATUS_OF_CODE = {
  VALIDATION_ERROR: 400, AUTHENTICATION_ERROR: 401, AUTHORIZATION_ERROR: 403, NOT_FOUND: 404,
  CONFLICT: 409, RATE_LIMIT_EXCEEDED: 429, INTERNAL_ERROR: 500,
};

/** Not `crypto.randomUUID`: a page on plain http, other than localhost, has none. */
function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {string} text */
function byteLength(text) {
  return new TextEncoder().encode(text).length;
}

/** Somewhere in the upper half of an exponentially growing delay. @param {number} attempt @param {number} base @param {number} cap */
function backoff(attempt, base, cap) {
  return Math.min(cap, base * 2 ** attempt) * (0.5 + Math.random() / 2);
}

/** @param {number} ms @param {AbortSignal} [signal] @returns {Promise<void>} */
function delay(ms, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => { clearTimeout(timer); reject(signal?.reason); };
    const timer = setTimeout(() => { signal?.removeEventListener("abort", stop); resolve(); }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/**
 * What the server refused, or what kept it from being asked. `code` is one of the server's codes, or
 * `NETWORK_ERROR` (no answer), `TIMEOUT`, `CLOSED` (the connection was closed before the answer).
 */
export class ChatAPIError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{status?: number, field?: string, details?: Json, retryAfter?: number, requestId?: string, cause?: unknown}} [more]
   */
  constructor(code, message, more = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = "ChatAPIError";
    this.code = code;
    /** HTTP status; for an `error` frame the status its code has over HTTP; 0 when there was no answer. */
    this.status = more.status ?? STATUS_OF_CODE[code] ?? 0;
    this.field = more.field;
    this.details = more.details;
    /** Seconds. */
    this.retryAfter = more.retryAfter;
    /** The `X-Request-Id` to look for in the server's log. */
    this.requestId = more.requestId;
  }
}

/* ------------------------------------------------------------------------------------------------- REST ---- */

export class ChatAPI {
  /** @type {ClientOptions} */ #options;
  /** @type {string} */ #base;
  /** @type {string | undefined} */ #token;
  /** @type {Promise<string> | undefined} */ #tokenRequest;

  /** @param {ClientOptions} options */
  constructor(options) {
    const { url, apiKey, userId, token, getToken } = options;
    if (!/^https?:\/\//.test(url ?? "")) throw new TypeError("url must start with http:// or https://");
    if (apiKey ? !userId : !token && !getToken) throw new TypeError("give apiKey and userId, or token, or getToken");
    this.#options = { ...options };
    this.#base = url.replace(/\/+$/, "");
    this.#token = token;
  }

  /** The same tenant as another user; with an API key only. @param {string} userId @returns {ChatAPI} */
  asUser(userId) {
    if (!this.#options.apiKey) throw new TypeError("only an API key can act as another user");
    return new ChatAPI({ ...this.#options, userId });
  }

  /**
   * A connection, which begins at once and keeps itself alive until it is closed.
   * @param {ConnectOptions} [options]
   * @returns {Connection}
   */
  connect(options = {}) {
    return new Connection(this, options);
  }

  // Rooms

  /** @param {{type: RoomType, members?: string[], name?: string | null, metadata?: Json | null}} room @param {CallOptions} [options] @returns {Promise<Room>} */
  createRoom(room, options) { return this.#call("POST", "/rooms", { body: room }, options); }

  /** The caller's rooms, the most recently active first. @param {{limit?: number, offset?: number}} [page] @param {CallOptions} [options] @returns {Promise<{rooms: (Room & Standing)[], has_more: boolean}>} */
  listRooms(page, options) { return this.#call("GET", "/rooms", { query: page }, options); }

  /** The tenant's channels. @param {{limit?: number, offset?: number}} [page] @param {CallOptions} [options] @returns {Promise<{rooms: Room[], has_more: boolean}>} */
  listChannels(page, options) { return this.#call("GET", "/channels", { query: page }, options); }

  /** @param {string} roomId @param {CallOptions} [options] @returns {Promise<Room>} */
  getRoom(roomId, options) { return this.#call("GET", path`/rooms/${roomId}`, {}, options); }

  /** Absent fields stay, `null` clears. @param {string} roomId @param {{name?: string | null, metadata?: Json | null}} change @param {CallOptions} [options] @returns {Promise<Room>} */
  updateRoom(roomId, change, options) { return this.#call("PATCH", path`/rooms/${roomId}`, { body: change, idempotent: true }, options); }

  /** Removes everything in it. @param {string} roomId @param {CallOptions} [options] @returns {Promise<void>} */
  deleteRoom(roomId, options) { return this.#call("DELETE", path`/rooms/${roomId}`, {}, options); }

  /** @param {string} roomId @param {{limit?: number, offset?: number}} [page] @param {CallOptions} [options] @returns {Promise<{members: Member[], has_more: boolean}>} */
  listMembers(roomId, page, options) { return this.#call("GET", path`/rooms/${roomId}/members`, { query: page }, options); }

  /** @param {string} roomId @param {string} userId @param {{role?: Role}} [more] @param {CallOptions} [options] @returns {Promise<Member>} */
  addMember(roomId, userId, more, options) { return this.#call("POST", path`/rooms/${roomId}/members`, { body: { user_id: userId, ...more } }, options); }

  /** @param {string} roomId @param {string} userId @param {{role: Role}} change @param {CallOptions} [options] @returns {Promise<Member>} */
  updateMember(roomId, userId, change, options) { return this.#call("PATCH", path`/rooms/${roomId}/members/${userId}`, { body: change, idempotent: true }, options); }

  /** @param {string} roomId @param {string} userId @param {CallOptions} [options] @returns {Promise<void>} */
  removeMember(roomId, userId, options) { return this.#call("DELETE", path`/rooms/${roomId}/members/${userId}`, {}, options); }

  // Messages

  /**
   * Stores a message once, however often the call has to be tried: a `client_message_id` is made where none is given.
   * @param {string} roomId @param {string | NewMessage} message @param {CallOptions} [options] @returns {Promise<Message>}
   */
  sendMessage(roomId, message, options) {
    return this.#call("POST", path`/rooms/${roomId}/messages`, { body: asMessage(message), idempotent: true }, options);
  }

  /** Ascending by `seq`; without a bound the newest page. @param {string} roomId @param {{after_seq?: number, before_seq?: number, limit?: number}} [page] @param {CallOptions} [options] @returns {Promise<{messages: Message[], has_more: boolean}>} */
  listMessages(roomId, page, options) { return this.#call("GET", path`/rooms/${roomId}/messages`, { query: page }, options); }

  /** @param {string} roomId @param {string} messageId @param {CallOptions} [options] @returns {Promise<Message>} */
  getMessage(roomId, messageId, options) { return this.#call("GET", path`/rooms/${roomId}/messages/${messageId}`, {}, options); }

  /** @param {string} roomId @param {string} messageId @param {string | {content: string, meta?: Json | null}} change @param {CallOptions} [options] @returns {Promise<Message>} */
  editMessage(roomId, messageId, change, options) {
    return this.#call("PUT", path`/rooms/${roomId}/messages/${messageId}`, { body: typeof change === "string" ? { content: change } : change }, options);
  }

  /** @param {string} roomId @param {string} messageId @param {CallOptions} [options] @returns {Promise<void>} */
  deleteMessage(roomId, messageId, options) { return this.#call("DELETE", path`/rooms/${roomId}/messages/${messageId}`, {}, options); }

  /** The room's log: messages, edits, deletions, membership and room changes. @param {string} roomId @param {{after_seq?: number, limit?: number}} [page] @param {CallOptions} [options] @returns {Promise<{events: ServerEvent[], has_more: boolean}>} */
  listEvents(roomId, page, options) { return this.#call("GET", path`/rooms/${roomId}/events`, { query: page }, options); }

  /** @param {string} roomId @param {number} seq @param {CallOptions} [options] @returns {Promise<{room_id: string, seq: number}>} */
  markRead(roomId, seq, options) { return this.#call("POST", path`/rooms/${roomId}/read`, { body: { seq }, idempotent: true }, options); }

  /** @param {string} roomId @param {number} seq @param {CallOptions} [options] @returns {Promise<{room_id: string, seq: number}>} */
  ack(roomId, seq, options) { return this.#call("POST", "/acks", { body: { room_id: roomId, seq }, idempotent: true }, options); }

  /** @param {string} roomId @param {{limit?: number, offset?: number}} [page] @param {CallOptions} [options] @returns {Promise<{receipts: Receipt[], has_more: boolean}>} */
  listReceipts(roomId, page, options) { return this.#call("GET", path`/rooms/${roomId}/receipts`, { query: page }, options); }

  /** Who of the room is online. @param {string} roomId @param {CallOptions} [options] @returns {Promise<{online: string[]}>} */
  getPresence(roomId, options) { return this.#call("GET", path`/rooms/${roomId}/presence`, {}, options); }

  // Notifications and topics

  /** With an API key only. Not tried again after a lost answer, as it could then arrive twice. @param {{topic: string, payload: unknown, targets: {user_ids?: string[], room_id?: string, topic_subscribers?: boolean}}} notification @param {CallOptions} [options] @returns {Promise<{notification_id: string, created_at: string, recipients: number}>} */
  notify(notification, options) { return this.#call("POST", "/notify", { body: notification }, options); }

  /** @param {{status?: "pending" | "delivered" | "all", limit?: number, offset?: number}} [page] @param {CallOptions} [options] @returns {Promise<{notifications: Notification[], has_more: boolean}>} */
  listNotifications(page, options) { return this.#call("GET", "/notifications", { query: page }, options); }

  /** @param {string} notificationId @param {CallOptions} [options] @returns {Promise<Json>} */
  ackNotification(notificationId, options) { return this.#call("POST", path`/notifications/${notificationId}/ack`, { idempotent: true }, options); }

  /** @param {string} topic @param {CallOptions} [options] @returns {Promise<Subscription>} */
  subscribeTopic(topic, options) { return this.#call("POST", "/subscriptions", { body: { topic }, idempotent: true }, options); }

  /** @param {CallOptions} [options] @returns {Promise<{subscriptions: Subscription[]}>} */
  listSubscriptions(options) { return this.#call("GET", "/subscriptions", {}, options); }

  /** @param {string} subscriptionId @param {CallOptions} [options] @returns {Promise<void>} */
  unsubscribeTopic(subscriptionId, options) { return this.#call("DELETE", path`/subscriptions/${subscriptionId}`, {}, options); }

  // Credentials and the server itself

  /** A user token, for a page or an app; with an API key only. @param {{user_id?: string, expires_in?: number}} [token] @param {CallOptions} [options] @returns {Promise<{token: string, user_id: string, expires_at: string}>} */
  createToken(token = {}, options) { return this.#call("POST", "/tokens", { body: token, idempotent: true }, options); }

  /** A ticket for one WebSocket, good for a minute. @param {CallOptions} [options] @returns {Promise<{token: string, expires_in: number}>} */
  createTicket(options) { return this.#call("POST", "/ws/token", { idempotent: true }, options); }

  /** @param {CallOptions} [options] @returns {Promise<{status: string, service: string, version: string, uptime: string, uptime_seconds: number, db_writable: boolean}>} */
  health(options) { return this.#call("GET", "/health", {}, options); }

  /**
   * Address and subprotocols of one WebSocket. A user token travels as a subprotocol and an API key not at all: it is
   * exchanged for a ticket, because addresses end up in logs.
   * @internal
   * @param {AbortSignal} signal
   * @returns {Promise<{url: string, protocols: string[]}>}
   */
  async openSocketWith(signal) {
    const url = `${this.#base.replace(/^http/, "ws")}/v1/ws?sync=none`;
    if (this.#options.apiKey) {
      const { token } = await this.createTicket({ signal, retries: 0 });
      return { url: `${url}&token=${encodeURIComponent(token)}`, protocols: ["chatapi.v1"] };
    }
    return { url, protocols: ["chatapi.v1", `bearer.${await this.#currentToken()}`] };
  }

  /** @internal */
  get socketClass() {
    const found = this.#options.WebSocket ?? /** @type {any} */ (globalThis).WebSocket;
    if (!found) throw new TypeError("there is no WebSocket here: pass one, such as that of the npm package ws, as the option WebSocket");
    return found;
  }

  /** Forgets a token that the server refused. True when there may be a better one. @internal */
  renewToken() {
    if (!this.#options.getToken) return false;
    this.#token = undefined;
    return true;
  }

  /** @internal */
  get usesApiKey() { return Boolean(this.#options.apiKey); }

  /** One request for all that wait for a token. @returns {Promise<string>} */
  async #currentToken() {
    if (this.#token !== undefined) return this.#token;
    this.#tokenRequest ??= Promise.resolve()
      .then(() => /** @type {NonNullable<ClientOptions["getToken"]>} */ (this.#options.getToken)())
      .then((token) => (this.#token = token))
      .finally(() => { this.#tokenRequest = undefined; });
    return this.#tokenRequest;
  }

  /** @returns {Promise<Record<string, string>>} */
  async #credentials() {
    const { apiKey, userId } = this.#options;
    if (apiKey) return { "X-API-Key": apiKey, "X-User-Id": /** @type {string} */ (userId) };
    return { Authorization: `Bearer ${await this.#currentToken()}` };
  }

  /**
   * Tries until there is an answer worth having. What is not idempotent is tried again only when the server said that it
   * did nothing (429).
   * @param {string} method
   * @param {string} route
   * @param {{query?: Record<string, unknown>, body?: unknown, idempotent?: boolean}} request
   * @param {CallOptions} [options]
   * @returns {Promise<any>}
   */
  async #call(method, route, { query, body, idempotent = method !== "POST" }, options = {}) {
    const { signal, retries = this.#options.retries ?? 4 } = options;
    let renewed = false;
    let answerLost = false;
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#once(method, route, query, body, signal);
      } catch (error) {
        if (!(error instanceof ChatAPIError)) throw error;
        if (error.status === 404 && method === "DELETE" && answerLost) return undefined; // an earlier try did it
        if (error.status === 401 && !renewed && this.renewToken()) { renewed = true; continue; }
        const again = error.status === 429 || (idempotent && (error.status === 0 || error.status >= 502));
        const tooLong = (error.retryAfter ?? 0) > RETRY_AFTER_LIMIT_S;
        if (!again || tooLong || attempt >= retries) throw error;
        answerLost ||= error.status === 0;
        await delay(Math.max(backoff(attempt, RETRY_BASE_MS, RETRY_CAP_MS), (error.retryAfter ?? 0) * 1000), signal);
      }
    }
  }

  /**
   * @param {string} method @param {string} route @param {Record<string, unknown> | undefined} query @param {unknown} body
   * @param {AbortSignal | undefined} signal
   * @returns {Promise<any>}
   */
  async #once(method, route, query, body, signal) {
    const url = new URL(`${this.#base}/v1${route}`);
    for (const [name, value] of Object.entries(query ?? {})) if (value != null) url.searchParams.set(name, String(value));
    const headers = await this.#credentials();
    if (method !== "GET" && method !== "DELETE") headers["Content-Type"] = "application/json";
    const timeout = new AbortController();
    const stop = () => timeout.abort(signal?.reason);
    if (signal?.aborted) throw signal.reason;
    signal?.addEventListener("abort", stop, { once: true });
    const timer = setTimeout(() => timeout.abort(), this.#options.timeoutMs ?? 30_000);
    try {
      const response = await (this.#options.fetch ?? globalThis.fetch)(url, {
        method, headers, signal: timeout.signal, cache: "no-store",
        body: headers["Content-Type"] ? JSON.stringify(body ?? {}) : undefined,
      });
      return await unwrap(response);
    } catch (cause) {
      if (cause instanceof ChatAPIError) throw cause;
      if (signal?.aborted) throw signal.reason;
      if (timeout.signal.aborted) throw new ChatAPIError("TIMEOUT", `${method} ${route}: no answer in time`, { cause });
      throw new ChatAPIError("NETWORK_ERROR", `${method} ${route}: the server could not be reached`, { cause });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
    }
  }
}

/** A path with its parts escaped: user ids may contain slashes. @param {TemplateStringsArray} texts @param {string[]} values */
function path(texts, ...values) {
  return texts.reduce((whole, text, i) => whole + encodeURIComponent(values[i - 1] ?? "") + text);
}

/** @param {string | NewMessage} message @returns {NewMessage & {client_message_id: string}} */
function asMessage(message) {
  const fields = typeof message === "string" ? { content: message } : message;
  return { ...fields, client_message_id: fields.client_message_id ?? randomId() };
}

/** The `data` of an envelope, or its error thrown. @param {Response} response @returns {Promise<any>} */
async function unwrap(response) {
  if (response.status === 204) return undefined;
  const text = await response.text();
  const requestId = response.headers.get("X-Request-Id") ?? undefined;
  let envelope;
  try {
    envelope = JSON.parse(text);
  } catch { /* a proxy's page; told below */ }
  if (envelope?.success === true) return envelope.data;
  const error = envelope?.error;
  if (!error?.code) throw new ChatAPIError("INTERNAL_ERROR", `HTTP ${response.status} without an answer of ChatAPI`, { status: response.status, requestId });
  const retryAfter = Number(response.headers.get("Retry-After") ?? NaN);
  throw new ChatAPIError(error.code, error.message, {
    status: response.status, field: error.field, details: error.details, requestId,
    retryAfter: Number.isFinite(retryAfter) ? retryAfter : undefined,
  });
}

/* ------------------------------------------------------------------------------------------- connection ---- */

/**
 * What a connection knows of one room. Replaced, not changed, when the server resets it, so that events of the log
 * before the reset cannot move the cursors of the log after it.
 */
class RoomCursor {
  /** @param {number | undefined} seq @param {boolean} member */
  constructor(seq, member) {
    /** Up to here events were taken in. Undefined: the next event is the first. @type {number | undefined} */
    this.received = seq;
    /** Up to here the caller has handled them. @type {number | undefined} */
    this.handled = seq;
    /** @type {number | undefined} */
    this.acked = seq;
    this.member = member;
    /** While above `received`, a gap is being read over REST and `held` waits behind it. */
    this.gapEnd = 0;
    this.filling = false;
    /** @type {ServerEvent[]} */
    this.held = [];
  }
}

/**
 * @typedef {object} Request a frame whose answer somebody waits for
 * @property {ServerEvent} frame
 * @property {string} [lane] requests of one lane are sent one after the other, so that their order survives a refusal
 * @property {number} attempts
 * @property {number} maxAttempts
 * @property {(answer: any) => void} resolve
 * @property {(error: Error) => void} reject
 * @property {ReturnType<typeof setTimeout>} [timer]
 */

/**
 * One user's live connection. It comes back by itself, continues where it stopped, and gives the caller each event
 * of a room once and in order. Events come to handlers (`on`) or to one loop (`for await … of`); they wait
 * until there is either. An event counts as handled, and is acknowledged, when its handlers have returned (promises
 * awaited) or the loop has asked for the next one.
 */
export class Connection {
  /** @type {ChatAPI} */ #client;
  /** @type {Required<Omit<ConnectOptions, "cursors">>} */ #options;

  /** @type {State} */ #state = "connecting";
  /** @type {any} */ #socket = null;
  /** True from `ready` on: frames may be sent. */ #open = false;
  #attempt = 0;
  #refusals = 0;
  #readyAt = 0;
  #heardAt = 0;
  /** @type {number | undefined} */ #shutdownDelay;
  /** @type {AbortController} */ #life = new AbortController(); // of one socket: its gap fillers end with it
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer; // the next try, or the deadline of this one
  /** @type {ReturnType<typeof setInterval> | undefined} */ #watchdog;
  /** Stops listening to the browser's on- and offline events. */ #unlisten = () => {};

  /** @type {string | null} */ #epoch;
  /** @type {Map<string, RoomCursor>} */ #rooms = new Map();
  /** @type {Set<string>} */ #wanted = new Set(); // channels subscribed to without being a member
  /** @type {Set<string>} */ #unwanted = new Set(); // the user's rooms that this connection does not want
  #userId = "";
  #fills = 0;
  /** The `sync` of this socket, until it is answered. @type {ServerEvent | undefined} */ #sync;
  /** @type {ServerEvent | undefined} */ #complete; // a sync.complete that waits for the gaps

  /** @type {{event: ServerEvent, room?: RoomCursor}[]} */ #queue = [];
  #pumping = false;
  /** Nobody listened until the queue was full, as with a connection that only sends: events are let go, and asked for again. */ #deaf = false;
  /** @type {(() => void)[]} */ #drained = [];
  /** @type {Map<string, Set<(event: any) => unknown>>} */ #handlers = new Map();
  /** @type {EventLoop | undefined} */ #loop;

  /** @type {Map<string, Request>} */ #requests = new Map();
  /** @type {Map<string, Request[]>} */ #lanes = new Map();
  /** @type {Map<string, RoomCursor>} */ #unacked = new Map();
  /** @type {Set<string>} */ #unackedNotifications = new Set();
  /** @type {Map<string, boolean>} */ #notifications = new Map(); // id → handled
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #ackTimer;
  /** @type {Map<string, number>} */ #typing = new Map();

  /** @type {(ready: EventMap["ready"]) => void} */ #resolveReady = () => {};
  /** @type {(error: Error) => void} */ #rejectReady = () => {};

  /** @param {ChatAPI} client @param {ConnectOptions} options */
  constructor(client, { cursors, autoAck = true, minDelayMs = 500, maxDelayMs = 30_000, maxPending = 10_000 }) {
    this.#client = client;
    this.#options = { autoAck, minDelayMs, maxDelayMs, maxPending };
    this.#epoch = cursors?.epoch ?? null;
    for (const [roomId, seq] of Object.entries(cursors?.rooms ?? {})) this.#rooms.set(roomId, new RoomCursor(seq, false));
    /**
     * The first `ready`; rejected when the connection ends before it.
     * @type {Promise<EventMap["ready"]>}
     */
    this.ready = new Promise((resolve, reject) => { this.#resolveReady = resolve; this.#rejectReady = reject; });
    this.ready.catch(() => {}); // who does not look at it is told by the state
    void client.socketClass; // complains now, not in a retry
    this.#listenToNetwork();
    void this.#dial();
  }

  get state() { return this.#state; }

  /** How far the caller has come. JSON; a copy. @returns {Cursors} */
  get cursors() {
    /** @type {Record<string, number>} */
    const rooms = {};
    for (const [roomId, room] of this.#rooms) if (room.handled !== undefined) rooms[roomId] = room.handled;
    return { epoch: this.#epoch, rooms };
  }

  /** Messages that the server has not confirmed yet. */
  get unconfirmed() {
    let count = 0;
    for (const lane of this.#lanes.values()) count += lane.length;
    return count;
  }

  /**
   * Calls `handler` for every event of this type, one event at a time. Returns what undoes it.
   * @template {keyof EventMap} K
   * @param {K} type
   * @param {(event: EventMap[K]) => unknown} handler
   * @returns {() => void}
   */
  on(type, handler) {
    const handlers = this.#handlers.get(type) ?? new Set();
    this.#handlers.set(type, handlers.add(handler));
    this.#listen();
    return () => { handlers.delete(handler); };
  }

  /** Every event from the server. One loop at a time. @returns {AsyncIterableIterator<ServerEvent>} */
  [Symbol.asyncIterator]() {
    if (this.#loop) throw new Error("this connection already has a loop over its events");
    const loop = new EventLoop(() => { this.#loop = undefined; });
    if (this.#state === "closed") loop.finish();
    else this.#loop = loop;
    this.#listen();
    return loop;
  }

  /**
   * Sends a message and returns when it is stored. Tried, across reconnects and restarts, until the server has
   * confirmed or refused it; stored once in any case. Messages to one room are stored in the order of the calls.
   * @param {string} roomId
   * @param {string | NewMessage} message
   * @returns {Promise<Sent>}
   */
  send(roomId, message) {
    this.#typing.delete(roomId); // a message ends the typing, here as on the server
    const fields = asMessage(message);
    const frame = { type: "send_message", room_id: roomId, ...fields };
    if (byteLength(JSON.stringify(frame)) > MAX_FRAME_BYTES - 100) {
      return this.#client.sendMessage(roomId, fields); // quotes and the like can double in JSON; HTTP has the room
    }
    return this.#request(frame, { lane: roomId, maxAttempts: Infinity });
  }

  /**
   * Changes a message. Tried again after an interruption, so that the room's log may then hold the same edit twice.
   * @param {string} roomId @param {string} messageId @param {string | {content: string, meta?: Json | null}} change
   * @returns {Promise<EventMap["message.edited"]>}
   */
  edit(roomId, messageId, change) {
    const fields = typeof change === "string" ? { content: change } : change;
    return this.#request({ type: "message.edit", room_id: roomId, message_id: messageId, ...fields });
  }

  /** @param {string} roomId @param {string} messageId @returns {Promise<EventMap["message.deleted"]>} */
  delete(roomId, messageId) {
    return this.#request({ type: "message.delete", room_id: roomId, message_id: messageId });
  }

  /** Marks as read up to `seq`. @param {string} roomId @param {number} seq @returns {Promise<EventMap["read.updated"]>} */
  read(roomId, seq) {
    return this.#request({ type: "read", room_id: roomId, seq });
  }

  /** For those who set `autoAck` to false. @param {string} roomId @param {number} seq @returns {Promise<EventMap["ack.received"]>} */
  ack(roomId, seq) {
    return this.#request({ type: "ack", room_id: roomId, seq });
  }

  /** For those who set `autoAck` to false. @param {string} notificationId */
  ackNotification(notificationId) {
    this.#unackedNotifications.add(notificationId);
    this.#scheduleAcks();
  }

  /** Tells the others that the user is typing; call it on every key. Lost when offline. @param {string} roomId @param {boolean} [active] */
  typing(roomId, active = true) {
    const last = this.#typing.get(roomId);
    if (!this.#open) return;
    if (!active) {
      if (this.#typing.delete(roomId)) this.#transmit({ type: "typing.stop", room_id: roomId });
    } else if (last === undefined || Date.now() - last > TYPING_REPEAT_MS) {
      this.#typing.set(roomId, Date.now());
      this.#transmit({ type: "typing.start", room_id: roomId });
    }
  }

  /**
   * Receives a channel's events without joining it, from now on and across reconnects. A channel that this connection, or its
   * `cursors`, knows already is caught up first.
   * @param {string} roomId
   * @returns {Promise<{room_id: string, last_seq: number}>}
   */
  subscribe(roomId) {
    this.#unwanted.delete(roomId);
    this.#wanted.add(roomId);
    return this.#request({ type: "subscribe", room_id: roomId }).catch((error) => { this.#wanted.delete(roomId); throw error; });
  }

  /** Receives no more of this room on this connection. @param {string} roomId @returns {Promise<{room_id: string}>} */
  unsubscribe(roomId) {
    this.#wanted.delete(roomId);
    this.#unwanted.add(roomId);
    return this.#request({ type: "unsubscribe", room_id: roomId });
  }

  /** Milliseconds to the server and back. @returns {Promise<number>} */
  async ping() {
    const start = performance.now();
    await this.#request({ type: "ping" });
    return performance.now() - start;
  }

  /** Drops the connection until `resume`; what is sent meanwhile waits. */
  pause() {
    if (this.#state === "closed") return;
    this.#hangUp();
    this.#setState({ state: "paused" });
  }

  resume() {
    if (this.#state === "paused") void this.#dial();
  }

  /** Ends the connection: acknowledges what was handled, and refuses what waits for an answer with `CLOSED`. */
  close() {
    this.#sendAcks(Infinity);
    this.#end();
  }

  /* The life of a socket */

  #listenToNetwork() {
    const target = /** @type {any} */ (globalThis);
    if (typeof target.addEventListener !== "function" || typeof target.document === "undefined") return;
    const online = () => { if (this.#state === "waiting") void this.#dial(); };
    const offline = () => { if (this.#socket) this.#lost({ error: new ChatAPIError("NETWORK_ERROR", "the browser went offline") }); };
    target.addEventListener("online", online);
    target.addEventListener("offline", offline);
    this.#unlisten = () => {
      target.removeEventListener("online", online);
      target.removeEventListener("offline", offline);
    };
  }

  async #dial() {
    clearTimeout(this.#timer);
    const life = (this.#life = new AbortController());
    this.#setState({ state: "connecting" });
    this.#timer = setTimeout(() => this.#lost({ error: new ChatAPIError("TIMEOUT", "the server did not answer in time") }), CONNECT_TIMEOUT_MS);
    try {
      const { url, protocols } = await this.#client.openSocketWith(life.signal);
      if (life.signal.aborted) return;
      this.#attach(new this.#client.socketClass(url, protocols));
    } catch (error) {
      if (life.signal.aborted) return;
      const refused = error instanceof ChatAPIError && error.status >= 400 && error.status < 500 && error.status !== 429;
      if (refused) this.#end(error);
      else this.#lost({ error: /** @type {Error} */ (error) });
    }
  }

  /** @param {any} socket */
  #attach(socket) {
    this.#socket = socket;
    socket.onmessage = (/** @type {{data: unknown}} */ { data }) => { if (typeof data === "string") this.#receive(data); };
    socket.onerror = () => {}; // a close follows
    socket.onclose = (/** @type {{code: number}} */ { code }) => {
      if (code === 4001) this.#refused();
      else this.#lost({ closeCode: code });
    };
  }

  /** The credential expired, was revoked or never was one. A new token is worth two tries in a row. */
  #refused() {
    const another = this.#client.usesApiKey || (this.#client.renewToken() && this.#refusals < 2);
    this.#refusals++;
    if (another) this.#lost({ closeCode: 4001 });
    else this.#end(new ChatAPIError("AUTHENTICATION_ERROR", "the server refused the credential"));
  }

  /** Lets go of the socket and of all that lived with it. */
  #hangUp() {
    clearTimeout(this.#timer);
    clearInterval(this.#watchdog);
    this.#life.abort(new ChatAPIError("CLOSED", "the connection was interrupted"));
    const socket = this.#socket;
    this.#socket = null;
    this.#open = false;
    this.#sync = this.#complete = undefined;
    this.#typing.clear();
    for (const room of this.#rooms.values()) { room.filling = false; room.gapEnd = 0; room.held = []; }
    this.#fills = 0;
    if (!socket) return;
    socket.onmessage = socket.onclose = null;
    try {
      socket.close(1000);
    } catch { /* it was never open */ }
  }

  /** @param {Partial<StateChange>} cause */
  #lost(cause) {
    if (this.#state === "closed") return;
    if (this.#readyAt && Date.now() - this.#readyAt > STABLE_MS) this.#attempt = 0;
    this.#readyAt = 0;
    this.#hangUp();
    const delayMs = this.#shutdownDelay ?? Math.max(
      backoff(this.#attempt++, this.#options.minDelayMs, this.#options.maxDelayMs),
      cause.error instanceof ChatAPIError ? (cause.error.retryAfter ?? 0) * 1000 : 0,
    );
    this.#shutdownDelay = undefined;
    this.#setState({ ...cause, state: "waiting", delayMs });
    this.#timer = setTimeout(async () => {
      if (this.#queue.length >= this.#options.maxPending / 2) await this.#roomInQueue();
      if (this.#state === "waiting") void this.#dial();
    }, delayMs);
  }

  /** @param {unknown} [error] */
  #end(error) {
    if (this.#state === "closed") return;
    this.#hangUp();
    this.#unlisten();
    clearTimeout(this.#ackTimer);
    const reason = error instanceof Error ? error : undefined;
    const closed = reason ?? new ChatAPIError("CLOSED", "the connection was closed");
    this.#setState({ state: "closed", error: reason });
    this.#rejectReady(closed);
    for (const request of this.#requests.values()) {
      clearTimeout(request.timer);
      const { client_message_id } = request.frame;
      request.reject(reason ?? new ChatAPIError("CLOSED", closed.message, client_message_id && { details: { client_message_id } }));
    }
    this.#requests.clear();
    this.#lanes.clear();
    this.#queue = [];
    this.#releaseDrained();
    this.#loop?.finish(reason);
  }

  /** @param {StateChange} change */
  #setState(change) {
    this.#state = change.state;
    this.#tell("state", change);
  }

  /** A browser answers the server's pings where no script can see it, so silence is broken with a ping of our own. @param {number} heartbeatMs */
  #watch(heartbeatMs) {
    this.#watchdog = setInterval(() => {
      const silent = Date.now() - this.#heardAt;
      if (silent > 2 * heartbeatMs) this.#lost({ error: new ChatAPIError("TIMEOUT", "the server fell silent") });
      else if (silent > 0.75 * heartbeatMs) this.#transmit({ type: "ping" });
    }, heartbeatMs / 2);
  }

  /* Frames in */

  /** @param {string} text */
  #receive(text) {
    this.#heardAt = Date.now();
    /** @type {ServerEvent} */
    const frame = JSON.parse(text);
    this.#tell("frame", { direction: "in", frame });
    this.#settle(frame);
    switch (frame.type) {
      case "ready": return this.#onReady(frame);
      case "sync.reset": return this.#onReset(frame);
      case "sync.gap": return this.#onGap(frame.room_id, frame.from_seq, frame.to_seq);
      case "sync.complete":
        this.#sync = undefined;
        this.#complete = frame;
        return this.#completeSync();
      case "subscribed": return this.#onSubscribed(frame);
      case "room.created": return this.#onCreated(frame);
      case "room.deleted":
        this.#wanted.delete(frame.room_id);
        this.#rooms.delete(frame.room_id);
        return this.#enqueue(frame);
      case "notification": return this.#onNotification(frame);
      case "error": return; // settled, or told
      case "server.shutdown":
        this.#shutdownDelay = frame.reconnect_after_ms;
        return this.#enqueue(frame);
      default:
        if (LOGGED.has(frame.type)) this.#take(frame);
        else if (!ANSWERS.has(frame.type)) this.#enqueue(frame);
    }
  }

  /** @param {ServerEvent} frame */
  #onReady(frame) {
    clearTimeout(this.#timer);
    this.#open = true;
    this.#refusals = 0;
    this.#readyAt = Date.now();
    this.#userId = frame.user_id;
    this.#setState({ state: "syncing" });
    this.#watch(frame.heartbeat_seconds * 1000);
    const rooms = this.#meetRooms(frame.rooms);
    this.#sync = { type: "sync", request_id: randomId(), ...(this.#epoch && { epoch: this.#epoch }), rooms };
    this.#transmit(this.#sync);
    this.#epoch ??= frame.epoch;
    for (const roomId of this.#wanted) this.#resubscribe(roomId);
    for (const roomId of this.#unwanted) this.#transmit({ type: "unsubscribe", room_id: roomId });
    for (const request of this.#requests.values()) this.#trySend(request);
    this.#enqueue(frame);
    this.#resolveReady(/** @type {EventMap["ready"]} */ (frame));
    this.#scheduleAcks();
  }

  /**
   * Brings what is known of rooms in line with the server's list. Returns the cursors to sync from.
   * @param {EventMap["ready"]["rooms"]} list
   */
  #meetRooms(list) {
    const present = new Set(list.map((room) => room.room_id));
    for (const [roomId, room] of this.#rooms) if (room.member && !present.has(roomId)) this.#rooms.delete(roomId);
    /** @type {Record<string, number>} */
    const named = {};
    let size = 0;
    for (const { room_id: roomId, last_ack: lastAck } of list) {
      const room = this.#rooms.get(roomId) ?? new RoomCursor(lastAck, true);
      this.#rooms.set(roomId, room);
      room.member = true;
      room.received ??= lastAck;
      room.handled ??= lastAck;
      room.acked = lastAck;
      if ((room.handled ?? 0) > lastAck) this.#unacked.set(roomId, room);
      size += roomId.length + 24;
      if (size < MAX_SYNC_BYTES) named[roomId] = room.received;
      else if (room.received < lastAck) this.#onGap(roomId, room.received + 1, lastAck);
    }
    return named;
  }

  /** @param {ServerEvent} frame */
  #onReset(frame) {
    if (frame.epoch !== this.#epoch) {
      for (const [roomId, room] of this.#rooms) if (!room.member) this.#rooms.delete(roomId);
    }
    this.#epoch = frame.epoch;
    this.#unacked.clear();
    for (const [roomId, lastAck] of Object.entries(frame.rooms)) {
      this.#rooms.set(roomId, new RoomCursor(/** @type {number} */ (lastAck), true));
    }
    this.#enqueue(frame);
  }

  /** @param {string} roomId */
  #resubscribe(roomId) {
    const asked = [...this.#requests.values()].some(({ frame }) => frame.type === "subscribe" && frame.room_id === roomId);
    if (asked || this.#rooms.get(roomId)?.member) return;
    this.#request({ type: "subscribe", room_id: roomId }).catch((error) => {
      if (error.code === "CLOSED") return;
      this.#wanted.delete(roomId);
      this.#report(error);
    });
  }

  /** @param {ServerEvent} frame */
  #onSubscribed(frame) {
    const room = this.#rooms.get(frame.room_id);
    if (room?.received === undefined) this.#rooms.set(frame.room_id, new RoomCursor(frame.last_seq, room?.member ?? false));
    else if (frame.last_seq > room.received) this.#onGap(frame.room_id, room.received + 1, frame.last_seq);
  }

  /** @param {ServerEvent} frame */
  #onCreated(frame) {
    const room = this.#rooms.get(frame.room_id) ?? new RoomCursor(frame.last_seq === 0 ? 0 : undefined, true);
    room.member = true;
    this.#rooms.set(frame.room_id, room);
    this.#enqueue(frame);
  }

  /** @param {ServerEvent} frame */
  #onNotification(frame) {
    const known = this.#notifications.get(frame.notification_id);
    if (this.#deaf) return;
    if (known === undefined) {
      this.#notifications.set(frame.notification_id, false);
      if (this.#notifications.size > REMEMBERED_NOTIFICATIONS) this.#notifications.delete(this.#notifications.keys().next().value ?? "");
      this.#enqueue(frame);
    } else if (known && this.#options.autoAck) this.ackNotification(frame.notification_id); // the last ack got lost
  }

  /** An event of a room's log: exactly the next one, or it waits for what is missing. @param {ServerEvent} event */
  #take(event) {
    const roomId = event.room_id;
    if (this.#unwanted.has(roomId) || this.#deaf || this.#life.signal.aborted) return;
    const room = this.#rooms.get(roomId) ?? new RoomCursor(undefined, false);
    this.#rooms.set(roomId, room);
    if (room.filling) return void room.held.push(event);
    if (room.received !== undefined && event.seq <= room.received) return;
    if (room.received !== undefined && event.seq > room.received + 1) {
      room.held.push(event);
      return this.#onGap(roomId, room.received + 1, event.seq - 1);
    }
    room.received = event.seq;
    this.#enqueue(event, room);
    if (event.type === "member.left" && event.user_id === this.#userId) this.#rooms.delete(roomId);
  }

  /** Everything up to `toSeq` is to be read from the log. @param {string} roomId @param {number} fromSeq @param {number} toSeq */
  #onGap(roomId, fromSeq, toSeq) {
    if (this.#deaf) return;
    const room = this.#rooms.get(roomId) ?? new RoomCursor(fromSeq - 1, false);
    this.#rooms.set(roomId, room);
    room.received ??= fromSeq - 1;
    room.gapEnd = Math.max(room.gapEnd, toSeq);
    if (!room.filling) void this.#fill(roomId, room, this.#life.signal);
  }

  /** @param {string} roomId @param {RoomCursor} room @param {AbortSignal} signal */
  async #fill(roomId, room, signal) {
    room.filling = true;
    this.#fills++;
    try {
      while (this.#rooms.get(roomId) === room && (room.received ?? 0) < room.gapEnd) await this.#fillPage(roomId, room, signal);
    } catch (error) {
      if (signal.aborted) return;
      const gone = error instanceof ChatAPIError && (error.status === 403 || error.status === 404);
      if (!gone) return this.#lost({ error: /** @type {Error} */ (error) });
      this.#report(error);
      this.#rooms.delete(roomId);
    }
    if (signal.aborted) return;
    room.filling = false;
    this.#fills--;
    if (this.#rooms.get(roomId) === room) for (const event of room.held.splice(0)) this.#take(event);
    this.#completeSync();
  }

  /** @param {string} roomId @param {RoomCursor} room @param {AbortSignal} signal */
  async #fillPage(roomId, room, signal) {
    await this.#roomInQueue();
    const { events, has_more } = await this.#client.listEvents(roomId, { after_seq: room.received ?? 0, limit: PAGE }, { signal });
    if (signal.aborted || this.#rooms.get(roomId) !== room) return;
    for (const event of events) {
      if (event.seq > room.gapEnd) break;
      room.received = event.seq;
      this.#queue.push({ event, room }); // without a look at the bound: this page was asked for because there is room
    }
    void this.#pump();
    // Where retention has removed events the log has nothing more below the end of the gap.
    if (!has_more || !events.length || events[events.length - 1].seq >= room.gapEnd) room.received = room.gapEnd;
  }

  /** The caller hears that it is up to date after the last gap is filled. */
  #completeSync() {
    if (!this.#complete || this.#fills > 0) return;
    const frame = this.#complete;
    this.#complete = undefined;
    this.#setState({ state: "live" });
    this.#enqueue(frame);
  }

  /* To the caller */

  /** @param {ServerEvent} event @param {RoomCursor} [room] */
  #enqueue(event, room) {
    if (this.#deaf) return;
    this.#queue.push({ event, room });
    if (this.#queue.length > this.#options.maxPending) {
      if (!this.#hasListener()) {
        this.#deaf = true;
        this.#rewind();
      } else if (this.#socket) {
        this.#attempt = 0; // nothing failed: it comes back as soon as the handlers have caught up
        this.#lost({});
      }
    }
    void this.#pump();
  }

  #listen() {
    if (this.#deaf && this.#hasListener()) {
      this.#deaf = false;
      this.#rewind();
      if (this.#socket) this.#lost({});
    }
    void this.#pump();
  }

  /** Back to what the caller has handled; the next `sync` brings the rest again. */
  #rewind() {
    this.#queue = [];
    this.#releaseDrained();
    for (const [roomId, room] of this.#rooms) {
      const again = new RoomCursor(room.handled, room.member);
      again.acked = room.acked;
      this.#rooms.set(roomId, again);
      if (this.#unacked.has(roomId)) this.#unacked.set(roomId, again);
    }
    for (const [notificationId, handled] of this.#notifications) if (!handled) this.#notifications.delete(notificationId);
  }

  /** One event at a time, in the order of arrival, while there is somebody to take it. */
  async #pump() {
    if (this.#pumping) return;
    this.#pumping = true;
    await null; // so that handlers set in one go are all there for the first event
    while (this.#queue.length && this.#hasListener()) {
      const { event, room } = /** @type {{event: ServerEvent, room?: RoomCursor}} */ (this.#queue.shift());
      for (const type of [event.type, "*"]) for (const handler of this.#handlers.get(type) ?? []) await this.#run(handler, event);
      if (this.#loop && !(await this.#loop.offer(event))) { // left without having looked at it
        this.#queue.unshift({ event, room });
        continue;
      }
      if (this.#state !== "closed") this.#handled(event, room);
      if (this.#queue.length < this.#options.maxPending / 2) this.#releaseDrained();
    }
    this.#pumping = false;
  }

  #hasListener() {
    if (this.#loop) return true;
    for (const [type, handlers] of this.#handlers) {
      if (handlers.size && type !== "state" && type !== "frame" && type !== "error") return true;
    }
    return false;
  }

  /** @param {(event: any) => unknown} handler @param {unknown} event */
  async #run(handler, event) {
    try {
      const result = handler(event);
      if (result instanceof Promise) await result;
    } catch (error) {
      this.#report(error);
    }
  }

  /** Of this library's own events, which do not queue. @param {string} type @param {unknown} event */
  #tell(type, event) {
    for (const handler of this.#handlers.get(type) ?? []) {
      try {
        handler(event);
      } catch (error) {
        if (type === "error") console.error(error);
        else this.#report(error);
      }
    }
  }

  /** @param {unknown} error */
  #report(error) {
    if (this.#handlers.get("error")?.size) this.#tell("error", error);
    else console.error("ChatAPI:", error);
  }

  /** @param {ServerEvent} event @param {RoomCursor} [room] */
  #handled(event, room) {
    if (room) {
      room.handled = event.seq;
      if (this.#rooms.get(event.room_id) === room) this.#unacked.set(event.room_id, room);
    } else if (event.type === "notification") {
      this.#notifications.set(event.notification_id, true);
      if (this.#options.autoAck) this.#unackedNotifications.add(event.notification_id);
    } else return;
    if (this.#options.autoAck) this.#scheduleAcks();
  }

  /** @returns {Promise<void>} */
  #roomInQueue() {
    if (this.#queue.length < this.#options.maxPending / 2) return Promise.resolve();
    return new Promise((resolve) => { this.#drained.push(resolve); });
  }

  #releaseDrained() {
    for (const resolve of this.#drained.splice(0)) resolve();
  }

  /* Acknowledgements */

  #scheduleAcks() {
    if (this.#ackTimer !== undefined || !(this.#unacked.size || this.#unackedNotifications.size)) return;
    this.#ackTimer = setTimeout(() => {
      this.#ackTimer = undefined;
      const more = this.#sendAcks(ACKS_PER_S);
      if (more) this.#ackTimer = setTimeout(() => { this.#ackTimer = undefined; this.#scheduleAcks(); }, 1000 - ACK_DELAY_MS);
    }, ACK_DELAY_MS);
  }

  /** Sends up to `budget` of them. True when some are left. @param {number} budget */
  #sendAcks(budget) {
    if (!this.#open) return false; // `ready` schedules them again
    for (const [roomId, room] of this.#options.autoAck ? this.#unacked : []) {
      if (budget <= 0) return true;
      this.#unacked.delete(roomId);
      if (!room.member || room.handled === undefined || room.handled <= (room.acked ?? -1)) continue;
      room.acked = room.handled;
      this.#transmit({ type: "ack", room_id: roomId, seq: room.handled });
      budget--;
    }
    for (const notificationId of this.#unackedNotifications) {
      if (budget-- <= 0) return true;
      this.#unackedNotifications.delete(notificationId);
      this.#transmit({ type: "notification.ack", notification_id: notificationId });
    }
    return false;
  }

  /* Frames out */

  /** @param {ServerEvent} frame */
  #transmit(frame) {
    this.#tell("frame", { direction: "out", frame });
    this.#socket.send(JSON.stringify(frame));
  }

  /**
   * Sends a frame now or when there is a connection, again after each interruption, and resolves with its answer.
   * @param {ServerEvent} frame
   * @param {{lane?: string, maxAttempts?: number}} [how]
   * @returns {Promise<any>}
   */
  #request(frame, { lane, maxAttempts = ATTEMPTS } = {}) {
    if (this.#state === "closed") return Promise.reject(new ChatAPIError("CLOSED", "the connection is closed"));
    return new Promise((resolve, reject) => {
      const id = randomId();
      const request = { frame: { ...frame, request_id: id }, lane, attempts: 0, maxAttempts, resolve, reject };
      this.#requests.set(id, request);
      if (lane !== undefined) {
        const waiting = this.#lanes.get(lane) ?? [];
        waiting.push(request);
        this.#lanes.set(lane, waiting);
      }
      this.#trySend(request);
    });
  }

  /** @param {Request} request */
  #trySend(request) {
    if (!this.#open || (request.lane !== undefined && this.#lanes.get(request.lane)?.[0] !== request)) return;
    clearTimeout(request.timer);
    this.#transmit(request.frame);
  }

  /** Gives a frame to who waits for it. @param {ServerEvent} frame */
  #settle(frame) {
    const request = this.#requests.get(frame.request_id);
    if (frame.type === "error") return this.#onError(frame, request);
    if (!request) return;
    this.#finish(request);
    request.resolve(frame);
  }

  /** @param {ServerEvent} frame @param {Request} [request] */
  #onError(frame, request) {
    const { code, message, field, details, retry_after_ms: retryAfterMs } = frame;
    const error = new ChatAPIError(code, message, { field, details, retryAfter: retryAfterMs && retryAfterMs / 1000 });
    if (frame.request_id !== undefined && frame.request_id === this.#sync?.request_id) return this.#onSyncError(error);
    if (!request) return this.#report(error);
    request.attempts++;
    const passing = code === "RATE_LIMIT_EXCEEDED" || code === "INTERNAL_ERROR";
    if (passing && request.attempts < request.maxAttempts) {
      const wait = Math.max(retryAfterMs ?? 0, backoff(Math.min(request.attempts, 10), 100, RETRY_CAP_MS));
      request.timer = setTimeout(() => this.#trySend(request), wait);
    } else {
      this.#finish(request);
      request.reject(error);
    }
  }

  /** Without its `sync` a connection stays silent. @param {ChatAPIError} error */
  #onSyncError(error) {
    if (error.field) return this.#report(error); // one room that can no longer be read; the others are served
    const sync = this.#sync;
    setTimeout(() => { if (sync && this.#sync === sync) this.#transmit(sync); },
      Math.max((error.retryAfter ?? 0) * 1000, backoff(0, this.#options.minDelayMs, RETRY_CAP_MS)));
  }

  /** @param {Request} request */
  #finish(request) {
    clearTimeout(request.timer);
    this.#requests.delete(request.frame.request_id);
    if (request.lane === undefined) return;
    const lane = this.#lanes.get(request.lane) ?? [];
    lane.shift();
    if (lane.length) this.#trySend(lane[0]);
    else this.#lanes.delete(request.lane);
  }
}

/**
 * The `for await` side of a connection: holds one event until the loop has asked for the next.
 * @implements {AsyncIterableIterator<ServerEvent>}
 */
class EventLoop {
  /** @type {{event: ServerEvent, taken: boolean, consumed: (seen: boolean) => void} | undefined} */ #slot;
  /** @type {{resolve: (result: IteratorResult<ServerEvent>) => void, reject: (error: Error) => void} | undefined} */ #asking;
  /** @type {{error?: Error} | undefined} */ #ended;
  /** @type {() => void} */ #onEnd;

  /** @param {() => void} onEnd */
  constructor(onEnd) { this.#onEnd = onEnd; }

  /** Resolves when the loop is done with the event: false when it ended without taking it. @param {ServerEvent} event @returns {Promise<boolean>} */
  offer(event) {
    return new Promise((consumed) => {
      this.#slot = { event, taken: false, consumed };
      this.#handOver();
    });
  }

  /** @returns {Promise<IteratorResult<ServerEvent>>} */
  next() {
    if (this.#slot?.taken) this.#consume();
    return new Promise((resolve, reject) => {
      this.#asking = { resolve, reject };
      if (this.#ended) this.#answerEnd();
      else this.#handOver();
    });
  }

  /** The loop was left. @returns {Promise<IteratorResult<ServerEvent>>} */
  async return() {
    this.finish();
    this.#consume();
    return { done: true, value: undefined };
  }

  /** @param {Error} [error] */
  finish(error) {
    if (this.#ended) return;
    this.#ended = { error };
    this.#onEnd();
    if (this.#asking) {
      this.#consume();
      this.#answerEnd();
    }
  }

  [Symbol.asyncIterator]() { return this; }

  #handOver() {
    if (!this.#slot || this.#slot.taken || !this.#asking) return;
    this.#slot.taken = true;
    this.#asking.resolve({ done: false, value: this.#slot.event });
    this.#asking = undefined;
  }

  #consume() {
    this.#slot?.consumed(this.#slot.taken);
    this.#slot = undefined;
  }

  #answerEnd() {
    const error = this.#ended?.error;
    this.#ended = {};
    if (error) this.#asking?.reject(error);
    else this.#asking?.resolve({ done: true, value: undefined });
    this.#asking = undefined;
  }
}
