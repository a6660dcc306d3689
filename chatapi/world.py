"""Everything that rests on one database: the store, the services above it, and their tasks. It lives as long as the
process, except that a reset of `serve --dev` and `--test` ends it and begins another."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from chatapi.access import Access
from chatapi.admission import Admission
from chatapi.appends import Appends
from chatapi.auth import Auth
from chatapi.blocks import Blocks
from chatapi.chat import Chat
from chatapi.clock import Clock, SteadyClock
from chatapi.committer import Committer
from chatapi.config import Config, WebhooksConfig
from chatapi.deltas import Deltas
from chatapi.dev_tools import DevTools
from chatapi.errors import ChatError
from chatapi.health import HealthCheck
from chatapi.history import HistoryCache
from chatapi.housekeeping import start_housekeeping
from chatapi.hub import Hub
from chatapi.indexer import Indexer
from chatapi.last_seen import LastSeen
from chatapi.membership import Membership
from chatapi.mentions import Mentions
from chatapi.notifications import Notifications
from chatapi.origin import OriginPolicy
from chatapi.pins import Pins
from chatapi.piping import Pipes
from chatapi.presence import Presence
from chatapi.profiles import Profiles
from chatapi.reactions import Reactions
from chatapi.receipts import Receipts
from chatapi.recovery import Recovery
from chatapi.reports import Reports
from chatapi.room_bans import RoomBans
from chatapi.room_lists import RoomLists
from chatapi.room_log import RoomLog
from chatapi.rooms import Rooms
from chatapi.search import Search
from chatapi.services import Services
from chatapi.store import SQLITE_VERSION, Store, open_store
from chatapi.store.lock import DatabaseLock
from chatapi.streams import Streams
from chatapi.tasks import Tasks
from chatapi.tenant_bans import TenantBans
from chatapi.tenants import TenantRegistry
from chatapi.user_exports import UserExports
from chatapi.views import Views
from chatapi.webhooks.dead_letters import DeadLetterQueue
from chatapi.webhooks.presence import PresenceEvents
from chatapi.webhooks.queue import WebhookQueue
from chatapi.webhooks.worker import WebhookWorker
from chatapi.ws.heartbeat import watch_connections

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class World:
    """Made by `open_world`. `calling` is the task of the webhooks."""

    services: Services
    calling: asyncio.Task[None]
    _writing: contextlib.AsyncExitStack
    _opened: contextlib.AsyncExitStack

    @property
    def is_busy(self) -> bool:
        """Something is being written or read, or a webhook is being called."""
        store = self.services.store
        return store.writer.has_work or not store.readers.is_quiet or self.services.webhooks.running > 0

    async def finish_writes(self) -> None:
        """Returns when all that the writer took is committed; from now on it takes no more."""
        await self._writing.aclose()

    async def close(self) -> None:
        """As `finish_writes`, and then ends the tasks and closes the database."""
        await self._writing.aclose()
        await self._opened.aclose()


async def open_world(
    config: Config,
    clock: Clock,
    admission: Admission,
    dev: DevTools | None,
    on_crash: Callable[[str], None],
    lock: DatabaseLock | None = None,
) -> World:
    """`lock` is of the database, unless that was made for a reset. Raises StoreError; then nothing is left open, as
    after any failure."""
    async with contextlib.AsyncExitStack() as opened, contextlib.AsyncExitStack() as writing:
        store = await open_store(
            config.database.path,
            synchronous=config.database.synchronous,
            readers=config.database.readers,
            clock=clock,
            lock=lock,
            checkpoints=config.database.checkpoints,
            commit_interval_ms=config.database.commit_interval_ms,
            memory_share=admission.memory.share,
        )
        opened.push_async_callback(store.close)
        if dev is not None and dev.scratch is not None:
            store.writer.hurry()
        if config.search.enabled and not store.can_search:
            logger.warning("search is off: this SQLite has no FTS5", extra={"sqlite": SQLITE_VERSION})
        tasks = Tasks(on_crash)
        opened.push_async_callback(tasks.close)
        services = _build_services(config, clock, store, tasks, admission, dev)
        writer = tasks.start("writer", store.writer.run(services.committer))
        writing.push_async_callback(_finish_writes, services, writer)
        await services.arrivals.load()
        await asyncio.to_thread(services.transfers.remove_leftovers)
        await services.tenants.load()
        if dev is not None:
            await services.tenants.ensure_dev_tenant()
        await services.departures.load()
        served = services.tenants.list_served()
        await services.tenant_bans.load(served)
        await services.erasures.load(served)
        await services.webhooks.resume(served)
        await services.notifications.resume(served)
        await services.streams.load(served)
        calling = tasks.start("webhooks", services.webhooks.run())
        tasks.start("heartbeat", watch_connections(services))
        start_housekeeping(services)
        return World(services, calling, writing.pop_all(), opened.pop_all())


async def _finish_writes(services: Services, writing: asyncio.Task[None]) -> None:
    """Returns when all that the writer took is committed."""
    services.store.writer.set_commit_interval(0)  # several of these wait for each other
    await services.appends.close()
    await services.presence_events.write_all()
    try:
        await services.tenants.write_used_keys()
        await services.last_seen.write()
    except ChatError as error:
        logger.warning("the times when keys were last used, and users last online, are not stored: %s", error.message)
    services.store.writer.close()
    await asyncio.wait([writing])


def _build_services(
    config: Config, clock: Clock, store: Store, tasks: Tasks, admission: Admission, dev: DevTools | None
) -> Services:
    """Opens nothing, and starts nothing."""
    hub, rooms = Hub(clock, admission.memory), Rooms(store.readers, clock, admission.memory.share)
    last_seen, access, deltas = LastSeen(store.writer, clock), Access(rooms), Deltas(hub, rooms.streams)
    presence, tenants = _build_presence(config, hub, last_seen, clock), TenantRegistry(store, config, clock, rooms, hub)
    steady, appends = SteadyClock(clock, store.latest_us), _build_appends(store, rooms, access, clock, deltas)
    webhooks, webhook_queue, room_log = _build_webhooks(config.webhooks, store, hub, tasks, clock, steady)
    history, idle_seconds = HistoryCache(store.readers, admission.memory.share), config.streams.idle_seconds
    committer = Committer(rooms=rooms, history=history, hub=hub, presence=presence, webhook_queue=webhook_queue)
    streams = Streams(store, rooms, hub, committer, access, appends, webhook_queue, room_log, clock, idle_seconds)
    chat = Chat(store, rooms, history, hub, committer, access, room_log)
    membership = Membership(store, rooms, hub, presence, access, webhook_queue, room_log)
    return Services(
        config=config,
        clock=clock,
        steady=steady,
        tasks=tasks,
        store=store,
        rooms=rooms,
        room_lists=RoomLists(store.readers, rooms),
        hub=hub,
        presence=presence,
        recovery=_build_recovery(config, store, rooms, access, hub, deltas, tasks),
        deltas=deltas,
        access=access,
        committer=committer,
        chat=chat,
        history=history,
        appends=appends,
        streams=streams,
        pipes=Pipes(rooms, access, chat, appends, streams, clock, idle_seconds),
        reactions=Reactions(store, hub, committer, access, room_log),
        pins=Pins(store, committer, access, room_log),
        mentions=Mentions(store.readers, access, clock),
        views=Views(store, rooms, hub, access),
        membership=membership,
        blocks=Blocks(store, rooms, presence),
        tenant_bans=TenantBans(store, rooms, hub, membership, presence, tasks, clock),
        profiles=Profiles(store, rooms, hub, presence, tasks),
        last_seen=last_seen,
        room_bans=RoomBans(store, rooms, access, membership, room_log),
        reports=Reports(store, access, webhook_queue),
        receipts=Receipts(store, hub, access, clock),
        notifications=Notifications(store, hub, tasks, access, webhook_queue),
        user_exports=UserExports(store),
        search=Search(store, access, is_enabled=config.search.enabled),
        indexer=Indexer(store, is_enabled=config.search.enabled),
        webhooks=webhooks,
        presence_events=_build_presence_events(store, tasks, webhook_queue, presence),
        dead_letters=DeadLetterQueue(store, hub, tenants, webhooks, steady, clock, config.webhooks),
        tenants=tenants,
        auth=Auth(tenants, config, clock),
        origins=OriginPolicy(config.server.allowed_origins, config.server.public_url),
        health=HealthCheck(store.writer, clock),
        admission=admission,
        dev=dev,
    )


def _build_webhooks(
    config: WebhooksConfig, store: Store, hub: Hub, tasks: Tasks, clock: Clock, steady: SteadyClock
) -> tuple[WebhookWorker, WebhookQueue, RoomLog]:
    worker = WebhookWorker(store=store, hub=hub, tasks=tasks, clock=clock, steady=steady, config=config)
    queue = WebhookQueue(hub, steady, config.retry_schedule_seconds[0], worker.wake)
    return worker, queue, RoomLog(store, queue)


def _build_presence_events(
    store: Store, tasks: Tasks, webhook_queue: WebhookQueue, presence: Presence
) -> PresenceEvents:
    presence_events = PresenceEvents(store, tasks, webhook_queue)
    presence.tell_backend = presence_events.note
    return presence_events


def _build_appends(store: Store, rooms: Rooms, access: Access, clock: Clock, deltas: Deltas) -> Appends:
    appends = Appends(store, rooms, access, clock)
    appends.deliver = deltas.deliver
    return appends


def _build_presence(config: Config, hub: Hub, last_seen: LastSeen, clock: Clock) -> Presence:
    settings = config.websocket
    return Presence(
        hub, last_seen, clock, grace_seconds=settings.presence_grace_seconds, typing_seconds=settings.typing_seconds
    )


def _build_recovery(
    config: Config, store: Store, rooms: Rooms, access: Access, hub: Hub, deltas: Deltas, tasks: Tasks
) -> Recovery:
    recovery = Recovery(
        readers=store.readers,
        rooms=rooms,
        access=access,
        hub=hub,
        deltas=deltas,
        tasks=tasks,
        sync_limit=config.limits.sync_limit,
        slow_consumer_seconds=config.limits.slow_consumer_seconds,
    )
    hub.recover = recovery.start
    return recovery
