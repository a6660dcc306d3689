"""Writes that nobody waits for (purging, retention): short steps, in turns, in the time that the others leave."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from chatapi.store.transaction import SqliteConnection
from chatapi.store.writes import Change

CHUNK_ROWS = 50  # removed by one statement, a fraction of a millisecond: after each a step may end
BUSY_SECONDS = 2.0  # after another write the writer is taken to be busy for so long
# Of a step's statements, before its commit. Other writes may have to wait for it. After it they are left alone for so
# many times as long as it took: the background has a sixth of the writer's time while they write.
STEP_SECONDS, REST = 0.001, 5.0
IDLE_STEP_SECONDS, IDLE_REST = 0.01, 0.5
MAX_REST_SECONDS = 1.0
# While what others write takes less than this share of the time, steps that are done again after a crash take half of
# it: they wait for no disk.
LIGHT_LOAD, LIGHT_STEP_SECONDS, LIGHT_REST = 0.15, 0.004, 1.0
LOAD_SECONDS = 2.0  # over about which the share is taken
# After so many the log is checkpointed, so that no message's commit has to do all of it: after each one while others
# write, who wait for a checkpoint too.
CHECKPOINT_STEPS, IDLE_CHECKPOINT_STEPS = 1, 4

T = TypeVar("T")

Work = Callable[[SqliteConnection, Callable[[], bool]], T]
"""Runs statements in the writer's thread, and ends soon after its second argument says that the time is over."""


class Background:
    """The writer's second queue. Each job waits with one step at most, so the first in is a fair turn."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Change[Any], bool]] = deque()
        self._load_s = 0.0  # that the others' commits took, the older ones counted less
        self.rests = True  # between steps, for others; a test server has no others
        self.is_repeatable = False  # of the step that was taken: a crash may undo it
        self._due_s = 0.0  # of the loop's clock
        self._started_s = 0.0
        self._foreground_s = float("-inf")  # when something else was committed last
        self._steps = 0

    def __len__(self) -> int:
        """How many jobs wait for a step."""
        return len(self._waiting)

    def put(self, step: Change[Any], *, is_repeatable: bool = False) -> None:
        self._waiting.append((step, is_repeatable))

    def take(self) -> Change[Any] | None:
        """The next step, once it is due; `end` has to follow. None when there is none."""
        now_s = asyncio.get_running_loop().time()
        if not self._waiting or now_s < self._due_s:
            return None
        self._started_s = now_s
        step, self.is_repeatable = self._waiting.popleft()
        return step

    def end(self) -> None:
        """The step that was taken has ended."""
        now_s = asyncio.get_running_loop().time()
        rest = IDLE_REST
        if self._is_busy(now_s):
            rest = LIGHT_REST if self.is_repeatable and not self.is_loaded else REST
        if self.rests:
            self._due_s = now_s + min(rest * (now_s - self._started_s), MAX_REST_SECONDS)
        self._steps += 1

    def limit_time(self, work: Work[T], *, is_repeatable: bool = False) -> Callable[[SqliteConnection], T]:
        """One step of that work."""

        def run(connection: SqliteConnection) -> T:
            end_s = time.perf_counter() + seconds
            return work(connection, lambda: time.perf_counter() >= end_s)

        seconds = IDLE_STEP_SECONDS
        if self.is_busy:
            seconds = LIGHT_STEP_SECONDS if is_repeatable and not self.is_loaded else STEP_SECONDS
        return run

    @property
    def is_busy(self) -> bool:
        return self._is_busy(asyncio.get_running_loop().time())

    @property
    def is_loaded(self) -> bool:
        """Others write much."""
        age_s = asyncio.get_running_loop().time() - self._foreground_s
        return self._load_s * math.exp(-age_s / LOAD_SECONDS) > LIGHT_LOAD * LOAD_SECONDS

    def _is_busy(self, now_s: float) -> bool:
        return now_s - self._foreground_s < BUSY_SECONDS

    def note_foreground(self, seconds: float = 0.0) -> None:
        """Something else was committed, which took so long."""
        now_s = asyncio.get_running_loop().time()
        self._load_s = self._load_s * math.exp((self._foreground_s - now_s) / LOAD_SECONDS) + seconds
        self._foreground_s = now_s

    @property
    def wants_checkpoint(self) -> bool:
        """Once in `CHECKPOINT_STEPS` steps; to be asked between `take` and `end`. Repeatable steps wait for no
        disk, and make nobody wait for it who writes much."""
        if self.is_repeatable and self.is_loaded:
            return False
        is_busy = self.is_busy and not self.is_repeatable
        return self._steps % (CHECKPOINT_STEPS if is_busy else IDLE_CHECKPOINT_STEPS) == 0

    def call_when_due(self, callback: Callable[[], None]) -> asyncio.TimerHandle | None:
        """None when nothing waits."""
        return asyncio.get_running_loop().call_at(self._due_s, callback) if self._waiting else None

    def take_all(self) -> list[Change[Any]]:
        """The uses that still wait, at the end."""
        taken = [step for step, _ in self._waiting]
        self._waiting.clear()
        return taken
