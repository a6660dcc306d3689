/**
 * ChatAPI for JavaScript: the REST calls and a WebSocket connection that survives the network and the server.
 *
 * One file, no dependencies, for browsers and Node 20+. Fields on the wire keep their names (`room_id`, `reply_to`); names
 * of this library's own are camelCase (`autoAck`).
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
 * The credentials of a client. Give `apiKey` and `userId` in a backend only; a page or an app gets a user token from its own
 * backend (`POST /tokens`), as `token` or, so that it can be renewed, as `getToken`.
 * @typedef {object} ClientOptions
 * @property {string} url where the server is: `https://chat.example.com`, a path in front of it included
 * @property {string} [apiKey]
 * @property {string} [userId]
 * @property {string} [token]
 * @property {() => string | Promise<string>} [getToken] asked at first, and again when the server refuses the last one;
 *   when it throws, takes more than 10 s, or returns something that is not a token, a connection asks again
 * @property {typeof globalThis.fetch} [fetch]
 * @property {any} [WebSocket] a WHATWG WebSocket class; Node 20 has none, `ws` from npm is one
 * @property {number} [timeoutMs] of one HTTP try (30,000)
 * @property {number} [retries] how often an HTTP call is tried again (4)
 * @property {boolean} [followMoves] whether to go on where the tenant has moved (true); false makes of it the error `TENANT_MOVED`, for
 *   a page that may call one server alone
 */

/**
 * @typedef {object} CallOptions
 * @property {AbortSignal} [signal]
 * @property {number} [retries]
 */

/**
 * The operator. A path in front of the server's address counts, as in `ClientOptions`.
 * @typedef {object} AdminOptions
 * @property {string} url
 * @property {string} masterKey
 * @property {typeof globalThis.fetch} [fetch]
 * @property {number} [timeoutMs] of one HTTP try (30,000)
 * @property {number} [retries] how often an HTTP call is tried again (4)
 */

/**
 * @typedef {object} CallRequest
 * @property {Record<string, string>} [headers] beside those of the credential
 * @property {Record<string, unknown>} [query] what is undefined or null is left out
 * @property {unknown} [body]
 * @property {boolean} [idempotent] whether doing it twice is the same as doing it once
 * @property {number} [waitMs] how much longer than others it may take
 * @property {Shape} [gives] fields that the answer's `data` has at least
 * @property {"text" | "json" | "stream"} [plain] what is served without an envelope
 * @property {Blob | ReadableStream<Uint8Array> | Uint8Array | string} [file] a database, in the place of `body`
 */

/** @typedef {{limit?: number, offset?: number, cursor?: string}} Page part of a list; `cursor` is the `next_cursor` of the page before */
/** @typedef {{has_more: boolean, next_cursor?: string}} More what a page says of the list behind it */
/** @typedef {Record<string, unknown>} Json */
/** @typedef {"dm" | "group" | "channel"} RoomType */
/** @typedef {"admin" | "member"} Role */
/** @typedef {"members" | "admins"} Posting the members who may post: all, or the admins alone */

/**
 * @typedef {object} Room
 * @property {string} room_id
 * @property {RoomType} type
 * @property {string | null} unique_key
 * @property {string | null} name
 * @property {Json | null} metadata
 * @property {Posting} posting
 * @property {number} slow_mode_seconds from a member's message to their next one; not for admins
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
 * @property {NotifyLevel} notify
 * @property {boolean} hidden
 * @property {number} unread_count
 * @property {number} unread_mentions
 * @property {Message | null} last_message
 */

/**
 * @typedef {object} MessageFields the fields that events of a message have, too
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
 * @property {string} [thread_id] of a reply; absent, as the fields below, where it says nothing
 * @property {string[]} [mentions]
 * @property {boolean} [mention_room]
 * @property {StreamStatus} [stream] of a message that is, or was, written in pieces
 */

/** @typedef {{state: "open" | "done" | "cancelled" | "failed", index?: number, cancel_requested?: boolean}} StreamStatus `index` is that of the last append; it and `cancel_requested` are there only while it is open */

/** @typedef {{state: "done" | "cancelled" | "failed", index?: number, content?: string, meta?: Json | null}} StreamEnd how a stream ends */

/** @typedef {MessageFields & {reactions?: ReactionSummary[], pinned_at?: string, thread?: ThreadSummary}} Message a message as it is read; `reactions` are in the order of first use */

/** @typedef {{emoji: string, count: number, user_ids: string[]}} ReactionSummary `user_ids`: the first 20 who reacted with it, in that order */
/** @typedef {{emoji: string, user_id: string, created_at: string}} Reaction */
/** @typedef {{reply_count: number, last_reply_seq: number, last_reply_at: string}} ThreadSummary the replies to a message that are not deleted */

/** @typedef {"all" | "mentions" | "none"} NotifyLevel */
/**
 * @typedef {Object} SearchResult each hit is [start, end) in code points of `text`: `Array.from(text).slice(start, end)`
 * @property {Message} message
 * @property {{text: string, hits: number[][]}} snippet
 */
/** @typedef {{room_id: string, notify: NotifyLevel, hidden: boolean}} OwnView how the caller sees a room */
/** @typedef {{user_id: string, role: Role, joined_at: string, muted_until?: string, name?: string, avatar_url?: string}} Member `muted_until` is there as long as it is ahead; `name` and `avatar_url` where the user's profile has them */
/** @typedef {{user_id: string, name: string | null, avatar_url: string | null, metadata: Json | null, last_seen_at: string | null, created_at: string, updated_at: string}} User a profile; `last_seen_at` is when the user was last online, for those who may know it */
/** @typedef {{user_id: string, reason: string | null, until: string | null, created_by: string, created_at: string}} Ban `until` is null for a ban without an end */
/** @typedef {{user_id: string, reason: string | null, banned_until: string | null}} UserBan from the whole tenant; `banned_until` is null if it has no end */
/** @typedef {{user_id: string, created_at: string}} Block a user from whom the caller wants no dm */
/** @typedef {{report_id: string, status: "open" | "resolved", room_id: string, user_id: string, reason: string, message: Message, created_at: string, resolved_by: string | null, resolved_at: string | null}} Report `user_id` reported the message, which is shown as it was then */
/** @typedef {{user_id: string, last_ack: number, last_read: number}} Receipt */
/** @typedef {{notification_id: string, topic: string, payload: unknown, created_at: string}} Notification */
/** @typedef {Notification & {status: "pending" | "delivered", acked_at: string | null}} ListedNotification `delivered` means acknowledged */
/** @typedef {{subscription_id: string, topic: string, created_at: string}} Subscription */
/** @typedef {{content: string, meta?: Json | null, reply_to?: string | null, client_message_id?: string, thread_id?: string | null, mentions?: string[] | null, mention_room?: boolean | null, stream?: boolean}} NewMessage */
/** @typedef {Partial<Omit<NewMessage, "stream">>} StreamedMessage what a stream may have beside its text */
/** @typedef {AsyncIterable<string> | Iterable<string> | ((signal: AbortSignal) => AsyncIterable<string> | Iterable<string>)} Chunks the pieces of a text; a function is given a signal, which aborts when they are not wanted any more */
/** @typedef {{index: number, cancel_requested?: boolean}} Appended everything up to `index` is stored; `cancel_requested`: somebody wants the stream to end */
/** @typedef {{content: string, meta?: Json | null, mentions?: string[] | null, mention_room?: boolean | null}} Revision what an edit changes: an absent field stays, `null` clears it */
/** @typedef {{room_id: string, message_id: string, seq: number, client_message_id: string | null, created_at: string, stream?: StreamStatus}} Sent */

/** @typedef {{state: "copying" | "held" | "moved", url: string, rows: number}} MoveState */
/** @typedef {MoveState & {tenant_id: string, held_ms: number}} TenantMove */
/** @typedef {{tenant_id: string, name: string, config: Json, created_at: string, move?: MoveState}} Tenant */
/** @typedef {{id: string, tenant_id: string, user_id: string, attempts: number, last_attempt_at: string, error: string}} FailedCall a webhook call, and why its last try failed */
/** @typedef {{failed_messages: (FailedCall & {message_id: string, room_id: string})[], failed_notifications: (FailedCall & {notification_id: string, topic: string})[], failed_events: FailedEvent[]}} DeadLetters */
/** @typedef {"message.created" | "message.edited" | "message.deleted" | "message.finished" | "message.reported" | "reaction.added" | "reaction.removed" | "room.created" | "room.updated" | "room.deleted" | "member.joined" | "member.left" | "member.banned" | "user.online" | "user.offline"} WebhookEvent */
/** @typedef {{id: string, tenant_id: string, event: WebhookEvent, room_id?: string, seq?: number, user_id?: string, report_id?: string, attempts: number, last_attempt_at: string, error: string}} FailedEvent a call that was to tell the tenant's backend of an event */
/** @typedef {{id: string, at: string, actor: {kind: "master" | "key" | "user" | "server", key_id?: string, user_id?: string}, address: string | null, action: string, tenant_id: string | null, target: string | null, details?: Json}} AuditEntry an act of an operator or a moderator */
/** @typedef {{notifications: number, webhooks: number, dead_letters: number}} Queues notifications not acknowledged yet, for each recipient; webhook calls still to be made */
/** @typedef {{tenant_id: string, name: string, rooms: number, messages: number, connections: number, queues: Queues}} TenantStats */
/** @typedef {{stage: "working" | "waiting" | "done", before_bytes: number, file_bytes: number, free_bytes: number}} Compacted */

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
 * @property {Transport[]} [transports] those to use, the best first. Where WebSockets do not pass (three tries failed, and REST
 *   answers), Server-Sent Events stand in for them, then long polls
 */

/** @typedef {"websocket" | "sse" | "poll"} Transport */

/** @typedef {"connecting" | "syncing" | "live" | "waiting" | "paused" | "closed"} State */

/**
 * @typedef {object} StateChange
 * @property {State} state
 * @property {number} [delayMs] until the next try, when waiting
 * @property {number} [closeCode] of the socket that ended
 * @property {Error} [error] what ended the connection for good, or kept the last try from succeeding: a ChatAPIError with
 *   the server's code, such as `RATE_LIMIT_EXCEEDED` (too many connections) or `AUTHORIZATION_ERROR` (the page's origin), or
 *   one of this library's own
 */

/**
 * The types that `on` takes. All but the last three come from the server; `"*"` is every one of those.
 * @typedef {{
   "ready": {type: "ready", connection_id: string, user_id: string, epoch: string, server_time: string,
     heartbeat_seconds: number,
     rooms: {room_id: string, type: RoomType, last_seq: number, last_ack: number, last_read: number, unread_mentions: number, notify: NotifyLevel, hidden: boolean}[]},
   "message": MessageFields & {type: "message"},
   "message.edited": MessageFields & {type: "message.edited", target_seq: number},
   "message.finished": MessageFields & {type: "message.finished", target_seq: number},
   "message.delta": {type: "message.delta", room_id: string, message_id: string, after: number, index: number, text: string},
   "message.state": {type: "message.state", room_id: string, message: Message},
   "message.cancel_requested": {type: "message.cancel_requested", room_id: string, message_id: string, user_id: string},
   "message.deleted": {type: "message.deleted", room_id: string, message_id: string, seq: number, target_seq: number,
     thread_id?: string, thread?: ThreadSummary | null},
   "reaction.added": {type: "reaction.added", room_id: string, message_id: string, target_seq: number, user_id: string,
     emoji: string, count: number, created_at: string, seq?: number},
   "reaction.removed": {type: "reaction.removed", room_id: string, message_id: string, target_seq: number, user_id: string,
     emoji: string, count: number, seq?: number},
   "message.pinned": {type: "message.pinned", room_id: string, message_id: string, target_seq: number, user_id: string,
     pinned_at: string, seq: number},
   "message.unpinned": {type: "message.unpinned", room_id: string, message_id: string, target_seq: number, user_id: string,
     seq: number},
   "room.created": RoomFields & {type: "room.created"},
   "room.updated": RoomFields & {type: "room.updated", seq: number},
   "room.deleted": RoomFields & {type: "room.deleted"},
   "room.me": {type: "room.me", room_id: string, notify: NotifyLevel, hidden: boolean},
   "member.joined": {type: "member.joined", room_id: string, user_id: string, role: Role, muted_until?: string, seq: number},
   "member.updated": {type: "member.updated", room_id: string, user_id: string, role: Role, muted_until: string | null, seq: number},
   "member.left": {type: "member.left", room_id: string, user_id: string, seq: number},
   "member.banned": {type: "member.banned", room_id: string, user_id: string, reason: string | null, until: string | null, seq: number},
   "member.unbanned": {type: "member.unbanned", room_id: string, user_id: string, reason: string | null, until: string | null, seq: number},
   "ack.received": {type: "ack.received", room_id: string, seq: number, user_id: string},
   "read.updated": {type: "read.updated", room_id: string, seq: number, user_id: string},
   "presence.update": {type: "presence.update", user_id: string, status: "online" | "offline"},
   "typing": {type: "typing", room_id: string, user_id: string, action: "start" | "stop"},
   "user.updated": {type: "user.updated", user: User},
   "notification": Notification & {type: "notification"},
   "sync.complete": {type: "sync.complete", rooms: Record<string, number>},
   "sync.reset": {type: "sync.reset", epoch: string, rooms: Record<string, number>},
   "server.shutdown": {type: "server.shutdown", reconnect_after_ms: number, url?: string},
   "*": ServerEvent,
   "error": Error,
   "state": StateChange,
   "frame": {direction: "in" | "out", frame: ServerEvent},
}} EventMap
 *
 * `error`: a refused frame that nobody waits for, a handler that threw, and, once each, what keeps the connection from
 * coming up although the network is there. `frame`: every frame as it passes.
 */

/** A room as its frames show it: `type` is the frame's there. @typedef {Omit<Room, "type"> & {room_type: RoomType}} RoomFields */
/** @typedef {{type: string, [field: string]: any}} ServerEvent */
/** @typedef {{epoch: string, events: ServerEvent[], rooms: Record<string, number>, reset: Record<string, number>, gaps: {room_id: string, from_seq: number, to_seq: number}[], notifications: (Notification & {type: "notification"})[], errors: Record<string, {code: string, message: string, field?: string}>, has_more: boolean}} Synced `rooms` is what to ask with next time; `reset`: rooms whose cursors cannot be right, and where they begin instead; `gaps`: events that retention has removed; `errors`: rooms that the user may not read */

/* ------------------------------------------------------------------------------------ limits and odds ---- */

const TRANSFER_MS = 3_600_000; // that an export or an import may take
const MOVE_MS = 3_600_000; // that a move may take: then the call may be made again, and joins it
const EXPORT_MS = 600_000; // of an export that the SDK waits for
const RETRY_BASE_MS = 250;
const RETRY_CAP_MS = 10_000;
/** A longer Retry-After is the application's decision, which gets the error. */
const RETRY_AFTER_LIMIT_S = 60;
const MAX_HOPS = 5; // from server to server: two may name each other
const CONNECT_TIMEOUT_MS = 15_000; // from the first byte to `ready`
const STABLE_MS = 5_000; // a connection that lived this long resets the back-off
const MAX_FRAME_BYTES = 128 * 1024; // the server closes with 1009 above it
const MAX_SYNC_BYTES = 100 * 1024; // of cursors in one `sync`; the rooms beyond it are caught up over REST
const PAGE = 100;
const ACK_DELAY_MS = 100; // so that a burst of messages is one ack
const ACKED_ROOMS = 1_000; // the most that one `ack` may name
const ACK_RETRY_MS = 1000; // at least, after the server could store none, as of a tenant that is held for a move
const ACKS_PER_S = 15; // the server delays acks above 20 a second, and drops typing with them
const TYPING_REPEAT_MS = 3_000; // the server forgets a typist after 6 s
const REMEMBERED_NOTIFICATIONS = 10_000;
const REMEMBERED_STREAMS = 1_000; // that have ended
const OPEN = 1; // WebSocket.OPEN, which not every implementation names
const CLOSED = 3;
const TRANSPORTS = /** @type {Transport[]} */ (["websocket", "sse", "poll"]);
const FAILED_UPGRADES = 3; // in a row, REST answering after each; then the next transport is tried
const HTTP_ACK_DELAY_MS = 500; // an ack is a call there, and takes a token
const EVENT_MS = 2_000; // for the event of a change to come, once the call is answered
const POLL_S = 25; // of one long poll: less than proxies wait for an answer
const POLLED_EVENTS = 500;
const MAX_CURSORS_BYTES = 6_000; // of JSON in the address of an event stream, which takes 8 KiB of base64
const ATTEMPTS = 5; // of a frame that is not a message; a message is tried until it is confirmed

const TOKEN_TIMEOUT_MS = 10_000; // for `getToken`; less than a connect may take, so that its failure is told as its own
const EXPIRY_LEEWAY_MS = 300_000; // of a refused token: our clock may be behind the server's
const NEW_TOKENS = 2; // tried in a row when the server refuses them, unless they have only expired
const ASK_AFTER = 2; // failed handshakes; a browser shows none of their answers, so that HTTP is asked why
const ASK_TIMEOUT_MS = 3_000; // for each of these questions: without an answer the handshake is tried all the same
const MAX_RETRY_AFTER_MS = 300_000; // of a connection, however long was asked for: the obstacle may be gone earlier
const MAX_TIMER_MS = 2 ** 31 - 1; // a longer one fires at once
const MAX_APPEND_BYTES = 16 * 1024; // of UTF-8
const SIGN_OF_LIFE_MS = 5_000; // without text; the server gives a stream up after 60 s, if it is not set otherwise
const MAX_WAITING = 64 * 1024; // characters that the server does not have yet: beyond it the source is not asked for more
const MAX_REASON_CHARS = 1_000; // of a failure: `meta` has 16 KiB
const FAREWELL_MS = 5_000; // for telling the server of an end, once the application has aborted
const STREAM_RETRIES = 12; // over HTTP: more than a minute, by which time the server has given the stream up

/** The version of this library, and of the server that it knows in full; `info` of a client tells the server's own. @type {string} */
export const VERSION = "1.0.0";

/** Frames with `room_id` and `seq` that are not part of the room's log; every other one with both is, whatever its type. */
const UNLOGGED = new Set(["message.sent", "ack.received", "read.updated", "subscribed"]);

/** Frames that mean nothing to the application. */
const ANSWERS = new Set(["message.sent", "message.appended", "subscribed", "unsubscribed", "pong", "ready", "ready.rooms"]);

/** Events that also answer requests. One without `seq` only answers a request that changed nothing. */
const REPEATED = new Set(["reaction.added", "reaction.removed"]);

/** Fields of a message that others than its sender have written: events do not carry them. */
const ANNOTATIONS = ["reactions", "pinned_at"];
const MENTIONS = ["mentions", "mention_room", "stream"];
/** Events that show the whole message. */
const WHOLE = new Set(["message", "message.edited", "message.finished"]);
const SHOWN_USERS = 20; // of one emoji

/** Refusals of the server's that another try may not meet. 426: a proxy does not pass the upgrade on. */
const REMOVALS = new Set(["member.left", "member.banned"]);
const PASSING = new Set([408, 426, 429]);

/** @typedef {Record<string, "string" | "number" | "boolean" | "array" | "object">} Shape fields without which a value is not what it should be */

const LOG_EVENT = /** @type {Shape} */ ({ room_id: "string", seq: "number" });
const OF_MESSAGE = /** @type {Shape} */ ({ room_id: "string", message_id: "string" });
const ROOM = /** @type {Shape} */ ({ room_id: "string" });
const ROOMS = /** @type {Shape} */ ({ rooms: "array" });
const MEMBER = /** @type {Shape} */ ({ user_id: "string" });
/** @type {Shape} */
const REPORT = /** @type {Shape} */ ({ report_id: "string" });
const MESSAGE = /** @type {Shape} */ ({ message_id: "string" });
const SYNCED = /** @type {Shape} */ ({ epoch: "string", events: "array", rooms: "object", has_more: "boolean" });
const POSITION = /** @type {Shape} */ ({ seq: "number" });
const STATUS = /** @type {Shape} */ ({ status: "string" });
const TENANT = /** @type {Shape} */ ({ tenant_id: "string" });

/** The fields that a connection relies on, by the frame's type. @type {Record<string, Shape>} */
const FRAMES = {
  "ready": { user_id: "string", epoch: "string", rooms: "array" },
  "ready.rooms": { rooms: "array", more: "boolean" },
  "message": LOG_EVENT,
  "message.edited": LOG_EVENT,
  "message.finished": LOG_EVENT,
  "message.appended": { message_id: "string", index: "number" },
  "message.delta": { ...OF_MESSAGE, after: "number", index: "number", text: "string" },
  "message.state": { room_id: "string", message: "object" },
  "message.cancel_requested": OF_MESSAGE,
  "message.deleted": LOG_EVENT,
  "reaction.added": OF_MESSAGE,
  "reaction.removed": OF_MESSAGE,
  "message.pinned": LOG_EVENT,
  "message.unpinned": LOG_EVENT,
  "room.updated": LOG_EVENT,
  "member.joined": LOG_EVENT,
  "member.updated": LOG_EVENT,
  "member.left": { ...LOG_EVENT, user_id: "string" },
  "member.banned": { ...LOG_EVENT, user_id: "string" },
  "member.unbanned": LOG_EVENT,
  "room.created": { room_id: "string", last_seq: "number" },
  "room.deleted": { room_id: "string" },
  "room.me": { room_id: "string" },
  "notification": { notification_id: "string" },
  "ack.received": LOG_EVENT,
  "subscribed": { room_id: "string", last_seq: "number" },
  "sync.gap": { room_id: "string", from_seq: "number", to_seq: "number" },
  "sync.reset": { epoch: "string", rooms: "object" },
  "sync.complete": { rooms: "object" },
  "error": { code: "string" },
};

/** @type {Record<string, number>} */
const STATUS_OF_CODE = {
  VALIDATION_ERROR: 400, AUTHENTICATION_ERROR: 401, AUTHORIZATION_ERROR: 403, NOT_FOUND: 404,
  CONFLICT: 409, TENANT_MOVED: 421, RATE_LIMIT_EXCEEDED: 429, INTERNAL_ERROR: 500,
};

/** An id that nobody else makes, such as a `client_message_id`. @returns {string} */
export function randomId() { // not `crypto.randomUUID`: a page on plain http, other than localhost, has none
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Quotes and the like grow in JSON, beyond what a frame may hold; HTTP has space for them. @param {ServerEvent} frame */
function fits(frame) {
  return new TextEncoder().encode(JSON.stringify(frame)).length <= MAX_FRAME_BYTES - 100; // for the request_id
}

/** An object that has at least these fields. @param {any} value @param {Shape} [shape] */
function hasShape(value, shape = {}) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  return Object.entries(shape).every(([name, kind]) => {
    const field = value[name];
    if (kind === "number") return Number.isInteger(field);
    if (kind === "array") return Array.isArray(field);
    return typeof field === kind && field !== null;
  });
}

/** The object that a text holds, if it holds one. @param {string} text @returns {any} */
function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return hasShape(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** A frame of ChatAPI's, if it is one. Types and fields that are not known are passed over. @param {unknown} data @returns {ServerEvent | undefined} */
function parseFrame(data) {
  const frame = typeof data === "string" ? parseObject(data) : undefined;
  if (typeof frame?.type !== "string" || !hasShape(frame, FRAMES[frame.type])) return undefined;
  if (frame.type === "ready" || frame.type === "ready.rooms") {
    const listed = /** @type {Shape} */ ({ room_id: "string", last_seq: "number", last_ack: "number" });
    if (!frame.rooms.every((/** @type {unknown} */ room) => hasShape(room, listed))) return undefined;
  } else if (frame.type === "sync.complete" || frame.type === "sync.reset") {
    if (!Object.values(frame.rooms).every(Number.isInteger)) return undefined;
  }
  return frame;
}

/**
 * Whether an event takes a number in its room's log: then `room_id` and `seq` are its place there. A newer server has types of
 * these that are not known here.
 * @param {ServerEvent} event
 * @returns {boolean}
 */
export function isLogEvent(event) {
  return hasShape(event, LOG_EVENT) && !UNLOGGED.has(event.type);
}

/**
 * A message after an event of its room, as a new object; the same one if the event does not concern it.
 *
 * Events say what holds from now on, so that one which the message shows already does no harm: read history first, and apply each
 * event that comes, in order. `user_ids` of a reaction are exact as long as it has had no more than 20 users; for more, read the
 * message again. `message.deleted` has no time of its own: `deleted_at` is the present.
 *
 * A stream grows by `message.delta` and `message.state`, and `message.cancel_requested` shows in its `stream`. A delta that does not
 * go on where the message ends changes nothing: read the message again when its `after` is greater than the message's `stream.index`.
 * @param {Message} message
 * @param {ServerEvent} event
 * @returns {Message}
 */
export function applyEvent(message, event) {
  if (event.type === "message.state") {
    const isOther = event.message.message_id !== message.message_id || message.deleted_at !== null;
    return isOther || isBehind(event.message, message) ? message : keepWish(event.message, message);
  }
  if (event.thread_id === message.message_id) return applyReply(message, event);
  if (event.message_id !== message.message_id) return message;
  if (WHOLE.has(event.type)) {
    if (isBehind(event, message)) return message;
    const changed = /** @type {any} */ (asRead(event));
    for (const name of event.content === null ? ["thread"] : [...ANNOTATIONS, "thread"]) {
      if (name in message) changed[name] = /** @type {any} */ (message)[name];
    }
    return keepWish(changed, message);
  }
  if (event.type === "message.deleted") {
    const changed = /** @type {any} */ ({ ...message, content: null, meta: null, deleted_at: message.deleted_at ?? new Date().toISOString().replace("Z", "000Z") });
    for (const name of [...ANNOTATIONS, ...MENTIONS]) delete changed[name];
    return changed;
  }
  if (message.deleted_at !== null) return message; // a deletion has taken all of that
  if (event.type === "message.delta") return applyDelta(message, event);
  if (event.type === "message.cancel_requested") return applyWish(message);
  if (event.type === "reaction.added" || event.type === "reaction.removed") return applyReaction(message, event);
  if (event.type === "message.pinned") return { ...message, pinned_at: event.pinned_at };
  if (event.type !== "message.unpinned") return message;
  const { pinned_at: _before, ...changed } = message;
  return changed;
}

/** The message that an event shows, or that was read. @param {any} event @returns {Message} */
function asRead({ type, target_seq: seq, request_id: _, ...sent }) {
  return { ...sent, ...(seq !== undefined && { seq }) };
}

/** Whether this shows an open stream as it was before. @param {ServerEvent | Message} shown @param {Message} message */
function isBehind(shown, { stream: now }) {
  const before = /** @type {StreamStatus | undefined} */ (shown.stream);
  if (before?.state !== "open") return false;
  return now?.state !== "open" || (before.index ?? 0) < (now.index ?? 0);
}

/** @param {Message} message @param {ServerEvent} event @returns {Message} */
function applyDelta(message, { after, index, text }) {
  const { stream } = message;
  if (stream?.state !== "open" || stream.index !== after) return message;
  return { ...message, content: (message.content ?? "") + text, stream: { ...stream, index } };
}

/** A wish to cancel is never taken back: a message without it was read before it came. @param {Message} shown @param {Message} message @returns {Message} */
function keepWish(shown, message) { return message.stream?.cancel_requested ? applyWish(shown) : shown; }

/** @param {Message} message @returns {Message} */
function applyWish(message) {
  const { stream } = message;
  return stream?.state === "open" ? { ...message, stream: { ...stream, cancel_requested: true } } : message;
}

/** A reply is counted once: the thread tells up to which `seq` it has counted. @param {Message} message @param {ServerEvent} event @returns {Message} */
function applyReply({ thread: before, ...message }, event) {
  let thread = before;
  if (event.type === "message.deleted") thread = event.thread ?? undefined;
  else if (event.type === "message" && event.content !== null && event.seq > (before?.last_reply_seq ?? 0)) {
    thread = { reply_count: (before?.reply_count ?? 0) + 1, last_reply_seq: event.seq, last_reply_at: event.created_at };
  }
  return thread ? { ...message, thread } : message;
}

/** @param {Message} message @param {ServerEvent} event @returns {Message} */
function applyReaction(message, { type, emoji, count, user_id: userId }) {
  let reactions = [...(message.reactions ?? [])];
  let userIds = (reactions.find((found) => found.emoji === emoji)?.user_ids ?? []).filter((found) => found !== userId);
  if (type === "reaction.added") {
    if (count === 1) { // it is new, whatever the message showed before: it comes last, and has this user alone
      userIds = [];
      reactions = reactions.filter((found) => found.emoji !== emoji);
    }
    if (count <= SHOWN_USERS) userIds.push(userId);
  }
  const place = reactions.findIndex((found) => found.emoji === emoji);
  const summary = { emoji, count, user_ids: userIds.slice(0, SHOWN_USERS) };
  if (place >= 0) reactions.splice(place, 1, ...(count ? [summary] : []));
  else if (count) reactions.push(summary);
  const { reactions: _before, ...changed } = message;
  return reactions.length ? { ...changed, reactions } : changed;
}

/** Whether these are events of that room's log after `afterSeq`, in order. @param {string} roomId @param {number} afterSeq @param {{events: ServerEvent[], has_more: boolean}} page */
function isPageOf(roomId, afterSeq, { events, has_more }) {
  let last = afterSeq;
  for (const event of events) {
    if (!hasShape(event, { ...LOG_EVENT, type: "string" }) || event.room_id !== roomId || event.seq <= last) return false;
    last = event.seq;
  }
  return events.length > 0 || !has_more;
}

/** Whether a header and a subprotocol can hold it. @param {unknown} token */
function isToken(token) {
  return typeof token === "string" && /^[A-Za-z0-9._~+/=-]+$/.test(token);
}

/** Whether a JWT, by its own claim, is past its time: a hint, no proof. @param {string} token */
function hasExpired(token) {
  try {
    const { exp } = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return exp * 1000 <= Date.now() + EXPIRY_LEEWAY_MS;
  } catch {
    return false;
  }
}

/** Milliseconds that a timer can wait, or 0. @param {unknown} ms @returns {number} */
function asDelay(ms) {
  return typeof ms === "number" && ms > 0 ? Math.min(ms, MAX_TIMER_MS) : 0;
}

/** Whether a limit refused it that is worth waiting for; in slow mode the user has to hear of it. @param {unknown} error */
function isLimit(error) {
  return error instanceof ChatAPIError && error.status === 429 && error.details?.slow_mode_until === undefined;
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
 * A refusal of the server, or the reason why it could not be asked. `code` is one of the server's codes, or one of this library's,
 * whose `status` is 0: `NETWORK_ERROR` (no answer), `TIMEOUT`, `CLOSED` (the connection was closed before the answer),
 * `NOT_CHATAPI` (something else answered, such as a proxy with a page of its own, whose status is
 * `details.http_status`; whether the server has done what it was asked is not known), `NO_TOKEN` (`getToken` failed,
 * `cause` is how, or returned something that is not a token; nothing was sent).
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

/**
 * For a source of `stream` to throw: the stream ends `failed`, and its `meta` tells everybody in the room why, as `error`: the message,
 * of which 1,000 characters are told.
 */
export class StreamFailed extends Error {
  /** @param {string} reason */
  constructor(reason) {
    super(reason);
    this.name = "StreamFailed";
  }
}

/* ------------------------------------------------------------------------------------------------- REST ---- */

/** Credentials: a master key, an API key and a user, or a user token and the source of the next one. */
class Credentials {
  /** @type {Record<string, string>} */ #headers;
  /** @type {string | undefined} */ #token;
  /** @type {ClientOptions["getToken"]} */ #getToken;
  /** @type {Promise<string> | undefined} */ #tokenRequest;
  /** @type {number} */ #limitMs;

  /** @param {{masterKey?: string, apiKey?: string, userId?: string, token?: string, getToken?: ClientOptions["getToken"], timeoutMs?: number}} given */
  constructor({ masterKey, apiKey, userId, token, getToken, timeoutMs = TOKEN_TIMEOUT_MS }) {
    for (const [name, value] of Object.entries({ masterKey, apiKey, userId })) {
      if (value !== undefined && !/^[\x20-\x7e\x80-\xff]*$/.test(value)) throw new TypeError(`${name} holds characters that no header can carry`);
    }
    if (token && !isToken(token)) throw new TypeError("token holds characters that no user token has");
    this.usesApiKey = Boolean(apiKey);
    this.#headers = { ...(masterKey && { "X-Master-Key": masterKey }), ...(apiKey && { "X-API-Key": apiKey, "X-User-Id": String(userId) }) };
    this.#token = token || undefined;
    this.#getToken = getToken;
    this.#limitMs = Math.min(timeoutMs, TOKEN_TIMEOUT_MS);
  }

  /** @returns {Promise<Record<string, string>>} */
  async headers() {
    return Object.keys(this.#headers).length ? { ...this.#headers } : { Authorization: `Bearer ${await this.token()}` };
  }

  /** One request for all that wait for a token. Throws `NO_TOKEN`. @returns {Promise<string>} */
  async token() {
    if (this.#token !== undefined) return this.#token;
    this.#tokenRequest ??= this.#ask().finally(() => { this.#tokenRequest = undefined; });
    return this.#tokenRequest;
  }

  /** @returns {Promise<string>} */
  async #ask() {
    const getToken = /** @type {NonNullable<ClientOptions["getToken"]>} */ (this.#getToken);
    /** @type {ReturnType<typeof setTimeout> | undefined} */ let timer;
    let token;
    try {
      const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`nothing within ${this.#limitMs} ms`)), this.#limitMs); });
      token = await Promise.race([Promise.resolve().then(() => getToken()), late]);
    } catch (cause) {
      throw new ChatAPIError("NO_TOKEN", `getToken failed: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    } finally {
      clearTimeout(timer);
    }
    if (isToken(token)) return (this.#token = /** @type {string} */ (token));
    const what = typeof token !== "string" ? typeof token : token ? "a string with characters that no token has" : "an empty string";
    throw new ChatAPIError("NO_TOKEN", `getToken returned no token but ${what}`);
  }

  /** As the header or the token says, unverified. @returns {Promise<string>} */
  async userId() {
    if (this.#headers["X-User-Id"] !== undefined) return this.#headers["X-User-Id"];
    try {
      return String(JSON.parse(atob((await this.token()).split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))).sub);
    } catch {
      return "";
    }
  }

  /** Whether there may be another token. */
  get renews() { return Boolean(this.#getToken) && !Object.keys(this.#headers).length; }

  /** Forgets a token that the server refused. True when there may be a better one. */
  renew() {
    if (!this.renews) return false;
    this.#token = undefined;
    return true;
  }

  /** Of a token that the server has refused: whether it seems to be one that was good once, so that the next may be. */
  get hasExpired() { return this.renews && this.#token !== undefined && hasExpired(this.#token); }
}

/** The common part of both APIs: tries, the envelope taken off, and the calls that need no credential. */
class RestClient {
  /** @type {string} */ #base;
  #followsMoves;
  /** @type {Credentials} */ #credentials;
  /** @type {{fetch?: typeof globalThis.fetch, timeoutMs?: number, retries?: number}} */ #options;

  /** @param {string} url @param {Credentials} credentials @param {{fetch?: typeof globalThis.fetch, timeoutMs?: number, retries?: number}} options @param {boolean} followsMoves */
  constructor(url, credentials, options, followsMoves) {
    this.#followsMoves = followsMoves;
    this.#base = url.replace(/\/+$/, "");
    this.#credentials = credentials;
    this.#options = options;
  }

  /** The server's address, without a slash at its end. */
  get url() { return this.#base; }

  /**
   * Calls any route, such as `call("GET", "/rooms", { query: { limit: 5 } })`, and resolves with the answer's `data` (undefined of
   * a deletion). `route` begins after `/v1`, escaped.
   *
   * Tried again, with growing pauses, when there was no answer of the server's or a 502 to 504 of its own, unless doing it twice
   * could differ from doing it once (a POST, if `idempotent` does not say otherwise); always after a 429 of its own, slow mode aside,
   * once `Retry-After` has passed. `gives`: the fields that `data` has at least; an answer that lacks them is not the server's. Throws ChatAPIError.
   * @param {string} method
   * @param {string} route
   * @param {CallRequest} [request]
   * @param {CallOptions} [options]
   * @returns {Promise<any>}
   */
  async call(method, route, { idempotent = method !== "POST", ...request } = {}, options = {}) {
    const { signal, retries = this.#options.retries ?? 4 } = options;
    let renewed = false;
    let answerLost = false;
    let hops = 0;
    for (let attempt = 0; ; attempt++) {
      const asked = this.#base;
      try {
        return await this.tryOnce(method, route, request, signal);
      } catch (error) {
        if (!(error instanceof ChatAPIError) || error.code === "NO_TOKEN") throw error;
        if (hops < MAX_HOPS && this.follow(error, asked)) { hops++; attempt--; continue; } // nothing was done, so anything may be repeated
        if (error.status === 404 && method === "DELETE" && answerLost) return undefined; // an earlier try did it
        if (error.status === 401 && !renewed && this.#credentials.renew()) { renewed = true; continue; }
        const again = isLimit(error) || (idempotent && (error.status === 0 || error.status >= 502));
        const retryAfter = error.retryAfter ?? 0; // of a proxy it is advice
        const tooLong = error.status !== 0 && retryAfter > RETRY_AFTER_LIMIT_S;
        if (!again || tooLong || attempt >= retries) throw error;
        answerLost ||= error.status === 0;
        const least = error.status === 0 ? Math.min(retryAfter * 1000, RETRY_CAP_MS) : retryAfter * 1000;
        await delay(Math.max(backoff(attempt, RETRY_BASE_MS, RETRY_CAP_MS), least), signal);
      }
    }
  }

  /**
   * Whether another server than `asked` has the tenant now, as the error says, and is called from now on.
   * @internal
   * @param {unknown} error @param {string} asked @returns {boolean}
   */
  follow(error, asked) {
    if (!(error instanceof ChatAPIError) || error.status !== 421 || error.code !== "TENANT_MOVED") return false;
    return this.#base !== asked || this.moveTo(error.details?.url); // another call may have been told before
  }

  /**
   * Calls this server from now on, credentials included. False, and nothing changes, if it is not the URL of a server, or http after https.
   * @internal
   * @param {unknown} url @returns {boolean}
   */
  moveTo(url) {
    if (!this.#followsMoves || !isServer(url) || (isHttps(this.#base) && !isHttps(url))) return false;
    this.#base = url.replace(/\/+$/, "");
    return true;
  }

  /**
   * One try of a call.
   * @internal
   * @param {string} method @param {string} route
   * @param {CallRequest & {anonymous?: boolean, limitMs?: number}} request `limitMs`: as long as it may take at most
   * @param {AbortSignal | undefined} signal
   * @returns {Promise<any>}
   */
  async tryOnce(method, route, { query, body, file, headers: more, gives, plain, anonymous, waitMs = 0, limitMs = Infinity }, signal) {
    const url = new URL(`${this.#base}/v1${route}`);
    for (const [name, value] of Object.entries(query ?? {})) if (value != null) url.searchParams.set(name, String(value));
    const headers = anonymous ? {} : { ...await this.#credentials.headers(), ...more };
    if (method !== "GET" && method !== "DELETE") headers["Content-Type"] = file === undefined ? "application/json" : "application/octet-stream";
    const timeout = new AbortController();
    let isRead = false; // by the caller, as it comes
    const stop = () => timeout.abort(signal?.reason);
    if (signal?.aborted) throw signal.reason;
    signal?.addEventListener("abort", stop, { once: true });
    const timer = setTimeout(() => timeout.abort(), Math.min((this.#options.timeoutMs ?? 30_000) + waitMs, limitMs));
    try {
      const response = await (this.#options.fetch ?? globalThis.fetch)(url, {
        method, headers, signal: timeout.signal, cache: "no-store", redirect: "manual", // the credential is for this server only
        body: headers["Content-Type"] ? /** @type {BodyInit} */ (file ?? JSON.stringify(body ?? {})) : undefined,
        ...(file !== undefined && file instanceof ReadableStream && { duplex: "half" }), // the answer comes when all of it has been read
      });
      isRead = plain === "stream" && response.status === 200;
      return isRead ? response.body : await unwrap(`${method} ${route}`, response, gives, plain === "stream" ? "text" : plain);
    } catch (cause) {
      if (cause instanceof ChatAPIError) throw cause;
      if (signal?.aborted) throw signal.reason;
      if (timeout.signal.aborted) throw new ChatAPIError("TIMEOUT", `${method} ${route}: no answer in time`, { cause });
      throw new ChatAPIError("NETWORK_ERROR", `${method} ${route}: the server could not be reached`, { cause });
    } finally {
      clearTimeout(timer);
      if (!isRead) signal?.removeEventListener("abort", stop); // else the bytes are yet to come
    }
  }

  // The server itself

  /**
   * The server's version, and the paths of its documents by name. Needs no credential.
   * @param {CallOptions} [options] @returns {Promise<{name: "ChatAPI", version: string, links: Record<string, string>}>}
   */
  info(options) { return this.call("GET", "/", { gives: { version: "string", links: "object" } }, options); }

  /**
   * Whether the process answers; looks at nothing else. Needs no credential.
   * @param {CallOptions} [options] @returns {Promise<{status: "ok"}>}
   */
  livez(options) { return this.call("GET", "/livez", { gives: STATUS }, options); }

  /**
   * Whether the server serves requests. Needs no credential. Throws with status 503, after the usual tries, while it starts, stops,
   * or cannot write.
   * @param {CallOptions} [options] @returns {Promise<{status: "ok"}>}
   */
  readyz(options) { return this.call("GET", "/readyz", { gives: STATUS }, options); }

  /**
   * The server's version and uptime, in seconds and for people. Needs no credential. Throws with status 503, after the usual tries,
   * when the server cannot write; `details` of the error then hold the same fields.
   * @param {CallOptions} [options]
   * @returns {Promise<{status: "ok", service: "chatapi", version: string, uptime: string, uptime_seconds: number, db_writable: boolean, search: {enabled: boolean, lag: number | null}}>}
   */
  health(options) { return this.call("GET", "/health", { gives: STATUS }, options); }

  /**
   * All metrics, in Prometheus' text format. Throws: 401 where the server wants the master key (`AdminAPI` sends it), 404 where
   * metrics are off.
   * @param {CallOptions} [options] @returns {Promise<string>}
   */
  metrics(options) { return this.call("GET", "/metrics", { plain: "text" }, options); }

  /**
   * The OpenAPI document of the REST routes. Needs no credential.
   * @param {CallOptions} [options] @returns {Promise<Json>}
   */
  openapi(options) { return this.call("GET", "/openapi.json", { plain: "json" }, options); }

  /**
   * The AsyncAPI document of the WebSocket's frames. Needs no credential.
   * @param {CallOptions} [options] @returns {Promise<Json>}
   */
  asyncapi(options) { return this.call("GET", "/asyncapi.json", { plain: "json" }, options); }
}

/**
 * One caller of one server: a tenant's backend acting as a user, or a user.
 *
 * Every call rejects with a `ChatAPIError`. It holds the refusal (its `code` and `status`), or why the server gave no answer. The
 * calls name those refusals that are their own: beside them there are 400 (`field` says of what), 401, 429 and 5xx. Lists come in
 * pages: `limit` with `offset`, which passes over as many items, or with `cursor`, the `next_cursor` of the page before, which
 * goes on where that ended. Times are RFC 3339 in UTC, as text.
 */
export class ChatAPI extends RestClient {
  /** @type {ClientOptions} */ #options;
  /** @type {Credentials} */ #credentials;

  /** Throws a TypeError for an address without http:// or https://, and without credentials. @param {ClientOptions} options */
  constructor(options) {
    const { url, apiKey, userId, token, getToken } = options;
    checkAddress(url);
    if (apiKey ? !userId : !token && !getToken) throw new TypeError("give apiKey and userId, or token, or getToken");
    const credentials = new Credentials(options);
    super(url, credentials, options, options.followMoves ?? true);
    this.#options = { ...options };
    this.#credentials = credentials;
  }

  /** The same tenant as another user; with an API key only. Throws a TypeError without one. @param {string} userId @returns {ChatAPI} */
  asUser(userId) {
    if (!this.#options.apiKey) throw new TypeError("only an API key can act as another user");
    return new ChatAPI({ ...this.#options, url: this.url, userId });
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

  /**
   * Creates a room; the caller becomes its first admin. `type`: `dm` (two users, forever; with one member given the caller is the
   * other), `group` (private) or `channel` (each user of the tenant may read it). `members`: up to 1,000 user ids; ids that are
   * given twice count once. `name`: 1 to 200 characters. `metadata`: an object of at most 16 KiB as JSON. `posting`: the members
   * who may post. `slow_mode_seconds`: from a member's message to their next one, 0 to 21,600; not for admins. A dm has neither.
   * Not tried again after a lost answer. Throws: 409 when the dm exists, with its `room_id` in `details`; 400.
   * @param {{type: RoomType, members?: string[], name?: string | null, metadata?: Json | null, posting?: Posting, slow_mode_seconds?: number}} room
   * @param {CallOptions} [options]
   * @returns {Promise<Room>}
   */
  createRoom(room, options) { return this.call("POST", "/rooms", { body: room, gives: ROOM }, options); }

  /**
   * The caller's rooms, the most recently active first, each with the caller's role, receipts and view of it, counts of unread
   * messages and mentions (up to 1,000) and the last message. `hidden`: true for those too that the caller has hidden. `limit`: 1 to
   * 100 (50); a page may hold less, see `has_more`.
   * @param {Page & {hidden?: boolean}} [page] @param {CallOptions} [options] @returns {Promise<{rooms: (Room & Standing)[]} & More>}
   */
  listRooms(page, options) { return this.call("GET", "/rooms", { query: page, gives: ROOMS }, options); }

  /**
   * The tenant's channels, the caller's own and others. `limit`: 1 to 100 (50).
   * @param {Page} [page] @param {CallOptions} [options] @returns {Promise<{rooms: Room[]} & More>}
   */
  listChannels(page, options) { return this.call("GET", "/channels", { query: page, gives: ROOMS }, options); }

  /**
   * One room. Throws: 404, or 403 when the caller is not a member and it is not a channel.
   * @param {string} roomId @param {CallOptions} [options] @returns {Promise<Room>}
   */
  getRoom(roomId, options) { return this.call("GET", path`/rooms/${roomId}`, { gives: ROOM }, options); }

  /**
   * Changes what is given; `null` clears a name or metadata. `name`: 1 to 200 characters; `metadata`: at most 16 KiB, replaced as
   * a whole; `posting` and `slow_mode_seconds` as in `createRoom`. For admins of the room. Throws: 403, 404.
   * @param {string} roomId
   * @param {{name?: string | null, metadata?: Json | null, posting?: Posting, slow_mode_seconds?: number}} change
   * @param {CallOptions} [options]
   * @returns {Promise<Room>}
   */
  updateRoom(roomId, change, options) { return this.call("PATCH", path`/rooms/${roomId}`, { body: change, gives: ROOM }, options); }

  /**
   * Deletes a room and everything in it. For its admins. Throws: 403, also of a dm; 404.
   * @param {string} roomId @param {CallOptions} [options] @returns {Promise<void>}
   */
  deleteRoom(roomId, options) { return this.call("DELETE", path`/rooms/${roomId}`, {}, options); }

  /**
   * Changes the caller's own view of a room, and resolves with it: an absent field stays. `notify`: of which messages the backend is
   * told while the caller is offline. `hidden`: leaves the room out of `listRooms` until somebody else posts. Throws: 403, 404.
   * @param {string} roomId @param {{notify?: NotifyLevel, hidden?: boolean}} change @param {CallOptions} [options]
   * @returns {Promise<OwnView>}
   */
  updateView(roomId, change, options) { return this.call("PATCH", path`/rooms/${roomId}/me`, { body: change, gives: ROOM }, options); }

  /**
   * The room's members, the longest-standing first; with `q` those whose name or id begins so (1 to 100 characters, without case and
   * diacritics), by name. `limit`: 1 to 100 (50). Throws: 403, 404.
   * @param {string} roomId @param {Page & {q?: string}} [page] @param {CallOptions} [options] @returns {Promise<{members: Member[]} & More>}
   */
  listMembers(roomId, page, options) { return this.call("GET", path`/rooms/${roomId}/members`, { query: page, gives: { members: "array" } }, options); }

  /**
   * Adds a user, as `member` if not said otherwise. For admins of the room; in a channel users may add themselves. Not tried again
   * after a lost answer. Throws: 409 for a member or a dm, 403, 404.
   * @param {string} roomId @param {string} userId @param {{role?: Role}} [more] @param {CallOptions} [options] @returns {Promise<Member>}
   */
  addMember(roomId, userId, more, options) { return this.call("POST", path`/rooms/${roomId}/members`, { body: { user_id: userId, ...more }, gives: MEMBER }, options); }

  /**
   * Gives a member another role, or mutes them: they may read, but not post, edit, react or type. `muted_for`: seconds, up to
   * 31,536,000; 0 ends it. For admins of the room. Throws: 409 for the last admin or the role in a dm, 403, also for a mute in a
   * dm, 404.
   * @param {string} roomId @param {string} userId @param {{role?: Role, muted_for?: number}} change @param {CallOptions} [options] @returns {Promise<Member>}
   */
  updateMember(roomId, userId, change, options) { return this.call("PATCH", path`/rooms/${roomId}/members/${userId}`, { body: change, gives: MEMBER }, options); }

  /**
   * Removes a member, or leaves the room. For admins; anybody may leave. When the last admin leaves, the member who has been there
   * longest becomes admin. Throws: 409 for a dm, 403, 404.
   * @param {string} roomId @param {string} userId @param {CallOptions} [options] @returns {Promise<void>}
   */
  removeMember(roomId, userId, options) { return this.call("DELETE", path`/rooms/${roomId}/members/${userId}`, {}, options); }

  /**
   * Bans a user, who is removed if they are a member: they may not join the room, be added or, in a channel, read it. For admins of
   * the room. `reason`: up to 500 characters. `expires_in`: seconds, 1 to 31,536,000; without it the ban has no end. Banning again
   * replaces both. Throws: 409 for the caller themselves, 403, also of a dm, 404.
   * @param {string} roomId @param {string} userId @param {{reason?: string | null, expires_in?: number | null}} [ban]
   * @param {CallOptions} [options] @returns {Promise<Ban>}
   */
  banMember(roomId, userId, ban, options) { return this.call("PUT", path`/rooms/${roomId}/bans/${userId}`, { body: { ...ban }, gives: MEMBER }, options); }

  /**
   * Lifts a ban; does nothing for a user who is not banned. For admins of the room. Throws: 403, 404.
   * @param {string} roomId @param {string} userId @param {CallOptions} [options] @returns {Promise<void>}
   */
  unbanMember(roomId, userId, options) { return this.call("DELETE", path`/rooms/${roomId}/bans/${userId}`, {}, options); }

  /**
   * The bans that are in force, the newest first. For admins of the room. `limit`: 1 to 100 (50). Throws: 403, 404.
   * @param {string} roomId @param {Page} [page] @param {CallOptions} [options] @returns {Promise<{bans: Ban[]} & More>}
   */
  listBans(roomId, page, options) { return this.call("GET", path`/rooms/${roomId}/bans`, { query: page, gives: { bans: "array" } }, options); }

  /**
   * Reports a message to the tenant's backend; again, the first report is given. For all who can read the message. `reason`: 1 to
   * 1,000 characters. Throws: 400, 403, 404, also of a deleted message.
   * @param {string} roomId @param {string} messageId @param {string} reason @param {CallOptions} [options] @returns {Promise<{report_id: string}>}
   */
  reportMessage(roomId, messageId, reason, options) {
    return this.call("POST", path`/rooms/${roomId}/messages/${messageId}/report`, { body: { reason }, idempotent: true, gives: REPORT }, options);
  }

  /**
   * The tenant's reports, the open ones if not said otherwise, the newest first; with an API key only. `limit`: 1 to 100 (50). Throws: 403.
   * @param {Page & {status?: "open" | "resolved"}} [page] @param {CallOptions} [options] @returns {Promise<{reports: Report[]} & More>}
   */
  listReports(page, options) { return this.call("GET", "/reports", { query: page, gives: { reports: "array" } }, options); }

  /**
   * Marks a report as resolved by the caller; again, nothing changes. With an API key only. Throws: 403, 404.
   * @param {string} reportId @param {CallOptions} [options] @returns {Promise<Report>}
   */
  resolveReport(reportId, options) { return this.call("POST", path`/reports/${reportId}/resolve`, { idempotent: true, gives: REPORT }, options); }

  // Users

  /**
   * A user's profile, for everybody in the tenant. `last_seen_at` is null for those who may not know it. Throws: 404 for a user who
   * has no profile and was never online.
   * @param {string} userId @param {CallOptions} [options] @returns {Promise<User>}
   */
  getUser(userId, options) { return this.call("GET", path`/users/${userId}`, { gives: MEMBER }, options); }

  /**
   * Writes what is given into a user's profile; `null` clears it. Users write their own, the API key everybody's. `name`: 1 to 200
   * characters; `avatar_url`: an http or https URL of up to 2,048 characters; `metadata`: at most 16 KiB, replaced as a whole.
   * Throws: 403, 400.
   * @param {string} userId @param {{name?: string | null, avatar_url?: string | null, metadata?: Json | null}} profile
   * @param {CallOptions} [options] @returns {Promise<User>}
   */
  putUser(userId, profile, options) { return this.call("PUT", path`/users/${userId}`, { body: profile, gives: MEMBER }, options); }

  /**
   * The profiles of up to 100 `ids`, in their order; those without one are left out. Or, with an API key, of the users whose name or
   * id begins with `q` (1 to 100 characters, without case and diacritics), by name. `limit`: 1 to 100 (50 with `q`). Throws: 403 for
   * `q` with a user token, 400.
   * @param {Page & {ids?: string[], q?: string}} wanted @param {CallOptions} [options] @returns {Promise<{users: User[]} & More>}
   */
  listUsers(wanted, options) {
    const { ids, ...query } = wanted;
    return this.call("GET", "/users", { query: ids ? { ...query, ids: ids.map(encodeURIComponent).join(",") } : query, gives: { users: "array" } }, options);
  }

  /**
   * The ban of a user from the tenant. With an API key only. Throws: 404 for a user who is not banned.
   * @param {string} userId @param {CallOptions} [options] @returns {Promise<UserBan>}
   */
  getBan(userId, options) { return this.call("GET", path`/users/${userId}/ban`, { gives: MEMBER }, options); }

  /**
   * Bans a user from the whole tenant, with an API key only: their connections close with 4003, and all that they ask for is refused.
   * It replaces an earlier ban. `reason`: up to 500 characters; `expires_in`: 1 to 31,536,000 seconds, without it the ban has no end.
   * Throws: 400.
   * @param {string} userId @param {{reason?: string | null, expires_in?: number | null}} [ban] @param {CallOptions} [options]
   * @returns {Promise<UserBan>}
   */
  banUser(userId, ban, options) { return this.call("PUT", path`/users/${userId}/ban`, { body: ban ?? {}, gives: MEMBER }, options); }

  /**
   * Ends the ban of a user, if there is one. With an API key only.
   * @param {string} userId @param {CallOptions} [options] @returns {Promise<void>}
   */
  unbanUser(userId, options) { return this.call("DELETE", path`/users/${userId}/ban`, {}, options); }

  /**
   * All that is stored of a user, as lines of JSON that have a `type`: the first one is `user`, the last one `end`. With an API key only.
   * It is held in memory and may take 10 minutes: a program that expects more reads the route as a stream. Throws: 400, 429 while too
   * many run.
   * @param {string} userId @param {CallOptions} [options] @returns {Promise<string>}
   */
  exportUser(userId, options) { return this.call("GET", path`/users/${userId}/export`, { plain: "text", waitMs: EXPORT_MS }, options); }

  /**
   * Erases a user's data, with an API key only: their messages become tombstones, and the rest goes. `erased` is false while it is under
   * way: ask again, until it is true. Meanwhile all that the user asks for is refused. Throws: 400, 429 while too many are under way.
   * @param {string} userId @param {CallOptions} [options] @returns {Promise<{erased: boolean}>}
   */
  eraseUser(userId, options) { return this.call("DELETE", path`/users/${userId}`, { gives: { erased: "boolean" } }, options); }

  /**
   * The caller wants no dm from that user: neither of the two may open one, or post in theirs. Blocking again changes nothing.
   * Throws: 400 for oneself.
   * @param {string} userId @param {CallOptions} [options] @returns {Promise<Block>}
   */
  blockUser(userId, options) { return this.call("PUT", path`/blocks/${userId}`, { gives: MEMBER }, options); }

  /**
   * Ends the caller's block of that user, if there is one.
   * @param {string} userId @param {CallOptions} [options] @returns {Promise<void>}
   */
  unblockUser(userId, options) { return this.call("DELETE", path`/blocks/${userId}`, {}, options); }

  /**
   * The users whom the caller has blocked, the latest first. `limit`: 1 to 100 (50).
   * @param {Page} [page] @param {CallOptions} [options] @returns {Promise<{blocks: Block[]} & More>}
   */
  listBlocks(page, options) { return this.call("GET", "/blocks", { query: page, gives: { blocks: "array" } }, options); }

  // Messages

  /**
   * Stores a message and resolves with it. Stored once, however often the call has to be tried: a `client_message_id` is made where
   * none is given. `content`: up to 64 KiB of UTF-8, or the tenant's own bound. `meta`: an object of at most 16 KiB as JSON.
   * `reply_to`: a message of the same room. `client_message_id`: up to 64 characters; given again, the message comes as it now
   * stands. `thread_id`: the message to which it is a reply, no reply itself. `mentions`: up to 50 members. `mention_room`:
   * mentions every member, for the room's admins, in a dm for both. Throws: 409 when that id had another body, 400 (`field` says
   * of what), 403 for those who are not members, 404.
   * @param {string} roomId @param {string | NewMessage} message @param {CallOptions} [options] @returns {Promise<Message>}
   */
  sendMessage(roomId, message, options) {
    return this.call("POST", path`/rooms/${roomId}/messages`, { body: asMessage(message), idempotent: true, gives: MESSAGE }, options);
  }

  /**
   * Writes a message with the text that `chunks` gives, while everybody in the room sees it grow, and resolves with the message once it
   * has ended: `stream.state` is `done`, or `cancelled` if another member has asked for that; then `chunks` is ended at once.
   *
   * Requests without an answer are tried again for a minute, as while the server restarts; nothing is stored twice. If `chunks` throws,
   * the stream ends `failed`, and that is thrown; a `StreamFailed` also tells the room why. When `signal` is aborted it ends
   * `cancelled`, and the reason is thrown. The fields of `message` are those of `sendMessage`; with the `client_message_id` of an open stream this goes on where that stopped. Throws:
   * 400 (`text`) beyond the bound of a message, 409 when the stream has ended meanwhile, 429 for too many open streams, 403, 404.
   * @param {string} roomId @param {Chunks} chunks @param {StreamedMessage} [message] @param {CallOptions} [options]
   * @returns {Promise<Message>}
   */
  stream(roomId, chunks, message, options) {
    const body = asStream(message);
    const patient = { retries: STREAM_RETRIES };
    return new StreamWriter(chunks, options?.signal, {
      open: () => this.call("POST", path`/rooms/${roomId}/messages`, { body, idempotent: true, gives: MESSAGE }, options),
      append: (messageId, index, text) => this.appendToMessage(roomId, messageId, index, text, patient),
      finish: (messageId, end) => this.finishMessage(roomId, messageId, end, patient),
    }, body.meta).run();
  }

  /**
   * A page of the room's history, ascending by `seq`, edits and deletions applied: messages after `after_seq`, messages before
   * `before_seq`, or the newest. `thread_id`: only the replies to that message. `top_level`: true for all but replies. `limit`: 1 to
   * 100 (50). Throws: 400 for both bounds or both choices, 403, 404.
   * @param {string} roomId
   * @param {{after_seq?: number, before_seq?: number, limit?: number, thread_id?: string, top_level?: boolean}} [page]
   * @param {CallOptions} [options]
   * @returns {Promise<{messages: Message[], has_more: boolean}>}
   */
  listMessages(roomId, page, options) { return this.call("GET", path`/rooms/${roomId}/messages`, { query: page, gives: { messages: "array" } }, options); }

  /**
   * The messages that mention the caller, in all rooms that they are in, the newest first; deleted ones are left out. `before`: the
   * id of a message, perhaps a deleted one. `limit`: 1 to 100 (50). Throws: 400 for a `before` that the caller cannot read.
   * @param {{before?: string, limit?: number, cursor?: string}} [page] @param {CallOptions} [options]
   * @returns {Promise<{messages: Message[], has_more: boolean, next_cursor?: string}>}
   */
  listMentions(page, options) { return this.call("GET", "/mentions", { query: page, gives: { messages: "array" } }, options); }

  /**
   * Messages that have all words, "phrases" and prefix* of `q`, the newest first, without case and diacritics, in the caller's rooms.
   * `q`: up to 256 characters and 16 terms. `room_id`: in this room alone, which may be a channel; one that the caller may not read
   * finds nothing. `sender_id`: of this user alone. `after`, `before`: times of RFC 3339, both excluded. `limit`: 1 to 100 (50).
   * `offset`: up to 1,000. Throws: 400, 404 where search is off, 503 for a search of more than 2 seconds.
   * @param {string} q
   * @param {{room_id?: string, sender_id?: string, after?: string, before?: string} & Page} [page] @param {CallOptions} [options]
   * @returns {Promise<{results: SearchResult[], has_more: boolean, next_cursor?: string}>}
   */
  search(q, page, options) { return this.call("GET", "/search", { query: { ...page, q }, gives: { results: "array" } }, options); }

  /**
   * A message as it now stands. Throws: 403, 404.
   * @param {string} roomId @param {string} messageId @param {CallOptions} [options] @returns {Promise<Message>}
   */
  getMessage(roomId, messageId, options) { return this.call("GET", path`/rooms/${roomId}/messages/${messageId}`, { gives: MESSAGE }, options); }

  /**
   * Replaces a message's content. `meta`, `mentions` and `mention_room` stay when they are absent, `null` clears them; bounds as in
   * `sendMessage`. For its sender. Throws: 403, 404, also of a deleted message.
   * @param {string} roomId @param {string} messageId @param {string | Revision} change
   * @param {CallOptions} [options] @returns {Promise<Message>}
   */
  editMessage(roomId, messageId, change, options) {
    return this.call("PUT", path`/rooms/${roomId}/messages/${messageId}`, { body: typeof change === "string" ? { content: change } : change, gives: MESSAGE }, options);
  }

  /**
   * Deletes a message's content and leaves a tombstone; deleting it again changes nothing. For its sender and the room's admins.
   * Throws: 403, 404.
   * @param {string} roomId @param {string} messageId @param {CallOptions} [options] @returns {Promise<void>}
   */
  deleteMessage(roomId, messageId, options) { return this.call("DELETE", path`/rooms/${roomId}/messages/${messageId}`, {}, options); }

  /**
   * Appends to a message that was opened as a stream; resolves once the text, and all before it, is stored. The same `index` with the
   * same text is stored once. `index`: 1 for the first append, then one more each time. `text`: up to 16 KiB of UTF-8; an empty one
   * with the last `index` only says that the sender is still there. For its sender. Throws: 409 for an index that does not follow,
   * where `details.index` is the last one that is stored, and for a stream that has ended; 400, 403, 404.
   * @param {string} roomId @param {string} messageId @param {number} index @param {string} text @param {CallOptions} [options]
   * @returns {Promise<{index: number, cancel_requested?: boolean}>}
   */
  appendToMessage(roomId, messageId, index, text, options) {
    return this.call("POST", path`/rooms/${roomId}/messages/${messageId}/append`, { body: { index, text }, idempotent: true, gives: { index: "number" } }, options);
  }

  /**
   * Ends a stream and resolves with the message; the same end again changes nothing. `index`: of the last append. `content` replaces
   * all that was appended; `meta` stays when it is absent, `null` clears it. For its sender. Throws: 409 for another `index`, or a
   * stream that has ended otherwise; 400, 403, 404.
   * @param {string} roomId @param {string} messageId @param {StreamEnd} end @param {CallOptions} [options] @returns {Promise<Message>}
   */
  finishMessage(roomId, messageId, end, options) {
    return this.call("POST", path`/rooms/${roomId}/messages/${messageId}/finish`, { body: end, idempotent: true, gives: MESSAGE }, options);
  }

  /**
   * Asks the sender of a stream to stop, who decides. For members who may post. Throws: 409 for a stream that has ended; 403, 404.
   * @param {string} roomId @param {string} messageId @param {CallOptions} [options]
   * @returns {Promise<{message_id: string, cancel_requested: true}>}
   */
  cancelMessage(roomId, messageId, options) {
    return this.call("POST", path`/rooms/${roomId}/messages/${messageId}/cancel`, { idempotent: true, gives: MESSAGE }, options);
  }

  /**
   * Reacts to a message, as the caller, and resolves with all its reactions. Reacting again with the same emoji changes nothing.
   * `emoji`: 1 to 64 bytes of UTF-8 without white space and control characters, kept byte for byte. Throws: 409 for more than 20
   * emoji of the caller, or 50 of all, on one message; 400, 403 for those who are not members, 404, also of a deleted message.
   * @param {string} roomId @param {string} messageId @param {string} emoji @param {CallOptions} [options]
   * @returns {Promise<{reactions: ReactionSummary[]}>}
   */
  addReaction(roomId, messageId, emoji, options) {
    return this.call("PUT", path`/rooms/${roomId}/messages/${messageId}/reactions/${emoji}`, { gives: { reactions: "array" } }, options);
  }

  /**
   * Takes a reaction of the caller back; where there is none, nothing changes. Throws: 400, 403, 404.
   * @param {string} roomId @param {string} messageId @param {string} emoji @param {CallOptions} [options] @returns {Promise<void>}
   */
  removeReaction(roomId, messageId, emoji, options) {
    return this.call("DELETE", path`/rooms/${roomId}/messages/${messageId}/reactions/${emoji}`, {}, options);
  }

  /**
   * The reactions to a message, with any emoji or with the given one, in the order of reacting. `limit`: 1 to 100 (50). Throws: 403,
   * 404.
   * @param {string} roomId @param {string} messageId @param {{emoji?: string} & Page} [page] @param {CallOptions} [options]
   * @returns {Promise<{reactions: Reaction[]} & More>}
   */
  listReactions(roomId, messageId, page, options) {
    return this.call("GET", path`/rooms/${roomId}/messages/${messageId}/reactions`, { query: page, gives: { reactions: "array" } }, options);
  }

  /**
   * Pins a message and resolves with it; pinning it again changes nothing. For the room's admins, in a dm for both. Throws: 409 for
   * more than 100 in one room, 403, 404, also of a deleted message.
   * @param {string} roomId @param {string} messageId @param {CallOptions} [options] @returns {Promise<Message>}
   */
  pinMessage(roomId, messageId, options) { return this.call("PUT", path`/rooms/${roomId}/pins/${messageId}`, { gives: MESSAGE }, options); }

  /**
   * Unpins a message; where it is not pinned, nothing changes. For the same users. Throws: 403, 404.
   * @param {string} roomId @param {string} messageId @param {CallOptions} [options] @returns {Promise<void>}
   */
  unpinMessage(roomId, messageId, options) { return this.call("DELETE", path`/rooms/${roomId}/pins/${messageId}`, {}, options); }

  /**
   * The room's pinned messages, the newest pin first. `limit`: 1 to 100 (50). Throws: 403, 404.
   * @param {string} roomId @param {Page} [page] @param {CallOptions} [options] @returns {Promise<{messages: Message[]} & More>}
   */
  listPins(roomId, page, options) { return this.call("GET", path`/rooms/${roomId}/pins`, { query: page, gives: { messages: "array" } }, options); }

  /**
   * A page of the room's log after `after_seq` (0), ascending: messages, edits, deletions, reactions, pins, changes of the room and its members, and
   * what a newer server adds. Messages are shown as they now stand. `limit`: 1 to 100 (50). Throws: 403, 404.
   * @param {string} roomId @param {{after_seq?: number, limit?: number}} [page] @param {CallOptions} [options]
   * @returns {Promise<{events: ServerEvent[], has_more: boolean}>}
   */
  listEvents(roomId, page, options) { return this.call("GET", path`/rooms/${roomId}/events`, { query: page, gives: { events: "array", has_more: "boolean" } }, options); }

  /**
   * The events after the cursors in `rooms`; after `last_ack` in rooms that it does not name. At once, or as soon as there is one,
   * within `wait` seconds (0 to 60). Give the `epoch` and the `rooms` of the answer with the next call. `limit`: 1 to 1,000 events
   * (100). `after_notification`: the newest notification that is known; at most 25 come.
   * Throws: 429 if the user has too many connections.
   * @param {{epoch?: string, rooms?: Record<string, number>, wait?: number, limit?: number, after_notification?: string}} [cursors]
   * @param {CallOptions} [options] @returns {Promise<Synced>}
   */
  sync(cursors, options) {
    return this.call("POST", "/sync", { body: cursors, idempotent: true, waitMs: 1000 * (cursors?.wait ?? 0), gives: SYNCED }, options);
  }

  /**
   * Marks the room as read up to `seq`, which acknowledges as far; a lower one than before changes nothing. Resolves with where the
   * caller now stands. Throws: 400 above the room's `last_seq`, 403, 404.
   * @param {string} roomId @param {number} seq @param {CallOptions} [options] @returns {Promise<{room_id: string, seq: number}>}
   */
  markRead(roomId, seq, options) { return this.call("POST", path`/rooms/${roomId}/read`, { body: { seq }, idempotent: true, gives: POSITION }, options); }

  /**
   * Acknowledges the room's events up to `seq`; a lower one than before changes nothing. Resolves with where the caller now stands.
   * Throws: 400 above the room's `last_seq`, 403, 404.
   * @param {string} roomId @param {number} seq @param {CallOptions} [options] @returns {Promise<{room_id: string, seq: number}>}
   */
  ack(roomId, seq, options) { return this.call("POST", "/acks", { body: { room_id: roomId, seq }, idempotent: true, gives: POSITION }, options); }

  /**
   * Acknowledges many rooms, in calls of 1,000 each. Each room is judged on its own: resolves with where the caller now stands, and
   * for each room that was refused why.
   * @param {Record<string, number>} seqs by room
   * @param {CallOptions} [options]
   * @returns {Promise<{rooms: Record<string, number>, errors: Record<string, {code: string, message: string, field?: string}>}>}
   */
  async ackRooms(seqs, options) {
    const rooms = {}, errors = {};
    const entries = Object.entries(seqs);
    for (let first = 0; first < entries.length; first += ACKED_ROOMS) {
      const body = { rooms: Object.fromEntries(entries.slice(first, first + ACKED_ROOMS)) };
      const part = await this.call("POST", "/acks", { body, idempotent: true, gives: { rooms: "object", errors: "object" } }, options);
      Object.assign(rooms, part.rooms);
      Object.assign(errors, part.errors);
    }
    return { rooms, errors };
  }

  /**
   * Each member's `last_ack` and `last_read`. `limit`: 1 to 100 (50). For members. Throws: 403, 404.
   * @param {string} roomId @param {Page} [page] @param {CallOptions} [options] @returns {Promise<{receipts: Receipt[]} & More>}
   */
  listReceipts(roomId, page, options) { return this.call("GET", path`/rooms/${roomId}/receipts`, { query: page, gives: { receipts: "array" } }, options); }

  /**
   * The user ids of those members who are online. For members. Throws: 403, 404.
   * @param {string} roomId @param {CallOptions} [options] @returns {Promise<{online: string[]}>}
   */
  getPresence(roomId, options) { return this.call("GET", path`/rooms/${roomId}/presence`, { gives: { online: "array" } }, options); }

  // Notifications and topics

  /**
   * Stores a notification for every user that `targets` names, each once, and resolves with how many these are (`recipients`). With
   * an API key only. `topic`: 1 to 200 characters; `payload`: any JSON of at most 64 KiB; `targets`: at most 1,000 `user_ids`. Not
   * tried again after a lost answer, as it could then arrive twice. Throws: 400, 403 with a user token, 404 of a room.
   * @param {{topic: string, payload: unknown, targets: {user_ids?: string[], room_id?: string, topic_subscribers?: boolean}}} notification
   * @param {CallOptions} [options]
   * @returns {Promise<{notification_id: string, created_at: string, recipients: number}>}
   */
  notify(notification, options) { return this.call("POST", "/notify", { body: notification, gives: { notification_id: "string" } }, options); }

  /**
   * The caller's notifications, the newest first; all of them, unless a `status` is given. `limit`: 1 to 100 (50).
   * @param {{status?: "pending" | "delivered" | "all"} & Page} [page] @param {CallOptions} [options]
   * @returns {Promise<{notifications: ListedNotification[]} & More>}
   */
  listNotifications(page, options) { return this.call("GET", "/notifications", { query: page, gives: { notifications: "array" } }, options); }

  /**
   * Acknowledges a notification, which is then `delivered` and not sent again; once more changes nothing. Throws: 404.
   * @param {string} notificationId @param {CallOptions} [options] @returns {Promise<{notification_id: string, status: "delivered"}>}
   */
  ackNotification(notificationId, options) {
    return this.call("POST", path`/notifications/${notificationId}/ack`, { idempotent: true, gives: { notification_id: "string" } }, options);
  }

  /**
   * Subscribes the caller to notifications of a topic (1 to 200 characters). Subscribing twice is the same subscription.
   * @param {string} topic @param {CallOptions} [options] @returns {Promise<Subscription>}
   */
  subscribeTopic(topic, options) { return this.call("POST", "/subscriptions", { body: { topic }, idempotent: true, gives: { subscription_id: "string" } }, options); }

  /**
   * The caller's subscriptions to topics. `limit`: 1 to 100 (50).
   * @param {Page} [page] @param {CallOptions} [options] @returns {Promise<{subscriptions: Subscription[]} & More>}
   */
  listSubscriptions(page, options) { return this.call("GET", "/subscriptions", { query: page, gives: { subscriptions: "array" } }, options); }

  /**
   * Ends a subscription, by its `subscription_id`. Throws: 404.
   * @param {string} subscriptionId @param {CallOptions} [options] @returns {Promise<void>}
   */
  unsubscribeTopic(subscriptionId, options) { return this.call("DELETE", path`/subscriptions/${subscriptionId}`, {}, options); }

  // Credentials

  /**
   * A user token, for a page or an app, of the caller or another user. With an API key only. `expires_in`: 1 to 86,400 seconds
   * (3,600). Throws: 403 with a user token.
   * @param {{user_id?: string, expires_in?: number}} [token] @param {CallOptions} [options]
   * @returns {Promise<{token: string, user_id: string, expires_at: string}>}
   */
  createToken(token = {}, options) { return this.call("POST", "/tokens", { body: token, idempotent: true, gives: { token: "string" } }, options); }

  /**
   * A ticket for one WebSocket, good for `expires_in` seconds (60).
   * @param {CallOptions} [options] @returns {Promise<{token: string, expires_in: number}>}
   */
  createTicket(options) { return this.call("POST", "/ws/token", { idempotent: true, gives: { token: "string" } }, options); }

  /**
   * Address and subprotocols of one WebSocket. A user token travels as a subprotocol and an API key not at all: it is
   * exchanged for a ticket, because addresses end up in logs.
   * @internal
   * @param {AbortSignal} signal
   * @returns {Promise<{url: string, protocols: string[]}>}
   */
  async openSocketWith(signal) {
    const address = () => `${this.url.replace(/^http/, "ws")}/v1/ws?sync=none`;
    if (this.usesApiKey) {
      const { token } = await this.createTicket({ signal, retries: 0 }); // which may find the tenant on another server
      return { url: `${address()}&token=${encodeURIComponent(token)}`, protocols: ["chatapi.v1"] };
    }
    return { url: address(), protocols: ["chatapi.v1", `bearer.${await this.#credentials.token()}`] };
  }

  /**
   * The response of an event stream.
   * @internal
   * @param {ServerEvent | undefined} cursors a `sync`
   * @param {AbortSignal} signal
   * @returns {Promise<Response>}
   */
  async openStream(cursors, signal) {
    for (let hops = 0; ; hops++) {
      const asked = this.url;
      try {
        return await this.#openStreamOnce(cursors, signal);
      } catch (error) {
        if (hops === MAX_HOPS || !this.follow(error, asked)) throw error;
      }
    }
  }

  /** @param {ServerEvent | undefined} cursors @param {AbortSignal} signal */
  async #openStreamOnce(cursors, signal) {
    const url = new URL(`${this.url}/v1/events/stream`);
    if (cursors) url.searchParams.set("cursors", encodeCursors(cursors));
    const headers = await this.#credentials.headers();
    const fetch = this.#options.fetch ?? globalThis.fetch;
    let response;
    try {
      response = await fetch(url, { headers, signal, cache: "no-store", redirect: "manual" });
    } catch (cause) {
      throw new ChatAPIError("NETWORK_ERROR", "the event stream: the server could not be reached", { cause });
    }
    if (response.status === 200 && response.headers.get("content-type")?.startsWith("text/event-stream")) return response;
    await unwrap("the event stream", response, undefined, undefined);
    throw new ChatAPIError("NOT_CHATAPI", "the event stream: another answer");
  }

  /** As the key's header or the token says. @internal @returns {Promise<string>} */
  async findUserId() { return this.#credentials.userId(); }

  /** @internal */
  get socketClass() {
    const found = this.#options.WebSocket ?? /** @type {any} */ (globalThis).WebSocket;
    if (!found) throw new TypeError("there is no WebSocket here: pass one, such as that of the npm package ws, as the option WebSocket");
    return found;
  }

  /** Forgets a token that the server refused. True when there may be a better one. @internal */
  renewToken() { return this.#credentials.renew(); }

  /** Whether there may be another token. @internal */
  get renewsTokens() { return this.#credentials.renews; }

  /** Of a token that the server has refused: whether it seems to be one that was good once, so that the next may be. @internal */
  get tokenHasExpired() { return this.#credentials.hasExpired; }

  /** @internal */
  get usesApiKey() { return this.#credentials.usesApiKey; }

  /**
   * Why the server refuses handshakes: a browser does not show their answers, but a plain GET of their address is answered
   * alike. Without a credential first, since a page of a foreign origin may not even ask with one. Undefined: it would not refuse.
   * @internal
   * @param {AbortSignal} signal
   * @returns {Promise<ChatAPIError | undefined>}
   */
  async findRefusal(signal) {
    for (const anonymous of [true, false]) {
      try {
        await this.tryOnce("GET", "/ws", { anonymous, limitMs: ASK_TIMEOUT_MS }, signal);
      } catch (error) {
        if (!(error instanceof ChatAPIError) || error.code === "NO_TOKEN") throw error;
        if (error.status !== 426) return error;
      }
    }
    return undefined;
  }
}

/**
 * The operator's calls: tenants, their keys and secrets, dead letters. For a backend only: the master key opens everything. Errors,
 * tries and pages are as in `ChatAPI`; a wrong master key is 401.
 */
export class AdminAPI extends RestClient {
  /** Throws a TypeError for an address without http:// or https://, and without a master key. @param {AdminOptions} options */
  constructor(options) {
    checkAddress(options.url);
    if (!options.masterKey) throw new TypeError("give masterKey");
    super(options.url, new Credentials({ masterKey: options.masterKey }), options, false); // the master key is one server's
  }

  /**
   * Creates a tenant. Its API key and secrets are shown this once. `name`: 1 to 200 characters; `config`: its own limits, webhook
   * URL and retention, as the OpenAPI document's `TenantConfig` has them. Not tried again after a lost answer. Throws: 400
   * (`field`: `config.…`).
   * @param {{name: string, config?: Json}} tenant @param {CallOptions} [options]
   * @returns {Promise<Tenant & {api_key: string, token_secret: string, webhook_secret?: string}>}
   */
  createTenant(tenant, options) { return this.call("POST", "/admin/tenants", { body: tenant, gives: TENANT }, options); }

  /**
   * All tenants, the oldest first. `limit`: 1 to 100 (50).
   * @param {Page} [page] @param {CallOptions} [options] @returns {Promise<{tenants: Tenant[]} & More>}
   */
  listTenants(page, options) { return this.call("GET", "/admin/tenants", { query: page, gives: { tenants: "array" } }, options); }

  /**
   * A tenant with its config, without keys and secrets. Throws: 404.
   * @param {string} tenantId @param {CallOptions} [options] @returns {Promise<Tenant>}
   */
  getTenant(tenantId, options) { return this.call("GET", path`/admin/tenants/${tenantId}`, { gives: TENANT }, options); }

  /**
   * Changes what is given. Of `config`, absent keys stay, and `null` takes the server's own setting. The answer has a
   * `webhook_secret` when `webhook_url` is set for the first time. Throws: 400, 404.
   * @param {string} tenantId @param {{name?: string, config?: Json}} change @param {CallOptions} [options]
   * @returns {Promise<Tenant & {webhook_secret?: string}>}
   */
  updateTenant(tenantId, change, options) { return this.call("PATCH", path`/admin/tenants/${tenantId}`, { body: change, gives: TENANT }, options); }

  /**
   * Deletes a tenant and all its data; its connections end. Throws: 404.
   * @param {string} tenantId @param {CallOptions} [options] @returns {Promise<void>}
   */
  deleteTenant(tenantId, options) { return this.call("DELETE", path`/admin/tenants/${tenantId}`, {}, options); }

  /**
   * Moves a tenant to another server, at the address `to`, and resolves once that serves it, which takes as long as its data take to be
   * copied. `toMasterKey` is the other server's master key. The same call goes on where a move was broken off. Throws: 400, 404, 409
   * with what the other server objects, 503 when the move was given up and this server goes on.
   * @param {string} tenantId @param {string} to @param {string} toMasterKey @param {CallOptions} [options]
   * @returns {Promise<TenantMove>}
   */
  moveTenant(tenantId, to, toMasterKey, options) {
    return this.call("POST", path`/admin/tenants/${tenantId}/move`, {
      body: { to }, headers: { "X-To-Master-Key": toMasterKey }, idempotent: true, gives: { state: "string" }, waitMs: MOVE_MS,
    }, options);
  }

  /**
   * Everything of a tenant, as it stands at this moment: a ChatAPI database with its secrets, for `importTenant`. Resolves with its
   * bytes as they come, once the server has made it; each piece is an `Uint8Array`. An error while they are read tells that some are
   * missing. Throws: 404, 421, 503 while others are under way.
   * @param {string} tenantId @param {CallOptions} [options] @returns {Promise<ReadableStream<Uint8Array>>}
   */
  exportTenant(tenantId, options) {
    return this.call("GET", path`/admin/tenants/${tenantId}/export`, { plain: "stream", waitMs: TRANSFER_MS }, options);
  }

  /**
   * Takes a tenant from a database that `exportTenant` has made, and resolves with it once the server serves it. `file`: a Blob, such
   * as `await openAsBlob("tenant.db")` of `node:fs`, or a stream of bytes. Not tried again: after a lost answer `getTenant` tells.
   * Throws: 400 with the reason for any other file, 409 when the tenant is there, 503.
   * @param {Blob | ReadableStream<Uint8Array> | Uint8Array | string} file @param {CallOptions} [options] @returns {Promise<Tenant>}
   */
  importTenant(file, options) {
    return this.call("POST", "/admin/tenants/import", { file, gives: TENANT, waitMs: TRANSFER_MS }, { ...options, retries: 0 });
  }

  /**
   * Adds an API key, which is shown this once. Not tried again after a lost answer. Throws: 404.
   * @param {string} tenantId @param {CallOptions} [options] @returns {Promise<{key_id: string, api_key: string}>}
   */
  createKey(tenantId, options) { return this.call("POST", path`/admin/tenants/${tenantId}/keys`, { gives: { api_key: "string" } }, options); }

  /**
   * The tenant's API keys, without their secrets: when each was made, and last used. `limit`: 1 to 100 (50). Throws: 404.
   * @param {string} tenantId @param {Page} [page] @param {CallOptions} [options]
   * @returns {Promise<{keys: {key_id: string, created_at: string, last_used_at: string | null}[]} & More>}
   */
  listKeys(tenantId, page, options) { return this.call("GET", path`/admin/tenants/${tenantId}/keys`, { query: page, gives: { keys: "array" } }, options); }

  /**
   * Revokes an API key at once; its connections end. Throws: 404.
   * @param {string} tenantId @param {string} keyId @param {CallOptions} [options] @returns {Promise<void>}
   */
  revokeKey(tenantId, keyId, options) { return this.call("DELETE", path`/admin/tenants/${tenantId}/keys/${keyId}`, {}, options); }

  /**
   * Replaces the secret that signs user tokens, and resolves with the new one, this once. All user tokens of the tenant die at
   * once. Not tried again after a lost answer. Throws: 404.
   * @param {string} tenantId @param {CallOptions} [options] @returns {Promise<{token_secret: string}>}
   */
  rotateTokenSecret(tenantId, options) { return this.call("POST", path`/admin/tenants/${tenantId}/token-secret`, { gives: { token_secret: "string" } }, options); }

  /**
   * Replaces the secret that signs webhook calls, and resolves with the new one, this once. The old one signs along for 24 h. Not
   * tried again after a lost answer. Throws: 404.
   * @param {string} tenantId @param {CallOptions} [options] @returns {Promise<{webhook_secret: string}>}
   */
  rotateWebhookSecret(tenantId, options) { return this.call("POST", path`/admin/tenants/${tenantId}/webhook-secret`, { gives: { webhook_secret: "string" } }, options); }

  /**
   * Webhook calls that failed for good, the latest first; of one tenant or of all. `limit`: 1 to 1,000 (50). Throws: 404 of an
   * unknown tenant.
   * @param {{tenant_id?: string} & Page} [page] @param {CallOptions} [options]
   * @returns {Promise<DeadLetters & More>}
   */
  listDeadLetters(page, options) { return this.call("GET", "/admin/dead-letters", { query: page, gives: { failed_messages: "array" } }, options); }

  /**
   * Acts of operators and moderators, the oldest first; of one tenant, deleted or not, or of all. `after`: the `id` of an entry.
   * `limit`: 1 to 100 (50). Throws: 400 for a wrong `after`.
   * @param {{tenant_id?: string, after?: string, limit?: number}} [page] @param {CallOptions} [options]
   * @returns {Promise<{entries: AuditEntry[], has_more: boolean}>}
   */
  listAudit(page, options) { return this.call("GET", "/admin/audit", { query: page, gives: { entries: "array" } }, options); }

  /**
   * Puts a webhook call that failed for good back into the queue, by its `id`. Not tried again after a lost answer. Throws: 404,
   * 409 when the tenant has no `webhook_url`.
   * @param {string} deadLetterId @param {CallOptions} [options] @returns {Promise<{id: string}>}
   */
  retryDeadLetter(deadLetterId, options) { return this.call("POST", path`/admin/dead-letters/${deadLetterId}/retry`, { gives: { id: "string" } }, options); }

  /**
   * Puts all of a tenant's dead letters back into the queue, and resolves with how many. Not tried again after a lost answer, since
   * the count would be another one. Throws: 404, 409 when the tenant has no `webhook_url`.
   * @param {string} tenantId @param {CallOptions} [options] @returns {Promise<{retried: number}>}
   */
  retryDeadLetters(tenantId, options) {
    return this.call("POST", "/admin/dead-letters/retry", { body: { tenant_id: tenantId }, gives: { retried: "number" } }, options);
  }

  /**
   * For each tenant, rooms, messages, connections and what waits in its queues; and the queues of all.
   * @param {CallOptions} [options]
   * @returns {Promise<{tenants: TenantStats[], queues: Queues & {writes: number}}>}
   */
  getStats(options) { return this.call("GET", "/admin/stats", { gives: { tenants: "array" } }, options); }

  /**
   * Gives free space of the server's database back to the file system, for about a second: call it until `stage` is `"done"`. It is
   * `"waiting"` while a backup, a check or a long read needs the file as it was. `database`: device and inode of its file
   * (`"64769:1310847"`). Not tried again after a lost answer. Throws: 409 for a database that cannot do it while the server runs, and
   * where the server has another one.
   * @param {{database?: string}} [query] @param {CallOptions} [options] @returns {Promise<Compacted>}
   */
  compact(query, options) { return this.call("POST", "/admin/compact", { query, gives: { stage: "string", before_bytes: "number", file_bytes: "number", free_bytes: "number" } }, options); }
}

/** @param {unknown} url */
function checkAddress(url) {
  if (typeof url !== "string" || !/^https?:\/\//.test(url)) throw new TypeError("url must start with http:// or https://");
}

/** @param {string} url */
function isHttps(url) { return url.startsWith("https://"); }

/**
 * Whether it is the whole address of a server, with or without a path: a host, and nothing that hides another one.
 * @param {unknown} url @returns {url is string}
 */
function isServer(url) {
  if (typeof url !== "string" || !/^https?:\/\/[^\s\\/?#@]+(\/[^\s\\?#]*)?$/.test(url)) return false;
  try {
    return new URL(url).port !== "0";
  } catch {
    return false;
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

/** @param {StreamedMessage} [message] @returns {NewMessage} */
function asStream(message) {
  return { ...asMessage({ ...message, content: message?.content ?? "" }), stream: true };
}

/**
 * How one stream's requests reach the server; each is tried until the server has done or refused it.
 * @typedef {object} StreamTransport
 * @property {() => Promise<{message_id: string, stream?: StreamStatus}>} open
 * @property {(messageId: string, index: number, text: string) => Promise<Appended>} append
 * @property {(messageId: string, end: any) => Promise<Message>} finish
 */

/** One stream. Appends are made of the text that has come while the one before was on its way. */
class StreamWriter {
  /** @type {Chunks} */ #chunks;
  /** @type {AbortSignal | undefined} */ #signal;
  /** @type {StreamTransport} */ #transport;
  /** @type {Json | null | undefined} */ #meta;
  /** @type {Iterator<string> | AsyncIterator<string> | undefined} */ #source;
  #stop = new AbortController(); // told to a source that was made for this
  #waiting = "";
  #wanted = false; // to end, by somebody
  #cutOff = false;
  #stopped = false; // for that, before the source has ended by itself
  #ended = false; // the source has
  /** @type {{error: unknown} | undefined} */ #failure;
  /** @type {() => void} */ #wake = () => {};
  /** @type {() => void} */ #freed = () => {};
  #base = 0; // the index when it was opened, or opened again
  /** @type {string[]} */ #texts = []; // of the appends after it
  messageId = "";

  /** @param {Chunks} chunks @param {AbortSignal | undefined} signal @param {StreamTransport} transport @param {Json | null | undefined} meta with which it is opened */
  constructor(chunks, signal, transport, meta) {
    this.#chunks = chunks;
    this.#signal = signal;
    this.#transport = transport;
    this.#meta = meta;
  }

  /** Somebody wants it to end. */
  cancel() {
    this.#wanted = true;
    this.#wake();
  }

  /** The transport is closed: its next answer says so. */
  cutOff() {
    this.#cutOff = true;
    this.#wake();
  }

  /** @param {() => void} [opened] called when the message is there @returns {Promise<Message>} */
  async run(opened = () => {}) {
    this.#signal?.throwIfAborted();
    const sent = await this.#transport.open();
    this.messageId = sent.message_id;
    if (sent.stream?.state !== "open") {
      return this.#transport.finish(this.messageId, { state: sent.stream?.state ?? "cancelled" }); // as it has ended before, or 404 if it was deleted
    }
    this.#base = sent.stream.index ?? 0;
    this.#wanted ||= sent.stream.cancel_requested === true;
    opened();
    /** @type {(error: unknown) => void} */ let refuse = () => {};
    const aborted = new Promise((_resolve, reject) => { refuse = reject; });
    const abort = () => refuse(this.#signal?.reason);
    this.#signal?.addEventListener("abort", abort, { once: true });
    if (this.#signal?.aborted) abort();
    void this.#pull();
    try {
      await Promise.race([this.#write(), aborted]);
      const end = { state: this.#stopped ? "cancelled" : "done", index: this.#lastIndex };
      return await Promise.race([this.#transport.finish(this.messageId, end), /** @type {Promise<never>} */ (aborted)]);
    } catch (error) {
      this.#stopSource();
      this.#wake();
      const said = new AbortController();
      const farewell = this.#sayEnd(this.#describeEnd(error));
      const later = delay(FAREWELL_MS, said.signal); // a stream that hears nothing more fails by itself
      await Promise.race([farewell.catch(() => {}), later.catch(() => {})]);
      said.abort();
      throw error;
    } finally {
      this.#signal?.removeEventListener("abort", abort);
    }
  }

  /** @param {unknown} error */
  #describeEnd(error) {
    if (this.#signal?.aborted || this.#cutOff) return { state: "cancelled" };
    if (!(error instanceof StreamFailed)) return { state: "failed" };
    const reason = error.message.slice(0, MAX_REASON_CHARS).replace(/[\0\uD800-\uDFFF]/gu, "?"); // halves of pairs among them
    return { state: "failed", meta: { ...this.#meta, error: reason } };
  }

  /** @param {{state: string, meta?: Json}} end */
  async #sayEnd(end) {
    try {
      await this.#transport.finish(this.messageId, end);
    } catch (error) {
      if (/** @type {ChatAPIError} */ (error).status !== 400 || !end.meta) throw error;
      await this.#transport.finish(this.messageId, { state: end.state }); // with the reason it is too long
    }
  }

  async #pull() {
    try {
      const chunks = /** @type {any} */ (typeof this.#chunks === "function" ? this.#chunks(this.#stop.signal) : this.#chunks);
      const source = this.#source = /** @type {AsyncIterator<string>} */ (chunks[Symbol.asyncIterator]?.() ?? chunks[Symbol.iterator]());
      for (let step = await source.next(); !step.done && !this.#stopped; step = await source.next()) {
        this.#waiting += step.value;
        this.#wake();
        while (this.#waiting.length >= MAX_WAITING && !this.#stopped) await new Promise((resolve) => { this.#freed = () => resolve(undefined); });
      }
    } catch (error) {
      this.#failure = { error };
    }
    this.#ended = true;
    this.#wake();
  }

  /** It may be in the middle of something: nobody waits for its end. */
  #stopSource() {
    if (this.#ended || this.#stopped) return;
    this.#stopped = true;
    this.#stop.abort(new ChatAPIError("CLOSED", "the stream has ended"));
    this.#freed();
    Promise.resolve(this.#source?.return?.()).catch(() => {});
  }

  async #write() {
    while (!this.#signal?.aborted) {
      if (this.#wanted) this.#stopSource();
      const text = this.#take();
      if (text) {
        await this.#append(text);
      } else if (this.#stopped) {
        return;
      } else if (this.#ended) {
        if (this.#failure) throw this.#failure.error;
        return;
      } else {
        await this.#wait();
      }
    }
  }

  /** Whole code points: the first half of one waits for the other. */
  #take() {
    const isOver = this.#ended || this.#stopped;
    const whole = !isOver && /[\uD800-\uDBFF]$/.test(this.#waiting) ? this.#waiting.slice(0, -1) : this.#waiting;
    const bytes = new Uint8Array(Math.min(MAX_APPEND_BYTES, 3 * whole.length));
    const { read, written } = new TextEncoder().encodeInto(whole, bytes);
    this.#waiting = this.#waiting.slice(read);
    this.#freed();
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(0, written));
  }

  /** For text, or the end. A source that takes its time is alive all the same. */
  async #wait() {
    const isQuiet = this.#cutOff || await new Promise((resolve) => {
      const timer = setTimeout(resolve, SIGN_OF_LIFE_MS, true);
      this.#wake = () => { clearTimeout(timer); resolve(this.#cutOff); };
    });
    this.#wake = () => {};
    if (isQuiet) await this.#tell(this.#lastIndex, "");
  }

  get #lastIndex() { return this.#base + this.#texts.length; }

  /** @param {string} text */
  async #append(text) {
    this.#texts.push(text);
    for (let index = this.#lastIndex; index <= this.#lastIndex; index++) {
      try {
        await this.#tell(index, this.#texts[index - this.#base - 1]);
      } catch (error) {
        // A server that was set back may lack appends that it had confirmed.
        const { status, details } = /** @type {ChatAPIError} */ (error);
        const stored = /** @type {any} */ (details)?.index;
        if (status !== 409 || /** @type {any} */ (details)?.state !== "open" || !(stored >= this.#base && stored < index - 1)) throw error;
        index = stored;
      }
    }
  }

  /** @param {number} index @param {string} text */
  async #tell(index, text) {
    const { cancel_requested: wanted } = await this.#transport.append(this.messageId, index, text);
    if (wanted) this.#wanted = true;
  }
}

/** A message that may still be being written, kept up to date by its connection. */
export class GrowingMessage {
  /** @type {Message} */ #message;
  #lost = false;
  /** @type {(() => void)[]} */ #waiting = [];
  /** Deltas that came while it is being read again. @internal @type {ServerEvent[] | undefined} */ held;

  /** @internal @param {Message} message */
  constructor(message) { this.#message = message; }

  /** The message as it now stands. @returns {Message} */
  get message() { return this.#message; }

  /** Whether it is still being written, and the connection hears of it. @returns {boolean} */
  get isOpen() { return !this.#lost && this.#message.stream?.state === "open"; }

  /** The whole text so far, at once and each time that it has grown or was replaced; ends with the stream. @returns {AsyncGenerator<string, void>} */
  async *text() {
    /** @type {string | undefined} */ let shown;
    for (;;) {
      const content = this.#message.content ?? "";
      if (content !== shown) yield shown = content;
      else if (this.isOpen) await this.#changed();
      else return;
    }
  }

  /**
   * Resolves with the message once it has ended: `stream.state` says how. Also when the connection was closed, or has lost the room:
   * then it is still `open`. @returns {Promise<Message>}
   */
  async finished() {
    while (this.isOpen) await this.#changed();
    return this.#message;
  }

  /** @internal @param {ServerEvent} event */
  apply(event) {
    this.#message = applyEvent(this.#message, event);
    this.#tell();
  }

  /** @internal */
  lose() {
    this.#lost = true;
    this.#tell();
  }

  /** @returns {Promise<void>} */
  #changed() { return new Promise((resolve) => { this.#waiting.push(resolve); }); }

  #tell() {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

/**
 * The `data` of the server's envelope, or its error thrown. Anything else is not the server's answer: a proxy's 404 says
 * nothing about a room, and its 200 nothing about a message.
 * @param {string} call method and route
 * @param {Response} response
 * @param {Shape} [gives]
 * @param {"text" | "json"} [plain]
 * @returns {Promise<any>}
 */
async function unwrap(call, response, gives, plain) {
  const { status, headers } = response;
  const isDeletion = call.startsWith("DELETE ") && !gives;
  if (status === 204 && isDeletion) return undefined;
  const text = await response.text();
  const object = parseObject(text);
  const document = plain === "text" ? text : object;
  if (plain && status === 200 && document !== undefined) return document;
  const { success, data, error } = object ?? {};
  if (!plain && success === true && status >= 200 && status < 300 && error == null && !isDeletion && hasShape(data, gives)) return data;
  const asked = headers.get("Retry-After") ?? "";
  const retryAfter = /^[0-9]+$/.test(asked) ? Number(asked) : undefined;
  if (success === false && status >= 400 && data == null && hasShape(error, { code: "string", message: "string" })) {
    const requestId = headers.get("X-Request-Id") ?? undefined;
    throw new ChatAPIError(error.code, error.message, { status, field: error.field, details: error.details, requestId, retryAfter });
  }
  throw new ChatAPIError("NOT_CHATAPI", `${call}: HTTP ${status} without ChatAPI's envelope`, { details: { http_status: status }, retryAfter });
}

/* ------------------------------------------------------------------------------------------- connection ---- */

/**
 * The state of one room in a connection. Replaced, not changed, when the server resets it, so that events of the log
 * before the reset cannot move the cursors of the log after it.
 */
class RoomCursor {
  /** @param {number | undefined} seq @param {boolean} member */
  constructor(seq, member) {
    /** Up to here events were taken in. Undefined: the next event is the first. @type {number | undefined} */
    this.received = seq;
    /** Up to here the application has handled them. @type {number | undefined} */
    this.handled = seq;
    /** @type {number | undefined} */
    this.acked = seq;
    this.member = member;
    /** The log up to here is older than the server's word that the user is a member. */
    this.memberAt = 0;
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
 * @property {(signal: AbortSignal) => Promise<any>} [http] instead of a frame, which has no space for it
 * @property {boolean} [calling] over HTTP, now
 */

/**
 * One user's live connection. It comes back by itself, continues where it stopped, and gives the application each event
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
  /** Which of the transports carries the connection, or is tried next. */ #at = 0;
  #attempt = 0;
  #refusals = 0;
  /** WebSockets in a row that did not get as far as `ready`. */ #failures = 0;
  /** So many of them were looked at by `#changeTransport`... */ #judged = 0;
  /** ...and after so many, in a row, REST answered. */ #unpassed = 0;
  /** Why the newest try failed, or what ended the connection. @type {Error | undefined} */ #error;
  /** The text that the application was told last. */ #told = "";
  /** The server's word on the credential, before it closes. @type {ChatAPIError | undefined} */ #refusal;
  /** Why a handshake may be failing, as far as HTTP could tell. @type {ChatAPIError | undefined} */ #suspicion;
  /** `ready`, until all its parts have come, and frames that came in between. @type {ServerEvent | undefined} */ #parts;
  /** @type {ServerEvent[]} */ #early = [];
  #readyAt = 0;
  #heardAt = 0;
  /** @type {number | undefined} */ #shutdownDelay;
  #moves = 0; // to other servers, since a connection was stable
  #hops = 0; // from server to server, since one was ready
  /** @type {AbortController} */ #life = new AbortController(); // of one socket: its gap fillers end with it
  #ending = new AbortController(); // of the connection: its requests over HTTP end with it
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer; // the next try, or the deadline of this one
  /** @type {ReturnType<typeof setInterval> | undefined} */ #watchdog;
  /** Stops listening to the browser's on- and offline events. */ #unlisten = () => {};

  /** @type {string | null} */ #epoch;
  /** @type {Map<string, RoomCursor>} */ #rooms = new Map();
  /** @type {Set<string>} */ #wanted = new Set(); // channels subscribed to without being a member
  /** @type {Set<string>} */ #unwanted = new Set(); // the user's rooms that this connection does not want
  /** @type {Set<string>} */ #silenced = new Set(); // of those, what the server was told on this socket
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
  /** Rooms whose ack was sent on this socket and not answered, with their `acked` before. @type {Map<string, number | undefined>} */ #unanswered = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #ackTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #ackRetryTimer;
  /** @type {Map<string, number>} */ #typing = new Map();
  /** @type {Map<string, StreamWriter>} */ #writers = new Map(); // streams of this connection, by message
  /** @type {Map<string, GrowingMessage[]>} */ #followed = new Map(); // by message, while they are open
  /** @type {Map<string, number>} */ #grown = new Map(); // the index of the newest delta, by message
  /** @type {Set<string>} */ #ended = new Set(); // messages that may have been read before that

  /** @type {(ready: EventMap["ready"]) => void} */ #resolveReady = () => {};
  /** @type {(error: Error) => void} */ #rejectReady = () => {};

  /** @param {ChatAPI} client @param {ConnectOptions} options */
  constructor(client, { cursors, autoAck = true, minDelayMs = 500, maxDelayMs = 30_000, maxPending = 10_000, transports = TRANSPORTS }) {
    if (!transports.length || !transports.every((one) => TRANSPORTS.includes(one))) throw new TypeError("transports must be some of websocket, sse and poll");
    this.#client = client;
    this.#options = { autoAck, minDelayMs, maxDelayMs, maxPending, transports };
    this.#epoch = cursors?.epoch ?? null;
    for (const [roomId, seq] of Object.entries(cursors?.rooms ?? {})) this.#rooms.set(roomId, new RoomCursor(seq, false));
    /**
     * The first `ready`; rejected when the connection ends before it.
     * @type {Promise<EventMap["ready"]>}
     */
    this.ready = new Promise((resolve, reject) => { this.#resolveReady = resolve; this.#rejectReady = reject; });
    this.ready.catch(() => {}); // an application that does not look at it is told by the state
    if (transports.includes("websocket")) void client.socketClass; // complains now, not in a retry
    this.#listenToNetwork();
    void this.#dial();
  }

  /** `connecting`, `syncing` (what was missed is coming), `live`, `waiting` (for the next try), `paused`, `closed`. @returns {State} */
  get state() { return this.#state; }

  /** The transport that carries the connection now, or is tried next. @returns {Transport} */
  get transport() { return this.#options.transports[this.#at]; }

  /** The client that has opened it, for calls over REST. @returns {ChatAPI} */
  get client() { return this.#client; }

  /** Why the newest try to connect failed, or what ended the connection. Undefined while there is a socket. @returns {Error | undefined} */
  get error() { return this.#error; }

  /** How far the application has come. JSON; a copy. @returns {Cursors} */
  get cursors() {
    /** @type {Record<string, number>} */
    const rooms = {};
    for (const [roomId, room] of this.#rooms) if (room.handled !== undefined) rooms[roomId] = room.handled;
    return { epoch: this.#epoch, rooms };
  }

  /** Whether the user is a member of this room, as far as the server has told; false until `ready`. @param {string} roomId @returns {boolean} */
  isMember(roomId) { return this.#rooms.get(roomId)?.member ?? false; }

  /** Messages that the server has not confirmed yet. */
  get unconfirmed() {
    let count = 0;
    for (const lane of this.#lanes.values()) count += lane.filter(({ frame }) => frame.type === "send_message").length;
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
    return () => {
      handlers.delete(handler);
      this.#letGo();
    };
  }

  /** Every event from the server. One loop at a time. @returns {AsyncIterableIterator<ServerEvent>} */
  [Symbol.asyncIterator]() {
    if (this.#loop) throw new Error("this connection already has a loop over its events");
    const loop = new EventLoop(() => {
      this.#loop = undefined;
      this.#letGo();
    });
    if (this.#state === "closed") loop.finish();
    else this.#loop = loop;
    this.#listen();
    return loop;
  }

  /**
   * Sends a message and returns when it is stored. Tried, across reconnects and restarts, until the server has
   * confirmed or refused it; stored once in any case. Messages to one room are stored in the order of the calls.
   *
   * `content`: up to 64 KiB of UTF-8, or the tenant's own bound. `meta`: an object of at most 16 KiB as JSON. `reply_to`: a message
   * of the same room. `client_message_id`: up to 64 characters; one is made where none is given. `thread_id`: the message to
   * which it is a reply, no reply itself. `mentions`: up to 50 members.
   * `mention_room`: mentions every member, for the room's admins, in a dm for both. Rejects with what the server refused: 409
   * when that id had another body, 400 (`field` says of what), 403 for those who are not members, 404; `CLOSED` when
   * the connection is closed first.
   * @param {string} roomId
   * @param {string | NewMessage} message
   * @returns {Promise<Sent>}
   */
  send(roomId, message) {
    this.#typing.delete(roomId); // a message ends the typing, here as on the server
    const fields = asMessage(message);
    const frame = { type: "send_message", room_id: roomId, ...fields };
    const http = fits(frame) ? undefined : (/** @type {AbortSignal} */ signal) => this.#client.sendMessage(roomId, fields, { signal });
    return this.#request(frame, { lane: roomId, maxAttempts: Infinity, http });
  }

  /**
   * As `stream` of the client, over this connection: it goes on after each reconnect, however long that takes, and hears at once of a
   * member who wants it to end. Rejects with `CLOSED`, too: then the stream is `cancelled`.
   * @param {string} roomId @param {Chunks} chunks @param {StreamedMessage} [message] @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Message>}
   */
  async stream(roomId, chunks, message, { signal } = {}) {
    const fields = asStream(message);
    const patient = { maxAttempts: Infinity };
    const writer = new StreamWriter(chunks, signal, {
      open: () => this.send(roomId, fields),
      append: (messageId, index, text) => this.#request({ type: "message.append", room_id: roomId, message_id: messageId, index, text }, patient),
      finish: async (messageId, end) => this.#state === "closed" ? this.#client.finishMessage(roomId, messageId, end) : asRead(await this.#request({ type: "message.finish", room_id: roomId, message_id: messageId, ...end }, patient)),
    }, fields.meta);
    try {
      return await writer.run(() => this.#writers.set(writer.messageId, writer));
    } finally {
      this.#writers.delete(writer.messageId);
    }
  }

  /**
   * Asks the sender of a stream to end it, who decides. For all who may post. Rejects: 409 when it has ended, 403, 404; `CLOSED`.
   * @param {string} roomId @param {string} messageId @returns {Promise<void>}
   */
  async cancel(roomId, messageId) {
    await this.#request({ type: "message.cancel", room_id: roomId, message_id: messageId });
  }

  /**
   * A message of an event, or one that was read, which grows from now on as long as it is being written:
   * `for await (const text of connection.follow(event).text())` gives the whole text so far, each time.
   * @param {Message | EventMap["message"]} message @returns {GrowingMessage}
   */
  follow(message) {
    const growing = new GrowingMessage(asRead(message));
    if (!growing.isOpen) return growing;
    const id = message.message_id;
    this.#followed.set(id, [...(this.#followed.get(id) ?? []), growing]);
    if (this.#ended.has(id) || (this.#grown.get(id) ?? 0) > (message.stream?.index ?? 0)) void this.#readAgain(growing);
    return growing;
  }

  /**
   * Changes a message, in order with the other messages, edits and deletions of the room. Tried again after an interruption, so
   * that the room's log may then hold the same edit twice. One that is too long for a frame goes over HTTP: then the
   * answer's `seq` is the message's own. Bounds as in `send`; `meta`, `mentions` and `mention_room` stay when they are absent,
   * `null` clears them. Rejects: 403 for all but its sender, 404, also of a deleted message; `CLOSED`.
   * @param {string} roomId @param {string} messageId @param {string | Revision} change
   * @returns {Promise<EventMap["message.edited"]>}
   */
  edit(roomId, messageId, change) {
    const fields = typeof change === "string" ? { content: change } : change;
    const frame = { type: "message.edit", room_id: roomId, message_id: messageId, ...fields };
    const http = fits(frame) ? undefined : async (/** @type {AbortSignal} */ signal) => {
      const message = await this.#client.editMessage(roomId, messageId, fields, { signal });
      const { reactions, pinned_at: pinnedAt, thread, ...sent } = message; // events do not carry them
      return { ...sent, type: "message.edited", target_seq: message.seq };
    };
    return this.#request(frame, { lane: roomId, http });
  }

  /**
   * Deletes a message's content and leaves a tombstone, in order with the other messages, edits and deletions of the room. Rejects:
   * 403 for all but its sender and the room's admins, 404; `CLOSED`.
   * @param {string} roomId @param {string} messageId @returns {Promise<EventMap["message.deleted"]>}
   */
  delete(roomId, messageId) {
    return this.#request({ type: "message.delete", room_id: roomId, message_id: messageId }, { lane: roomId });
  }

  /**
   * Reacts to a message, in order with the messages, edits and deletions of the room. `emoji`: 1 to 64 bytes of UTF-8 without white
   * space and control characters, kept byte for byte. The event has no `seq` if the user had reacted so already. Rejects: 409 for
   * more than 20 emoji of the user, or 50 of all, on one message; 400, 403 for those who are not members, 404, also of a deleted
   * message; `CLOSED`.
   * @param {string} roomId @param {string} messageId @param {string} emoji @returns {Promise<EventMap["reaction.added"]>}
   */
  react(roomId, messageId, emoji) {
    return this.#request({ type: "reaction.add", room_id: roomId, message_id: messageId, emoji }, { lane: roomId });
  }

  /**
   * Takes a reaction of the user back, in the same order. The event has no `seq` if there was none. Rejects: 400, 403, 404; `CLOSED`.
   * @param {string} roomId @param {string} messageId @param {string} emoji @returns {Promise<EventMap["reaction.removed"]>}
   */
  unreact(roomId, messageId, emoji) {
    return this.#request({ type: "reaction.remove", room_id: roomId, message_id: messageId, emoji }, { lane: roomId });
  }

  /**
   * Marks the room as read up to `seq`, which acknowledges as far; a lower one than before changes nothing. Resolves with where the
   * user now stands. Rejects: 400 above the room's newest event, 403, 404; `CLOSED`.
   * @param {string} roomId @param {number} seq @returns {Promise<EventMap["read.updated"]>}
   */
  read(roomId, seq) {
    return this.#request({ type: "read", room_id: roomId, seq });
  }

  /**
   * Acknowledges the room's events up to `seq`, for those who set `autoAck` to false. Resolves with where the user now stands.
   * Rejects: 400 above the room's newest event, 403, 404; `CLOSED`.
   * @param {string} roomId @param {number} seq @returns {Promise<EventMap["ack.received"]>}
   */
  ack(roomId, seq) {
    return this.#request({ type: "ack", room_id: roomId, seq });
  }

  /** Acknowledges a notification, for those who set `autoAck` to false. Sent soon. @param {string} notificationId */
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
   * `cursors`, knows already is caught up first. Rejects: 403 when it is not a channel, 404; `CLOSED`.
   * @param {string} roomId
   * @returns {Promise<{room_id: string, last_seq: number}>}
   */
  subscribe(roomId) {
    this.#unwanted.delete(roomId);
    this.#wanted.add(roomId);
    return this.#request({ type: "subscribe", room_id: roomId }).catch((error) => { this.#wanted.delete(roomId); throw error; });
  }

  /** Receives no more of this room on this connection. Rejects: 404; `CLOSED`. @param {string} roomId @returns {Promise<{room_id: string}>} */
  unsubscribe(roomId) {
    this.#wanted.delete(roomId);
    this.#unwanted.add(roomId);
    return this.#request({ type: "unsubscribe", room_id: roomId });
  }

  /** Milliseconds to the server and back. Rejects with `CLOSED`. @returns {Promise<number>} */
  async ping() {
    const start = performance.now();
    await this.#request({ type: "ping" });
    return performance.now() - start;
  }

  /** Drops the connection until `resume`; frames sent meanwhile wait. */
  pause() {
    if (this.#state === "closed") return;
    this.#hangUp();
    this.#setState({ state: "paused" });
  }

  /** Connects again after `pause`, and at once where the connection waits for its next try. */
  resume() {
    if (this.#state !== "paused" && this.#state !== "waiting") return;
    void this.#dial();
    for (const request of this.#requests.values()) if (request.http) this.#trySend(request);
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
    this.#life.abort(); // of a try that `resume` cut short
    const life = (this.#life = new AbortController());
    this.#setState({ state: "connecting" });
    this.#limitConnect();
    try {
      if (this.#failures) await this.#changeTransport(life.signal);
      if (life.signal.aborted) return;
      if (this.transport !== "websocket") {
        const socket = new HttpSocket(this.#client, this.transport);
        this.#attach(socket);
        return await socket.open();
      }
      if (this.#failures >= ASK_AFTER) await this.#askWhy(life.signal);
      const { url, protocols } = await this.#client.openSocketWith(life.signal);
      if (life.signal.aborted) return;
      this.#attach(new this.#client.socketClass(url, protocols));
    } catch (cause) {
      if (life.signal.aborted) return;
      const error = cause instanceof Error ? cause : new Error(String(cause));
      const status = error instanceof ChatAPIError ? error.status : 0;
      if (status === 401) this.#refused(error);
      else if (status >= 400 && status < 500 && !PASSING.has(status)) this.#end(error);
      else this.#lost({ error });
    }
  }

  /** The next one, where this one does not pass while REST answers. @param {AbortSignal} signal */
  async #changeTransport(signal) {
    const { transports } = this.#options;
    if (transports.length === 1 || this.#judged === this.#failures) return;
    this.#judged = this.#failures;
    const hasRest = await this.#client.tryOnce("GET", "/livez", { gives: STATUS, anonymous: true, limitMs: ASK_TIMEOUT_MS }, signal).then(() => true, () => false);
    if (signal.aborted) return;
    this.#limitConnect();
    if (!hasRest) { // the server is away, or restarts: this is not the transport's fault
      this.#unpassed = 0;
      if (this.#at) this.#use(0);
    } else if (++this.#unpassed === (this.transport === "websocket" ? FAILED_UPGRADES : 1)) this.#use((this.#at + 1) % transports.length);
  }

  /** @param {number} at */
  #use(at) {
    this.#at = at;
    this.#failures = this.#judged = this.#unpassed = 0;
    this.#suspicion = undefined;
  }

  /** Looks after twice the longest delay of a reconnect whether a WebSocket comes up, and then returns to it. */
  #returnLater() {
    if (this.#at === 0 || this.#options.transports[0] !== "websocket") return;
    const { signal } = this.#life;
    const stop = () => clearTimeout(timer);
    const timer = setTimeout(async () => {
      signal.removeEventListener("abort", stop);
      try {
        const { url, protocols } = await this.#client.openSocketWith(signal);
        if (signal.aborted) return;
        const probe = new this.#client.socketClass(url, protocols);
        const close = () => probe.close();
        signal.addEventListener("abort", close, { once: true });
        probe.onerror = () => {};
        probe.onclose = () => {
          signal.removeEventListener("abort", close); // the socket may live for days, and look for others all the time
          if (!signal.aborted) this.#returnLater();
        };
        probe.onmessage = (/** @type {{data: unknown}} */ { data }) => {
          if (signal.aborted || parseFrame(data)?.type !== "ready") return;
          this.#at = 0;
          this.#shutdownDelay = 0;
          this.#lost({});
        };
      } catch {
        if (!signal.aborted) this.#returnLater();
      }
    }, 2 * this.#options.maxDelayMs);
    signal.addEventListener("abort", stop, { once: true });
  }

  #limitConnect() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#lost({ error: this.#suspicion ?? new ChatAPIError("TIMEOUT", "the server did not answer in time") }), CONNECT_TIMEOUT_MS);
  }

  /** Throws the server's reason to refuse handshakes, where it has one. @param {AbortSignal} signal */
  async #askWhy(signal) {
    const asked = this.#client.url;
    const found = await this.#client.findRefusal(signal);
    const follows = this.#hops < MAX_HOPS && this.#client.follow(found, asked);
    if (follows) this.#hops++;
    if (found?.status && !follows) throw found;
    this.#limitConnect();
    this.#suspicion = follows ? undefined : found ?? new ChatAPIError("NOT_CHATAPI", "the server takes WebSockets, but the handshake does not reach it: does a proxy pass the upgrade on?");
  }

  /** @param {any} socket */
  #attach(socket) {
    this.#socket = socket;
    socket.onmessage = (/** @type {{data: unknown, answer?: ServerEvent}} */ { data, answer }) => {
      if (answer) this.#settle(answer);
      else if (data === undefined) this.#heardAt = Date.now(); // a comment of an event stream
      else this.#receive(data);
    };
    // A close follows, but in Chromium not for an address that the page's policy forbids.
    socket.onerror = () => { if (socket.readyState === CLOSED) setTimeout(() => socket.onclose?.({ code: 1006 })); };
    socket.onclose = (/** @type {{code: number}} */ { code }) => {
      // A close code alone could be anybody's, unless it was the server that had said `ready`.
      const refusal = this.#refusal ?? (this.#open ? new ChatAPIError("AUTHENTICATION_ERROR", "the server refused the credential") : undefined);
      if (code !== 4001 || !refusal) this.#lost({ closeCode: code, error: this.#open ? undefined : this.#suspicion });
      else if (this.#client.usesApiKey) this.#lost({ closeCode: code, error: refusal }); // the next ticket will tell
      else this.#refused(refusal, code);
    };
  }

  /** The token expired, was revoked or never was one. A new one is worth two tries in a row, of expired ones any number. @param {Error} error @param {number} [closeCode] */
  #refused(error, closeCode) {
    const { renewsTokens, tokenHasExpired } = this.#client;
    this.#client.renewToken();
    if (renewsTokens && (tokenHasExpired || this.#refusals++ < NEW_TOKENS)) this.#lost({ closeCode, error });
    else this.#end(error);
  }

  /** Lets go of the socket and of all that lived with it. */
  #hangUp() {
    clearTimeout(this.#timer);
    clearInterval(this.#watchdog);
    this.#life.abort(new ChatAPIError("CLOSED", "the connection was interrupted"));
    const socket = this.#socket;
    this.#socket = null;
    this.#open = false;
    this.#sync = this.#complete = this.#parts = this.#refusal = undefined;
    this.#early = [];
    this.#silenced.clear();
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
    if (this.#readyAt && Date.now() - this.#readyAt > STABLE_MS) this.#attempt = this.#moves = 0;
    const wasSentAway = this.#shutdownDelay !== undefined; // over a transport that works, then
    if (!this.#readyAt && this.#socket && !wasSentAway) this.#failures++; // a ticket that was not given has told its reason
    this.#readyAt = 0;
    this.#hangUp();
    this.#error = cause.error;
    if (cause.error) this.#tellOnce(cause.error);
    const delayMs = this.#shutdownDelay ?? this.#delayAfter(this.#attempt++, cause.error);
    this.#shutdownDelay = undefined;
    this.#setState({ ...cause, state: "waiting", delayMs });
    this.#timer = setTimeout(async () => {
      if (this.#queue.length >= this.#options.maxPending / 2) await this.#roomInQueue();
      if (this.#state === "waiting") void this.#dial();
    }, delayMs);
  }

  /** Of a proxy, what it asks for is advice, which counts up to the longest of our own delays. @param {number} attempt @param {Error} [error] */
  #delayAfter(attempt, error) {
    const { minDelayMs, maxDelayMs } = this.#options;
    const asked = error instanceof ChatAPIError ? (error.retryAfter ?? 0) * 1000 : 0;
    const longest = error instanceof ChatAPIError && error.status ? MAX_RETRY_AFTER_MS : maxDelayMs;
    return Math.max(backoff(attempt, minDelayMs, maxDelayMs), Math.min(asked, longest));
  }

  /** @param {Error} [reason] */
  #end(reason) {
    if (this.#state === "closed") return;
    this.#hangUp();
    this.#unlisten();
    clearTimeout(this.#ackTimer);
    clearTimeout(this.#ackRetryTimer);
    this.#ackRetryTimer = undefined;
    this.#error = reason;
    if (reason && this.#handlers.get("error")?.size) this.#tellOnce(reason); // the state and what is refused tell of it too
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
    for (const writer of this.#writers.values()) writer.cutOff();
    this.#ending.abort(closed);
    this.#loseGrowing(() => true);
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

  /** @param {unknown} data */
  #receive(data) {
    this.#heardAt = Date.now();
    const frame = parseFrame(data);
    if (!frame) return this.#lost({ error: new ChatAPIError("NOT_CHATAPI", "a frame came that is not ChatAPI's") });
    this.#tell("frame", { direction: "in", frame });
    if (this.#open) this.#take(frame);
    else this.#gather(frame);
  }

  /** Before `ready`, which comes in parts where the rooms are many. @param {ServerEvent} frame */
  #gather(frame) {
    if (frame.type === "error") return this.#settle(frame);
    if (frame.type === "server.shutdown") return this.#expectEnd(frame);
    if (frame.type === "ready" && !this.#parts) this.#parts = { ...frame };
    else if (frame.type === "ready.rooms" && this.#parts) this.#parts = { ...this.#parts, rooms: [...this.#parts.rooms, ...frame.rooms], more: frame.more };
    else if (this.#parts) this.#early.push(frame);
    if (!this.#parts) return;
    if (this.#parts.more === true) return this.#limitConnect();
    const { more: _, ...ready } = this.#parts;
    const early = this.#early;
    this.#onReady(/** @type {ServerEvent} */ (ready));
    for (const one of early) this.#take(one);
  }

  /** @param {ServerEvent} frame */
  #take(frame) {
    this.#settle(frame);
    if (frame.type === "error") return; // settled, or told
    if (isLogEvent(frame)) return this.#takeLogged(frame);
    switch (frame.type) {
      case "sync.reset": return this.#onReset(frame);
      case "sync.gap": return this.#onGap(frame.room_id, frame.from_seq, frame.to_seq);
      case "sync.complete":
        return this.#onComplete(frame);
      case "ack.received":
        if (frame.seq >= (this.#rooms.get(frame.room_id)?.acked ?? 0)) this.#unanswered.delete(frame.room_id);
        return this.#enqueue(frame);
      case "subscribed": return this.#onSubscribed(frame);
      case "room.created": return this.#onCreated(frame);
      case "room.deleted":
        this.#wanted.delete(frame.room_id);
        this.#drop(frame.room_id);
        return this.#enqueue(frame);
      case "notification": return this.#onNotification(frame);
      case "server.shutdown":
        this.#expectEnd(frame);
        return this.#enqueue(frame);
      case "typing":
        if (this.#unwanted.has(frame.room_id)) return this.#silence(frame.room_id);
        return this.#enqueue(frame);
      default:
        if (!ANSWERS.has(frame.type) && !(REPEATED.has(frame.type) && frame.seq === undefined)) this.#enqueue(frame);
    }
  }

  /**
   * The server goes away, or another one has the tenant. Two may name each other: after some moves in a row the back-off decides, and
   * before one of them is ready it is an error.
   * @param {ServerEvent} frame
   */
  #expectEnd({ url, reconnect_after_ms: delayMs }) {
    const follows = url === undefined || (this.#client.moveTo(url) && (this.#open ? this.#moves++ : this.#hops++) < MAX_HOPS);
    if (follows) this.#shutdownDelay = asDelay(delayMs);
    else if (!this.#open) this.#end(new ChatAPIError("TENANT_MOVED", "the tenant has moved to another server", { status: 421, details: { url } }));
  }

  /** @param {ServerEvent} frame */
  #onReady(frame) {
    clearTimeout(this.#timer);
    this.#open = true;
    this.#parts = undefined;
    this.#early = [];
    this.#refusals = this.#failures = this.#judged = this.#unpassed = this.#hops = 0;
    this.#error = this.#suspicion = undefined;
    this.#told = "";
    this.#readyAt = Date.now();
    this.#userId = frame.user_id;
    this.#setState({ state: "syncing" });
    this.#watch(asDelay(frame.heartbeat_seconds * 1000) || 30_000);
    this.#returnLater();
    const rooms = this.#meetRooms(frame.epoch, frame.rooms);
    this.#sync = { type: "sync", request_id: randomId(), ...(this.#epoch && { epoch: this.#epoch }), rooms };
    this.#transmit(this.#sync);
    this.#epoch ??= frame.epoch;
    for (const roomId of this.#wanted) if (rooms[roomId] === undefined) this.#resubscribe(roomId);
    for (const request of this.#requests.values()) this.#trySend(request);
    this.#enqueue(frame);
    this.#resolveReady(/** @type {EventMap["ready"]} */ (frame));
    this.#scheduleAcks();
  }

  /**
   * Brings what is known of rooms in line with the server's list. Returns the cursors to name in `sync`: those of followed
   * channels, which are followed by it, and those that differ from `last_ack`, where the server begins anyway, as many as
   * fit. A room that was not named heals by itself: events that come twice are known, missing ones show as a gap.
   * @param {string} epoch
   * @param {EventMap["ready"]["rooms"]} list
   */
  #meetRooms(epoch, list) {
    this.#forgetLeft(new Set(list.map((room) => room.room_id)));
    /** @type {Record<string, number>} */
    const named = {};
    let size = 0;
    const name = (/** @type {string} */ roomId, /** @type {number} */ seq) => {
      size += roomId.length + 24;
      if (size < MAX_SYNC_BYTES) named[roomId] = seq;
    };
    for (const roomId of this.#wanted) {
      const seq = this.#rooms.get(roomId)?.received;
      if (seq !== undefined) name(roomId, seq);
    }
    this.#unanswered.clear();
    const sameLog = this.#epoch === null || this.#epoch === epoch;
    for (const { room_id: roomId, last_ack: lastAck, last_seq: lastSeq } of list) {
      const room = this.#rooms.get(roomId) ?? new RoomCursor(lastAck, true);
      this.#rooms.set(roomId, room);
      room.member = true;
      room.memberAt = lastSeq;
      room.received ??= lastAck;
      room.handled ??= lastAck;
      room.acked = lastAck;
      if (sameLog && room.handled > lastAck) this.#unacked.set(roomId, room); // the last ack got lost
      const seq = this.#unwanted.has(roomId) ? lastSeq : room.received;
      if (named[roomId] === undefined && !(sameLog && seq === lastAck)) name(roomId, seq);
    }
    return named;
  }

  /** Rooms that the user was a member of, and is not any more. @param {Set<string>} present */
  #forgetLeft(present) {
    for (const [roomId, room] of this.#rooms) {
      if (!room.member || present.has(roomId)) continue;
      if (this.#wanted.has(roomId)) room.member = false; // a channel that goes on being followed
      else this.#drop(roomId);
    }
  }

  /** @param {string} roomId */
  #drop(roomId) {
    this.#rooms.delete(roomId);
    this.#unacked.delete(roomId);
    this.#unanswered.delete(roomId);
    this.#loseGrowing((message) => message.room_id === roomId);
  }

  /** The server says that the user may not read it any more. @param {string} roomId @param {ChatAPIError} error */
  #lose(roomId, error) {
    this.#wanted.delete(roomId);
    this.#drop(roomId);
    this.#report(error);
  }

  /**
   * The log says that the user has left, or was removed: history, where the server has said since then that they are a member.
   * @param {ServerEvent} event @param {RoomCursor} room
   */
  #leave(event, room) {
    if (event.user_id !== this.#userId || event.seq <= room.memberAt || this.#rooms.get(event.room_id) !== room) return;
    if (this.#wanted.has(event.room_id)) room.member = false;
    else this.#drop(event.room_id);
  }

  /** @param {ServerEvent} frame */
  #onReset(frame) {
    const foreign = frame.epoch !== this.#epoch;
    this.#epoch = frame.epoch;
    this.#unacked.clear();
    this.#unanswered.clear();
    for (const [roomId, room] of this.#rooms) {
      const lastAck = frame.rooms[roomId] ?? (foreign && room.member ? room.acked : undefined); // one that had no place in the `sync`
      if (lastAck !== undefined) this.#rooms.set(roomId, Object.assign(new RoomCursor(lastAck, room.member), { memberAt: room.memberAt }));
      else if (foreign) this.#rooms.delete(roomId);
    }
    this.#enqueue(frame);
  }

  /** @param {ServerEvent} frame */
  #onComplete(frame) {
    this.#sync = undefined;
    this.#complete = frame;
    for (const [roomId, lastSeq] of Object.entries(frame.rooms)) {
      const room = this.#rooms.get(roomId);
      if (room?.received === undefined || room.filling || lastSeq <= room.received || this.#unwanted.has(roomId)) continue;
      this.#onGap(roomId, room.received + 1, lastSeq);
    }
    this.#completeSync();
  }

  /** Tells the server, once, that a room is not wanted of which it has just sent something. @param {string} roomId */
  #silence(roomId) {
    if (this.#silenced.has(roomId) || !this.#open) return;
    this.#silenced.add(roomId);
    this.#transmit({ type: "unsubscribe", room_id: roomId });
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
    room.memberAt = Math.max(room.memberAt, frame.last_seq);
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
  #takeLogged(event) {
    const roomId = event.room_id;
    if (this.#unwanted.has(roomId)) return this.#silence(roomId);
    if (this.#deaf || this.#life.signal.aborted) return;
    const room = this.#find(roomId);
    if (room.filling) return void room.held.push(event);
    if (room.received !== undefined && event.seq <= room.received) return;
    if (room.received !== undefined && event.seq > room.received + 1) {
      room.held.push(event);
      return this.#onGap(roomId, room.received + 1, event.seq - 1);
    }
    room.received = event.seq;
    this.#enqueue(event, room);
    if (REMOVALS.has(event.type)) this.#leave(event, room);
  }

  /** Of a room that is not followed, the server tells members only. @param {string} roomId @param {number} [seq] @returns {RoomCursor} */
  #find(roomId, seq) {
    const room = this.#rooms.get(roomId) ?? new RoomCursor(seq, !this.#wanted.has(roomId));
    this.#rooms.set(roomId, room);
    return room;
  }

  /** Everything up to `toSeq` has to be read from the log. @param {string} roomId @param {number} fromSeq @param {number} toSeq */
  #onGap(roomId, fromSeq, toSeq) {
    if (this.#deaf) return;
    const room = this.#find(roomId, fromSeq - 1);
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
      return this.#lost({ error: /** @type {Error} */ (error) });
    }
    if (signal.aborted) return;
    room.filling = false;
    this.#fills--;
    if (this.#rooms.get(roomId) === room) for (const event of room.held.splice(0)) this.#takeLogged(event);
    this.#completeSync();
  }

  /** @param {string} roomId @param {RoomCursor} room @param {AbortSignal} signal */
  async #fillPage(roomId, room, signal) {
    const page = await this.#readPage(roomId, room, signal);
    if (!page || signal.aborted || this.#rooms.get(roomId) !== room) return;
    const { events, has_more } = page;
    for (const event of events) {
      if (event.seq > room.gapEnd) break;
      room.received = event.seq;
      this.#queue.push({ event, room }); // without a look at the bound: this page was asked for because there is space
      if (REMOVALS.has(event.type)) this.#leave(event, room);
    }
    void this.#pump();
    // Where retention has removed events the log has nothing more below the end of the gap.
    if (!has_more || events[events.length - 1].seq >= room.gapEnd) room.received = room.gapEnd;
  }

  /**
   * Asked for until the server has answered; the other rooms go on meanwhile. Undefined when it says that the user may not read
   * this room any more. Throws where a new `sync` may do better.
   * @param {string} roomId @param {RoomCursor} room @param {AbortSignal} signal
   */
  async #readPage(roomId, room, signal) {
    for (let attempt = 0; ; attempt++) {
      await this.#roomInQueue();
      const { received: afterSeq = 0, memberAt } = room;
      let trouble;
      try {
        const page = await this.#client.listEvents(roomId, { after_seq: afterSeq, limit: PAGE }, { signal });
        if (isPageOf(roomId, afterSeq, page)) return page;
        trouble = new ChatAPIError("NOT_CHATAPI", "a page of other events than those asked for");
      } catch (error) {
        if (signal.aborted || !(error instanceof ChatAPIError)) throw error;
        const gone = error.status === 403 || error.status === 404;
        if (gone && room.memberAt === memberAt) return void this.#lose(roomId, error); // and not back again meanwhile
        if (error.status >= 400 && error.status < 500 && !gone && error.status !== 429) throw error;
        trouble = error;
      }
      this.#tellOnce(trouble);
      await delay(this.#delayAfter(attempt, trouble), signal);
    }
  }

  /** The application hears that it is up to date after the last gap is filled. */
  #completeSync() {
    if (!this.#complete || this.#fills > 0) return;
    const frame = this.#complete;
    this.#complete = undefined;
    this.#setState({ state: "live" });
    this.#enqueue(frame);
  }

  /* Streams */

  /** An event on its way to the application. @param {ServerEvent} event */
  #grow(event) {
    const { type, message_id: messageId } = event.type === "message.state" ? { ...event.message, type: event.type } : event;
    if (type === "ready") this.#grown.clear();
    if (typeof messageId !== "string") return;
    if (type === "message.delta") this.#grown.set(messageId, event.index);
    else if (type === "message.state") this.#grown.set(messageId, event.message.stream?.index ?? 0);
    else if (type === "message.finished" || type === "message.deleted") this.#rememberEnd(messageId);
    else if (type === "message.cancel_requested") this.#writers.get(messageId)?.cancel();
    for (const growing of this.#followed.get(messageId) ?? []) this.#growOne(growing, event);
    this.#forgetEnded(messageId);
  }

  /** @param {string} messageId */
  #rememberEnd(messageId) {
    this.#grown.delete(messageId);
    this.#ended.add(messageId);
    if (this.#ended.size > REMEMBERED_STREAMS) this.#ended.delete(/** @type {string} */ (this.#ended.values().next().value));
  }

  /** @param {GrowingMessage} growing @param {ServerEvent} event */
  #growOne(growing, event) {
    if (event.type === "message.delta") {
      if (growing.held) return void growing.held.push(event);
      const index = growing.message.stream?.index ?? 0;
      if (index < event.index && index !== event.after) return void this.#readAgain(growing);
    }
    growing.apply(event);
  }

  /** Deltas were missed. @param {GrowingMessage} growing */
  async #readAgain(growing) {
    growing.held = [];
    const { room_id: roomId, message_id: messageId } = growing.message;
    const message = await this.#client.getMessage(roomId, messageId, { signal: this.#life.signal }).catch(() => undefined); // the next delta asks again
    const held = growing.held;
    growing.held = undefined;
    if (!message) return;
    growing.apply({ type: "message.state", room_id: roomId, message });
    for (const event of held) growing.apply(event);
    this.#forgetEnded(messageId);
  }

  /** @param {string} messageId */
  #forgetEnded(messageId) {
    const open = (this.#followed.get(messageId) ?? []).filter((growing) => growing.isOpen);
    if (open.length) this.#followed.set(messageId, open);
    else this.#followed.delete(messageId);
  }

  /** The connection hears no more of these. @param {(message: Message) => boolean} isLost */
  #loseGrowing(isLost) {
    for (const [id, followed] of this.#followed) {
      if (!isLost(followed[0].message)) continue;
      this.#followed.delete(id);
      for (const growing of followed) growing.lose();
    }
  }

  /* To the application */

  /** @param {ServerEvent} event @param {RoomCursor} [room] */
  #enqueue(event, room) {
    this.#grow(event);
    if (this.#deaf) return;
    this.#queue.push({ event, room });
    if (this.#queue.length > this.#options.maxPending) {
      if (!this.#hasListener()) {
        this.#goDeaf();
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

  #goDeaf() {
    this.#deaf = true;
    this.#rewind();
  }

  /** Nobody takes the events for which something waits. */
  #letGo() {
    if (this.#drained.length && !this.#pumping && !this.#hasListener()) this.#goDeaf();
  }

  /** Back to what the application has handled; the next `sync` brings the rest again. */
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
    this.#letGo();
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

  /** Tells what keeps the connection from coming up, once until something else does. A network that is not there is told by the state. @param {Error} error */
  #tellOnce(error) {
    const code = error instanceof ChatAPIError ? error.code : error.name;
    const text = `${code}: ${error.message}`;
    if (code === "NETWORK_ERROR" || code === "TIMEOUT" || code === "CLOSED" || text === this.#told) return;
    this.#told = text;
    this.#report(error);
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
    return new Promise((resolve) => {
      this.#drained.push(resolve);
      this.#letGo();
    });
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
    }, this.transport === "websocket" ? ACK_DELAY_MS : HTTP_ACK_DELAY_MS);
  }

  /** Sends up to `budget` of them. True when some are left. @param {number} budget */
  #sendAcks(budget) {
    if (!this.#open) return false; // `ready` schedules them again
    /** @type {[string, number][]} */
    const due = [];
    for (const [roomId, room] of this.#options.autoAck ? this.#unacked : []) {
      if (due.length >= budget * ACKED_ROOMS) break;
      this.#unacked.delete(roomId);
      if (!room.member || room.handled === undefined || room.handled <= (room.acked ?? -1)) continue;
      if (!this.#unanswered.has(roomId)) this.#unanswered.set(roomId, room.acked);
      room.acked = room.handled;
      due.push([roomId, room.handled]);
    }
    for (; due.length; budget--) {
      const batch = due.splice(0, ACKED_ROOMS);
      const [roomId, seq] = batch[0];
      this.#transmit(batch.length === 1 ? { type: "ack", room_id: roomId, seq } : { type: "ack", rooms: Object.fromEntries(batch) });
    }
    if (this.#options.autoAck && this.#unacked.size) return true;
    for (const notificationId of this.#unackedNotifications) {
      if (budget-- <= 0) return true;
      this.#unackedNotifications.delete(notificationId);
      this.#transmit({ type: "notification.ack", notification_id: notificationId });
    }
    return false;
  }

  /** A frame that asks for no answer was refused, and the server does not say which. Acks may come twice. @param {number} wait */
  #repeatAcks(wait) {
    this.#ackRetryTimer ??= setTimeout(() => {
      this.#ackRetryTimer = undefined;
      for (const [roomId, acked] of this.#unanswered) {
        const room = /** @type {RoomCursor} */ (this.#rooms.get(roomId));
        room.acked = acked;
        this.#unacked.set(roomId, room);
      }
      this.#unanswered.clear();
      this.#scheduleAcks();
    }, Math.max(wait, ACK_RETRY_MS) + Math.random() * ACK_RETRY_MS);
  }

  /* Frames out */

  /** Sends a frame. One that meets a closing socket goes out with the next, as if it had been lost on its way. @param {ServerEvent} frame */
  #transmit(frame) {
    if (this.#socket.readyState !== OPEN) return; // a browser would complain on the console of each
    this.#tell("frame", { direction: "out", frame });
    this.#socket.send(JSON.stringify(frame));
  }

  /**
   * Sends a frame now or when there is a connection, again after each interruption, and resolves with its answer.
   * @param {ServerEvent} frame
   * @param {{lane?: string, maxAttempts?: number, http?: (signal: AbortSignal) => Promise<any>}} [how]
   * @returns {Promise<any>}
   */
  #request(frame, { lane, maxAttempts = ATTEMPTS, http } = {}) {
    if (this.#state === "closed") return Promise.reject(new ChatAPIError("CLOSED", "the connection is closed"));
    return new Promise((resolve, reject) => {
      const id = randomId();
      const request = { frame: { ...frame, request_id: id }, lane, attempts: 0, maxAttempts, resolve, reject, http };
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
    if (request.lane !== undefined && this.#lanes.get(request.lane)?.[0] !== request) return;
    if (request.http) return void this.#call(request, request.http);
    if (!this.#open) return;
    clearTimeout(request.timer);
    this.#transmit(request.frame);
  }

  /** As patient as a frame: until the server has done or refused it. @param {Request} request @param {NonNullable<Request["http"]>} http */
  async #call(request, http) {
    if (request.calling) return;
    request.calling = true;
    const { signal } = this.#ending;
    for (let attempt = 0; this.#state !== "paused" && !signal.aborted; attempt++) {
      try {
        const answer = await http(signal);
        this.#finish(request);
        return request.resolve(answer);
      } catch (error) {
        if (signal.aborted) return; // and refused by that
        const { status = -1 } = /** @type {{status?: number}} */ (error instanceof ChatAPIError ? error : {});
        const again = status === 0 || isLimit(error) || status >= 500 || (status === 401 && this.#client.renewsTokens);
        if (!again) {
          this.#finish(request);
          return request.reject(/** @type {Error} */ (error));
        }
        await delay(this.#delayAfter(attempt, /** @type {Error} */ (error)), signal).catch(() => {});
      }
    }
    request.calling = false; // `resume` goes on with it
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
    const wait = asDelay(retryAfterMs);
    const status = STATUS_OF_CODE[code] ?? (wait ? 429 : 400); // of a newer server's code: for good, unless it says when to try again
    const error = new ChatAPIError(code, message, { status, field, details, retryAfter: wait / 1000 || undefined });
    if (frame.request_id !== undefined && frame.request_id === this.#sync?.request_id) return this.#onSyncError(error);
    if (frame.request_id === undefined && (status === 403 || status === 404) && field?.startsWith("rooms.")) return this.#lose(field.slice("rooms.".length), error);
    if (!request && code === "AUTHENTICATION_ERROR") return void (this.#refusal = error); // a close follows
    if (!request) {
      if (frame.request_id === undefined && status >= 500) this.#repeatAcks(wait);
      return this.#report(error);
    }
    request.attempts++;
    const passing = isLimit(error) || status >= 500;
    if (passing && request.attempts < request.maxAttempts) {
      const pause = Math.max(wait, backoff(Math.min(request.attempts, 10), 100, RETRY_CAP_MS));
      request.timer = setTimeout(() => this.#trySend(request), pause);
    } else {
      this.#finish(request);
      request.reject(error);
    }
  }

  /** Without its `sync` a connection stays silent. @param {ChatAPIError} error */
  #onSyncError(error) {
    const lost = error.status === 403 || error.status === 404;
    if (lost && error.field?.startsWith("rooms.")) return this.#lose(error.field.slice("rooms.".length), error); // the others are served
    if (error.status < 500 && error.status !== 429) return this.#lost({ error });
    const sync = this.#sync;
    setTimeout(() => { if (sync && this.#sync === sync) this.#transmit(sync); }, this.#delayAfter(0, error));
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
 * Stands in for a WebSocket over HTTP alone: a frame becomes a call, and its answer the frame that answers it. Over long polls come
 * events of logs and notifications, and no other frames. Typing is not told: it has no call.
 */
class HttpSocket {
  readyState = OPEN;
  /** @type {((message: {data: unknown, answer?: ServerEvent}) => void) | null} */ onmessage = null;
  /** @type {((close: {code: number}) => void) | null} */ onclose = null;
  onerror = () => {};
  #client;
  #transport;
  #userId = "";
  #life = new AbortController();
  /** @type {AbortController | undefined} */ #reading; // of one stream, or of one poll
  /** @type {ServerEvent} */ #sync = { type: "sync", rooms: {} };
  #begun = () => {};
  #isBegun = new Promise((resolve) => { this.#begun = () => resolve(undefined); });
  #epoch = "";
  /** Those who wait for an event. @type {Set<(event: ServerEvent) => void>} */ #looking = new Set();

  /** @param {ChatAPI} client @param {Transport} transport */
  constructor(client, transport) {
    this.#client = client;
    this.#transport = transport;
  }

  /** Throws what keeps it from coming up. */
  async open() {
    this.#userId = await this.#client.findUserId();
    if (this.#transport === "poll") return this.#openPoll();
    const reading = (this.#reading = new AbortController());
    const response = await this.#client.openStream(undefined, AbortSignal.any([this.#life.signal, reading.signal]));
    void this.#guard(() => this.#readStream(response, reading, false));
  }

  /** @param {string} text */
  send(text) {
    const frame = JSON.parse(text);
    if (frame.type === "sync") return void this.#guard(() => this.#begin(frame));
    if (frame.type.startsWith("typing.")) return;
    void this.#guard(() => this.#answer(frame));
  }

  close() {
    this.readyState = 3;
    this.#life.abort();
    this.#reading?.abort();
  }

  /** @param {unknown} frame */
  #give(frame) { this.onmessage?.({ data: JSON.stringify(frame) }); }

  /** A failure ends it. @param {() => Promise<unknown>} work */
  async #guard(work) {
    try {
      await work();
    } catch (error) {
      if (this.#life.signal.aborted) return;
      const refused = error instanceof ChatAPIError && error.status === 401;
      if (refused) this.#give({ type: "error", code: error.code, message: error.message });
      this.#end(refused ? 4001 : 1006);
    }
  }

  /** @param {number} code */
  #end(code) {
    if (this.readyState !== OPEN) return;
    this.close();
    this.onclose?.({ code });
  }

  // Server-Sent Events

  /** @param {Response} response @param {AbortController} reading @param {boolean} again its `ready` is not the first */
  async #readStream(response, reading, again) {
    const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
    const decoder = new TextDecoder();
    let rest = "";
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) throw new Error("the stream has ended");
        const events = (rest + decoder.decode(value, { stream: true })).split("\n\n");
        rest = /** @type {string} */ (events.pop());
        this.onmessage?.({ data: undefined });
        for (const line of events.flatMap((event) => event.split("\n"))) {
          if (reading.signal.aborted) return;
          if (line.startsWith("data: ")) await this.#takeEvent(line.slice(6), again, reading.signal);
        }
      }
    } catch (error) {
      if (!reading.signal.aborted) throw error; // else another stream has taken its place
    }
  }

  /** @param {string} text @param {boolean} again @param {AbortSignal} signal */
  async #takeEvent(text, again, signal) {
    const frame = parseObject(text);
    if (frame?.type === "ready" || frame?.type === "ready.rooms") {
      if (again) return;
      this.#epoch ||= frame.epoch;
      this.onmessage?.({ data: text });
      return;
    }
    if (this.#epoch) await this.#isBegun; // a newer server may send frames before `ready`
    if (signal.aborted) return; // another stream has taken its place
    if (frame?.type === "close") return this.#end(frame.code);
    const { request_id: asked } = this.#sync;
    if (asked !== undefined && frame?.type === "sync.complete") {
      delete this.#sync.request_id;
      return this.#give({ ...frame, request_id: asked });
    }
    if (asked !== undefined && frame?.type === "error" && frame.field?.startsWith("rooms.")) return this.#give({ ...frame, request_id: asked });
    if (frame) this.#note(frame);
    this.onmessage?.({ data: text });
  }

  /** @param {ServerEvent} sync */
  async #begin(sync) {
    this.#sync = { ...sync };
    if (this.#transport === "poll") return this.#poll();
    if (Object.keys(sync.rooms).length || (sync.epoch ?? this.#epoch) !== this.#epoch) await this.#beginAt(sync); // elsewhere than at `last_ack`
    this.#begun();
  }

  /** @param {ServerEvent} cursors */
  async #beginAt(cursors) {
    const reading = new AbortController();
    const response = await this.#client.openStream(cursors, AbortSignal.any([this.#life.signal, reading.signal]));
    this.#reading?.abort();
    this.#reading = reading;
    void this.#guard(() => this.#readStream(response, reading, true));
  }

  // Long polls

  async #openPoll() {
    const options = { signal: this.#life.signal };
    const { epoch } = await this.#client.sync({ limit: 1 }, options);
    const rooms = [];
    for (let cursor; ;) {
      const page = await this.#client.listRooms({ hidden: true, limit: 100, cursor }, options);
      rooms.push(...page.rooms);
      cursor = page.next_cursor;
      if (cursor === undefined) break;
    }
    this.#give({ type: "ready", connection_id: "", user_id: this.#userId, epoch, server_time: "", heartbeat_seconds: 2 * POLL_S, rooms });
  }

  async #poll() {
    let { epoch, request_id: asked } = this.#sync;
    let after;
    const { rooms } = this.#sync;
    while (!this.#life.signal.aborted) {
      const reading = (this.#reading = new AbortController());
      const cursors = { epoch, rooms, wait: asked ? 0 : POLL_S, limit: POLLED_EVENTS, after_notification: after };
      let synced;
      try {
        synced = await this.#client.sync(cursors, { signal: AbortSignal.any([this.#life.signal, reading.signal]) });
      } catch (error) {
        if (reading.signal.aborted && !this.#life.signal.aborted) continue; // the connection follows another channel from now on
        throw error;
      }
      this.onmessage?.({ data: undefined });
      if (Object.keys(synced.reset).length || (epoch !== undefined && epoch !== synced.epoch)) this.#give({ type: "sync.reset", epoch: synced.epoch, rooms: synced.reset });
      epoch = synced.epoch;
      for (const gap of synced.gaps) this.#give({ type: "sync.gap", ...gap });
      for (const event of synced.events) {
        this.#note(event);
        this.#give(event);
      }
      for (const [roomId, error] of Object.entries(synced.errors)) {
        delete rooms[roomId];
        if (!asked && error.code === "NOT_FOUND") this.#give({ type: "room.deleted", room_id: roomId });
        else this.#give({ type: "error", request_id: asked, ...error, field: `rooms.${roomId}` });
      }
      for (const notification of synced.notifications) this.#give(notification);
      after = synced.notifications.at(-1)?.notification_id ?? after;
      Object.assign(rooms, synced.rooms);
      if (!asked || synced.has_more) continue;
      this.#give({ type: "sync.complete", rooms: { ...rooms }, request_id: asked });
      asked = undefined;
    }
  }

  // Frames as calls

  /**
   * Makes a change, and resolves with its event; without one, since nothing has changed or the room is not followed, with nothing.
   * @param {string} type @param {string} messageId @param {() => Promise<unknown>} change @param {string} [emoji]
   * @returns {Promise<ServerEvent | undefined>}
   */
  async #change(type, messageId, change, emoji) {
    /** @type {ServerEvent | undefined} */ let found;
    let come = () => {};
    const came = new Promise((resolve) => { come = () => resolve(undefined); });
    const look = (/** @type {ServerEvent} */ event) => {
      if (event.type !== type || event.message_id !== messageId || event.emoji !== emoji || (emoji !== undefined && event.user_id !== this.#userId)) return;
      found = event;
      come();
    };
    this.#looking.add(look);
    try {
      await change();
      if (!found) await Promise.race([came, delay(EVENT_MS, this.#life.signal)]);
    } finally {
      this.#looking.delete(look);
    }
    return found;
  }

  /** @param {ServerEvent} event */
  #note(event) { for (const look of this.#looking) look(event); }

  /** @param {ServerEvent} frame */
  async #answer(frame) {
    let answer;
    try {
      answer = { type: frame.type, ...(await this.#carryOut(frame)) };
    } catch (error) {
      if (!(error instanceof ChatAPIError) || !error.status || error.status === 401) throw error;
      const { code, message, field, details, retryAfter } = error;
      answer = { type: "error", code, message, field, details, retry_after_ms: retryAfter && Math.round(retryAfter * 1000) };
    }
    if (frame.request_id !== undefined) this.onmessage?.({ data: undefined, answer: { ...answer, request_id: frame.request_id } });
  }

  /** @param {ServerEvent} frame @returns {Promise<Record<string, any> | undefined>} */
  async #carryOut({ type, request_id: _, room_id, message_id, ...fields }) {
    const client = this.#client;
    const options = { signal: this.#life.signal };
    const ids = { room_id, message_id };
    const user_id = this.#userId;
    switch (type) {
      case "send_message": {
        const { seq, client_message_id, created_at, ...sent } = await client.sendMessage(room_id, /** @type {any} */ (fields), options);
        return { type: "message.sent", room_id, message_id: sent.message_id, seq, client_message_id, created_at, stream: sent.stream };
      }
      case "message.edit": {
        /** @type {any} */ let message;
        const event = await this.#change("message.edited", message_id, async () => { message = await client.editMessage(room_id, message_id, /** @type {any} */ (fields), options); });
        return event ?? { ...message, type: "message.edited", target_seq: message.seq };
      }
      case "message.delete": {
        const event = await this.#change("message.deleted", message_id, () => client.deleteMessage(room_id, message_id, options));
        if (event) return event;
        const { seq } = await client.getMessage(room_id, message_id, options);
        return { ...ids, type: "message.deleted", seq, target_seq: seq };
      }
      case "message.append": return { ...ids, type: "message.appended", ...(await client.appendToMessage(room_id, message_id, fields.index, fields.text, options)) };
      case "message.finish": {
        /** @type {any} */ let message;
        const event = await this.#change("message.finished", message_id, async () => { message = await client.finishMessage(room_id, message_id, /** @type {any} */ (fields), options); });
        return event ?? { ...message, type: "message.finished", target_seq: message.seq };
      }
      case "message.cancel":
        await client.cancelMessage(room_id, message_id, options);
        return { ...ids, type: "message.cancel_requested", user_id };
      case "reaction.add":
      case "reaction.remove": {
        const { emoji } = fields;
        const [eventType, change] = type === "reaction.add"
          ? ["reaction.added", () => client.addReaction(room_id, message_id, emoji, options)]
          : ["reaction.removed", () => client.removeReaction(room_id, message_id, emoji, options)];
        const event = await this.#change(/** @type {string} */ (eventType), message_id, /** @type {() => Promise<unknown>} */ (change), emoji);
        if (event) return event;
        const message = await client.getMessage(room_id, message_id, options);
        const count = message.reactions?.find((one) => one.emoji === emoji)?.count ?? 0;
        return { ...ids, type: eventType, user_id, emoji, count, target_seq: message.seq };
      }
      case "read": return { type: "read.updated", user_id, ...(await client.markRead(room_id, fields.seq, options)) };
      // The last ones are sent when the connection is closed, so that its end does not stop them.
      case "ack":
        if (fields.rooms) return void (await client.ackRooms(fields.rooms));
        return { type: "ack.received", user_id, ...(await client.ack(room_id, fields.seq)) };
      case "notification.ack": return void (await client.ackNotification(fields.notification_id));
      case "subscribe": return this.#subscribe(room_id);
      case "unsubscribe": return { type: "unsubscribed", room_id };
      case "ping":
        await client.livez(options);
        return { type: "pong" };
      default: throw new Error(`no call for ${type}`);
    }
  }

  /** @param {string} roomId */
  async #subscribe(roomId) {
    const options = { signal: this.#life.signal };
    const { last_seq } = await this.#client.getRoom(roomId, options);
    await this.#client.listEvents(roomId, { after_seq: last_seq, limit: 1 }, options); // whether the user may read it
    this.#sync.rooms[roomId] = last_seq;
    if (this.#transport === "poll") this.#reading?.abort();
    else await this.#beginAt({ type: "sync", rooms: this.#sync.rooms });
    return { type: "subscribed", room_id: roomId, last_seq };
  }
}

/** As many rooms as fit into an address: events of the others come twice, or show as a gap, and either heals. @param {ServerEvent} sync */
function encodeCursors({ epoch, rooms }) {
  const fitting = /** @type {Record<string, number>} */ ({});
  let size = 200;
  for (const [roomId, seq] of Object.entries(rooms)) {
    size += new TextEncoder().encode(roomId).length + 24;
    if (size > MAX_CURSORS_BYTES) break;
    fitting[roomId] = /** @type {number} */ (seq);
  }
  const bytes = new TextEncoder().encode(JSON.stringify({ type: "sync", epoch, rooms: fitting }));
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")).replace(/\+/g, "-").replace(/\//g, "_");
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
