"""More connections than descriptors: those who are served go on, and idle ones make room."""

import asyncio
import contextlib
import socket
import ssl
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driver import Server, eventually
from raw_websocket import HANDSHAKE, WAIT_SECONDS, encode_frame
from server_process import ServerProcess, read_until

from chatapi.admission import Admission, Tier
from chatapi.rest.listener import Listener

FEW = 128  # descriptors of the server's process
FLOOD = 300  # connections of somebody without a credential


class Accepted:
    def __init__(self, name: str, *, unused: bool = True, waited_for: bool = False) -> None:
        self.name = name
        self.tier: Tier | None = None
        self.unused = unused
        self.waited_for = waited_for
        self.gone = False

    def is_unused(self) -> bool:
        return self.unused

    def is_waited_for(self) -> bool:
        return self.waited_for

    def cut_off(self) -> None:
        self.gone = True


@pytest.mark.parametrize(("limit", "capacity"), [(20_000, 19_900), (256, 156), (64, 32), (10, 8)])
def test_some_descriptors_are_kept_for_everything_else(limit: int, capacity: int) -> None:
    admission = Admission(limit, 100)
    assert admission.capacity == capacity
    assert 0 < admission.max_websockets < capacity


def test_unused_connections_are_shed_before_those_waiting_for_a_body(caplog: pytest.LogCaptureFixture) -> None:
    admission = Admission(16, 100)
    assert admission.capacity == 8
    connections = {
        name: Accepted(name, unused=name.startswith(("new", "idle")), waited_for=name == "body")
        for name in ("busy", "idle 1", "body", "idle 2", "websocket", "new 1", "new 2", "new half")
    }
    for accepted in connections.values():
        assert admission.make_space()
        admission.enter(accepted)
    for name in ("idle 1", "busy", "body", "idle 2", "idle 1"):  # the last one has just been used again
        admission.note_request(connections[name])
    admission.note_request(connections["websocket"])
    admission.note_websocket(connections["websocket"])
    gone = []
    while admission.make_space():
        [left] = [accepted for accepted in connections.values() if accepted.gone and accepted.name not in gone]
        gone.append(left.name)
        admission.leave(left)  # as its protocol does later: it counts once
        admission.enter(Accepted("later", unused=False))
    assert gone == ["new 1", "new 2", "new half", "idle 2", "idle 1", "body"]
    assert len(admission) == admission.capacity
    assert admission.shed == 6
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2  # one line of each kind
    admission.leave(connections["busy"])
    assert admission.make_space()


# A server with few descriptors


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("few"), max_descriptors=FEW) as started:
        yield started


class Flood:
    """Connections of one address that say `first`, and nothing more."""

    def __init__(self, port: int, first: bytes) -> None:
        self._port = port
        self._first = first
        self._sockets: list[socket.socket] = []

    def open(self, count: int) -> None:
        for _ in range(count):
            opened = socket.socket()
            opened.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                opened.connect(("127.0.0.1", self._port))
            self._sockets.append(opened)
        for opened in self._sockets[-count:]:
            with contextlib.suppress(OSError):
                opened.setblocking(True)
                opened.settimeout(2)
                opened.sendall(self._first)

    def close(self) -> None:
        for opened in self._sockets:
            opened.close()


def ping(opened: socket.socket) -> None:
    opened.sendall(encode_frame(0x81, b'{"type":"ping"}'))
    read_until(opened, b'"pong"')


HEAD = b"POST /rooms HTTP/1.1\r\nHost: chat\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
TICKET = HEAD.replace(b"POST /rooms", b"GET /ws?token=tkt_wrong").replace(b"Content-Length: 100\r\n", b"")


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: ch", id="half a head"),
        pytest.param(HEAD + b"\r\n", id="a head without a body"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: chat\r\n\r\n", id="kept alive", marks=pytest.mark.slow),
        pytest.param(b"GET /openapi.json HTTP/1.1\r\nHost: chat\r\n\r\n", id="unread", marks=pytest.mark.slow),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", id="something else", marks=pytest.mark.slow),
        pytest.param(
            TICKET + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
            id="a wrong ticket",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_no_number_of_connections_silences_it(process: ServerProcess, first: bytes) -> None:
    shed_before = count_shed(process)
    key = process.create_tenant("acme")
    room_id = process.call("POST", "/rooms", {"type": "group", "members": ["bob"]}, key=key, user="alice")["room_id"]
    flood = Flood(process.port, first)
    with process.open_websocket(key) as alice, process.open_websocket(key, "bob") as bob:
        flood.open(FLOOD)
        for number in range(5):
            ping(alice)
            sent = {"content": f"message {number}"}
            process.call("POST", f"/rooms/{room_id}/messages", sent, key=key, user="alice")
            read_until(bob, sent["content"].encode())
            flood.open(20)
        with process.open_websocket(key, "carol") as carol:
            ping(carol)
        ping(alice)
    flood.close()
    assert count_shed(process) > shed_before
    log = process.log.read_text()
    assert "Traceback" not in log
    minutes = 1 + int(time.monotonic() - process.started_s) // 60
    assert len([line for line in log.splitlines() if "connections are" in line]) <= 2 * minutes  # of two kinds


def count_shed(process: ServerProcess) -> float:
    with urllib.request.urlopen(f"{process.url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith("chatapi_connections_shed_total ")).split()[1])


@pytest.mark.slow
def test_websockets_leave_room_for_rest(tmp_path: Path) -> None:
    """All connections may be in use. Then the server says so, and closes none of them."""
    with ServerProcess(tmp_path, {"limits.connections_per_user": "1000"}, max_descriptors=FEW) as process:
        key = process.create_tenant("acme")
        sockets = []
        with contextlib.suppress(ConnectionRefusedError):
            while True:
                sockets.append(process.open_websocket(key))
        assert 40 <= len(sockets) < FEW
        for _ in range(3):
            assert process.call("GET", "/rooms", key=key, user="alice") == {"rooms": [], "has_more": False}
        for opened in sockets:
            ping(opened)
            opened.close()
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                process.open_websocket(key).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
        assert "Traceback" not in process.log.read_text()


async def test_half_open_tls_handshakes_make_room_too(server: Server, certificate: tuple[str, str]) -> None:
    """Until its handshake is done no protocol hears of a connection."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    admission = server.services.admission
    listener = Listener(server.app.server, admission, server.services.tasks, context)
    port = int(listener.listen_on_host("127.0.0.1", 0)[0].rsplit(":", 1)[1])
    before = len(admission)
    admission.capacity = before + 4
    halves = [await asyncio.open_connection(server.host, port) for _ in range(4)]
    await eventually(lambda: len(admission) == before + 4)
    reader, writer = await asyncio.open_connection(
        server.host, port, ssl=ssl.create_default_context(cafile=certificate[0]), server_hostname="localhost"
    )
    writer.write(b"GET /livez HTTP/1.1\r\nHost: chat\r\n\r\n")
    assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    assert admission.shed >= 1
    assert await halves[0][0].read() == b""  # the oldest one
    for _, half in halves[1:]:
        half.write(b"GET / HTTP/1.1\r\n\r\n")  # not TLS at all
        await half.drain()
    for _, half in [*halves, (reader, writer)]:
        half.close()
    await eventually(lambda: len(admission) <= before)
    listener.close()


# Limits on WebSockets


async def test_limits_hold_when_all_come_at_once(server: Server) -> None:
    tenant = await server.make_tenant("small", connections_per_user=7, connections_per_tenant=20)
    users = [server.user(f"user-{number}", tenant["api_key"]) for number in range(5)]
    heads = []
    for number in range(200):
        headers = {**HANDSHAKE, **users[number % 5].headers}
        heads.append("".join(f"{name}: {value}\r\n" for name, value in headers.items()))
    opened = [await server.open() for _ in heads]
    for (_, writer), head in zip(opened, heads, strict=True):
        writer.write(f"GET /ws HTTP/1.1\r\nHost: chat\r\n{head}\r\n".encode())
    statuses = [int((await reader.readuntil(b"\r\n\r\n")).split()[1]) for reader, _ in opened]
    assert (statuses.count(101), statuses.count(429)) == (20, 180)
    for user in users:
        assert len(server.connections_of(user.user_id)) <= 7


ENDINGS: dict[str, Any] = {
    "before the answer": None,
    "says goodbye": b"\x88\x82\0\0\0\0\x03\xe8",
    "breaks the rules": b"\x83\x00",
    "resets": b"",
    "half a frame": b"\x81\xfe\x01",
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_connection_counts_until_it_ends_in_any_way(server: Server, ending: str) -> None:
    alice = server.user("alice")
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**HANDSHAKE, **alice.headers}.items())
    for _ in range(25):  # ten at a time are allowed
        reader, writer = await server.open()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.write(f"GET /ws HTTP/1.1\r\nHost: chat\r\n{lines}\r\n".encode())
        if ENDINGS[ending] is not None:
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            writer.write(ENDINGS[ending])
        if ending == "says goodbye":
            await reader.read()
        writer.transport.abort()
        await eventually(lambda: len(server.connections_of("alice")) < 10)
    hub = server.services.hub
    await eventually(lambda: not hub.connections)
    assert not hub.count_connections()
    await eventually(lambda: len(server.services.admission) <= 1)  # the driver's own
