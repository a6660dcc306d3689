"""Events that wait for the application. They are bounded: a slow application stops the socket, and memory does not
grow."""

import asyncio
from collections import deque
from typing import NamedTuple

from chatapi.client.cursors import RoomCursor
from chatapi.client.events import Event

MAX_BYTES = 8 * 1024 * 1024  # of frames: a thousand of the longest messages would be 100 MB


class Entry(NamedTuple):
    event: Event
    room: RoomCursor | None  # of an event of its log
    size_bytes: int


class Ended(Exception):
    """There is nothing more, and will not be; `__cause__` is what ended it, if anything went wrong."""


class Inbox:
    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        self._entries: deque[Entry] = deque()
        self._size_bytes = 0
        self._change: asyncio.Event | None = None  # for those who wait, if anybody does
        self._is_ended = False
        self._error: BaseException | None = None

    @property
    def is_full(self) -> bool:
        return len(self._entries) >= self._max_items or self._size_bytes >= MAX_BYTES

    @property
    def free_items(self) -> int:
        """How many events to ask for at once: none before half of it is free, so that they are asked for in pages."""
        free = self._max_items - len(self._entries)
        return free if 2 * free >= self._max_items and 2 * self._size_bytes <= MAX_BYTES else 0

    def put(self, entry: Entry) -> None:
        """Takes the event in any case. A task that can wait looks at `is_full` first."""
        if not self._is_ended:
            self._entries.append(entry)
            self._size_bytes += entry.size_bytes
            self.wake()

    async def get(self) -> Entry:
        """Raises Ended when there is nothing more."""
        while not self._entries:
            if self._is_ended:
                error, self._error = self._error, None
                raise Ended from error
            await self.changed()
        entry = self._entries.popleft()
        self._size_bytes -= entry.size_bytes
        self.wake()
        return entry

    async def changed(self) -> None:
        """Returns once something was put in or taken out, or somebody called `wake`: for loops over a condition."""
        if self._change is None:
            self._change = asyncio.Event()
        await self._change.wait()

    def wake(self) -> None:
        if self._change is not None:
            self._change.set()
            self._change = None

    def end(self, error: BaseException | None = None, *, discard: bool = False) -> None:
        if self._is_ended:
            return
        self._is_ended = True
        self._error = error
        if discard:
            self._entries.clear()
            self._size_bytes = 0
        self.wake()
