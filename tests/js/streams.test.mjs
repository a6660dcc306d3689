/** The cases of ../sdk_cases.json on streams, as this SDK shows them. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { applyEvent, StreamFailed } from "../../chatapi/web/sdk/chatapi.js";
import { control, testCases } from "./rig.mjs";
import { finished, follow, grownTo, show, write } from "./stream-rig.mjs";

const cases = {
  async kept_streams_grow() {
    const room = { room_id: "r", message_id: "m", seq: 1, deleted_at: null };
    for (const { about, shown, events, shows } of keptStreams) {
      for (const once of [events, [...events, ...events]]) {
        let message = { ...room, ...shown };
        for (const event of once) message = applyEvent(message, { ...room, ...event, ...(event.message && { message: { ...room, ...event.message } }) });
        assert.deepEqual({ content: message.content, ...(message.stream && { stream: message.stream }) }, shows, about);
        assert.equal(message.seq, 1);
      }
    }
  },

  async stream_is_written_and_followed(rig) {
    const room = await rig.group("alice", "bob");
    const alice = await rig.connect("alice");
    const bob = await rig.connect("bob");
    for (const [index, writer] of [alice.connection, rig.client("alice")].entries()) {
      const { source, done } = write(writer, room, { meta: { model: "none" } });
      const growing = await follow(bob, room, index + 1);
      for (const [piece, text] of [["One", "One"], [", two", "One, two"], [", three", "One, two, three"]]) {
        source.put(piece);
        await grownTo(growing, text);
      }
      assert.ok(growing.isOpen);
      source.put(null);
      const message = await done;
      assert.deepEqual(show(await growing.finished()), show(message));
      assert.deepEqual(show(message), ["One, two, three", "done"]);
      const stored = await rig.client("bob").getMessage(room, message.message_id);
      for (const name of ["seq", "content", "meta"]) assert.deepEqual(stored[name], message[name]);
      const texts = [];
      for await (const text of bob.connection.follow(message).text()) texts.push(text);
      assert.deepEqual(texts, ["One, two, three"]);
    }
  },

  async stream_outlasts_a_kill(rig) {
    const room = await rig.group("alice", "bob");
    const other = await rig.group("carol", "bob");
    const alice = await rig.connect("alice");
    const bob = await rig.connect("bob");
    const streams = [write(alice.connection, room), write(rig.client("carol"), other)];
    const growing = [await follow(bob, room), await follow(bob, other)];
    for (const [index, { source }] of streams.entries()) {
      source.put("before ");
      await grownTo(growing[index], "before ");
    }
    await control("kill");
    for (const { source } of streams) source.put("during ");
    await control("start");
    for (const [index, { source, done }] of streams.entries()) {
      source.put("after", null);
      const ended = await done;
      assert.deepEqual(show(ended), ["before during after", "done"]);
      assert.deepEqual(show(await growing[index].finished()), show(ended));
    }
  },

  async stream_is_followed_from_the_middle(rig) {
    const room = await rig.group("alice", "bob");
    const alice = await rig.connect("alice");
    const carol = await rig.connect("bob");
    const { source, done } = write(alice.connection, room);
    await grownTo(await follow(carol, room), "");
    source.put("one");
    await grownTo(await follow(carol, room), "one");
    const [found] = (await rig.client("bob").listMessages(room)).messages;
    source.put(" and a half");
    await grownTo(await follow(carol, room), "one and a half");
    const bob = await rig.connect("bob");
    for (const { connection } of [carol, bob]) await grownTo(connection.follow(found), "one and a half");
    const growing = bob.connection.follow(found);
    bob.connection.pause();
    source.put(", two");
    await grownTo(await follow(carol, room), "one and a half, two");
    bob.connection.resume();
    await grownTo(growing, "one and a half, two");
    source.put(", three");
    await grownTo(growing, "one and a half, two, three");
    bob.connection.close();
    assert.equal((await growing.finished()).stream.state, "open");
    source.put(null);
    await done;
    await finished(carol, 1);
    assert.deepEqual(show(await carol.connection.follow(found).finished()), ["one and a half, two, three", "done"]);
  },

  async stream_is_cancelled_by_a_member(rig) {
    const room = await rig.group("alice", "bob");
    const alice = await rig.connect("alice");
    const bob = await rig.connect("bob");
    let appends = 0;
    alice.connection.on("frame", ({ direction, frame }) => { appends += direction === "out" && frame.type === "message.append"; });
    const over = write(alice.connection, room);
    over.source.put("one");
    let growing = await follow(bob, room);
    await grownTo(growing, "one");
    const { message_id: id } = growing.message;
    await bob.connection.cancel(room, id);
    let message = await over.done;
    assert.ok(over.source.signal.aborted);
    assert.deepEqual(show(message), ["one", "cancelled"]);
    assert.equal(appends, 1); // no answer has told of it
    const event = await alice.inbox.until(({ type }) => type === "message.cancel_requested");
    assert.deepEqual([event.message_id, event.user_id], [id, "bob"]);
    const ended = ({ status, details }) => status === 409 && details.index === 1 && details.state === "cancelled";
    await assert.rejects(bob.client.cancelMessage(room, id), ended);

    const rest = write(rig.client("alice"), room);
    rest.source.put("one");
    growing = await follow(bob, room, 2);
    await grownTo(growing, "one");
    await bob.client.cancelMessage(room, growing.message.message_id);
    rest.source.put(" two");
    message = await rest.done;
    assert.ok(rest.source.signal.aborted);
    assert.deepEqual(show(message), ["one two", "cancelled"]);
  },

  async stream_ends_with_its_source(rig) {
    const room = await rig.group("alice", "bob");
    const alice = await rig.connect("alice");
    const bob = await rig.connect("bob");
    const writers = [alice.connection, rig.client("alice")];
    for (const [index, writer] of writers.entries()) {
      const failing = async function* () {
        yield "one";
        throw new RangeError("no more words");
      };
      await assert.rejects(writer.stream(room, failing()), RangeError);
      const ended = await finished(bob, index + 1);
      assert.deepEqual(show(ended), ["one", "failed"]);
    }
    const long = { long: "x".repeat(16_000) };
    const reasons = [["no more\0\udc00 words", { model: "none" }, { model: "none", error: "no more?? words" }], ["why ".repeat(400), null, { error: "why ".repeat(250) }], ["why ".repeat(400), long, long]];
    for (const [index, [reason, before, after]] of reasons.entries()) {
      const telling = async function* () {
        yield "one";
        throw new StreamFailed(reason);
      };
      await assert.rejects(writers[index % 2].stream(room, telling(), { meta: before }), StreamFailed);
      const ended = await finished(bob, index + 3);
      assert.deepEqual([...show(ended), ended.meta], ["one", "failed", after]);
    }
    for (const [index, writer] of writers.entries()) {
      const stop = new AbortController();
      const named = { client_message_id: `cancelled-${index}` };
      const { source, done } = write(writer, room, named, { signal: stop.signal });
      source.put("one");
      await grownTo(await follow(bob, room, index + 6), "one");
      stop.abort(new Error("enough"));
      await assert.rejects(done, /enough/);
      assert.ok(source.signal.aborted);
      const ended = await finished(bob, index + 6);
      assert.deepEqual(show(ended), ["one", "cancelled"]);
      const again = write(writer, room, named);
      again.source.put("not this");
      assert.equal((await again.done).content, "one");
      await rig.client("alice").deleteMessage(room, ended.message_id);
      await assert.rejects(write(writer, room, named).done, { status: 404 });
    }
  },

  async stream_ends_with_its_connection(rig) {
    const room = await rig.group("alice", "bob");
    const alice = await rig.connect("alice");
    const bob = await rig.connect("bob");
    const { source, done } = write(alice.connection, room);
    source.put("one");
    await grownTo(await follow(bob, room), "one");
    alice.connection.close();
    await assert.rejects(done, { code: "CLOSED" });
    assert.ok(source.signal.aborted);
    assert.deepEqual(show(await finished(bob, 1)), ["one", "cancelled"]);
  },

  async long_text_is_streamed(rig) {
    const room = await rig.group("alice", "bob");
    const alice = await rig.connect("alice");
    const bob = await rig.connect("bob");
    const ship = "🚢";
    const pieces = ["", ship.repeat(9_000) + ship[0], ship[1], "", "é".repeat(10_000)];
    const { content } = await alice.connection.stream(room, pieces);
    assert.equal(content, ship.repeat(9_001) + "é".repeat(10_000));

    const refused = ({ status, field }) => status === 400 && field === "text";
    await assert.rejects(rig.client("alice").stream(room, ["x".repeat(60_000), "y".repeat(10_000)]), refused);
    const ended = await finished(bob, 2);
    assert.equal(ended.stream.state, "failed");
    assert.ok(ended.content.startsWith("x".repeat(49_152)));
  },
};

const { cases: all, kept_streams: keptStreams } = JSON.parse(await readFile(new URL("../sdk_cases.json", import.meta.url), "utf8"));
const shared = all.filter(({ subject }) => subject === "streams");

test("every shared case on streams is here", () => {
  assert.deepEqual(Object.keys(cases).sort(), shared.map((one) => one.name).sort());
});

testCases(cases, shared);
