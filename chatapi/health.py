"""The process's own state: for how long it is up, whether it takes requests, and whether it can write."""

import asyncio

from chatapi.clock import Clock
from chatapi.errors import ChatError
from chatapi.store import Writer, meta

WRITE_TIMEOUT_SECONDS = 5.0
PROBE_SECONDS = 1.0  # a real write at most once in this time, however many ask


class HealthCheck:
    def __init__(self, writer: Writer, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock
        self._started_at_s = clock.monotonic_s()
        self._probed_at_s = float("-inf")
        self.is_draining = False  # the shutdown has begun

    @property
    def uptime_seconds(self) -> int:
        return int(self._clock.monotonic_s() - self._started_at_s)

    def find_obstacle(self) -> str | None:
        """Why it takes no requests; touches no database."""
        if self.is_draining:
            return "Shutting down"
        return None if self._writer.writable else "The database cannot accept writes"

    async def probe(self) -> bool:
        """Whether a real write goes through; a recent answer serves for a moment."""
        now_s = self._clock.monotonic_s()
        if now_s - self._probed_at_s >= PROBE_SECONDS:
            self._probed_at_s = now_s
            try:
                async with asyncio.timeout(WRITE_TIMEOUT_SECONDS):
                    await self._writer.change(meta.write_heartbeat)
            except TimeoutError:
                self._writer.give_up_waiting()
            except ChatError:
                return False
        return self._writer.writable
