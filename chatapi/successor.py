"""Goes on with a connection once HTTP has done its part. Then aiohttp lets go of it: its request, parser, writer and
tasks would take 7 to 10 KB of each idle one."""

import asyncio
from abc import abstractmethod
from typing import ClassVar, Protocol

from chatapi.admission import Admission, Tier
from chatapi.connection import TransportKind
from chatapi.peer_transport import PeerTransport


class Home(Protocol):
    """The server that a successor belongs to until it is lost."""

    admission: Admission
    max_waiting_bytes: int

    def forget(self, successor: "Successor", /) -> None: ...


class Successor(asyncio.Protocol):
    """The protocol of a transport that was aiohttp's. `tier` is where the admission keeps it."""

    __slots__ = ("_home", "_is_busy", "_is_ended", "_transport", "peer", "tier")

    kind: ClassVar[TransportKind]

    def __init__(self, home: Home, transport: asyncio.Transport, peer: PeerTransport) -> None:
        self._home = home
        self._transport: asyncio.Transport | None = transport
        self._is_busy = True  # with its opening, and perhaps with frames: it must not end before they do
        self._is_ended = False
        self.peer = peer
        self.tier: Tier | None = None

    # Told by the transport

    def pause_writing(self) -> None:
        self.peer.pause()

    def resume_writing(self) -> None:
        self.peer.resume()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._transport = None
        self.peer.lose()
        self._home.forget(self)
        if not self._is_busy:
            self._end()

    # Asked by the admission, and at the end

    def is_unused(self) -> bool:
        return False

    def is_waited_for(self) -> bool:
        return False

    def count_held(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def cut_off(self) -> None:
        self.peer.cut_off()

    # The end

    def _end(self) -> None:
        if not self._is_ended:
            self._is_ended = True
            self._leave()

    @abstractmethod
    def _leave(self) -> None:
        """Called once: it is lost, its opening has failed, or its client said goodbye. Never while it is busy."""
