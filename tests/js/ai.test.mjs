/** chatapi-js/ai: the transport of the package `ai`, driven as its `useChat` does. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { readUIMessageStream, streamText } from "ai";
import { MockLanguageModelV4, simulateReadableStream } from "ai/test";
import { RoomChatTransport, toUIMessages } from "../../chatapi/web/sdk/ai.js";
import { contents, Rig, storedMessages, transport as carrier, until } from "./rig.mjs";

const PATIENCE_MS = 100_000; // of one test: what it waits for may never come

let count = 0;
const ask = (text, id = `question-${++count}`) => ({ id, role: "user", parts: [{ type: "text", text }] });

/** Alice with her transport, and an agent whose pieces the test gives. */
class Talk {
  static async make(options = {}, members = ["alice", "assistant"]) {
    const talk = new Talk();
    talk.rig = await Rig.make();
    if (carrier) talk.rig.transports = [carrier];
    talk.room = await talk.rig.group(...members);
    talk.alice = await talk.rig.connect("alice");
    talk.agent = await talk.rig.connect("assistant");
    talk.transport = new RoomChatTransport({ client: talk.alice.client, connection: talk.alice.connection, agent: "assistant", ...options });
    return talk;
  }

  /** The chunks of the answer. */
  send(messages, { trigger = "submit-message", ...options } = {}) {
    return this.transport.sendMessages({ trigger, chatId: this.room, messageId: undefined, abortSignal: undefined, messages: [messages].flat(), ...options });
  }

  resume(options = {}) {
    return this.transport.reconnectToStream({ chatId: this.room, ...options });
  }

  /** The question that the agent hears next. */
  async heard(number = 1) {
    return (await this.agent.inbox.untilCount(number, (event) => event.type === "message" && event.sender_id === "alice")).at(-1);
  }

  /** An answer in the making. */
  answer(question, { by = this.agent, ...fields } = {}) {
    const pieces = [];
    let wake = () => {};
    const answer = {
      put(...more) { pieces.push(...more); wake(); },
      end() { pieces.push(null); wake(); },
    };
    answer.ended = by.connection.stream(this.room, async function* (signal) {
      answer.signal = signal;
      for (;;) {
        while (!pieces.length) await new Promise((resolve) => { wake = resolve; });
        const piece = pieces.shift();
        if (piece === null) return;
        if (piece instanceof Error) throw piece;
        yield piece;
      }
    }, { reply_to: question?.message_id ?? null, ...fields });
    answer.ended.catch(() => {});
    return answer;
  }

  get questions() { return storedMessages(this.alice.client, this.room).then((all) => contents(all.filter(({ sender_id: id }) => id === "alice"))); }
}

function talk(name, work, options, members) {
  test(name, { timeout: 120_000 }, async () => {
    const one = await Talk.make(options, members);
    let timer;
    const late = new Promise((_resolve, reject) => { timer = setTimeout(reject, PATIENCE_MS, new Error("it waits for ever")); });
    try {
      await Promise.race([work(one), late]);
    } finally {
      clearTimeout(timer);
      one.transport.close();
      one.rig.close();
    }
  });
}

/** Reads up to this text, or to the end. */
class Chunks {
  all = [];
  constructor(stream) { this.reader = stream.getReader(); }

  async next() {
    const { done, value } = await this.reader.read();
    if (!done) this.all.push(value);
    return !done;
  }

  get text() {
    let text = "";
    for (const chunk of this.all) {
      if (chunk.type === "reset-step") text = "";
      if (chunk.type === "text-delta") text += chunk.delta;
    }
    return text;
  }

  async grownTo(text) {
    while (this.text !== text) assert.ok(await this.next(), `it ended with ${this.text}`);
  }

  async rest() {
    while (await this.next());
    return this;
  }

  get types() { return this.all.map(({ type }) => type).filter((type) => type !== "text-delta"); }
  get last() { return this.all.at(-1); }
}

const chunksOf = async (stream) => new Chunks(await stream);
const WHOLE = ["start", "start-step", "text-start", "text-end", "finish-step", "message-metadata", "finish"];

talk("an answer comes as it is written", async (one) => {
  const chunks = await chunksOf(one.send(ask("Why?"), { body: { meta: { page: 1 } } }));
  const question = await one.heard();
  assert.deepEqual([question.content, question.meta, question.mentions], ["Why?", { page: 1 }, ["assistant"]]);
  const answer = one.answer(question, { meta: { model: "none" } });
  for (const [piece, text] of [["Because", "Because"], [" of 🚢", "Because of 🚢"]]) {
    answer.put(piece);
    await chunks.grownTo(text);
  }
  answer.end();
  await chunks.rest();
  const message = await answer.ended;
  assert.deepEqual(chunks.types, WHOLE);
  assert.equal(chunks.all[0].messageId, message.message_id);
  const { created_at, seq, message_id } = message;
  const metadata = { message_id, seq, sender_id: "assistant", created_at, meta: { model: "none" } };
  assert.deepEqual(chunks.all[0].messageMetadata, { ...metadata, state: "open" });
  assert.deepEqual(chunks.all.at(-2).messageMetadata, { ...metadata, state: "done" });
});

talk("a retry sends nothing twice and gets the answer that is there", async (one) => {
  const question = ask("Why?");
  const first = await chunksOf(one.send(question));
  const answer = one.answer(await one.heard());
  answer.put("Because");
  await first.grownTo("Because");
  const second = await chunksOf(one.send(question));
  await second.grownTo("Because");
  answer.end();
  for (const chunks of [first, second, await chunksOf(one.send(question))]) {
    await chunks.rest();
    assert.deepEqual([chunks.text, chunks.types], ["Because", WHOLE]);
  }
  assert.deepEqual(await one.questions, ["Why?"]);
});

talk("an answer that is quicker than the confirmation of its question is found, also when it is asked anew", async (one) => {
  const { connection } = one.alice;
  const send = connection.send.bind(connection);
  const answers = new Map();
  connection.send = async (...given) => {
    const sent = await send(...given);
    if (answers.has(sent.message_id)) return sent; // it was asked before
    answers.set(sent.message_id, one.answer(sent));
    await one.alice.inbox.until(({ type, reply_to: id }) => type === "message" && id === sent.message_id);
    return sent;
  };
  const question = ask("Why?");
  for (const [count, trigger] of [[1, "submit-message"], [2, "regenerate-message"]]) {
    const chunks = await chunksOf(one.send(question, { trigger }));
    await until(() => answers.size === count);
    const answer = [...answers.values()].at(-1);
    answer.put(`Because ${count}`);
    answer.end();
    assert.equal((await chunks.rest()).text, `Because ${count}`);
  }
});

talk("an answer that begins while it is looked for is found", async (one) => {
  const { client, connection, inbox } = one.alice;
  const question = ask("Why?");
  const lost = await chunksOf(one.send(question));
  const heard = await one.heard();
  await lost.reader.cancel();
  await until(() => connection.cursors.rooms[one.room] >= heard.seq);
  const list = client.listMessages.bind(client);
  let answer;
  client.listMessages = async (...given) => {
    const page = await list(...given);
    answer ??= one.answer(heard);
    await inbox.until(({ type, reply_to: id }) => type === "message" && id === heard.message_id);
    return page;
  };
  const again = await chunksOf(one.send(question));
  await until(() => answer);
  answer.put("Because");
  answer.end();
  assert.equal((await again.rest()).text, "Because");
});

talk("only streams of the agent that reply to the question are answers", async (one) => {
  const bob = await one.rig.connect("bob");
  const chunks = await chunksOf(one.send(ask("Why?")));
  const question = await one.heard();
  const other = await bob.connection.send(one.room, "What?");
  await one.agent.connection.send(one.room, { content: "One moment", reply_to: question.message_id });
  for (const [asked, by] of [[question, bob], [other, one.agent], [undefined, one.agent]]) {
    const answer = one.answer(asked, { by });
    answer.put("no");
    answer.end();
    await answer.ended;
  }
  const answer = one.answer(question);
  answer.put("yes");
  answer.end();
  assert.equal((await chunks.rest()).text, "yes");
}, {}, ["alice", "assistant", "bob"]);

talk("without a named agent anybody else may answer", async (one) => {
  const chunks = await chunksOf(one.send(ask("Why?")));
  const question = await one.heard();
  assert.equal(question.mentions, undefined);
  await one.alice.connection.stream(one.room, ["own"], { reply_to: question.message_id });
  await one.agent.connection.stream(one.room, ["yes"], { reply_to: question.message_id });
  assert.equal((await chunks.rest()).text, "yes");
}, { agent: undefined });

talk("each end of an answer has its chunk", async (one) => {
  const { client } = one.agent;
  const started = async () => {
    const chunks = await chunksOf(one.send(ask("Why?")));
    const { message_id: id } = await one.heard(++asked);
    const { message_id: answer } = await client.sendMessage(one.room, { content: "Bec", reply_to: id, stream: true });
    await chunks.grownTo("Bec");
    return [chunks, answer];
  };
  let asked = 0;
  for (const [end, last, text] of [
    [{ state: "done" }, { type: "finish", finishReason: "stop" }, "Bec"],
    [{ state: "cancelled" }, { type: "abort", reason: "cancelled" }, "Bec"],
    [{ state: "failed" }, { type: "error", errorText: "the answer has failed" }, "Bec"],
    [{ state: "failed", meta: { error: "no more tokens" } }, { type: "error", errorText: "no more tokens" }, "Bec"],
    [{ state: "done", content: "Because" }, { type: "finish", finishReason: "stop" }, "Because"],
    [{ state: "done", content: "Therefore" }, { type: "finish", finishReason: "stop" }, "Therefore"],
    [{ state: "done", content: "" }, { type: "finish", finishReason: "stop" }, ""],
  ]) {
    const [chunks, id] = await started();
    await client.finishMessage(one.room, id, end);
    await chunks.rest();
    assert.deepEqual([chunks.last, chunks.text], [last, text]);
    assert.equal(chunks.all.at(-2).messageMetadata.state, end.state);
  }
  const [chunks, id] = await started();
  await client.deleteMessage(one.room, id);
  await chunks.rest();
  assert.deepEqual([chunks.last, chunks.text], [{ type: "abort", reason: "the message was deleted" }, ""]);
});

talk("a text that was replaced is shown once", async (one) => {
  const stream = await one.send(ask("Why?"));
  const { message_id: id } = await one.heard();
  const { message_id: answer } = await one.agent.client.sendMessage(one.room, { content: "Bec", reply_to: id, stream: true });
  let shown;
  for await (const message of readUIMessageStream({ stream })) {
    if (message.parts.some(({ text }) => text === "Bec")) await one.agent.client.finishMessage(one.room, answer, { state: "done", content: "Therefore" });
    shown = message;
  }
  assert.deepEqual(shown.parts.filter(({ type }) => type === "text").map(({ text, state }) => [text, state]), [["Therefore", "done"]]);
  assert.equal(shown.id, answer);
});

talk("stopping cancels the answer", async (one) => {
  const stop = new AbortController();
  const chunks = await chunksOf(one.send(ask("Why?"), { abortSignal: stop.signal }));
  const answer = one.answer(await one.heard());
  answer.put("Because");
  await chunks.grownTo("Because");
  stop.abort();
  assert.deepEqual((await chunks.rest()).last, { type: "abort" });
  assert.deepEqual((await answer.ended).stream, { state: "cancelled" });
  assert.ok(answer.signal.aborted);
});

talk("stopping before the answer has begun cancels it when it begins", async (one) => {
  const stop = new AbortController();
  const chunks = await chunksOf(one.send(ask("Why?"), { abortSignal: stop.signal }));
  const question = await one.heard();
  stop.abort();
  assert.deepEqual((await chunks.rest()).all, [{ type: "abort" }]);
  assert.deepEqual((await one.answer(question).ended).stream, { state: "cancelled" });
  const never = new AbortController();
  never.abort(new Error("too late"));
  await assert.rejects(one.send(ask("How?"), { abortSignal: never.signal }), /too late/);
  assert.deepEqual(await one.questions, ["Why?"]);
});

talk("a stop outlives the transport and its reader", async (one) => {
  for (const [index, end] of [(chunks) => chunks.reader.cancel(), () => one.transport.close()].entries()) {
    const stop = new AbortController();
    const chunks = await chunksOf(one.send(ask("Why?"), { abortSignal: stop.signal }));
    const answer = one.answer(await one.heard(index + 1));
    answer.put("Because");
    await chunks.grownTo("Because");
    stop.abort();
    await end(chunks);
    assert.deepEqual((await answer.ended).stream, { state: "cancelled" });
  }
}, { connection: undefined });

talk("an open answer is resumed from its beginning, and one that is resumed again is not cancelled", async (one) => {
  assert.equal(await one.resume(), null);
  const answer = one.answer();
  answer.put("One");
  await one.alice.inbox.until(({ type }) => type === "message.delta");
  const early = new AbortController();
  const looking = one.resume({ abortSignal: early.signal });
  early.abort();
  await assert.rejects(looking, { name: "AbortError" });
  const stop = new AbortController();
  const first = await chunksOf(one.resume({ abortSignal: stop.signal }));
  await first.grownTo("One");
  stop.abort();
  const last = new AbortController();
  const second = await chunksOf(one.resume({ abortSignal: last.signal }));
  assert.equal((await first.rest()).last.type, "abort");
  await second.grownTo("One");
  answer.put(", two");
  await second.grownTo("One, two");
  assert.ok(!answer.signal.aborted);
  last.abort();
  assert.deepEqual((await answer.ended).stream, { state: "cancelled" });
  assert.equal(await one.resume(), null);
});

talk("an answer to anybody is resumed, but not what the user writes", async (one) => {
  const own = one.answer(undefined, { by: one.alice });
  own.put("mine");
  await one.agent.inbox.until(({ type }) => type === "message.delta");
  assert.equal(await one.resume(), null);
  own.end();
}, { agent: undefined });

talk("asking again follows an answer that is being written, and asks anew when it has ended", async (one) => {
  const question = ask("Why?");
  const again = () => chunksOf(one.send(question, { trigger: "regenerate-message" }));
  const lost = await again();
  const answer = one.answer(await one.heard());
  answer.put("Because");
  await lost.grownTo("Because");
  await lost.reader.cancel();
  const followed = await again();
  await followed.grownTo("Because"); // else it may ask when the answer has ended
  answer.end();
  assert.equal((await followed.rest()).text, "Because");
  assert.deepEqual(await one.questions, ["Why?"]);
  const anew = await again();
  const second = one.answer(await one.heard(2));
  second.put("Therefore");
  second.end();
  assert.equal((await anew.rest()).text, "Therefore");
  assert.deepEqual(await one.questions, ["Why?", "Why?"]);
});

talk("a question that was edited is a new message", async (one) => {
  for (const [number, text] of ["Why?", "How?"].entries()) {
    const chunks = await chunksOf(one.send(ask(text, "the-same"), { messageId: "the-same" }));
    const question = await one.heard(number + 1);
    assert.equal(question.content, text);
    const answer = one.answer(question);
    answer.put(`${text} So.`);
    answer.end();
    assert.equal((await chunks.rest()).text, `${text} So.`);
  }
});

talk("a message that a room does not take is refused", async (one) => {
  const file = { type: "file", mediaType: "image/png", url: "data:," };
  const assistant = { id: "a", role: "assistant", parts: [] };
  for (const messages of [[], [{ id: "e", role: "user", parts: [] }], [{ ...ask("see"), parts: [file, { type: "text", text: "see" }] }], [ask("Why?"), assistant]]) {
    await assert.rejects(one.send(messages), TypeError);
  }
  const chunks = await chunksOf(one.send(ask("x".repeat(70_000))));
  await assert.rejects(chunks.rest(), ({ status, field }) => status === 400 && field === "content");
  await assert.rejects((await chunksOf(one.transport.sendMessages({ trigger: "submit-message", chatId: "nowhere", messages: [ask("Why?")] }))).rest(), { status: 404 });
  assert.deepEqual(await one.questions, []);
});

talk("no answer in time is an error, and asking again waits for it", async (one) => {
  const question = ask("Why?");
  const chunks = await chunksOf(one.send(question));
  await assert.rejects(chunks.rest(), { code: "TIMEOUT" });
  const patient = new RoomChatTransport({ client: one.alice.client, connection: one.alice.connection, roomId: one.room, answerTimeoutMs: Infinity });
  const again = await chunksOf(patient.sendMessages({ trigger: "regenerate-message", chatId: "any", messages: [question] }));
  const heard = await one.heard();
  const answer = one.answer(heard);
  answer.put("Because");
  await again.grownTo("Because"); // else it may look when the answer has ended, and ask anew
  answer.end();
  assert.equal((await again.rest()).text, "Because");
  assert.deepEqual(await one.questions, ["Why?"]);
}, { answerTimeoutMs: 10, agent: undefined });

talk("a room or a connection that ends breaks the answer", async (one) => {
  const begun = async (room, asked) => {
    one.room = room;
    const chunks = await chunksOf(one.send(ask("Why?")));
    const answer = one.answer(await one.heard(asked));
    answer.put("Bec");
    await chunks.grownTo("Bec");
    return [chunks, await chunksOf(one.send(ask("And then?")))];
  };
  const broken = ([first, second], code) => Promise.all([first, second].map((chunks) => assert.rejects(chunks.rest(), { code })));
  const [room, other] = [one.room, await one.rig.group("alice", "assistant")];
  let chunks = await begun(other, 1);
  await one.heard(2);
  await one.alice.client.deleteRoom(other);
  await broken(chunks, "NOT_FOUND");
  chunks = await begun(room, 3);
  await one.heard(4);
  one.alice.connection.close();
  await broken(chunks, "CLOSED");
});

talk("a reader that is slow gets fewer deltas, and nothing is left behind", async (one) => {
  const { connection } = one.alice;
  const listening = new Set();
  const on = connection.on.bind(connection);
  connection.on = (type, handler) => {
    const off = on(type, handler);
    listening.add(off);
    return () => { listening.delete(off); off(); };
  };
  const signal = Object.assign(new AbortController().signal, { count: 0 });
  for (const [name, step] of [["addEventListener", 1], ["removeEventListener", -1]]) {
    const whole = signal[name].bind(signal);
    signal[name] = (...given) => { signal.count += step; whole(...given); };
  }
  const chunks = await chunksOf(one.send(ask("Why?"), { abortSignal: signal }));
  const answer = one.answer(await one.heard());
  answer.put("0 ");
  await chunks.grownTo("0 ");
  assert.equal(listening.size, 0);
  for (let number = 1; number <= 5; number++) {
    answer.put(`${number} `);
    await one.alice.inbox.until(({ type, text }) => type === "message.delta" && text === `${number} `);
  }
  answer.end();
  await one.alice.inbox.until(({ type }) => type === "message.finished");
  await chunks.rest();
  assert.deepEqual(chunks.all.filter(({ type }) => type === "text-delta").map(({ delta }) => delta), ["0 ", "1 2 3 4 5 "]);
  assert.equal(signal.count, 0);
});

talk("history is what useChat takes", async (one) => {
  const { connection } = one.alice;
  const chunks = await chunksOf(one.send(ask("Why?", "mine")));
  await one.agent.connection.stream(one.room, ["Because"], { reply_to: (await one.heard()).message_id });
  await chunks.rest();
  await one.agent.connection.send(one.room, "By the way");
  await (await one.rig.connect("bob")).connection.stream(one.room, ["from bob"]);
  await connection.delete(one.room, (await connection.send(one.room, "oops")).message_id);
  const open = one.answer();
  open.put("And");
  await one.alice.inbox.until(({ type, text }) => type === "message.delta" && text === "And");
  const shown = (messages) => messages.map(({ role, metadata, parts: [{ text, state }] }) => [role, metadata.sender_id, text, state, metadata.state]);
  const messages = await one.transport.history(one.room);
  assert.deepEqual(shown(messages), [
    ["user", "alice", "Why?", "done", undefined],
    ["assistant", "assistant", "Because", "done", "done"],
    ["assistant", "assistant", "By the way", "done", undefined],
    ["user", "bob", "from bob", "done", "done"],
    ["assistant", "assistant", "And", "streaming", "open"],
  ]);
  assert.equal(messages[0].id, "mine");
  assert.equal(messages[1].id, chunks.all[0].messageId);
  assert.deepEqual(messages[1].metadata, chunks.all.at(-2).messageMetadata);
  const anybody = toUIMessages(await storedMessages(one.alice.client, one.room), { userId: "alice" });
  assert.deepEqual(anybody.map(({ role }) => role), ["user", "assistant", "user", "assistant", "assistant"]);
  assert.deepEqual(shown(await one.transport.history(one.room, { limit: 1 })), shown(messages.slice(-1)));
  open.end();
}, {}, ["alice", "assistant", "bob"]);

talk("a model of the package ai answers", async (one) => {
  const parts = ["Hel", "lo", " alice"].map((delta) => ({ type: "text-delta", id: "1", delta }));
  const model = new MockLanguageModelV4({
    doStream: async () => ({
      stream: simulateReadableStream({
        chunks: [
          { type: "stream-start", warnings: [] },
          { type: "text-start", id: "1" }, ...parts, { type: "text-end", id: "1" },
          { type: "finish", finishReason: { unified: "stop", raw: "stop" }, usage: { inputTokens: { total: 1 }, outputTokens: { total: 3 } } },
        ],
      }),
    }),
  });
  const chunks = await chunksOf(one.send(ask("Why?")));
  const { content, message_id: id } = await one.heard();
  const message = await one.agent.connection.stream(one.room, (signal) => streamText({ model, prompt: content, abortSignal: signal }).textStream, { reply_to: id });
  assert.deepEqual([message.content, message.stream], ["Hello alice", { state: "done" }]);
  assert.equal((await chunks.rest()).text, "Hello alice");
});
