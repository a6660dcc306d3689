"""Messages and the room's log: sending, reading back, editing and deleting."""

import asyncio
import re

import pytest
from driver import Server, User

from chatapi.protocol.server_frames import RoomUpdatedFrame
from chatapi.store import Transaction, log

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def contents(user: User, room_id: str, **query: object) -> tuple[list[str], bool]:
    page = (await user.get(f"/rooms/{room_id}/messages", **query)).data
    return [message["content"] for message in page["messages"]], page["has_more"]


async def test_a_message_is_answered_with_all_its_fields(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    reply = await alice.post(
        f"/rooms/{room_id}/messages",
        {
            "content": "Grüße 🙂",
            "meta": {"k": [1, 2.5, None]},
            "client_message_id": "c" * 64,
            "unknown": {"ignored": 1},
        },
    )
    assert reply.status == 201
    message = dict(reply.data)
    assert message.pop("message_id").startswith("msg_")
    assert TIME.fullmatch(message.pop("created_at"))
    assert message == {
        "room_id": room_id,
        "seq": 1,
        "sender_id": "alice",
        "content": "Grüße 🙂",
        "meta": {"k": [1, 2.5, None]},
        "reply_to": None,
        "client_message_id": "c" * 64,
        "edited_at": None,
        "deleted_at": None,
    }
    assert (await alice.get(f"/rooms/{room_id}/messages/{reply.data['message_id']}")).data == reply.data


async def test_a_message_is_the_same_wherever_it_is_shown(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    first = await alice.say(room_id, "first")
    for content in ('"quotes" \\ and \n lines', "\u2028 \x7f \x01", "\U0001d54c" * 3, " "):
        meta = {"content": content, content: 1e-7, "n": -(2**53) + 1, "t": True}
        sent = await alice.say(room_id, content, meta=meta, reply_to=first["message_id"], client_message_id=content)
        assert (sent["content"], sent["meta"], sent["reply_to"]) == (content, meta, first["message_id"])
        path = f"/rooms/{room_id}/messages"
        assert (await alice.get(f"{path}/{sent['message_id']}")).data == sent
        assert (await alice.get(path, limit=1)).data["messages"] == [sent]
        assert (await alice.get(path, after_seq=sent["seq"] - 1)).data["messages"] == [sent]
        [event] = (await alice.get(f"/rooms/{room_id}/events", after_seq=sent["seq"] - 1)).data["events"]
        assert event == {"type": "message", **sent}
        assert (await alice.get("/rooms")).data["rooms"][0]["last_message"] == sent


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "content"),
        ({"content": ""}, "content"),
        ({"content": None}, "content"),
        ({"content": 7}, "content"),
        ({"content": "x" * 65537}, "content"),
        ({"content": "ü" * 32769}, "content"),
        ({"content": "x", "meta": "y"}, "meta"),
        ({"content": "x", "meta": [1]}, "meta"),
        ({"content": "x", "meta": {"k": "v" * 16384}}, "meta"),
        ({"content": "x", "client_message_id": "c" * 65}, "client_message_id"),
        ({"content": "x", "client_message_id": 1}, "client_message_id"),
        ({"content": "x", "reply_to": 1}, "reply_to"),
        ({"content": "x", "reply_to": "msg_0000000000000001"}, "reply_to"),
        ({"content": "x", "reply_to": "nonsense"}, "reply_to"),
    ],
)
async def test_a_bad_message_is_refused_and_takes_no_seq(
    shared_server: Server, body: dict[str, object], field: str
) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    reply = await alice.post(f"/rooms/{room_id}/messages", body)
    assert (reply.status, reply.error["code"], reply.error["field"]) == (400, "VALIDATION_ERROR", field)
    assert (await alice.say(room_id))["seq"] == 1


async def test_content_may_have_64_kib_of_utf8(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    for content in ("x" * 65536, "ü" * 32768, "🙂" * 16384):
        assert (await alice.say(room_id, content))["content"] == content
    assert (await alice.say(room_id, "x", meta={"k": "v" * (16384 - len('{"k":""}'))}))["seq"] == 4


async def test_a_tenants_own_bound_on_content_holds(shared_server: Server) -> None:
    tenant = await shared_server.make_tenant("small", max_message_bytes=4)
    alice = shared_server.user("alice", tenant["api_key"])
    room_id = await alice.make_room()
    message = await alice.say(room_id, "üü")
    for reply in (
        await alice.post(f"/rooms/{room_id}/messages", {"content": "üüx"}),
        await alice.put(f"/rooms/{room_id}/messages/{message['message_id']}", {"content": "12345"}),
    ):
        assert (reply.status, reply.error["field"]) == (400, "content")


async def test_a_reply_must_be_to_a_message_of_the_same_room(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id, other = await alice.make_room(), await alice.make_room()
    message = await alice.say(other)
    reply = await alice.post(f"/rooms/{room_id}/messages", {"content": "x", "reply_to": message["message_id"]})
    assert (reply.status, reply.error["field"]) == (400, "reply_to")
    await alice.delete(f"/rooms/{other}/messages/{message['message_id']}")
    assert (await alice.say(other, reply_to=message["message_id"]))["reply_to"] == message["message_id"]


# History


async def test_history_is_ascending_in_both_directions(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    assert await contents(alice, room_id) == ([], False)
    for n in range(1, 8):
        await alice.say(room_id, str(n))
    assert await contents(alice, room_id) == (list("1234567"), False)
    assert await contents(alice, room_id, limit=3) == (list("567"), True)
    assert await contents(alice, room_id, before_seq=5, limit=3) == (list("234"), True)
    assert await contents(alice, room_id, before_seq=4, limit=3) == (list("123"), False)
    assert await contents(alice, room_id, before_seq=1) == ([], False)
    assert await contents(alice, room_id, before_seq=0) == ([], False)
    assert await contents(alice, room_id, after_seq=0, limit=3) == (list("123"), True)
    assert await contents(alice, room_id, after_seq=4, limit=3) == (list("567"), False)
    assert await contents(alice, room_id, after_seq=7) == ([], False)
    assert await contents(alice, room_id, after_seq=1000) == ([], False)
    assert await contents(alice, room_id, before_seq=1000) == (list("1234567"), False)


async def test_history_has_messages_only_where_the_log_has_everything(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    await alice.say(room_id, "one")
    await alice.post(f"/rooms/{room_id}/members", {"user_id": "bob"})
    await alice.say(room_id, "two")
    page = (await alice.get(f"/rooms/{room_id}/messages")).data["messages"]
    assert [message["seq"] for message in page] == [1, 3]
    events = (await alice.get(f"/rooms/{room_id}/events")).data
    assert [(event["seq"], event["type"]) for event in events["events"]] == [
        (1, "message"),
        (2, "member.joined"),
        (3, "message"),
    ]
    assert events["has_more"] is False


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("after_seq=1&before_seq=2", "before_seq"),
        ("after_seq=-1", "after_seq"),
        ("after_seq=x", "after_seq"),
        ("before_seq=1.5", "before_seq"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("after_seq=9007199254740992", "after_seq"),
    ],
)
async def test_a_bad_page_of_history_is_refused(shared_server: Server, query: str, field: str) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    reply = await alice.request("GET", f"/rooms/{room_id}/messages?{query}")
    assert (reply.status, reply.error["code"], reply.error["field"]) == (400, "VALIDATION_ERROR", field)


async def test_the_log_is_paged_by_seq(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    for n in range(7):
        await alice.say(room_id, str(n))
    seen, after_seq = [], 0
    while True:
        page = (await alice.get(f"/rooms/{room_id}/events", after_seq=after_seq, limit=3)).data
        seen += [event["seq"] for event in page["events"]]
        after_seq = seen[-1]
        if not page["has_more"]:
            break
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert (await alice.get(f"/rooms/{room_id}/events", after_seq=7)).data == {"events": [], "has_more": False}
    assert (await alice.get(f"/rooms/{room_id}/events", after_seq=99)).data == {"events": [], "has_more": False}


async def test_every_durable_event_takes_the_next_seq_and_has_its_frames_shape_in_the_log(
    shared_server: Server,
) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob", name="old")
    watcher = await bob.connect()
    path = f"/rooms/{room_id}"
    message = await alice.say(room_id, "first")
    await alice.patch(path, {"name": "new"})
    await alice.put(f"{path}/messages/{message['message_id']}", {"content": "second", "meta": {"k": 1}})
    await alice.post(f"{path}/members", {"user_id": "carol"})
    await alice.patch(f"{path}/members/carol", {"role": "admin"})
    await alice.delete(f"{path}/members/carol")
    doomed = await alice.say(room_id, "doomed")
    await alice.delete(f"{path}/messages/{doomed['message_id']}")
    live = [await watcher.next() for _ in range(8)]
    assert [(frame["seq"], frame["type"]) for frame in live] == [
        (1, "message"),
        (2, "room.updated"),
        (3, "message.edited"),
        (4, "member.joined"),
        (5, "member.updated"),
        (6, "member.left"),
        (7, "message"),
        (8, "message.deleted"),
    ]
    log = (await alice.get(f"{path}/events")).data["events"]
    # A message's event shows it as it now stands; all others are what was sent.
    now = {found["seq"]: found for found in (await alice.get(f"{path}/messages")).data["messages"]}
    assert log[0] == {"type": "message", **now[1]}
    assert log[6] == {"type": "message", **now[7]}
    assert [log[index] for index in (1, 2, 3, 4, 5, 7)] == [live[index] for index in (1, 2, 3, 4, 5, 7)]


async def test_many_senders_at_once_get_one_gap_free_log(shared_server: Server) -> None:
    users = [shared_server.user(f"user-{n}") for n in range(8)]
    room_id = await users[0].make_room(*(user.user_id for user in users))
    sockets = [await users[0].connect(), await users[1].connect()]
    sent = await asyncio.gather(*(user.say(room_id, f"{n}") for n in range(15) for user in users))
    assert sorted(message["seq"] for message in sent) == list(range(1, 121))
    assert len({message["message_id"] for message in sent}) == 120
    by_seq = {message["seq"]: message for message in sent}
    for socket in sockets:
        assert [await socket.expect("message") for _ in sent] == [
            {"type": "message", **by_seq[seq]} for seq in range(1, 121)
        ]


# Editing


async def test_the_sender_edits_its_message(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")
    message = await alice.say(room_id, "teh", meta={"k": 1}, client_message_id="m-1")
    socket = await bob.connect()
    path = f"/rooms/{room_id}/messages/{message['message_id']}"
    edited = (await alice.put(path, {"content": "the"})).data
    assert TIME.fullmatch(edited["edited_at"])
    assert edited == {**message, "content": "the", "edited_at": edited["edited_at"]}  # meta absent: unchanged
    frame = await socket.expect("message.edited")
    assert frame == {"type": "message.edited", **edited, "seq": 2, "target_seq": 1}
    assert (await alice.put(path, {"content": "the", "meta": None})).data["meta"] is None
    assert (await alice.put(path, {"content": "the", "meta": {"n": 2}})).data["meta"] == {"n": 2}
    assert (await alice.get(path)).data["seq"] == 1
    assert (await alice.get(f"/rooms/{room_id}")).data["last_seq"] == 4


async def test_nobody_else_edits_a_message(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")
    await alice.patch(f"/rooms/{room_id}/members/bob", {"role": "admin"})
    message = await alice.say(room_id)
    path = f"/rooms/{room_id}/messages/{message['message_id']}"
    for user in (bob, shared_server.user("eve")):
        reply = await user.put(path, {"content": "other"})
        assert (reply.status, reply.error["code"]) == (403, "AUTHORIZATION_ERROR")
    await alice.delete(f"/rooms/{room_id}/members/alice")
    assert (await alice.put(path, {"content": "other"})).status == 403  # no member any more
    assert (await bob.get(path)).data == message


@pytest.mark.parametrize(
    ("body", "field"), [({}, "content"), ({"content": ""}, "content"), ({"content": "x", "meta": 1}, "meta")]
)
async def test_a_bad_edit_is_refused(shared_server: Server, body: dict[str, object], field: str) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    message = await alice.say(room_id)
    reply = await alice.put(f"/rooms/{room_id}/messages/{message['message_id']}", body)
    assert (reply.status, reply.error["field"]) == (400, field)


async def test_message_of_another_room_is_not_found(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id, other = await alice.make_room(), await alice.make_room()
    message = await alice.say(other)
    real = message["message_id"]
    for message_id in (
        real,
        "msg_0000000000000001",
        "x",
        real.upper(),
        f"{real}0",
        real.replace("msg_", ""),
        "%00",
        "%ff",
    ):
        path = f"/rooms/{room_id}/messages/{message_id}"
        for reply in (await alice.get(path), await alice.put(path, {"content": "x"}), await alice.delete(path)):
            assert (reply.status, reply.error["code"]) == (404, "NOT_FOUND"), message_id
    assert (await alice.get(f"/rooms/{other}/messages/{real}")).data == message


# Deleting


@pytest.mark.parametrize("deleter", ["the sender", "an admin"])
async def test_a_deleted_message_leaves_a_tombstone(shared_server: Server, deleter: str) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")
    sender = bob if deleter == "an admin" else alice
    message = await sender.say(room_id, "secret", meta={"secret": 1})
    socket = await bob.connect()
    path = f"/rooms/{room_id}/messages/{message['message_id']}"
    assert (await alice.delete(path)).status == 204
    tombstone = (await alice.get(path)).data
    assert TIME.fullmatch(tombstone["deleted_at"])
    assert tombstone == {**message, "content": None, "meta": None, "deleted_at": tombstone["deleted_at"]}
    assert (await alice.get(f"/rooms/{room_id}/messages")).data["messages"] == [tombstone]
    expected = {
        "type": "message.deleted",
        "room_id": room_id,
        "message_id": message["message_id"],
        "seq": 2,
        "target_seq": 1,
    }
    assert await socket.expect("message.deleted") == expected
    assert (await alice.delete(path)).status == 204  # again: nothing changes
    reply = await sender.put(path, {"content": "back"})
    assert (reply.status, reply.error["code"]) == (404, "NOT_FOUND")
    events = (await alice.get(f"/rooms/{room_id}/events")).data["events"]
    assert events == [{"type": "message", **tombstone}, expected]


async def test_members_delete_their_own_messages_only(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")
    message = await alice.say(room_id)
    for user in (bob, shared_server.user("eve")):
        reply = await user.delete(f"/rooms/{room_id}/messages/{message['message_id']}")
        assert (reply.status, reply.error["code"]) == (403, "AUTHORIZATION_ERROR")
    assert (await bob.get(f"/rooms/{room_id}")).data["last_seq"] == 1


async def test_edit_and_delete_in_one_batch_keep_their_order(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    message = await alice.say(room_id, "one")
    path = f"/rooms/{room_id}/messages/{message['message_id']}"
    replies = await server.together(
        alice.put(path, {"content": "two"}),
        alice.post(f"/rooms/{room_id}/messages", {"content": "between"}),
        alice.delete(path),
        alice.put(path, {"content": "three"}),
        alice.delete(path),
    )
    assert [reply.status for reply in replies] == [200, 201, 204, 404, 204]
    events = (await alice.get(f"/rooms/{room_id}/events")).data["events"]
    assert [(event["seq"], event["type"], event.get("content")) for event in events] == [
        (1, "message", None),
        (2, "message.edited", None),
        (3, "message", "between"),
        (4, "message.deleted", None),
    ]


async def test_edits_and_deletions_show_in_the_log_from_memory_and_from_disk(start_server) -> None:
    server = await start_server()
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    edited, deleted = await alice.say(room_id, "old words"), await alice.say(room_id, "never mind")
    await alice.put(f"/rooms/{room_id}/messages/{edited['message_id']}", {"content": "new words"})
    await alice.delete(f"/rooms/{room_id}/messages/{deleted['message_id']}")
    events = (await alice.get(f"/rooms/{room_id}/events")).data["events"]
    assert [event.get("content") for event in events] == ["new words", None, "new words", None]
    [_ready, *backlog] = await (await bob.connect(ready=False)).collect("sync.complete")
    assert backlog == events
    await server.stop()
    server = await start_server()
    alice, bob = server.user("alice"), server.user("bob")
    assert (await alice.get(f"/rooms/{room_id}/events")).data["events"] == events
    [_ready, *backlog] = await (await bob.connect(ready=False)).collect("sync.complete")
    assert backlog == events


async def test_an_event_about_a_message_stays_itself_when_the_message_is_edited(server: Server) -> None:
    """Of all events about a message only an edit is shown as the message now stands, in memory as on disk."""
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    message_id = (await alice.say(room_id, "old words"))["message_id"]
    principal = server.services.auth.authenticate_key(server.api_key, "alice", "127.0.0.1")
    message = await server.services.chat.get_message(principal, room_id, message_id)
    room = await server.services.rooms.get(principal.tenant, room_id)

    async def apply(transaction: Transaction) -> RoomUpdatedFrame:
        seq = transaction.take_seq(room.counter)
        event = room.frame(RoomUpdatedFrame, name="noted", last_seq=seq, seq=seq)
        await log.append_change(transaction, room.counter, seq, event, None)
        return event

    def publish(event: RoomUpdatedFrame) -> None:
        server.services.committer.publish_message_change(room, message, event, None)

    await server.services.store.writer.change(apply, publish)
    await alice.put(f"/rooms/{room_id}/messages/{message_id}", {"content": "new words"})
    events = (await alice.get(f"/rooms/{room_id}/events")).data["events"]
    assert [event["type"] for event in events] == ["message", "room.updated", "message.edited"]
    [_ready, *backlog] = await (await bob.connect(ready=False)).collect("sync.complete")
    assert backlog == events
