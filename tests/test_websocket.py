"""One WebSocket once it is open: what it is sent, what it may send, and how it ends."""

import asyncio
import gc
import json
import struct
import subprocess
import sys
from socket import SO_LINGER, SOL_SOCKET

import aiohttp
import pytest
from aiohttp import web
from aiohttp.http_parser import HttpRequestParser
from conftest import StartServer
from driver import WAIT_SECONDS, HandClock, Server, eventually
from raw_websocket import BINARY, CLOSE, PING, PONG, TEXT, encode_frame

from chatapi.connection import Connection
from chatapi.errors import unauthenticated
from chatapi.protocol.frames import CLIENT_FRAMES, MAX_FRAME_BYTES
from chatapi.ws.client_socket import ClientSocket
from chatapi.ws.session import FRAMES_AT_A_STRETCH, MAX_BAD_FRAMES

# Sending


async def test_the_sender_is_confirmed_before_it_gets_its_message(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")
    phone, laptop, other = await alice.connect(), await alice.connect(), await bob.connect()
    await phone.send(
        "send_message", room_id=room_id, content="hi", meta={"k": 1}, client_message_id="m-1", request_id="r-1"
    )
    sent = await phone.next()
    message = (await alice.get(f"/rooms/{room_id}/messages")).data["messages"][0]
    assert sent == {
        "type": "message.sent",
        "request_id": "r-1",
        "room_id": room_id,
        "message_id": message["message_id"],
        "seq": 1,
        "client_message_id": "m-1",
        "created_at": message["created_at"],
    }
    for socket in (phone, laptop, other):
        assert await socket.next() == {"type": "message", **message}
    await laptop.expect_nothing("message.sent")


async def test_many_messages_at_once_are_each_confirmed_before_they_come(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    socket = await alice.connect_raw()
    await socket.expect("sync.complete")
    for n in range(300):
        socket.send_frame("send_message", room_id=room_id, content=f"{n}", request_id=f"{n}")
    confirmed, delivered = [], []
    while len(delivered) < 300:
        _opcode, payload = await socket.next()
        frame = json.loads(payload)
        if frame["type"] == "message.sent":
            confirmed.append((frame["request_id"], frame["seq"]))
        else:
            delivered.append((frame["content"], frame["seq"]))
            assert delivered[-1] in confirmed
    assert confirmed == delivered == [(f"{n}", n + 1) for n in range(300)]


async def test_fields_may_be_nested_in_data(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    socket = await alice.connect()
    await socket.send("send_message", data={"room_id": room_id, "content": "hi", "request_id": "inner"})
    await socket.expect("message.sent", request_id="inner")
    await socket.send("send_message", request_id="outer", data={"room_id": room_id, "content": "hi"})
    await socket.expect("message.sent", request_id="outer")
    await socket.send("send_message", request_id="r", data={"room_id": room_id})
    await socket.expect("error", request_id="r", field="content")


async def test_edits_and_deletions_answer_the_asker_and_tell_everyone(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")
    message = await alice.say(room_id, "teh")
    requester, other = await alice.connect(), await bob.connect()
    names = {"room_id": room_id, "message_id": message["message_id"]}
    await requester.send("message.edit", **names, content="the", request_id="r-1")
    edited = await other.next()
    assert (edited["type"], edited["content"], edited["seq"], edited["target_seq"]) == ("message.edited", "the", 2, 1)
    assert await requester.next() == {**edited, "request_id": "r-1"}
    await requester.send("message.delete", **names, request_id="r-2")
    deleted = await other.next()
    assert deleted == {"type": "message.deleted", **names, "seq": 3, "target_seq": 1}
    assert await requester.next() == {**deleted, "request_id": "r-2"}
    await requester.send("message.delete", **names, request_id="r-3")  # again: an answer, but no event
    assert await requester.next() == {**deleted, "request_id": "r-3"}
    await other.expect_nothing("message.deleted")
    await requester.send("message.edit", **names, content="more")
    await requester.expect("error", code="NOT_FOUND")


async def test_unsubscribed_member_still_gets_answers(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    message = await alice.say(room_id)
    socket = await alice.connect()
    await socket.send("unsubscribe", room_id=room_id)
    assert await socket.next() == {"type": "unsubscribed", "room_id": room_id}
    await socket.send("send_message", room_id=room_id, content="x", request_id="r-1")
    await socket.send("message.edit", room_id=room_id, message_id=message["message_id"], content="y", request_id="r-2")
    assert [(frame["type"], frame["request_id"]) for frame in (await socket.next(), await socket.next())] == [
        ("message.sent", "r-1"),
        ("message.edited", "r-2"),
    ]
    await socket.expect_nothing("message")


async def test_an_error_frame_carries_the_details_that_rest_does(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    message = await alice.say(room_id, client_message_id="m-1")
    draft = {"content": "other", "client_message_id": "m-1"}
    refused = (await alice.post(f"/rooms/{room_id}/messages", draft)).error
    assert refused["details"] == {"message_id": message["message_id"]}
    socket = await alice.connect()
    await socket.send("send_message", room_id=room_id, **draft, request_id="r-1")
    while (frame := await socket.next())["type"] != "error":
        pass
    assert frame == {"type": "error", **refused, "request_id": "r-1"}


# Subscriptions


async def test_subscriptions_are_each_connections_own(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")
    quiet, loud = await bob.connect(), await bob.connect()
    await quiet.send("unsubscribe", room_id=room_id, request_id="r-1")
    await quiet.expect("unsubscribed", request_id="r-1", room_id=room_id)
    await quiet.send("unsubscribe", room_id=room_id)
    await quiet.expect("unsubscribed")
    await alice.say(room_id, "unseen")
    await loud.expect("message", content="unseen")
    await quiet.expect_nothing("message")
    await quiet.send("subscribe", room_id=room_id, request_id="r-2")
    assert await quiet.next() == {"type": "subscribed", "room_id": room_id, "last_seq": 1, "request_id": "r-2"}
    await quiet.send("subscribe", room_id=room_id)
    await quiet.expect("subscribed")
    await alice.say(room_id, "seen")
    assert (await quiet.next())["content"] == "seen"
    await quiet.expect_nothing("message")  # subscribed twice is not delivered twice
    await quiet.send("unsubscribe", room_id=room_id)
    await quiet.expect("unsubscribed")
    await alice.delete(f"/rooms/{room_id}")
    await quiet.expect("room.deleted", room_id=room_id)  # no event of its log: the user's rooms are one less


async def test_a_channel_can_be_listened_to_without_joining(shared_server: Server) -> None:
    alice, eve = shared_server.user("alice"), shared_server.user("eve")
    channel = await alice.make_room(room_type="channel")
    group = await alice.make_room()
    await alice.say(channel, "before")
    socket = await eve.connect()
    await alice.say(channel, "not yet")
    await socket.send("subscribe", room_id=channel)
    await socket.expect("subscribed", room_id=channel, last_seq=2)
    await alice.say(channel, "now")
    assert (await socket.next())["content"] == "now"
    await socket.send("send_message", room_id=channel, content="x")
    await socket.expect("error", code="AUTHORIZATION_ERROR")
    await socket.send("subscribe", room_id=group)
    await socket.expect("error", code="AUTHORIZATION_ERROR")
    await socket.send("unsubscribe", room_id=channel)
    await socket.expect("unsubscribed")
    await alice.say(channel, "after")
    await socket.expect_nothing("message")


# Frames that are no good


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", None),
        ("nonsense", None),
        ("{", None),
        ("[]", None),
        ("null", None),
        ("7", None),
        ("{}", "type"),
        ('{"type":null}', "type"),
        ('{"type":7}', "type"),
        ('{"type":["ping"]}', "type"),
        ('{"type":{"a":1}}', "type"),
        ('{"type":"unheard-of"}', "type"),
        ('{"type":"ready"}', "type"),
        ('{"type":"send_message"}', None),
        ('{"type":"send_message","room_id":"x","content":7}', "content"),
        ('{"type":"send_message","room_id":"x","content":""}', "content"),
        ('{"type":"send_message","room_id":7,"content":"x"}', "room_id"),
        ('{"type":"send_message","room_id":"x","content":"y","meta":[]}', "meta"),
        ('{"type":"send_message","room_id":"x","content":"a\\u0000"}', "content"),
        ('{"type":"ack","room_id":"x","seq":"1"}', "seq"),
        ('{"type":"ack","room_id":"x","seq":-1}', "seq"),
        ('{"type":"ack","room_id":"x","seq":1.5}', "seq"),
        ('{"type":"ack","room_id":"x","seq":9007199254740992}', "seq"),
        ('{"type":"ack","room_id":"x"}', "seq"),
        ('{"type":"message.edit","room_id":"x","message_id":"y"}', "content"),
        ('{"type":"message.delete","room_id":"x"}', "message_id"),
        ('{"type":"subscribe"}', "room_id"),
        ('{"type":"sync","rooms":[]}', "rooms"),
        ('{"type":"sync","rooms":{"x":"1"}}', "rooms.x"),
        ('{"type":"sync","rooms":{"x":-1}}', "rooms.x"),
        ('{"type":"sync","epoch":7}', "epoch"),
        ('{"type":"notification.ack"}', "notification_id"),
        ('{"type":"ping","request_id":7}', "request_id"),
        ('{"type":"ping","request_id":"' + "r" * 65 + '"}', "request_id"),
        ('{"type":"ping","x":9007199254740992}', "x"),
        ('{"type":"ping","x":' + "[" * 40 + "]" * 40 + "}", None),
        ('{"type":"send_message","data":[1]}', None),
    ],
)
async def test_a_bad_frame_gets_an_error_and_the_connection_stays(
    shared_server: Server, text: str, field: str | None
) -> None:
    socket = await shared_server.user("alice").connect()
    await socket.websocket.send_str(text)
    error = await socket.next()
    assert (error["type"], error["code"]) == ("error", "VALIDATION_ERROR")
    if field is not None:
        assert error["field"] == field
    await socket.send("ping")
    assert (await socket.next())["type"] == "pong"


async def test_the_answer_to_a_bad_frame_repeats_its_request_id(shared_server: Server) -> None:
    socket = await shared_server.user("alice").connect()
    for frame_type in [*CLIENT_FRAMES, "unheard-of"]:
        await socket.send(frame_type, room_id=7, rooms=7, notification_id=7, request_id="r" * 64)
        frame = await socket.next()
        assert frame["type"] == ("pong" if frame_type == "ping" else "error")
        assert frame["request_id"] == "r" * 64


@pytest.mark.slow
def test_a_server_with_a_client_frame_that_has_no_command_does_not_start() -> None:
    code = """
from chatapi.protocol import frames
class Poll(frames.Body, frozen=True): ...
frames.CLIENT_FRAMES["poll"] = Poll
import chatapi.app
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_SECONDS)
    assert run.returncode == 1
    assert run.stderr.endswith("TypeError: CLIENT_FRAMES and the table of commands differ in Poll\n")


async def test_refused_frame_is_answered_with_an_error_frame(shared_server: Server) -> None:
    alice, eve = shared_server.user("alice"), shared_server.user("eve")
    room_id = await alice.make_room()
    message = await alice.say(room_id)
    socket = await eve.connect()
    names = {"room_id": room_id, "message_id": message["message_id"]}
    frames = {
        "send_message": {"content": "x"},
        "message.edit": {"content": "x"},
        "message.delete": {},
        "ack": {"seq": 1},
        "read": {"seq": 1},
        "typing.start": {},
        "typing.stop": {},
        "subscribe": {},
        "unsubscribe": {},
    }
    for frame_type, fields in frames.items():
        for wrong, code in ((names, "AUTHORIZATION_ERROR"), ({**names, "room_id": "room_x"}, "NOT_FOUND")):
            await socket.send(frame_type, **wrong, **fields, request_id="r-1")
            error = await socket.next()
            assert (error["type"], error["code"], error["request_id"]) == ("error", code, "r-1"), frame_type
            assert isinstance(error["message"], str)
    mine = await alice.connect()
    for frame_type in ("ack", "read"):
        await mine.send(frame_type, room_id=room_id, seq=2)
        await mine.expect("error", code="VALIDATION_ERROR", field="seq")
    await mine.send("notification.ack", notification_id="notif_x")
    await mine.expect("error", code="NOT_FOUND")


async def test_a_hundred_bad_frames_a_minute_are_borne(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server({"websocket.timeout_seconds": 3600}, clock=clock)
    socket = await server.user("alice").connect_raw()
    await socket.expect("sync.complete")
    for _ in range(MAX_BAD_FRAMES):
        socket.send(TEXT, b"bad")
    for _ in range(MAX_BAD_FRAMES):
        await socket.expect("error")
    clock.advance(61)
    for _ in range(MAX_BAD_FRAMES):
        socket.send(TEXT, b"bad")
        await socket.expect("error")
    socket.send(TEXT, b"bad")
    assert MAX_BAD_FRAMES == 100
    assert await socket.close_code() == 4029


# Frames that end the connection


async def test_a_binary_frame_is_1003(shared_server: Server) -> None:
    socket = await shared_server.user("alice").connect_raw(ready=True)
    socket.send(BINARY, b'{"type":"ping"}')
    assert await socket.close_code() == 1003


@pytest.mark.parametrize("payload", [b"\xff", b'{"type":"ping","x":"\xff"}', b"\xed\xa0\x80", b'"\xc3'])
async def test_text_that_is_not_utf8_is_1007(shared_server: Server, payload: bytes) -> None:
    socket = await shared_server.user("alice").connect_raw(ready=True)
    socket.send(TEXT, payload)
    assert await socket.close_code() == 1007


def padded_ping(size_bytes: int) -> bytes:
    frame = b'{"type":"ping","x":""}'
    return frame[:-2] + b"x" * (size_bytes - len(frame)) + frame[-2:]


async def test_a_frame_may_have_128_kib(shared_server: Server) -> None:
    socket = await shared_server.user("alice").connect_raw(ready=True)
    assert MAX_FRAME_BYTES == 128 * 1024
    socket.send(TEXT, padded_ping(MAX_FRAME_BYTES))
    await socket.expect("pong")
    socket.send(TEXT, padded_ping(MAX_FRAME_BYTES + 1))
    assert await socket.close_code() == 1009


async def test_the_bound_holds_for_fragments_together(shared_server: Server) -> None:
    socket = await shared_server.user("alice").connect_raw(ready=True)
    data = padded_ping(MAX_FRAME_BYTES + 1)
    socket.send(TEXT, data[:100_000], first_byte=0)
    socket.send(0, data[100_000:])
    assert await socket.close_code() == 1009


async def test_fragments_are_put_together(shared_server: Server) -> None:
    socket = await shared_server.user("alice").connect_raw(ready=True)
    socket.send(TEXT, b'{"type":', first_byte=0)
    socket.send(PING, b"between")
    socket.send(0, b'"pi', first_byte=0)
    socket.send(0, b'ng"}')
    assert await socket.next() == (PONG, b"between")
    await socket.expect("pong")


@pytest.mark.parametrize(
    "break_it",
    [
        lambda socket: socket.send(0x3, b""),  # a reserved opcode
        lambda socket: socket.send(TEXT, b"{}", first_byte=0xC0),  # a reserved bit: compression, which we do not have
        lambda socket: socket.send(PING, b"x" * 126),
        lambda socket: socket.send(PING, b"x", first_byte=0),  # a fragmented control frame
        lambda socket: socket.send(0, b"x"),  # a fragment of nothing
    ],
)
async def test_bytes_that_are_not_a_frame_end_the_connection(shared_server: Server, break_it) -> None:
    socket = await shared_server.user("alice").connect_raw(ready=True)
    break_it(socket)
    assert await socket.close_code() == 1002


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe8bye", b"\x0f\xa0", b"\x13\x87"])
async def test_a_close_is_answered_with_its_code(shared_server: Server, payload: bytes) -> None:
    socket = await shared_server.user("alice").connect_raw(ready=True)
    socket.send(CLOSE, payload)
    opcode, answer = await socket.next()
    assert (opcode, answer) == (CLOSE, payload[:2] or b"\x03\xe8")
    assert await socket.end() == b""


async def test_after_its_close_frame_the_server_says_nothing_more(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    socket = await shared_server.user("alice").connect_raw(ready=True)
    socket.send(BINARY, b"x")
    socket.send_frame("send_message", room_id=room_id, content="late")
    socket.send_frame("ping")
    while (await socket.next())[0] != CLOSE:
        pass
    await alice.say(room_id, "on time")
    socket.send(CLOSE, b"\x03\xeb")
    assert await socket.end() == b""
    assert (await alice.get(f"/rooms/{room_id}")).data["last_seq"] == 1


async def test_a_peer_that_vanishes_is_forgotten(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    watcher = await bob.connect()
    socket = await server.user("alice").connect_raw(ready=True)
    await watcher.expect("presence.update", user_id="alice", status="online")
    socket.writer.transport.abort()
    await watcher.expect("presence.update", user_id="alice", status="offline")
    assert not server.connections_of("alice")
    await alice.say(room_id)


@pytest.mark.parametrize("ending", ["goodbye", "vanishes", "breaks off", "told to go", "breaks the rules"])
async def test_ended_connection_leaves_no_reference_cycle(server: Server, ending: str) -> None:
    """What a connection held, 17 KB, is free at once: a full collection comes only after a hundred million objects."""
    socket = await server.user("alice").connect_raw(ready=True)
    gc.collect()
    gc.disable()
    try:
        if ending == "goodbye":
            socket.send(CLOSE, b"\x03\xe8")
            assert await socket.end()
        elif ending == "told to go":
            [tenant] = server.services.tenants.all()
            server.services.hub.close_where(tenant.tenant_key, lambda _: True, 4001, unauthenticated("gone"))
            assert await socket.close_code() == 4001
        elif ending == "breaks the rules":
            socket.send(TEXT, b"{}", masked=False)
            assert await socket.close_code() == 1002
            socket.writer.close()
        else:
            if ending == "breaks off":
                reset = struct.pack("ii", 1, 0)  # no lingering: the peer gets a reset
                socket.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, reset)
            socket.writer.transport.abort()  # type: ignore[attr-defined]  # a real transport has it
        await eventually(lambda: not server.services.hub.connections)
        await eventually(lambda: not list_alive(ClientSocket, web.BaseRequest, Connection))
    finally:
        gc.enable()


def list_alive(*kinds: type) -> list[object]:
    return [found for found in gc.get_objects() if isinstance(found, kinds)]


# Control frames and data


async def test_control_frames_keep_their_place_among_the_others(server: Server) -> None:
    socket = await server.user("alice").connect_raw(ready=True)
    expected = []
    for n in range(500):
        if n % 3 == 2:
            socket.send_frame("ping", request_id=f"{n}")
        else:
            socket.send(PING, f"{n}".encode())
        expected.append(f"{n}")
    # 20 `ping`s a second pass, after a burst of 40: a flood is slowed down, so take what comes first.
    seen = []
    while len(seen) < 115:
        opcode, payload = await socket.next()
        seen.append(payload.decode() if opcode == PONG else json.loads(payload)["request_id"])
    assert seen == expected[:115]
    socket.writer.transport.abort()


async def test_a_pong_that_nobody_asked_for_is_nothing(shared_server: Server) -> None:
    socket = await shared_server.user("alice").connect_raw(ready=True)
    socket.send(PONG, b"here I am")
    socket.send(PING, b"")
    assert await socket.next() == (PONG, b"")


@pytest.mark.parametrize("flood", [encode_frame(0x80 | PONG), encode_frame(0x00)])  # answers, and empty fragments
async def test_a_flood_of_frames_that_mean_nothing_leaves_others_their_turn(
    shared_server: Server, flood: bytes
) -> None:
    socket = await shared_server.user("alice").connect_raw(ready=True)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    others = asyncio.create_task(count_turns())
    try:
        socket.send(TEXT, b"{", first_byte=0)  # a message that the fragments go on with
        before = turns
        socket.writer.write(flood * 8_000 + encode_frame(0x80 | PING))
        assert await socket.next() == (PONG, b"")
        assert turns - before > 8_000 // FRAMES_AT_A_STRETCH
    finally:
        others.cancel()


# Heartbeat


async def test_server_pings_and_drops_a_silent_client(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server({"websocket.heartbeat_seconds": 0.2, "websocket.timeout_seconds": 1}, clock=clock)
    silent, alive = (
        await server.user("alice").connect_raw(ready=True),
        await server.user("alice").connect_raw(ready=True),
    )
    clock.advance(0.3)
    assert await silent.next() == (PING, b"")
    assert await alive.next() == (PING, b"")
    alive.send(PONG)
    alive.send(PING, b"seen")
    assert await alive.next() == (PONG, b"seen")
    clock.advance(0.8)  # 1.1 s after the last sign of `silent`, 0.8 s after that of `alive`
    assert await silent.end() == b""
    assert await alive.next() == (PING, b"")
    assert len(server.connections_of("alice")) == 1


async def test_an_open_websocket_keeps_nothing_of_its_handshake(server: Server) -> None:
    """aiohttp's part, with the tasks that serve a request, would be two thirds of what an idle connection takes."""
    gc.collect()
    gc.disable()
    try:
        await server.user("alice").connect()
        [connection] = server.connections_of("alice")
        assert isinstance(connection.transport.get_protocol(), ClientSocket)  # type: ignore[attr-defined]
        await eventually(lambda: not list_alive(HttpRequestParser, web.BaseRequest, web.StreamResponse))
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "frames"]
    finally:
        gc.enable()


async def test_ping_gets_pong(shared_server: Server) -> None:
    socket = await shared_server.user("alice").connect()
    await socket.send("ping", request_id="r-1")
    assert await socket.next() == {"type": "pong", "request_id": "r-1"}
    await socket.send("ping")
    assert await socket.next() == {"type": "pong"}


async def test_ordinary_clients_get_along(shared_server: Server) -> None:
    """aiohttp's client offers compression, and checks the close handshake."""
    async with shared_server.session.ws_connect(
        f"{shared_server.url}/ws", headers=shared_server.user("alice").headers, compress=15
    ) as websocket:
        assert (await websocket.receive()).type is aiohttp.WSMsgType.TEXT
        await websocket.close(code=4000)
        assert websocket.close_code == 4000
