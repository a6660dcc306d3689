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
export type ClientOptions = {
    /**
     * where the server is: `https://chat.example.com`, a path in front of it included
     */
    url: string;
    apiKey?: string;
    userId?: string;
    token?: string;
    /**
     * asked at first, and again when the server refuses the last one;
     * when it throws, takes more than 10 s, or returns something that is not a token, a connection asks again
     */
    getToken?: () => string | Promise<string>;
    fetch?: typeof globalThis.fetch;
    /**
     * a WHATWG WebSocket class; Node 20 has none, `ws` from npm is one
     */
    WebSocket?: any;
    /**
     * of one HTTP try (30,000)
     */
    timeoutMs?: number;
    /**
     * how often an HTTP call is tried again (4)
     */
    retries?: number;
    /**
     * whether to go on where the tenant has moved (true); false makes of it the error `TENANT_MOVED`, for
     * a page that may call one server alone
     */
    followMoves?: boolean;
};
export type CallOptions = {
    signal?: AbortSignal;
    retries?: number;
};
export type AdminOptions = {
    url: string;
    masterKey: string;
    fetch?: typeof globalThis.fetch;
    /**
     * of one HTTP try (30,000)
     */
    timeoutMs?: number;
    /**
     * how often an HTTP call is tried again (4)
     */
    retries?: number;
};
export type CallRequest = {
    /**
     * beside those of the credential
     */
    headers?: Record<string, string>;
    /**
     * what is undefined or null is left out
     */
    query?: Record<string, unknown>;
    body?: unknown;
    /**
     * whether doing it twice is the same as doing it once
     */
    idempotent?: boolean;
    /**
     * how much longer than others it may take
     */
    waitMs?: number;
    /**
     * fields that the answer's `data` has at least
     */
    gives?: Shape;
    /**
     * what is served without an envelope
     */
    plain?: "text" | "json" | "stream";
    /**
     * a database, in the place of `body`
     */
    file?: Blob | ReadableStream<Uint8Array> | Uint8Array | string;
};
export type Page = {
    limit?: number;
    offset?: number;
    cursor?: string;
};
export type More = {
    has_more: boolean;
    next_cursor?: string;
};
export type Json = Record<string, unknown>;
export type RoomType = "dm" | "group" | "channel";
export type Role = "admin" | "member";
export type Posting = "members" | "admins";
export type Room = {
    room_id: string;
    type: RoomType;
    unique_key: string | null;
    name: string | null;
    metadata: Json | null;
    posting: Posting;
    /**
     * from a member's message to their next one; not for admins
     */
    slow_mode_seconds: number;
    last_seq: number;
    member_count: number;
    created_by: string;
    created_at: string;
    updated_at: string;
};
export type Standing = {
    role: Role;
    last_ack: number;
    last_read: number;
    notify: NotifyLevel;
    hidden: boolean;
    unread_count: number;
    unread_mentions: number;
    last_message: Message | null;
};
export type MessageFields = {
    message_id: string;
    room_id: string;
    seq: number;
    sender_id: string;
    content: string | null;
    meta: Json | null;
    reply_to: string | null;
    client_message_id: string | null;
    created_at: string;
    edited_at: string | null;
    deleted_at: string | null;
    /**
     * of a reply; absent, as the fields below, where it says nothing
     */
    thread_id?: string;
    mentions?: string[];
    mention_room?: boolean;
    /**
     * of a message that is, or was, written in pieces
     */
    stream?: StreamStatus;
};
export type StreamStatus = {
    state: "open" | "done" | "cancelled" | "failed";
    index?: number;
    cancel_requested?: boolean;
};
export type StreamEnd = {
    state: "done" | "cancelled" | "failed";
    index?: number;
    content?: string;
    meta?: Json | null;
};
export type Message = MessageFields & {
    reactions?: ReactionSummary[];
    pinned_at?: string;
    thread?: ThreadSummary;
};
export type ReactionSummary = {
    emoji: string;
    count: number;
    user_ids: string[];
};
export type Reaction = {
    emoji: string;
    user_id: string;
    created_at: string;
};
export type ThreadSummary = {
    reply_count: number;
    last_reply_seq: number;
    last_reply_at: string;
};
export type NotifyLevel = "all" | "mentions" | "none";
export type SearchResult = {
    message: Message;
    snippet: {
        text: string;
        hits: number[][];
    };
};
export type OwnView = {
    room_id: string;
    notify: NotifyLevel;
    hidden: boolean;
};
export type Member = {
    user_id: string;
    role: Role;
    joined_at: string;
    muted_until?: string;
    name?: string;
    avatar_url?: string;
};
export type User = {
    user_id: string;
    name: string | null;
    avatar_url: string | null;
    metadata: Json | null;
    last_seen_at: string | null;
    created_at: string;
    updated_at: string;
};
export type Ban = {
    user_id: string;
    reason: string | null;
    until: string | null;
    created_by: string;
    created_at: string;
};
export type UserBan = {
    user_id: string;
    reason: string | null;
    banned_until: string | null;
};
export type Block = {
    user_id: string;
    created_at: string;
};
export type Report = {
    report_id: string;
    status: "open" | "resolved";
    room_id: string;
    user_id: string;
    reason: string;
    message: Message;
    created_at: string;
    resolved_by: string | null;
    resolved_at: string | null;
};
export type Receipt = {
    user_id: string;
    last_ack: number;
    last_read: number;
};
export type Notification = {
    notification_id: string;
    topic: string;
    payload: unknown;
    created_at: string;
};
export type ListedNotification = Notification & {
    status: "pending" | "delivered";
    acked_at: string | null;
};
export type Subscription = {
    subscription_id: string;
    topic: string;
    created_at: string;
};
export type NewMessage = {
    content: string;
    meta?: Json | null;
    reply_to?: string | null;
    client_message_id?: string;
    thread_id?: string | null;
    mentions?: string[] | null;
    mention_room?: boolean | null;
    stream?: boolean;
};
export type StreamedMessage = Partial<Omit<NewMessage, "stream">>;
export type Chunks = AsyncIterable<string> | Iterable<string> | ((signal: AbortSignal) => AsyncIterable<string> | Iterable<string>);
export type Appended = {
    index: number;
    cancel_requested?: boolean;
};
export type Revision = {
    content: string;
    meta?: Json | null;
    mentions?: string[] | null;
    mention_room?: boolean | null;
};
export type Sent = {
    room_id: string;
    message_id: string;
    seq: number;
    client_message_id: string | null;
    created_at: string;
    stream?: StreamStatus;
};
export type MoveState = {
    state: "copying" | "held" | "moved";
    url: string;
    rows: number;
};
export type TenantMove = MoveState & {
    tenant_id: string;
    held_ms: number;
};
export type Tenant = {
    tenant_id: string;
    name: string;
    config: Json;
    created_at: string;
    move?: MoveState;
};
export type FailedCall = {
    id: string;
    tenant_id: string;
    user_id: string;
    attempts: number;
    last_attempt_at: string;
    error: string;
};
export type DeadLetters = {
    failed_messages: (FailedCall & {
        message_id: string;
        room_id: string;
    })[];
    failed_notifications: (FailedCall & {
        notification_id: string;
        topic: string;
    })[];
    failed_events: FailedEvent[];
};
export type WebhookEvent = "message.created" | "message.edited" | "message.deleted" | "message.finished" | "message.reported" | "reaction.added" | "reaction.removed" | "room.created" | "room.updated" | "room.deleted" | "member.joined" | "member.left" | "member.banned" | "user.online" | "user.offline";
export type FailedEvent = {
    id: string;
    tenant_id: string;
    event: WebhookEvent;
    room_id?: string;
    seq?: number;
    user_id?: string;
    report_id?: string;
    attempts: number;
    last_attempt_at: string;
    error: string;
};
export type AuditEntry = {
    id: string;
    at: string;
    actor: {
        kind: "master" | "key" | "user" | "server";
        key_id?: string;
        user_id?: string;
    };
    address: string | null;
    action: string;
    tenant_id: string | null;
    target: string | null;
    details?: Json;
};
export type Queues = {
    notifications: number;
    webhooks: number;
    dead_letters: number;
};
export type TenantStats = {
    tenant_id: string;
    name: string;
    rooms: number;
    messages: number;
    connections: number;
    queues: Queues;
};
export type Compacted = {
    stage: "working" | "waiting" | "done";
    before_bytes: number;
    file_bytes: number;
    free_bytes: number;
};
export type Cursors = {
    epoch: string | null;
    rooms: Record<string, number>;
};
export type ConnectOptions = {
    /**
     * where this device stopped; without it the server continues from what the user acknowledged
     */
    cursors?: Cursors;
    /**
     * acknowledge what has been handled (true)
     */
    autoAck?: boolean;
    /**
     * of the first reconnect (500)
     */
    minDelayMs?: number;
    /**
     * of any reconnect (30,000)
     */
    maxDelayMs?: number;
    /**
     * events waiting for their handlers before the connection is dropped until they are
     * handled (10,000); nothing is lost by it
     */
    maxPending?: number;
    /**
     * those to use, the best first. Where WebSockets do not pass (three tries failed, and REST
     * answers), Server-Sent Events stand in for them, then long polls
     */
    transports?: Transport[];
};
export type Transport = "websocket" | "sse" | "poll";
export type State = "connecting" | "syncing" | "live" | "waiting" | "paused" | "closed";
export type StateChange = {
    state: State;
    /**
     * until the next try, when waiting
     */
    delayMs?: number;
    /**
     * of the socket that ended
     */
    closeCode?: number;
    /**
     * what ended the connection for good, or kept the last try from succeeding: a ChatAPIError with
     * the server's code, such as `RATE_LIMIT_EXCEEDED` (too many connections) or `AUTHORIZATION_ERROR` (the page's origin), or
     * one of this library's own
     */
    error?: Error;
};
export type EventMap = {
    "ready": {
        type: "ready";
        connection_id: string;
        user_id: string;
        epoch: string;
        server_time: string;
        heartbeat_seconds: number;
        rooms: {
            room_id: string;
            type: RoomType;
            last_seq: number;
            last_ack: number;
            last_read: number;
            unread_mentions: number;
            notify: NotifyLevel;
            hidden: boolean;
        }[];
    };
    "message": MessageFields & {
        type: "message";
    };
    "message.edited": MessageFields & {
        type: "message.edited";
        target_seq: number;
    };
    "message.finished": MessageFields & {
        type: "message.finished";
        target_seq: number;
    };
    "message.delta": {
        type: "message.delta";
        room_id: string;
        message_id: string;
        after: number;
        index: number;
        text: string;
    };
    "message.state": {
        type: "message.state";
        room_id: string;
        message: Message;
    };
    "message.cancel_requested": {
        type: "message.cancel_requested";
        room_id: string;
        message_id: string;
        user_id: string;
    };
    "message.deleted": {
        type: "message.deleted";
        room_id: string;
        message_id: string;
        seq: number;
        target_seq: number;
        thread_id?: string;
        thread?: ThreadSummary | null;
    };
    "reaction.added": {
        type: "reaction.added";
        room_id: string;
        message_id: string;
        target_seq: number;
        user_id: string;
        emoji: string;
        count: number;
        created_at: string;
        seq?: number;
    };
    "reaction.removed": {
        type: "reaction.removed";
        room_id: string;
        message_id: string;
        target_seq: number;
        user_id: string;
        emoji: string;
        count: number;
        seq?: number;
    };
    "message.pinned": {
        type: "message.pinned";
        room_id: string;
        message_id: string;
        target_seq: number;
        user_id: string;
        pinned_at: string;
        seq: number;
    };
    "message.unpinned": {
        type: "message.unpinned";
        room_id: string;
        message_id: string;
        target_seq: number;
        user_id: string;
        seq: number;
    };
    "room.created": RoomFields & {
        type: "room.created";
    };
    "room.updated": RoomFields & {
        type: "room.updated";
        seq: number;
    };
    "room.deleted": RoomFields & {
        type: "room.deleted";
    };
    "room.me": {
        type: "room.me";
        room_id: string;
        notify: NotifyLevel;
        hidden: boolean;
    };
    "member.joined": {
        type: "member.joined";
        room_id: string;
        user_id: string;
        role: Role;
        muted_until?: string;
        seq: number;
    };
    "member.updated": {
        type: "member.updated";
        room_id: string;
        user_id: string;
        role: Role;
        muted_until: string | null;
        seq: number;
    };
    "member.left": {
        type: "member.left";
        room_id: string;
        user_id: string;
        seq: number;
    };
    "member.banned": {
        type: "member.banned";
        room_id: string;
        user_id: string;
        reason: string | null;
        until: string | null;
        seq: number;
    };
    "member.unbanned": {
        type: "member.unbanned";
        room_id: string;
        user_id: string;
        reason: string | null;
        until: string | null;
        seq: number;
    };
    "ack.received": {
        type: "ack.received";
        room_id: string;
        seq: number;
        user_id: string;
    };
    "read.updated": {
        type: "read.updated";
        room_id: string;
        seq: number;
        user_id: string;
    };
    "presence.update": {
        type: "presence.update";
        user_id: string;
        status: "online" | "offline";
    };
    "typing": {
        type: "typing";
        room_id: string;
        user_id: string;
        action: "start" | "stop";
    };
    "user.updated": {
        type: "user.updated";
        user: User;
    };
    "notification": Notification & {
        type: "notification";
    };
    "sync.complete": {
        type: "sync.complete";
        rooms: Record<string, number>;
    };
    "sync.reset": {
        type: "sync.reset";
        epoch: string;
        rooms: Record<string, number>;
    };
    "server.shutdown": {
        type: "server.shutdown";
        reconnect_after_ms: number;
        url?: string;
    };
    "*": ServerEvent;
    "error": Error;
    "state": StateChange;
    "frame": {
        direction: "in" | "out";
        frame: ServerEvent;
    };
};
export type RoomFields = Omit<Room, "type"> & {
    room_type: RoomType;
};
export type ServerEvent = {
    type: string;
    [field: string]: any;
};
export type Synced = {
    epoch: string;
    events: ServerEvent[];
    rooms: Record<string, number>;
    reset: Record<string, number>;
    gaps: {
        room_id: string;
        from_seq: number;
        to_seq: number;
    }[];
    notifications: (Notification & {
        type: "notification";
    })[];
    errors: Record<string, {
        code: string;
        message: string;
        field?: string;
    }>;
    has_more: boolean;
};
/** The version of this library, and of the server that it knows in full; `info` of a client tells the server's own. @type {string} */
export declare const VERSION: string;
export type Shape = Record<string, "string" | "number" | "boolean" | "array" | "object">;
/** An id that nobody else makes, such as a `client_message_id`. @returns {string} */
export declare function randomId(): string;
/**
 * Whether an event takes a number in its room's log: then `room_id` and `seq` are its place there. A newer server has types of
 * these that are not known here.
 * @param {ServerEvent} event
 * @returns {boolean}
 */
export declare function isLogEvent(event: ServerEvent): boolean;
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
export declare function applyEvent(message: Message, event: ServerEvent): Message;
/**
 * A refusal of the server, or the reason why it could not be asked. `code` is one of the server's codes, or one of this library's,
 * whose `status` is 0: `NETWORK_ERROR` (no answer), `TIMEOUT`, `CLOSED` (the connection was closed before the answer),
 * `NOT_CHATAPI` (something else answered, such as a proxy with a page of its own, whose status is
 * `details.http_status`; whether the server has done what it was asked is not known), `NO_TOKEN` (`getToken` failed,
 * `cause` is how, or returned something that is not a token; nothing was sent).
 */
export declare class ChatAPIError extends Error {
    code: string;
    /** HTTP status; for an `error` frame the status its code has over HTTP; 0 when there was no answer. */
    status: number;
    field: string | undefined;
    details: Json | undefined;
    /** Seconds. */
    retryAfter: number | undefined;
    /** The `X-Request-Id` to look for in the server's log. */
    requestId: string | undefined;
    /**
     * @param {string} code
     * @param {string} message
     * @param {{status?: number, field?: string, details?: Json, retryAfter?: number, requestId?: string, cause?: unknown}} [more]
     */
    constructor(code: string, message: string, more?: {
        status?: number;
        field?: string;
        details?: Json;
        retryAfter?: number;
        requestId?: string;
        cause?: unknown;
    });
}
/**
 * For a source of `stream` to throw: the stream ends `failed`, and its `meta` tells everybody in the room why, as `error`: the message,
 * of which 1,000 characters are told.
 */
export declare class StreamFailed extends Error {
    /** @param {string} reason */
    constructor(reason: string);
}
/** Credentials: a master key, an API key and a user, or a user token and the source of the next one. */
declare class Credentials {
    #private;
    usesApiKey: boolean;
    /** @param {{masterKey?: string, apiKey?: string, userId?: string, token?: string, getToken?: ClientOptions["getToken"], timeoutMs?: number}} given */
    constructor({ masterKey, apiKey, userId, token, getToken, timeoutMs }: {
        masterKey?: string;
        apiKey?: string;
        userId?: string;
        token?: string;
        getToken?: ClientOptions["getToken"];
        timeoutMs?: number;
    });
    /** @returns {Promise<Record<string, string>>} */
    headers(): Promise<Record<string, string>>;
    /** One request for all that wait for a token. Throws `NO_TOKEN`. @returns {Promise<string>} */
    token(): Promise<string>;
    /** As the header or the token says, unverified. @returns {Promise<string>} */
    userId(): Promise<string>;
    /** Whether there may be another token. */
    get renews(): boolean;
    /** Forgets a token that the server refused. True when there may be a better one. */
    renew(): boolean;
    /** Of a token that the server has refused: whether it seems to be one that was good once, so that the next may be. */
    get hasExpired(): boolean;
}
/** The common part of both APIs: tries, the envelope taken off, and the calls that need no credential. */
declare class RestClient {
    #private;
    /** @param {string} url @param {Credentials} credentials @param {{fetch?: typeof globalThis.fetch, timeoutMs?: number, retries?: number}} options @param {boolean} followsMoves */
    constructor(url: string, credentials: Credentials, options: {
        fetch?: typeof globalThis.fetch;
        timeoutMs?: number;
        retries?: number;
    }, followsMoves: boolean);
    /** The server's address, without a slash at its end. */
    get url(): string;
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
    call(method: string, route: string, { idempotent, ...request }?: CallRequest, options?: CallOptions): Promise<any>;
    /**
     * Whether another server than `asked` has the tenant now, as the error says, and is called from now on.
     * @internal
     * @param {unknown} error @param {string} asked @returns {boolean}
     */
    follow(error: unknown, asked: string): boolean;
    /**
     * Calls this server from now on, credentials included. False, and nothing changes, if it is not the URL of a server, or http after https.
     * @internal
     * @param {unknown} url @returns {boolean}
     */
    moveTo(url: unknown): boolean;
    /**
     * One try of a call.
     * @internal
     * @param {string} method @param {string} route
     * @param {CallRequest & {anonymous?: boolean, limitMs?: number}} request `limitMs`: as long as it may take at most
     * @param {AbortSignal | undefined} signal
     * @returns {Promise<any>}
     */
    tryOnce(method: string, route: string, { query, body, file, headers: more, gives, plain, anonymous, waitMs, limitMs }: CallRequest & {
        anonymous?: boolean;
        limitMs?: number;
    }, signal: AbortSignal | undefined): Promise<any>;
    /**
     * The server's version, and the paths of its documents by name. Needs no credential.
     * @param {CallOptions} [options] @returns {Promise<{name: "ChatAPI", version: string, links: Record<string, string>}>}
     */
    info(options?: CallOptions): Promise<{
        name: "ChatAPI";
        version: string;
        links: Record<string, string>;
    }>;
    /**
     * Whether the process answers; looks at nothing else. Needs no credential.
     * @param {CallOptions} [options] @returns {Promise<{status: "ok"}>}
     */
    livez(options?: CallOptions): Promise<{
        status: "ok";
    }>;
    /**
     * Whether the server serves requests. Needs no credential. Throws with status 503, after the usual tries, while it starts, stops,
     * or cannot write.
     * @param {CallOptions} [options] @returns {Promise<{status: "ok"}>}
     */
    readyz(options?: CallOptions): Promise<{
        status: "ok";
    }>;
    /**
     * The server's version and uptime, in seconds and for people. Needs no credential. Throws with status 503, after the usual tries,
     * when the server cannot write; `details` of the error then hold the same fields.
     * @param {CallOptions} [options]
     * @returns {Promise<{status: "ok", service: "chatapi", version: string, uptime: string, uptime_seconds: number, db_writable: boolean, search: {enabled: boolean, lag: number | null}}>}
     */
    health(options?: CallOptions): Promise<{
        status: "ok";
        service: "chatapi";
        version: string;
        uptime: string;
        uptime_seconds: number;
        db_writable: boolean;
        search: {
            enabled: boolean;
            lag: number | null;
        };
    }>;
    /**
     * All metrics, in Prometheus' text format. Throws: 401 where the server wants the master key (`AdminAPI` sends it), 404 where
     * metrics are off.
     * @param {CallOptions} [options] @returns {Promise<string>}
     */
    metrics(options?: CallOptions): Promise<string>;
    /**
     * The OpenAPI document of the REST routes. Needs no credential.
     * @param {CallOptions} [options] @returns {Promise<Json>}
     */
    openapi(options?: CallOptions): Promise<Json>;
    /**
     * The AsyncAPI document of the WebSocket's frames. Needs no credential.
     * @param {CallOptions} [options] @returns {Promise<Json>}
     */
    asyncapi(options?: CallOptions): Promise<Json>;
}
/**
 * One caller of one server: a tenant's backend acting as a user, or a user.
 *
 * Every call rejects with a `ChatAPIError`. It holds the refusal (its `code` and `status`), or why the server gave no answer. The
 * calls name those refusals that are their own: beside them there are 400 (`field` says of what), 401, 429 and 5xx. Lists come in
 * pages: `limit` with `offset`, which passes over as many items, or with `cursor`, the `next_cursor` of the page before, which
 * goes on where that ended. Times are RFC 3339 in UTC, as text.
 */
export declare class ChatAPI extends RestClient {
    #private;
    /** Throws a TypeError for an address without http:// or https://, and without credentials. @param {ClientOptions} options */
    constructor(options: ClientOptions);
    /** The same tenant as another user; with an API key only. Throws a TypeError without one. @param {string} userId @returns {ChatAPI} */
    asUser(userId: string): ChatAPI;
    /**
     * A connection, which begins at once and keeps itself alive until it is closed.
     * @param {ConnectOptions} [options]
     * @returns {Connection}
     */
    connect(options?: ConnectOptions): Connection;
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
    createRoom(room: {
        type: RoomType;
        members?: string[];
        name?: string | null;
        metadata?: Json | null;
        posting?: Posting;
        slow_mode_seconds?: number;
    }, options?: CallOptions): Promise<Room>;
    /**
     * The caller's rooms, the most recently active first, each with the caller's role, receipts and view of it, counts of unread
     * messages and mentions (up to 1,000) and the last message. `hidden`: true for those too that the caller has hidden. `limit`: 1 to
     * 100 (50); a page may hold less, see `has_more`.
     * @param {Page & {hidden?: boolean}} [page] @param {CallOptions} [options] @returns {Promise<{rooms: (Room & Standing)[]} & More>}
     */
    listRooms(page?: Page & {
        hidden?: boolean;
    }, options?: CallOptions): Promise<{
        rooms: (Room & Standing)[];
    } & More>;
    /**
     * The tenant's channels, the caller's own and others. `limit`: 1 to 100 (50).
     * @param {Page} [page] @param {CallOptions} [options] @returns {Promise<{rooms: Room[]} & More>}
     */
    listChannels(page?: Page, options?: CallOptions): Promise<{
        rooms: Room[];
    } & More>;
    /**
     * One room. Throws: 404, or 403 when the caller is not a member and it is not a channel.
     * @param {string} roomId @param {CallOptions} [options] @returns {Promise<Room>}
     */
    getRoom(roomId: string, options?: CallOptions): Promise<Room>;
    /**
     * Changes what is given; `null` clears a name or metadata. `name`: 1 to 200 characters; `metadata`: at most 16 KiB, replaced as
     * a whole; `posting` and `slow_mode_seconds` as in `createRoom`. For admins of the room. Throws: 403, 404.
     * @param {string} roomId
     * @param {{name?: string | null, metadata?: Json | null, posting?: Posting, slow_mode_seconds?: number}} change
     * @param {CallOptions} [options]
     * @returns {Promise<Room>}
     */
    updateRoom(roomId: string, change: {
        name?: string | null;
        metadata?: Json | null;
        posting?: Posting;
        slow_mode_seconds?: number;
    }, options?: CallOptions): Promise<Room>;
    /**
     * Deletes a room and everything in it. For its admins. Throws: 403, also of a dm; 404.
     * @param {string} roomId @param {CallOptions} [options] @returns {Promise<void>}
     */
    deleteRoom(roomId: string, options?: CallOptions): Promise<void>;
    /**
     * Changes the caller's own view of a room, and resolves with it: an absent field stays. `notify`: of which messages the backend is
     * told while the caller is offline. `hidden`: leaves the room out of `listRooms` until somebody else posts. Throws: 403, 404.
     * @param {string} roomId @param {{notify?: NotifyLevel, hidden?: boolean}} change @param {CallOptions} [options]
     * @returns {Promise<OwnView>}
     */
    updateView(roomId: string, change: {
        notify?: NotifyLevel;
        hidden?: boolean;
    }, options?: CallOptions): Promise<OwnView>;
    /**
     * The room's members, the longest-standing first; with `q` those whose name or id begins so (1 to 100 characters, without case and
     * diacritics), by name. `limit`: 1 to 100 (50). Throws: 403, 404.
     * @param {string} roomId @param {Page & {q?: string}} [page] @param {CallOptions} [options] @returns {Promise<{members: Member[]} & More>}
     */
    listMembers(roomId: string, page?: Page & {
        q?: string;
    }, options?: CallOptions): Promise<{
        members: Member[];
    } & More>;
    /**
     * Adds a user, as `member` if not said otherwise. For admins of the room; in a channel users may add themselves. Not tried again
     * after a lost answer. Throws: 409 for a member or a dm, 403, 404.
     * @param {string} roomId @param {string} userId @param {{role?: Role}} [more] @param {CallOptions} [options] @returns {Promise<Member>}
     */
    addMember(roomId: string, userId: string, more?: {
        role?: Role;
    }, options?: CallOptions): Promise<Member>;
    /**
     * Gives a member another role, or mutes them: they may read, but not post, edit, react or type. `muted_for`: seconds, up to
     * 31,536,000; 0 ends it. For admins of the room. Throws: 409 for the last admin or the role in a dm, 403, also for a mute in a
     * dm, 404.
     * @param {string} roomId @param {string} userId @param {{role?: Role, muted_for?: number}} change @param {CallOptions} [options] @returns {Promise<Member>}
     */
    updateMember(roomId: string, userId: string, change: {
        role?: Role;
        muted_for?: number;
    }, options?: CallOptions): Promise<Member>;
    /**
     * Removes a member, or leaves the room. For admins; anybody may leave. When the last admin leaves, the member who has been there
     * longest becomes admin. Throws: 409 for a dm, 403, 404.
     * @param {string} roomId @param {string} userId @param {CallOptions} [options] @returns {Promise<void>}
     */
    removeMember(roomId: string, userId: string, options?: CallOptions): Promise<void>;
    /**
     * Bans a user, who is removed if they are a member: they may not join the room, be added or, in a channel, read it. For admins of
     * the room. `reason`: up to 500 characters. `expires_in`: seconds, 1 to 31,536,000; without it the ban has no end. Banning again
     * replaces both. Throws: 409 for the caller themselves, 403, also of a dm, 404.
     * @param {string} roomId @param {string} userId @param {{reason?: string | null, expires_in?: number | null}} [ban]
     * @param {CallOptions} [options] @returns {Promise<Ban>}
     */
    banMember(roomId: string, userId: string, ban?: {
        reason?: string | null;
        expires_in?: number | null;
    }, options?: CallOptions): Promise<Ban>;
    /**
     * Lifts a ban; does nothing for a user who is not banned. For admins of the room. Throws: 403, 404.
     * @param {string} roomId @param {string} userId @param {CallOptions} [options] @returns {Promise<void>}
     */
    unbanMember(roomId: string, userId: string, options?: CallOptions): Promise<void>;
    /**
     * The bans that are in force, the newest first. For admins of the room. `limit`: 1 to 100 (50). Throws: 403, 404.
     * @param {string} roomId @param {Page} [page] @param {CallOptions} [options] @returns {Promise<{bans: Ban[]} & More>}
     */
    listBans(roomId: string, page?: Page, options?: CallOptions): Promise<{
        bans: Ban[];
    } & More>;
    /**
     * Reports a message to the tenant's backend; again, the first report is given. For all who can read the message. `reason`: 1 to
     * 1,000 characters. Throws: 400, 403, 404, also of a deleted message.
     * @param {string} roomId @param {string} messageId @param {string} reason @param {CallOptions} [options] @returns {Promise<{report_id: string}>}
     */
    reportMessage(roomId: string, messageId: string, reason: string, options?: CallOptions): Promise<{
        report_id: string;
    }>;
    /**
     * The tenant's reports, the open ones if not said otherwise, the newest first; with an API key only. `limit`: 1 to 100 (50). Throws: 403.
     * @param {Page & {status?: "open" | "resolved"}} [page] @param {CallOptions} [options] @returns {Promise<{reports: Report[]} & More>}
     */
    listReports(page?: Page & {
        status?: "open" | "resolved";
    }, options?: CallOptions): Promise<{
        reports: Report[];
    } & More>;
    /**
     * Marks a report as resolved by the caller; again, nothing changes. With an API key only. Throws: 403, 404.
     * @param {string} reportId @param {CallOptions} [options] @returns {Promise<Report>}
     */
    resolveReport(reportId: string, options?: CallOptions): Promise<Report>;
    /**
     * A user's profile, for everybody in the tenant. `last_seen_at` is null for those who may not know it. Throws: 404 for a user who
     * has no profile and was never online.
     * @param {string} userId @param {CallOptions} [options] @returns {Promise<User>}
     */
    getUser(userId: string, options?: CallOptions): Promise<User>;
    /**
     * Writes what is given into a user's profile; `null` clears it. Users write their own, the API key everybody's. `name`: 1 to 200
     * characters; `avatar_url`: an http or https URL of up to 2,048 characters; `metadata`: at most 16 KiB, replaced as a whole.
     * Throws: 403, 400.
     * @param {string} userId @param {{name?: string | null, avatar_url?: string | null, metadata?: Json | null}} profile
     * @param {CallOptions} [options] @returns {Promise<User>}
     */
    putUser(userId: string, profile: {
        name?: string | null;
        avatar_url?: string | null;
        metadata?: Json | null;
    }, options?: CallOptions): Promise<User>;
    /**
     * The profiles of up to 100 `ids`, in their order; those without one are left out. Or, with an API key, of the users whose name or
     * id begins with `q` (1 to 100 characters, without case and diacritics), by name. `limit`: 1 to 100 (50 with `q`). Throws: 403 for
     * `q` with a user token, 400.
     * @param {Page & {ids?: string[], q?: string}} wanted @param {CallOptions} [options] @returns {Promise<{users: User[]} & More>}
     */
    listUsers(wanted: Page & {
        ids?: string[];
        q?: string;
    }, options?: CallOptions): Promise<{
        users: User[];
    } & More>;
    /**
     * The ban of a user from the tenant. With an API key only. Throws: 404 for a user who is not banned.
     * @param {string} userId @param {CallOptions} [options] @returns {Promise<UserBan>}
     */
    getBan(userId: string, options?: CallOptions): Promise<UserBan>;
    /**
     * Bans a user from the whole tenant, with an API key only: their connections close with 4003, and all that they ask for is refused.
     * It replaces an earlier ban. `reason`: up to 500 characters; `expires_in`: 1 to 31,536,000 seconds, without it the ban has no end.
     * Throws: 400.
     * @param {string} userId @param {{reason?: string | null, expires_in?: number | null}} [ban] @param {CallOptions} [options]
     * @returns {Promise<UserBan>}
     */
    banUser(userId: string, ban?: {
        reason?: string | null;
        expires_in?: number | null;
    }, options?: CallOptions): Promise<UserBan>;
    /**
     * Ends the ban of a user, if there is one. With an API key only.
     * @param {string} userId @param {CallOptions} [options] @returns {Promise<void>}
     */
    unbanUser(userId: string, options?: CallOptions): Promise<void>;
    /**
     * All that is stored of a user, as lines of JSON that have a `type`: the first one is `user`, the last one `end`. With an API key only.
     * It is held in memory and may take 10 minutes: a program that expects more reads the route as a stream. Throws: 400, 429 while too
     * many run.
     * @param {string} userId @param {CallOptions} [options] @returns {Promise<string>}
     */
    exportUser(userId: string, options?: CallOptions): Promise<string>;
    /**
     * Erases a user's data, with an API key only: their messages become tombstones, and the rest goes. `erased` is false while it is under
     * way: ask again, until it is true. Meanwhile all that the user asks for is refused. Throws: 400, 429 while too many are under way.
     * @param {string} userId @param {CallOptions} [options] @returns {Promise<{erased: boolean}>}
     */
    eraseUser(userId: string, options?: CallOptions): Promise<{
        erased: boolean;
    }>;
    /**
     * The caller wants no dm from that user: neither of the two may open one, or post in theirs. Blocking again changes nothing.
     * Throws: 400 for oneself.
     * @param {string} userId @param {CallOptions} [options] @returns {Promise<Block>}
     */
    blockUser(userId: string, options?: CallOptions): Promise<Block>;
    /**
     * Ends the caller's block of that user, if there is one.
     * @param {string} userId @param {CallOptions} [options] @returns {Promise<void>}
     */
    unblockUser(userId: string, options?: CallOptions): Promise<void>;
    /**
     * The users whom the caller has blocked, the latest first. `limit`: 1 to 100 (50).
     * @param {Page} [page] @param {CallOptions} [options] @returns {Promise<{blocks: Block[]} & More>}
     */
    listBlocks(page?: Page, options?: CallOptions): Promise<{
        blocks: Block[];
    } & More>;
    /**
     * Stores a message and resolves with it. Stored once, however often the call has to be tried: a `client_message_id` is made where
     * none is given. `content`: up to 64 KiB of UTF-8, or the tenant's own bound. `meta`: an object of at most 16 KiB as JSON.
     * `reply_to`: a message of the same room. `client_message_id`: up to 64 characters; given again, the message comes as it now
     * stands. `thread_id`: the message to which it is a reply, no reply itself. `mentions`: up to 50 members. `mention_room`:
     * mentions every member, for the room's admins, in a dm for both. Throws: 409 when that id had another body, 400 (`field` says
     * of what), 403 for those who are not members, 404.
     * @param {string} roomId @param {string | NewMessage} message @param {CallOptions} [options] @returns {Promise<Message>}
     */
    sendMessage(roomId: string, message: string | NewMessage, options?: CallOptions): Promise<Message>;
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
    stream(roomId: string, chunks: Chunks, message?: StreamedMessage, options?: CallOptions): Promise<Message>;
    /**
     * A page of the room's history, ascending by `seq`, edits and deletions applied: messages after `after_seq`, messages before
     * `before_seq`, or the newest. `thread_id`: only the replies to that message. `top_level`: true for all but replies. `limit`: 1 to
     * 100 (50). Throws: 400 for both bounds or both choices, 403, 404.
     * @param {string} roomId
     * @param {{after_seq?: number, before_seq?: number, limit?: number, thread_id?: string, top_level?: boolean}} [page]
     * @param {CallOptions} [options]
     * @returns {Promise<{messages: Message[], has_more: boolean}>}
     */
    listMessages(roomId: string, page?: {
        after_seq?: number;
        before_seq?: number;
        limit?: number;
        thread_id?: string;
        top_level?: boolean;
    }, options?: CallOptions): Promise<{
        messages: Message[];
        has_more: boolean;
    }>;
    /**
     * The messages that mention the caller, in all rooms that they are in, the newest first; deleted ones are left out. `before`: the
     * id of a message, perhaps a deleted one. `limit`: 1 to 100 (50). Throws: 400 for a `before` that the caller cannot read.
     * @param {{before?: string, limit?: number, cursor?: string}} [page] @param {CallOptions} [options]
     * @returns {Promise<{messages: Message[], has_more: boolean, next_cursor?: string}>}
     */
    listMentions(page?: {
        before?: string;
        limit?: number;
        cursor?: string;
    }, options?: CallOptions): Promise<{
        messages: Message[];
        has_more: boolean;
        next_cursor?: string;
    }>;
    /**
     * Messages that have all words, "phrases" and prefix* of `q`, the newest first, without case and diacritics, in the caller's rooms.
     * `q`: up to 256 characters and 16 terms. `room_id`: in this room alone, which may be a channel; one that the caller may not read
     * finds nothing. `sender_id`: of this user alone. `after`, `before`: times of RFC 3339, both excluded. `limit`: 1 to 100 (50).
     * `offset`: up to 1,000. Throws: 400, 404 where search is off, 503 for a search of more than 2 seconds.
     * @param {string} q
     * @param {{room_id?: string, sender_id?: string, after?: string, before?: string} & Page} [page] @param {CallOptions} [options]
     * @returns {Promise<{results: SearchResult[], has_more: boolean, next_cursor?: string}>}
     */
    search(q: string, page?: {
        room_id?: string;
        sender_id?: string;
        after?: string;
        before?: string;
    } & Page, options?: CallOptions): Promise<{
        results: SearchResult[];
        has_more: boolean;
        next_cursor?: string;
    }>;
    /**
     * A message as it now stands. Throws: 403, 404.
     * @param {string} roomId @param {string} messageId @param {CallOptions} [options] @returns {Promise<Message>}
     */
    getMessage(roomId: string, messageId: string, options?: CallOptions): Promise<Message>;
    /**
     * Replaces a message's content. `meta`, `mentions` and `mention_room` stay when they are absent, `null` clears them; bounds as in
     * `sendMessage`. For its sender. Throws: 403, 404, also of a deleted message.
     * @param {string} roomId @param {string} messageId @param {string | Revision} change
     * @param {CallOptions} [options] @returns {Promise<Message>}
     */
    editMessage(roomId: string, messageId: string, change: string | Revision, options?: CallOptions): Promise<Message>;
    /**
     * Deletes a message's content and leaves a tombstone; deleting it again changes nothing. For its sender and the room's admins.
     * Throws: 403, 404.
     * @param {string} roomId @param {string} messageId @param {CallOptions} [options] @returns {Promise<void>}
     */
    deleteMessage(roomId: string, messageId: string, options?: CallOptions): Promise<void>;
    /**
     * Appends to a message that was opened as a stream; resolves once the text, and all before it, is stored. The same `index` with the
     * same text is stored once. `index`: 1 for the first append, then one more each time. `text`: up to 16 KiB of UTF-8; an empty one
     * with the last `index` only says that the sender is still there. For its sender. Throws: 409 for an index that does not follow,
     * where `details.index` is the last one that is stored, and for a stream that has ended; 400, 403, 404.
     * @param {string} roomId @param {string} messageId @param {number} index @param {string} text @param {CallOptions} [options]
     * @returns {Promise<{index: number, cancel_requested?: boolean}>}
     */
    appendToMessage(roomId: string, messageId: string, index: number, text: string, options?: CallOptions): Promise<{
        index: number;
        cancel_requested?: boolean;
    }>;
    /**
     * Ends a stream and resolves with the message; the same end again changes nothing. `index`: of the last append. `content` replaces
     * all that was appended; `meta` stays when it is absent, `null` clears it. For its sender. Throws: 409 for another `index`, or a
     * stream that has ended otherwise; 400, 403, 404.
     * @param {string} roomId @param {string} messageId @param {StreamEnd} end @param {CallOptions} [options] @returns {Promise<Message>}
     */
    finishMessage(roomId: string, messageId: string, end: StreamEnd, options?: CallOptions): Promise<Message>;
    /**
     * Asks the sender of a stream to stop, who decides. For members who may post. Throws: 409 for a stream that has ended; 403, 404.
     * @param {string} roomId @param {string} messageId @param {CallOptions} [options]
     * @returns {Promise<{message_id: string, cancel_requested: true}>}
     */
    cancelMessage(roomId: string, messageId: string, options?: CallOptions): Promise<{
        message_id: string;
        cancel_requested: true;
    }>;
    /**
     * Reacts to a message, as the caller, and resolves with all its reactions. Reacting again with the same emoji changes nothing.
     * `emoji`: 1 to 64 bytes of UTF-8 without white space and control characters, kept byte for byte. Throws: 409 for more than 20
     * emoji of the caller, or 50 of all, on one message; 400, 403 for those who are not members, 404, also of a deleted message.
     * @param {string} roomId @param {string} messageId @param {string} emoji @param {CallOptions} [options]
     * @returns {Promise<{reactions: ReactionSummary[]}>}
     */
    addReaction(roomId: string, messageId: string, emoji: string, options?: CallOptions): Promise<{
        reactions: ReactionSummary[];
    }>;
    /**
     * Takes a reaction of the caller back; where there is none, nothing changes. Throws: 400, 403, 404.
     * @param {string} roomId @param {string} messageId @param {string} emoji @param {CallOptions} [options] @returns {Promise<void>}
     */
    removeReaction(roomId: string, messageId: string, emoji: string, options?: CallOptions): Promise<void>;
    /**
     * The reactions to a message, with any emoji or with the given one, in the order of reacting. `limit`: 1 to 100 (50). Throws: 403,
     * 404.
     * @param {string} roomId @param {string} messageId @param {{emoji?: string} & Page} [page] @param {CallOptions} [options]
     * @returns {Promise<{reactions: Reaction[]} & More>}
     */
    listReactions(roomId: string, messageId: string, page?: {
        emoji?: string;
    } & Page, options?: CallOptions): Promise<{
        reactions: Reaction[];
    } & More>;
    /**
     * Pins a message and resolves with it; pinning it again changes nothing. For the room's admins, in a dm for both. Throws: 409 for
     * more than 100 in one room, 403, 404, also of a deleted message.
     * @param {string} roomId @param {string} messageId @param {CallOptions} [options] @returns {Promise<Message>}
     */
    pinMessage(roomId: string, messageId: string, options?: CallOptions): Promise<Message>;
    /**
     * Unpins a message; where it is not pinned, nothing changes. For the same users. Throws: 403, 404.
     * @param {string} roomId @param {string} messageId @param {CallOptions} [options] @returns {Promise<void>}
     */
    unpinMessage(roomId: string, messageId: string, options?: CallOptions): Promise<void>;
    /**
     * The room's pinned messages, the newest pin first. `limit`: 1 to 100 (50). Throws: 403, 404.
     * @param {string} roomId @param {Page} [page] @param {CallOptions} [options] @returns {Promise<{messages: Message[]} & More>}
     */
    listPins(roomId: string, page?: Page, options?: CallOptions): Promise<{
        messages: Message[];
    } & More>;
    /**
     * A page of the room's log after `after_seq` (0), ascending: messages, edits, deletions, reactions, pins, changes of the room and its members, and
     * what a newer server adds. Messages are shown as they now stand. `limit`: 1 to 100 (50). Throws: 403, 404.
     * @param {string} roomId @param {{after_seq?: number, limit?: number}} [page] @param {CallOptions} [options]
     * @returns {Promise<{events: ServerEvent[], has_more: boolean}>}
     */
    listEvents(roomId: string, page?: {
        after_seq?: number;
        limit?: number;
    }, options?: CallOptions): Promise<{
        events: ServerEvent[];
        has_more: boolean;
    }>;
    /**
     * The events after the cursors in `rooms`; after `last_ack` in rooms that it does not name. At once, or as soon as there is one,
     * within `wait` seconds (0 to 60). Give the `epoch` and the `rooms` of the answer with the next call. `limit`: 1 to 1,000 events
     * (100). `after_notification`: the newest notification that is known; at most 25 come.
     * Throws: 429 if the user has too many connections.
     * @param {{epoch?: string, rooms?: Record<string, number>, wait?: number, limit?: number, after_notification?: string}} [cursors]
     * @param {CallOptions} [options] @returns {Promise<Synced>}
     */
    sync(cursors?: {
        epoch?: string;
        rooms?: Record<string, number>;
        wait?: number;
        limit?: number;
        after_notification?: string;
    }, options?: CallOptions): Promise<Synced>;
    /**
     * Marks the room as read up to `seq`, which acknowledges as far; a lower one than before changes nothing. Resolves with where the
     * caller now stands. Throws: 400 above the room's `last_seq`, 403, 404.
     * @param {string} roomId @param {number} seq @param {CallOptions} [options] @returns {Promise<{room_id: string, seq: number}>}
     */
    markRead(roomId: string, seq: number, options?: CallOptions): Promise<{
        room_id: string;
        seq: number;
    }>;
    /**
     * Acknowledges the room's events up to `seq`; a lower one than before changes nothing. Resolves with where the caller now stands.
     * Throws: 400 above the room's `last_seq`, 403, 404.
     * @param {string} roomId @param {number} seq @param {CallOptions} [options] @returns {Promise<{room_id: string, seq: number}>}
     */
    ack(roomId: string, seq: number, options?: CallOptions): Promise<{
        room_id: string;
        seq: number;
    }>;
    /**
     * Acknowledges many rooms, in calls of 1,000 each. Each room is judged on its own: resolves with where the caller now stands, and
     * for each room that was refused why.
     * @param {Record<string, number>} seqs by room
     * @param {CallOptions} [options]
     * @returns {Promise<{rooms: Record<string, number>, errors: Record<string, {code: string, message: string, field?: string}>}>}
     */
    ackRooms(seqs: Record<string, number>, options?: CallOptions): Promise<{
        rooms: Record<string, number>;
        errors: Record<string, {
            code: string;
            message: string;
            field?: string;
        }>;
    }>;
    /**
     * Each member's `last_ack` and `last_read`. `limit`: 1 to 100 (50). For members. Throws: 403, 404.
     * @param {string} roomId @param {Page} [page] @param {CallOptions} [options] @returns {Promise<{receipts: Receipt[]} & More>}
     */
    listReceipts(roomId: string, page?: Page, options?: CallOptions): Promise<{
        receipts: Receipt[];
    } & More>;
    /**
     * The user ids of those members who are online. For members. Throws: 403, 404.
     * @param {string} roomId @param {CallOptions} [options] @returns {Promise<{online: string[]}>}
     */
    getPresence(roomId: string, options?: CallOptions): Promise<{
        online: string[];
    }>;
    /**
     * Stores a notification for every user that `targets` names, each once, and resolves with how many these are (`recipients`). With
     * an API key only. `topic`: 1 to 200 characters; `payload`: any JSON of at most 64 KiB; `targets`: at most 1,000 `user_ids`. Not
     * tried again after a lost answer, as it could then arrive twice. Throws: 400, 403 with a user token, 404 of a room.
     * @param {{topic: string, payload: unknown, targets: {user_ids?: string[], room_id?: string, topic_subscribers?: boolean}}} notification
     * @param {CallOptions} [options]
     * @returns {Promise<{notification_id: string, created_at: string, recipients: number}>}
     */
    notify(notification: {
        topic: string;
        payload: unknown;
        targets: {
            user_ids?: string[];
            room_id?: string;
            topic_subscribers?: boolean;
        };
    }, options?: CallOptions): Promise<{
        notification_id: string;
        created_at: string;
        recipients: number;
    }>;
    /**
     * The caller's notifications, the newest first; all of them, unless a `status` is given. `limit`: 1 to 100 (50).
     * @param {{status?: "pending" | "delivered" | "all"} & Page} [page] @param {CallOptions} [options]
     * @returns {Promise<{notifications: ListedNotification[]} & More>}
     */
    listNotifications(page?: {
        status?: "pending" | "delivered" | "all";
    } & Page, options?: CallOptions): Promise<{
        notifications: ListedNotification[];
    } & More>;
    /**
     * Acknowledges a notification, which is then `delivered` and not sent again; once more changes nothing. Throws: 404.
     * @param {string} notificationId @param {CallOptions} [options] @returns {Promise<{notification_id: string, status: "delivered"}>}
     */
    ackNotification(notificationId: string, options?: CallOptions): Promise<{
        notification_id: string;
        status: "delivered";
    }>;
    /**
     * Subscribes the caller to notifications of a topic (1 to 200 characters). Subscribing twice is the same subscription.
     * @param {string} topic @param {CallOptions} [options] @returns {Promise<Subscription>}
     */
    subscribeTopic(topic: string, options?: CallOptions): Promise<Subscription>;
    /**
     * The caller's subscriptions to topics. `limit`: 1 to 100 (50).
     * @param {Page} [page] @param {CallOptions} [options] @returns {Promise<{subscriptions: Subscription[]} & More>}
     */
    listSubscriptions(page?: Page, options?: CallOptions): Promise<{
        subscriptions: Subscription[];
    } & More>;
    /**
     * Ends a subscription, by its `subscription_id`. Throws: 404.
     * @param {string} subscriptionId @param {CallOptions} [options] @returns {Promise<void>}
     */
    unsubscribeTopic(subscriptionId: string, options?: CallOptions): Promise<void>;
    /**
     * A user token, for a page or an app, of the caller or another user. With an API key only. `expires_in`: 1 to 86,400 seconds
     * (3,600). Throws: 403 with a user token.
     * @param {{user_id?: string, expires_in?: number}} [token] @param {CallOptions} [options]
     * @returns {Promise<{token: string, user_id: string, expires_at: string}>}
     */
    createToken(token?: {
        user_id?: string;
        expires_in?: number;
    }, options?: CallOptions): Promise<{
        token: string;
        user_id: string;
        expires_at: string;
    }>;
    /**
     * A ticket for one WebSocket, good for `expires_in` seconds (60).
     * @param {CallOptions} [options] @returns {Promise<{token: string, expires_in: number}>}
     */
    createTicket(options?: CallOptions): Promise<{
        token: string;
        expires_in: number;
    }>;
    /**
     * Address and subprotocols of one WebSocket. A user token travels as a subprotocol and an API key not at all: it is
     * exchanged for a ticket, because addresses end up in logs.
     * @internal
     * @param {AbortSignal} signal
     * @returns {Promise<{url: string, protocols: string[]}>}
     */
    openSocketWith(signal: AbortSignal): Promise<{
        url: string;
        protocols: string[];
    }>;
    /**
     * The response of an event stream.
     * @internal
     * @param {ServerEvent | undefined} cursors a `sync`
     * @param {AbortSignal} signal
     * @returns {Promise<Response>}
     */
    openStream(cursors: ServerEvent | undefined, signal: AbortSignal): Promise<Response>;
    /** As the key's header or the token says. @internal @returns {Promise<string>} */
    findUserId(): Promise<string>;
    /** @internal */
    get socketClass(): any;
    /** Forgets a token that the server refused. True when there may be a better one. @internal */
    renewToken(): boolean;
    /** Whether there may be another token. @internal */
    get renewsTokens(): boolean;
    /** Of a token that the server has refused: whether it seems to be one that was good once, so that the next may be. @internal */
    get tokenHasExpired(): boolean;
    /** @internal */
    get usesApiKey(): boolean;
    /**
     * Why the server refuses handshakes: a browser does not show their answers, but a plain GET of their address is answered
     * alike. Without a credential first, since a page of a foreign origin may not even ask with one. Undefined: it would not refuse.
     * @internal
     * @param {AbortSignal} signal
     * @returns {Promise<ChatAPIError | undefined>}
     */
    findRefusal(signal: AbortSignal): Promise<ChatAPIError | undefined>;
}
/**
 * The operator's calls: tenants, their keys and secrets, dead letters. For a backend only: the master key opens everything. Errors,
 * tries and pages are as in `ChatAPI`; a wrong master key is 401.
 */
export declare class AdminAPI extends RestClient {
    /** Throws a TypeError for an address without http:// or https://, and without a master key. @param {AdminOptions} options */
    constructor(options: AdminOptions);
    /**
     * Creates a tenant. Its API key and secrets are shown this once. `name`: 1 to 200 characters; `config`: its own limits, webhook
     * URL and retention, as the OpenAPI document's `TenantConfig` has them. Not tried again after a lost answer. Throws: 400
     * (`field`: `config.…`).
     * @param {{name: string, config?: Json}} tenant @param {CallOptions} [options]
     * @returns {Promise<Tenant & {api_key: string, token_secret: string, webhook_secret?: string}>}
     */
    createTenant(tenant: {
        name: string;
        config?: Json;
    }, options?: CallOptions): Promise<Tenant & {
        api_key: string;
        token_secret: string;
        webhook_secret?: string;
    }>;
    /**
     * All tenants, the oldest first. `limit`: 1 to 100 (50).
     * @param {Page} [page] @param {CallOptions} [options] @returns {Promise<{tenants: Tenant[]} & More>}
     */
    listTenants(page?: Page, options?: CallOptions): Promise<{
        tenants: Tenant[];
    } & More>;
    /**
     * A tenant with its config, without keys and secrets. Throws: 404.
     * @param {string} tenantId @param {CallOptions} [options] @returns {Promise<Tenant>}
     */
    getTenant(tenantId: string, options?: CallOptions): Promise<Tenant>;
    /**
     * Changes what is given. Of `config`, absent keys stay, and `null` takes the server's own setting. The answer has a
     * `webhook_secret` when `webhook_url` is set for the first time. Throws: 400, 404.
     * @param {string} tenantId @param {{name?: string, config?: Json}} change @param {CallOptions} [options]
     * @returns {Promise<Tenant & {webhook_secret?: string}>}
     */
    updateTenant(tenantId: string, change: {
        name?: string;
        config?: Json;
    }, options?: CallOptions): Promise<Tenant & {
        webhook_secret?: string;
    }>;
    /**
     * Deletes a tenant and all its data; its connections end. Throws: 404.
     * @param {string} tenantId @param {CallOptions} [options] @returns {Promise<void>}
     */
    deleteTenant(tenantId: string, options?: CallOptions): Promise<void>;
    /**
     * Moves a tenant to another server, at the address `to`, and resolves once that serves it, which takes as long as its data take to be
     * copied. `toMasterKey` is the other server's master key. The same call goes on where a move was broken off. Throws: 400, 404, 409
     * with what the other server objects, 503 when the move was given up and this server goes on.
     * @param {string} tenantId @param {string} to @param {string} toMasterKey @param {CallOptions} [options]
     * @returns {Promise<TenantMove>}
     */
    moveTenant(tenantId: string, to: string, toMasterKey: string, options?: CallOptions): Promise<TenantMove>;
    /**
     * Everything of a tenant, as it stands at this moment: a ChatAPI database with its secrets, for `importTenant`. Resolves with its
     * bytes as they come, once the server has made it; each piece is an `Uint8Array`. An error while they are read tells that some are
     * missing. Throws: 404, 421, 503 while others are under way.
     * @param {string} tenantId @param {CallOptions} [options] @returns {Promise<ReadableStream<Uint8Array>>}
     */
    exportTenant(tenantId: string, options?: CallOptions): Promise<ReadableStream<Uint8Array>>;
    /**
     * Takes a tenant from a database that `exportTenant` has made, and resolves with it once the server serves it. `file`: a Blob, such
     * as `await openAsBlob("tenant.db")` of `node:fs`, or a stream of bytes. Not tried again: after a lost answer `getTenant` tells.
     * Throws: 400 with the reason for any other file, 409 when the tenant is there, 503.
     * @param {Blob | ReadableStream<Uint8Array> | Uint8Array | string} file @param {CallOptions} [options] @returns {Promise<Tenant>}
     */
    importTenant(file: Blob | ReadableStream<Uint8Array> | Uint8Array | string, options?: CallOptions): Promise<Tenant>;
    /**
     * Adds an API key, which is shown this once. Not tried again after a lost answer. Throws: 404.
     * @param {string} tenantId @param {CallOptions} [options] @returns {Promise<{key_id: string, api_key: string}>}
     */
    createKey(tenantId: string, options?: CallOptions): Promise<{
        key_id: string;
        api_key: string;
    }>;
    /**
     * The tenant's API keys, without their secrets: when each was made, and last used. `limit`: 1 to 100 (50). Throws: 404.
     * @param {string} tenantId @param {Page} [page] @param {CallOptions} [options]
     * @returns {Promise<{keys: {key_id: string, created_at: string, last_used_at: string | null}[]} & More>}
     */
    listKeys(tenantId: string, page?: Page, options?: CallOptions): Promise<{
        keys: {
            key_id: string;
            created_at: string;
            last_used_at: string | null;
        }[];
    } & More>;
    /**
     * Revokes an API key at once; its connections end. Throws: 404.
     * @param {string} tenantId @param {string} keyId @param {CallOptions} [options] @returns {Promise<void>}
     */
    revokeKey(tenantId: string, keyId: string, options?: CallOptions): Promise<void>;
    /**
     * Replaces the secret that signs user tokens, and resolves with the new one, this once. All user tokens of the tenant die at
     * once. Not tried again after a lost answer. Throws: 404.
     * @param {string} tenantId @param {CallOptions} [options] @returns {Promise<{token_secret: string}>}
     */
    rotateTokenSecret(tenantId: string, options?: CallOptions): Promise<{
        token_secret: string;
    }>;
    /**
     * Replaces the secret that signs webhook calls, and resolves with the new one, this once. The old one signs along for 24 h. Not
     * tried again after a lost answer. Throws: 404.
     * @param {string} tenantId @param {CallOptions} [options] @returns {Promise<{webhook_secret: string}>}
     */
    rotateWebhookSecret(tenantId: string, options?: CallOptions): Promise<{
        webhook_secret: string;
    }>;
    /**
     * Webhook calls that failed for good, the latest first; of one tenant or of all. `limit`: 1 to 1,000 (50). Throws: 404 of an
     * unknown tenant.
     * @param {{tenant_id?: string} & Page} [page] @param {CallOptions} [options]
     * @returns {Promise<DeadLetters & More>}
     */
    listDeadLetters(page?: {
        tenant_id?: string;
    } & Page, options?: CallOptions): Promise<DeadLetters & More>;
    /**
     * Acts of operators and moderators, the oldest first; of one tenant, deleted or not, or of all. `after`: the `id` of an entry.
     * `limit`: 1 to 100 (50). Throws: 400 for a wrong `after`.
     * @param {{tenant_id?: string, after?: string, limit?: number}} [page] @param {CallOptions} [options]
     * @returns {Promise<{entries: AuditEntry[], has_more: boolean}>}
     */
    listAudit(page?: {
        tenant_id?: string;
        after?: string;
        limit?: number;
    }, options?: CallOptions): Promise<{
        entries: AuditEntry[];
        has_more: boolean;
    }>;
    /**
     * Puts a webhook call that failed for good back into the queue, by its `id`. Not tried again after a lost answer. Throws: 404,
     * 409 when the tenant has no `webhook_url`.
     * @param {string} deadLetterId @param {CallOptions} [options] @returns {Promise<{id: string}>}
     */
    retryDeadLetter(deadLetterId: string, options?: CallOptions): Promise<{
        id: string;
    }>;
    /**
     * Puts all of a tenant's dead letters back into the queue, and resolves with how many. Not tried again after a lost answer, since
     * the count would be another one. Throws: 404, 409 when the tenant has no `webhook_url`.
     * @param {string} tenantId @param {CallOptions} [options] @returns {Promise<{retried: number}>}
     */
    retryDeadLetters(tenantId: string, options?: CallOptions): Promise<{
        retried: number;
    }>;
    /**
     * For each tenant, rooms, messages, connections and what waits in its queues; and the queues of all.
     * @param {CallOptions} [options]
     * @returns {Promise<{tenants: TenantStats[], queues: Queues & {writes: number}}>}
     */
    getStats(options?: CallOptions): Promise<{
        tenants: TenantStats[];
        queues: Queues & {
            writes: number;
        };
    }>;
    /**
     * Gives free space of the server's database back to the file system, for about a second: call it until `stage` is `"done"`. It is
     * `"waiting"` while a backup, a check or a long read needs the file as it was. `database`: device and inode of its file
     * (`"64769:1310847"`). Not tried again after a lost answer. Throws: 409 for a database that cannot do it while the server runs, and
     * where the server has another one.
     * @param {{database?: string}} [query] @param {CallOptions} [options] @returns {Promise<Compacted>}
     */
    compact(query?: {
        database?: string;
    }, options?: CallOptions): Promise<Compacted>;
}
export type StreamTransport = {
    open: () => Promise<{
        message_id: string;
        stream?: StreamStatus;
    }>;
    append: (messageId: string, index: number, text: string) => Promise<Appended>;
    finish: (messageId: string, end: any) => Promise<Message>;
};
/** A message that may still be being written, kept up to date by its connection. */
export declare class GrowingMessage {
    #private;
    /** Deltas that came while it is being read again. @internal @type {ServerEvent[] | undefined} */ held: ServerEvent[] | undefined;
    /** @internal @param {Message} message */
    constructor(message: Message);
    /** The message as it now stands. @returns {Message} */
    get message(): Message;
    /** Whether it is still being written, and the connection hears of it. @returns {boolean} */
    get isOpen(): boolean;
    /** The whole text so far, at once and each time that it has grown or was replaced; ends with the stream. @returns {AsyncGenerator<string, void>} */
    text(): AsyncGenerator<string, void>;
    /**
     * Resolves with the message once it has ended: `stream.state` says how. Also when the connection was closed, or has lost the room:
     * then it is still `open`. @returns {Promise<Message>}
     */
    finished(): Promise<Message>;
    /** @internal @param {ServerEvent} event */
    apply(event: ServerEvent): void;
    /** @internal */
    lose(): void;
}
export type Request = {
    frame: ServerEvent;
    /**
     * requests of one lane are sent one after the other, so that their order survives a refusal
     */
    lane?: string;
    attempts: number;
    maxAttempts: number;
    resolve: (answer: any) => void;
    reject: (error: Error) => void;
    timer?: ReturnType<typeof setTimeout>;
    /**
     * instead of a frame, which has no space for it
     */
    http?: (signal: AbortSignal) => Promise<any>;
    /**
     * over HTTP, now
     */
    calling?: boolean;
};
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
export declare class Connection {
    #private;
    /**
     * The first `ready`; rejected when the connection ends before it.
     * @type {Promise<EventMap["ready"]>}
     */
    ready: Promise<EventMap["ready"]>;
    /** @param {ChatAPI} client @param {ConnectOptions} options */
    constructor(client: ChatAPI, { cursors, autoAck, minDelayMs, maxDelayMs, maxPending, transports }: ConnectOptions);
    /** `connecting`, `syncing` (what was missed is coming), `live`, `waiting` (for the next try), `paused`, `closed`. @returns {State} */
    get state(): State;
    /** The transport that carries the connection now, or is tried next. @returns {Transport} */
    get transport(): Transport;
    /** The client that has opened it, for calls over REST. @returns {ChatAPI} */
    get client(): ChatAPI;
    /** Why the newest try to connect failed, or what ended the connection. Undefined while there is a socket. @returns {Error | undefined} */
    get error(): Error | undefined;
    /** How far the application has come. JSON; a copy. @returns {Cursors} */
    get cursors(): Cursors;
    /** Whether the user is a member of this room, as far as the server has told; false until `ready`. @param {string} roomId @returns {boolean} */
    isMember(roomId: string): boolean;
    /** Messages that the server has not confirmed yet. */
    get unconfirmed(): number;
    /**
     * Calls `handler` for every event of this type, one event at a time. Returns what undoes it.
     * @template {keyof EventMap} K
     * @param {K} type
     * @param {(event: EventMap[K]) => unknown} handler
     * @returns {() => void}
     */
    on<K extends keyof EventMap>(type: K, handler: (event: EventMap[K]) => unknown): () => void;
    /** Every event from the server. One loop at a time. @returns {AsyncIterableIterator<ServerEvent>} */
    [Symbol.asyncIterator](): AsyncIterableIterator<ServerEvent>;
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
    send(roomId: string, message: string | NewMessage): Promise<Sent>;
    /**
     * As `stream` of the client, over this connection: it goes on after each reconnect, however long that takes, and hears at once of a
     * member who wants it to end. Rejects with `CLOSED`, too: then the stream is `cancelled`.
     * @param {string} roomId @param {Chunks} chunks @param {StreamedMessage} [message] @param {{signal?: AbortSignal}} [options]
     * @returns {Promise<Message>}
     */
    stream(roomId: string, chunks: Chunks, message?: StreamedMessage, { signal }?: {
        signal?: AbortSignal;
    }): Promise<Message>;
    /**
     * Asks the sender of a stream to end it, who decides. For all who may post. Rejects: 409 when it has ended, 403, 404; `CLOSED`.
     * @param {string} roomId @param {string} messageId @returns {Promise<void>}
     */
    cancel(roomId: string, messageId: string): Promise<void>;
    /**
     * A message of an event, or one that was read, which grows from now on as long as it is being written:
     * `for await (const text of connection.follow(event).text())` gives the whole text so far, each time.
     * @param {Message | EventMap["message"]} message @returns {GrowingMessage}
     */
    follow(message: Message | EventMap["message"]): GrowingMessage;
    /**
     * Changes a message, in order with the other messages, edits and deletions of the room. Tried again after an interruption, so
     * that the room's log may then hold the same edit twice. One that is too long for a frame goes over HTTP: then the
     * answer's `seq` is the message's own. Bounds as in `send`; `meta`, `mentions` and `mention_room` stay when they are absent,
     * `null` clears them. Rejects: 403 for all but its sender, 404, also of a deleted message; `CLOSED`.
     * @param {string} roomId @param {string} messageId @param {string | Revision} change
     * @returns {Promise<EventMap["message.edited"]>}
     */
    edit(roomId: string, messageId: string, change: string | Revision): Promise<EventMap["message.edited"]>;
    /**
     * Deletes a message's content and leaves a tombstone, in order with the other messages, edits and deletions of the room. Rejects:
     * 403 for all but its sender and the room's admins, 404; `CLOSED`.
     * @param {string} roomId @param {string} messageId @returns {Promise<EventMap["message.deleted"]>}
     */
    delete(roomId: string, messageId: string): Promise<EventMap["message.deleted"]>;
    /**
     * Reacts to a message, in order with the messages, edits and deletions of the room. `emoji`: 1 to 64 bytes of UTF-8 without white
     * space and control characters, kept byte for byte. The event has no `seq` if the user had reacted so already. Rejects: 409 for
     * more than 20 emoji of the user, or 50 of all, on one message; 400, 403 for those who are not members, 404, also of a deleted
     * message; `CLOSED`.
     * @param {string} roomId @param {string} messageId @param {string} emoji @returns {Promise<EventMap["reaction.added"]>}
     */
    react(roomId: string, messageId: string, emoji: string): Promise<EventMap["reaction.added"]>;
    /**
     * Takes a reaction of the user back, in the same order. The event has no `seq` if there was none. Rejects: 400, 403, 404; `CLOSED`.
     * @param {string} roomId @param {string} messageId @param {string} emoji @returns {Promise<EventMap["reaction.removed"]>}
     */
    unreact(roomId: string, messageId: string, emoji: string): Promise<EventMap["reaction.removed"]>;
    /**
     * Marks the room as read up to `seq`, which acknowledges as far; a lower one than before changes nothing. Resolves with where the
     * user now stands. Rejects: 400 above the room's newest event, 403, 404; `CLOSED`.
     * @param {string} roomId @param {number} seq @returns {Promise<EventMap["read.updated"]>}
     */
    read(roomId: string, seq: number): Promise<EventMap["read.updated"]>;
    /**
     * Acknowledges the room's events up to `seq`, for those who set `autoAck` to false. Resolves with where the user now stands.
     * Rejects: 400 above the room's newest event, 403, 404; `CLOSED`.
     * @param {string} roomId @param {number} seq @returns {Promise<EventMap["ack.received"]>}
     */
    ack(roomId: string, seq: number): Promise<EventMap["ack.received"]>;
    /** Acknowledges a notification, for those who set `autoAck` to false. Sent soon. @param {string} notificationId */
    ackNotification(notificationId: string): void;
    /** Tells the others that the user is typing; call it on every key. Lost when offline. @param {string} roomId @param {boolean} [active] */
    typing(roomId: string, active?: boolean): void;
    /**
     * Receives a channel's events without joining it, from now on and across reconnects. A channel that this connection, or its
     * `cursors`, knows already is caught up first. Rejects: 403 when it is not a channel, 404; `CLOSED`.
     * @param {string} roomId
     * @returns {Promise<{room_id: string, last_seq: number}>}
     */
    subscribe(roomId: string): Promise<{
        room_id: string;
        last_seq: number;
    }>;
    /** Receives no more of this room on this connection. Rejects: 404; `CLOSED`. @param {string} roomId @returns {Promise<{room_id: string}>} */
    unsubscribe(roomId: string): Promise<{
        room_id: string;
    }>;
    /** Milliseconds to the server and back. Rejects with `CLOSED`. @returns {Promise<number>} */
    ping(): Promise<number>;
    /** Drops the connection until `resume`; frames sent meanwhile wait. */
    pause(): void;
    /** Connects again after `pause`, and at once where the connection waits for its next try. */
    resume(): void;
    /** Ends the connection: acknowledges what was handled, and refuses what waits for an answer with `CLOSED`. */
    close(): void;
}
export {};
