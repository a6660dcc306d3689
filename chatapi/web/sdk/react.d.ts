import type { ChatAPI, Connection, EventMap, Message, NewMessage, Revision, Room, Sent, State } from "./chatapi.js";
import type { ReactElement, ReactNode } from "react";
export type SentMessage = Message & {
    key: string;
    status: "sent";
};
export type UnsentMessage = {
    key: string;
    status: "sending" | "failed";
    error?: Error;
    message_id: null;
    seq: null;
    room_id: string;
    sender_id: string;
    content: string;
    meta: Record<string, unknown> | null;
    reply_to: string | null;
    client_message_id: string;
    created_at: string;
    edited_at: null;
    deleted_at: null;
    thread_id?: string;
    mentions?: string[];
    mention_room?: boolean;
    stream?: undefined;
    reactions?: undefined;
    pinned_at?: undefined;
    thread?: undefined;
};
export type RoomMessage = SentMessage | UnsentMessage;
export type MessagesOptions = {
    /**
     * only the replies to this message; messages that are sent become replies to it
     */
    threadId?: string;
    /**
     * all but replies
     */
    topLevel?: boolean;
    /**
     * messages of a page, 1 to 100 (50)
     */
    pageSize?: number;
};
export type MessagesState = {
    /**
     * in the room's order, those that are not confirmed last; each stays the same object until it changes
     */
    messages: readonly RoomMessage[];
    /**
     * the first page, or another newest page in place of what is shown
     */
    isLoading: boolean;
    isLoadingOlder: boolean;
    isLoadingNewer: boolean;
    hasOlder: boolean;
    /**
     * older pages have pushed the newest messages out: `loadNewer` and `showNewest` lead back
     */
    hasNewer: boolean;
    /**
     * why the last page could not be read, or why the room is not shown any more
     */
    error: Error | undefined;
};
export type MessagesActions = {
    /**
     * resolves when the page is there, or `error` says why it is not
     */
    loadOlder: () => Promise<void>;
    loadNewer: () => Promise<void>;
    showNewest: () => Promise<void>;
    /**
     * shows the message at once. You need not wait for the promise: a
     * refusal is in the list, as `failed`. Rejects with RangeError, and shows nothing, while 500 messages of the room are unsent
     */
    send: (message: string | NewMessage) => Promise<Sent>;
    /**
     * sends a failed message again; it is stored once in any case
     */
    retry: (key: string) => Promise<Sent | undefined>;
    /**
     * drops a failed message; false when it is not failed
     */
    discard: (key: string) => boolean;
    edit: (messageId: string, change: string | Revision) => Promise<EventMap["message.edited"]>;
    remove: (messageId: string) => Promise<EventMap["message.deleted"]>;
    react: (messageId: string, emoji: string) => Promise<EventMap["reaction.added"]>;
    unreact: (messageId: string, emoji: string) => Promise<EventMap["reaction.removed"]>;
};
export type RoomShown = {
    room: Room | undefined;
    isLoading: boolean;
    error: Error | undefined;
};
export type PresenceShown = {
    online: readonly string[];
    isLoading: boolean;
    error: Error | undefined;
};
export type UnreadShown = {
    count: number;
    mentions: number;
    lastRead: number;
};
export type ConnectionShown = {
    connection: Connection | undefined;
    state: State;
    error: Error | undefined;
    userId: string;
};
export type Unsent = {
    fields: NewMessage & {
        client_message_id: string;
    };
    createdAt: string;
    error?: Error;
    item?: UnsentMessage;
};
export type Reading = {
    shown: UnreadShown;
    lastSeq: number;
};
/**
 * Gives the hooks below it their connection. With `client` it opens one when it is mounted, one for all providers of that client, and closes
 * it a second after the last of them has gone; make the client once, outside of components. A `connection` that is given stays yours: it is neither
 * opened nor closed.
 * @param {{client: ChatAPI, connection?: undefined, children?: ReactNode} | {connection: Connection, client?: undefined, children?: ReactNode}} props
 * @returns {ReactElement}
 */
export declare function ChatAPIProvider({ client, connection, children }: {
    client: ChatAPI;
    connection?: undefined;
    children?: ReactNode;
} | {
    connection: Connection;
    client?: undefined;
    children?: ReactNode;
}): ReactElement;
/**
 * The connection and how it stands, for a line such as "reconnecting …" and for all that has no hook. On the server, and before the first
 * effect, `connection` is undefined.
 * @returns {ConnectionShown}
 */
export declare function useConnection(): ConnectionShown;
/**
 * A room, with its changes. `error` is the server's refusal, or `NOT_FOUND` once it was deleted. `roomId` may be null while none is chosen.
 * @param {string | null | undefined} roomId
 * @returns {RoomShown}
 */
export declare function useRoom(roomId: string | null | undefined): RoomShown;
/**
 * A room's messages as they now stand, with edits, deletions, reactions and streams that grow, and what is not confirmed yet. The newest
 * page first; `loadOlder` adds the page before. At most 500 messages are held.
 * @param {string | null | undefined} roomId null while none is chosen
 * @param {MessagesOptions} [options]
 * @returns {MessagesState & MessagesActions}
 */
export declare function useMessages(roomId: string | null | undefined, { threadId, topLevel, pageSize }?: MessagesOptions): MessagesState & MessagesActions;
/**
 * The ids of the room's members who are online, sorted. In rooms of more than 200 members the server tells no changes: there it is
 * as it was at the last connect.
 * @param {string | null | undefined} roomId
 * @returns {PresenceShown}
 */
export declare function usePresence(roomId: string | null | undefined): PresenceShown;
/**
 * The users who type in the room, without this one. Call `setTyping()` on every key, and `setTyping(false)` when the draft is given up.
 * @param {string | null | undefined} roomId
 * @returns {{typists: readonly string[], setTyping: (isTyping?: boolean) => void}}
 */
export declare function useTyping(roomId: string | null | undefined): {
    typists: readonly string[];
    setTyping: (isTyping?: boolean) => void;
};
/**
 * How many messages of others, and how many mentions, the user has not read in a room, each counted to 1,000; without a room, in all of them. Of the
 * 1,000 rooms with the newest activity. `markRead()` marks the room as read to its newest event, or to the `seq` that is given.
 * @param {string | null} [roomId] null while none is chosen
 * @returns {UnreadShown & {markRead: (seq?: number) => Promise<void>}}
 */
export declare function useUnread(roomId?: string | null): UnreadShown & {
    markRead: (seq?: number) => Promise<void>;
};
