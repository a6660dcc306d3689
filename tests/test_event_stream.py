"""`GET /events/stream`: the frames of a WebSocket as Server-Sent Events, from the same machine and under the same
limits."""

import asyncio
import base64
import gc
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from conftest import StartServer
from driver import EventStream, HandClock, Server, User, eventually, seqs
from nginx import open_nginx
from receiver import Receiver

from chatapi.connection import Connection, ConnectionState
from chatapi.errors import unauthenticated, unavailable
from chatapi.models import UserId
from chatapi.recovery import ConnectData
from chatapi.rest import events

PATH = "/events/stream"
QUICK: dict[str, object] = {"websocket.heartbeat_seconds": 0.2, "websocket.timeout_seconds": 0.4}
"""The sweeper looks every 20 ms."""


def encode_cursors(frame: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(frame).encode()).decode()


async def get(server: Server, user: User, **params: str) -> Any:
    return await server.request("GET", PATH, headers=user.headers, params=params)


# What comes


async def test_it_has_the_frames_of_a_websocket_in_the_same_order(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    for content in ("one", "two\r\nlines\u2028", "x" * 30_000):
        await alice.say(room_id, content)
    await alice.post("/notify", {"topic": "t", "payload": {"n": 1}, "targets": {"user_ids": ["bob"]}})
    socket = await bob.connect(ready=False)
    stream = await bob.stream(ready=False)
    first, second = await socket.next(), await stream.next()
    assert stream.lines == ["retry: 2000"]
    assert first.keys() == second.keys()
    assert first["rooms"] == second["rooms"]
    backlog = await socket.collect("sync.complete")
    assert backlog == await stream.collect("sync.complete")
    assert [frame["type"] for frame in backlog] == ["message"] * 3 + ["notification"]
    for number in range(5):
        await alice.say(room_id, f"live {number}")
    await alice.post(f"/rooms/{room_id}/members", {"user_id": "carol"})
    await alice.post("/acks", {"room_id": room_id, "seq": 3})
    await alice.delete(f"/rooms/{room_id}")
    live = await socket.collect("room.deleted")
    assert live == await stream.collect("room.deleted")
    assert seqs(live, room_id) == [4, 5, 6, 7, 8, 9]


async def test_an_event_is_its_data_alone(server: Server) -> None:
    alice = server.user("alice")
    await alice.say(await alice.make_room())
    stream = await alice.stream(ready=False)
    lines: list[str] = []
    while (await stream.next())["type"] != "sync.complete":
        lines += stream.lines
    assert lines == ["retry: 2000"]  # no `event:`, and no `id:`
    headers = stream.response.headers
    assert headers["Content-Type"] == "text/event-stream"
    assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-store", "no")
    assert "X-Request-Id" in headers


async def test_a_comment_comes_every_15_seconds(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server(QUICK, clock=clock)
    alice = server.user("alice")
    room_id = await alice.make_room()
    stream = await alice.stream()
    for _ in range(3):
        clock.advance(15.0)
        async with asyncio.timeout(20):
            assert await stream.response.content.readuntil(b"\n\n") == b":\n\n"
    clock.advance(14.9)
    await alice.say(room_id)
    await stream.expect("message")
    assert stream.lines == []
    assert len(server.connections_of("alice")) == 1  # it was silent for longer than a WebSocket may be


async def test_a_room_that_is_joined_and_left_meanwhile(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    stream = await bob.stream()
    room_id = await alice.make_room("bob")
    await stream.expect("room.created")
    await alice.say(room_id)
    await stream.expect("message", seq=1)
    await alice.delete(f"/rooms/{room_id}/members/bob")
    await stream.expect("member.left", seq=2)
    await alice.say(room_id, "not for bob")
    other = await alice.make_room("bob")
    assert (await stream.next())["room_id"] == other


# Cursors


async def test_it_begins_at_the_cursors_of_its_address(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    rooms = [await alice.make_room("bob") for _ in range(2)]
    for room_id in rooms:
        for _ in range(4):
            await alice.say(room_id)
    await bob.post("/acks", {"room_id": rooms[0], "seq": 3})
    await bob.post("/acks", {"room_id": rooms[1], "seq": 2})
    text = encode_cursors({"type": "sync", "rooms": {rooms[0]: 1}, "request_id": "r"})
    for cursors in (text, text.rstrip("=")):
        stream = await bob.stream(ready=False, cursors=cursors)
        assert (await stream.next())["type"] == "ready"
        frames = await stream.collect("sync.complete")
        assert seqs(frames, rooms[0]) == [2, 3, 4]
        assert seqs(frames, rooms[1]) == [3, 4]  # from `last_ack`


async def test_its_cursors_are_answered_with_their_request_id(server: Server) -> None:
    stream = await server.user("bob").stream(ready=False, cursors=encode_cursors({"rooms": {}, "request_id": "r"}))
    await stream.expect("sync.complete", request_id="r")


async def test_during_a_stop_none_is_opened(server: Server) -> None:
    server.services.health.is_draining = True
    assert (await get(server, server.user("alice"))).status == 503
    server.services.health.is_draining = False


async def test_wrong_cursors_are_reset_as_in_a_sync(server: Server) -> None:
    alice = server.user("alice")
    room_id, unread = await alice.make_room(), await alice.make_room()
    await alice.say(room_id)
    for frame in ({"rooms": {room_id: 9}}, {"rooms": {room_id: 1}, "epoch": "of another time"}):
        stream = await alice.stream(ready=False, cursors=encode_cursors(frame))
        assert (await stream.next())["type"] == "ready"
        assert (await stream.next()) == {
            "type": "sync.reset",
            "epoch": server.services.tenants.all()[0].epoch,
            "rooms": {room_id: 0},
        }
        assert seqs(await stream.collect("sync.complete"), room_id) == [1]
    frame = {"rooms": {"room_0": 1, unread: 0}}
    stream = await alice.stream(ready=False, cursors=encode_cursors(frame))
    error = await stream.expect("error")
    assert (error["code"], error["field"]) == ("NOT_FOUND", "rooms.room_0")
    await stream.expect("sync.complete")


async def test_a_channel_of_its_cursors_is_subscribed_to(server: Server) -> None:
    alice, reader = server.user("alice"), server.user("reader")
    channel = await alice.make_room(room_type="channel")
    await alice.say(channel)
    stream = await reader.stream(ready=False, cursors=encode_cursors({"rooms": {channel: 0}}))
    await stream.expect("message", seq=1)
    await alice.say(channel)
    await stream.expect("message", seq=2)


@pytest.mark.parametrize(
    "cursors",
    [
        "",
        "*",
        "e",
        "e30=e30=",
        "\u00e9",
        base64.b64encode(b"{").decode(),
        base64.b64encode(b"\xff").decode(),
        encode_cursors([]),
        encode_cursors({"type": "ping"}),
        encode_cursors({"rooms": 5}),
        encode_cursors({"rooms": {"a": -1}}),
        encode_cursors({"rooms": {"a": "1"}}),
        encode_cursors({"epoch": 1}),
        encode_cursors({"rooms": {"a": 2**60}}),
        "e30" + "A" * 8190,
    ],
)
async def test_cursors_that_are_none_are_refused(shared_server: Server, cursors: str) -> None:
    reply = await get(shared_server, shared_server.user("alice"), cursors=cursors)
    assert (reply.status, reply.error["code"], reply.error["field"]) == (400, "VALIDATION_ERROR", "cursors")
    assert not shared_server.connections_of("alice")


async def test_cursors_of_8_kib_are_taken(shared_server: Server) -> None:
    alice = shared_server.user("long")
    text = json.dumps({"type": "sync", "rooms": {}}).encode()
    cursors = base64.urlsafe_b64encode(text + b" " * (6144 - len(text))).decode()
    assert len(cursors) == 8192
    stream = await alice.stream(cursors=cursors)
    await stream.close()


async def test_a_request_line_has_a_bound(shared_server: Server) -> None:
    """Twice that of cursors: a longer one would be held for each connection before anybody is known."""
    reply = await get(shared_server, shared_server.user("alice"), cursors="A" * 17_000)
    assert (reply.status, reply.error["code"], "field" in reply.error) == (400, "VALIDATION_ERROR", False)


async def test_it_has_no_sync(shared_server: Server) -> None:
    for value in ("none", ""):
        reply = await get(shared_server, shared_server.user("alice"), sync=value)
        assert (reply.status, reply.error["field"]) == (400, "sync")


# Who may


async def test_bad_credentials_are_401_in_every_form(server: Server) -> None:
    for headers in ({}, {"X-API-Key": "sk_wrong", "X-User-Id": "a"}, {"Authorization": "Bearer x"}):
        assert (await server.request("GET", PATH, headers=headers)).status == 401
    for token in ("x", "tkt_x", ""):
        assert (await server.request("GET", PATH, params={"token": token})).status == 401
    params = {"api_key": server.api_key, "user_id": "alice"}
    assert (await server.request("GET", PATH, params=params)).status == 401  # unless the operator allows it
    assert not server.services.hub.connections


async def test_a_ticket_serves_one_connect_and_a_user_token_many(server: Server) -> None:
    alice = server.user("alice")
    nobody = User(server, "", "")
    nobody.headers = {}
    ticket = (await alice.post("/ws/token")).data["token"]
    stream = await nobody.stream(token=ticket)
    assert len(server.connections_of("alice")) == 1
    assert (await get(server, nobody, token=ticket)).status == 401
    token = (await alice.post("/tokens")).data["token"]
    for _ in range(2):
        await nobody.stream(token=token)
    assert len(server.connections_of("alice")) == 3
    await stream.close()


async def test_a_key_in_the_address_where_the_operator_allows_it(start_server: StartServer) -> None:
    server = await start_server({"auth.query_api_key": True})
    nobody = User(server, "", "")
    nobody.headers = {}
    await nobody.stream(api_key=server.api_key, user_id="alice")
    assert len(server.connections_of("alice")) == 1


async def test_a_banned_user_gets_403(server: Server) -> None:
    backend, alice = server.user("backend"), server.user("alice")
    token = (await backend.post("/tokens", {"user_id": "alice"})).data["token"]
    await backend.put("/users/alice/ban", {})
    for reply in (await get(server, alice), await server.request("GET", PATH, params={"token": token})):
        assert (reply.status, reply.error["code"]) == (403, "AUTHORIZATION_ERROR")


async def test_it_counts_to_both_limits_of_connections(server: Server) -> None:
    for setting, names in (("connections_per_user", ("alice",)), ("connections_per_tenant", ("alice", "bob"))):
        made = await server.make_tenant(setting, **{setting: 2})
        first, last = server.user(names[0], made["api_key"]), server.user(names[-1], made["api_key"])
        socket = await first.connect()
        stream = await first.stream()
        reply = await get(server, last)
        assert (reply.status, reply.error["code"], reply.headers["Retry-After"]) == (429, "RATE_LIMIT_EXCEEDED", "1")
        await socket.close()
        await eventually(lambda user=first: len(server.connections_of(user.user_id)) == 1)
        again = await last.stream()
        await stream.close()
        await again.close()
        await eventually(lambda: not server.services.hub.connections)


async def test_it_takes_one_token_and_with_a_ticket_none(start_server: StartServer) -> None:
    server = await start_server({"limits.rate_limit": 10}, clock=HandClock())
    alice = server.user("alice")
    stream = await alice.stream()
    assert stream.response.headers["X-RateLimit-Remaining"] == "9"
    ticket = (await alice.post("/ws/token")).data["token"]
    nobody = User(server, "", "")
    nobody.headers = {}
    assert (await nobody.stream(token=ticket)).response.headers["X-RateLimit-Remaining"] == "8"
    while (reply := await alice.get("/rooms")).status == 200:
        pass
    reply = await get(server, alice)
    assert (reply.status, reply.error["code"]) == (429, "RATE_LIMIT_EXCEEDED")


async def test_pages_of_other_origins(start_server: StartServer) -> None:
    server = await start_server({"server.allowed_origins": ["https://app.example"]})
    alice = server.user("alice")
    alice.headers["Origin"] = "https://app.example"
    stream = await alice.stream()
    assert stream.response.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert stream.response.headers["Vary"] == "Origin"
    alice.headers["Origin"] = "https://evil.example"
    reply = await get(server, alice)
    assert (reply.status, reply.error["code"]) == (403, "AUTHORIZATION_ERROR")
    assert "Access-Control-Allow-Origin" not in reply.headers


async def test_head_opens_no_connection(shared_server: Server) -> None:
    alice = shared_server.user("head")
    reply = await shared_server.request("HEAD", PATH, headers=alice.headers)
    assert (reply.status, reply.body) == (200, None)
    assert reply.headers["Content-Type"] == "text/event-stream"
    assert "Content-Length" not in reply.headers
    assert not shared_server.connections_of("head")
    assert shared_server.services.hub.find_online(shared_server.services.tenants.all()[0].tenant_key, "head") is None
    assert (await shared_server.request("HEAD", PATH)).status == 401


# How it ends


async def test_its_last_frame_says_why_it_ends(server: Server) -> None:
    made = await server.make_tenant("shop")
    backend, alice = (server.user(name, made["api_key"]) for name in ("backend", "alice"))
    key = (await server.admin("POST", f"/tenants/{made['tenant_id']}/keys", {})).data
    by_key = await server.user("alice", key["api_key"]).stream()
    await server.admin("DELETE", f"/tenants/{made['tenant_id']}/keys/{key['key_id']}")
    assert (await by_key.expect("error"))["code"] == "AUTHENTICATION_ERROR"
    assert await by_key.close_code() == 4001
    banned = await alice.stream()
    connection = server.connections_of("alice")[-1]
    await backend.put("/users/alice/ban", {})
    assert (await banned.expect("close"))["code"] == 4003
    assert connection.transport.is_closing()  # in the same turn, not after the time that a WebSocket has to answer
    assert await banned.response.content.read() == b""
    await backend.delete("/users/alice/ban")
    stopped = await alice.stream()
    closing = asyncio.ensure_future(server.app.close())
    shutdown = await stopped.expect("server.shutdown")
    assert stopped.lines == [f"retry: {shutdown['reconnect_after_ms']}"]
    assert await stopped.next() == {"type": "close", "code": 1001, "reason": "server going away"}
    assert await stopped.response.content.read() == b""
    await closing


async def test_it_ends_with_its_token(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server(QUICK, clock=clock)
    token = (await server.user("alice").post("/tokens", {"expires_in": 60})).data["token"]
    stream = await server.bearer("alice", token).stream()
    clock.advance(61)
    assert await stream.close_code() == 4001


async def test_a_client_that_goes_is_gone_at_once(server: Server) -> None:
    alice = server.user("alice")
    await alice.stream()
    reader, writer = await server.open()
    lines = "".join(f"{name}: {value}\r\n" for name, value in alice.headers.items())
    writer.write(f"GET {PATH} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())
    await reader.readuntil(b"sync.complete")
    assert len(server.connections_of("alice")) == 2
    writer.write_eof()
    await eventually(lambda: len(server.connections_of("alice")) == 1)
    await server.leave()
    await eventually(lambda: not server.services.hub.connections)
    await server.user("bob").get("/rooms")
    tenant_key = server.services.tenants.all()[0].tenant_key
    assert server.services.hub.find_online(tenant_key, UserId("alice")) is not None  # for the grace of presence


@pytest.mark.parametrize("ending", ["goes", "told to go", "gone before ready", "store fails"])
async def test_nothing_of_http_stays_with_it_and_nothing_of_it_after_its_end(
    server: Server, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    alice, recovery, is_held = server.user("alice"), server.services.recovery, asyncio.Event()
    reader, writer = await server.open()
    if ending in ("gone before ready", "store fails"):

        async def read_connects(_users: object) -> list[ConnectData]:
            await is_held.wait()
            if ending == "store fails":
                raise unavailable("The database refuses")
            return [(([], None), False)]

        monkeypatch.setattr(recovery._connects, "_load_many", read_connects)
    gc.collect()
    gc.disable()
    try:
        lines = "".join(f"{name}: {value}\r\n" for name, value in alice.headers.items())
        writer.write(f"GET {PATH} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())
        await reader.readuntil(b"retry: 2000")
        if ending in ("goes", "told to go"):
            await reader.readuntil(b"sync.complete")
            assert not list_alive(web.BaseRequest, web.StreamResponse, web.RequestHandler)
            assert len(list_alive(events.EventStream, Connection)) == 2
        if ending == "told to go":
            [tenant] = server.services.tenants.all()
            server.services.hub.close_where(tenant.tenant_key, lambda _: True, 4001, unauthenticated("gone"))
            assert b"4001" in await reader.read()
        elif ending == "store fails":
            is_held.set()
            await reader.read()
        else:
            writer.close()
        if ending == "gone before ready":
            await eventually(lambda: not server.app.server._successors)
            assert server.connections_of("alice")  # its opening is still under way
            is_held.set()
        await eventually(lambda: not server.services.hub.connections)
        if ending == "store fails":
            gc.collect()  # the error holds what it passed through, and so itself
        await eventually(lambda: not list_alive(events.EventStream, Connection, web.BaseRequest))
        assert not server.app.server._successors
    finally:
        gc.enable()
        writer.close()


def list_alive(*kinds: type) -> list[object]:
    return [found for found in gc.get_objects() if isinstance(found, kinds)]


async def test_bytes_that_its_client_still_sends_are_dropped(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    reader, writer = await server.open()
    lines = "".join(f"{name}: {value}\r\n" for name, value in alice.headers.items())
    writer.write(f"GET {PATH} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())
    await reader.readuntil(b"sync.complete")
    for _ in range(50):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
        await writer.drain()
    await alice.say(room_id)
    assert b'"type":"message"' in await reader.readuntil(b'"seq":1')
    assert not any(one.is_serving() for one in server.app.server.connections)  # aiohttp has let go of it


async def test_over_http_1_0_and_without_a_wish_to_keep_alive(server: Server) -> None:
    alice = server.user("alice")
    lines = "".join(f"{name}: {value}\r\n" for name, value in alice.headers.items())
    for version, wish in (("1.0", "keep-alive"), ("1.1", "keep-alive"), ("1.1", "close"), ("1.0", "close")):
        reader, writer = await server.open()
        writer.write(f"GET {PATH} HTTP/{version}\r\nHost: a\r\nConnection: {wish}\r\n{lines}\r\n".encode())
        head, _, rest = (await reader.readuntil(b"sync.complete")).partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/{version} 200 OK".encode())
        assert b"Connection: close" in head
        assert b"chunked" not in head
        assert rest.startswith(b"retry: 2000\n\ndata: ")
        writer.close()


# Slow readers


async def open_narrow(server: Server, user: User) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await server.open_narrow()
    lines = "".join(f"{name}: {value}\r\n" for name, value in user.headers.items())
    writer.write(f"GET {PATH} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())
    await eventually(lambda: server.connections_of(user.user_id))
    [connection] = server.connections_of(user.user_id)
    await eventually(lambda: connection.state is ConnectionState.LIVE)
    return reader, writer


SMALL: dict[str, object] = {"limits.send_buffer_bytes": 8192, "websocket.presence_grace_seconds": 0}
ENOUGH = 400


async def flood(user: User, room_id: str) -> None:
    sender = await user.connect(sync="none", ready=False)
    for _ in range(ENOUGH):
        await sender.send("send_message", room_id=room_id, content="x" * 2000)
    for _ in range(ENOUGH):
        await sender.expect("message.sent")
    await sender.close()


@pytest.mark.slow
async def test_one_that_does_not_read_costs_bounded_memory_and_loses_nothing(start_server: StartServer) -> None:
    server = await start_server(SMALL)
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    reader, writer = await open_narrow(server, bob)
    [connection] = server.connections_of("bob")
    await flood(alice, room_id)
    assert connection.state is ConnectionState.RECOVERING
    assert connection.unsent_bytes() <= 8192 + 2 * 2400
    assert isinstance(connection.transport, events.EventStream)
    await eventually(connection.transport.get_write_buffer_size)  # what it was sent last may have just gone out
    assert connection.transport._transport.get_write_buffer_size() == connection.transport.get_write_buffer_size()
    received = bytearray()
    async with asyncio.timeout(20):
        while received.count(b'"type":"message"') < ENOUGH or not received.endswith(b"\n\n"):
            received += await reader.read(65536)
    frames = [json.loads(line[6:]) for line in received.splitlines() if line.startswith(b"data: ")]
    assert seqs(frames, room_id) == list(range(1, ENOUGH + 1))
    await eventually(lambda: connection.state is ConnectionState.LIVE)
    writer.transport.abort()


async def test_one_that_takes_nothing_is_closed_with_4009(start_server: StartServer) -> None:
    server = await start_server({**SMALL, "limits.slow_consumer_seconds": 0.2})
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    reader, writer = await open_narrow(server, bob)
    [connection] = server.connections_of("bob")
    await flood(alice, room_id)
    await eventually(lambda: connection.close_code == 4009)
    async with asyncio.timeout(20):
        received = await reader.read(10_000_000)
        while chunk := await reader.read(65536):
            received += chunk
    frames = [json.loads(line[6:]) for line in received.splitlines() if line.startswith(b"data: ")]
    assert [frame["type"] for frame in frames[-2:]] == ["error", "close"]
    assert frames[-1]["code"] == 4009
    await eventually(lambda: not server.connections_of("bob"))
    writer.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has it")
async def test_the_kernel_ends_one_whose_network_is_gone(start_server: StartServer) -> None:
    server = await start_server({"websocket.timeout_seconds": 45})
    await server.user("alice").stream()
    [connection] = server.connections_of("alice")
    beneath = connection.transport._transport.get_extra_info("socket")
    assert beneath.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 45_000


# Behind a proxy


@pytest.mark.deploy
@pytest.mark.parametrize("settings", ["", "proxy_http_version 1.1; proxy_set_header Connection '';"])
async def test_nginx_passes_each_event_on_at_once(server: Server, tmp_path: Path, settings: str) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    async with open_nginx(tmp_path, server.port, settings) as url:
        async with server.session.get(url + PATH, headers=alice.headers) as response:
            stream = EventStream(response)
            await stream.expect("sync.complete")
            for seq in range(1, 4):
                await alice.say(room_id)
                await stream.expect("message", seq=seq)
        await eventually(lambda: not server.connections_of("alice"))


# What the others see


async def test_its_user_is_online_and_no_webhook_is_called(start_server: StartServer, receiver: Receiver) -> None:
    server = await start_server({"webhooks.allow_private_addresses": True})
    made = await server.make_tenant("hooked", webhook_url=receiver.url)
    alice, bob = (server.user(name, made["api_key"]) for name in ("alice", "bob"))
    room_id = await alice.make_room("bob", "carol")
    watching = await alice.connect()
    stream = await bob.stream()
    await watching.expect("presence.update", user_id="bob", status="online")
    assert (await alice.get(f"/rooms/{room_id}/presence")).data["online"] == ["alice", "bob"]
    await alice.say(room_id)
    [call] = await receiver.wait_for(1)
    assert json.loads(call.body)["data"]["user_id"] == "carol"
    await stream.close()
    await watching.expect("presence.update", user_id="bob", status="offline")


async def test_metrics_count_it(server: Server) -> None:
    alice = server.user("alice")
    await alice.connect()
    for _ in range(2):
        await alice.stream()
    text = (await server.request("GET", "/metrics")).body
    assert 'chatapi_connections_by_transport{transport="websocket"} 1.0' in text
    assert 'chatapi_connections_by_transport{transport="sse"} 2.0' in text
    assert "chatapi_connections 3.0" in text
    assert 'route="/events/stream"' not in text  # a connection is no request: it would be the slowest of all
