"""The server's regular jobs: remove deleted and old data, note when keys were used, forget idle rooms.

Each job is a task of its own and takes its steps in the time that the writer has left, so that none keeps another
waiting, and none delays a message by more than a step. Each step of a job is committed: after a crash the job
continues.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

from chatapi.errors import ChatError
from chatapi.indexer import PAUSE_SECONDS
from chatapi.log_lines import Seldom
from chatapi.memory import give_back_memory
from chatapi.models import RoomKey, TenantKey, TenantState, list_held_keys
from chatapi.services import Services
from chatapi.store import DatabaseGone, Writer, audit, meta, moderation, purge

logger = logging.getLogger(__name__)

DAY_US = 86_400_000_000
START_SECONDS = 0.2  # before the first rounds: a start is quicker, and then belongs to the clients that come back
HEARTBEAT_SECONDS = 1.0
FILES_SECONDS = 0.5  # between two looks at the database's files
RETURN_SECONDS = 10.0  # that files which are gone have to come back, before the server ends
ROUND_SECONDS = 50.0  # after which retention starts again with the tenants that have come meanwhile: within a minute
PAGE_ROOMS = 500  # looked at in one read, 2 to 4 ms of a reader's time
LOOK_ROOMS = 100  # of which the beginning is read at once...
LOOK_EVENTS = 50  # ...and so many events of each
TURN_STEPS = 10  # of one tenant, before the next one has its turn
LOOK_TENANTS = 500  # asked about in one read


class Job(NamedTuple):
    """`pause_seconds` lie between the end of one round of `work` and the beginning of the next: of real time, if the
    job is for the machine and nobody is promised anything by it."""

    name: str
    pause_seconds: float
    work: Callable[[], Awaitable[None]]
    is_for_machine: bool = False


def list_jobs(services: Services) -> list[Job]:
    """All jobs that have rounds: `watch_files` has none, and may end the server."""
    return [
        Job("heartbeat", HEARTBEAT_SECONDS, lambda: try_writing(services), is_for_machine=True),
        Job("purge", 2.0, lambda: purge_deleted(services)),
        Job("retention of events", 10.0, Retention(services).take_round),
        Job("retention of notifications", 30.0, lambda: purge_old_notifications(services)),
        Job("idle streams", 1.0, services.streams.end_idle),
        Job("ended mutes and bans", 30.0, lambda: purge_ended_rules(services)),
        Job("search index", PAUSE_SECONDS, services.indexer.tend),
        Job("audit", 30.0, lambda: expire_audit(services)),
        Job("dead letters", 30.0, services.dead_letters.expire),
        Job("used keys", 30.0, services.tenants.write_used_keys),
        Job("last seen", 1.0, services.last_seen.write),
        Job("idle rooms", 5.0, services.rooms.forget_idle),
        Job("memory", 30.0, give_back_memory, is_for_machine=True),
    ]


def start_housekeeping(services: Services) -> None:
    """Starts a task for each job."""
    services.tasks.start("housekeeping: files", watch_files(services.store.writer))
    for job in list_jobs(services):
        services.tasks.start(f"housekeeping: {job.name}", _repeat(services, job))


async def _repeat(services: Services, job: Job) -> None:
    """Runs until it is cancelled. A job that fails is tried again in its next round, and stops no other."""
    seldom = Seldom(logger)
    sleep = asyncio.sleep if job.is_for_machine else services.clock.sleep
    await sleep(START_SECONDS)
    while True:
        try:
            await job.work()
        except ChatError as error:
            if not services.health.is_draining:
                seldom.error("housekeeping has to wait: %s (%s)", error.message, job.name)
        await sleep(job.pause_seconds)


async def try_writing(services: Services) -> None:
    """Finds out that a database accepts writes again: while /readyz says that it does not, nobody else may come to
    try."""
    if not services.store.writer.writable:
        await services.store.writer.change(meta.write_heartbeat)


async def watch_files(writer: Writer) -> None:
    """Runs until it is cancelled. Raises DatabaseGone, which ends the server, when the database was removed or replaced
    and does not come back within `RETURN_SECONDS`."""
    loop = asyncio.get_running_loop()
    gone_s: float | None = None
    while True:
        if writer.files.is_there():
            gone_s = None
        elif gone_s is None:
            gone_s = loop.time()
            writer.writable = False
            logger.error(
                "the database was removed or replaced under the running server: no writes are taken, and the server"
                " ends unless it is back within %g seconds",
                RETURN_SECONDS,
                extra={"database": writer.files.path},
            )
        elif loop.time() - gone_s >= RETURN_SECONDS:
            raise DatabaseGone(writer.files.path)
        await asyncio.sleep(FILES_SECONDS)


async def purge_deleted(services: Services) -> None:
    """Removes the rows of deleted rooms and tenants, step by step, until none is left."""
    while not services.arrivals.is_taking_rows:
        if not await services.store.writer.step(partial(purge.purge_deleted, arriving=services.transfers.arriving)):
            return


async def purge_ended_rules(services: Services) -> None:
    """Removes mutes and bans that have ended."""
    now_us = min(services.clock.now_us(), services.steady.now_us())  # a wrong clock must end none
    held = list_held_keys(services.tenants.all())
    while await services.store.writer.step(partial(moderation.purge_ended, now_us, held)):
        pass


async def expire_audit(services: Services) -> None:
    """Removes entries of the audit that are too old, unless they are kept forever."""
    days = services.config.audit.days
    if not days:
        return
    now_us = min(services.clock.now_us(), services.steady.now_us())
    while await services.store.writer.step(partial(audit.expire, now_us - int(days * DAY_US))):
        pass


# Retention


def find_limit(services: Services, tenant: TenantState) -> int:
    """The time before which the tenant's events are too old, in microseconds since 1970. Both clocks have to agree: one
    that was set forward by mistake must not cost a tenant its messages."""
    now_us = min(services.clock.now_us(), services.steady.now_us())
    return now_us - int(tenant.settings.retention_days * DAY_US)


class Retention:
    """Removes events that are older than their tenant's `retention_days`. The tenants have their turns."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._after: dict[TenantKey, str] = {}  # the room up to which a tenant was looked through in this pass

    async def take_round(self) -> None:
        """Once through all rooms, or as far as it gets in time; then the next round goes on there."""
        tenants = deque(tenant for tenant in self._services.tenants.list_served() if tenant.settings.retention_days)
        end_s = asyncio.get_running_loop().time() + ROUND_SECONDS
        failure: ChatError | None = None
        while tenants and asyncio.get_running_loop().time() < end_s:
            tenant = tenants.popleft()
            try:
                if await self.take_turn(tenant):
                    tenants.append(tenant)
            except ChatError as error:  # perhaps only this tenant's rooms are damaged
                failure = error
        if failure is not None:
            raise failure

    async def take_turn(self, tenant: TenantState) -> bool:
        """Some steps for one tenant; whether there is more to do in this pass."""
        services = self._services
        before_us = find_limit(services, tenant)
        after = self._after.get(tenant.tenant_key, "")
        page = await purge.list_rooms(services.store.readers, tenant.tenant_key, before_us, after, PAGE_ROOMS)
        if not await self._empty(tenant, before_us, page.old_room_keys):
            return True  # the same page again
        if page.last_room_id is None:
            self._after.pop(tenant.tenant_key, None)
            return False
        self._after[tenant.tenant_key] = page.last_room_id
        return True

    async def _empty(self, tenant: TenantState, before_us: int, room_keys: list[RoomKey]) -> bool:
        """Whether all that is old in these rooms is gone, within a turn's steps."""
        readers, writer = self._services.store.readers, self._services.store.writer
        left = deque(room_keys)
        for _ in range(TURN_STEPS):
            keys = [left.popleft() for _ in range(min(len(left), LOOK_ROOMS))]
            logs = await purge.find_old_logs(readers, tenant.tenant_key, keys, before_us, LOOK_EVENTS)
            if logs:
                work = partial(purge.purge_old_events, tenant.tenant_key, logs)
                done = await writer.step(work, lambda done: self._publish(tenant, done))
                left.extend(log.room_key for log in logs[: len(done)] if log.events == LOOK_EVENTS)
                left.extend(log.room_key for log in logs[len(done) :])
            if not left:
                return True
        return False

    def _publish(self, tenant: TenantState, logs: Sequence[purge.OldLog]) -> None:
        for log in logs:
            self._services.rooms.prune(tenant.tenant_key, log.room_id, log.last_seq)


async def apply_retention(services: Services, tenant: TenantState) -> None:
    """Removes all that is too old of one tenant's events."""
    retention = Retention(services)
    while await retention.take_turn(tenant):
        pass


async def purge_old_notifications(services: Services) -> None:
    """Removes notifications that are older than their tenant's `retention_days`. The tenants have their turns."""
    served = services.tenants.list_served()
    tenants = [tenant for tenant in served if tenant.settings.retention_days and tenant.hold is None]
    limits = {tenant.tenant_key: find_limit(services, tenant) for tenant in tenants}
    left = iter(limits.items())
    waiting: deque[TenantKey] = deque()
    while some := dict(islice(left, LOOK_TENANTS)):
        waiting.extend(await purge.find_old_notifications(services.store.readers, some))
    end_s = asyncio.get_running_loop().time() + ROUND_SECONDS
    while waiting and asyncio.get_running_loop().time() < end_s:
        tenant_key = waiting.popleft()
        if await services.store.writer.step(partial(purge.purge_old_notifications, tenant_key, limits[tenant_key])):
            waiting.append(tenant_key)
