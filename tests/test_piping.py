"""Messages that are written from a pipe: a body becomes a stream while it arrives."""

import asyncio
from typing import Any

import pytest
from conftest import StartServer
from driver import HandClock, Server, Socket, eventually
from piper import AS_EVENTS, CHUNK, Piper, get_message, list_messages, open_pipe, wait_for_content

from chatapi import piping
from chatapi.errors import held

STOP = 'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
DONE = "data: [DONE]\n\n"


@pytest.fixture
async def room_id(server: Server) -> str:
    return await server.user("alice").make_room("bob")


@pytest.fixture
async def bob(server: Server, room_id: str) -> Socket:
    return await server.user("bob").connect()


def list_pipes(server: Server) -> list[Any]:
    """The connections whose bodies have not ended."""
    return [protocol for protocol in server.app.server.connections if protocol._awaits_body()]


# A tenant that is about to move


async def test_all_pipes_of_a_tenant_end_and_new_ones_wait_for_the_move(server: Server, room_id: str) -> None:
    """Another tenant's are left alone. After a move that was given up they are taken again."""
    alice = server.user("alice")
    other = Server(server.app, server.session, server.master_key)
    other.api_key = (await server.make_tenant())["api_key"]
    others_room = await other.user("alice").make_room("bob")
    others = await open_pipe(other.user("alice"), others_room)
    others.write("ours")
    theirs = await wait_for_content(other.user("alice"), others_room, "ours")
    pipe, waiting = await open_pipe(alice, room_id), await open_pipe(alice, room_id)
    pipe.write("begun")
    growing = await wait_for_content(alice, room_id, "begun")
    key = server.services.tenants.find_key(server.api_key)
    assert key is not None
    tenant_key = key.tenant.tenant_key
    await server.services.pipes.end_all(tenant_key, held("about to move"))
    message = await get_message(alice, room_id, growing["message_id"])
    assert (message["content"], message["stream"]) == ("begun", {"state": "failed"})
    waiting.write("too late")
    for refused, details in ((pipe, {"message_id": growing["message_id"]}), (waiting, None)):
        reply = await refused.read_reply()
        assert (reply.status, reply.body["error"].get("details")) == (503, details)
    server.services.pipes.take_again(tenant_key)
    again = await open_pipe(alice, room_id)
    again.write("again")
    others.write(" still")
    for going, text in ((again, "again"), (others, "ours still")):
        going.end()
        assert (await going.read_reply()).data["content"] == text
    assert theirs["stream"]["state"] == "open"
    assert (server.services.pipes._under_way, server.services.pipes._refusals) == ({}, {})
    for left in (pipe, waiting, again, others):
        left.leave()
        await left.writer.wait_closed()


# Writing


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("content_type", [None, "text/plain", "Text/Plain; charset=UTF-8"])
async def test_a_pipe_is_a_message_that_grows_and_ends(
    server: Server, room_id: str, bob: Socket, method: str, content_type: str | None
) -> None:
    alice = server.user("alice")
    head = {"Content_Type": content_type} if content_type else {}
    pipe = await open_pipe(alice, room_id, method=method, **head)
    pipe.write("Hello, ")
    opened = await bob.expect("message", content="", stream={"state": "open", "index": 0})
    growing = await wait_for_content(alice, room_id, "Hello, ")
    assert growing["stream"] == {"state": "open", "index": 1}
    pipe.write("Böb")
    await wait_for_content(alice, room_id, "Hello, Böb")
    pipe.end()
    reply = await pipe.read_reply()
    assert reply.status == 201
    assert reply.data == {**growing, "content": "Hello, Böb", "stream": {"state": "done"}}
    assert reply.data["message_id"] == opened["message_id"]
    await bob.expect("message.finished", content="Hello, Böb", target_seq=opened["seq"])
    assert await list_messages(alice, room_id) == [reply.data]


async def test_the_connection_serves_more_requests(server: Server, room_id: str) -> None:
    pipe = await open_pipe(server.user("alice"), room_id)
    for text in ("one", "two"):
        pipe.write(text)
        pipe.end()
        reply = await pipe.read_reply()
        assert (reply.status, reply.data["content"]) == (201, text)
        pipe.send_head(server.user("alice"), f"/v1/rooms/{room_id}/messages/stream")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_body_with_a_length_is_taken(server: Server, room_id: str, version: str) -> None:
    pipe = await open_pipe(server.user("alice"), room_id, version=version, Content_Length="5")
    pipe.write("Hel")
    pipe.write("lo")
    reply = await pipe.read_reply()
    assert (reply.status, reply.data["content"]) == (201, "Hello")


async def test_draft_takes_reply_to_and_thread_id(server: Server, room_id: str) -> None:
    alice = server.user("alice")
    root = await alice.say(room_id)
    for field in ("reply_to", "thread_id"):
        pipe = await open_pipe(alice, room_id, f"?{field}={root['message_id']}")
        pipe.write("x")
        pipe.end()
        assert (await pipe.read_reply()).data[field] == root["message_id"]
        pipe = await open_pipe(alice, room_id, f"?{field}=msg_0")
        pipe.write("x")
        reply = await pipe.read_reply()
        assert (reply.status, reply.error["field"]) == (400, field)


async def test_bytes_that_are_not_text_become_replacement_characters(server: Server, room_id: str) -> None:
    pipe = await open_pipe(server.user("alice"), room_id)
    for piece in (b"a\xff", b"\x00", b"\xf0\x9f", b"\x91\x8d", b"\xf0\x9f"):
        pipe.write(piece)
        await asyncio.sleep(0)
    pipe.end()
    assert (await pipe.read_reply()).data["content"] == "a\ufffd\ufffd👍\ufffd"


async def test_long_text_comes_whole(server: Server, room_id: str) -> None:
    text = "👍ü" * 10_000
    pipe = await open_pipe(server.user("alice"), room_id)
    pipe.write("x" + text)
    pipe.end()
    assert (await pipe.read_reply()).data["content"] == "x" + text


async def test_a_pipe_takes_one_token(start_server: StartServer) -> None:
    server = await start_server({"limits.rate_limit": 1, "limits.rate_burst": 50}, clock=HandClock())
    alice = server.user("alice")
    room_id = await alice.make_room()
    before = int((await alice.get("/rooms")).headers["X-RateLimit-Remaining"])
    pipe = await open_pipe(alice, room_id)
    for text in "abcdefgh":
        pipe.write(text)
        await asyncio.sleep(0.01)
    pipe.end()
    _, headers = await pipe.read_head()
    assert int(headers["x-ratelimit-remaining"]) == before - 1
    assert int((await alice.get("/rooms")).headers["X-RateLimit-Remaining"]) == before - 2


# Its name


async def test_stream_of_the_same_client_message_id_tells_the_message_id(server: Server, room_id: str) -> None:
    alice = server.user("alice")
    pipe = await open_pipe(alice, room_id, X_Client_Message_Id="answer-7")
    pipe.write("x")
    await wait_for_content(alice, room_id, "x")
    named = {"stream": True, "content": "", "client_message_id": "answer-7"}
    early = await alice.post(f"/rooms/{room_id}/messages", named)
    assert (early.status, early.data["content"]) == (200, "x")
    pipe.end()
    reply = await pipe.read_reply()
    assert reply.data["message_id"] == early.data["message_id"]
    assert reply.data["client_message_id"] == "answer-7"
    again = await open_pipe(alice, room_id, X_Client_Message_Id="answer-7")
    again.write("y")
    refused = await again.read_reply()
    assert (refused.status, refused.error["details"]["message_id"]) == (409, early.data["message_id"])
    assert len(await list_messages(alice, room_id)) == 1


async def test_stream_that_was_opened_otherwise_is_not_written_by_a_pipe(server: Server, room_id: str) -> None:
    alice = server.user("alice")
    opened = await alice.say(room_id, "", stream=True, client_message_id="answer-7")
    pipe = await open_pipe(alice, room_id, X_Client_Message_Id="answer-7")
    pipe.write("y")
    refused = await pipe.read_reply()
    assert (refused.status, refused.error["details"]["message_id"]) == (409, opened["message_id"])
    assert await list_messages(alice, room_id) == [opened]


@pytest.mark.parametrize("name", ["", "x" * 65, "\udcff".encode(errors="surrogateescape").decode("latin-1")])
async def test_bad_client_message_id_is_refused(server: Server, room_id: str, name: str) -> None:
    pipe = Piper(*await server.open())
    head = f"POST /rooms/{room_id}/messages/stream HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
    lines = "".join(f"{key}: {value}\r\n" for key, value in server.user("alice").headers.items())
    pipe.writer.write(f"{head}{lines}X-Client-Message-Id: {name}\r\n\r\nx".encode("latin-1"))
    reply = await pipe.read_reply()
    assert (reply.status, reply.error["field"]) == (400, "X-Client-Message-Id")


# What is refused before the first byte


async def test_no_bytes_open_nothing(server: Server, room_id: str) -> None:
    alice = server.user("alice")
    for head in ({}, {"Content_Length": "0"}, {"version": "1.0"}, AS_EVENTS):
        pipe = await open_pipe(alice, room_id, **head)
        if "Content_Length" not in head and "version" not in head:
            pipe.end()
        assert (await pipe.read_reply()).status == 400
    assert await list_messages(alice, room_id) == []


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ({"X_API_Key": "sk_wrong"}, 401),
        ({"X_User_Id": "eve"}, 403),
        ({"path": "/rooms/room_0/messages/stream"}, 404),
        ({"Content_Type": "application/json"}, 415),
        ({"Content_Type": "text/plain; charset=latin-1"}, 415),
        ({"Content_Encoding": "gzip"}, 415),
        ({"Content_Length": "65537"}, 413),
        ({"X_Client_Message_Id": "x" * 65}, 400),
        ({"path": "/rooms/{room_id}/messages/stream?reply_to="}, 400),
    ],
    ids=str,
)
async def test_no_go_ahead_before_all_is_judged(
    server: Server, room_id: str, head: dict[str, str], status: int
) -> None:
    pipe = Piper(*await server.open())
    path = head.pop("path", "/rooms/{room_id}/messages/stream").format(room_id=room_id)
    pipe.send_head(server.user("alice"), path, Expect="100-continue", **head)
    reply = await pipe.read_reply()
    assert reply.status == status
    assert reply.headers["connection"] == "close"
    assert await list_messages(server.user("alice"), room_id) == []


async def test_go_ahead_comes_when_all_is_judged(server: Server, room_id: str) -> None:
    pipe = await open_pipe(server.user("alice"), room_id, Expect="100-continue")
    assert await pipe.read_head() == (100, {})
    pipe.write("x")
    pipe.end()
    assert (await pipe.read_reply()).status == 201


async def test_muted_member_is_told_at_once(server: Server, room_id: str) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    await alice.patch(f"/rooms/{room_id}/members/bob", {"muted_for": 60})
    pipe = await open_pipe(bob, room_id, Expect="100-continue")
    reply = await pipe.read_reply()
    assert (reply.status, set(reply.error["details"])) == (403, {"muted_until"})


async def test_too_many_streams_are_refused(start_server: StartServer) -> None:
    server = await start_server({"streams.open_streams": 1})
    alice = server.user("alice")
    room_id = await alice.make_room()
    first = await open_pipe(alice, room_id)
    first.write("x")
    await wait_for_content(alice, room_id, "x")
    second = await open_pipe(alice, room_id)
    second.write("y")
    reply = await second.read_reply()
    assert (reply.status, int(reply.headers["retry-after"]) >= 1) == (429, True)
    first.end()
    assert (await first.read_reply()).status == 201


# How it ends


async def test_client_that_goes_before_its_first_byte_leaves_nothing(server: Server, room_id: str) -> None:
    pipe = await open_pipe(server.user("alice"), room_id, Expect="100-continue")
    assert (await pipe.read_head())[0] == 100  # it waits for bytes
    pipe.leave()
    await eventually(lambda: not list_pipes(server))
    assert await list_messages(server.user("alice"), room_id) == []


async def test_client_that_goes_leaves_a_failed_message_with_all_that_came(
    server: Server, room_id: str, bob: Socket
) -> None:
    pipe = await open_pipe(server.user("alice"), room_id)
    pipe.write("one ")
    await wait_for_content(server.user("alice"), room_id, "one ")
    async with server.hold_writer():
        pipe.write("two ")  # its append waits
        await eventually(lambda: server.services.store.writer)
        pipe.write("three")
        await pipe.writer.drain()
        pipe.leave()
        await eventually(lambda: all(protocol.transport is None for protocol in list_pipes(server)))
    await bob.expect("message.finished", content="one two three", stream={"state": "failed"})


async def test_a_body_whose_chunks_are_broken_fails_at_once(server: Server, room_id: str) -> None:
    alice = server.user("alice")
    pipe = await open_pipe(alice, room_id)
    pipe.write("one")
    await wait_for_content(alice, room_id, "one")
    pipe.writer.write(b"no length\r\n")
    reply = await pipe.read_reply()
    assert (reply.status, reply.headers["connection"]) == (400, "close")
    kept = await get_message(alice, room_id, reply.error["details"]["message_id"])
    assert (kept["content"], kept["stream"]) == ("one", {"state": "failed"})


@pytest.mark.parametrize("filler", ["x", "👍"])
async def test_text_that_is_too_long_fails_with_as_much_as_fits(server: Server, room_id: str, filler: str) -> None:
    alice = server.user("alice")
    pipe = await open_pipe(alice, room_id)
    pipe.write("ab")
    pipe.write(filler * 70_000)
    reply = await pipe.read_reply()
    assert (reply.status, reply.headers["connection"]) == (413, "close")
    kept = await get_message(alice, room_id, reply.error["details"]["message_id"])
    assert kept["stream"] == {"state": "failed"}
    assert kept["content"] == "ab" + filler * ((65_536 - 2) // len(filler.encode()))


async def test_error_reaches_a_client_that_goes_on_writing(server: Server, room_id: str) -> None:
    """It reads only when all is written: a reset would have taken the answer away."""
    pipe = await open_pipe(server.user("alice"), room_id)
    for _ in range(100):
        pipe.write(b"x" * 100_000)
        await pipe.writer.drain()
    pipe.end()
    assert (await pipe.read_reply()).status == 413
    assert await pipe.is_closed()


async def test_line_of_events_that_is_too_long_fails(server: Server, room_id: str) -> None:
    pipe = await open_pipe(server.user("alice"), room_id, **AS_EVENTS)
    pipe.write(CHUNK % "kept")
    for _ in range(11):
        pipe.write(b": " + b"x" * 100_000)
    reply = await pipe.read_reply()
    assert reply.status == 413
    kept = await get_message(server.user("alice"), room_id, reply.error["details"]["message_id"])
    assert (kept["content"], kept["stream"]) == ("kept", {"state": "failed"})


async def test_idle_stream_ends_a_pipe(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server({"streams.idle_seconds": 100}, clock=clock)
    alice = server.user("alice")
    room_id = await alice.make_room()
    pipe = await open_pipe(alice, room_id)
    pipe.write("x")
    await wait_for_content(alice, room_id, "x")
    clock.advance(101)
    await server.services.streams.end_idle()
    reply = await pipe.read_reply()
    assert (reply.status, reply.headers["connection"]) == (408, "close")
    kept = await get_message(alice, room_id, reply.error["details"]["message_id"])
    assert (kept["content"], kept["stream"]) == ("x", {"state": "failed"})


async def test_bytes_without_text_keep_a_stream_open(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server({"streams.idle_seconds": 100}, clock=clock)
    alice = server.user("alice")
    room_id = await alice.make_room()
    pipe = await open_pipe(alice, room_id, **AS_EVENTS)
    pipe.write(CHUNK % "x")
    await wait_for_content(alice, room_id, "x")
    [stream] = server.services.rooms.streams.list_all()
    for _ in range(3):
        clock.advance(60)
        pipe.write(": thinking\n\n")
        await eventually(lambda: stream.heard_at_s == clock.monotonic_s())
        await server.services.streams.end_idle()
    pipe.write(DONE)
    pipe.end()
    reply = await pipe.read_reply()
    assert (reply.status, reply.data["content"], reply.data["stream"]) == (201, "x", {"state": "done"})


@pytest.mark.slow
@pytest.mark.parametrize("sent", ["", "x"])
async def test_body_that_stops_is_given_up(start_server: StartServer, sent: str) -> None:
    server = await start_server({"streams.idle_seconds": 1})
    alice = server.user("alice")
    room_id = await alice.make_room()
    pipe = await open_pipe(alice, room_id)
    if sent:
        pipe.write(sent)
    reply = await pipe.read_reply()
    assert reply.status == 408
    states = [(message["content"], message["stream"]["state"]) for message in await list_messages(alice, room_id)]
    assert states == ([("x", "failed")] if sent else [])


async def remove(server: Server, room_id: str, message_id: str) -> None:
    await server.user("alice").delete(f"/rooms/{room_id}/members/bob")


async def mute(server: Server, room_id: str, message_id: str) -> None:
    await server.user("alice").patch(f"/rooms/{room_id}/members/bob", {"muted_for": 60})


async def delete(server: Server, room_id: str, message_id: str) -> None:
    await server.user("alice").delete(f"/rooms/{room_id}/messages/{message_id}")


async def delete_room(server: Server, room_id: str, message_id: str) -> None:
    await server.user("alice").delete(f"/rooms/{room_id}")


async def finish(server: Server, room_id: str, message_id: str) -> None:
    path = f"/rooms/{room_id}/messages/{message_id}/finish"
    assert (await server.user("bob").post(path, {"state": "done"})).status == 200


@pytest.mark.parametrize(
    ("happens", "status"), [(remove, 403), (mute, 403), (delete, 404), (delete_room, 404), (finish, 409)]
)
async def test_error_of_an_append_is_that_of_the_pipe(server: Server, room_id: str, happens: Any, status: int) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    pipe = await open_pipe(bob, room_id)
    pipe.write("x")
    message = await wait_for_content(alice, room_id, "x")
    await happens(server, room_id, message["message_id"])
    pipe.write("y")
    reply = await pipe.read_reply()
    assert (reply.status, reply.headers["connection"]) == (status, "close")
    assert reply.error["details"]["message_id"] == message["message_id"]


async def test_credential_that_ends_ends_the_pipe(server: Server, room_id: str) -> None:
    alice = server.user("alice")
    tenant_id = (await server.admin("GET", "/tenants")).data["tenants"][0]["tenant_id"]
    by_token = server.bearer("alice", (await alice.post("/tokens")).data["token"])
    new_key = (await server.admin("POST", f"/tenants/{tenant_id}/keys")).data
    by_key = server.user("alice", new_key["api_key"])
    rotated, revoked = f"/tenants/{tenant_id}/token-secret", f"/tenants/{tenant_id}/keys/{new_key['key_id']}"
    for user, method, path, content in ((by_token, "POST", rotated, "one"), (by_key, "DELETE", revoked, "two")):
        pipe = await open_pipe(user, room_id)
        pipe.write(content)
        message = await wait_for_content(alice, room_id, content)
        assert (await server.admin(method, path)).status < 300
        pipe.write("y")
        reply = await pipe.read_reply()
        assert (reply.status, reply.error["details"]) == (401, {"message_id": message["message_id"]})
        ended = await get_message(alice, room_id, message["message_id"])
        assert (ended["content"], ended["stream"]) == (content, {"state": "failed"})


async def test_pipe_that_waits_to_be_opened_is_judged_in_its_own_turn(server: Server, room_id: str) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    writer = server.services.store.writer
    async with server.hold_writer():
        banning = asyncio.ensure_future(alice.put(f"/rooms/{room_id}/bans/bob", {}))
        await eventually(lambda: len(writer) == 1)
        pipe = await open_pipe(bob, room_id)
        pipe.write("x")
        await eventually(lambda: len(writer) == 2)
    assert (await banning).status == 200
    reply = await pipe.read_reply()
    assert (reply.status, reply.headers["connection"]) == (403, "close")
    assert await list_messages(alice, room_id) == []


@pytest.mark.slow
async def test_a_stop_fails_the_message(start_server: StartServer) -> None:
    server = await start_server({"server.shutdown_grace_seconds": 1})
    alice = server.user("alice")
    room_id = await alice.make_room()
    pipe = await open_pipe(alice, room_id)
    pipe.write("x")
    await wait_for_content(alice, room_id, "x")
    stopping = asyncio.ensure_future(server.app.close())
    reply = await pipe.read_reply()
    assert reply.status == 503
    await stopping
    server = await start_server()
    kept = await get_message(server.user("alice"), room_id, reply.error["details"]["message_id"])
    assert (kept["content"], kept["stream"]) == ("x", {"state": "failed"})


async def test_a_cancel_ends_a_silent_pipe_at_once(server: Server, room_id: str) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    pipe = await open_pipe(alice, room_id)
    pipe.write("x")
    message = await wait_for_content(alice, room_id, "x")
    assert (await bob.post(f"/rooms/{room_id}/messages/{message['message_id']}/cancel")).status == 202
    reply = await pipe.read_reply()
    assert (reply.status, reply.headers["connection"]) == (201, "close")
    assert (reply.data["content"], reply.data["stream"]) == ("x", {"state": "cancelled"})


async def test_client_that_goes_on_writing_after_a_cancel_is_cut_off(
    server: Server, room_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As curl does, whose program would go on making text that nobody gets."""
    monkeypatch.setattr("chatapi.rest.server.PART_SECONDS", 0.01)
    alice = server.user("alice")
    pipe = await open_pipe(alice, room_id)
    pipe.write("x")
    message = await wait_for_content(alice, room_id, "x")
    await alice.post(f"/rooms/{room_id}/messages/{message['message_id']}/cancel")
    assert (await pipe.read_reply()).status == 201
    assert await pipe.is_closed()


# Streams of events


async def test_openai_stream_is_taken_as_it_is(server: Server, room_id: str, bob: Socket) -> None:
    pipe = await open_pipe(server.user("alice"), room_id, **AS_EVENTS)
    pipe.write('data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}\n\n')
    opened = await bob.expect("message", content="")
    for text in ("Hel", "lo"):
        pipe.write(CHUNK % text)
    pipe.write(STOP + 'data: {"choices": [], "usage": {"total_tokens": 3}}\n\n' + DONE)
    await bob.expect("message.finished", content="Hello", stream={"state": "done"}, target_seq=opened["seq"])
    pipe.write(CHUNK % "passed over")
    pipe.end()
    reply = await pipe.read_reply()
    assert (reply.status, reply.data["content"], reply.headers.get("connection")) == (201, "Hello", None)


async def test_body_that_stays_open_after_done_is_answered(
    server: Server, room_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(piping, "REST_SECONDS", 0.01)
    pipe = await open_pipe(server.user("alice"), room_id, **AS_EVENTS)
    pipe.write(CHUNK % "x" + DONE)
    reply = await pipe.read_reply()
    assert (reply.status, reply.data["stream"], reply.headers["connection"]) == (201, {"state": "done"}, "close")


@pytest.mark.parametrize(
    ("last", "status", "state"),
    [
        (STOP, 201, "done"),
        ("", 201, "failed"),
        ('data: {"error": {"message": "overloaded"}}\n\n', 400, "failed"),
        ("data: {broken\n\n", 400, "failed"),
    ],
)
async def test_end_without_done(server: Server, room_id: str, last: str, status: int, state: str) -> None:
    pipe = await open_pipe(server.user("alice"), room_id, **AS_EVENTS)
    pipe.write(CHUNK % "x" + last)
    pipe.end()
    reply = await pipe.read_reply()
    assert reply.status == status
    [message] = await list_messages(server.user("alice"), room_id)
    assert (message["content"], message["stream"]) == ("x", {"state": state})
    if status == 400:
        assert reply.error["details"] == {"message_id": message["message_id"]}


# Backpressure


async def test_fast_client_waits_for_the_disk(server: Server, room_id: str) -> None:
    """Some hundred KiB at most are held, of 16 MB."""
    pipe = Piper(*await server.open())
    pipe.send_head(server.user("alice"), f"/rooms/{room_id}/messages/stream", **AS_EVENTS)
    pipe.write(CHUNK % "x")
    await wait_for_content(server.user("alice"), room_id, "x")
    async with server.hold_writer():
        pipe.write(CHUNK % "y")
        await eventually(lambda: server.services.store.writer)
        line, sent = b": " + b"x" * 65_534 + b"\n", 0
        for _ in range(256):
            pipe.write(line)
            sent += len(line)
        [protocol] = list_pipes(server)
        held = protocol._current_request.content
        await eventually(lambda: protocol._reading_paused)
        assert held._size < 1_000_000
    pipe.write(DONE)
    pipe.end()
    assert (await pipe.read_reply()).data["content"] == "xy"
