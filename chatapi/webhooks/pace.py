"""How many calls for the backends may be started now: as many as go while the server has time, and few while others
need it. Calls that wait are in the store and lose nothing by it, while senders wait for their confirmation."""

import time
from collections.abc import Callable

PERIOD_SECONDS = 0.05
BUSY_SHARE = 0.7  # of a core, which is about all that one process gets: from here on others wait for it
BUSY_WRITES = 8  # that wait for the writer: the machine is busy, if not with this process
LEAST = 30  # calls of a period, 600 a second: with 0.15 ms each less than a tenth of a core
MOST = 1_000
GROWTH = 1.25


class Pace:
    """Made and asked in the loop's thread. The number of calls is halved in each period in which the server was busy,
    and grows again in each other one: so many calls alone take no more than `BUSY_SHARE` either."""

    def __init__(
        self,
        count_writes: Callable[[], int],
        now_s: Callable[[], float] = time.monotonic,
        worked_s: Callable[[], float] = time.process_time,
    ) -> None:
        self._count_writes = count_writes
        self._now_s = now_s
        self._worked_s = worked_s
        self._began_s = now_s()
        self._began_worked_s = worked_s()
        self._allowed = MOST
        self._taken = 0

    @property
    def left(self) -> int:
        """Calls that may be started now."""
        now_s = self._now_s()
        if now_s - self._began_s >= PERIOD_SECONDS:
            self._begin(now_s)
        return max(0, self._allowed - self._taken)

    def take(self, calls: int) -> None:
        self._taken += calls

    @property
    def wait_s(self) -> float:
        """Until the next period."""
        return max(0.001, self._began_s + PERIOD_SECONDS - self._now_s())

    def _begin(self, now_s: float) -> None:
        worked_s = self._worked_s()
        is_busy = worked_s - self._began_worked_s >= BUSY_SHARE * (now_s - self._began_s)
        if is_busy or self._count_writes() >= BUSY_WRITES:
            self._allowed = max(LEAST, self._allowed // 2)
        else:
            self._allowed = min(MOST, int(self._allowed * GROWTH))
        self._began_s, self._began_worked_s, self._taken = now_s, worked_s, 0
