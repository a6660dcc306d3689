/**
 * `useChat` of the Vercel AI SDK over a room: a `ChatTransport` for the package `ai`, of which this file needs the types alone.
 *
 *     const transport = new RoomChatTransport({ client: chat, agent: "assistant" });
 *     const { messages, sendMessage, stop } = useChat({ id: roomId, messages: await transport.history(roomId), transport, resume: true });
 *
 * A question of the user becomes a message of the room. The answer is the next stream that replies to it, whoever writes that: it is in
 * the room for everybody, and goes on without this page.
 */
import { ChatAPIError } from "./chatapi.js";

/** @import { ChatTransport, UIMessage, UIMessageChunk } from "ai" */
/** @import { ChatAPI, Connection, GrowingMessage, Message, MessageFields } from "./chatapi.js" */

/** @typedef {UIMessage<RoomMetadata>} RoomUIMessage */
/** @typedef {UIMessageChunk<RoomMetadata>} Chunk */

/**
 * The `metadata` of a `UIMessage`, as the room knows it. `state` is there for a message that is, or was, a stream.
 * @typedef {{message_id: string, seq: number, sender_id: string, created_at: string, meta: Record<string, unknown> | null, state?: "open" | "done" | "cancelled" | "failed"}} RoomMetadata
 */

/**
 * @typedef {object} RoomChatOptions
 * @property {ChatAPI} client acts as the user who asks
 * @property {string | ((chatId: string) => string)} [roomId] the room of a chat; without it the chat's `id` is the room's
 * @property {string | string[]} [agent] the user whose answers are taken, or several. A question mentions them, which is how an agent in
 *   a group knows that it is asked. Without it an answer may come from anybody else
 * @property {Connection} [connection] of the same client; without it the transport opens one when it needs one
 * @property {number} [answerTimeoutMs] from the moment that a question is stored until its answer begins (60,000); `Infinity` has no end
 */

const MAX_TIMER_MS = 2 ** 31 - 1; // a longer one fires at once
const PAGE = 100;
const SEARCHED_PAGES = 10; // behind a question that was asked before, for its answer

/** @implements {ChatTransport<UIMessage>} */
export class RoomChatTransport {
  /** A resumed answer comes from its beginning. @readonly */
  resumeStreamIsReplay = true;

  #client;
  #roomOf;
  /** @type {string[] | undefined} */ #agents;
  #answerTimeoutMs;
  #given;
  /** @type {Connection | undefined} */ #own;
  /** Answers that were just left, by room. @type {Map<string, ReturnType<typeof setTimeout>>} */ #leaving = new Map();

  /** @param {RoomChatOptions} options */
  constructor({ client, roomId, agent, connection, answerTimeoutMs = 60_000 }) {
    this.#client = client;
    this.#roomOf = typeof roomId === "function" ? roomId : (/** @type {string} */ chatId) => roomId ?? chatId;
    this.#agents = agent === undefined ? undefined : [agent].flat();
    this.#given = connection;
    this.#answerTimeoutMs = answerTimeoutMs;
  }

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
  async sendMessages({ trigger, chatId, messages, body, abortSignal }) {
    const { id, text } = questionOf(messages, trigger);
    abortSignal?.throwIfAborted();
    const roomId = this.#roomOf(chatId);
    const fields = { mentions: this.#agents, ...body, content: text };
    return this.#read(roomId, this.#ask(roomId, id, fields, trigger === "regenerate-message"), abortSignal);
  }

  /**
   * The answer that is being written in the room, from its beginning, or null: the newest of those among the newest 100 messages. Aborting
   * asks the agent to stop; while it is still looked for, nobody.
   * @param {{chatId: string, abortSignal?: AbortSignal}} options
   * @returns {Promise<ReadableStream<Chunk> | null>}
   */
  async reconnectToStream({ chatId, abortSignal }) {
    const roomId = this.#roomOf(chatId);
    clearTimeout(this.#leaving.get(roomId)); // `useChat` drops an answer to resume it: nobody wants that to end
    const growing = await unlessAborted(this.#findOpen(roomId), abortSignal);
    return growing ? this.#read(roomId, Promise.resolve(growing), abortSignal) : null;
  }

  /**
   * A page of the room's history for `useChat({ messages })`, the newest one or that before `before_seq`; `limit`: 1 to 100 (50).
   * @param {string} chatId @param {{before_seq?: number, limit?: number}} [page]
   * @returns {Promise<RoomUIMessage[]>}
   */
  async history(chatId, page) {
    const [{ user_id: userId }, { messages }] = await Promise.all([this.#connect().ready, this.#client.listMessages(this.#roomOf(chatId), page)]);
    return toUIMessages(messages, { userId, agent: this.#agents });
  }

  /** Ends the connection, unless it was given. */
  close() {
    this.#own?.close();
    this.#own = undefined;
  }

  /** @returns {Connection} */
  #connect() {
    if (this.#given) return this.#given;
    if (!this.#own || this.#own.state === "closed") {
      this.#own = this.#client.connect();
      this.#own.on("*", () => {}); // its events are handled, and acknowledged, between the answers too
    }
    return this.#own;
  }

  /** @param {MessageFields} message @param {string} userId */
  #isAnswer(message, userId) {
    return message.stream !== undefined && (this.#agents ? this.#agents.includes(message.sender_id) : message.sender_id !== userId);
  }

  /** @param {string} roomId @param {string | undefined} id @param {{content: string}} fields @param {boolean} isRepeated @returns {Promise<GrowingMessage>} */
  async #ask(roomId, id, fields, isRepeated) {
    const connection = this.#connect();
    const { user_id: userId } = await connection.ready;
    const handled = connection.cursors.rooms[roomId];
    const watch = new AnswerWatch(connection, roomId, (message) => this.#isAnswer(message, userId));
    try {
      const sent = await connection.send(roomId, { ...fields, client_message_id: id }).catch((error) => {
        if (error.status !== 409) throw error;
        return connection.send(roomId, fields);
      });
      const begun = watch.answerTo(sent.message_id, this.#answerTimeoutMs); // also while one is looked for
      // The connection gives everything behind `handled`. A question from before that may have its answer already.
      if (watch.isLate || handled === undefined || sent.seq <= handled) {
        const answer = await this.#findAnswer(roomId, sent, userId);
        if (answer && (isWanted(answer) || !isRepeated)) return connection.follow(answer);
        if (answer) return await this.#ask(roomId, undefined, fields, false); // under no id it is a new message
      }
      return await begun;
    } finally {
      watch.end();
    }
  }

  /** The first that is still being written, or the first. @param {string} roomId @param {{message_id: string, seq: number}} question @param {string} userId */
  async #findAnswer(roomId, question, userId) {
    let [seq, found] = [question.seq, /** @type {Message | undefined} */ (undefined)];
    for (let page = 0; page < SEARCHED_PAGES; page++) {
      const { messages, has_more: hasMore } = await this.#client.listMessages(roomId, { after_seq: seq, limit: PAGE });
      const answers = messages.filter((message) => message.reply_to === question.message_id && this.#isAnswer(message, userId));
      const open = answers.find(isWanted);
      if (open) return open;
      found ??= answers[0];
      if (!hasMore) break;
      seq = messages[messages.length - 1].seq;
    }
    return found;
  }

  /** @param {string} roomId */
  async #findOpen(roomId) {
    const connection = this.#connect();
    const { user_id: userId } = await connection.ready;
    const { messages } = await this.#client.listMessages(roomId, { limit: PAGE });
    const open = messages.reverse().find((message) => message.stream?.state === "open" && this.#isAnswer(message, userId));
    return open && connection.follow(open);
  }

  /** @param {string} roomId @param {Promise<GrowingMessage>} opened @param {AbortSignal} [signal] @returns {ReadableStream<Chunk>} */
  #read(roomId, opened, signal) {
    const reader = new AnswerReader(opened, this.#connect());
    const chunks = reader.read();
    const abort = () => {
      this.#cancelSoon(roomId, opened);
      reader.leave();
    };
    const end = () => signal?.removeEventListener("abort", abort);
    signal?.addEventListener("abort", abort, { once: true });
    if (signal?.aborted) abort();
    return new ReadableStream({
      async pull(controller) {
        const step = await chunks.next().catch((error) => { end(); throw error; });
        if (!step.done) return controller.enqueue(step.value);
        end();
        controller.close();
      },
      cancel() {
        end();
        reader.leave();
      },
    }, { highWaterMark: 0 }); // a slow reader gets fewer and longer deltas
  }

  /** Unless the answer is resumed at once. Over HTTP, since the connection may be closed next. @param {string} roomId @param {Promise<GrowingMessage>} opened */
  #cancelSoon(roomId, opened) {
    const timer = setTimeout(async () => {
      if (this.#leaving.get(roomId) === timer) this.#leaving.delete(roomId);
      try {
        const { message } = await opened;
        if (message.stream?.state === "open") await this.#client.cancelMessage(roomId, message.message_id);
      } catch {} // there is no answer, or it has ended: nobody waits for it any more
    });
    this.#leaving.set(roomId, timer);
  }
}

/**
 * Messages of a room for `useChat({ messages })`, in their order. Those of `agent` (one user, or several) have the role `assistant`; without it
 * all streams of others than `userId`. Everything else has the role `user`: `metadata.sender_id` says whose it is. Deleted messages are left out.
 * A message of `userId` has its `client_message_id` as its id, which is what `useChat` called it when it was sent.
 * @param {Message[]} messages @param {{userId: string, agent?: string | string[]}} who
 * @returns {RoomUIMessage[]}
 */
export function toUIMessages(messages, { userId, agent }) {
  const agents = agent === undefined ? undefined : [agent].flat();
  return messages.filter(({ content }) => content !== null).map((message) => {
    const isOwn = message.sender_id === userId;
    const isAnswer = agents ? agents.includes(message.sender_id) : !isOwn && message.stream !== undefined;
    return {
      id: isOwn && message.client_message_id || message.message_id,
      role: isAnswer ? "assistant" : "user",
      metadata: metadataOf(message),
      parts: [{ type: "text", text: message.content ?? "", state: message.stream?.state === "open" ? "streaming" : "done" }],
    };
  });
}

/** @param {Message} message @returns {RoomMetadata} */
function metadataOf({ message_id, seq, sender_id, created_at, meta, stream }) {
  return { message_id, seq, sender_id, created_at, meta, ...(stream && { state: stream.state }) };
}

/** Whether it is being written, and nobody has asked for its end. @param {Message} message */
function isWanted({ stream }) {
  return stream?.state === "open" && !stream.cancel_requested;
}

/** @param {UIMessage[]} messages @param {string} trigger @returns {{id: string, text: string}} */
function questionOf(messages, trigger) {
  const question = messages.filter(({ role }) => role === "user").at(-1);
  if (!question || (trigger === "submit-message" && question !== messages.at(-1))) throw new TypeError("a room takes messages of the user: the last one is not theirs");
  if (question.parts.some(({ type }) => type === "file")) throw new TypeError("a room takes text: this message has a file");
  const text = question.parts.flatMap((part) => (part.type === "text" ? [part.text] : [])).join("\n");
  if (!text) throw new TypeError("a room takes text: this message has none");
  return { id: question.id, text };
}

/** @template T @param {Promise<T>} promise @param {AbortSignal} [signal] @returns {Promise<T>} */
function unlessAborted(promise, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal?.reason);
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal?.removeEventListener("abort", abort));
  });
}

/** Waits for the stream that replies to a question. */
class AnswerWatch {
  #connection;
  #isAnswer;
  /** @type {string | undefined} */ #questionId;
  /** @type {(answer: GrowingMessage) => void} */ #resolve = () => {};
  /** @type {(error: Error) => void} */ #reject = () => {};
  #answer;
  #unlisten;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  /** An answer to something came before it was known to what. */
  isLate = false;

  /** @param {Connection} connection @param {string} roomId @param {(message: MessageFields) => boolean} isAnswer */
  constructor(connection, roomId, isAnswer) {
    this.#connection = connection;
    this.#isAnswer = isAnswer;
    /** @type {Promise<GrowingMessage>} */
    this.#answer = new Promise((resolve, reject) => { this.#resolve = resolve; this.#reject = reject; });
    this.#answer.catch(() => {}); // it is looked at later
    this.#unlisten = [
      connection.on("message", (event) => { if (event.room_id === roomId) this.#look(event); }),
      connection.on("room.deleted", (event) => { if (event.room_id === roomId) this.#reject(lossOf(connection)); }),
      connection.on("state", ({ state }) => { if (state === "closed") this.#reject(lossOf(connection)); }),
    ];
  }

  /** @param {MessageFields} event */
  #look(event) {
    if (event.reply_to === null || !this.#isAnswer(event)) return;
    if (this.#questionId === undefined) this.isLate = true;
    else if (event.reply_to === this.#questionId) this.#resolve(this.#connection.follow(event));
  }

  /** Rejects with `TIMEOUT`, `CLOSED` or `NOT_FOUND`. @param {string} questionId @param {number} timeoutMs @returns {Promise<GrowingMessage>} */
  answerTo(questionId, timeoutMs) {
    this.#questionId = questionId;
    const late = () => this.#reject(new ChatAPIError("TIMEOUT", "nobody has begun to answer in time"));
    if (timeoutMs !== Infinity) this.#timer = setTimeout(late, Math.min(timeoutMs, MAX_TIMER_MS));
    return this.#answer;
  }

  end() {
    clearTimeout(this.#timer);
    for (const unlisten of this.#unlisten) unlisten();
  }
}

/** Why a connection tells nothing more of a room. @param {Connection} connection */
function lossOf({ state, error }) {
  if (state !== "closed") return new ChatAPIError("NOT_FOUND", "the room is gone, or not for this user any more");
  return error ?? new ChatAPIError("CLOSED", "the connection was closed before the answer has ended");
}

/** Tells an answer as chunks, from its beginning. */
class AnswerReader {
  #connection;
  /** @type {GrowingMessage | undefined} */ #growing;
  /** @type {{error: unknown} | undefined} */ #failure;
  #text = "";
  #isOver = false;
  #isLeft = false;
  /** @type {() => void} */ #wake = () => {};

  /** @param {Promise<GrowingMessage>} opened @param {Connection} connection */
  constructor(opened, connection) {
    this.#connection = connection;
    opened.then((growing) => this.#watch(growing), (error) => { this.#failure = { error }; this.#wake(); });
  }

  /** Nobody wants to hear more. */
  leave() {
    this.#isLeft = true;
    this.#wake();
  }

  /** @param {GrowingMessage} growing */
  async #watch(growing) {
    this.#growing = growing;
    for await (const text of growing.text()) {
      if (this.#isLeft) return;
      this.#text = text;
      this.#wake();
    }
    this.#isOver = true;
    this.#wake();
  }

  /** @returns {Promise<void>} */
  async #changed() {
    if (this.#failure) throw this.#failure.error;
    if (!this.#isLeft) await new Promise((resolve) => { this.#wake = () => resolve(undefined); });
  }

  /** @returns {AsyncGenerator<Chunk, void>} */
  async *read() {
    while (!this.#growing && !this.#isLeft) await this.#changed();
    if (!this.#growing) return void (yield { type: "abort" });
    const { message } = this.#growing;
    yield { type: "start", messageId: message.message_id, messageMetadata: metadataOf(message) };
    yield { type: "start-step" };
    yield* this.#readText();
    if (this.#isOver) yield* this.#readEnd(this.#growing);
    else yield { type: "abort" };
  }

  /** Takes the text back, and begins a new part, where the next one does not go on where it ended. @returns {AsyncGenerator<Chunk, void>} */
  async *#readText() {
    let [shown, part, isOpen] = ["", 1, false];
    while (!this.#isLeft) {
      const [text, isOver] = [this.#text, this.#isOver];
      if (!text.startsWith(shown)) {
        yield { type: "reset-step" };
        [shown, part, isOpen] = ["", part + 1, false];
      }
      const id = `text-${part}`;
      if (text && !isOpen) yield { type: "text-start", id };
      isOpen ||= text !== "";
      if (text !== shown) yield { type: "text-delta", id, delta: text.slice(shown.length) };
      shown = text;
      if (isOver && isOpen) yield { type: "text-end", id };
      if (isOver) return;
      if (this.#text === shown && !this.#isOver) await this.#changed();
    }
  }

  /** @param {GrowingMessage} growing @returns {Generator<Chunk, void>} */
  *#readEnd({ message }) {
    const state = message.stream?.state;
    if (state === "open") throw lossOf(this.#connection);
    yield { type: "finish-step" };
    yield { type: "message-metadata", messageMetadata: metadataOf(message) };
    if (message.deleted_at !== null) yield { type: "abort", reason: "the message was deleted" };
    else if (state === "cancelled") yield { type: "abort", reason: "cancelled" };
    else if (state === "failed") yield { type: "error", errorText: typeof message.meta?.error === "string" ? message.meta.error : "the answer has failed" };
    else yield { type: "finish", finishReason: "stop" };
  }
}
