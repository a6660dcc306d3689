"""WebSockets over the server's own TLS: asyncio's transport is another one there, which cannot half-close, and reads on
by itself. The table of violations goes over it in `test_conformance.py`."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from conftest import StartServer
from driver import Server, TlsDoor, User, eventually, seqs, serve_tls
from raw_websocket import CLOSE, HANDSHAKE, PING, PONG, TEXT, encode_frame

from chatapi.connection import LIGHT_BURST, ConnectionState
from chatapi.recovery import ConnectData

pytestmark = pytest.mark.slow

CONTINUATION, FIN = 0x0, 0x80
PING_FRAME = b'{"type":"ping"}'
TLS_BUFFER_BYTES = 512 * 1024  # of asyncio, for what has come and is not read
ENOUGH = 400


@pytest.fixture
async def door(server: Server, certificate: tuple[str, str]) -> AsyncIterator[TlsDoor]:
    with serve_tls(server, certificate) as door:
        yield door


async def test_frames_of_all_forms_come_byte_by_byte(server: Server, door: TlsDoor) -> None:
    """Each byte is a record of its own."""
    raw = await door.connect(server.user("alice"))
    await raw.expect("sync.complete")
    text = json.dumps({"type": "ping", "request_id": "one"}).encode()
    frames = [
        encode_frame(TEXT, text[:9]),
        encode_frame(FIN | PING, b"between"),
        encode_frame(FIN | CONTINUATION, text[9:]),
        encode_frame(TEXT),
        encode_frame(FIN | PONG),
        encode_frame(FIN | CONTINUATION, PING_FRAME),
    ]
    for byte in b"".join(frames):
        raw.writer.write(bytes((byte,)))
        await asyncio.sleep(0)
    raw.send_frame("ping", request_id="two", padding="x" * 70_000)  # the length takes 64 bits
    assert await raw.next() == (PONG, b"between")
    assert [(await raw.expect("pong")).get("request_id") for _ in range(3)] == ["one", None, "two"]


async def test_nothing_behind_a_close_without_a_code_is_carried_out(server: Server, door: TlsDoor) -> None:
    raw = await door.connect(server.user("alice"))
    await raw.expect("sync.complete")
    raw.send(CLOSE)
    raw.send_frame("ping", request_id="after")
    assert await raw.next() == (CLOSE, b"\x03\xe8")
    with pytest.raises(EOFError):
        await raw.next()
    await see_it_gone(server)


async def test_a_client_that_is_still_sending_hears_why(server: Server, door: TlsDoor) -> None:
    raw = await door.connect(server.user("alice"), "?sync=none")
    raw.send(TEXT, b" " * (1 << 20))
    assert await raw.close_code() == 1009
    await see_it_gone(server)


@pytest.mark.parametrize("goodbye", ["of TCP alone", "of TLS"])
async def test_a_client_that_half_closes_is_gone(server: Server, door: TlsDoor, goodbye: str) -> None:
    alice = server.user("alice")
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "chat", **HANDSHAKE, **alice.headers}.items())

    def leave() -> bytes:
        with (
            socket.create_connection((server.host, door.port), timeout=20) as bare,
            door.client_context.wrap_socket(bare, server_hostname="localhost") as wrapped,
        ):
            wrapped.sendall(f"GET /ws HTTP/1.1\r\n{lines}\r\n".encode())
            received = b""
            while b"sync.complete" not in received:
                received += wrapped.recv(65536)
            if goodbye == "of TLS":
                wrapped.unwrap().close()  # it waits for the server's
                return b""
            wrapped.shutdown(socket.SHUT_WR)
            return wrapped.recv(65536)

    assert await asyncio.to_thread(leave) == b""
    await see_it_gone(server)


async def test_one_that_reads_nothing_costs_bounded_memory_and_is_given_up(
    start_server: StartServer, certificate: tuple[str, str]
) -> None:
    server = await start_server({"limits.send_buffer_bytes": 8192, "limits.slow_consumer_seconds": 1.0})
    with serve_tls(server, certificate) as door:
        alice, bob = server.user("alice"), server.user("bob")
        room_id = await alice.make_room("bob")
        raw = await door.connect(bob, limit=1)
        [connection] = server.connections_of("bob")
        await eventually(lambda: connection.state is ConnectionState.LIVE)
        await flood(alice, room_id)
        assert connection.state is not ConnectionState.LIVE
        assert connection.unsent_bytes() < 8192 + 32_768  # and what TLS adds and holds
        await eventually(lambda: connection.close_code == 4009)
        frames, code = await raw.read_to_close()
        got = seqs(frames, room_id)
        assert got == list(range(1, len(got) + 1))
        assert code == 4009
        raw.send(CLOSE, b"\x0f\xa9")
        await see_it_gone(server, besides=0)


async def test_one_that_sends_while_it_is_not_served_costs_bounded_memory(
    server: Server, door: TlsDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    connects, release = server.services.recovery._connects, asyncio.Event()
    load_many = connects._load_many

    async def load_slowly(keys: Sequence[Any]) -> Sequence[ConnectData]:
        await release.wait()
        return await load_many(keys)

    monkeypatch.setattr(connects, "_load_many", load_slowly)
    raw = await door.connect(server.user("alice"))
    served: Any = next(iter(server.app.server._successors))
    for number in range(LIGHT_BURST):
        raw.send_frame("ping", request_id=str(number), padding="x" * 60_000)
    await eventually(lambda: served._is_paused)
    await asyncio.sleep(0.2)
    assert served._reader.waiting_bytes < server.app.server.max_waiting_bytes + TLS_BUFFER_BYTES
    release.set()
    await raw.expect("ready")
    for number in range(LIGHT_BURST):
        assert (await raw.expect("pong"))["request_id"] == str(number)


async def flood(user: User, room_id: str) -> None:
    sender = await user.connect(sync="none", ready=False)
    for _ in range(ENOUGH):
        await sender.send("send_message", room_id=room_id, content="x" * 2000)
    for _ in range(ENOUGH):
        await sender.expect("message.sent")
    await sender.close()


async def see_it_gone(server: Server, besides: int = 0) -> None:
    await eventually(lambda: len(server.services.hub.connections) == besides)
    await eventually(lambda: not server.app.server._successors)
