"""The outlet of a long poll: a frame that is written to it only says that there is something to read from the log."""

import asyncio
from collections.abc import Callable

from chatapi.clock import Timer
from chatapi.errors import ChatError, Code
from chatapi.protocol.json import loads_stored
from chatapi.protocol.server_frames import LOGGED
from chatapi.protocol.wire import FIN_CLOSE, FIN_TEXT, split_frames

_TYPE_AT = len('{"type":"')
_KEPT = frozenset({*(name.encode() for name in LOGGED), b"notification"})
_ENDS_WAIT = _KEPT | {b"room.deleted"}


class Doorbell:
    """`wait_with` arms it. Between two polls it only hears of the connection's end, and calls `on_end`."""

    __slots__ = ("_kept", "_waiter", "error", "has_rooms", "is_taken", "linger", "on_end")

    def __init__(self, on_end: Callable[[], None]) -> None:
        self.on_end = on_end
        self.is_taken = True  # a request uses it now
        self.has_rooms = False  # the connection is in all rooms of its user
        self.linger: Timer | None = None  # ends the connection, if no request takes it before
        self.error: ChatError | None = None  # with which the connection was closed
        self._waiter: asyncio.Future[None] | None = None
        self._kept: list[bytes] = []

    def wait_with(self, waiter: asyncio.Future[None]) -> None:
        """From now on it completes this at the first durable event or notification, and at the connection's end."""
        self._kept.clear()
        self._waiter = waiter

    def disarm(self) -> list[bytes]:
        """The events and notifications since it was armed, as JSON."""
        self._waiter = None
        kept, self._kept = self._kept, []
        return kept

    def ring(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # As an outlet

    def write(self, data: bytes) -> None:
        for first_byte, payload in split_frames(data):
            if first_byte == FIN_CLOSE:
                self.ring()
                if not self.is_taken:
                    asyncio.get_running_loop().call_soon(self.on_end)
            elif first_byte == FIN_TEXT:
                frame_type = payload[_TYPE_AT : payload.index(b'"', _TYPE_AT)]
                if frame_type == b"error":
                    error = loads_stored(payload)
                    self.error = ChatError(Code(error["code"]), error["message"], details=error.get("details"))
                elif self._waiter is not None and frame_type in _ENDS_WAIT:
                    if frame_type in _KEPT:
                        self._kept.append(payload)
                    self.ring()

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        return
