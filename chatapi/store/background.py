"""Writes that nobody waits for (purging, retention): short steps, in turns, in the time that the others leave."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

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
# Of steps for which somebody waits (an import): others wait for one of them now and then, but not for long.
AWAITED_STEP_SECONDS, AWAITED_REST = 0.0025, 0.25
LOAD_SECONDS = 2.0  # over about which the share is taken
# After so many the log is checkpointed, so that no message's commit has to do all of it: after each one while others
# write, who wait for a checkpoint too.
CHECKPOINT_STEPS, IDLE_CHECKPOINT_STEPS = 1, 4
CHECKPOINT_ROWS = CHUNK_ROWS  # steps that have changed fewer together do not count: each checkpoint writes whole pages
# Awaited steps write much: after so many of them that a checkpoint takes about so long, and before SQLite makes one
# itself in somebody's commit.
CHECKPOINT_SECONDS, MAX_CHECKPOINT_STEPS = 0.015, 8

T = TypeVar("T")

Work = Callable[[SqliteConnection, Callable[[], bool]], T]
"""Runs statements in the writer's thread, and ends soon after its second argument says that the time is over."""


class _Step(NamedTuple):
    change: Change[Any]
    is_repeatable: bool
    is_awaited: bool
    moves_pages: bool


class Background:
    """The writer's second queue. Each job waits with one step at most, so the first in is a fair turn."""

    def __init__(self) -> None:
        self._waiting: deque[_Step] = deque()
        self._load_s = 0.0  # that the others' commits took, the older ones counted less
        self.rests = True  # between steps, for others; a test server has no others
        self.is_repeatable = False  # of the step that was taken: a crash may undo it
        self._is_awaited = False  # of that step
        self._moves_pages = False  # of that step: it changes no rows, and much
        self._awaited_steps = 0  # since the last checkpoint
        self._checkpoint_steps = IDLE_CHECKPOINT_STEPS  # of awaited ones, between two checkpoints
        self._due_s = 0.0  # of the loop's clock
        self._started_s = 0.0
        self._foreground_s = float("-inf")  # when something else was committed last
        self._steps = 0  # that have changed something
        self._rows = 0  # changed since the last one that counted

    def __len__(self) -> int:
        """How many jobs wait for a step."""
        return len(self._waiting)

    def put(
        self,
        step: Change[Any],
        *,
        is_repeatable: bool = False,
        is_awaited: bool = False,
        moves_pages: bool = False,
    ) -> None:
        self._waiting.append(_Step(step, is_repeatable, is_awaited, moves_pages))

    def take(self) -> Change[Any] | None:
        """The next step, once it is due; `end` has to follow. None when there is none."""
        now_s = asyncio.get_running_loop().time()
        if not self._waiting or now_s < self._due_s:
            return None
        self._started_s = now_s
        step, self.is_repeatable, self._is_awaited, self._moves_pages = self._waiting.popleft()
        return step

    def end(self) -> None:
        """The step that was taken has ended."""
        now_s = asyncio.get_running_loop().time()
        _, rest = self._choose_pace(is_repeatable=self.is_repeatable, is_awaited=self._is_awaited)
        if self.rests:
            self._due_s = now_s + min(rest * (now_s - self._started_s), MAX_REST_SECONDS)

    def _choose_pace(self, *, is_repeatable: bool, is_awaited: bool) -> tuple[float, float]:
        """The seconds of a step, and for how many times as long a rest follows."""
        if not self.is_busy:
            return IDLE_STEP_SECONDS, 0.0 if is_awaited else IDLE_REST
        if is_awaited:
            return AWAITED_STEP_SECONDS, AWAITED_REST
        if is_repeatable and not self.is_loaded:
            return LIGHT_STEP_SECONDS, LIGHT_REST
        return STEP_SECONDS, REST

    def limit_time(
        self, work: Work[T], *, is_repeatable: bool = False, is_awaited: bool = False
    ) -> Callable[[SqliteConnection], T]:
        """One step of that work."""

        def run(connection: SqliteConnection) -> T:
            end_s = time.perf_counter() + seconds
            return work(connection, lambda: time.perf_counter() >= end_s)

        seconds, _ = self._choose_pace(is_repeatable=is_repeatable, is_awaited=is_awaited)
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

    def wants_checkpoint(self, rows: int) -> bool:
        """Once in `CHECKPOINT_STEPS` steps; to be asked once between `take` and `end`, with how many rows the step has
        changed. Repeatable steps wait for no disk, and make nobody wait for it who writes much, unless they are
        awaited."""
        if self._is_awaited:
            self._awaited_steps += 1
            return self._awaited_steps >= self._checkpoint_steps
        self._rows += CHECKPOINT_ROWS if self._moves_pages else rows
        if self._rows < CHECKPOINT_ROWS or (self.is_repeatable and self.is_loaded):
            return False
        self._rows = 0
        self._steps += 1
        is_busy = self.is_busy and not self.is_repeatable
        return self._steps % (CHECKPOINT_STEPS if is_busy else IDLE_CHECKPOINT_STEPS) == 0

    def note_checkpoint(self, seconds: float) -> None:
        """The one that was wanted has taken so long."""
        if self._is_awaited:
            fitting = int(self._checkpoint_steps * CHECKPOINT_SECONDS / max(seconds, 0.001))
            # Half or twice as many at most: one that met another program's load says little.
            at_least, at_most = self._checkpoint_steps // 2, self._checkpoint_steps * 2
            self._checkpoint_steps = max(1, min(max(fitting, at_least), at_most, MAX_CHECKPOINT_STEPS))
            self._awaited_steps = 0

    def call_when_due(self, callback: Callable[[], None]) -> asyncio.TimerHandle | None:
        """None when nothing waits."""
        return asyncio.get_running_loop().call_at(self._due_s, callback) if self._waiting else None

    def take_all(self) -> list[Change[Any]]:
        """The uses that still wait, at the end."""
        taken = [step.change for step in self._waiting]
        self._waiting.clear()
        return taken
