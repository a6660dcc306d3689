/** What stands between a connection and its server, and what it makes of it: against a server played by hand. */
import assert from "node:assert/strict";
import { test } from "node:test";
import WebSocket from "ws";
import { ChatAPI } from "../../chatapi/web/sdk/chatapi.js";
import { message, refusal, jwt, ROOM, ScriptedServer, take } from "./scripted-server.mjs";
import { Rig } from "./rig.mjs";

function onScripted(name, body) {
  test(name, { timeout: 120_000 }, async () => {
    const scripted = await ScriptedServer.open();
    try {
      await body(scripted);
    } finally {
      scripted.close();
    }
  });
}

const seqs = (events) => events.map((event) => event.seq);
const until = async (test) => { while (!test()) await new Promise((resolve) => { setTimeout(resolve, 2); }); };

onScripted("what is no frame ends the socket, and the next one goes on", async (scripted) => {
  const { connection, session: first } = await scripted.start();
  const none = ["not JSON", "[]", "null", "{}", '{"type": 7}', '{"type": "message", "room_id": "room_a", "seq": "1"}', '{"type": "message", "seq": 1}',
    '{"type": "sync.complete", "rooms": {"room_a": null}}', '{"type": "sync.complete"}', '{"type": "sync.gap", "room_id": "room_a"}',
    '{"type": "subscribed", "room_id": "room_a"}', '{"type": "notification"}', '{"type": "error", "message": "no code"}', Buffer.from("{}")];
  const seen = [];
  connection.on("message", (event) => { seen.push(event.seq); });
  let session = first;
  for (const [count, text] of none.entries()) {
    await session.complete({ room_a: count });
    session.say(message(count + 1));
    await until(() => seen.length === count + 1);
    session.say(text);
    session = await scripted.session();
    session.sayReady({ rooms: [{ ...ROOM, last_seq: count + 1 }] });
  }
  assert.deepEqual(seen, none.map((_, index) => index + 1));
  assert.deepEqual([...new Set(connection.told.map((error) => error.code))], ["NOT_CHATAPI"]);
});

onScripted("ready comes in parts", async (scripted) => {
  const connection = scripted.connect();
  const events = [];
  connection.on("*", (event) => { events.push(event); });
  const session = await scripted.session();
  const rooms = [0, 1, 2, 3, 4, 5].map((number) => ({ ...ROOM, room_id: `room_${number}` }));
  session.sayReady({ rooms: rooms.slice(0, 2), more: true });
  session.say({ type: "room.created", room_id: "room_new", last_seq: 0 });
  session.say({ type: "ready.rooms", rooms: rooms.slice(2, 4), more: true });
  session.say({ type: "ready.rooms", rooms: rooms.slice(4), more: false });
  assert.deepEqual((await session.complete()).rooms, {});
  await until(() => events.at(-1)?.type === "sync.complete");
  assert.deepEqual((await connection.ready).rooms, rooms);
  assert.deepEqual(events.map((event) => event.type), ["ready", "room.created", "sync.complete"]);
  assert.deepEqual(Object.keys(connection.cursors.rooms), [...rooms.map((room) => room.room_id), "room_new"]);
});

onScripted("an event of a kind that is not known yet counts", async (scripted) => {
  const { connection, session } = await scripted.start();
  const events = [];
  connection.on("*", (event) => { events.push(event.type); });
  await session.complete({ room_a: 0 });
  for (const frame of [message(1), { type: "huddle.began", room_id: "room_a", seq: 2 }, { type: "weather", wind: 3 }, message(3)]) session.say(frame);
  await until(() => events.length === 6);
  assert.deepEqual(events, ["ready", "sync.complete", "message", "huddle.began", "weather", "message"]);
});

onScripted("a log that cannot be read now is asked for again, and the rest goes on", async (scripted) => {
  const { connection, session } = await scripted.start();
  const seen = take(connection, "message", 3);
  await session.complete({ room_a: 0 });
  scripted.log = 2;
  scripted.logAnswers = [refusal(503, "INTERNAL_ERROR"), { status: 404, body: "page not found" }, { body: { success: true, data: { events: null } } },
    { body: { success: true, data: { events: [], has_more: true } } }, { body: { success: true, data: { events: [message(1, "room_x")], has_more: true } } }];
  session.say({ type: "sync.gap", room_id: "room_a", from_seq: 1, to_seq: 2 });
  session.say(message(1, "room_b"));
  assert.deepEqual((await seen).map((event) => [event.room_id, event.seq]), [["room_b", 1], ["room_a", 1], ["room_a", 2]]);
  assert.equal(scripted.dialled, 1);
  assert.deepEqual(connection.told.slice(0, 2).map((error) => error.code), ["INTERNAL_ERROR", "NOT_CHATAPI"]);
});

onScripted("a room that the server itself refuses is let go, and is the user's own when it comes again", async (scripted) => {
  const { connection, session } = await scripted.start();
  scripted.logAnswers = [refusal(403, "AUTHORIZATION_ERROR")];
  await session.complete({ room_a: 3 });
  await take(connection, "sync.complete", 1);
  assert.deepEqual(connection.cursors.rooms, {});
  const seen = take(connection, "message", 2);
  for (const seq of [4, 5]) session.say(message(seq));
  assert.deepEqual(seqs(await seen), [4, 5]);
  assert.equal((await session.hear("ack")).seq, 5);
});

onScripted("a leaving that is history ends nothing", async (scripted) => {
  const { connection, session } = await scripted.start({}, { rooms: [{ ...ROOM, last_seq: 120 }] });
  scripted.log = 120;
  scripted.leftAt = 50;
  const seen = take(connection, "message", 120);
  await session.complete({ room_a: 120 });
  session.say(message(121));
  assert.deepEqual(seqs(await seen).slice(-2), [120, 121]);
  while ((await session.hear("ack")).seq < 121) ;
});

onScripted("whatever getToken does is told, and it is asked again", async (scripted) => {
  const answers = [() => { throw new Error("no session"); }, () => Promise.reject(new Error("no network")), () => new Promise(() => {}), () => undefined, () => null,
    () => "", () => 7, () => "a\nb", () => '"quoted"', () => "töken", ...[1, 2, 3, 4].map(() => () => jwt({ exp: 1 })), () => "good"];
  const connection = scripted.connect({}, { token: undefined, timeoutMs: 50, getToken: () => answers.shift()() });
  for (let expired = 0; expired < 4; expired++) {
    const session = await scripted.session();
    session.say({ type: "error", code: "AUTHENTICATION_ERROR", message: `expired ${expired}` });
    session.websocket.close(4001);
  }
  (await scripted.session()).sayReady();
  await connection.ready;
  assert.equal(answers.length, 0);
  assert.equal(connection.error, undefined);
  assert.deepEqual(connection.told.map((error) => error.code),
    [...Array(8).fill("NO_TOKEN"), ...Array(4).fill("AUTHENTICATION_ERROR")], connection.told.map(String).join("\n"));
  assert.equal(connection.told[0].cause.message, "no session");
});

onScripted("a token that is refused for anything else is asked for twice more", async (scripted) => {
  let asked = 0;
  const connection = scripted.connect({}, { token: undefined, getToken: () => `token-${++asked}` });
  for (let refused = 0; refused < 3; refused++) {
    const session = await scripted.session();
    session.say({ type: "error", code: "AUTHENTICATION_ERROR", message: "No such user" });
    session.websocket.close(4001);
  }
  await assert.rejects(connection.ready, { code: "AUTHENTICATION_ERROR", message: "No such user" });
  assert.equal(asked, 3);
  assert.equal(connection.state, "closed");
});

onScripted("a close code that nobody of ChatAPI's has explained ends nothing", async (scripted) => {
  const connection = scripted.connect();
  (await scripted.session()).websocket.close(4001);
  (await scripted.session()).sayReady();
  await connection.ready;
});

onScripted("after two handshakes that failed the reason is asked for, told, and waited out where it passes", async (scripted) => {
  scripted.refusals = Array(4).fill(429);
  scripted.plainGet = refusal(429, "RATE_LIMIT_EXCEEDED", "A user may hold 10 connections");
  const connection = scripted.connect();
  await until(() => connection.error?.status === 429);
  assert.equal(connection.states.at(-1).error.message, "A user may hold 10 connections");
  scripted.plainGet = refusal(426, "VALIDATION_ERROR");
  await until(() => connection.error?.code === "NOT_CHATAPI"); // the server would not refuse: something in between does
  (await scripted.session()).sayReady();
  await connection.ready;
  assert.deepEqual(connection.told.map((error) => error.code), ["RATE_LIMIT_EXCEEDED", "NOT_CHATAPI"]);
});

onScripted("an origin that the server refuses ends it, with the reason", async (scripted) => {
  scripted.refusals = Array(9).fill(403);
  scripted.plainGet = refusal(403, "AUTHORIZATION_ERROR", "This origin is not allowed");
  const connection = scripted.connect();
  await assert.rejects(connection.ready, { code: "AUTHORIZATION_ERROR", status: 403 });
  assert.equal(connection.state, "closed");
  assert.deepEqual(connection.told.map((error) => error.message), ["This origin is not allowed"]);
});

onScripted("a redirect is not followed", async (scripted) => {
  scripted.logAnswers = [{ status: 307, headers: { Location: "/v1/rooms/room_a/events?after_seq=0&limit=5" } }];
  const client = new ChatAPI({ url: scripted.url, token: "t", retries: 0 });
  await assert.rejects(client.listEvents("room_a", { limit: 5 }), ({ code, details }) => code === "NOT_CHATAPI" && details.http_status === 307);
});

onScripted("a wait can be cut short", async (scripted) => {
  scripted.refusals = [502];
  const connection = scripted.connect({ minDelayMs: 3_600_000, maxDelayMs: 3_600_000 });
  await until(() => connection.state === "waiting");
  connection.resume();
  (await scripted.session()).sayReady();
  await connection.ready;
});

onScripted("what a peer asks to wait for never overflows a timer", async (scripted) => {
  const { connection, session } = await scripted.start();
  await session.complete();
  session.say({ type: "server.shutdown", reconnect_after_ms: 1e12 });
  session.websocket.close(1001);
  await until(() => connection.state === "waiting");
  assert.equal(connection.states.at(-1).delayMs, 2 ** 31 - 1);
});

onScripted("a followed channel is named in the sync, and so is a room that is not wanted", async (scripted) => {
  const { connection, session } = await scripted.start();
  await session.complete({ room_a: 0 });
  const subscribing = connection.subscribe("channel");
  const { request_id } = await session.hear("subscribe");
  session.say({ type: "subscribed", room_id: "channel", last_seq: 4, request_id });
  await subscribing;
  const unsubscribing = connection.unsubscribe("room_a");
  session.say({ type: "unsubscribed", room_id: "room_a", request_id: (await session.hear("unsubscribe")).request_id });
  await unsubscribing;
  session.websocket.close(1001);
  const second = await scripted.session();
  second.sayReady({ rooms: [{ ...ROOM, last_seq: 7 }] });
  const sync = await second.hear("sync", { strict: true });
  assert.deepEqual(sync.rooms, { channel: 4, room_a: 7 });
  second.say({ type: "error", code: "NOT_FOUND", message: "no", field: "rooms.channel", request_id: sync.request_id });
  second.say({ type: "sync.complete", rooms: {}, request_id: sync.request_id });
  second.say(message(8));
  second.say(message(9));
  assert.equal((await second.hear("unsubscribe", { strict: true })).room_id, "room_a");
  const pinging = connection.ping();
  second.say({ type: "pong", request_id: (await second.hear("ping", { strict: true })).request_id });
  await pinging;
  assert.deepEqual(Object.keys(connection.cursors.rooms), ["room_a"]);
});

onScripted("rooms are acknowledged together", async (scripted) => {
  const rooms = Array.from({ length: 2_500 }, (_, number) => ({ ...ROOM, room_id: `room_${number}` }));
  const { connection, session } = await scripted.start({}, { rooms });
  const seen = take(connection, "message", 2_500);
  await session.complete();
  for (const { room_id } of rooms) session.say(message(1, room_id));
  await seen;
  const acked = {};
  let frames = 0;
  for (; Object.keys(acked).length < 2_500; frames++) {
    const ack = await session.hear("ack", { strict: true });
    Object.assign(acked, ack.rooms ?? { [ack.room_id]: ack.seq });
    assert.ok(Object.keys(ack.rooms ?? {}).length <= 1_000);
  }
  assert.ok(frames <= 15, `${frames} frames`);
});

onScripted("a long message waits for a resume, and ends with the connection", async (scripted) => {
  const { connection, session } = await scripted.start();
  await session.complete();
  connection.pause();
  const long = connection.send("room_a", { content: '"'.repeat(65_500), client_message_id: "long" });
  const short = connection.send("room_a", { content: "short", client_message_id: "short" });
  await new Promise((resolve) => { setTimeout(resolve, 20); }); // nothing tells that nothing is sent
  assert.equal(scripted.posts, 0);
  connection.resume();
  await until(() => scripted.posts > 1);
  connection.close();
  // Together: an error that nobody waits for yet would end the test.
  await Promise.all(Object.entries({ long, short }).map(([id, sending]) => (
    assert.rejects(sending, (error) => error.code === "CLOSED" && error.details.client_message_id === id)
  )));
});

test("what can never be sent is refused at once", () => {
  const url = "http://127.0.0.1";
  for (const options of [{ apiKey: "sk\n1", userId: "a" }, { apiKey: "sk", userId: "tö\u4e00" }, { token: 'a"b' }, { token: "a\n" }]) {
    assert.throws(() => new ChatAPI({ url, ...options }), /characters/);
  }
});

test("the real server tells that a user has too many connections", { timeout: 120_000 }, async () => {
  const rig = await Rig.make({ rate_limit: 100_000, connections_per_user: 1 });
  try {
    const { token } = await rig.client("backend").createToken({ user_id: "bob" });
    const bob = { apiKey: undefined, userId: undefined, token };
    const first = await rig.attach(rig.client("bob", bob));
    const second = rig.client("bob", bob).connect({ minDelayMs: 1, maxDelayMs: 50 });
    const told = await new Promise((resolve) => { second.on("error", resolve); });
    assert.deepEqual([told.code, told.status, told.message], ["RATE_LIMIT_EXCEEDED", 429, "A user may hold 1 connections"]);
    first.connection.close();
    await second.ready;
    second.close();
    const carol = rig.client("carol");
    const rooms = [await rig.group("carol"), await rig.group("carol")];
    const page = await carol.listRooms({ limit: 1 });
    const next = await carol.listRooms({ limit: 1, cursor: page.next_cursor });
    assert.deepEqual([page.has_more, next.has_more, next.rooms[0].room_id], [true, false, rooms[0]]);
    const result = await rig.client("bob").ackRooms({ room_none: 1 });
    assert.deepEqual([result.rooms, result.errors.room_none.code], [{}, "NOT_FOUND"]);
  } finally {
    rig.close();
  }
});

test("a page of a foreign origin is told so by the real server", { timeout: 120_000 }, async () => {
  class ForeignSocket extends WebSocket {
    constructor(url, protocols) { super(url, protocols, { origin: "https://evil.example" }); }
  }
  // As a browser's: it adds the origin, and shows the page only what the server lets it read.
  const foreignFetch = async (address, init) => {
    if (Object.keys(init.headers).length) throw new TypeError("the preflight was not answered for this origin");
    const response = await fetch(address, { ...init, headers: { ...init.headers, Origin: "https://evil.example" } });
    if (response.headers.get("Access-Control-Allow-Origin") !== "*") throw new TypeError("not for this origin");
    return response;
  };
  const rig = await Rig.make();
  const { token } = await rig.client("backend").createToken({ user_id: "bob" });
  const options = { apiKey: undefined, userId: undefined, token, WebSocket: ForeignSocket, fetch: foreignFetch };
  const connection = rig.client("bob", options).connect({ minDelayMs: 1, maxDelayMs: 5 });
  await assert.rejects(connection.ready, { code: "AUTHORIZATION_ERROR", status: 403 });
});

onScripted("acks that the server could not store are sent again", async (scripted) => {
  const { connection, session } = await scripted.start();
  const seen = take(connection, "message", 2);
  await session.complete({ room_a: 0 });
  session.say(message(1));
  const held = { type: "error", code: "INTERNAL_ERROR", message: "held", retry_after_ms: 10 };
  assert.equal((await session.hear("ack", { strict: true })).seq, 1);
  session.say(held);
  assert.equal((await session.hear("ack", { strict: true })).seq, 1);
  session.say({ type: "ack.received", room_id: "room_a", seq: 1, user_id: "alice" });
  session.say(held);
  session.say(message(2));
  assert.equal((await session.hear("ack", { strict: true })).seq, 2);
  await seen;
});
