"""Joins look-ups that wait at the same time into one query, so that a reconnect storm does not make 5,000 queries."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
L = TypeVar("L", bound=Hashable)
T = TypeVar("T")


class FairQueue(Generic[L, T]):
    """A queue of waiting items for each key. The keys take turns, so that one with many items delays no other."""

    def __init__(self) -> None:
        self._queues: OrderedDict[L, deque[T]] = OrderedDict()  # none is empty; the next one first
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def count(self, key: L) -> int:
        """How many items of this key wait."""
        queue = self._queues.get(key)
        return 0 if queue is None else len(queue)

    def put(self, key: L, item: T) -> None:
        self._queues.setdefault(key, deque()).append(item)
        self._size += 1

    def next(self) -> T:
        """The oldest of the key whose turn it is. Raises StopIteration when nothing waits."""
        return next(iter(self._queues.values()))[0]

    def take(self) -> T:
        """As `next`, which is then the following one."""
        key, queue = next(iter(self._queues.items()))
        item = queue.popleft()
        self._size -= 1
        if queue:
            self._queues.move_to_end(key)
        else:
            del self._queues[key]
        return item


_LOAD: Any = object()  # the result of a waiting future whose task has its turn to load


class Batcher(Generic[K, V]):
    """`load_many` answers a batch of distinct keys in their order. One batch is under way at a time. The
    tenants, which `tenant_of` names, take turns in it with their waiting keys."""

    def __init__(
        self,
        load_many: Callable[[Sequence[K]], Awaitable[Sequence[V]]],
        max_batch: int,
        tenant_of: Callable[[K], Hashable],
    ) -> None:
        self._load_many = load_many
        self._max_batch = max_batch
        self._tenant_of = tenant_of
        self._waiting: dict[K, list[asyncio.Future[V]]] = {}  # by key, of those that no look-up has been begun for
        self._keys: FairQueue[Hashable, K] = FairQueue()  # the same keys
        self._is_loading = False
        self._sleeping: dict[asyncio.Future[V], None] = {}  # of those who wait for another's load, the longest first

    async def get(self, key: K) -> V:
        """Raises what `load_many` raised for the batch.

        Tasks that want one key share a look-up that is still to begin. They never share one that has begun, which may
        not see what was committed before they asked.
        """
        return await self._wait_for(key, self._join(key))

    async def get_many(self, keys: Sequence[K]) -> list[V]:
        """As `get` of each of these distinct keys, a batch at a time: in between others have their turn."""
        values: list[V] = []
        for start in range(0, len(keys), self._max_batch):
            joined = [(key, self._join(key)) for key in keys[start : start + self._max_batch]]
            for key, future in joined:
                values.append(await self._wait_for(key, future))
        return values

    def _join(self, key: K) -> asyncio.Future[V]:
        """A new future for the key's next look-up."""
        future: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = []
            self._keys.put(self._tenant_of(key), key)
        waiting.append(future)
        return future

    async def _wait_for(self, key: K, future: asyncio.Future[V]) -> V:
        if self._is_loading and not future.done():
            self._sleeping[future] = None
            try:
                value = await future
            except asyncio.CancelledError:
                if not future.cancelled() and future.exception() is None and future.result() is _LOAD:
                    self._hand_over()
                raise
            finally:
                del self._sleeping[future]
            if value is not _LOAD:
                return value
            future = self._join(key)
        elif future.done():
            return future.result()
        # The task that has the turn loads for all that wait, until its own key was among them.
        self._is_loading = True
        try:
            while not future.done():
                await self._load_some()
        finally:
            self._hand_over()
        return future.result()

    def _hand_over(self) -> None:
        """The turn goes to the one who has waited longest."""
        for future in self._sleeping:
            if not future.done():
                future.set_result(_LOAD)
                return
        self._is_loading = False

    async def _load_some(self) -> None:
        keys = [self._keys.take() for _ in range(min(self._max_batch, len(self._keys)))]
        waiting = [self._waiting.pop(key) for key in keys]
        try:
            values = await self._load_many(keys)
        except Exception as error:
            for future in _pending(waiting):
                future.set_exception(error)
                future.exception()  # seen: of `get_many` the first one is raised
            raise
        except asyncio.CancelledError:
            # Another task has to load them: they wait again.
            for key, futures in zip(keys, waiting, strict=True):
                if key not in self._waiting:
                    self._waiting[key] = []
                    self._keys.put(self._tenant_of(key), key)
                self._waiting[key] += futures
            raise
        else:
            for futures, value in zip(waiting, values, strict=True):
                for future in _pending([futures]):
                    future.set_result(value)


def _pending(waiting: Iterable[Iterable[asyncio.Future[V]]]) -> Iterator[asyncio.Future[V]]:
    """The futures whose tasks were not cancelled meanwhile."""
    return (future for futures in waiting for future in futures if not future.done())
