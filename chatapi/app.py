"""The composition root: every object is built here once, in order, and closed in reverse."""

import asyncio
import contextlib
import gc
import logging
import random
import resource
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

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
from chatapi.errors import ChatError, unavailable
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
from chatapi.protocol.encoders import encode_frame
from chatapi.protocol.server_frames import ServerShutdownFrame
from chatapi.reactions import Reactions
from chatapi.receipts import Receipts
from chatapi.recovery import Recovery
from chatapi.reports import Reports
from chatapi.rest import list_routes
from chatapi.rest.call import RawRoute
from chatapi.rest.edge import Edge
from chatapi.rest.files import make_file_routes
from chatapi.rest.listener import Listener
from chatapi.rest.server import EnvelopeServer
from chatapi.room_bans import RoomBans
from chatapi.room_lists import RoomLists
from chatapi.rooms import Rooms
from chatapi.search import Search
from chatapi.services import Services
from chatapi.store import SQLITE_VERSION, Store, check_usable, open_store
from chatapi.store.lock import DatabaseLock
from chatapi.streams import Streams
from chatapi.tasks import Tasks
from chatapi.tenant_bans import TenantBans
from chatapi.tenants import TenantRegistry
from chatapi.views import Views
from chatapi.webhooks.dead_letters import DeadLetterQueue
from chatapi.webhooks.queue import WebhookQueue
from chatapi.webhooks.worker import WebhookWorker
from chatapi.ws.handshake import serve_websocket
from chatapi.ws.heartbeat import watch_connections

logger = logging.getLogger(__name__)

GOING_AWAY = 1001
BODIES_UNTIL = 0.9  # of the grace; a body that has not arrived by then is answered with 503
OWN_DESCRIPTORS = 64  # the interpreter's, the loop's, the lock's, those of backups and name servers
MANY_DESCRIPTORS = 1 << 20  # where the system has no limit
DESCRIPTORS_PER_READER = 3  # the database, its WAL and its shared memory
RECONNECT_MS_PER_CONNECTION = 1  # those who were connected come back over this long, at random...
MIN_RECONNECT_MS = 1_000  # ...and over at least this

RAW_ROUTES = (RawRoute("GET", "/ws", serve_websocket),)


@dataclass(frozen=True, slots=True)
class App:
    """A running server. Made by `start_app`; `close` ends it in order."""

    services: Services
    server: EnvelopeServer
    addresses: Sequence[str]
    """Where it listens."""
    opened: contextlib.AsyncExitStack
    """Everything that `close` closes."""

    async def close(self) -> None:
        """No new connections; everyone is told; requests and queued writes end; then the database closes.

        Takes at most `shutdown_grace_seconds`, but what was taken by the writer is committed whatever that takes.
        """
        await self.opened.aclose()


async def start_app(config: Config, *, clock: Clock, dev: bool, on_crash: Callable[[str], None]) -> App:
    """Builds everything. Raises StoreError, DatabaseInUse or OSError; then nothing is left open.

    Everything is noted for closing as soon as it is open, and closed in reverse: at once if a later step fails, else by
    `App.close`. `on_crash(task)` is called when a long-lived task has failed: the server has to be closed then.
    """
    _prepare_process()
    tls = _make_tls(config)
    raw_routes = RAW_ROUTES + make_file_routes(config)
    check_usable(config.database.path)  # before the lock makes a file beside it
    async with contextlib.AsyncExitStack() as opened:
        opened.enter_context(DatabaseLock(config.database.path))
        store = await open_store(
            config.database.path,
            synchronous=config.database.synchronous,
            readers=config.database.readers,
            clock=clock,
        )
        opened.push_async_callback(store.close)
        if config.search.enabled and not store.can_search:
            logger.warning("search is off: this SQLite has no FTS5", extra={"sqlite": SQLITE_VERSION})
        tasks = Tasks(on_crash)
        opened.push_async_callback(tasks.close)
        services = _build_services(config, clock, store, tasks)
        server = EnvelopeServer(Edge(services, list_routes(config), raw_routes), services.admission)
        opened.push_async_callback(server.end)
        writing = tasks.start("writer", store.writer.run(services.committer))
        opened.push_async_callback(_finish_writes, services, writing)
        await services.tenants.load()
        if dev:
            await services.tenants.ensure_dev_tenant()
        await services.tenant_bans.load(services.tenants.all())
        await services.webhooks.resume(services.tenants.all())
        await services.notifications.resume(services.tenants.all())
        await services.streams.load(services.tenants.all())
        listener = Listener(server, services.admission, tasks, tls)
        calling = tasks.start("webhooks", services.webhooks.run())
        opened.push_async_callback(_drain, services, server, listener, calling)
        tasks.start("heartbeat", watch_connections(services))
        start_housekeeping(services)
        app = App(services, server, _listen(config, listener), opened.pop_all())
    # The collector does not look again at objects that live at this point (docs/design.md, section 7).
    gc.collect()
    gc.freeze()
    return app


def _listen(config: Config, listener: Listener) -> list[str]:
    """Accepts connections from here on. Raises OSError."""
    if config.server.unix_socket:
        return listener.listen_at_path(config.server.unix_socket)
    return listener.listen_on_host(config.server.host, config.server.port)


async def _drain(services: Services, server: EnvelopeServer, listener: Listener, calling: asyncio.Task[None]) -> None:
    """Returns once all requests are answered and webhook calls have ended, at the latest at the end of the grace."""
    services.health.is_draining = True
    grace_seconds = services.config.server.shutdown_grace_seconds
    stopping = unavailable("The server is shutting down")
    last_call = asyncio.get_running_loop().call_later(BODIES_UNTIL * grace_seconds, server.refuse_bodies, stopping)
    try:
        async with asyncio.timeout(grace_seconds):
            listener.close()
            services.webhooks.close()
            services.presence.note_all()
            await _send_away(services.hub)
            await server.finish()
            await asyncio.wait([calling])
    except TimeoutError:
        logger.warning("requests were cut off at the end of the grace")
    finally:
        last_call.cancel()


async def _send_away(hub: Hub) -> None:
    """Returns once no connection is left."""
    connections = list(hub.connections.values())
    spread_ms = max(MIN_RECONNECT_MS, RECONNECT_MS_PER_CONNECTION * len(connections))
    for connection in connections:
        frame = encode_frame(ServerShutdownFrame(reconnect_after_ms=_pick_delay(spread_ms)))
        hub.send(connection, frame)
        hub.close(connection, GOING_AWAY, reason="server going away")
    hub.flush()
    while hub.connections:  # noqa: ASYNC110 - an event for this would have to be kept by every detach
        await asyncio.sleep(0.01)  # each session ends by itself: its peer has answered, or is cut off


async def _finish_writes(services: Services, writing: asyncio.Task[None]) -> None:
    """Returns when all that the writer took is committed."""
    await services.appends.close()
    try:
        await services.tenants.write_used_keys()
        await services.last_seen.write()
    except ChatError as error:
        logger.warning("the times when keys were last used, and users last online, are not stored: %s", error.message)
    services.store.writer.close()
    await asyncio.wait([writing])


def _build_services(config: Config, clock: Clock, store: Store, tasks: Tasks) -> Services:
    """Opens nothing, and starts nothing."""
    hub = Hub(clock)
    rooms = Rooms(store.readers, clock)
    last_seen = LastSeen(store.writer, clock)
    presence = _build_presence(config, hub, last_seen)
    access = Access(rooms)
    deltas = Deltas(hub, rooms.streams)
    recovery = _build_recovery(config, store, rooms, access, hub, deltas, tasks)
    tenants = TenantRegistry(store, config, clock, rooms, hub)
    steady = SteadyClock(clock, store.latest_us)
    webhooks, webhook_queue = _build_webhooks(config.webhooks, store, hub, tasks, clock, steady)
    history = HistoryCache(store.readers)
    committer = Committer(rooms=rooms, history=history, hub=hub, presence=presence, webhook_queue=webhook_queue)
    appends = _build_appends(store, rooms, access, clock, deltas)
    streams = Streams(store, rooms, hub, committer, access, appends, webhook_queue, clock, config.streams.idle_seconds)
    chat = Chat(store, rooms, history, hub, committer, access)
    membership = Membership(store, rooms, hub, presence, access)
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
        recovery=recovery,
        deltas=deltas,
        access=access,
        committer=committer,
        chat=chat,
        appends=appends,
        streams=streams,
        pipes=Pipes(rooms, access, chat, appends, streams, clock, config.streams.idle_seconds),
        reactions=Reactions(store, hub, committer, access),
        pins=Pins(store, committer, access),
        mentions=Mentions(store.readers, access, clock),
        views=Views(store, rooms, hub, access),
        membership=membership,
        blocks=Blocks(store, rooms, presence),
        tenant_bans=TenantBans(store, rooms, hub, membership, presence, tasks, clock),
        profiles=Profiles(store, rooms, hub, presence, tasks),
        last_seen=last_seen,
        room_bans=RoomBans(store, rooms, access, membership),
        reports=Reports(store, access, webhook_queue),
        receipts=Receipts(store, hub, access),
        notifications=Notifications(store, hub, tasks, access, webhook_queue),
        search=Search(store, access, is_enabled=config.search.enabled),
        indexer=Indexer(store, is_enabled=config.search.enabled),
        webhooks=webhooks,
        dead_letters=_build_dead_letters(config, store, hub, tenants, webhooks, steady),
        tenants=tenants,
        auth=Auth(tenants, config, clock),
        origins=OriginPolicy(config.server.allowed_origins, config.server.public_url),
        health=HealthCheck(store.writer, clock),
        admission=Admission(_count_descriptors(), _reserve_descriptors(config)),
    )


def _build_webhooks(
    config: WebhooksConfig, store: Store, hub: Hub, tasks: Tasks, clock: Clock, steady: SteadyClock
) -> tuple[WebhookWorker, WebhookQueue]:
    worker = WebhookWorker(store=store, hub=hub, tasks=tasks, clock=clock, steady=steady, config=config)
    return worker, WebhookQueue(hub, steady, config.retry_schedule_seconds[0], worker.wake)


def _build_dead_letters(
    config: Config, store: Store, hub: Hub, tenants: TenantRegistry, worker: WebhookWorker, steady: SteadyClock
) -> DeadLetterQueue:
    first_wait_seconds = config.webhooks.retry_schedule_seconds[0]
    return DeadLetterQueue(
        store=store, hub=hub, tenants=tenants, worker=worker, steady=steady, first_wait_seconds=first_wait_seconds
    )


def _build_appends(store: Store, rooms: Rooms, access: Access, clock: Clock, deltas: Deltas) -> Appends:
    appends = Appends(store, rooms, access, clock)
    appends.deliver = deltas.deliver
    return appends


def _build_presence(config: Config, hub: Hub, last_seen: LastSeen) -> Presence:
    settings = config.websocket
    return Presence(
        hub, last_seen, grace_seconds=settings.presence_grace_seconds, typing_seconds=settings.typing_seconds
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
        epoch=store.epoch,
        sync_limit=config.limits.sync_limit,
        slow_consumer_seconds=config.limits.slow_consumer_seconds,
    )
    hub.recover = recovery.start
    return recovery


def _pick_delay(spread_ms: int) -> int:
    return random.randint(0, spread_ms)  # noqa: S311 - it only spreads the load


@cache
def _prepare_process() -> None:
    """Once per process: a second time malloc would fill the 16 MB below with zeros."""
    # A pause grows with what is new, some 60 objects a connection: 2 ms for the youngest, 18 ms for the next. The
    # thresholds multiply to 100 million objects before all is looked at, which pauses for about 30 us a connection.
    gc.set_threshold(10_000, 5, 2_000)
    # malloc's threshold for mmap rises to what was freed once: else each recv() maps and unmaps its buffer.
    freed = bytes(16 << 20)  # not touched, so that it never counts as resident
    del freed
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # where the kernel has a lower limit than the hard one
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _count_descriptors() -> int:
    """How many this process may have open."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else MANY_DESCRIPTORS


def _reserve_descriptors(config: Config) -> int:
    """The descriptors that the server itself needs."""
    return OWN_DESCRIPTORS + DESCRIPTORS_PER_READER * config.database.readers + config.webhooks.concurrency


def _make_tls(config: Config) -> ssl.SSLContext | None:
    if not config.server.tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(config.server.tls_cert, config.server.tls_key)
    return context
