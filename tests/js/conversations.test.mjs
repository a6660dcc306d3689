/** The cases of ../sdk_cases.json on conversations, as this SDK shows them. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { applyEvent } from "../../chatapi/web/sdk/chatapi.js";
import { contents, control, messagesOf, numbered, range, refusal, seqs, testCases, until } from "./rig.mjs";

const cases = {
  async moderation_is_told_at_once(rig) {
    const room = await rig.group("alice", "bob");
    const alice = rig.client("alice");
    const bob = await rig.connect("bob");
    await alice.updateRoom(room, { slow_mode_seconds: 50 });
    await bob.connection.send(room, "one");
    const slowed = (error) => error.status === 429 && Boolean(error.details.slow_mode_until) && error.retryAfter > 40;
    await assert.rejects(bob.connection.send(room, "two"), slowed);
    await assert.rejects(bob.client.sendMessage(room, "two"), slowed);
    const { muted_until: until } = await alice.updateMember(room, "bob", { muted_for: 600 });
    await assert.rejects(bob.connection.send(room, "three"), (error) => error.status === 403 && error.details.muted_until === until);
    const { user_id: banned } = await alice.banMember(room, "bob", { reason: "spam" });
    assert.equal(banned, "bob");
    const { seq } = await bob.inbox.until((event) => event.type === "member.banned");
    await alice.sendMessage(room, "without bob");
    await bob.connection.ping();
    assert.deepEqual(bob.inbox.messages(room).map((message) => message.content), ["one"]);
    assert.equal(bob.connection.cursors.rooms[room], undefined);
    assert.deepEqual((await alice.listBans(room)).bans.map((ban) => ban.reason), ["spam"]);
    await alice.unbanMember(room, "bob");
    await alice.addMember(room, "bob");
    await alice.sendMessage(room, "welcome back");
    const back = await bob.inbox.until((event) => event.type === "message" && event.content === "welcome back");
    assert.equal(back.seq, seq + 4);
  },

  async kept_messages_show_their_reactions_and_pins(rig) {
    for (const { about, reactions, events, shows } of keptMessages) {
      for (const once of [events, [...events, ...events]]) assert.deepEqual(applyAll(reactions, once), shows, about);
    }
    const room = await rig.group("alice", "bob", "carol");
    const alice = await rig.connect("alice");
    const bob = await rig.connect("bob");
    const carol = rig.client("carol");
    const reader = rig.client("bob");
    const ids = [room, (await alice.connection.send(room, "Shall we?")).message_id];
    let kept = await reader.getMessage(...ids);
    assert.equal((await alice.connection.react(...ids, "👍")).seq, 2);
    assert.equal((await alice.connection.react(...ids, "👍")).seq, undefined);
    await alice.connection.ping();
    assert.equal(alice.inbox.events.filter((event) => event.type === "reaction.added").length, 1);
    assert.equal((await carol.addReaction(...ids, "👍")).reactions[0].count, 2);
    await carol.addReaction(...ids, ":ship:");
    await alice.client.pinMessage(...ids);
    await alice.client.unpinMessage(...ids);
    const pinned = await alice.client.pinMessage(...ids);
    await control("kill");
    await control("start");
    assert.equal((await alice.connection.unreact(...ids, "👍")).count, 1);
    await alice.connection.edit(...ids, "We shall");
    await carol.removeReaction(...ids, "👍");
    await carol.addReaction(...ids, "👍");
    await bob.inbox.untilCount(4, (event) => event.type === "reaction.added");
    for (const event of bob.inbox.events) kept = applyEvent(kept, event);
    assert.deepEqual(show(kept), show(await reader.getMessage(...ids)));
    assert.deepEqual(show(kept).reactions, [[":ship:", 1, ["carol"]], ["👍", 1, ["carol"]]]);
    assert.equal(kept.pinned_at, pinned.pinned_at);
    assert.deepEqual((await reader.listPins(room)).messages.map(show), [show(kept)]);
    const page = await reader.listReactions(...ids, { emoji: "👍", limit: 1 });
    assert.deepEqual(page.reactions.map((reaction) => reaction.user_id), ["carol"]);
    await alice.connection.delete(...ids);
    kept = applyEvent(kept, await bob.inbox.until((event) => event.type === "message.deleted"));
    assert.deepEqual(show(kept), show(await reader.getMessage(...ids)));
    assert.ok(kept.deleted_at);
    assert.deepEqual((await reader.listPins(room)).messages, []);
  },

  async profiles_blocks_and_bans(rig) {
    const odd = "x,y/z";
    const room = await rig.group("alice", "bob", odd);
    const alice = await rig.connect("alice");
    const bob = await rig.connect("bob");
    const writer = rig.client("alice");
    const reader = rig.client("bob");
    const made = await writer.putUser("alice", { name: "Ålice", avatar_url: "https://a.example/a.png", metadata: { a: 1 } });
    for (const { inbox } of [alice, bob]) {
      assert.deepEqual((await inbox.until((event) => event.type === "user.updated")).user, made);
    }
    const changed = await writer.putUser("alice", { avatar_url: null });
    assert.deepEqual([changed.name, changed.avatar_url, changed.metadata], ["Ålice", null, { a: 1 }]);
    const oddly = await writer.putUser(odd, { name: "Odd" });
    assert.deepEqual((await reader.listUsers({ ids: ["nobody", odd, "alice"] })).users, [oddly, changed]);
    assert.deepEqual(await reader.getUser(odd), oddly);
    const { members } = await reader.listMembers(room, { q: "al" });
    assert.deepEqual(members.map((member) => [member.user_id, member.name]), [["alice", "Ålice"]]);
    assert.deepEqual((await writer.listUsers({ q: "O" })).users.map((user) => user.user_id), [odd]);

    const { room_id: dm } = await writer.createRoom({ type: "dm", members: ["bob"] });
    const blocked = await reader.blockUser("alice");
    assert.deepEqual((await reader.listBlocks()).blocks, [blocked]);
    for (const one of [writer, reader]) await assert.rejects(one.sendMessage(dm, "x"), refusal("AUTHORIZATION_ERROR", 403));
    await reader.unblockUser("alice");
    await writer.sendMessage(dm, "y");

    const ban = await writer.banUser("bob", { reason: "spam", expires_in: 1000 });
    assert.deepEqual(await writer.getBan("bob"), ban);
    await assert.rejects(reader.listRooms(), (error) => error.details?.banned_until === ban.banned_until);
    await writer.unbanUser("bob");
    const again = await rig.connect("bob");
    const sent = await alice.connection.send(room, "welcome back");
    await again.inbox.until((event) => event.message_id === sent.message_id);
  },

  async kept_root_shows_its_thread(rig) {
    const room = await rig.group("alice", "bob");
    const alice = await rig.connect("alice");
    const bob = await rig.connect("bob");
    const reader = rig.client("bob");
    const { message_id: rootId } = await alice.connection.send(room, "Shall we?");
    const start = await reader.getMessage(room, rootId);
    const first = await alice.connection.send(room, { content: "Bob?", thread_id: rootId, mentions: ["bob"] });
    const second = await rig.client("alice").sendMessage(room, { content: "Or not?", thread_id: rootId });
    await control("kill");
    await control("start");
    const third = await alice.connection.send(room, { content: "Well?", thread_id: rootId });
    assert.deepEqual((await reader.listMentions()).messages.map((message) => message.message_id), [first.message_id]);
    assert.equal((await reader.listRooms()).rooms[0].unread_mentions, 1);
    let deletions = 0;
    for (const [gone, left] of [[second, 2], [third, 1], [first, 0]]) {
      await alice.connection.delete(room, gone.message_id);
      deletions += 1;
      await bob.inbox.untilCount(deletions, (event) => event.type === "message.deleted");
      let kept = start;
      for (const event of bob.inbox.events) kept = applyEvent(applyEvent(kept, event), event);
      const read = await reader.getMessage(room, rootId);
      assert.deepEqual([show(kept), kept.thread], [show(read), read.thread]);
      assert.equal(kept.thread?.reply_count ?? 0, left);
    }
    await alice.connection.send(room, { content: "Again", thread_id: rootId });
    assert.deepEqual(contents((await reader.listMessages(room, { thread_id: rootId })).messages), [null, null, null, "Again"]);
    assert.deepEqual(contents((await reader.listMessages(room, { top_level: true })).messages), ["Shall we?"]);
    const view = await reader.updateView(room, { notify: "mentions" });
    assert.deepEqual([view.notify, view.hidden], ["mentions", false]);
    assert.equal((await bob.inbox.until((event) => event.type === "room.me")).notify, "mentions");
  },

  async conversation_is_caught_up(rig) {
    const room = await rig.group("alice", "bob");
    const alice = rig.client("alice");
    const reader = rig.client("bob");
    const first = await rig.connect("bob");
    const ids = [];
    for (const text of numbered("message", 3)) ids.push((await alice.sendMessage(room, text)).message_id);
    await first.inbox.untilCount(3, messagesOf(room));
    await first.connection.ping();
    await first.connection.read(room, 3);
    const messages = await Promise.all(ids.map((id) => reader.getMessage(room, id)));
    const cursors = JSON.parse(JSON.stringify(first.connection.cursors));
    first.connection.close();

    await alice.editMessage(room, ids[0], { content: "message 1, bob", mentions: ["bob"] });
    for (const emoji of ["👍", ":ship:"]) await alice.addReaction(room, ids[0], emoji);
    await alice.pinMessage(room, ids[0]);
    const replies = [];
    for (const text of numbered("reply", 2)) {
      replies.push((await alice.sendMessage(room, { content: text, thread_id: ids[0], mentions: ["bob"] })).message_id);
    }
    for (const gone of [replies[1], ids[1]]) await alice.deleteMessage(room, gone);
    await control("kill");
    await control("start");
    for (const seconds of [600, 0]) await alice.updateMember(room, "bob", { muted_for: seconds });
    await alice.removeReaction(room, ids[0], "👍");
    await alice.unpinMessage(room, ids[0]);
    for (const text of numbered("later", 25)) await alice.sendMessage(room, text);
    let [standing] = (await reader.listRooms()).rooms;
    assert.deepEqual([standing.unread_count, standing.unread_mentions, standing.last_seq], [26, 1, 40]);

    const bob = await rig.connect("bob", { cursors });
    const log = bob.inbox.events.filter((event) => event.room_id === room && event.seq && !/^(ack|read)\./.test(event.type));
    assert.deepEqual(seqs(log), range(4, 40));
    for (const message of messages) {
      let kept = message;
      for (const event of log) kept = applyEvent(applyEvent(kept, event), event);
      const read = await reader.getMessage(room, message.message_id);
      assert.deepEqual([show(kept), kept.thread], [show(read), read.thread]);
    }
    await bob.connection.read(room, 40);
    [standing] = (await reader.listRooms()).rooms;
    assert.deepEqual([standing.unread_count, standing.unread_mentions], [0, 0]);
    assert.deepEqual(contents((await reader.listMentions()).messages), ["reply 1", "message 1, bob"]);
  },

  async rules_outlast_a_kill(rig) {
    const alice = rig.client("alice");
    const room = await rig.group("alice", "bob", "carol", "frank");
    const slow = await rig.group("alice", "bob");
    const closed = await rig.group("alice", "bob");
    const { room_id: dm } = await alice.createRoom({ type: "dm", members: ["erin"] });
    const bob = await rig.connect("bob");
    await bob.connection.send(slow, "one");
    await alice.updateRoom(slow, { slow_mode_seconds: 600 });
    await alice.updateRoom(closed, { posting: "admins" });
    const slowed = await detailsOf(bob.client.sendMessage(slow, "two"));
    const muted = { muted_until: (await alice.updateMember(room, "bob", { muted_for: 600 })).muted_until };
    const barred = { banned_until: (await alice.banMember(room, "carol", { expires_in: 600 })).until };
    await rig.client("erin").blockUser("alice");
    const banned = { banned_until: (await alice.banUser("frank", { expires_in: 600 })).banned_until };
    await control("kill");
    await control("start");

    const ofBob = [[room, muted], [slow, slowed], [closed, undefined]];
    for (const [where, details] of ofBob) {
      assert.deepEqual(await detailsOf(bob.connection.send(where, "x")), details);
      assert.deepEqual(await detailsOf(bob.client.sendMessage(where, "x")), details);
    }
    const refused = [["carol", room, barred], ["erin", dm, undefined], ["alice", dm, undefined], ["frank", room, banned]];
    for (const [userId, where, details] of refused) {
      assert.deepEqual(await detailsOf(rig.client(userId).sendMessage(where, "x")), details);
    }

    await alice.updateMember(room, "bob", { muted_for: 0 });
    await alice.updateRoom(slow, { slow_mode_seconds: 0 });
    await alice.updateRoom(closed, { posting: "members" });
    await alice.unbanMember(room, "carol");
    await alice.addMember(room, "carol");
    await rig.client("erin").unblockUser("alice");
    await alice.unbanUser("frank");
    for (const [where] of ofBob) await bob.connection.send(where, "again");
    for (const [userId, where] of refused) await rig.client(userId).sendMessage(where, "again");
  },

  async hidden_room_comes_back(rig) {
    const room = await rig.group("alice", "bob");
    const reader = rig.client("bob");
    const devices = [await rig.connect("bob"), await rig.connect("bob")];
    const told = (hidden) => (event) => event.type === "room.me" && event.room_id === room && event.notify === "none" && event.hidden === hidden;
    await reader.updateView(room, { notify: "none", hidden: true });
    for (const { inbox } of devices) await inbox.until(told(true));
    await control("kill");
    await control("start");
    await reader.sendMessage(room, "to myself");
    for (const { inbox } of devices) await inbox.until(messagesOf(room));
    assert.deepEqual((await reader.listRooms()).rooms, []);
    const views = (rooms) => rooms.map(({ room_id: id, hidden, notify }) => [id, hidden, notify]);
    assert.deepEqual(views((await reader.listRooms({ hidden: true })).rooms), [[room, true, "none"]]);
    const third = await rig.connect("bob");
    assert.deepEqual(views((await third.connection.ready).rooms), [[room, true, "none"]]);
    await rig.client("alice").sendMessage(room, "bob?");
    for (const { inbox } of [...devices, third]) await inbox.until(told(false));
    assert.deepEqual(views((await reader.listRooms()).rooms), [[room, false, "none"]]);
  },

  async reported_messages_and_search(rig) {
    const room = await rig.group("alice", "bob");
    const alice = rig.client("alice");
    const bob = rig.client("bob");
    const backend = rig.client("backend");
    const { message_id: id } = await alice.sendMessage(room, "The harbour is closed");
    const { report_id: reportId } = await bob.reportMessage(room, id, "wrong");
    assert.equal((await bob.reportMessage(room, id, "still")).report_id, reportId);
    await alice.editMessage(room, id, "The Café is open");
    const found = async (q) => (await bob.search(q, { room_id: room })).results;
    const isFound = async () => (await found("CAFE")).length > 0;
    await until(isFound);
    const [{ snippet }] = await found("open cafe");
    assert.deepEqual(snippet.hits.map(([start, end]) => [...snippet.text].slice(start, end).join("")), ["Café", "open"]);
    assert.deepEqual(await found("harbour"), []);
    const { reports } = await backend.listReports();
    assert.deepEqual(reports.map((report) => [report.report_id, report.user_id, report.reason, report.message.content]),
      [[reportId, "bob", "wrong", "The harbour is closed"]]);

    await control("kill");
    await control("start");
    await until(isFound);
    await alice.deleteMessage(room, id);
    assert.deepEqual(await found("cafe"), []);
    assert.deepEqual((await backend.listReports()).reports, reports);
    const resolved = await backend.resolveReport(reportId);
    assert.deepEqual([resolved.status, resolved.resolved_by], ["resolved", "backend"]);
    assert.deepEqual(await backend.resolveReport(reportId), resolved);
    assert.deepEqual((await backend.listReports()).reports, []);
    assert.deepEqual((await backend.listReports({ status: "resolved" })).reports, [resolved]);
    const { token } = await backend.createToken({ user_id: "bob" });
    const page = rig.client("bob", { apiKey: undefined, userId: undefined, token });
    // One after the other: an error that nobody waits for yet would end the test.
    for (const call of [() => page.listReports(), () => page.resolveReport(reportId)]) await assert.rejects(call, refusal("AUTHORIZATION_ERROR", 403));
  },
};

/** The details of the error with which something is refused. */
async function detailsOf(sending) {
  const error = await sending.then(() => undefined, (refused) => refused);
  assert.ok(error, "it was not refused");
  return error.details;
}

/** What this version knows of a message, except for the time of its deletion, which the event does not tell. */
function show({ message_id, seq, content, meta, created_at, edited_at, pinned_at, reactions = [] }) {
  return { message_id, seq, content, meta, created_at, edited_at, pinned_at, reactions: reactions.map(({ emoji, count, user_ids }) => [emoji, count, user_ids]) };
}

/** The reactions of a message that had these, after these events. */
function applyAll(reactions, events) {
  let message = { message_id: "msg_1", deleted_at: null, ...(reactions.length && { reactions }) };
  for (const [kind, userId, emoji, count] of events) {
    message = applyEvent(message, { type: `reaction.${kind}`, message_id: "msg_1", user_id: userId, emoji, count });
  }
  return message.reactions ?? [];
}

const { cases: all, kept_messages: keptMessages } = JSON.parse(await readFile(new URL("../sdk_cases.json", import.meta.url), "utf8"));
const shared = all.filter(({ subject }) => subject === "conversations");

test("every shared case on conversations is here", () => {
  assert.deepEqual(Object.keys(cases).sort(), shared.map((one) => one.name).sort());
});

testCases(cases, shared);
