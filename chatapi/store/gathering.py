"""`database.commit_interval_ms`: a commit waits for more writes, so that they share it, where the wear of the disk
matters more than their latency."""

import asyncio


class Gathering:
    """For the writer alone. It begins with the first write that is queued, and ends by itself."""

    def __init__(self, seconds: float, wake: asyncio.Event) -> None:
        """Sets `wake` when it ends."""
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

    @property
    def has_ended(self) -> bool:
        return self._timer is None
