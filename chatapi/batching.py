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
        return await self._settle(key, self._join(key))

    async def get_many(self, keys: Sequence[K]) -> list[V]:
        """As `get` of each of these distinct keys, a batch at a time: in between others have their turn."""
        values: list[V] = []
        for start in range(0, len(keys), self._max_batch):
            joined = [(key, self._join(key)) for key in keys[start : start + self._max_batch]]
            for key, future in joined:
                values.append(await self._settle(key, future))
        return values

    def _join(self, key: K) -> asyncio.Future[V]:
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
        return future

    async def _settle(self, key: K, future: asyncio.Future[V]) -> V:
        while True:
            while not future.done():
                # Whoever has the turn loads for all who wait, itself perhaps not yet included.
                async with self._turn:
                    if not future.done():
                        await self._load_some()
            if not future.cancelled():  # else the one who had the turn was: ask again
                return future.result()
            future = self._join(key)

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
