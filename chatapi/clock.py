"""Time, injected: wall time for what is stored, monotonic time for what is measured, and timers.

Promises to clients (the end of a ban, a retry, "offline") wait with the clock's timers. Guards against slow peers,
disks and networks wait with the event loop's, and measure by `machine_s`: they take real time, also when a developer
advances the clock (`chatapi/dev_clock.py`).
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Protocol, TypeVarTuple, Unpack

Arguments = TypeVarTuple("Arguments")


class Timer(Protocol):
    """A call that the clock makes later, unless it is cancelled first."""

    def cancel(self) -> None: ...


class Clock:
    """The machine's clock. Tests pass one of their own that they advance by hand."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch."""
        return time.time_ns() // 1000

    monotonic_s = staticmethod(time.monotonic)  # itself: it is asked several times for each request

    machine_s = staticmethod(time.monotonic)
    """As `monotonic_s`, but never advanced: for how long a peer has been silent."""

    def call_later(
        self, seconds: float, callback: Callable[[Unpack[Arguments]], object], *arguments: *Arguments
    ) -> Timer:
        """Calls it once, in the event loop, after so many seconds."""
        return asyncio.get_running_loop().call_later(seconds, callback, *arguments)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float) -> contextlib.AbstractAsyncContextManager[asyncio.Timeout]:
        """As `asyncio.timeout`."""
        return asyncio.timeout(seconds)


class SteadyClock:
    """Time of day that nobody can set: the clock's at the start, and from there on as the monotonic clock runs. For
    what is due at some time and stored: no step of the clock, either way, makes that come sooner or later."""

    def __init__(self, clock: Clock, at_least_us: int = 0) -> None:
        """`at_least_us` is the latest time that was stored, in microseconds since the Unix epoch: a clock that was set
        back between two runs does not put off what waits."""
        self._clock = clock
        self._start_us = max(clock.now_us(), at_least_us)
        self._start_s = clock.monotonic_s()

    def now_us(self) -> int:
        return self._start_us + int((self._clock.monotonic_s() - self._start_s) * 1_000_000)


# Of the writer's task alone: others who ask meanwhile get the present. It is not set while a commit is published, since
# a task or timer that begins then would keep it.
_turn_us: ContextVar[int | None] = ContextVar("turn_us", default=None)


@contextlib.contextmanager
def judge_as_of(now_us: int) -> Iterator[None]:
    """In here, and in no other task, `rule_time_us` stands still."""
    token = _turn_us.set(now_us)
    try:
        yield
    finally:
        _turn_us.reset(token)


def rule_time_us(clock: Clock) -> int:
    """The time by which rules that end are judged. In the writer's turn it is that of the transaction, with which
    everything there is stored. So what is stored agrees with the rules to the microsecond."""
    turn_us = _turn_us.get()
    return clock.now_us() if turn_us is None else turn_us
