"""The composition root: every object is built here once, in order, and closed in reverse."""

import asyncio
import gc
import logging
import os
import random
import resource
import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

from aiohttp import web

from chatapi.access import Access
from chatapi.auth import Auth
from chatapi.chat import Chat
from chatapi.clock import Clock, SteadyClock
from chatapi.config import Config
from chatapi.errors import ChatError
from chatapi.housekeeping import keep_house
from chatapi.hub import Hub
from chatapi.membership import Membership
from chatapi.origin import OriginPolicy
from chatapi.outbox.dead_letters import DeadLetters
from chatapi.outbox.notifications import Notifications
from chatapi.outbox.offline import Offline
from chatapi.outbox.webhooks import Webhooks
from chatapi.presence import Presence
from chatapi.protocol.replies import encode_frame
from chatapi.receipts import Receipts
from chatapi.recovery import Recovery
from chatapi.rest import list_routes
from chatapi.rest.call import RawRoute
from chatapi.rest.edge import Edge
from chatapi.rest.files import make_file_routes
from chatapi.rest.server import EnvelopeServer
from chatapi.room_lists import RoomLists
from chatapi.rooms import Rooms
from chatapi.services import Services
from chatapi.store import Write, check_usable, open_store
from chatapi.store.lock import DatabaseLock
from chatapi.tasks import Tasks
from chatapi.tenants import Tenants
from chatapi.ws.handshake import serve_websocket
from chatapi.ws.heartbeat import watch_connections

logger = logging.getLogger(__name__)

GOING_AWAY = 1001
LISTEN_BACKLOG = 4096  # connections that the kernel holds while the loop is busy with a storm
SOCKET_SEND_BYTES = 64 * 1024  # else the kernel hides 3.9 MB per client before we notice that it does not read
# The folder says who may connect: a proxy is another user, and a umask that guards the database must not shut it out.
UNIX_SOCKET_MODE = 0o666
RECONNECT_MS_PER_CONNECTION = 1  # those who were connected come back over this long, at random...
MIN_RECONNECT_MS = 1_000  # ...and over at least this

RAW_ROUTES = (RawRoute("GET", "/ws", serve_websocket),)


class App:
    """A running server. Made by `start_app`; `close` ends it in order."""

    def __init__(self, services: Services, runner: web.ServerRunner, lock: DatabaseLock, writing: asyncio.Task[None]):
        self.services = services
        self._runner = runner
        self._lock = lock
        self._writing = writing
        self._calling: asyncio.Task[None] | None = None
        self.addresses: list[str] = []

    def start_webhooks(self) -> None:
        self._calling = self.services.tasks.start("webhooks", self.services.webhooks.run())

    async def listen(self) -> None:
        """Accepts connections from here on; `addresses` says where. Raises OSError."""
        server = self.services.config.server
        tls = _make_tls(self.services.config)
        if server.unix_socket:
            await self._listen_at(server.unix_socket, tls)
            return
        for listening in _bind(server.host, server.port):
            await web.SockSite(self._runner, listening, backlog=LISTEN_BACKLOG, ssl_context=tls).start()
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            self.addresses.append(f"{'https' if tls else 'http'}://{shown}:{port}")

    async def _listen_at(self, path: str, tls: ssl.SSLContext | None) -> None:
        """A socket that a killed server has left behind is replaced, one that is in use is not."""
        _check_unix_path(path)
        try:
            await web.UnixSite(self._runner, path, backlog=LISTEN_BACKLOG, ssl_context=tls).start()
            os.chmod(path, UNIX_SOCKET_MODE)
        except OSError as error:
            raise OSError(f"{path}: {error.strerror}") from error
        self.addresses.append(f"unix:{path}")

    async def close(self) -> None:
        """No new connections; everyone is told; requests and queued writes end; then the database closes.

        Takes at most `shutdown_grace_seconds`, but what was taken by the writer is committed whatever that takes.
        """
        services = self.services
        services.is_draining = True
        try:
            async with asyncio.timeout(services.config.server.shutdown_grace_seconds):
                for site in list(self._runner.sites):
                    await site.stop()
                services.webhooks.close()
                await self._send_away()
                await self._runner.cleanup()
                if self._calling is not None:
                    await asyncio.wait([self._calling])
        except TimeoutError:
            logger.warning("requests were cut off at the end of the grace")
        finally:
            await self._finish_writes()
            await services.tasks.close()
            await services.store.close()
            self._lock.release()

    async def _send_away(self) -> None:
        hub = self.services.hub
        connections = list(hub.connections.values())
        spread_ms = max(MIN_RECONNECT_MS, RECONNECT_MS_PER_CONNECTION * len(connections))
        for connection in connections:
            frame = encode_frame("server.shutdown", {"reconnect_after_ms": _pick_delay(spread_ms)})
            hub.send(connection, frame)
            hub.close(connection, GOING_AWAY, reason="server going away")
        hub.flush()
        while hub.connections:  # noqa: ASYNC110 - an event for this would have to be kept by every detach
            await asyncio.sleep(0.01)  # each session ends by itself: its peer has answered, or is cut off

    async def _finish_writes(self) -> None:
        services = self.services
        try:
            await services.tenants.write_used_keys()
        except ChatError as error:
            logger.warning("when keys were last used is not noted: %s", error.message)
        services.store.writer.close()
        await asyncio.wait([self._writing])


async def start_app(config: Config, *, clock: Clock, dev: bool, on_crash: Callable[[str], None]) -> App:
    """Builds everything. Raises StoreError, DatabaseInUse or OSError; then nothing is left open.

    `on_crash(task)` is called when a long-lived task has failed: the server has to be closed then.
    """
    _prepare_process()
    raw_routes = (*RAW_ROUTES, *make_file_routes(config))
    lock = DatabaseLock(config.database.path)
    check_usable(config.database.path)  # before the lock makes a file beside it
    lock.acquire()
    try:
        store = await open_store(
            config.database.path,
            synchronous=config.database.synchronous,
            readers=config.database.readers,
            clock=clock,
        )
    except BaseException:
        lock.release()
        raise
    tasks = Tasks(on_crash)
    hub = Hub(clock)
    rooms = Rooms(store.readers, clock)
    settings = config.websocket
    presence = Presence(hub, grace_seconds=settings.presence_grace_seconds, typing_seconds=settings.typing_seconds)
    recovery = Recovery(
        readers=store.readers,
        rooms=rooms,
        hub=hub,
        tasks=tasks,
        sync_limit=config.limits.sync_limit,
        slow_consumer_seconds=config.limits.slow_consumer_seconds,
    )
    hub.recover = recovery.start
    access = Access(rooms)
    chat = Chat(store, rooms, hub, presence, access)
    tenants = Tenants(store, config, clock, rooms, hub)
    steady = SteadyClock(clock, store.latest_us)
    webhooks = Webhooks(store=store, hub=hub, tasks=tasks, clock=clock, steady=steady, config=config.webhooks)
    first_wait_seconds = config.webhooks.retry_schedule_seconds[0]
    offline = Offline(hub, steady, first_wait_seconds, webhooks.wake)

    def publish(batch: Sequence[Write]) -> None:
        chat.publish(batch)
        offline.tell_worker()

    store.writer.admit, store.writer.accompany, store.writer.publish = chat.admit, offline.accompany, publish
    services = Services(
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
        access=access,
        chat=chat,
        membership=Membership(store, rooms, hub, presence, access),
        receipts=Receipts(store, hub, access),
        notifications=Notifications(store, hub, access, offline),
        webhooks=webhooks,
        dead_letters=DeadLetters(
            store=store,
            hub=hub,
            tenants=tenants,
            worker=webhooks,
            steady=steady,
            first_wait_seconds=first_wait_seconds,
        ),
        tenants=tenants,
        auth=Auth(tenants, config, clock),
        origins=OriginPolicy(config.server.allowed_origins, config.server.public_url),
        started_at_s=clock.monotonic_s(),
    )
    writing = tasks.start("writer", store.writer.run())
    runner = web.ServerRunner(EnvelopeServer(Edge(services, list_routes(config), raw_routes)))
    app = App(services, runner, lock, writing)
    try:
        await tenants.load()
        if dev:
            services.dev_key = await tenants.ensure_dev_tenant()
        await webhooks.resume(tenants.all())
        app.start_webhooks()
        await runner.setup()
        tasks.start("heartbeat", watch_connections(services))
        keep_house(services)
        await app.listen()
    except BaseException:
        await app.close()
        raise
    # What lives from here on is not looked at by the collector again (DESIGN section 5).
    gc.collect()
    gc.freeze()
    return app


def _pick_delay(spread_ms: int) -> int:
    return random.randint(0, spread_ms)  # noqa: S311 - it only spreads the load


def _prepare_process() -> None:
    """Once per process."""
    # A pause grows with what is new, some 60 objects a connection: 2 ms for the youngest, 18 ms for the next. The
    # thresholds multiply to 100 million objects before all is looked at, which pauses for about 30 us a connection.
    gc.set_threshold(10_000, 5, 2_000)
    # malloc's threshold for mmap rises to what was freed once: else each recv() maps and unmaps its buffer.
    freed = bytes(16 << 20)  # not touched, so that it never counts as resident
    del freed
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _bind(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of the host; only the first one when the port is for the system to pick.

    Raises OSError that says where.
    """
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise OSError(f"{host}: {error.strerror}") from error
    addresses = list(dict.fromkeys((family, address[:2]) for family, _, _, _, address in infos))
    sockets: list[socket.socket] = []
    for family, address in addresses[:1] if port == 0 else addresses:
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_SEND_BYTES)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            listening.bind(address)
        except OSError as error:
            for opened in [*sockets, listening]:
                opened.close()
            raise OSError(f"{host} port {port}: {error.strerror}") from error
        sockets.append(listening)
    return sockets


def _check_unix_path(path: str) -> None:
    """Raises OSError unless the path is free, or a socket at which nobody listens any more."""
    if Path(path).exists() and not Path(path).is_socket():
        raise OSError(f"{path}: there is a file that is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return
        except BlockingIOError:
            pass  # it is there, with a full backlog
        except OSError as error:
            raise OSError(f"{path}: {error.strerror}") from error
    raise OSError(f"{path}: another server listens there")


def _make_tls(config: Config) -> ssl.SSLContext | None:
    if not config.server.tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(config.server.tls_cert, config.server.tls_key)
    return context
