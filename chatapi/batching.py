"""Look-ups that wait at the same time, joined into one query: what keeps a reconnect storm from being 5,000 queries."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Batcher(Generic[K, V]):
    """`load_many` answers a batch of distinct keys in their order. One batch is under way at a time."""

    def __init__(self, load_many: Callable[[Sequence[K]], Awaitable[Sequence[V]]], max_batch: int) -> None:
        self._load_many = load_many
        self._max_batch = max_batch
        self._waiting: dict[K, asyncio.Future[V]] = {}  # of the keys that no look-up has been begun for, oldest first
        self._turn = asyncio.Lock()

    async def get(self, key: K) -> V:
        """Raises what `load_many` raised for the batch.

        Callers of one key share a look-up that is still to begin, never one that has begun: it may not see what was
        committed before they asked.
        """
        while True:
            future = self._waiting.get(key)
            if future is None:
                future = self._waiting[key] = asyncio.get_running_loop().create_future()
            # Whoever has the turn loads for all who wait, itself perhaps not yet included.
            async with self._turn:
                while not future.done():
                    await self._load_some()
            if not future.cancelled():  # else the one who had the turn was: ask again
                return future.result()

    async def _load_some(self) -> None:
        keys = [key for key, _ in zip(self._waiting, range(self._max_batch), strict=False)]
        futures = [self._waiting.pop(key) for key in keys]
        try:
            values = await self._load_many(keys)
        except Exception as error:
            for future in futures:
                future.set_exception(error)
                future.exception()  # seen: those who asked may have been cancelled
            raise
        except asyncio.CancelledError:
            for future in futures:
                future.cancel()
            raise
        for future, value in zip(futures, values, strict=True):
            future.set_result(value)
