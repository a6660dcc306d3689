/** The cases of ../sdk_cases.json in which a tenant moves to another server, as this SDK shows them. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import WebSocket from "ws";
import { ChatAPI } from "../../chatapi/web/sdk/chatapi.js";
import { answersLeft, contents, intercept, messagesOf, moveTenant, numbered, otherUrl, proxyUrl, range, seqs, storedMessages, testCases, transport, until } from "./rig.mjs";
import { finished, follow, grownTo, show, write } from "./stream-rig.mjs";

const { cases: all, moves: addresses } = JSON.parse(await readFile(new URL("../sdk_cases.json", import.meta.url), "utf8"));
const OPENS = { websocket: ["POST", "/v1/ws/token"], sse: ["GET", "/v1/events/stream"], poll: ["POST", "/v1/sync"] }; // the first request of a connection
const [method, opening] = OPENS[transport || "websocket"];

const shared = all.filter(({ subject }) => subject === "moves");

const moved = (url) => {
  const body = JSON.stringify({ success: false, data: null, error: { code: "TENANT_MOVED", message: "moved", details: { url } } });
  return `HTTP/1.1 421 Misdirected Request\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`;
};
const isMove = (error) => error?.code === "TENANT_MOVED" && error.status === 421;

/** Opens the connection once more. Resolves with the error with which it ends. */
async function comeBack(connection) {
  connection.pause();
  connection.resume();
  await until(() => connection.state === "closed");
  return connection.error;
}

const isReset = (event) => event.type === "sync.reset";

const cases = {
  async calls_follow_the_tenant(rig) {
    const [before, alice] = [rig.client("alice"), rig.client("alice")];
    const room = await rig.group("alice", "bob");
    const mine = { content: "one", client_message_id: "mine" };
    const first = await alice.sendMessage(room, mine);
    await alice.sendMessage(room, "two");
    const page = await alice.listMessages(room, { limit: 1 });
    await moveTenant(rig.tenantId);
    const again = await alice.sendMessage(room, mine);
    assert.deepEqual([again.message_id, again.seq], [first.message_id, 1]);
    const { room_id: made } = await alice.createRoom({ type: "group", members: ["alice"] });
    assert.deepEqual((await alice.listRooms()).rooms.map((one) => one.room_id).sort(), [room, made].sort());
    assert.equal(alice.url, otherUrl);
    const older = await alice.listMessages(room, { before_seq: page.messages[0].seq });
    assert.deepEqual(contents([...older.messages, ...page.messages]), ["one", "two"]);
    await moveTenant(rig.tenantId);
    for (const [index, client] of [alice, before, rig.client("alice")].entries()) {
      assert.equal((await client.sendMessage(room, `${index + 3}`)).seq, index + 3);
    }
    assert.deepEqual(contents(await storedMessages(alice, room)), ["one", "two", "3", "4", "5"]);
  },

  async connections_follow_the_tenant(rig) {
    const room = await rig.group("alice", "bob");
    const [alice, bob] = [await rig.connect("alice"), await rig.connect("bob")];
    const texts = numbered("message", 60);
    const sending = texts.map((text) => alice.connection.send(room, text));
    for (const last of [20, 40, 60]) {
      await sending[last - 1];
      await moveTenant(rig.tenantId);
    }
    await Promise.all(sending);
    const got = await bob.inbox.untilCount(60, messagesOf(room));
    assert.deepEqual([contents(got), seqs(got)], [texts, range(1, 60)]);
    assert.deepEqual(contents(await storedMessages(rig.client("alice"), room)), texts);
    assert.equal((await bob.connection.send(room, "back")).seq, 61);
    for (const { inbox, connection } of [alice, bob]) {
      assert.deepEqual(seqs(await inbox.untilCount(61, messagesOf(room))), range(1, 61));
      await until(() => connection.state === "live");
    }
  },

  async move_is_told_with_its_address(rig) {
    await rig.group("alice", "bob");
    const { inbox, client } = await rig.connect("bob");
    await moveTenant(rig.tenantId);
    await inbox.until((event) => event.type === "server.shutdown" && event.url === otherUrl);
    await inbox.untilCount(2, (event) => event.type === "sync.complete");
    assert.equal(client.url, otherUrl);
    assert.deepEqual(inbox.events.filter(isReset), []);
  },

  async those_who_were_away_find_the_tenant(rig) {
    const room = await rig.group("alice", "bob");
    const [bob, device] = [await rig.connect("bob"), await rig.connect("bob", { autoAck: false })];
    for (const text of numbered("before", 3)) await rig.client("alice").sendMessage(room, text);
    for (const { inbox } of [bob, device]) await inbox.untilCount(3, messagesOf(room));
    await device.connection.ping(); // the handler of the third has returned
    bob.connection.pause();
    device.connection.close();
    const { cursors } = device.connection;
    await moveTenant(rig.tenantId);
    for (const text of numbered("meanwhile", 4)) await rig.client("alice").sendMessage(room, text);
    bob.connection.resume();
    const back = await rig.connect("bob", { cursors });
    assert.deepEqual(seqs(await bob.inbox.untilCount(7, messagesOf(room))), range(1, 7));
    assert.deepEqual(seqs(await back.inbox.untilCount(4, messagesOf(room))), range(4, 7));
    for (const { inbox } of [bob, back]) assert.deepEqual(inbox.events.filter(isReset), []);
  },

  async stream_outlasts_a_move(rig) {
    const [room, other] = [await rig.group("alice", "bob"), await rig.group("carol", "bob")];
    const [alice, bob] = [await rig.connect("alice"), await rig.connect("bob")];
    const streams = [write(alice.connection, room), write(rig.client("carol"), other)];
    const growing = [await follow(bob, room), await follow(bob, other)];
    let text = "";
    for (const piece of ["before ", "away "]) {
      text += piece;
      for (const [index, { source }] of streams.entries()) {
        source.put(piece);
        await grownTo(growing[index], text);
      }
      text += "during ";
      const moving = moveTenant(rig.tenantId);
      for (const { source } of streams) source.put("during ");
      await moving;
    }
    text += "after";
    for (const [index, { source, done }] of streams.entries()) {
      source.put("after", null);
      assert.deepEqual(show(await done), [text, "done"]);
      assert.deepEqual(show(await growing[index].finished()), [text, "done"]);
    }
    await finished(bob, 2);
  },

  async user_token_outlasts_a_move(rig) {
    const room = await rig.group("alice", "bob");
    const ofToken = async () => new ChatAPI({ url: rig.url, token: (await rig.client("alice").createToken()).token, WebSocket });
    const [connected, waiting] = [await ofToken(), await ofToken()];
    const alice = await rig.attach(connected);
    await moveTenant(rig.tenantId);
    assert.equal((await alice.connection.send(room, "over the connection")).seq, 1);
    assert.equal((await waiting.sendMessage(room, "over REST")).seq, 2);
    const again = await rig.attach(waiting);
    assert.equal((await again.connection.send(room, "over another connection")).seq, 3);
    assert.deepEqual(seqs(await alice.inbox.untilCount(3, messagesOf(room))), [1, 2, 3]);
  },

  async wrong_addresses_are_not_followed(rig) {
    for (const { about, from, url, goes_on_at: goesOnAt } of addresses) {
      const client = new ChatAPI({ url: from, token: "t" });
      assert.equal(client.moveTo(url), goesOnAt !== null, about);
      assert.equal(client.url, goesOnAt ?? from, about);
    }
    const alice = rig.client("alice", { url: proxyUrl });
    const { connection } = await rig.attach(alice);
    for (const { url } of addresses.filter((one) => one.goes_on_at === null && one.from.startsWith("http:"))) {
      await intercept("GET", "/v1/rooms", [moved(url), moved(url)]); // fetch itself repeats once what gets 421
      await assert.rejects(alice.listRooms(), (error) => isMove(error) && assert.deepEqual(error.details, { url }) === undefined);
      assert.equal(alice.url, proxyUrl);
      assert.equal(await answersLeft(), 0);
      await alice.listRooms();
    }
    await intercept(method, opening, [moved("ftp://two.example"), moved("ftp://two.example")]);
    assert.ok(isMove(await comeBack(connection)));
    assert.equal(await answersLeft(), 0);
  },

  async servers_that_name_each_other_are_given_up(rig) {
    const alice = rig.client("alice", { url: proxyUrl });
    const { connection } = await rig.attach(alice);
    const call = () => alice.getRoom("room_a").catch((error) => error);
    for (const [name, path, ask] of [["GET", "/v1/rooms/", call], [method, opening, () => comeBack(connection)]]) {
      await intercept(name, `^${path}`, Array(6).fill(moved(`${proxyUrl}/b`)));
      await intercept(name, `^/b${path}`, Array(6).fill(moved(proxyUrl)));
      assert.ok(isMove(await ask()));
      assert.equal(await answersLeft(), 0); // 6 servers were asked, each twice, as above
    }
  },
};

test("every shared case on moves is here", () => {
  assert.deepEqual(Object.keys(cases).sort(), shared.map((one) => one.name).sort());
});

testCases(cases, shared);
