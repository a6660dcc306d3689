"""How many events of each tenant wait for its backend, and the bound of that."""

import logging
from collections import Counter
from functools import partial

from chatapi.clock import Clock
from chatapi.models import TenantKey, TenantState
from chatapi.store import Store, backend_events
from chatapi.tasks import Tasks

logger = logging.getLogger(__name__)

MOST_WAITING = 100_000  # events of a tenant, 20 MB of the database: the oldest of more become dead letters


class WaitingEvents:
    """`given_up` counts since the start."""

    def __init__(self, store: Store, tasks: Tasks, clock: Clock) -> None:
        self._store = store
        self._tasks = tasks
        self._clock = clock
        self._waiting: Counter[TenantKey] = Counter()  # about: a commit that was repeated counts twice
        self._giving_up: set[TenantKey] = set()
        self.given_up = 0

    def is_near_bound(self, tenant: TenantState) -> bool:
        """Its events may soon become dead letters."""
        return self._waiting[tenant.tenant_key] > MOST_WAITING * 3 // 4

    def add(self, tenant: TenantState, events: int) -> None:
        self._waiting[tenant.tenant_key] += events
        self._bound(tenant)

    def note_done(self, tenant: TenantState) -> None:
        self._waiting[tenant.tenant_key] -= 1

    async def count(self, tenant: TenantState) -> None:
        """Some were stored that nobody counted."""
        await self._count_to(tenant.tenant_key, MOST_WAITING + 1)
        self._bound(tenant)

    async def _count_to(self, tenant_key: TenantKey, limit: int) -> int:
        counted = self._waiting[tenant_key]
        waiting = await backend_events.count_events(self._store.readers, tenant_key, limit)
        self._waiting[tenant_key] += waiting - counted
        return waiting

    def _bound(self, tenant: TenantState) -> None:
        tenant_key = tenant.tenant_key
        if self._waiting[tenant_key] > MOST_WAITING and tenant_key not in self._giving_up:
            self._giving_up.add(tenant_key)
            self._tasks.spawn(f"too many events of {tenant.tenant_id}", self._give_up_oldest(tenant))

    async def _give_up_oldest(self, tenant: TenantState) -> None:
        """Makes dead letters of the oldest events while more than `MOST_WAITING` wait, bit by bit."""
        tenant_key, total = tenant.tenant_key, 0
        try:
            while True:
                waiting = await self._count_to(tenant_key, 2 * MOST_WAITING)
                if waiting <= MOST_WAITING or tenant.hold is not None:
                    break
                now_us = self._clock.now_us()
                given_up = await self._store.writer.step(
                    partial(backend_events.give_up_oldest, tenant_key, waiting - MOST_WAITING, now_us)
                )
                total += given_up
                self.given_up += given_up
        finally:
            self._giving_up.discard(tenant_key)
            logger.warning("too many events were waiting", extra={"tenant_id": tenant.tenant_id, "given_up": total})
