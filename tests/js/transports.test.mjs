/** Where WebSockets do not pass: Server-Sent Events, then long polls, and back. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { answersLeft, contents, intercept, proxyUrl, Rig, until } from "./rig.mjs";

const { foreign_answers: foreign } = JSON.parse(await readFile(new URL("../sdk_cases.json", import.meta.url), "utf8"));
const QUICK = { minDelayMs: 10, maxDelayMs: 50 };

for (const [transport, refusesStreams] of [["sse", false], ["poll", true]]) {
  test(`falls back to ${transport} after three refused upgrades, and returns`, { timeout: 180_000 }, async () => {
    const rig = await Rig.make();
    try {
      const room = await rig.group("alice", "bob");
      await intercept("GET", "/v1/ws\\?", Array(3).fill(foreign.text_426));
      if (refusesStreams) await intercept("GET", "/events/stream", [foreign.html_502]);
      const used = [];
      const bob = rig.client("bob", { url: proxyUrl }).connect(QUICK);
      bob.on("error", () => {});
      const got = [];
      bob.on("*", (event) => { if (event.type === "sync.complete") used.push(bob.transport); if (event.type === "message") got.push(event); });
      await until(() => used.length);
      await rig.client("alice").sendMessage(room, "one");
      assert.equal((await bob.send(room, "two")).seq, 2);
      await until(() => got.length === 2);
      assert.deepEqual(contents(got), ["one", "two"]);
      assert.equal(used[0], transport);
      await until(() => used.at(-1) === "websocket" && bob.state === "live");
      await rig.client("alice").sendMessage(room, "three");
      await until(() => got.length === 3);
      assert.equal(await answersLeft(), 0);
      bob.close();
    } finally {
      rig.close();
    }
  });
}

for (const [name, upgrades, calls] of [["is away", 6, 6], ["restarts", 3, 2]]) {
  test(`a server that ${name} is no reason to change`, { timeout: 180_000 }, async () => {
    const rig = await Rig.make();
    await intercept("GET", "/v1/ws\\?", Array(upgrades).fill(foreign.text_426));
    await intercept("GET", "/livez", Array(calls).fill(foreign.html_502));
    const bob = rig.client("bob", { url: proxyUrl, retries: 0 }).connect(QUICK);
    bob.on("error", () => {});
    await bob.ready;
    assert.equal(bob.transport, "websocket");
    assert.equal(await answersLeft(), 0);
    bob.close();
    rig.close();
  });
}

test("long polls tell of a room that is gone", { timeout: 180_000 }, async () => {
  const rig = await Rig.make();
  rig.transports = ["poll"];
  const [deleted, left] = [await rig.group("alice", "bob"), await rig.group("alice", "bob")];
  const { connection, inbox } = await rig.connect("bob");
  const alice = rig.client("alice");
  const growing = [];
  for (const room of [deleted, left]) {
    await alice.call("POST", `/rooms/${room}/messages`, { body: { content: "x", stream: true } });
    growing.push(connection.follow(await inbox.until((event) => event.type === "message" && event.room_id === room)));
  }
  await alice.deleteRoom(deleted);
  await inbox.until((event) => event.type === "room.deleted" && event.room_id === deleted);
  await alice.removeMember(left, "bob");
  await inbox.until((event) => event.type === "member.left" && event.room_id === left);
  for (const message of growing) assert.equal((await message.finished()).stream.state, "open");
  rig.close();
});

test("only known transports are taken", () => {
  const client = new Rig().client("bob", { url: "http://localhost", apiKey: "k" });
  for (const transports of [[], ["carrier pigeon"]]) assert.throws(() => client.connect({ transports }), TypeError);
});
