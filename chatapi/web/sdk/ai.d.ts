import type { ChatTransport, UIMessage, UIMessageChunk } from "ai";
import type { ChatAPI, Connection, Message } from "./chatapi.js";
export type RoomUIMessage = UIMessage<RoomMetadata>;
export type Chunk = UIMessageChunk<RoomMetadata>;
export type RoomMetadata = {
    message_id: string;
    seq: number;
    sender_id: string;
    created_at: string;
    meta: Record<string, unknown> | null;
    state?: "open" | "done" | "cancelled" | "failed";
};
export type RoomChatOptions = {
    /**
     * acts as the user who asks
     */
    client: ChatAPI;
    /**
     * the room of a chat; without it the chat's `id` is the room's
     */
    roomId?: string | ((chatId: string) => string);
    /**
     * the user whose answers are taken, or several. A question mentions them, which is how an agent in
     * a group knows that it is asked. Without it an answer may come from anybody else
     */
    agent?: string | string[];
    /**
     * of the same client; without it the transport opens one when it needs one
     */
    connection?: Connection;
    /**
     * from the moment that a question is stored until its answer begins (60,000); `Infinity` has no end
     */
    answerTimeoutMs?: number;
};
/** @implements {ChatTransport<UIMessage>} */
export declare class RoomChatTransport implements ChatTransport<UIMessage> {
    #private;
    /** A resumed answer comes from its beginning. @readonly */
    readonly resumeStreamIsReplay = true;
    /** @param {RoomChatOptions} options */
    constructor({ client, roomId, agent, connection, answerTimeoutMs }: RoomChatOptions);
    /**
     * Sends the text of the user's last message into the room, with the fields of `body` (`meta`, `thread_id`, `mentions`, …), and gives the
     * answer. The message's id is its `client_message_id`: nothing is sent twice, and a question that has its answer already is given that.
     * The same id with another text, which is an edit, is sent as a new message. `regenerate-message` gives the answer to the question
     * if it is still being written, and sends the question once more if that has ended. Aborting asks the agent to stop; before the answer has begun, as soon as it begins.
     *
     * The chunks end with `finish`, `abort` (cancelled, or deleted) or `error` (failed; the text is `meta.error`). The stream breaks with the
     * server's refusal of the message, `TIMEOUT` without an answer, `CLOSED` when the connection ends, `NOT_FOUND` when the room does.
     * Rejects with TypeError for a message that has no text, or files, which a room does not take.
     * @param {Parameters<ChatTransport<UIMessage>["sendMessages"]>[0]} options
     * @returns {Promise<ReadableStream<Chunk>>}
     */
    sendMessages({ trigger, chatId, messages, body, abortSignal }: Parameters<ChatTransport<UIMessage>["sendMessages"]>[0]): Promise<ReadableStream<Chunk>>;
    /**
     * The answer that is being written in the room, from its beginning, or null: the newest of those among the newest 100 messages. Aborting
     * asks the agent to stop; while it is still looked for, nobody.
     * @param {{chatId: string, abortSignal?: AbortSignal}} options
     * @returns {Promise<ReadableStream<Chunk> | null>}
     */
    reconnectToStream({ chatId, abortSignal }: {
        chatId: string;
        abortSignal?: AbortSignal;
    }): Promise<ReadableStream<Chunk> | null>;
    /**
     * A page of the room's history for `useChat({ messages })`, the newest one or that before `before_seq`; `limit`: 1 to 100 (50).
     * @param {string} chatId @param {{before_seq?: number, limit?: number}} [page]
     * @returns {Promise<RoomUIMessage[]>}
     */
    history(chatId: string, page?: {
        before_seq?: number;
        limit?: number;
    }): Promise<RoomUIMessage[]>;
    /** Ends the connection, unless it was given. */
    close(): void;
}
/**
 * Messages of a room for `useChat({ messages })`, in their order. Those of `agent` (one user, or several) have the role `assistant`; without it
 * all streams of others than `userId`. Everything else has the role `user`: `metadata.sender_id` says whose it is. Deleted messages are left out.
 * A message of `userId` has its `client_message_id` as its id, which is what `useChat` called it when it was sent.
 * @param {Message[]} messages @param {{userId: string, agent?: string | string[]}} who
 * @returns {RoomUIMessage[]}
 */
export declare function toUIMessages(messages: Message[], { userId, agent }: {
    userId: string;
    agent?: string | string[];
}): RoomUIMessage[];
