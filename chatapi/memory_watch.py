"""Whether there is memory for more. The server refuses, since the kernel would kill it.

Nobody can be asked before memory is taken: Python, SQLite and the kernel take it where they need it. So the
rest is read now and then, and in between those who take much say so.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from chatapi.errors import ChatError, Code
from chatapi.memory_left import KIB, MIB, Left

AMPLE_BYTES = 1024 * MIB  # with less, caches and buffers are smaller in proportion...
MIN_SHARE = 1 / 16  # ...down to this
RESERVE_SHARE = 1 / 5  # of the limit: with less than that left, no connection is let in
MIN_RESERVE_BYTES = 16 * MIB  # of these some 8 are pages of programs that run all the time, though they can be dropped
MAX_RESERVE_BYTES = 64 * MIB
NEAR_RESERVES = 4
MIN_LINE_BYTES = 3 * MIB
TIGHT_BYTES = 2 * MIB
REFUSED_BYTES = MIN_LINE_BYTES // 2  # for requests that have come, until they are refused
LARGE_BYTES = 16 * KIB  # less than that nobody asks for
INPUT_COPIES = 4  # of a client's bytes: as they came, unmasked, as text, and to be stored
USUAL_PAUSE_SECONDS = 0.5
SHORT_PAUSE_SECONDS = 0.02  # while it is low, or may soon be
RETRY_SECONDS = 5.0


class MemoryWatch:
    """`refused` counts those that were refused since the start."""

    def __init__(self, read: Callable[[], Sequence[Left]] = list) -> None:
        """`read` finds how much is left of each limit; nothing where none is known."""
        self._read = read
        limits = [left.limit_bytes for left in read()]
        self.limit_bytes = min(limits, default=None)
        self.share = min(1.0, max(MIN_SHARE, min(limits, default=AMPLE_BYTES) / AMPLE_BYTES))
        """Of the usual size of caches, and of buffers for peers."""
        self.is_low = False
        """No more connections, large bodies and exports."""
        self.lacking_bytes = 0
        """Half of the reserve is gone: so much has to be freed, whoever has it."""
        self.is_tight = False
        """It is nearly so: caches have to go."""
        self.pause_seconds = USUAL_PAUSE_SECONDS
        """Until the next look, for whoever looks regularly."""
        self.refused = 0
        self._spare_bytes: float = math.inf
        self._line_bytes: float = math.inf  # left: if there is less, memory is scarce
        self._held_bytes = 0
        self._paused: list[Callable[[], None]] = []
        self.look()

    def scale(self, usual_bytes: int, least_bytes: int = 0) -> int:
        """The size for this machine, where `usual_bytes` is that for others."""
        return max(least_bytes, int(usual_bytes * self.share))

    def look(self) -> None:
        self.is_low = is_near = False
        is_above = True
        spare_bytes = math.inf
        for left in self._read():
            reserve_bytes = _find_reserve(left.limit_bytes)
            self.is_low = self.is_low or left.left_bytes < reserve_bytes
            is_near = is_near or left.left_bytes < NEAR_RESERVES * reserve_bytes
            line_bytes: float = reserve_bytes // 2
            if left.left_bytes < line_bytes:
                is_above = False
                line_bytes = min(line_bytes, self._line_bytes)
            spare_bytes = min(spare_bytes, left.left_bytes - line_bytes)
        if is_above:
            self._line_bytes = math.inf
        self._spare_bytes = spare_bytes
        self.lacking_bytes = int(-spare_bytes) if spare_bytes < 0 else 0
        # Once the line has been lowered: half of what was left above it.
        self.is_tight = spare_bytes < min(TIGHT_BYTES, self._line_bytes / 6)
        self.pause_seconds = SHORT_PAUSE_SECONDS if is_near else USUAL_PAUSE_SECONDS

    def lower_line(self) -> None:
        """All that can be freed is free, and half of the reserve is still taken: in pieces of the heap, which the
        process uses again. So it goes on from here, and has to free when it has taken a quarter of what is left."""
        if self.lacking_bytes:
            left_bytes = min((left.left_bytes for left in self._read()), default=0)  # none, if no file can be opened
            self._line_bytes = max(MIN_LINE_BYTES, left_bytes * 3 // 4)
            self.look()

    def is_short_of(self, more_bytes: int, allowance_bytes: int = 0) -> bool:
        """Whether so much more than now may not be taken; if it may, it counts as taken until the next look.
        `allowance_bytes` may be taken where memory is scarce already; if it is negative, so much has to be left."""
        if self._take(more_bytes, allowance_bytes):
            return False
        self.look()
        return not self._take(more_bytes, allowance_bytes)

    def _take(self, more_bytes: int, allowance_bytes: int) -> bool:
        """Whether there was so much. Half of what is left is for others than those who hold some, even if it has become
        less meanwhile."""
        kept_bytes = min(self._held_bytes, max(0, self._spare_bytes / 2))
        self._spare_bytes -= more_bytes
        return self._spare_bytes >= kept_bytes - allowance_bytes

    def check(self) -> None:
        """Raises ChatError 503 while memory is low: this may take much."""
        if self.is_low:
            raise self.refuse()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """For as long as something is under way that takes so much. Raises ChatError 503 if more than half of what is
        left would be held then: a client that sends slowly holds it for long."""
        if self.is_short_of(size, -(self._held_bytes + size)):
            raise self.refuse()
        self._held_bytes += size
        try:
            yield
        finally:
            self._held_bytes -= size

    def refuse(self) -> ChatError:
        self.refused += 1
        return out_of_memory()

    def resume_later(self, resume: Callable[[], None]) -> None:
        """Of a peer from whom no more is read until half of the reserve is there again."""
        self._paused.append(resume)

    def resume_paused(self) -> None:
        paused, self._paused = self._paused, []
        for resume in paused:
            resume()


def out_of_memory() -> ChatError:
    message = "The server has too little memory left: try again later"
    return ChatError(Code.INTERNAL_ERROR, message, status=503, retry_after_s=RETRY_SECONDS)


def _find_reserve(limit_bytes: int) -> int:
    return min(MAX_RESERVE_BYTES, max(MIN_RESERVE_BYTES, int(limit_bytes * RESERVE_SHARE)))
