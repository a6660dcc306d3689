"""`database.commit_interval_ms`: a commit waits for more writes, so that they share it, where the wear of the disk
matters more than their latency."""

import asyncio
from collections.abc import Callable


class Gathering:
    """For the writer alone. It begins with the first write that is queued, and ends by itself."""

    def __init__(self, seconds: float, wake: asyncio.Event) -> None:
        """The writer sets `wake` whenever a write is queued."""
        self._seconds = seconds
        self._wake = wake
        self._timer: asyncio.TimerHandle | None = None  # None when the commit need not wait

    def begin(self) -> None:
        """The first write of a commit is about to be queued."""
        self.end()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self.end)

    def end(self) -> None:
        """The queue is committed at once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._wake.set()

    async def wait(self, is_enough: Callable[[], bool]) -> None:
        """Until it has ended, or enough writes have come."""
        while self._timer is not None and not is_enough():
            self._wake.clear()
            await self._wake.wait()
