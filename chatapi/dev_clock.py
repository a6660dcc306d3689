"""The clock of `serve --dev` and `--test`, which a developer advances: days pass at once."""

import asyncio
import contextlib
import heapq
import itertools
import math
from collections.abc import AsyncIterator, Callable
from typing import Unpack

from chatapi.clock import Arguments, Clock, Timer

# A timer is called at its time, a job that sleeps between its rounds takes fewer of them: of the time that has passed
# already, so much may lie between two steps. A day is 60 steps, a year 85.
STEP_SHARE, ROUND_SHARE = 0.01, 0.2
MIN_STEP_SECONDS = 0.001
KEPT_TIMERS = 1_000  # at least so many are kept before those that were cancelled are looked for
QUIET_TURNS = 4  # of the event loop, with nothing under way: then everything has happened that follows from a step
QUIET_SECONDS = 1.0  # of real time to wait for that: an endpoint that does not answer holds up nobody longer
LOOK_SECONDS = 0.0002  # between two looks at other threads and endpoints


class _DevTimer:
    __slots__ = ("call", "due_s", "number")

    def __init__(self, due_s: float, number: int, call: Callable[[], object]) -> None:
        self.due_s = due_s
        self.number = number  # of two that are due together, the older one comes first
        self.call: Callable[[], object] | None = call

    def __lt__(self, other: "_DevTimer") -> bool:
        return (self.due_s, self.number) < (other.due_s, other.number)

    def cancel(self) -> None:
        self.call = None


class _Timers:
    """The next one first."""

    def __init__(self) -> None:
        self._heap: list[_DevTimer] = []
        self._sweep_at = KEPT_TIMERS

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, timer: _DevTimer) -> None:
        if len(self._heap) >= self._sweep_at:
            self._heap = [kept for kept in self._heap if kept.call is not None]
            heapq.heapify(self._heap)
            self._sweep_at = KEPT_TIMERS + 2 * len(self._heap)
        heapq.heappush(self._heap, timer)

    def bring_forward(self, seconds: float) -> None:
        for timer in self._heap:
            timer.due_s -= seconds

    def find_due_s(self) -> float:
        """When the next one is due; infinity when there is none."""
        while self._heap and self._heap[0].call is None:
            heapq.heappop(self._heap)
        return self._heap[0].due_s if self._heap else math.inf

    def take_due(self, now_s: float) -> list[_DevTimer]:
        taken = []
        while self.find_due_s() <= now_s:
            taken.append(heapq.heappop(self._heap))
        return taken


class DevClock(Clock):
    """The machine's clock, set forward. The event loop waits for the first of its timers."""

    def __init__(self) -> None:
        self.advanced_s = 0.0
        self.is_busy: Callable[[], bool] = bool  # whether anything is under way that follows from the timers
        self._timers = _Timers()
        self._rounds = _Timers()  # of those who sleep
        self._numbers = itertools.count()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_s = math.inf
        self._turn = asyncio.Lock()

    def now_us(self) -> int:
        return super().now_us() + round(self.advanced_s * 1_000_000)

    def monotonic_s(self) -> float:
        return Clock.monotonic_s() + self.advanced_s

    def call_later(
        self, seconds: float, callback: Callable[[Unpack[Arguments]], object], *arguments: *Arguments
    ) -> Timer:
        return self._add(self._timers, seconds, lambda: callback(*arguments))

    async def sleep(self, seconds: float) -> None:
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self._add(self._rounds, seconds, lambda: _complete(over))
        try:
            await over
        finally:
            timer.cancel()

    @contextlib.asynccontextmanager
    async def timeout(self, seconds: float) -> AsyncIterator[asyncio.Timeout]:
        async with asyncio.timeout(None) as limit:
            timer = self.call_later(seconds, lambda: limit.reschedule(asyncio.get_running_loop().time()))
            try:
                yield limit
            finally:
                timer.cancel()

    async def advance(self, seconds: float) -> None:
        """Returns when all that was due within this time has happened, in order."""
        async with self._turn:
            start_s, end_s = self.advanced_s, self.advanced_s + seconds
            await self._become_quiet()  # work that is under way may begin timers
            while self.advanced_s < end_s:
                step_s = self._find_step(self.advanced_s - start_s)
                self.advanced_s = min(end_s, self.advanced_s + step_s)
                self._fire()
                await self._become_quiet()

    async def go_back(self) -> None:
        """Returns when the clock is the machine's again. Timers go on for the time that they had left."""
        async with self._turn:
            for timers in (self._timers, self._rounds):
                timers.bring_forward(self.advanced_s)
            self.advanced_s = 0.0
            self._set_alarm()

    def _add(self, timers: _Timers, seconds: float, call: Callable[[], object]) -> _DevTimer:
        timer = _DevTimer(self.monotonic_s() + seconds, next(self._numbers), call)
        timers.add(timer)
        if timer.due_s < self._alarm_s:
            self._set_alarm()
        return timer

    def _find_step(self, passed_s: float) -> float:
        """To the next timer or round, and somewhat further if much time has passed already."""
        now_s = self.monotonic_s()
        return min(
            max(self._timers.find_due_s() - now_s, passed_s * STEP_SHARE, MIN_STEP_SECONDS),
            max(self._rounds.find_due_s() - now_s, passed_s * ROUND_SHARE, MIN_STEP_SECONDS),
        )

    def _fire(self) -> None:
        """Calls all that is due by now. Timers that begin meanwhile wait for the next step."""
        now_s = self.monotonic_s()
        for timer in sorted(self._timers.take_due(now_s) + self._rounds.take_due(now_s)):
            asyncio.get_running_loop().call_soon(_call, timer)
        self._set_alarm()

    async def _become_quiet(self) -> None:
        end_s, quiet = self.machine_s() + QUIET_SECONDS, 0
        while quiet < QUIET_TURNS:
            if self.is_busy() and self.machine_s() < end_s:
                quiet = 0
                await asyncio.sleep(LOOK_SECONDS)
            else:
                quiet += 1
                await asyncio.sleep(0)

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._alarm_s = min(self._timers.find_due_s(), self._rounds.find_due_s())
        if self._alarm_s < math.inf:
            seconds = max(0.0, self._alarm_s - self.monotonic_s())
            self._alarm = asyncio.get_running_loop().call_later(seconds, self._fire)


def _call(timer: _DevTimer) -> None:
    """Unless one before it has cancelled it."""
    call, timer.call = timer.call, None
    if call is not None:
        call()


def _complete(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)
