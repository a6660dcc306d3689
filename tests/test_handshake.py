"""How a WebSocket begins: the handshake, origins, and limits on connections."""

import asyncio
import json
import socket
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from conftest import StartServer
from driver import HandClock, Server, eventually
from raw_websocket import CLOSE, HANDSHAKE

from chatapi.errors import unauthenticated, unavailable
from chatapi.models import NotifyLevel, RoomId, RoomType, UserId
from chatapi.protocol import encoders
from chatapi.protocol.server_frames import ReadyFrame, RoomInReady
from chatapi.protocol.wire import decode_text
from chatapi.recovery import ConnectData
from chatapi.ws import held_head


async def test_ready_comes_first_and_tells_where_the_user_stands(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    await alice.make_room("carol")
    for n in range(3):
        await alice.say(room_id, f"{n}")
    await bob.post(f"/rooms/{room_id}/read", {"seq": 1})
    await bob.post("/acks", {"room_id": room_id, "seq": 2})
    socket = await bob.connect(ready=False)
    ready = await socket.next()
    assert ready["connection_id"] in server.services.hub.connections
    assert ready["server_time"].endswith("Z")
    assert {name: ready[name] for name in ("type", "user_id", "epoch", "heartbeat_seconds", "rooms")} == {
        "type": "ready",
        "user_id": "bob",
        "epoch": server.services.tenants.all()[0].epoch,
        "heartbeat_seconds": 30,
        "rooms": [
            {
                "room_id": room_id,
                "type": "group",
                "last_seq": 3,
                "last_ack": 2,
                "last_read": 1,
                "unread_mentions": 0,
                "notify": "all",
                "hidden": False,
            }
        ],
    }
    assert (await socket.next())["seq"] == 3
    assert await socket.next() == {"type": "sync.complete", "rooms": {room_id: 3}}


async def test_the_head_goes_out_with_ready_in_one_write(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_head, "HEAD_SECONDS", 60)
    alice = server.user("alice")
    reader, writer = await server.open()
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "a", **HANDSHAKE, **alice.headers}.items())
    writer.write(f"GET /ws HTTP/1.1\r\n{lines}\r\n".encode())
    first = await reader.read(65536)
    assert first.startswith(b"HTTP/1.1 101 ")
    assert first.index(b"\r\n\r\n") < first.index(b'"type":"ready"') < first.index(b"sync.complete")
    [connection] = server.connections_of("alice")
    assert isinstance(connection.transport, asyncio.Transport)  # nothing lies between any more
    beneath = connection.transport.get_extra_info("socket")
    assert beneath.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert beneath.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize("ending", ["served", "told to go", "gone", "store fails"])
async def test_the_head_waits_no_longer_than_a_moment_for_the_rooms(
    server: Server, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """And comes first, whatever comes next."""
    monkeypatch.setattr(held_head, "HEAD_SECONDS", 0.01 if ending == "served" else 60)
    connects, release = server.services.recovery._connects, asyncio.Event()

    async def load_slowly(keys: Sequence[Any]) -> Sequence[ConnectData]:
        await release.wait()
        if ending == "store fails":
            raise unavailable("The database refuses")
        return [(([], None), False)] * len(keys)

    monkeypatch.setattr(connects, "_load_many", load_slowly)
    opening = asyncio.ensure_future(server.user("alice").connect_raw())
    await eventually(lambda: server.connections_of("alice"))
    if ending == "served":
        raw = await opening
        release.set()
        await raw.expect("sync.complete")
        return
    if ending == "told to go":
        [tenant] = server.services.tenants.all()
        server.services.hub.close_where(tenant.tenant_key, lambda _: True, 4001, unauthenticated("gone"))
        raw = await opening
        frames, code = await raw.read_to_close()
        assert [frame["type"] for frame in frames] == ["error"]
        assert code == 4001
        release.set()
        raw.send(CLOSE, b"\x0f\xa1")
    elif ending == "gone":
        await server.leave()
        opening.cancel()
        release.set()
    else:
        release.set()
        raw = await opening
        with pytest.raises(EOFError):
            await raw.next()
    await eventually(lambda: not server.services.hub.connections)


async def test_ready_of_many_rooms_comes_in_parts(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "MAX_READY_BYTES", 500)
    alice = server.user("alice")
    rooms = [await alice.make_room() for _ in range(8)]
    await alice.say(rooms[0])
    socket = await alice.connect(ready=False)
    ready = await socket.next()
    assert (ready["type"], ready["more"]) == ("ready", True)
    parts = [ready]
    while parts[-1]["more"]:
        parts.append(await socket.next())
        assert set(parts[-1]) == {"type", "rooms", "more"}
        assert parts[-1]["type"] == "ready.rooms"
    assert len(parts) > 2
    assert [room["room_id"] for part in parts for room in part["rooms"]] == rooms
    assert max(len(json.dumps(part, separators=(",", ":"))) for part in parts) <= 500
    assert (await socket.next())["type"] == "message"  # then the backlog, and not before
    assert (await socket.next())["type"] == "sync.complete"
    monkeypatch.undo()
    assert "more" not in await (await alice.connect(ready=False)).next()


@pytest.mark.parametrize(("count", "id_length"), [(0, 0), (1_500, 29), (20_000, 29), (2_000, 5_000), (3, 300_000)])
def test_each_part_is_of_256_kib_at_most(count: int, id_length: int) -> None:
    rooms = [
        RoomInReady(
            room_id=RoomId(f"{number:0{id_length if number % 2 else 1}}"),
            type=RoomType.CHANNEL,
            last_seq=2**53 - 1,
            last_ack=0,
            last_read=0,
            unread_mentions=0,
            notify=NotifyLevel.ALL,
            hidden=False,
        )
        for number in range(count)
    ]
    fields: dict[str, Any] = {"connection_id": "conn_1", "epoch": "e", "server_time": "now", "heartbeat_seconds": 30}
    ready = ReadyFrame(user_id=UserId("u" * 128), rooms=rooms, **fields)
    frames = encoders.encode_ready(ready)
    parts = [json.loads(decode_text(frame)) for frame in frames]
    assert [room for part in parts for room in part["rooms"]] == [msgspec.to_builtins(room) for room in rooms]
    assert {name: parts[0][name] for name in fields} == fields
    assert [part.get("more", False) for part in parts] == [True] * (len(parts) - 1) + [False]
    assert [part["type"] for part in parts] == ["ready"] + ["ready.rooms"] * (len(parts) - 1)
    for frame, part in zip(frames, parts, strict=True):
        assert len(frame) <= 256 * 1024 or len(part["rooms"]) == 1
    assert len(parts) <= 2 + sum(map(len, frames)) // 100_000


async def test_it_is_served_under_v1_too(shared_server: Server) -> None:
    async with shared_server.session.ws_connect(
        f"{shared_server.url}/v1/ws", headers=shared_server.user("alice").headers
    ) as websocket:
        assert json.loads((await websocket.receive()).data)["type"] == "ready"


async def test_every_connection_has_an_id_of_its_own(shared_server: Server) -> None:
    ids = {(await (await shared_server.user("alice").connect(ready=False)).next())["connection_id"] for _ in range(3)}
    assert len(ids) == 3


async def test_a_plain_get_is_426(shared_server: Server) -> None:
    for headers in ({}, {"Upgrade": "h2c", "Connection": "Upgrade"}):
        reply = await shared_server.request("GET", "/ws", headers={**shared_server.user("alice").headers, **headers})
        assert (reply.status, reply.error["code"]) == (426, "VALIDATION_ERROR")
        assert reply.headers["Upgrade"] == "websocket"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-WebSocket-Version": "12"},
        {"Sec-WebSocket-Version": ""},
        {"Sec-WebSocket-Key": ""},
        {"Sec-WebSocket-Key": "short"},
        {"Sec-WebSocket-Key": "\u00e9" * 24},
        {"Connection": "close"},
    ],
)
async def test_a_handshake_that_is_none_gets_the_envelope(shared_server: Server, headers: dict[str, str]) -> None:
    lines = {**HANDSHAKE, **shared_server.user("alice").headers, **headers}
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    reader, writer = await shared_server.open()
    writer.write(f"GET /ws HTTP/1.1\r\nHost: a\r\n{text}\r\n".encode())
    answer = await reader.readuntil(b"}}")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "VALIDATION_ERROR"
    assert not shared_server.services.hub.connections


@pytest.mark.parametrize("name", ["?token=x", "bearer"])
async def test_a_bad_handshake_with_a_browsers_credential_gets_the_envelope(shared_server: Server, name: str) -> None:
    protocol = {"Sec-WebSocket-Protocol": "chatapi.v1, bearer.x"} if name == "bearer" else {}
    path = "/ws" if name == "bearer" else "/ws?token=x"
    reply = await shared_server.refused_handshake(path, headers={**protocol, "Sec-WebSocket-Version": "12"})
    assert (reply.status, reply.error["code"]) == (400, "VALIDATION_ERROR")


async def test_handshake_takes_a_token_and_tells_how_many_are_left(start_server: StartServer) -> None:
    server = await start_server({"limits.rate_limit": 1, "limits.rate_burst": 2}, clock=HandClock())
    alice = server.user("alice")
    reader, writer = await server.open()
    headers = "".join(f"{name}: {value}\r\n" for name, value in {**HANDSHAKE, **alice.headers}.items())
    writer.write(f"GET /ws HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n{headers}\r\n".encode())
    answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    assert "x-ratelimit-remaining: 1\r\n" in answer
    assert "x-request-id: mine\r\n" in answer
    assert "sec-websocket-extensions" not in answer  # no compression: one event is the same bytes for all
    await alice.get("/rooms")
    reply = await server.refused_handshake(headers=alice.headers)
    assert (reply.status, reply.error["code"]) == (429, "RATE_LIMIT_EXCEEDED")
    assert int(reply.headers["Retry-After"]) >= 1


# Origins


async def test_pages_of_other_origins_are_kept_out(start_server: StartServer) -> None:
    server = await start_server({"server.allowed_origins": ["https://app.example"]})
    alice = server.user("alice")
    own = f"http://{server.host}:{server.port}"
    for origin in ("https://app.example", "HTTPS://APP.EXAMPLE", own):
        socket = await server.handshake(headers={**alice.headers, "Origin": origin})
        await socket.expect("ready")
        await socket.close()
    for origin in ("https://evil.example", "https://app.example.evil.example", "http://app.example", "null", ""):
        reply = await server.refused_handshake(headers={**alice.headers, "Origin": origin})
        assert (reply.status, reply.error["code"]) == (403, "AUTHORIZATION_ERROR"), origin
    # It is looked at before the credential, so that a page cannot try them out.
    assert (await server.refused_handshake(headers={"Origin": "https://evil.example"})).status == 403


async def test_all_origins_may_be_allowed(start_server: StartServer) -> None:
    server = await start_server({"server.allowed_origins": ["*"]})
    socket = await server.handshake(headers={**server.user("alice").headers, "Origin": "https://any.example"})
    await socket.expect("ready")


# Limits on connections


async def check_limit(server: Server, headers: dict[str, str], status: int) -> None:
    if status == 101:
        await (await server.handshake(headers=headers)).expect("ready")
    else:
        reply = await server.refused_handshake(headers=headers)
        assert (reply.status, reply.error["code"]) == (429, "RATE_LIMIT_EXCEEDED")
        assert "Retry-After" in reply.headers


async def test_a_user_holds_ten_connections(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    sockets = [await alice.connect() for _ in range(10)]
    await check_limit(shared_server, alice.headers, 429)
    await check_limit(shared_server, shared_server.user("bob").headers, 101)
    await sockets[4].close()
    await alice.connect()
    await check_limit(shared_server, alice.headers, 429)


async def test_a_plain_get_tells_a_page_why_its_handshake_is_refused(start_server: StartServer) -> None:
    """A browser shows it nothing of a handshake's answer."""
    server = await start_server({"server.allowed_origins": ["https://app.example"], "limits.connections_per_user": 1})
    alice = server.user("alice")
    page = {"Origin": "https://app.example"}
    assert (await server.request("GET", "/ws", headers={**alice.headers, **page})).status == 426
    await alice.connect()
    reply = await server.request("GET", "/ws", headers={**alice.headers, **page})
    assert (reply.status, reply.error["message"]) == (429, "A user may hold 1 connections")
    assert reply.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert (await server.request("GET", "/ws", headers=page)).status == 426
    assert (await server.request("GET", "/ws", headers={**alice.headers, "X-API-Key": "sk_wrong"})).status == 426
    reply = await server.request("GET", "/ws", headers={"Origin": "https://evil.example"})
    assert (reply.status, reply.error["code"]) == (403, "AUTHORIZATION_ERROR")
    assert reply.headers["Access-Control-Allow-Origin"] == "*"  # so that the page can read this, and this only


async def test_a_tenant_has_limits_of_its_own(shared_server: Server) -> None:
    tenant = await shared_server.make_tenant("small", connections_per_user=2, connections_per_tenant=3)
    alice, bob = (shared_server.user(name, tenant["api_key"]) for name in ("alice", "bob"))
    for _ in range(2):
        await check_limit(shared_server, alice.headers, 101)
    await check_limit(shared_server, alice.headers, 429)
    await check_limit(shared_server, bob.headers, 101)
    await check_limit(shared_server, bob.headers, 429)
    await check_limit(shared_server, shared_server.user("alice").headers, 101)  # of another tenant
    await shared_server.admin("PATCH", f"/tenants/{tenant['tenant_id']}", {"config": {"connections_per_tenant": 4}})
    await check_limit(shared_server, bob.headers, 101)


async def test_descriptors_are_kept_for_everything_else(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.services.admission, "max_websockets", 0)
    reply = await server.refused_handshake(headers=server.user("alice").headers)
    assert (reply.status, reply.error["code"]) == (503, "INTERNAL_ERROR")
