"""Clients that stop reading: bounded memory, caught up from the log in order, given up after their grace."""

import asyncio
import base64
import json
import os
import socket
import struct
from contextlib import suppress
from typing import Any

import pytest
from conftest import StartServer
from driver import WAIT_SECONDS, Server, User, eventually

from chatapi import hub
from chatapi.connection import State
from chatapi.ws import handshake

SMALL: dict[str, object] = {"limits.send_buffer_bytes": 8192, "websocket.presence_grace_seconds": 0}
RECEIVE_BYTES = 4096  # of the client's socket
CONTENT = "x" * 2000
ENOUGH = 400  # messages of CONTENT: more than the kernel's buffers at both ends and the server's bound take

TEXT, CLOSE, PING = 1, 8, 9


class SlowReader:
    """A WebSocket that reads from its socket only when it is told to, with no buffers that would hide it."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._buffer = bytearray()
        self.close_code: int | None = None

    @classmethod
    async def connect(cls, user: User, query: str = "") -> "SlowReader":
        loop = asyncio.get_running_loop()
        connected = socket.socket()
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        connected.setblocking(False)
        await loop.sock_connect(connected, (user.server.host, user.server.port))
        key = base64.b64encode(os.urandom(16)).decode()
        headers = {
            "Host": user.server.host,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key,
            **user.headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        await loop.sock_sendall(connected, f"GET /ws{query} HTTP/1.1\r\n{head}\r\n".encode())
        reader = cls(connected)
        await reader._fill_until(lambda: b"\r\n\r\n" in reader._buffer)
        answer, _, rest = bytes(reader._buffer).partition(b"\r\n\r\n")
        assert b" 101 " in answer.splitlines()[0]
        reader._buffer = bytearray(rest)
        return reader

    async def next(self) -> dict[str, Any] | None:
        """The next text frame, or None when the server has closed the connection."""
        while True:
            await self._fill_until(lambda: len(self._buffer) >= 2)
            opcode, size = self._buffer[0] & 15, self._buffer[1]
            start = 2 + {126: 2, 127: 8}.get(size, 0)
            await self._fill_until(lambda start=start: len(self._buffer) >= start)
            if size >= 126:
                size = int.from_bytes(self._buffer[2:start], "big")
            end = start + size
            await self._fill_until(lambda end=end: len(self._buffer) >= end)
            payload = bytes(self._buffer[start:end])
            del self._buffer[:end]
            if opcode == TEXT:
                frame: dict[str, Any] = json.loads(payload)
                return frame
            if opcode == CLOSE:
                self.close_code = struct.unpack("!H", payload[:2])[0]
                return None

    async def expect(self, frame_type: str) -> dict[str, Any]:
        while (frame := await self.next()) is not None and frame["type"] != frame_type:
            pass
        assert frame is not None, self.close_code
        return frame

    async def take(self, size: int) -> None:
        """Reads at most so many bytes, and looks at none of them yet."""
        self._buffer += await asyncio.get_running_loop().sock_recv(self._socket, size)

    async def send(self, frame_type: str, **fields: object) -> None:
        payload = json.dumps({"type": frame_type, **fields}).encode()
        assert len(payload) < 126
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        await asyncio.get_running_loop().sock_sendall(
            self._socket, bytes((0x80 | TEXT, 0x80 | len(payload))) + mask + masked
        )

    async def say_goodbye(self) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, bytes((0x88, 0x82, 0, 0, 0, 0, 3, 0xE8)))

    async def _fill_until(self, is_there: Any) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(WAIT_SECONDS):
            while not is_there():
                data = await loop.sock_recv(self._socket, 65536)
                assert data, "the connection ended"
                self._buffer += data

    def close(self) -> None:
        self._socket.close()


async def flood(user: User, room_id: str, count: int = ENOUGH) -> None:
    """Messages that are confirmed; their sender reads."""
    sender = await user.connect(sync="none", ready=False)
    for _ in range(count):
        await sender.send("send_message", room_id=room_id, content=CONTENT)
    for _ in range(count):
        await sender.expect("message.sent")
    await sender.close()


async def start_with_a_stalled_bob(
    start_server: StartServer, **settings: object
) -> tuple[Server, User, str, SlowReader]:
    server = await start_server({**SMALL, **settings})
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    bob = await SlowReader.connect(server.user("bob"))
    await bob.expect("sync.complete")
    await flood(alice, room_id)
    return server, alice, room_id, bob


async def test_it_leaves_live_delivery_and_catches_up_in_order(start_server: StartServer) -> None:
    server, alice, room_id, bob = await start_with_a_stalled_bob(start_server)
    [connection] = server.connections_of("bob")
    assert connection.state is State.RECOVERING
    seqs = []
    while len(seqs) < ENOUGH:
        seqs.append((await bob.expect("message"))["seq"])
    assert seqs == list(range(1, ENOUGH + 1))
    await eventually(lambda: connection.state is State.LIVE)
    await alice.say(room_id, "live again")
    assert (await bob.expect("message"))["seq"] == ENOUGH + 1
    bob.close()


async def test_what_goes_on_while_it_catches_up_is_neither_lost_nor_doubled(start_server: StartServer) -> None:
    _, alice, room_id, bob = await start_with_a_stalled_bob(start_server)
    other_room = await alice.make_room("bob")
    seqs: dict[str, list[int]] = {room_id: [], other_room: []}
    async with asyncio.TaskGroup() as group:
        group.create_task(flood(alice, room_id, 100))
        group.create_task(flood(alice, other_room, 50))
        while sum(map(len, seqs.values())) < ENOUGH + 150:
            frame = await bob.expect("message")
            seqs[frame["room_id"]].append(frame["seq"])
    assert seqs == {room_id: list(range(1, ENOUGH + 101)), other_room: list(range(1, 51))}
    bob.close()


async def test_its_memory_is_bounded(start_server: StartServer) -> None:
    server, alice, room_id, bob = await start_with_a_stalled_bob(start_server)
    [connection] = server.connections_of("bob")
    for _ in range(3):
        await flood(alice, room_id, 100)
        assert connection.unsent_bytes() <= 8192
    bob.close()


async def test_it_delays_nobody(start_server: StartServer) -> None:
    server, alice, room_id, bob = await start_with_a_stalled_bob(start_server)
    socket = await server.user("bob").connect(sync="none", ready=False)
    await socket.send("sync", rooms={room_id: ENOUGH})
    await socket.expect("sync.complete")
    lagged = server.services.hub.lagged
    await alice.say(room_id)
    await socket.expect("message", seq=ENOUGH + 1)
    assert server.services.hub.lagged == lagged
    bob.close()


async def test_ephemeral_frames_are_dropped_first(start_server: StartServer) -> None:
    server, alice, room_id, bob = await start_with_a_stalled_bob(start_server)
    typist = await alice.connect(sync="none", ready=False)
    await typist.send("typing.start", room_id=room_id)
    await typist.send("typing.stop", room_id=room_id)
    await typist.expect_nothing("error")
    frames = []
    await bob.send("ping")
    while (frame := await bob.next()) is not None and frame.get("seq") != ENOUGH:
        frames.append(frame["type"])
    assert "typing" not in frames
    assert frames.count("message") == ENOUGH - 1
    await eventually(lambda: server.connections_of("bob")[0].state is State.LIVE)
    await typist.send("typing.start", room_id=room_id)
    assert (await bob.expect("typing"))["action"] == "start"
    bob.close()


async def test_it_is_given_up_after_its_grace(start_server: StartServer) -> None:
    server, _alice, room_id, bob = await start_with_a_stalled_bob(start_server, **{"limits.slow_consumer_seconds": 0.2})
    [connection] = server.connections_of("bob")
    await eventually(lambda: connection.state is State.CLOSED)
    frame: dict[str, Any] | None = {}
    seqs = []
    while frame is not None:
        last = frame
        frame = await bob.next()
        seqs += [frame["seq"]] if frame and frame["type"] == "message" else []
    assert (last["type"], last["code"]) == ("error", "RATE_LIMIT_EXCEEDED")
    assert bob.close_code == 4009
    assert seqs == list(range(1, len(seqs) + 1))
    bob.close()
    # Nothing is lost: it goes on where it stopped.
    await eventually(lambda: not server.connections_of("bob"))
    again = await server.user("bob").connect(sync="none", ready=False)
    await again.send("sync", rooms={room_id: seqs[-1]})
    for seq in range(len(seqs) + 1, ENOUGH + 1):
        await again.expect("message", seq=seq)


@pytest.mark.parametrize(
    ("grace_s", "pause_s", "size"), [(0.4, 0.04, 1500), pytest.param(0.8, 0.72, 16_384, marks=pytest.mark.slow)]
)
async def test_one_that_reads_slowly_is_kept_and_misses_nothing(
    start_server: StartServer, grace_s: float, pause_s: float, size: int
) -> None:
    """Steadily, or with pauses of nine tenths of its grace; more is said in the room meanwhile."""
    settings = {"limits.slow_consumer_seconds": grace_s, "limits.send_buffer_bytes": 65536}
    server = await start_server({**SMALL, **settings})  # what it has to read at a time takes longer than its grace
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    bob = await SlowReader.connect(server.user("bob"))
    await bob.expect("sync.complete")
    [connection] = server.connections_of("bob")

    async def read_slowly() -> None:
        for _ in range(round(3 * grace_s / pause_s)):
            await asyncio.sleep(pause_s)
            await bob.take(size)
            assert connection.close_code is None

    async with asyncio.TaskGroup() as group:
        group.create_task(read_slowly())
        group.create_task(flood(alice, room_id))
    assert connection.state is State.RECOVERING
    assert [(await bob.expect("message"))["seq"] for _ in range(ENOUGH)] == list(range(1, ENOUGH + 1))
    await eventually(lambda: connection.state is State.LIVE)
    bob.close()


async def test_one_whose_answers_wait_unread_is_given_up_too(start_server: StartServer) -> None:
    """It is not read from meanwhile, so that its silence was all that ended it, without a word."""
    server = await start_server({**SMALL, "limits.slow_consumer_seconds": 0.2, "limits.send_buffer_bytes": 65536})
    room_id = await server.user("alice").make_room("bob")
    bob = await SlowReader.connect(server.user("bob"))
    await bob.expect("sync.complete")
    [connection] = server.connections_of("bob")
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(2):
            while connection.close_code is None:
                await bob.send("subscribe", room_id=room_id, request_id="r" * 20)
                await asyncio.sleep(0)
    assert connection.close_code == 4009
    bob.close()


async def test_one_that_sends_and_does_not_read_is_not_read_from(start_server: StartServer) -> None:
    server = await start_server({**SMALL, "limits.slow_consumer_seconds": 3600})
    bob = await SlowReader.connect(server.user("bob"))
    await bob.expect("sync.complete")
    [connection] = server.connections_of("bob")
    with suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            while True:  # it blocks once the server does not read any more
                await bob.send("sync", request_id="r" * 60)
    assert connection.unsent_bytes() <= 2 * 8192
    bob.close()


@pytest.mark.parametrize("how", ["told to go", "says goodbye"])
async def test_one_that_reads_its_backlog_after_the_end_leaves_no_trace(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What was to cut it off later called a transport that asyncio had let go: a traceback in the log."""
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
    monkeypatch.setattr(hub, "CLOSE_LINGER_SECONDS", 0.3)
    monkeypatch.setattr(handshake, "CLOSE_SECONDS", 0.3)
    server, _, _, bob = await start_with_a_stalled_bob(start_server)
    [connection] = server.connections_of("bob")
    await eventually(connection.transport.get_write_buffer_size)
    if how == "told to go":
        server.services.hub.close(connection, 4001)
    await bob.say_goodbye()
    await eventually(lambda: not server.connections_of("bob"))
    assert connection.transport.get_write_buffer_size()
    with suppress(AssertionError):
        while await bob.next() is not None:
            pass
    await asyncio.sleep(0.4)
    assert not failures
    bob.close()
