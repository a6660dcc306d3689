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
     * when it throws, takes more than 10 s, or returns what is no token, a connection asks again
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
};
export type CallOptions = {
    signal?: AbortSignal;
    retries?: number;
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
export type Room = {
    room_id: string;
    type: RoomType;
    unique_key: string | null;
    name: string | null;
    metadata: Json | null;
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
    unread_count: number;
    last_message: Message | null;
};
export type Message = {
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
};
export type Member = {
    user_id: string;
    role: Role;
    joined_at: string;
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
};
export type Sent = {
    room_id: string;
    message_id: string;
    seq: number;
    client_message_id: string | null;
    created_at: string;
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
};
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
        }[];
    };
    "message": Message & {
        type: "message";
    };
    "message.edited": Message & {
        type: "message.edited";
        target_seq: number;
    };
    "message.deleted": {
        type: "message.deleted";
        room_id: string;
        message_id: string;
        seq: number;
        target_seq: number;
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
    "member.joined": {
        type: "member.joined";
        room_id: string;
        user_id: string;
        role: Role;
        seq: number;
    };
    "member.updated": {
        type: "member.updated";
        room_id: string;
        user_id: string;
        role: Role;
        seq: number;
    };
    "member.left": {
        type: "member.left";
        room_id: string;
        user_id: string;
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
export type Shape = Record<string, "string" | "number" | "boolean" | "array" | "object">;
/**
 * Whether an event takes a number in its room's log: then `room_id` and `seq` are its place there. A newer server has types of
 * these that are not known here.
 * @param {ServerEvent} event
 * @returns {boolean}
 */
export declare function isLogEvent(event: ServerEvent): boolean;
/**
 * What the server refused, or what kept it from being asked. `code` is one of the server's codes, or one of this library's,
 * whose `status` is 0: `NETWORK_ERROR` (no answer), `TIMEOUT`, `CLOSED` (the connection was closed before the answer),
 * `NOT_CHATAPI` (something else answered, such as a proxy with a page of its own, whose status is
 * `details.http_status`; whether the server has done what it was asked is not known), `NO_TOKEN` (`getToken` failed,
 * `cause` is how, or returned what is no token; nothing was sent).
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
export declare class ChatAPI {
    #private;
    /** @param {ClientOptions} options */
    constructor(options: ClientOptions);
    /** The same tenant as another user; with an API key only. @param {string} userId @returns {ChatAPI} */
    asUser(userId: string): ChatAPI;
    /**
     * A connection, which begins at once and keeps itself alive until it is closed.
     * @param {ConnectOptions} [options]
     * @returns {Connection}
     */
    connect(options?: ConnectOptions): Connection;
    /** @param {{type: RoomType, members?: string[], name?: string | null, metadata?: Json | null}} room @param {CallOptions} [options] @returns {Promise<Room>} */
    createRoom(room: {
        type: RoomType;
        members?: string[];
        name?: string | null;
        metadata?: Json | null;
    }, options?: CallOptions): Promise<Room>;
    /** The caller's rooms, the most recently active first. @param {Page} [page] @param {CallOptions} [options] @returns {Promise<{rooms: (Room & Standing)[]} & More>} */
    listRooms(page?: Page, options?: CallOptions): Promise<{
        rooms: (Room & Standing)[];
    } & More>;
    /** The tenant's channels. @param {Page} [page] @param {CallOptions} [options] @returns {Promise<{rooms: Room[]} & More>} */
    listChannels(page?: Page, options?: CallOptions): Promise<{
        rooms: Room[];
    } & More>;
    /** @param {string} roomId @param {CallOptions} [options] @returns {Promise<Room>} */
    getRoom(roomId: string, options?: CallOptions): Promise<Room>;
    /** Absent fields stay, `null` clears. @param {string} roomId @param {{name?: string | null, metadata?: Json | null}} change @param {CallOptions} [options] @returns {Promise<Room>} */
    updateRoom(roomId: string, change: {
        name?: string | null;
        metadata?: Json | null;
    }, options?: CallOptions): Promise<Room>;
    /** Removes everything in it. @param {string} roomId @param {CallOptions} [options] @returns {Promise<void>} */
    deleteRoom(roomId: string, options?: CallOptions): Promise<void>;
    /** @param {string} roomId @param {Page} [page] @param {CallOptions} [options] @returns {Promise<{members: Member[]} & More>} */
    listMembers(roomId: string, page?: Page, options?: CallOptions): Promise<{
        members: Member[];
    } & More>;
    /** @param {string} roomId @param {string} userId @param {{role?: Role}} [more] @param {CallOptions} [options] @returns {Promise<Member>} */
    addMember(roomId: string, userId: string, more?: {
        role?: Role;
    }, options?: CallOptions): Promise<Member>;
    /** @param {string} roomId @param {string} userId @param {{role: Role}} change @param {CallOptions} [options] @returns {Promise<Member>} */
    updateMember(roomId: string, userId: string, change: {
        role: Role;
    }, options?: CallOptions): Promise<Member>;
    /** @param {string} roomId @param {string} userId @param {CallOptions} [options] @returns {Promise<void>} */
    removeMember(roomId: string, userId: string, options?: CallOptions): Promise<void>;
    /**
     * Stores a message once, however often the call has to be tried: a `client_message_id` is made where none is given.
     * @param {string} roomId @param {string | NewMessage} message @param {CallOptions} [options] @returns {Promise<Message>}
     */
    sendMessage(roomId: string, message: string | NewMessage, options?: CallOptions): Promise<Message>;
    /** Ascending by `seq`; without a bound the newest page. @param {string} roomId @param {{after_seq?: number, before_seq?: number, limit?: number}} [page] @param {CallOptions} [options] @returns {Promise<{messages: Message[], has_more: boolean}>} */
    listMessages(roomId: string, page?: {
        after_seq?: number;
        before_seq?: number;
        limit?: number;
    }, options?: CallOptions): Promise<{
        messages: Message[];
        has_more: boolean;
    }>;
    /** @param {string} roomId @param {string} messageId @param {CallOptions} [options] @returns {Promise<Message>} */
    getMessage(roomId: string, messageId: string, options?: CallOptions): Promise<Message>;
    /** @param {string} roomId @param {string} messageId @param {string | {content: string, meta?: Json | null}} change @param {CallOptions} [options] @returns {Promise<Message>} */
    editMessage(roomId: string, messageId: string, change: string | {
        content: string;
        meta?: Json | null;
    }, options?: CallOptions): Promise<Message>;
    /** @param {string} roomId @param {string} messageId @param {CallOptions} [options] @returns {Promise<void>} */
    deleteMessage(roomId: string, messageId: string, options?: CallOptions): Promise<void>;
    /** The room's log: messages, edits, deletions, membership and room changes. @param {string} roomId @param {{after_seq?: number, limit?: number}} [page] @param {CallOptions} [options] @returns {Promise<{events: ServerEvent[], has_more: boolean}>} */
    listEvents(roomId: string, page?: {
        after_seq?: number;
        limit?: number;
    }, options?: CallOptions): Promise<{
        events: ServerEvent[];
        has_more: boolean;
    }>;
    /** @param {string} roomId @param {number} seq @param {CallOptions} [options] @returns {Promise<{room_id: string, seq: number}>} */
    markRead(roomId: string, seq: number, options?: CallOptions): Promise<{
        room_id: string;
        seq: number;
    }>;
    /** @param {string} roomId @param {number} seq @param {CallOptions} [options] @returns {Promise<{room_id: string, seq: number}>} */
    ack(roomId: string, seq: number, options?: CallOptions): Promise<{
        room_id: string;
        seq: number;
    }>;
    /**
     * As `ack`, for many rooms, each judged on its own: how each now stands, and why not.
     * @param {Record<string, number>} seqs by room
     * @param {CallOptions} [options]
     * @returns {Promise<{rooms: Record<string, number>, errors: Record<string, {code: string, message: string}>}>}
     */
    ackRooms(seqs: Record<string, number>, options?: CallOptions): Promise<{
        rooms: Record<string, number>;
        errors: Record<string, {
            code: string;
            message: string;
        }>;
    }>;
    /** @param {string} roomId @param {Page} [page] @param {CallOptions} [options] @returns {Promise<{receipts: Receipt[]} & More>} */
    listReceipts(roomId: string, page?: Page, options?: CallOptions): Promise<{
        receipts: Receipt[];
    } & More>;
    /** Who of the room is online. @param {string} roomId @param {CallOptions} [options] @returns {Promise<{online: string[]}>} */
    getPresence(roomId: string, options?: CallOptions): Promise<{
        online: string[];
    }>;
    /** With an API key only. Not tried again after a lost answer, as it could then arrive twice. @param {{topic: string, payload: unknown, targets: {user_ids?: string[], room_id?: string, topic_subscribers?: boolean}}} notification @param {CallOptions} [options] @returns {Promise<{notification_id: string, created_at: string, recipients: number}>} */
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
    /** @param {{status?: "pending" | "delivered" | "all", limit?: number, offset?: number, cursor?: string}} [page] @param {CallOptions} [options] @returns {Promise<{notifications: Notification[]} & More>} */
    listNotifications(page?: {
        status?: "pending" | "delivered" | "all";
        limit?: number;
        offset?: number;
        cursor?: string;
    }, options?: CallOptions): Promise<{
        notifications: Notification[];
    } & More>;
    /** @param {string} notificationId @param {CallOptions} [options] @returns {Promise<Json>} */
    ackNotification(notificationId: string, options?: CallOptions): Promise<Json>;
    /** @param {string} topic @param {CallOptions} [options] @returns {Promise<Subscription>} */
    subscribeTopic(topic: string, options?: CallOptions): Promise<Subscription>;
    /** @param {Page} [page] @param {CallOptions} [options] @returns {Promise<{subscriptions: Subscription[]} & More>} */
    listSubscriptions(page?: Page, options?: CallOptions): Promise<{
        subscriptions: Subscription[];
    } & More>;
    /** @param {string} subscriptionId @param {CallOptions} [options] @returns {Promise<void>} */
    unsubscribeTopic(subscriptionId: string, options?: CallOptions): Promise<void>;
    /** A user token, for a page or an app; with an API key only. @param {{user_id?: string, expires_in?: number}} [token] @param {CallOptions} [options] @returns {Promise<{token: string, user_id: string, expires_at: string}>} */
    createToken(token?: {
        user_id?: string;
        expires_in?: number;
    }, options?: CallOptions): Promise<{
        token: string;
        user_id: string;
        expires_at: string;
    }>;
    /** A ticket for one WebSocket, good for a minute. @param {CallOptions} [options] @returns {Promise<{token: string, expires_in: number}>} */
    createTicket(options?: CallOptions): Promise<{
        token: string;
        expires_in: number;
    }>;
    /** @param {CallOptions} [options] @returns {Promise<{status: string, service: string, version: string, uptime: string, uptime_seconds: number, db_writable: boolean}>} */
    health(options?: CallOptions): Promise<{
        status: string;
        service: string;
        version: string;
        uptime: string;
        uptime_seconds: number;
        db_writable: boolean;
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
     * instead of a frame, which has no room for it
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
 * @property {(signal: AbortSignal) => Promise<any>} [http] instead of a frame, which has no room for it
 * @property {boolean} [calling] over HTTP, now
 */
/**
 * One user's live connection. It comes back by itself, continues where it stopped, and gives the caller each event
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
    constructor(client: ChatAPI, { cursors, autoAck, minDelayMs, maxDelayMs, maxPending }: ConnectOptions);
    get state(): State;
    /** Why the newest try to connect failed, or what ended the connection. Undefined while there is a socket. @returns {Error | undefined} */
    get error(): Error | undefined;
    /** How far the caller has come. JSON; a copy. @returns {Cursors} */
    get cursors(): Cursors;
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
     * @param {string} roomId
     * @param {string | NewMessage} message
     * @returns {Promise<Sent>}
     */
    send(roomId: string, message: string | NewMessage): Promise<Sent>;
    /**
     * Changes a message, in order with the other messages, edits and deletions of the room. Tried again after an interruption, so
     * that the room's log may then hold the same edit twice. One that is too long for a frame goes over HTTP: then the
     * answer's `seq` is the message's own.
     * @param {string} roomId @param {string} messageId @param {string | {content: string, meta?: Json | null}} change
     * @returns {Promise<EventMap["message.edited"]>}
     */
    edit(roomId: string, messageId: string, change: string | {
        content: string;
        meta?: Json | null;
    }): Promise<EventMap["message.edited"]>;
    /** @param {string} roomId @param {string} messageId @returns {Promise<EventMap["message.deleted"]>} */
    delete(roomId: string, messageId: string): Promise<EventMap["message.deleted"]>;
    /** Marks as read up to `seq`. @param {string} roomId @param {number} seq @returns {Promise<EventMap["read.updated"]>} */
    read(roomId: string, seq: number): Promise<EventMap["read.updated"]>;
    /** For those who set `autoAck` to false. @param {string} roomId @param {number} seq @returns {Promise<EventMap["ack.received"]>} */
    ack(roomId: string, seq: number): Promise<EventMap["ack.received"]>;
    /** For those who set `autoAck` to false. @param {string} notificationId */
    ackNotification(notificationId: string): void;
    /** Tells the others that the user is typing; call it on every key. Lost when offline. @param {string} roomId @param {boolean} [active] */
    typing(roomId: string, active?: boolean): void;
    /**
     * Receives a channel's events without joining it, from now on and across reconnects. A channel that this connection, or its
     * `cursors`, knows already is caught up first.
     * @param {string} roomId
     * @returns {Promise<{room_id: string, last_seq: number}>}
     */
    subscribe(roomId: string): Promise<{
        room_id: string;
        last_seq: number;
    }>;
    /** Receives no more of this room on this connection. @param {string} roomId @returns {Promise<{room_id: string}>} */
    unsubscribe(roomId: string): Promise<{
        room_id: string;
    }>;
    /** Milliseconds to the server and back. @returns {Promise<number>} */
    ping(): Promise<number>;
    /** Drops the connection until `resume`; what is sent meanwhile waits. */
    pause(): void;
    /** Connects again after `pause`, and at once where the connection waits for its next try. */
    resume(): void;
    /** Ends the connection: acknowledges what was handled, and refuses what waits for an answer with `CLOSED`. */
    close(): void;
}
