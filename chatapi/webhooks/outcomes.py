"""The outcomes of calls for the backends, stored together. Until then the calls count as under way, so that none is
made again, and the next ones do not wait for the commit."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from chatapi.models import TenantState
from chatapi.store.webhooks import Delay, DeliveryKey, Failure
from chatapi.tasks import Tasks
from chatapi.webhooks.tenant_queues import EventQueue

GATHER_SECONDS = 0.02  # a commit costs as much for one outcome as for many; a crash repeats these calls
MOST_AT_ONCE = 256  # outcomes, a few ms of the writer's time
HELD_SECONDS = 1.0  # before outcomes of a tenant that is held for a move are tried again


class Step(NamedTuple):
    """The result of a try: the delivery is done, or a failure or a delay has to be noted."""

    tenant: TenantState
    key: DeliveryKey
    noted: Failure | Delay | None = None


class Outcomes:
    """`store` returns once the steps are stored, and tells for each whether it was: those of tenants that are held for
    a move wait. Then `on_stored` is called with those that were."""

    def __init__(
        self,
        tasks: Tasks,
        store: Callable[[Sequence[Step]], Awaitable[Sequence[bool]]],
        on_stored: Callable[[EventQueue, Step], None],
    ) -> None:
        self._tasks = tasks
        self._store = store
        self._on_stored = on_stored
        self._noted: list[tuple[EventQueue, Step]] = []  # bounded by what the queues hold in memory
        self._task: asyncio.Task[None] | None = None

    def note(self, queue: EventQueue, step: Step) -> None:
        self._noted.append((queue, step))
        if self._task is None:
            self._task = self._tasks.spawn("outcomes of events", self._store_all())

    async def finish(self, seconds: float) -> None:
        """Returns once all are stored, or after so many seconds: then these calls are repeated at the next start."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)

    async def _store_all(self) -> None:
        try:
            wait_s = GATHER_SECONDS
            while self._noted:
                await asyncio.sleep(wait_s)
                some, self._noted = self._noted[:MOST_AT_ONCE], self._noted[MOST_AT_ONCE:]
                are_stored = await self._store([step for _, step in some])
                wait_s = GATHER_SECONDS if any(are_stored) else HELD_SECONDS
                for (queue, step), is_stored in zip(some, are_stored, strict=True):
                    if is_stored:
                        self._on_stored(queue, step)
                    else:
                        self._noted.append((queue, step))
        finally:
            self._task = None
