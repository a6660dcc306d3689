"""The protocol of a WebSocket from the end of its handshake: takes frames, and has them carried out."""

import asyncio
from typing import ClassVar

from chatapi.connection import TransportKind
from chatapi.memory_watch import INPUT_COPIES, LARGE_BYTES
from chatapi.peer_transport import PeerTransport
from chatapi.successor import Home, Successor
from chatapi.tasks import Workers
from chatapi.ws.frame_reader import PONG, Frame, FrameReader, Violation
from chatapi.ws.session import Session


class ClientSocket(Successor):
    """Frames are carried out one after the other, by a worker that is taken only as long as there are some: so long it
    is busy."""

    __slots__ = ("_is_deaf", "_is_paused", "_reader", "_session", "_workers")

    kind: ClassVar[TransportKind] = TransportKind.WEBSOCKET

    def __init__(
        self, home: Home, transport: asyncio.Transport, peer: PeerTransport, session: Session, workers: Workers
    ) -> None:
        super().__init__(home, transport, peer)
        self._session = session
        self._workers = workers
        self._reader = FrameReader()
        self._is_paused = False
        self._is_deaf = False  # later bytes are dropped

    async def open(self, *, wants_sync: bool) -> None:
        """Sends `ready`, and begins to carry out frames."""
        is_open = False
        try:
            await self._session.open(wants_sync=wants_sync)
            is_open = True
        finally:
            self._is_busy = False
            if not is_open:
                self._end()
        self._go_on()

    # Told by the transport

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        memory = self._home.admission.memory
        if len(data) > LARGE_BYTES and memory.is_short_of(INPUT_COPIES * len(data)):
            self.cut_off()
            return
        self._reader.feed(data)
        if memory.lacking_bytes and self._pause():
            memory.resume_later(self._resume)
        if not self._is_busy:
            self._go_on()
        elif self._reader.waiting_bytes > self._home.max_waiting_bytes:
            self._pause()

    # Asked by the admission

    def count_held(self) -> int:
        return super().count_held() + self._reader.held_bytes

    # Frames

    def _go_on(self) -> None:
        """Begins to carry out what has come. A single answer to our ping, which is all that an idle client sends, needs
        no worker; of a flood of them, others have their turn between."""
        try:
            frame = self._reader.next()
            if frame is not None and frame[0] == PONG and not self._reader.waiting_bytes:
                self._session.note_heard()
                frame = None
        except Violation:
            self._begin(None)
        else:
            if frame is not None:
                self._begin(frame)
            elif self._transport is None:
                self._end()
            else:
                self._read_on()

    def _begin(self, first: Frame | None) -> None:
        self._is_busy = True
        self._workers.run(self._carry_out(first))

    async def _carry_out(self, first: Frame | None) -> None:
        """All that has come, until nothing more is there. Without a `first` frame, the reader is asked for it, and says
        again what is wrong with it."""
        goes_on = False
        try:
            goes_on = await self._take_all(first or self._reader.next())
        except Violation as violation:
            self._ignore_rest()
            await self._session.refuse(violation.code)
        finally:
            self._is_busy = False
            if not goes_on or self._transport is None:
                self._end()
            else:
                self._read_on()

    async def _take_all(self, frame: Frame | None) -> bool:
        """False if no more may come."""
        while frame is not None:
            if not await self._session.take(frame):
                return False
            frame = self._reader.next()
        return True

    def _ignore_rest(self) -> None:
        """It is read and dropped: unread bytes would reset the connection, and with it what is on its way."""
        self._is_deaf = True
        self._read_on()

    def _pause(self) -> bool:
        """Whether it was reading until now."""
        if self._is_paused or self._transport is None or self._transport.is_closing():
            return False
        self._is_paused = True
        self._transport.pause_reading()
        return True

    def _read_on(self) -> None:
        if self._is_paused:
            memory = self._home.admission.memory
            if memory.lacking_bytes:
                memory.resume_later(self._resume)
            else:
                self._resume()

    def _resume(self) -> None:
        if self._is_paused and self._transport is not None and not self._transport.is_closing():
            self._is_paused = False
            self._transport.resume_reading()

    def _leave(self) -> None:
        self._is_deaf = True
        self._session.end()
