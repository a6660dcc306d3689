"""What has to be done now and then: forgetting idle rooms, noting when keys were used, and removing what was deleted
or is too old (the setting `retention.days`, or a tenant's own)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from chatapi.errors import ChatError
from chatapi.models import RoomKey, Tenant
from chatapi.services import Services
from chatapi.store import meta, purge

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 5.0
STEP_PAUSE_SECONDS = 0.02  # between two steps of removing rows, so that they take a fraction of the writer's time
RETENTION_EVERY = 12  # rounds: once a minute
DAY_US = 86_400_000_000


async def keep_house(services: Services) -> None:
    """Runs until it is cancelled."""
    rounds = 0
    while True:
        try:
            if not services.store.writer.writable:
                # While /readyz says so, nobody else may come to try.
                await services.store.writer.change(meta.write_heartbeat)
            await services.rooms.forget_idle()
            await services.tenants.write_used_keys()
            await _purge_deleted(services)
            if rounds % RETENTION_EVERY == 0:
                for tenant in services.tenants.all():
                    await apply_retention(services, tenant)
        except ChatError as error:
            logger.warning("housekeeping waits: %s", error.message)  # the disk refuses; the next round tries again
        rounds += 1
        await asyncio.sleep(PAUSE_SECONDS)


async def _purge_deleted(services: Services) -> None:
    await _repeat(lambda: services.store.writer.change(purge.purge_deleted))


async def _repeat(step: Callable[[], Awaitable[bool]]) -> None:
    """Takes steps until one says that there is nothing more to do."""
    has_more = True
    while has_more:
        has_more = await step()
        await asyncio.sleep(STEP_PAUSE_SECONDS)


async def apply_retention(services: Services, tenant: Tenant) -> None:
    """Removes the tenant's events and notifications that are older than its `retention_days`."""
    if not tenant.retention_days:
        return
    before_us = services.clock.now_us() - int(tenant.retention_days * DAY_US)
    for room_key, room_id in await purge.find_old_rooms(services.store.readers, tenant.tenant_key, before_us):
        await _repeat(partial(_purge_old_events, services, tenant, room_key, room_id, before_us))
    await _repeat(
        lambda: services.store.writer.change(
            lambda transaction: purge.purge_old_notification(transaction, tenant.tenant_key, before_us)
        )
    )


async def _purge_old_events(
    services: Services, tenant: Tenant, room_key: RoomKey, room_id: str, before_us: int
) -> bool:
    def publish(last_seq: int | None) -> None:
        if last_seq is not None:
            services.rooms.prune(tenant.tenant_key, room_id, last_seq)

    last_seq = await services.store.writer.change(
        lambda transaction: purge.purge_old_events(transaction, tenant.tenant_key, room_key, before_us), publish
    )
    return last_seq is not None
