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
        self._futures: dict[K, asyncio.Future[V]] = {}  # of all keys that are asked for, oldest first
        self._turn = asyncio.Lock()

    async def get(self, key: K) -> V:
        """Raises what `load_many` raised for the batch. Callers of one key share one look-up."""
        future = self._futures.get(key)
        if future is None:
            future = self._futures[key] = asyncio.get_running_loop().create_future()
        # Whoever has the turn loads for all who wait, itself perhaps not yet included.
        while not future.done():
            async with self._turn:
                if not future.done():
                    await self._load_some()
        return future.result()

    async def _load_some(self) -> None:
        keys = [key for key, _ in zip(self._futures, range(self._max_batch), strict=False)]
        try:
            values = await self._load_many(keys)
        except Exception as error:
            for key in keys:
                future = self._futures.pop(key)
                future.set_exception(error)
                future.exception()  # seen: those who asked may have been cancelled
            raise
        for key, value in zip(keys, values, strict=True):
            self._futures.pop(key).set_result(value)
