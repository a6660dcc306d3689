"""Time, injected: wall time for what is stored, monotonic time for what is measured."""

import time


class Clock:
    """The machine's clock. Tests pass one of their own that they advance by hand."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch."""
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()
