/** A 1.0 SDK before a server of a later 1.x: the cases of ../sdk_cases.json that need a newer server. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { isLogEvent } from "../../chatapi/web/sdk/chatapi.js";
import { closeWith, contents, messagesOf, newerUrl, numbered, range, readsOfEvents, Rig, seqs, storedMessages, testCases } from "./rig.mjs";

const { cases: all, newer_server: news } = JSON.parse(await readFile(new URL("../sdk_cases.json", import.meta.url), "utf8"));
const kinds = news.values.type;

/** Six events, of which four are of kinds that a newer server has for them. */
async function makeHistory(alice, room) {
  const { message_id: id } = await alice.sendMessage(room, "first");
  await alice.editMessage(room, id, "second");
  await alice.updateRoom(room, { name: "renamed" });
  await alice.addMember(room, "carol");
  await alice.updateMember(room, "carol", { role: "admin" });
  await alice.sendMessage(room, "last");
}

/** Every other event is a message, and those between are of a kind that is not known. */
async function rename(alice, room, first, last) {
  for (const number of range(first, last)) {
    if (number % 2) await alice.sendMessage(room, `message ${number}`);
    else await alice.updateRoom(room, { name: `name ${number}` });
  }
}

/** What came of the room's log, once `lastSeq` is there. */
async function logOf({ connection, inbox }, room, lastSeq) {
  await inbox.until((event) => isLogEvent(event) && event.room_id === room && event.seq === lastSeq);
  await connection.ping();
  return inbox.events.filter((event) => event.type !== "local.error" && isLogEvent(event) && event.room_id === room);
}

const cases = {
  async new_kinds_of_events_are_of_the_log(rig) {
    const room = await rig.group("alice", "bob");
    const alice = rig.client("alice");
    const bob = await rig.connect("bob");
    const reads = await readsOfEvents();
    await makeHistory(alice, room);
    const log = await logOf(bob, room, 6);
    const told = ["message.edited", "room.updated", "member.joined", "member.updated"];
    assert.deepEqual(log.map((event) => event.type), ["message", ...told.map((kind) => kinds[kind]), "message"]);
    assert.deepEqual(seqs(log), range(1, 6));
    assert.equal(await readsOfEvents(), reads);
    for (let lastAck = 0; lastAck !== 6;) {
      lastAck = (await alice.listReceipts(room)).receipts.find((receipt) => receipt.user_id === "bob").last_ack;
    }
  },

  async new_kinds_of_events_are_caught_up(rig) {
    const room = await rig.group("alice", "bob");
    const alice = rig.client("alice");
    const bob = await rig.connect("bob");
    const reads = await readsOfEvents();
    await rename(alice, room, 1, 1);
    await bob.inbox.until(messagesOf(room));
    bob.connection.pause();
    await rename(alice, room, 2, 11);
    bob.connection.resume();
    assert.deepEqual(seqs(await logOf(bob, room, 11)), range(1, 11));
    assert.equal(await readsOfEvents(), reads); // the server streamed them
    const kept = JSON.parse(JSON.stringify(bob.connection.cursors));
    assert.equal(kept.rooms[room], 11);

    bob.connection.pause();
    await rename(alice, room, 12, 51);
    bob.connection.resume();
    const log = await logOf(bob, room, 51);
    assert.deepEqual(seqs(log), range(1, 51));
    assert.deepEqual(log.map((event) => event.type), range(1, 51).map((number) => (number % 2 ? "message" : "poll.closed")));
    assert.ok(await readsOfEvents() > reads);
    const other = await rig.connect("bob", { cursors: kept });
    assert.deepEqual(seqs(await logOf(other, room, 51)), range(12, 51));
  },

  async new_fields_and_values_are_passed_on(rig) {
    const room = await rig.group("alice", "bob");
    const bob = await rig.connect("bob");
    const alice = rig.client("alice");
    await makeHistory(alice, room);
    const ready = await bob.connection.ready;
    const { members } = await alice.listMembers(room);
    const shown = [await alice.getRoom(room), ...(await alice.listRooms()).rooms, ...members, ...(await alice.listMessages(room)).messages,
      ...(await alice.listEvents(room)).events, ...await logOf(bob, room, 6), ready, ready.rooms[0]];
    const [[field, value]] = Object.entries(news.fields);
    for (const one of shown) assert.deepEqual(one[field], value);
    assert.deepEqual([shown[0].type, ready.rooms[0].type], ["huddle", "huddle"]);
    assert.deepEqual(members.map((member) => member.role).sort(), ["member", "owner", "owner"]);
    const renamed = shown.find((event) => event.type === "poll.closed");
    assert.deepEqual([renamed.room_type, renamed.metadata], ["huddle", null]);
    await rig.connect("alice");
    await bob.inbox.until((event) => event.type === "presence.update" && event.user_id === "alice" && event.status === "away");
  },

  async new_frames_disturb_nothing(rig) {
    const room = await rig.group("alice", "bob");
    const alice = await rig.connect("alice");
    const bob = await rig.connect("bob");
    const texts = numbered("message", 10);
    const sent = [];
    for (const text of texts) sent.push(await alice.connection.send(room, text));
    const edited = await alice.connection.edit(room, sent.at(-1).message_id, "edited");
    assert.deepEqual([edited.seq, edited.content], [11, "edited"]);
    const messages = await bob.inbox.untilCount(10, messagesOf(room));
    assert.deepEqual([contents(messages), seqs(messages)], [texts, range(1, 10)]);
    await bob.connection.ping();
    const come = bob.inbox.events.slice(bob.inbox.events.indexOf(messages[0]));
    const between = come.filter((event) => news.frames.some((frame) => frame.type === event.type));
    assert.deepEqual(between.slice(0, 9 * news.frames.length), Array(9).fill(news.frames).flat());
    assert.deepEqual(contents(await storedMessages(alice.client, room)), [...texts.slice(0, -1), "edited"]);
  },

  async new_error_codes_are_told(rig) {
    const room = await rig.group("alice", "bob");
    const alice = await rig.connect("alice");
    await alice.client.createRoom({ type: "dm", members: ["bob"] });
    await assert.rejects(alice.client.createRoom({ type: "dm", members: ["bob"] }), { code: "ROOM_EXISTS", status: 409 });
    await assert.rejects(alice.connection.send(room, ""), { code: "UNACCEPTABLE", status: 400, field: "content" });
    assert.equal((await alice.connection.send(room, "and on")).seq, 1);

    const hasty = await Rig.make({ rate_limit: 5, rate_burst: 3 }, newerUrl);
    try {
      const slow = await hasty.group("alice", "bob");
      const slowed = await hasty.connect("alice");
      for (const text of numbered("message", 4)) await slowed.connection.send(slow, text);
      assert.deepEqual(contents(await storedMessages(slowed.client, slow)), numbered("message", 4));
    } finally {
      hasty.close();
    }
  },

  async new_close_codes_end_no_connection(rig) {
    const room = await rig.group("alice", "bob");
    const bob = await rig.connect("bob", { minDelayMs: 1, maxDelayMs: 50 });
    for (const [index, code] of news.close_codes.entries()) {
      await closeWith(code);
      await rig.client("alice").sendMessage(room, `after ${code}`);
      await bob.inbox.untilCount(index + 2, (event) => event.type === "ready");
      await bob.inbox.untilCount(index + 1, messagesOf(room));
    }
    const log = await logOf(bob, room, news.close_codes.length);
    assert.deepEqual(contents(log), news.close_codes.map((code) => `after ${code}`));
    assert.deepEqual(bob.inbox.events.filter((event) => event.type === "local.error"), []);
  },
};

const shared = all.filter(({ needs }) => needs === "newer");

test("every case of a newer server is here", () => {
  assert.deepEqual(Object.keys(cases).sort(), shared.map((one) => one.name).sort());
});

testCases(cases, shared, newerUrl);
