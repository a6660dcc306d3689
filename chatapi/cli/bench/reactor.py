"""The generator's own event loop: epoll and plain sockets.

asyncio's reading costs three times a recv() for every frame. The generator shares the machine with the server that it
measures, so what it does not take is what is measured.
"""

import errno
import heapq
import itertools
import os
import resource
import select
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from chatapi.cli.bench.errors import BenchError

READ_BYTES = 65536  # per recv(): a stretch of about 200 frames
EVENTS_AT_ONCE = 1024
SOURCE_ADDRESSES = 100  # 127.0.1.0 and following: each has its own 28,000 ephemeral ports
CONNECTIONS_PER_SOURCE = 20_000

Address = tuple[int, tuple[str, int]]
"""The family, and what `connect` takes."""


class Reactor:
    """`polls`: while nothing arrives it asks the kernel again and again instead of sleeping, which takes a whole core.
    A client that sleeps beside the server is woken within the server's own send(), which then takes half as long
    again; for a client on another machine that is not the server's work."""

    def __init__(self, *, polls: bool = False) -> None:
        self._polls = polls
        self._epoll = select.epoll()
        self._peers: dict[int, Peer] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._ticket = itertools.count()
        self.opened = 0

    def add(self, peer: "Peer") -> None:
        self.opened += 1
        self._peers[peer.socket.fileno()] = peer
        self._epoll.register(peer.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def watch(self, peer: "Peer", events: int) -> None:
        """`events` are those of epoll. With 0 only errors are reported."""
        self._epoll.modify(peer.socket.fileno(), events)

    def remove(self, peer: "Peer") -> None:
        """Call it while the peer's socket is still open."""
        descriptor = peer.socket.fileno()
        del self._peers[descriptor]
        self._epoll.unregister(descriptor)

    def call_at(self, when_s: float, callback: Callable[[], None]) -> None:
        """`when_s` is monotonic."""
        heapq.heappush(self._timers, (when_s, next(self._ticket), callback))

    def run(self, is_done: Callable[[], bool], until_s: float) -> bool:
        """Returns once `is_done()`, or with False when the time came first."""
        poll, find_peer, timers = self._epoll.poll, self._peers.get, self._timers
        while not is_done():
            now_s = time.monotonic()
            if now_s >= until_s:
                return False
            while timers and timers[0][0] <= now_s:
                heapq.heappop(timers)[2]()
            next_s = min(until_s, timers[0][0]) if timers else until_s
            sleep_s = 0.0 if self._polls else max(0.0, next_s - time.monotonic())
            for descriptor, events in poll(sleep_s, EVENTS_AT_ONCE):
                peer = find_peer(descriptor)
                if peer is not None:
                    peer.on_event(events)
        return True

    def run_until(self, until_s: float) -> None:
        """Returns at that time, which is monotonic."""
        self.run(lambda: False, until_s)

    def close(self) -> None:
        """Closes its peers too."""
        for peer in list(self._peers.values()):
            peer.close()
        self._epoll.close()


class Peer(ABC):
    """One TCP connection to the server. Bytes that are sent before it is established leave then."""

    __slots__ = ("_unsent", "reactor", "socket")

    def __init__(self, reactor: Reactor, address: Address, receive_buffer_bytes: int = 0) -> None:
        self.reactor = reactor
        self._unsent = b""
        family, socket_address = address
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        if socket_address[0] == "127.0.0.1" and reactor.opened >= CONNECTIONS_PER_SOURCE:
            source = reactor.opened // CONNECTIONS_PER_SOURCE % SOURCE_ADDRESSES
            self.socket.bind((f"127.0.1.{source}", 0))
        status = self.socket.connect_ex(socket_address)
        if status not in (0, errno.EINPROGRESS):
            raise BenchError(f"cannot connect: {os.strerror(status)}")
        reactor.add(self)

    def send(self, data: bytes) -> None:
        """The kernel takes as much as fits, and the rest later. A failure shows when the peer is read from."""
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self.socket.send(data)
        except OSError:  # not now; if never, reading tells why
            sent = 0
        if sent < len(data):
            self._unsent = data[sent:]
            self.reactor.watch(self, select.EPOLLIN | select.EPOLLOUT)

    def on_event(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._flush()
        if events & ~select.EPOLLOUT:
            try:
                data = self.socket.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self.on_end(os.strerror(error.errno or 0))
                return
            if data:
                self.on_data(data)
            else:
                self.on_end("the server closed it")

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, b""
        self.reactor.watch(self, select.EPOLLIN)
        if unsent:
            self.send(unsent)

    @abstractmethod
    def on_data(self, data: bytes) -> None:
        """Gets what one recv() returned: at most `READ_BYTES`, never nothing."""

    def on_end(self, reason: str) -> None:
        """The connection ended, and not by `close`."""
        raise BenchError(f"a connection ended: {reason}")

    def stop_reading(self) -> None:
        """From now on the server's bytes fill the kernel's buffers, and then the server's own. Nothing unsent is sent
        either."""
        self.reactor.watch(self, 0)

    def start_reading(self) -> None:
        self.reactor.watch(self, select.EPOLLIN | select.EPOLLOUT)

    def close(self) -> None:
        """`on_end` is not called."""
        self.reactor.remove(self)
        self.socket.close()


def find_address(host: str, port: int) -> Address:
    """Raises BenchError."""
    try:
        family, _, _, _, socket_address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise BenchError(f"{host}: {error.strerror}") from None
    return family, (str(socket_address[0]), int(socket_address[1]))


def raise_descriptor_limit() -> None:
    """To the hard limit: each connection takes a descriptor."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
