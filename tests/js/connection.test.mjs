/** What is this SDK's own, beyond the shared cases: handlers and loops, limits, errors. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ChatAPI } from "../../chatapi/web/sdk/chatapi.js";
import { messagesOf, numbered, Rig, storedMessages } from "./rig.mjs";

function withRig(name, body) {
  test(name, { timeout: 120_000 }, async () => {
    const rig = await Rig.make();
    try {
      await body(rig);
    } finally {
      rig.close();
    }
  });
}

withRig("events wait for a loop, and a loop that is left keeps the rest for the next", async (rig) => {
  const room = await rig.group("alice", "bob");
  const alice = rig.client("alice");
  const bob = rig.client("bob").connect();
  try {
    await bob.ready;
    for (const text of numbered("message", 4)) await alice.sendMessage(room, text);
    const seen = [];
    for (let round = 0; round < 2; round++) {
      for await (const event of bob) {
        if (event.type === "message") seen.push(event.content);
        if (seen.length === 2 * (round + 1)) break;
      }
    }
    assert.deepEqual(seen, numbered("message", 4));
    assert.throws(() => { bob[Symbol.asyncIterator](); bob[Symbol.asyncIterator](); }, /already has a loop/);
  } finally {
    bob.close();
  }
});

withRig("a loop ends when the connection is closed", async (rig) => {
  const connection = rig.client("alice").connect();
  const types = [];
  for await (const event of connection) {
    types.push(event.type);
    if (event.type === "sync.complete") connection.close();
  }
  assert.deepEqual(types, ["ready", "sync.complete"]);
  for await (const event of connection) assert.fail(`${event.type} after the end`);
});

withRig("a loop throws what ended the connection", async (rig) => {
  const connection = rig.client("alice", { apiKey: "sk_wrong" }).connect();
  await assert.rejects(async () => { for await (const _ of connection) assert.fail("an event"); }, { code: "AUTHENTICATION_ERROR" });
  await assert.rejects(connection.send("room_x", "hello"), { code: "CLOSED" });
});

withRig("a handler that throws is reported, and the next event comes", async (rig) => {
  const room = await rig.group("alice", "bob");
  const bob = await rig.connect("bob", { handler: (event) => { if (event.content === "bad") throw new Error("from the handler"); } });
  await rig.client("alice").sendMessage(room, "bad");
  await rig.client("alice").sendMessage(room, "good");
  assert.equal((await bob.inbox.until(messagesOf(room))).content, "good");
  assert.equal(bob.inbox.events.find((event) => event.type === "local.error").error.message, "from the handler");
});

withRig("what waits for an answer is refused at the end, with the id to try again with", async (rig) => {
  const room = await rig.group("alice", "bob");
  const alice = await rig.connect("alice");
  alice.connection.pause();
  const sending = alice.connection.send(room, { content: "never sent", client_message_id: "kept" });
  alice.connection.close();
  await assert.rejects(sending, (error) => error.code === "CLOSED" && error.details.client_message_id === "kept");
  assert.deepEqual(await storedMessages(alice.client, room), []);
});

withRig("a message that is too large for a frame goes over REST", async (rig) => {
  const room = await rig.group("alice", "bob");
  const alice = await rig.connect("alice");
  const content = '"'.repeat(65_536);
  const sent = await alice.connection.send(room, content);
  assert.equal((await alice.inbox.until(messagesOf(room))).message_id, sent.message_id);
  assert.equal((await storedMessages(alice.client, room))[0].content, content);
});

withRig("a connection that only sends is not held up by what it does not read", async (rig) => {
  const room = await rig.group("alice", "bob");
  const connection = rig.client("alice").connect({ maxPending: 10, minDelayMs: 10 });
  try {
    for (const text of numbered("message", 40)) await connection.send(room, text);
    const seen = [];
    await new Promise((resolve) => {
      connection.on("message", (message) => { if (seen.push(message.content) === 40) resolve(); });
    });
    assert.deepEqual(seen, numbered("message", 40));
  } finally {
    connection.close();
  }
});

withRig("without autoAck nothing is acknowledged until it is said", async (rig) => {
  const room = await rig.group("alice", "bob");
  const alice = rig.client("alice");
  const bob = await rig.connect("bob", { autoAck: false });
  await alice.sendMessage(room, "hello");
  await bob.inbox.until(messagesOf(room));
  await bob.connection.ping();
  const standing = async () => (await alice.listReceipts(room)).receipts.find((receipt) => receipt.user_id === "bob").last_ack;
  assert.equal(await standing(), 0);
  assert.equal((await bob.connection.ack(room, 1)).seq, 1);
  assert.equal(await standing(), 1);
});

withRig("unsubscribing silences a room on this connection, across an interruption too", async (rig) => {
  const [loud, quiet] = [await rig.group("alice", "bob"), await rig.group("alice", "bob")];
  const alice = rig.client("alice");
  const bob = await rig.connect("bob");
  await bob.connection.unsubscribe(quiet);
  await alice.sendMessage(quiet, "unheard");
  bob.connection.pause();
  bob.connection.resume();
  await bob.inbox.untilCount(2, (event) => event.type === "sync.complete");
  await alice.sendMessage(quiet, "unheard");
  await alice.sendMessage(loud, "heard");
  await bob.inbox.until(messagesOf(loud));
  assert.equal(bob.inbox.messages(quiet).length, 0);
  await bob.connection.subscribe(quiet);
  await alice.sendMessage(quiet, "heard again");
  const contents = (await bob.inbox.untilCount(1, (event) => event.content === "heard again")).map((event) => event.content);
  assert.deepEqual(contents, ["heard again"]);
});

test("wrong options are refused at once", () => {
  assert.throws(() => new ChatAPI({ url: "localhost:8080", token: "t" }), /http/);
  assert.throws(() => new ChatAPI({ url: "http://localhost" }), /apiKey and userId, or token/);
  assert.throws(() => new ChatAPI({ url: "http://localhost", apiKey: "sk" }), /userId/);
  assert.throws(() => new ChatAPI({ url: "http://localhost", token: "t" }).asUser("bob"), /API key/);
  if (!globalThis.WebSocket) assert.throws(() => new ChatAPI({ url: "http://localhost", token: "t" }).connect(), /npm package ws/);
});

test("a server that cannot be reached is an error after the retries", async () => {
  const client = new ChatAPI({ url: "http://127.0.0.1:9", apiKey: "sk", userId: "alice", retries: 1 });
  await assert.rejects(client.listRooms(), { code: "NETWORK_ERROR", status: 0 });
  await assert.rejects(client.listRooms({}, { signal: AbortSignal.abort(new Error("enough")) }), /enough/);
});
