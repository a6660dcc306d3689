"""Slow peers over every kind of socket: what counts is that they take something."""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from raw_websocket import WAIT_SECONDS

from chatapi.peer_transport import PeerTransport

GRACE_S = 1.0
MUCH = bytes(1 << 20)
WRITES = 8
NARROW_BYTES = 4096


class Written(asyncio.Protocol):
    """The server's side: writes much, and keeps what its transport tells."""

    peer: PeerTransport
    transport: asyncio.Transport

    def __init__(self) -> None:
        self.is_open = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.peer = PeerTransport(self.transport, 3600)
        for _ in range(WRITES):  # over TLS the first one goes to the transport beneath, whose buffer does not show
            self.transport.write(MUCH)
        self.is_open.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.peer.lose()

    def pause_writing(self) -> None:
        self.peer.pause()

    def resume_writing(self) -> None:
        self.peer.resume()


@contextlib.contextmanager
def open_peer(address: object, family: socket.AddressFamily, *, is_tls: bool) -> Iterator[socket.socket]:
    peer = socket.socket(family)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)
    peer.settimeout(WAIT_SECONDS)
    peer.connect(address)  # type: ignore[arg-type]  # as the family has it
    if is_tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        peer = context.wrap_socket(peer)
    with peer:
        yield peer


async def serve(
    kind: str,
    certificate: tuple[str, str],
    directory: Path,
    talk: Callable[[socket.socket], None],
    judged: threading.Event | None = None,
) -> tuple[bool, Written]:
    """Whether there was room in the end, while the peer, a thread, did what `talk` does. `judged` is set once that is
    known."""
    loop = asyncio.get_running_loop()
    protocol = Written()
    tls = None
    if kind == "tls":
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*certificate)
    if kind == "unix":
        address: object = str(directory / "socket")
        server = await loop.create_unix_server(lambda: protocol, str(address))
        family = socket.AF_UNIX
    else:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        listening.bind(("127.0.0.1", 0))
        server = await loop.create_server(lambda: protocol, sock=listening, ssl=tls)
        address, family = listening.getsockname(), socket.AF_INET

    def be_peer() -> None:
        with open_peer(address, family, is_tls=kind == "tls") as peer:
            talk(peer)

    talking = asyncio.create_task(asyncio.to_thread(be_peer))
    await protocol.is_open.wait()
    had_space = await protocol.peer.wait_for_space(GRACE_S)
    if judged is not None:
        judged.set()
    protocol.peer.cut_off()
    await talking
    server.close()
    return had_space, protocol


def read_for(seconds: float, size: int, pause_s: float) -> Callable[[socket.socket], None]:
    def talk(peer: socket.socket) -> None:
        ends_at_s = time.monotonic() + seconds
        with contextlib.suppress(OSError):
            while time.monotonic() < ends_at_s and peer.recv(size):
                time.sleep(pause_s)
            while peer.recv(1 << 20):
                pass

    return talk


KINDS = pytest.mark.parametrize("kind", ["tcp", "tls", "unix"])


@pytest.mark.slow
@KINDS
async def test_a_peer_that_takes_a_little_now_and_then_is_waited_for(
    kind: str, certificate: tuple[str, str], tmp_path: Path
) -> None:
    """What the kernel holds hides the most of it: the transport's own buffer hardly moves."""
    size = 32_768 if kind == "unix" else 2_000
    had_space, _ = await serve(kind, certificate, tmp_path, read_for(4 * GRACE_S, size, GRACE_S / 10))
    assert had_space


@pytest.mark.slow
@KINDS
async def test_a_peer_that_takes_nothing_is_not(kind: str, certificate: tuple[str, str], tmp_path: Path) -> None:
    judged = threading.Event()

    def wait(peer: socket.socket) -> None:
        peer.recv(1)
        with contextlib.suppress(OSError):
            peer.send(b"still here")
            peer.shutdown(socket.SHUT_WR) if kind != "tls" else None
            judged.wait(WAIT_SECONDS)

    had_space, protocol = await serve(kind, certificate, tmp_path, wait, judged)
    assert not had_space
    assert protocol.peer.count_untaken() == 0  # it has been cut off, and is asked no more
    protocol.peer.cut_off()
    protocol.peer.cut_off_later(0)


async def test_several_wait_at_once_and_one_that_is_cancelled_takes_no_other_along(
    certificate: tuple[str, str], tmp_path: Path
) -> None:
    """aiohttp's `drain` shares one future: a deadline on one wait ended the others, and every later one."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    protocol = Written()
    server = await asyncio.get_running_loop().create_server(lambda: protocol, sock=listening)
    with open_peer(listening.getsockname(), socket.AF_INET, is_tls=False) as peer:
        await asyncio.to_thread(peer.recv, 1)
        waits = [asyncio.create_task(protocol.peer.wait_for_space(WAIT_SECONDS)) for _ in range(3)]
        await asyncio.sleep(0)
        waits[0].cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        assert [wait.done() for wait in waits] == [True, False, False]
        reading = asyncio.create_task(asyncio.to_thread(read_for(0, 1, 0), peer))
        assert await waits[1]
        assert await waits[2]
        assert await protocol.peer.wait_for_space(WAIT_SECONDS)
        protocol.transport.abort()
        await reading
    server.close()


async def test_reset_by_the_peer_wakes_a_waiting_writer(certificate: tuple[str, str], tmp_path: Path) -> None:
    def reset(peer: socket.socket) -> None:
        peer.recv(1)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    had_space, protocol = await serve("tcp", certificate, tmp_path, reset)
    assert had_space
    assert protocol.peer.is_lost


async def test_tls_that_has_ended_is_asked_nothing_before_the_protocol_is_told(certificate: tuple[str, str]) -> None:
    """asyncio has no socket to give any more: whatever looked at this moment ended with an AttributeError."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    protocol = Written()
    server = await asyncio.get_running_loop().create_server(lambda: protocol, sock=listening, ssl=tls)
    with contextlib.ExitStack() as opened:
        peer = open_peer(listening.getsockname(), socket.AF_INET, is_tls=True)
        await asyncio.to_thread(opened.enter_context, peer)
        await protocol.is_open.wait()
        protocol.transport._ssl_protocol._transport.abort()  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        assert not protocol.peer.is_lost
        assert (protocol.peer.count_taken(), protocol.peer.count_untaken()) == (0, 0)
        protocol.peer.limit_silence(1)
        await asyncio.sleep(0)
        assert protocol.peer.is_lost
    server.close()
