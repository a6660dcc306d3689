"""Streams: messages that are still being written, over both transports."""

from typing import Any

import pytest
import pytest_asyncio
from driver import Server, User
from stream_writers import Outcome, Writer, make_writer

from chatapi.protocol.stream_requests import MAX_APPEND_BYTES

pytestmark = pytest.mark.parametrize("transport", ["rest", "websocket"])

OPEN = {"state": "open", "index": 0}


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Appends do not wait to share a commit."""
    monkeypatch.setattr("chatapi.appends.JOIN_SECONDS", 0.0)


@pytest_asyncio.fixture(loop_scope="session")
async def writer(shared_server: Server, transport: str) -> Writer:
    return await make_writer(shared_server, transport)


def conflict(outcome: Outcome, index: int | None, state: str | None) -> bool:
    return (outcome.code, outcome.details) == ("CONFLICT", {"index": index, "state": state})


# Opening


async def test_a_draft_opens_a_stream(writer: Writer) -> None:
    socket = await writer.user.server.user("bob").connect()
    for number, fields in enumerate(({}, {"content": ""}, {"content": "Once ", "meta": {"a": 1}}), start=1):
        sent = await writer.draft(stream=True, **fields)
        assert sent.data["stream"] == OPEN
        message = await writer.read(sent.data["message_id"])
        assert message["content"] == fields.get("content", "")
        assert (message["seq"], message["meta"], message["stream"]) == (number, fields.get("meta"), OPEN)
        assert await socket.expect("message") == {"type": "message", **message}


async def test_a_draft_that_opens_nothing(writer: Writer) -> None:
    for fields, name in (
        ({"stream": True, "content": None}, "content"),
        ({"stream": 1, "content": "x"}, "stream"),
        ({"stream": False, "content": ""}, "content"),
        ({"stream": False}, "content"),
        ({"stream": True, "content": "x" * 65_537}, "content"),
    ):
        outcome = await writer.draft(**fields)
        assert (outcome.code, outcome.error["field"]) == ("VALIDATION_ERROR", name)


async def test_a_retry_gets_the_content_so_far(writer: Writer) -> None:
    draft = {"stream": True, "content": "Once ", "client_message_id": "draft-1"}
    opened = await writer.draft(**draft)
    message_id = opened.data["message_id"]
    await writer.append_all(message_id, "upon ")
    again = await writer.draft(**draft)
    assert (again.data["message_id"], again.data["stream"]) == (message_id, {"state": "open", "index": 1})
    for other in ({**draft, "content": "Twice "}, {**draft, "stream": False}):
        refused = await writer.draft(**other)
        assert (refused.code, refused.details) == ("CONFLICT", {"message_id": message_id})
    await writer.finish(message_id)
    assert (await writer.draft(**draft)).data["stream"] == {"state": "done"}
    assert (await writer.read(message_id))["content"] == "Once upon "


# Appending


async def test_appends_make_one_message(writer: Writer) -> None:
    opened = await writer.open(content="Once ")
    for index, text in enumerate(("upon ", "a ", "time: é𝄞"), start=1):
        outcome = await writer.append(opened["message_id"], index, text)
        assert {key: outcome.data.get(key) for key in ("index", "cancel_requested")} == {
            "index": index,
            "cancel_requested": None,
        }
    message = await writer.read(opened["message_id"])
    assert message == {**opened, "content": "Once upon a time: é𝄞", "stream": {"state": "open", "index": 3}}


async def test_an_index_is_stored_once(writer: Writer) -> None:
    message_id = (await writer.open())["message_id"]
    assert conflict(await writer.append(message_id, 0, "x"), 0, "open")
    await writer.append_all(message_id, "one", "two", "three")
    for index, text in ((2, "two"), (3, "three"), (1, "one")):
        assert (await writer.append(message_id, index, text)).data["index"] == index
    for index, text in ((2, "other"), (3, "thre"), (0, "x"), (5, "gap"), (2**53 - 1, "x")):
        assert conflict(await writer.append(message_id, index, text), 3, "open")
    assert (await writer.read(message_id))["content"] == "onetwothree"
    assert (await writer.append(message_id, 4, "four")).code == "ok"


async def test_a_sign_of_life_stores_nothing(writer: Writer) -> None:
    message_id = (await writer.open())["message_id"]
    assert (await writer.append(message_id, 0, "")).data["index"] == 0
    await writer.append_all(message_id, "one")
    assert (await writer.append(message_id, 1, "")).data["index"] == 1
    for index in (0, 2):
        assert conflict(await writer.append(message_id, index, ""), 1, "open")
    assert (await writer.read(message_id))["stream"] == {"state": "open", "index": 1}


async def test_an_append_out_of_its_bounds(writer: Writer) -> None:
    message_id = (await writer.open())["message_id"]
    cases: list[tuple[object, object, str]] = [
        (1, "x" * (MAX_APPEND_BYTES + 1), "text"),
        (1, "é" * (MAX_APPEND_BYTES // 2 + 1), "text"),
        (1, "a\0b", "text"),
        (1, None, "text"),
        (1, 7, "text"),
        (-1, "x", "index"),
        (1.5, "x", "index"),
        (True, "x", "index"),
        (None, "x", "index"),
        ("1", "x", "index"),
    ]
    for index, text, name in cases:
        outcome = await writer.append(message_id, index, text)
        assert (outcome.code, outcome.error["field"]) == ("VALIDATION_ERROR", name)
    assert (await writer.append(message_id, 1, "x" * MAX_APPEND_BYTES)).code == "ok"


async def test_a_message_is_not_longer_than_its_bound(shared_server: Server, transport: str) -> None:
    tenant = await shared_server.make_tenant("small", max_message_bytes=10)
    server = Server(shared_server.app, shared_server.session, shared_server.master_key)
    server.api_key = tenant["api_key"]
    writer = await make_writer(server, transport)
    message_id = (await writer.open(content="ab"))["message_id"]
    await writer.append_all(message_id, "ééé")
    outcome = await writer.append(message_id, 2, "xyz")
    assert (outcome.code, outcome.error["field"]) == ("VALIDATION_ERROR", "text")
    assert (await writer.read(message_id))["stream"] == {"state": "open", "index": 1}
    assert (await writer.append(message_id, 2, "xy")).code == "ok"
    outcome = await writer.finish(message_id, content="x" * 11)
    assert (outcome.code, outcome.error["field"]) == ("VALIDATION_ERROR", "content")
    assert (await writer.finish(message_id, content="x" * 10)).code == "ok"
    await server.leave()


# Ending


@pytest.mark.parametrize("state", ["done", "cancelled", "failed"])
async def test_an_end_is_an_event_of_the_log(writer: Writer, state: str) -> None:
    bob = writer.user.server.user("bob")
    socket = await bob.connect()
    opened = await writer.open(content="a", meta={"model": "small"})
    await writer.append_all(opened["message_id"], "b")
    outcome = await writer.finish(opened["message_id"], state, index=1)
    ended = {**opened, "content": "ab", "stream": {"state": state}}
    assert outcome.data in (ended, {**ended, "seq": 1})
    event = await socket.expect("message.finished")
    assert event == {"type": "message.finished", **ended, "seq": 2, "target_seq": 1}
    assert await writer.read(opened["message_id"]) == ended
    events = (await bob.get(f"/rooms/{writer.room_id}/events")).data["events"]
    assert events == [{"type": "message", **ended}, event]
    assert (await bob.get(f"/rooms/{writer.room_id}/messages")).data["messages"] == [ended]


async def test_an_end_may_replace_the_content_and_meta(writer: Writer) -> None:
    cases: list[tuple[dict[str, object], str, object]] = [
        ({}, "ab", {"a": 1}),
        ({"content": "other"}, "other", {"a": 1}),
        ({"content": ""}, "", {"a": 1}),
        ({"meta": None}, "ab", None),
        ({"meta": {"b": 2}, "content": "c"}, "c", {"b": 2}),
    ]
    for fields, content, meta in cases:
        opened = await writer.open(content="a", meta={"a": 1})
        await writer.append_all(opened["message_id"], "b")
        await writer.finish(opened["message_id"], **fields)
        message = await writer.read(opened["message_id"])
        assert (message["content"], message["meta"], message["edited_at"]) == (content, meta, None)


async def test_an_end_out_of_its_bounds(writer: Writer) -> None:
    message_id = (await writer.open())["message_id"]
    cases: list[tuple[dict[str, Any], str]] = [
        ({"state": "open"}, "state"),
        ({"state": None}, "state"),
        ({"content": None}, "content"),
        ({"index": -1}, "index"),
        ({"meta": "x"}, "meta"),
        ({"meta": {"x": "x" * 16_400}}, "meta"),
    ]
    for fields, name in cases:
        outcome = await writer.finish(message_id, **fields)
        assert (outcome.code, outcome.error["field"]) == ("VALIDATION_ERROR", name)
    assert (await writer.read(message_id))["stream"] == OPEN


async def test_an_end_names_the_last_append_or_none(writer: Writer) -> None:
    message_id = (await writer.open())["message_id"]
    await writer.append_all(message_id, "a", "b")
    for index in (0, 1, 3):
        assert conflict(await writer.finish(message_id, index=index), 2, "open")
    assert (await writer.finish(message_id, index=2)).code == "ok"


async def test_the_same_end_again_changes_nothing(writer: Writer) -> None:
    bob = writer.user.server.user("bob")
    opened = await writer.open(content="a", meta={"a": 1})
    message_id = opened["message_id"]
    await writer.append_all(message_id, "b")
    first = await writer.finish(message_id, "failed", index=1, content="c", meta=None)
    socket = await bob.connect()
    for fields in ({}, {"index": 1}, {"content": "c"}, {"meta": None}, {"index": 1, "content": "c", "meta": None}):
        assert (await writer.finish(message_id, "failed", **fields)).data == first.data
    for state, fields in (
        ("done", {}),
        ("failed", {"index": 0}),
        ("failed", {"content": "ab"}),
        ("failed", {"meta": {"a": 1}}),
    ):
        assert conflict(await writer.finish(message_id, state, **fields), 1, "failed")
    await socket.expect_nothing("message.finished")
    assert (await bob.get(f"/rooms/{writer.room_id}")).data["last_seq"] == 2


async def test_an_ended_stream_takes_no_more(writer: Writer) -> None:
    message_id = (await writer.open())["message_id"]
    await writer.append_all(message_id, "a")
    await writer.finish(message_id)
    for outcome in (
        await writer.append(message_id, 1, "a"),
        await writer.append(message_id, 2, "b"),
        await writer.append(message_id, 1, ""),
        await writer.cancel(message_id),
    ):
        assert conflict(outcome, 1, "done")


async def test_a_message_that_never_was_a_stream(writer: Writer) -> None:
    sent = await writer.draft(content="plain")
    message_id = sent.data["message_id"]
    for outcome in (
        await writer.append(message_id, 1, "a"),
        await writer.finish(message_id),
        await writer.cancel(message_id),
    ):
        assert conflict(outcome, None, None)
    assert "stream" not in await writer.read(message_id)


async def test_unknown_and_deleted_messages_are_not_found(writer: Writer) -> None:
    deleted = (await writer.open())["message_id"]
    await writer.user.delete(f"/rooms/{writer.room_id}/messages/{deleted}")
    ended = (await writer.open())["message_id"]
    await writer.finish(ended)
    await writer.user.delete(f"/rooms/{writer.room_id}/messages/{ended}")
    for message_id in ("msg_0000000000000001", "msg_x", deleted, ended):
        for outcome in (
            await writer.append(message_id, 1, "a"),
            await writer.finish(message_id),
            await writer.cancel(message_id),
        ):
            assert (outcome.code, outcome.details) == ("NOT_FOUND", None)


# Cancelling


async def test_a_wish_to_cancel_is_told_once(writer: Writer) -> None:
    server = writer.user.server
    bob = Writer(server.user("bob"), writer.room_id, is_rest=writer._is_rest)
    message_id = (await writer.open())["message_id"]
    await writer.append_all(message_id, "a")
    senders, others = await writer.user.connect(), await server.user("carol").connect()
    outcome = await bob.cancel(message_id)
    assert outcome.data["message_id"] == message_id
    assert await senders.expect("message.cancel_requested") == {
        "type": "message.cancel_requested",
        "room_id": writer.room_id,
        "message_id": message_id,
        "user_id": "bob",
    }
    assert (await bob.cancel(message_id)).code == "ok"
    await senders.expect_nothing("message.cancel_requested")
    await others.expect_nothing("message.cancel_requested")
    status = {"state": "open", "index": 1, "cancel_requested": True}
    assert (await writer.read(message_id))["stream"] == status
    for index, text in ((1, ""), (1, "a"), (2, "b")):  # the sender decides: nothing is cut off
        assert (await writer.append(message_id, index, text)).data["cancel_requested"] is True
    assert (await writer.finish(message_id, "cancelled")).data["stream"] == {"state": "cancelled"}


async def test_the_sender_may_ask_as_well(writer: Writer) -> None:
    message_id = (await writer.open())["message_id"]
    other = await writer.user.connect()
    assert (await writer.cancel(message_id)).code == "ok"
    await other.expect("message.cancel_requested", user_id="alice")
    if writer.socket is not None:  # it has had its answer
        await writer.socket.expect_nothing("message.cancel_requested")


# Meanwhile


async def test_an_open_stream_takes_no_edit(writer: Writer) -> None:
    message_id = (await writer.open())["message_id"]
    await writer.append_all(message_id, "a")
    reply = await writer.user.put(f"/rooms/{writer.room_id}/messages/{message_id}", {"content": "x"})
    assert (reply.status, reply.error["details"]) == (409, {"index": 1, "state": "open"})
    await writer.finish(message_id)
    edited = await writer.user.put(f"/rooms/{writer.room_id}/messages/{message_id}", {"content": "x"})
    assert (edited.data["content"], edited.data["stream"]) == ("x", {"state": "done"})
    [message, finished, edit] = (await writer.user.get(f"/rooms/{writer.room_id}/events")).data["events"]
    assert {event["content"] for event in (message, finished, edit)} == {"x"}
    assert (finished["type"], edit["type"]) == ("message.finished", "message.edited")
    socket = await writer.user.connect(sync="none", ready=False)
    await socket.expect("ready")
    await socket.send("sync", rooms={writer.room_id: 0})  # which is served from memory
    assert await socket.collect("sync.complete") == [message, finished, edit]


async def test_others_use_it_as_any_message(writer: Writer) -> None:
    server = writer.user.server
    bob = server.user("bob")
    message_id = (await writer.open())["message_id"]
    await writer.append_all(message_id, "a")
    path = f"/rooms/{writer.room_id}"
    assert (await bob.put(f"{path}/messages/{message_id}/reactions/x", None)).status == 200
    assert (await writer.user.put(f"{path}/pins/{message_id}", None)).data["content"] == "a"
    await bob.say(writer.room_id, "a reply", thread_id=message_id, reply_to=message_id)
    assert (await bob.post(f"{path}/messages/{message_id}/report", {"reason": "rude"})).status == 202
    await writer.append(message_id, 2, "b")
    for message in (await writer.read(message_id), (await bob.get(f"{path}/pins")).data["messages"][0]):
        assert (message["content"], message["stream"]["index"]) == ("ab", 2)
        assert message["reactions"][0]["emoji"] == "x"
        assert message["thread"]["reply_count"] == 1
        assert "pinned_at" in message
    await writer.finish(message_id)
    assert (await writer.read(message_id))["reactions"][0]["emoji"] == "x"


async def test_a_deletion_ends_it_alone(writer: Writer) -> None:
    bob = writer.user.server.user("bob")
    message_id = (await writer.open())["message_id"]
    await writer.append_all(message_id, "a")
    socket = await bob.connect()
    await writer.user.delete(f"/rooms/{writer.room_id}/messages/{message_id}")
    assert (await socket.expect("message.deleted"))["target_seq"] == 1
    tombstone = await writer.read(message_id)
    assert (tombstone["content"], "stream" in tombstone) == (None, False)
    [message, deleted] = (await bob.get(f"/rooms/{writer.room_id}/events")).data["events"]
    assert (message["content"], deleted["type"]) == (None, "message.deleted")
    await socket.expect_nothing("message.finished")


async def own_room(user: User, room_id: str) -> dict[str, Any]:
    rooms = (await user.get("/rooms")).data["rooms"]
    return next(room for room in rooms if room["room_id"] == room_id)


async def test_it_is_unread_from_its_opening_and_mentions_at_its_end(writer: Writer) -> None:
    bob = writer.user.server.user("bob")
    message_id = (await writer.open(mentions=["bob"]))["message_id"]
    await writer.append_all(message_id, "hello")
    room = await own_room(bob, writer.room_id)
    assert (room["unread_count"], room["unread_mentions"]) == (1, 0)
    assert (await bob.get("/mentions")).data["messages"] == []
    await writer.finish(message_id)
    room = await own_room(bob, writer.room_id)
    assert (room["unread_count"], room["unread_mentions"]) == (1, 1)
    ready = await (await bob.connect(ready=False)).expect("ready")
    assert next(shown for shown in ready["rooms"] if shown["room_id"] == writer.room_id)["unread_mentions"] == 1
    assert [found["message_id"] for found in (await bob.get("/mentions")).data["messages"]] == [message_id]
    await bob.post(f"/rooms/{writer.room_id}/read", {"seq": 1})
    assert (await own_room(bob, writer.room_id))["unread_mentions"] == 0


async def test_a_muted_sender_may_not_write_on(writer: Writer) -> None:
    admin = writer.user
    bob = Writer(admin.server.user("bob"), writer.room_id, is_rest=writer._is_rest)
    message_id = (await bob.open())["message_id"]
    await bob.append_all(message_id, "a")
    await admin.patch(f"/rooms/{writer.room_id}/members/bob", {"muted_for": 60})
    for outcome in (await bob.append(message_id, 2, "b"), await bob.finish(message_id), await bob.cancel(message_id)):
        assert outcome.code == "AUTHORIZATION_ERROR"
    await admin.patch(f"/rooms/{writer.room_id}/members/bob", {"muted_for": 0})
    assert (await bob.append(message_id, 2, "b")).code == "ok"
    assert (await writer.append(message_id, 3, "c")).code == "AUTHORIZATION_ERROR"
    assert (await writer.finish(message_id)).code == "AUTHORIZATION_ERROR"
