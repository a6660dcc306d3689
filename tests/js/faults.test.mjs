/** The faults of ../sdk_cases.json, from which this SDK recovers by itself. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { contents, messagesOf, Rig, seqs, storedMessages, until, url } from "./rig.mjs";

const { faults: { cases } } = JSON.parse(await readFile(new URL("../sdk_cases.json", import.meta.url), "utf8"));
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

async function setFaults(faults) {
  const headers = { "X-Master-Key": process.env.CHATAPI_TEST_MASTER_KEY, "Content-Type": "application/json" };
  const response = await fetch(`${url}/dev/faults`, { method: "POST", headers, body: JSON.stringify(faults) });
  if (!response.ok) throw new Error(await response.text());
  return (await response.json()).data;
}

async function* chunks(pieces) {
  for (const piece of pieces) {
    yield piece;
    await pause(10); // as a model writes: not all in one append
  }
}

/** Alice, who sends in the order of the steps. */
class Sender {
  texts = [];
  streams = 0;
  #calls = [];

  constructor(connection, room) {
    this.connection = connection;
    this.room = room;
  }

  async take(step) {
    const [[kind, value]] = Object.entries(step);
    await this[kind](value);
  }

  async fault(faults) { await setFaults(faults); }

  async wait_ms(ms) { await pause(ms); }

  async confirmed() { await Promise.all(this.#calls); }

  async send(count) {
    for (let i = 0; i < count; i++) {
      this.texts.push(`message ${this.texts.length + 1}`);
      this.#begin(this.connection.send(this.room, this.texts.at(-1)));
    }
  }

  async stream(count) {
    const pieces = Array.from({ length: count }, (_, number) => `piece ${number} `);
    this.texts.push(pieces.join(""));
    this.streams++;
    this.#begin(this.connection.stream(this.room, chunks(pieces)));
  }

  #begin(call) {
    call.catch(() => {}); // `confirmed` tells
    this.#calls.push(call);
  }
}

async function recovers(rig, steps) {
  const room = await rig.group("alice", "bob");
  const alice = await rig.connect("alice");
  const bob = await rig.connect("bob");
  const sender = new Sender(alice.connection, room);
  try {
    for (const step of steps) await sender.take(step);
  } finally {
    await setFaults({});
  }
  await sender.confirmed();
  const stored = await storedMessages(alice.client, room);
  assert.deepEqual(contents(stored), sender.texts);
  for (const { inbox, connection } of [alice, bob]) {
    const finished = (event) => event.type === "message.finished";
    const messages = await inbox.untilCount(sender.texts.length, messagesOf(room));
    await inbox.untilCount(sender.streams, finished);
    assert.deepEqual(messages.map((one) => one.message_id), stored.map((one) => one.message_id));
    assert.deepEqual(seqs(messages), seqs(stored));
    await until(() => connection.state === "live");
    assert.equal(inbox.messages(room).length, sender.texts.length);
    assert.equal(inbox.events.filter(finished).length, sender.streams);
  }
}

for (const { name, steps, over = ["websocket", "sse", "poll"] } of cases) {
  for (const transport of over) {
    test(`${name}, ${transport}`, { timeout: 180_000 }, async () => {
      const rig = await Rig.make({ rate_limit: 100_000, user_rate_limit: 100_000 });
      if (transport !== "websocket") rig.transports = [transport];
      try {
        await recovers(rig, steps);
      } finally {
        rig.close();
      }
    });
  }
}

for (const transport of ["websocket", "sse", "poll"]) {
  test(`a change whose confirmation was lost is made once, ${transport}`, { timeout: 180_000 }, async () => {
    const rig = await Rig.make({ rate_limit: 100_000, user_rate_limit: 100_000 });
    if (transport !== "websocket") rig.transports = [transport];
    try {
      await losesConfirmations(rig);
    } finally {
      await setFaults({});
      rig.close();
    }
  });
}

async function losesConfirmations(rig) {
  const room = await rig.group("alice", "bob");
  const { client, connection } = await rig.connect("alice");
  const first = (await connection.send(room, "first")).message_id;
  const second = (await connection.send(room, "second")).message_id;
  const changes = {
    "message.edited": () => connection.edit(room, first, "edited"),
    "reaction.added": () => connection.react(room, first, "👍"),
    "reaction.removed": () => connection.unreact(room, first, "👍"),
    "message.deleted": () => connection.delete(room, second),
    "room.updated": () => client.updateRoom(room, { name: "renamed" }),
    "message.pinned": () => client.pinMessage(room, first),
    "message.unpinned": () => client.unpinMessage(room, first),
    "member.left": () => client.removeMember(room, "bob"),
  };
  for (const [type, change] of Object.entries(changes)) {
    await setFaults({ lose_confirmations: 1 });
    await change();
    assert.equal((await setFaults({})).lose_confirmations, 0, type);
  }
  const { events } = await client.listEvents(room, { after_seq: 0, limit: 100 });
  const counts = Object.keys(changes).map((type) => events.filter((event) => event.type === type).length);
  assert.deepEqual(counts, [2, 1, 1, 1, 1, 1, 1, 1]); // an edit has no id of its own, as the README says
  assert.equal((await client.getMessage(room, first)).content, "edited");
}
