/** The cases of ../sdk_cases.json, as this SDK shows them; others are in conversations.test.mjs and newer.test.mjs. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { answersLeft, contents, control, intercept, messagesOf, numbered, proxyUrl, range, refusal, Rig, seqs, storedMessages, testCases, until } from "./rig.mjs";


const cases = {
  async send_and_receive(rig) {
    const room = await rig.group("alice", "bob");
    const alice = await rig.connect("alice");
    const bob = await rig.connect("bob");
    const sent = await alice.connection.send(room, "Hello");
    assert.equal(sent.seq, 1);
    for (const { inbox } of [alice, bob]) {
      const message = await inbox.until(messagesOf(room));
      assert.deepEqual([message.message_id, message.seq, message.content, message.sender_id], [sent.message_id, 1, "Hello", "alice"]);
    }
    await alice.connection.ping();
    assert.equal(bob.inbox.messages(room).length, 1);
  },

  async order_is_kept(rig) {
    const rooms = [await rig.group("alice", "bob"), await rig.group("alice", "bob")];
    const alice = await rig.connect("alice");
    const bob = await rig.connect("bob");
    const texts = numbered("message", 60);
    await Promise.all(texts.flatMap((text) => rooms.map((room) => alice.connection.send(room, text))));
    for (const room of rooms) {
      const got = await bob.inbox.untilCount(60, messagesOf(room));
      assert.deepEqual(contents(got), texts);
      assert.deepEqual(seqs(got), range(1, 60));
    }
  },

  async every_kind_of_event_once(rig) {
    const room = await rig.group("alice", "bob");
    const alice = rig.client("alice");
    const bob = await rig.connect("bob");
    const { message_id: id } = await alice.sendMessage(room, "first");
    await alice.editMessage(room, id, "second");
    await alice.deleteMessage(room, id);
    await alice.updateRoom(room, { name: "renamed" });
    await alice.addMember(room, "carol");
    await alice.updateMember(room, "carol", { role: "admin" });
    await alice.removeMember(room, "carol");
    await bob.inbox.until((event) => event.type === "member.left");
    const log = bob.inbox.events.filter((event) => event.room_id === room && event.seq && !/^(ack|read)\./.test(event.type));
    assert.deepEqual(log.map((event) => event.type),
      ["message", "message.edited", "message.deleted", "room.updated", "member.joined", "member.updated", "member.left"]);
    assert.deepEqual(seqs(log), range(1, 7));
    assert.equal(log[1].target_seq, 1);
    assert.equal(log[1].content, "second");
    assert.equal(log[2].target_seq, 1);
    assert.equal(log[3].name, "renamed");
  },

  async errors_are_told(rig) {
    const alice = await rig.connect("alice");
    const theirs = await rig.group("bob", "carol");
    const ours = await rig.group("alice", "bob");
    const wrong = rig.client("alice", { apiKey: "sk_wrong" });
    await assert.rejects(wrong.listRooms(), refusal("AUTHENTICATION_ERROR", 401));
    const ended = wrong.connect();
    await assert.rejects(ended.ready, refusal("AUTHENTICATION_ERROR", 401));
    assert.equal(ended.state, "closed");
    await assert.rejects(alice.client.getRoom("room_unknown"), refusal("NOT_FOUND", 404));
    await assert.rejects(alice.client.sendMessage(theirs, "x"), refusal("AUTHORIZATION_ERROR", 403));
    await assert.rejects(alice.connection.send(theirs, "x"), refusal("AUTHORIZATION_ERROR", 403));
    await assert.rejects(alice.client.sendMessage(ours, ""), refusal("VALIDATION_ERROR", 400, "content"));
    await assert.rejects(alice.connection.send(ours, ""), refusal("VALIDATION_ERROR", 400, "content"));
    const { room_id: dm } = await alice.client.createRoom({ type: "dm", members: ["alice", "bob"] });
    await assert.rejects(alice.client.createRoom({ type: "dm", members: ["bob", "alice"] }),
      (error) => refusal("CONFLICT", 409)(error) && error.details.room_id === dm);
  },

  async same_client_message_id_once(rig) {
    const room = await rig.group("alice", "bob");
    const alice = await rig.connect("alice");
    const message = { content: "once", client_message_id: "mine-1" };
    const answers = [await alice.client.sendMessage(room, message), await alice.client.sendMessage(room, message), await alice.connection.send(room, message)];
    assert.equal(new Set(answers.map((answer) => answer.message_id)).size, 1);
    assert.deepEqual(contents(await storedMessages(alice.client, room)), ["once"]);
  },

  async killed_server_loses_nothing(rig) {
    const room = await rig.group("alice", "bob");
    const alice = rig.client("alice");
    const bob = await rig.connect("bob");
    for (const text of numbered("before", 20)) await alice.sendMessage(room, text);
    await control("kill");
    await control("start");
    for (const text of numbered("after", 20)) await alice.sendMessage(room, text);
    const got = await bob.inbox.untilCount(40, messagesOf(room));
    assert.deepEqual(contents(got), [...numbered("before", 20), ...numbered("after", 20)]);
    assert.deepEqual(seqs(got), range(1, 40));
  },

  async send_outlasts_a_restart(rig) {
    const room = await rig.group("alice", "bob");
    const alice = await rig.connect("alice");
    await control("kill");
    const sending = numbered("offline", 10).map((text) => alice.connection.send(room, text));
    assert.equal(alice.connection.unconfirmed, 10);
    await control("start");
    assert.deepEqual(seqs(await Promise.all(sending)), range(1, 10));
    assert.deepEqual(contents(await storedMessages(alice.client, room)), numbered("offline", 10));
    assert.equal(alice.connection.unconfirmed, 0);
  },

  async kill_in_the_middle_of_sending(rig) {
    const room = await rig.group("alice", "bob");
    const alice = await rig.connect("alice");
    const bob = await rig.connect("bob");
    const texts = numbered("message", 200);
    const sending = texts.map((text) => alice.connection.send(room, text));
    await sending[100];
    await control("kill");
    await control("start");
    await Promise.all(sending);
    assert.deepEqual(contents(await storedMessages(alice.client, room)), texts);
    const got = await bob.inbox.untilCount(200, messagesOf(room));
    assert.deepEqual(contents(got), texts);
    assert.deepEqual(seqs(got), range(1, 200));
  },

  async graceful_restart(rig) {
    const room = await rig.group("alice", "bob");
    const bob = await rig.connect("bob");
    await control("stop");
    await bob.inbox.until((event) => event.type === "server.shutdown");
    await control("start");
    await rig.client("alice").sendMessage(room, "after");
    assert.equal((await bob.inbox.until(messagesOf(room))).content, "after");
  },

  async resume_from_own_cursors(rig) {
    const room = await rig.group("alice", "bob");
    const alice = rig.client("alice");
    const first = await rig.connect("bob");
    for (const text of numbered("early", 3)) await alice.sendMessage(room, text);
    await first.inbox.untilCount(3, messagesOf(room));
    await first.connection.ping(); // the handler of the third has returned
    const kept = JSON.parse(JSON.stringify(first.connection.cursors));
    assert.equal(kept.rooms[room], 3);
    first.connection.close();

    const other = await rig.connect("bob");
    for (const text of numbered("late", 4)) await alice.sendMessage(room, text);
    await other.inbox.untilCount(4, messagesOf(room));
    await untilReceipt(alice, room, "bob", 7);

    const second = await rig.connect("bob", { cursors: kept });
    await second.connection.ping();
    assert.deepEqual(contents(second.inbox.messages(room)), numbered("late", 4));
  },

  async gap_is_filled(rig) {
    const room = await rig.group("alice", "bob");
    const alice = rig.client("alice");
    const bob = await rig.connect("bob");
    for (const text of numbered("seen", 5)) await alice.sendMessage(room, text);
    await bob.inbox.untilCount(5, messagesOf(room));
    let gaps = 0;
    bob.connection.on("frame", ({ frame }) => { gaps += frame.type === "sync.gap" ? 1 : 0; });
    bob.connection.pause();
    for (const text of numbered("missed", 150)) await alice.sendMessage(room, text);
    bob.inbox.events.length = 0;
    bob.connection.resume();
    await bob.inbox.until((event) => event.type === "sync.complete");
    const got = bob.inbox.events.filter((event) => event.type === "message" || event.type === "sync.complete");
    assert.deepEqual(contents(got.slice(0, -1)), numbered("missed", 150));
    assert.equal(got.at(-1).type, "sync.complete");
    assert.equal(gaps, rig.transports?.[0] === "poll" ? 0 : 1); // a long poll leaves nothing out
  },

  async handled_is_acknowledged(rig) {
    const room = await rig.group("alice", "bob");
    const alice = rig.client("alice");
    let finish;
    let began;
    const begun = new Promise((resolve) => { began = resolve; });
    await rig.connect("bob", {
      handler: (event) => event.type === "message" && new Promise((resolve) => { finish = resolve; began(); }),
    });
    const { seq } = await alice.sendMessage(room, "look at this");
    await begun;
    assert.equal((await receiptOf(alice, room, "bob")).last_ack, 0);
    finish();
    await untilReceipt(alice, room, "bob", seq);
  },

  async notification_until_handled(rig) {
    const alice = rig.client("alice");
    const { notification_id: id, recipients } = await alice.notify({ topic: "news", payload: { n: 1 }, targets: { user_ids: ["bob"] } });
    assert.equal(recipients, 1);
    const first = await rig.connect("bob");
    const got = await first.inbox.until((event) => event.type === "notification");
    assert.deepEqual([got.notification_id, got.topic, got.payload], [id, "news", { n: 1 }]);
    await until(async () => !(await first.client.listNotifications({ status: "pending" })).notifications.length);
    first.connection.close();
    const second = await rig.connect("bob");
    await second.connection.ping();
    assert.equal(second.inbox.events.filter((event) => event.type === "notification").length, 0);
  },

  async typing_and_presence(rig) {
    const room = await rig.group("alice", "bob");
    const bob = await rig.connect("bob");
    const alice = await rig.connect("alice");
    await bob.inbox.until((event) => event.type === "presence.update" && event.user_id === "alice" && event.status === "online");
    alice.connection.typing(room);
    alice.connection.typing(room); // the next key: not told again
    alice.connection.typing(room, false);
    const typing = await bob.inbox.untilCount(2, (event) => event.type === "typing");
    assert.deepEqual(typing.map((event) => [event.room_id, event.user_id, event.action]), [[room, "alice", "start"], [room, "alice", "stop"]]);
  },

  async channel_is_followed(rig) {
    const alice = rig.client("alice");
    const { room_id: room } = await alice.createRoom({ type: "channel", name: "news" });
    await alice.sendMessage(room, "before");
    const carol = await rig.connect("carol");
    assert.equal((await carol.connection.subscribe(room)).last_seq, 1);
    await alice.sendMessage(room, "live");
    await carol.inbox.until(messagesOf(room));
    carol.connection.pause();
    await alice.sendMessage(room, "missed 1");
    await alice.sendMessage(room, "missed 2");
    carol.connection.resume();
    const got = await carol.inbox.untilCount(3, messagesOf(room));
    assert.deepEqual(contents(got), ["live", "missed 1", "missed 2"]);
  },

  async user_token_is_renewed(rig) {
    const room = await rig.group("alice", "bob");
    const backend = rig.client("bob");
    let asked = 0;
    const getToken = async () => (await backend.createToken({ expires_in: asked++ ? 3600 : 1 })).token;
    const bob = await rig.attach(rig.client("bob", { apiKey: undefined, userId: undefined, getToken }));
    await until(() => asked > 1);
    await rig.client("alice").sendMessage(room, "still there?");
    assert.equal((await bob.inbox.until(messagesOf(room))).content, "still there?");
    assert.deepEqual((await bob.client.listRooms()).rooms.map((one) => one.room_id), [room]);
  },

  async rate_limit_is_waited_out() {
    const rig = await Rig.make({ rate_limit: 20, rate_burst: 20 });
    try {
      const room = await rig.group("alice", "bob");
      const alice = await rig.connect("alice");
      const live = numbered("live", 60);
      await Promise.all([
        ...live.map((text) => alice.connection.send(room, text)),
        ...numbered("rest", 40).map((text) => alice.client.sendMessage(room, text, { retries: 50 })),
      ]);
      const stored = contents(await storedMessages(alice.client, room));
      assert.equal(stored.length, 100);
      assert.equal(new Set(stored).size, 100);
      assert.deepEqual(stored.filter((text) => text.startsWith("live")), live);
    } finally {
      rig.close();
    }
  },

  async slow_consumer_misses_nothing(rig) {
    const room = await rig.group("alice", "bob");
    const alice = await rig.connect("alice");
    let release;
    const allSent = new Promise((resolve) => { release = resolve; });
    const bob = await rig.connect("bob", { maxPending: 10, handler: (event) => (event.type === "message" ? allSent : undefined) });
    let interruptions = 0;
    bob.connection.on("state", ({ state }) => { interruptions += state === "waiting" ? 1 : 0; });
    const texts = numbered("message", 80);
    await Promise.all(texts.map((text) => alice.connection.send(room, text)));
    release();
    const got = await bob.inbox.untilCount(80, messagesOf(room));
    assert.deepEqual(contents(got), texts);
    assert.ok(interruptions > 0, "the bound was never reached");
  },

  async foreign_answers_are_no_word_on_a_call(rig) {
    const room = await rig.group("alice", "bob");
    const direct = rig.client("alice");
    const { message_id: id } = await direct.sendMessage(room, { content: "once", client_message_id: "mine" });
    const client = rig.client("alice", { url: proxyUrl });
    const calls = {
      GET: (options) => client.listEvents(room, {}, options),
      POST: (options) => client.sendMessage(room, { content: "once", client_message_id: "mine" }, options),
      PUT: (options) => client.editMessage(room, id, "twice", options),
      DELETE: (options) => client.deleteMessage(room, id, options),
    };
    for (const [method, call] of Object.entries(calls)) {
      const answers = Object.entries(foreign).filter(([name]) => method !== "DELETE" || name !== "empty_204").map(([, raw]) => raw);
      for (const answer of answers) {
        await intercept(method, "/v1/rooms/", [answer]);
        await assert.rejects(call({ retries: 0 }), ({ code, status }) => ["NOT_CHATAPI", "NETWORK_ERROR"].includes(code) && status === 0, answer);
      }
      await intercept(method, "/v1/rooms/", answers.slice(0, 2));
      await call();
      assert.equal(await answersLeft(), 0);
    }
    for (const answer of Object.values(foreign)) {
      await intercept("POST", "/v1/rooms", [answer]);
      await assert.rejects(client.createRoom({ type: "group" }), { status: 0 });
    }
    assert.deepEqual(contents(await storedMessages(direct, room)), [null]);
    assert.deepEqual((await direct.listRooms()).rooms.map((one) => one.room_id), [room]);
  },

  async foreign_answers_lose_no_room(rig) {
    const room = await rig.group("alice", "bob");
    const alice = rig.client("alice");
    const bob = await rig.attach(rig.client("bob", { url: proxyUrl, retries: 0 }), { maxDelayMs: 100 });
    for (const text of numbered("seen", 5)) await alice.sendMessage(room, text);
    await bob.inbox.untilCount(5, messagesOf(room));
    bob.connection.pause();
    for (const text of numbered("missed", 150)) await alice.sendMessage(room, text);
    bob.inbox.events.length = 0;
    await intercept("GET", "/events", Object.values(foreign));
    bob.connection.resume();
    await bob.inbox.until((event) => event.type === "sync.complete");
    assert.equal(await answersLeft(), 0);
    const got = bob.inbox.events.filter((event) => event.type === "message" || event.type === "sync.complete");
    assert.deepEqual(seqs(got.slice(0, -1)), range(6, 155));
    assert.equal(got.at(-1).type, "sync.complete");
    await untilReceipt(alice, room, "bob", 155);
    await alice.sendMessage(room, "and on");
    assert.equal((await bob.inbox.untilCount(151, messagesOf(room))).at(-1).content, "and on");
    await untilReceipt(alice, room, "bob", 156);
  },

  async foreign_answers_end_no_connection(rig) {
    const room = await rig.group("alice", "bob");
    const bob = await rig.attach(rig.client("bob", { url: proxyUrl, retries: 0 }), { maxDelayMs: 100, transports: ["websocket"] });
    bob.connection.pause();
    await rig.client("alice").sendMessage(room, "meanwhile");
    await intercept("GET", "/ws\\?", Object.values(foreign));
    await intercept("POST", "/ws/token", Object.values(foreign));
    bob.connection.resume();
    assert.equal((await bob.inbox.until(messagesOf(room))).content, "meanwhile");
    assert.equal(await answersLeft(), 0);
    assert.equal(bob.connection.error, undefined);
    const told = bob.inbox.events.filter((event) => event.type === "local.error").map((event) => event.error.code);
    assert.deepEqual([...new Set(told)], ["NOT_CHATAPI"]);
  },

  async a_send_outlasts_foreign_answers(rig) {
    const room = await rig.group("alice", "bob");
    const alice = await rig.attach(rig.client("alice", { url: proxyUrl, retries: 0 }), { maxDelayMs: 100 });
    const bob = await rig.connect("bob");
    const long = '"'.repeat(65_536);
    const error = '{"success":false,"data":null,"error":{"code":"INTERNAL_ERROR","message":"The disk is full"}}';
    const full = `HTTP/1.1 503 Service Unavailable\r\nContent-Length: ${error.length}\r\n\r\n${error}`;
    await intercept("POST", "/messages", [...Object.values(foreign), full]);
    await intercept("PUT", "/messages", [foreign.html_502, full]);
    const sending = ["first", long, "third"].map((text) => alice.connection.send(room, text));
    assert.equal(alice.connection.unconfirmed, 3);
    const { message_id: id } = (await bob.inbox.untilCount(2, messagesOf(room)))[1];
    const editing = alice.connection.edit(room, id, `${long.slice(1)}!`);
    const deleting = alice.connection.delete(room, id);
    const last = alice.connection.send(room, "last");
    assert.deepEqual(seqs(await Promise.all(sending)), [1, 2, 3]);
    assert.equal((await editing).content, `${long.slice(1)}!`);
    assert.deepEqual([(await deleting).seq, (await last).seq], [5, 6]);
    assert.equal(await answersLeft(), 0);
    assert.deepEqual(contents(await storedMessages(rig.client("alice"), room)), ["first", null, "third", "last"]);
  },
};

async function receiptOf(client, room, userId) {
  return (await client.listReceipts(room)).receipts.find((receipt) => receipt.user_id === userId);
}

async function untilReceipt(client, room, userId, seq) {
  await until(async () => (await receiptOf(client, room, userId)).last_ack === seq);
}

const { cases: all, foreign_answers: foreign } = JSON.parse(await readFile(new URL("../sdk_cases.json", import.meta.url), "utf8"));
const shared = all.filter(({ needs, subject }) => needs !== "newer" && !subject);

test("every shared case is here", () => {
  assert.deepEqual(Object.keys(cases).sort(), shared.map((one) => one.name).sort());
});

testCases(cases, shared);
