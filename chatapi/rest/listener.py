"""Accepting connections, ourselves: asyncio accepts until the descriptors are used up, and logs each failure with a
traceback."""

import asyncio
import errno
import logging
import os
import socket
import ssl
from pathlib import Path
from typing import Any

from chatapi.admission import Admission
from chatapi.log_lines import Seldom
from chatapi.rest.server import EnvelopeProtocol, EnvelopeServer
from chatapi.tasks import Tasks

logger = logging.getLogger(__name__)

CONNECTION_BYTES = 16 * 1024  # about what one takes until it is idle
BACKLOG = 4096  # connections that the kernel holds while the loop is busy with a storm
SEND_BYTES = 64 * 1024  # else the kernel hides 3.9 MB per client before we notice that it does not read
MIN_SEND_BYTES = 16 * 1024  # on a small machine, where the kernel's buffers count too
ACCEPTS_AT_A_STRETCH = 32  # then others have their turn, and those that were shed give their descriptors back
FULL_PAUSE_SECONDS = 0.05  # until we look again whether somebody has left
TLS_HANDSHAKE_SECONDS = 15.0
# The folder says who may connect: a proxy is another user, and a umask that guards the database must not shut it out.
UNIX_SOCKET_MODE = 0o666

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Listener:
    """Made by `start_app`; `close` closes also what a failed attempt to listen has left."""

    def __init__(
        self, server: EnvelopeServer, admission: Admission, tasks: Tasks, tls: ssl.SSLContext | None = None
    ) -> None:
        self._server = server
        self._admission = admission
        self._tasks = tasks
        self._tls = tls
        self._seldom = Seldom(logger)
        self._send_bytes = admission.memory.scale(SEND_BYTES, MIN_SEND_BYTES)
        self._listening: list[socket.socket] = []
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}

    def listen_on_host(self, host: str, port: int) -> list[str]:
        """Returns where it listens now. Raises OSError that says where it cannot."""
        addresses = []
        _bind(host, port, self._send_bytes, self._listening)
        for listening in self._listening:
            self._resume(listening)
            own_host, own_port = listening.getsockname()[:2]
            shown = f"[{own_host}]" if ":" in own_host else own_host
            addresses.append(f"{'https' if self._tls else 'http'}://{shown}:{own_port}")
        return addresses

    def listen_at_path(self, path: str) -> list[str]:
        """A socket that a killed server has left behind is replaced, one that is in use is not. Raises OSError."""
        _check_unix_path(path)
        listening = socket.socket(socket.AF_UNIX)
        self._listening.append(listening)
        try:
            Path(path).unlink(missing_ok=True)
            listening.bind(path)
            os.chmod(path, UNIX_SOCKET_MODE)
            _listen(listening)
        except OSError as error:
            raise OSError(f"{path}: {error.strerror}") from error
        self._resume(listening)
        return [f"unix:{path}"]

    def close(self) -> None:
        """Accepts no more connections. The open ones stay."""
        loop = asyncio.get_running_loop()
        for listening in self._listening:
            if (pause := self._pauses.pop(listening, None)) is not None:
                pause.cancel()
            loop.remove_reader(listening)
            listening.close()
        self._listening.clear()

    def _resume(self, listening: socket.socket) -> None:
        self._pauses.pop(listening, None)
        asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _pause(self, listening: socket.socket, seconds: float) -> None:
        if listening in self._pauses:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        self._pauses[listening] = loop.call_later(seconds, self._resume, listening)

    def _accept(self, listening: socket.socket) -> None:
        stretch = min(ACCEPTS_AT_A_STRETCH, self._admission.capacity // 4)
        if self._admission.memory.is_short_of(stretch * CONNECTION_BYTES):
            stretch = 1  # which is told that there is no memory
            self._pause(listening, FULL_PAUSE_SECONDS)
        for _ in range(stretch):
            if not self._admission.make_space():
                self._pause(listening, FULL_PAUSE_SECONDS)
                return
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                # Something else than connections has used up what was kept for it.
                self._seldom.error("cannot accept connections: %s", error.strerror)
                self._admission.shed_one()
                self._pause(listening, FULL_PAUSE_SECONDS)
                return
            accepted.setblocking(False)
            protocol = self._server()
            self._admission.enter(protocol)
            self._make_transport(accepted, protocol)

    def _make_transport(self, accepted: socket.socket, protocol: EnvelopeProtocol) -> None:
        """Without TLS as asyncio's own servers do it: a task for each connection would take a twentieth of a handshake.
        uvloop has only the public way."""
        make: Any = getattr(asyncio.get_running_loop(), "_make_socket_transport", None)
        if self._tls is None and make is not None:
            make(accepted, protocol)
            return
        opening = self._tasks.spawn("accept", self._open(accepted, protocol))
        if self._tls is not None:
            protocol.opening = opening

    async def _open(self, accepted: socket.socket, protocol: EnvelopeProtocol) -> None:
        """Ends when the connection is made, its TLS handshake done; then the protocol takes care of itself."""
        timeout = None if self._tls is None else TLS_HANDSHAKE_SECONDS
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol, accepted, ssl=self._tls, ssl_handshake_timeout=timeout
            )
        except OSError:
            pass  # the client has gone, or does not speak TLS as we do
        finally:
            protocol.opening = None
            if protocol.peer is None:
                self._admission.leave(protocol)


def _bind(host: str, port: int, send_bytes: int, sockets: list[socket.socket]) -> None:
    """Adds a socket for each address of the host; only the first one when the port is for the system to pick.

    Raises OSError that says where. The sockets added before then have to be closed too.
    """
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise OSError(f"{host}: {error.strerror}") from error
    addresses = list(dict.fromkeys((family, address[:2]) for family, _, _, _, address in infos))
    for family, address in addresses[:1] if port == 0 else addresses:
        try:
            listening = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted sockets have these too.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_bytes)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(address)
            _listen(listening)
        except OSError as error:
            raise OSError(f"{host} port {port}: {error.strerror}") from error


def _listen(listening: socket.socket) -> None:
    listening.setblocking(False)
    listening.listen(BACKLOG)


def _check_unix_path(path: str) -> None:
    """Raises OSError unless the path is free, or a socket at which nobody listens any more."""
    if Path(path).exists() and not Path(path).is_socket():
        raise OSError(f"{path}: there is a file that is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return
        except BlockingIOError:
            pass  # it is there, with a full backlog
        except OSError as error:
            raise OSError(f"{path}: {error.strerror}") from error
    raise OSError(f"{path}: another server listens there")
