"""The composition root: every object is built here once, in order, and closed in reverse."""

import asyncio
import contextlib
import gc
import logging
import random
import resource
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from chatapi.admission import Admission
from chatapi.clock import Clock
from chatapi.config import Config
from chatapi.dev_tools import DevTools
from chatapi.errors import unavailable
from chatapi.hub import Hub
from chatapi.memory_left import MIB, find_reader, make_reader_of_own
from chatapi.memory_watch import MemoryWatch
from chatapi.protocol.encoders import encode_frame
from chatapi.protocol.server_frames import ServerShutdownFrame
from chatapi.relief import keep_memory
from chatapi.rest import list_routes
from chatapi.rest.arrivals import ARRIVAL_ROUTES
from chatapi.rest.call import RawRoute, Route
from chatapi.rest.dev import HOOK, HOOK_ROUTE
from chatapi.rest.edge import Edge
from chatapi.rest.faulty import FaultyEdge, FaultyServer
from chatapi.rest.files import make_file_routes
from chatapi.rest.listener import Listener
from chatapi.rest.server import EnvelopeServer
from chatapi.services import Services
from chatapi.store import check_usable
from chatapi.store.blank import copy_blank, make_blank, overwrite, remove_database
from chatapi.store.lock import DatabaseLock
from chatapi.tasks import Tasks
from chatapi.tenants import DEV_TENANT_ID
from chatapi.world import World, open_world
from chatapi.ws.faulty_session import FaultySession
from chatapi.ws.handshake import serve_websocket

logger = logging.getLogger(__name__)

GOING_AWAY = 1001
BODIES_UNTIL = 0.9  # of the grace; a body that has not arrived by then is answered with 503
OWN_DESCRIPTORS = 64  # the interpreter's, the loop's, the lock's, those of backups and name servers
MANY_DESCRIPTORS = 1 << 20  # where the system has no limit
DESCRIPTORS_PER_READER = 3  # the database, its WAL and its shared memory
RECONNECT_MS_PER_CONNECTION = 1  # those who were connected come back over this long, at random...
MIN_RECONNECT_MS = 1_000  # ...and over at least this
BLANK = "blank.db"  # beside the databases of a test server
RESET_SUFFIX = ".reset"
END_SECONDS = 1.0  # after a reset, for clients to answer that their connection is closed
MAX_ENDING = 4  # worlds, each with its threads

RAW_ROUTES = (RawRoute("GET", "/ws", serve_websocket),)
DEV_RAW_ROUTES = (
    RawRoute("GET", "/ws", partial(serve_websocket, session_type=FaultySession)),
    HOOK_ROUTE,
)


class App:
    """A running server. Made by `start_app`; `close` ends it in order."""

    def __init__(self, config: Config, clock: Clock, dev: DevTools | None, on_crash: Callable[[str], None]) -> None:
        self.world: World
        """Replaced by a reset."""
        self.server: EnvelopeServer
        self.addresses: Sequence[str] = ()
        """Where it listens."""
        self.tasks = Tasks(on_crash)
        """Those that outlive a reset."""
        self.opened = contextlib.AsyncExitStack()
        """Everything that `close` closes."""
        self._config = config
        self._clock = clock
        self._dev = dev
        self._on_crash = on_crash
        self._edge: Edge
        self._resetting = asyncio.Lock()
        self._resets = 0
        self._ending: set[asyncio.Task[None]] = set()  # worlds before the last resets
        self._memory = _watch_memory(config)
        self._admission = Admission(_count_descriptors(), _reserve_descriptors(config), self._memory)

    @property
    def services(self) -> Services:
        return self.world.services

    async def close(self) -> None:
        """No new connections; everyone is told; requests and queued writes end; then the database closes.

        Takes at most `shutdown_grace_seconds`, but what was taken by the writer is committed whatever that takes.
        """
        await self.opened.aclose()

    async def start(self, opened: contextlib.AsyncExitStack, on_listening: Callable[[], None]) -> None:
        """Opens everything; `opened` closes it again."""
        config, dev = self._config, self._dev
        tls = _make_tls(config)
        raw_routes = (RAW_ROUTES if dev is None else DEV_RAW_ROUTES) + ARRIVAL_ROUTES + make_file_routes(config)
        check_usable(config.database.path)  # before the lock makes a file beside it
        lock = opened.enter_context(DatabaseLock(config.database.path))
        await self._open_world(config, lock)
        opened.push_async_callback(self._close_world)
        opened.push_async_callback(self._end_tasks)
        self._build_server(list_routes(config, is_dev=dev is not None), raw_routes)
        opened.push_async_callback(self.server.end)
        opened.push_async_callback(self._finish_writes)
        self.tasks.start("memory", keep_memory(self._memory, lambda: self.services, self.server.refuse_bodies))
        listener = Listener(self.server, self._admission, self.tasks, tls)
        opened.push_async_callback(self._drain, listener)
        self.addresses = _listen(config, listener)
        on_listening()
        if dev is not None:
            await self._prepare_resets(dev)

    def _build_server(self, routes: tuple[Route, ...], raw_routes: tuple[RawRoute, ...]) -> None:
        """Only one that makes faults asks, for each request and write, whether it is to make one."""
        if self._dev is None:
            self._edge = Edge(self.services, routes, raw_routes)
            self.server = EnvelopeServer(self._edge, self._admission)
        else:
            self._edge = FaultyEdge(self.services, routes, raw_routes, self._dev.faults)
            self.server = FaultyServer(self._edge, self._admission, self._dev.faults)

    async def _open_world(self, config: Config, lock: DatabaseLock | None = None) -> None:
        self.world = await open_world(config, self._clock, self._admission, self._dev, self._on_crash, lock)

    async def _prepare_resets(self, dev: DevTools) -> None:
        dev.reset = self.reset
        dev.clock.is_busy = lambda: self.world.is_busy
        if self.addresses[0].startswith("http://"):
            await self.services.tenants.set_dev_webhook(self.addresses[0] + HOOK)
        if dev.scratch is not None:
            await self._make_first_blank(dev.scratch / BLANK)

    async def _make_first_blank(self, blank: Path) -> None:
        """A restart keeps it: the tenant may have other settings by now, which a reset takes away."""
        if await asyncio.to_thread(blank.exists):
            return
        unfinished = blank.with_suffix(RESET_SUFFIX)
        await make_blank(self._config.database.path, str(unfinished), DEV_TENANT_ID, self._clock)
        await asyncio.to_thread(unfinished.rename, blank)

    async def reset(self) -> None:
        """Under `--dev` and `--test`: on return nothing but the printed tenant is left, in a new world. The old one may
        still finish its work, on a database that nobody reads any more."""
        dev = self._dev
        assert dev is not None
        async with self._resetting:
            before = self.world
            dev.faults.end()
            before.calling.cancel()  # its webhooks arrive before the new world is there, or never
            await dev.clock.go_back()
            try:
                if dev.scratch is None:
                    await self._begin_again(before)
                else:
                    await self._begin_beside(before, dev.scratch)
            except BaseException:
                self._on_crash("reset")
                raise
            dev.inbox.clear()

    async def _begin_beside(self, before: World, scratch: Path) -> None:
        self._resets += 1
        path = str(scratch / f"{self._resets}.db")
        await asyncio.to_thread(copy_blank, str(scratch / BLANK), path)
        await self._open_world(replace(self._config, database=replace(self._config.database, path=path)))
        self._edge.serve(self.services)
        while len(self._ending) >= MAX_ENDING:
            await asyncio.wait(self._ending, return_when=asyncio.FIRST_COMPLETED)
        _send_away(before.services, 0)
        ending = self.tasks.spawn("the world before", _discard(before))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _begin_again(self, before: World) -> None:
        """At the same path, where the developer expects the database."""
        path = self._config.database.path
        _send_away(before.services, 0)
        await _end(before)
        await make_blank(path, path + RESET_SUFFIX, DEV_TENANT_ID, self._clock)
        await asyncio.to_thread(overwrite, path, path + RESET_SUFFIX)
        await self._open_world(self._config)
        self._edge.serve(self.services)

    async def _end_tasks(self) -> None:
        while self._ending:
            await asyncio.wait(self._ending)
        await self.tasks.close()

    async def _close_world(self) -> None:
        await self.world.close()

    async def _finish_writes(self) -> None:
        await self.world.finish_writes()

    async def _drain(self, listener: Listener) -> None:
        """Returns once all requests are answered and webhook calls have ended, at the latest at the end of the
        grace."""
        services, server = self.services, self.server
        if self._dev is not None:
            self._dev.faults.end()  # else nobody would hear that the server goes away
        grace_seconds = services.config.server.shutdown_grace_seconds
        stopping = unavailable("The server is shutting down")
        last_call = asyncio.get_running_loop().call_later(BODIES_UNTIL * grace_seconds, server.refuse_bodies, stopping)
        try:
            async with asyncio.timeout(grace_seconds):
                listener.close()
                services.webhooks.close()
                services.presence.note_all()
                _send_away(services, MIN_RECONNECT_MS)
                await _wait_for_connections(services.hub)
                await server.finish()
                await asyncio.wait([self.world.calling])
        except TimeoutError:
            logger.warning("requests were cut off at the end of the grace")
        finally:
            last_call.cancel()


async def start_app(
    config: Config,
    *,
    clock: Clock,
    dev: DevTools | None,
    on_crash: Callable[[str], None],
    on_listening: Callable[[], None] = lambda: None,
) -> App:
    """Builds everything. Raises StoreError, DatabaseInUse or OSError; then nothing is left open.

    Everything is noted for closing as soon as it is open, and closed in reverse: at once if a later step fails, else by
    `App.close`. `on_crash(task)` is called when a long-lived task has failed: the server has to be closed then.
    `on_listening` is called before the first request is taken, which may be before this returns.
    """
    _prepare_process()
    app = App(config, clock, dev, on_crash)
    async with contextlib.AsyncExitStack() as opened:
        await app.start(opened, on_listening)
        app.opened = opened.pop_all()
    # The collector does not look again at objects that live at this point (docs/design.md, section 7).
    gc.collect()
    gc.freeze()
    return app


def _listen(config: Config, listener: Listener) -> list[str]:
    """Accepts connections from here on. Raises OSError."""
    if config.server.unix_socket:
        return listener.listen_at_path(config.server.unix_socket)
    return listener.listen_on_host(config.server.host, config.server.port)


async def _end(world: World) -> None:
    """Returns once its database is closed. Its connections were sent away: they need it no more, and end by
    themselves."""
    world.services.webhooks.close()
    await world.close()


async def _discard(world: World) -> None:
    """As `_end`, with the files of its database. Requests that are under way may find it a moment longer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            await _wait_for_connections(world.services.hub)
    await _end(world)
    await asyncio.to_thread(remove_database, world.services.config.database.path)


def _send_away(services: Services, min_spread_ms: int) -> None:
    """All connections. From now on no other is let in."""
    services.health.is_draining = True
    hub = services.hub
    connections = list(hub.connections.values())
    spread_ms = max(min_spread_ms, RECONNECT_MS_PER_CONNECTION * len(connections))
    for connection in connections:
        frame = encode_frame(ServerShutdownFrame(reconnect_after_ms=_pick_delay(spread_ms)))
        hub.send(connection, frame)
        hub.close(connection, GOING_AWAY, reason="server going away")
    hub.flush()


async def _wait_for_connections(hub: Hub) -> None:
    """Returns once none is left."""
    while hub.connections:  # noqa: ASYNC110 - an event for this would have to be kept by every detach
        await asyncio.sleep(0.01)  # each session ends by itself: its peer has answered, or is cut off


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


def _watch_memory(config: Config) -> MemoryWatch:
    limit_mb = config.server.memory_limit_mb
    return MemoryWatch(make_reader_of_own(limit_mb * MIB) if limit_mb else find_reader())


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
