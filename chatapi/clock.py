"""Time, injected: wall time for what is stored, monotonic time for what is measured."""

import time


class Clock:
    """The machine's clock. Tests pass one of their own that they advance by hand."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch."""
        return time.time_ns() // 1000

    monotonic_s = staticmethod(time.monotonic)  # itself: it is asked several times for each request


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
