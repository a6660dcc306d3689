"""The clock of `serve --dev` and `--test`, which a developer advances: days pass at once."""

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Unpack

from chatapi.clock import Arguments, Clock, Timer

STEP_SHARE = 0.05  # of the time that has passed: timers within it are called in one step, so that a year is few steps
MIN_STEP_SECONDS = 0.001
KEPT_TIMERS = 1_000  # at least so many are in the heap before those that were cancelled are looked for
QUIET_TURNS = 4  # of the event loop, with nothing under way: then everything has happened that follows from a step
QUIET_SECONDS = 1.0  # of real time to wait for that: an endpoint that does not answer holds up nobody longer
LOOK_SECONDS = 0.0002  # between two looks at other threads and endpoints


class _DevTimer:
    __slots__ = ("call", "due_s")

    def __init__(self, due_s: float, call: Callable[[], object]) -> None:
        self.due_s = due_s
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self.call = None


class DevClock(Clock):
    """The machine's clock, set forward. Its timers are in one heap, of which the event loop waits for the first."""

    def __init__(self) -> None:
        self.advanced_s = 0.0
        self.is_busy: Callable[[], bool] = bool  # whether anything is under way that follows from the timers
        self._timers: list[tuple[float, int, _DevTimer]] = []
        self._numbers = itertools.count()  # of two timers that are due together, the older one comes first
        self._sweep_at = KEPT_TIMERS
        self._alarm: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()

    def now_us(self) -> int:
        return super().now_us() + round(self.advanced_s * 1_000_000)

    def monotonic_s(self) -> float:
        return Clock.monotonic_s() + self.advanced_s

    def machine_s(self) -> float:
        return Clock.monotonic_s()

    def call_later(
        self, seconds: float, callback: Callable[[Unpack[Arguments]], object], *arguments: *Arguments
    ) -> Timer:
        timer = _DevTimer(self.monotonic_s() + seconds, lambda: callback(*arguments))
        if len(self._timers) >= self._sweep_at:
            self._timers = [entry for entry in self._timers if entry[2].call is not None]
            heapq.heapify(self._timers)
            self._sweep_at = KEPT_TIMERS + 2 * len(self._timers)
        is_first = not self._timers or timer.due_s < self._timers[0][0]
        heapq.heappush(self._timers, (timer.due_s, next(self._numbers), timer))
        if is_first:
            self._set_alarm()
        return timer

    async def sleep(self, seconds: float) -> None:
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, _complete, over)
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
            left_s = seconds
            while left_s > 0:
                step_s = self._find_step(seconds - left_s, left_s)
                left_s -= step_s
                self.advanced_s += step_s
                self._fire()
                await self._become_quiet()

    async def go_back(self) -> None:
        """Returns when the clock is the machine's again. Timers that wait are due as much later as it was ahead."""
        async with self._turn:
            self.advanced_s = 0.0
            self._set_alarm()

    def _find_step(self, passed_s: float, left_s: float) -> float:
        """To the next timer, and somewhat further if much time has passed already."""
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return left_s
        until_next_s = self._timers[0][0] - self.monotonic_s()
        return min(left_s, max(until_next_s, passed_s * STEP_SHARE, MIN_STEP_SECONDS))

    def _fire(self) -> None:
        """Calls all that is due by now. Timers that begin meanwhile wait for the next step."""
        now_s = self.monotonic_s()
        while self._timers and self._timers[0][0] <= now_s:
            timer = heapq.heappop(self._timers)[2]
            call, timer.call = timer.call, None
            if call is not None:
                asyncio.get_running_loop().call_soon(call)
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
        if self._timers:
            seconds = max(0.0, self._timers[0][0] - self.monotonic_s())
            self._alarm = asyncio.get_running_loop().call_later(seconds, self._fire)


def _complete(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)
