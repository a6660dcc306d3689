"""Calls that failed for good: the operator lists them and puts them back into the queue. And how long the queues of
each tenant are."""

from collections.abc import Callable
from functools import partial

from msgspec import UnsetType

from chatapi.clock import Clock, SteadyClock
from chatapi.config import WebhooksConfig
from chatapi.errors import conflict, not_found
from chatapi.hub import Hub
from chatapi.models import Actor, TenantState, list_held_keys
from chatapi.protocol.move_records import MoveState
from chatapi.protocol.operator_answers import AllQueues, Queues, Stats, TenantStats
from chatapi.protocol.pages import Page, Window
from chatapi.store import Store, Transaction, audit, stats
from chatapi.store import webhooks as store_webhooks
from chatapi.tenants import TenantRegistry
from chatapi.webhooks.worker import WebhookWorker

REQUEUE_ROWS = 1_000  # in one transaction, a few ms of the writer's time


class DeadLetterQueue:
    def __init__(
        self,
        store: Store,
        hub: Hub,
        tenants: TenantRegistry,
        worker: WebhookWorker,
        steady: SteadyClock,
        clock: Clock,
        config: WebhooksConfig,
    ) -> None:
        self._store = store
        self._hub = hub
        self._tenants = tenants
        self._worker = worker
        self._steady = steady
        self._clock = clock
        self._first_wait_us = int(config.retry_schedule_seconds[0] * 1_000_000)
        self._kept_us = int(config.dead_letter_days * 86_400_000_000)

    async def list_page(self, tenant_id: str | None, window: Window) -> tuple[Page, Page, Page]:
        """Messages, notifications and other events of one page, the latest first. Raises ChatError NOT_FOUND for an
        unknown tenant."""
        tenant_key = None if tenant_id is None else self._tenants.get(tenant_id).tenant_key
        return await store_webhooks.list_dead(self._store.readers, tenant_key, window)

    async def retry(self, actor: Actor, delivery_id: str) -> None:
        """The schedule starts again, with the same `webhook-id`. Raises ChatError NOT_FOUND, or CONFLICT when the
        tenant has no webhook any more."""
        key = store_webhooks.parse_delivery_id(delivery_id)
        if key is None:
            raise not_found("Dead letter")
        due_at_us = self._steady.now_us() + self._first_wait_us

        async def apply(transaction: Transaction) -> TenantState:
            tenant_key = await store_webhooks.find_dead(transaction, key)
            tenant = next((found for found in self._tenants.all() if found.tenant_key == tenant_key), None)
            if tenant is None:
                raise not_found("Dead letter")
            _check_webhook(tenant)
            await store_webhooks.requeue(transaction, tenant.tenant_key, key, due_at_us)
            await audit.record(transaction, actor, "dead_letter.retry", tenant.tenant_id, delivery_id)
            return tenant

        await self._worker.take_up(await self._store.writer.change(apply))

    async def retry_all(self, actor: Actor, tenant_id: str) -> int:
        """The same for all of a tenant's; returns how many. Calls that fail for good meanwhile stay dead letters."""
        tenant = self._tenants.get(tenant_id)
        _check_webhook(tenant)
        # Not the clock's present: it may have been set back since the last one died.
        until_us = await store_webhooks.find_newest_dead_us(self._store.readers, tenant.tenant_key)
        total = 0
        while True:
            requeued = await self._requeue_some(tenant, until_us, None if total else actor)
            total += requeued
            if requeued < REQUEUE_ROWS:
                return total

    async def _requeue_some(self, tenant: TenantState, until_us: int, actor: Actor | None) -> int:
        """The audit names the actor with the first of them."""
        due_at_us = self._steady.now_us() + self._first_wait_us

        async def apply(transaction: Transaction) -> int:
            requeued = await store_webhooks.requeue_of_tenant(
                transaction, tenant.tenant_key, until_us, due_at_us, REQUEUE_ROWS
            )
            if requeued and actor is not None:
                await audit.record(transaction, actor, "dead_letters.retry", tenant.tenant_id, tenant.tenant_id)
            return requeued

        requeued = await self._store.writer.change(apply)
        if requeued:
            await self._worker.take_up(tenant)
        return requeued

    async def expire(self) -> None:
        """Deletes those whose last attempt was `dead_letter_days` ago, bit by bit. Called now and then."""
        now_us = min(self._clock.now_us(), self._steady.now_us())  # neither may be wrong alone
        held = list_held_keys(self._tenants.all())
        while await self._store.writer.step(partial(store_webhooks.expire_dead, now_us - self._kept_us, held)):
            pass

    async def list_stats(self, find_move: Callable[[TenantState], MoveState | UnsetType]) -> Stats:
        """Each tenant's figures, in the order in which the tenants were created, and the queues of all together."""
        tenants = self._tenants.all()
        figures = await stats.count_per_tenant(self._store.readers, [tenant.tenant_key for tenant in tenants])
        listed = [
            TenantStats(
                tenant_id=tenant.tenant_id,
                name=tenant.name,
                rooms=counts.rooms,
                messages=counts.messages,
                connections=self._hub.count_of_tenant(tenant.tenant_key),
                move=find_move(tenant),
                queues=Queues(
                    notifications=counts.notifications, webhooks=counts.webhooks, dead_letters=counts.dead_letters
                ),
            )
            for tenant, counts in zip(tenants, figures, strict=True)
        ]
        queues = AllQueues(
            writes=len(self._store.writer),
            notifications=sum(counts.notifications for counts in figures),
            webhooks=sum(counts.webhooks for counts in figures),
            dead_letters=sum(counts.dead_letters for counts in figures),
        )
        return Stats(tenants=listed, queues=queues)


def _check_webhook(tenant: TenantState) -> None:
    """Without a webhook what waits is dropped, and a dead letter is kept: it must not get from here to there."""
    if tenant.settings.webhook_url is None:
        raise conflict("The tenant has no webhook_url")
