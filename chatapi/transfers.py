"""Tenants that leave as a file, and come from one: an export, and an import into the running server."""

import asyncio
import os
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

from chatapi.clock import Clock
from chatapi.config import Config, resolve_settings
from chatapi.errors import ChatError, Code, conflict, unavailable
from chatapi.models import Actor, ReplacedSecret, TenantId, TenantKey, TenantState
from chatapi.notifications import Notifications
from chatapi.protocol.json import loads_stored
from chatapi.rooms import Rooms
from chatapi.store import Store, Transaction, audit, handover, purge, tenant_import
from chatapi.store.epochs import make_epoch
from chatapi.store.tenant_export import ExportStopped, export_tenant
from chatapi.store.tenant_import import BadExport, StagedTenant, stage_tenant
from chatapi.store.tenant_tables import ROOMS, TenantTable
from chatapi.store.transaction import SqliteConnection
from chatapi.streams import Streams
from chatapi.tenant_bans import TenantBans
from chatapi.tenants import TenantRegistry
from chatapi.webhooks.worker import WebhookWorker

MAX_EXPORTS = 2  # at once: each holds a read transaction, and takes disk space
MAX_COPIES = 8  # that are made, or that a client has not read whole yet: each takes as much disk space as the tenant
MAX_IMPORTS = 2
LEAVING_SECONDS = 600.0  # for which an import waits until a deleted tenant of the same id has been removed
LOOK_SECONDS = 0.5

_SUFFIXES = ("", "-journal", "-wal", "-shm")


def _remove(path: str) -> None:
    for suffix in _SUFFIXES:
        with suppress(FileNotFoundError):
            os.unlink(path + suffix)


class TenantTransfers:
    """`arriving` are the tenants that are being imported: hidden, and not to be purged."""

    def __init__(
        self,
        store: Store,
        config: Config,
        clock: Clock,
        rooms: Rooms,
        tenants: TenantRegistry,
        tenant_bans: TenantBans,
        streams: Streams,
        notifications: Notifications,
        webhooks: WebhookWorker,
    ) -> None:
        self._store = store
        self._config = config
        self._clock = clock
        self._rooms = rooms
        self._tenants = tenants
        self._tenant_bans = tenant_bans
        self._streams = streams
        self._notifications = notifications
        self._webhooks = webhooks
        self._exports = 0
        self._copies = 0
        self._imports = 0
        self.arriving: set[TenantKey] = set()

    def remove_leftovers(self) -> None:
        """Files that a server left behind when it was killed. Called once, at the start. Blocks."""
        path = Path(self._store.writer.files.path)
        for kind in ("export", "import"):
            for leftover in path.parent.glob(f"{path.name}.{kind}-*"):
                leftover.unlink(missing_ok=True)

    @asynccontextmanager
    async def make_path(self, kind: str) -> AsyncIterator[str]:
        """Of a new file beside the database, which is removed in the end."""
        path = f"{self._store.writer.files.path}.{kind}-{secrets.token_hex(6)}"
        try:
            yield path
        finally:
            await asyncio.to_thread(_remove, path)

    # Export

    @contextmanager
    def hold_copy(self) -> Iterator[None]:
        """For as long as an export takes, its way to the client included. Raises ChatError 503."""
        if self._copies >= MAX_COPIES:
            raise unavailable("Other exports are being read: try again later")
        self._copies += 1
        try:
            yield
        finally:
            self._copies -= 1

    async def export(
        self, actor: Actor, tenant_id: str, target: str, is_cancelled: Callable[[], bool], *, keeps_epoch: bool = False
    ) -> None:
        """Makes the tenant's own database, which the audit tells: it holds secrets. Raises ChatError: 404, 421 for one
        that has moved away, or 503 when it cannot be made now."""
        tenant = self._tenants.get(tenant_id)
        if tenant.away is not None:
            raise tenant.away
        if self._exports >= MAX_EXPORTS:
            raise unavailable("Other exports are under way: try again later")
        self._exports += 1
        is_over = False  # a task that is cancelled does not stop its thread
        try:
            await asyncio.to_thread(
                partial(
                    export_tenant,
                    self._store.writer.files.path,
                    target,
                    tenant.tenant_key,
                    lambda: is_over or is_cancelled() or tenant.gone,
                    keeps_epoch=keeps_epoch,
                )
            )
        except (ExportStopped, OSError) as error:
            raise unavailable(f"The export could not be made: {error}") from error
        finally:
            is_over = True
            self._exports -= 1

        async def note(transaction: Transaction) -> None:
            await audit.record(transaction, actor, "tenant.export", tenant_id, tenant_id)

        await self._store.writer.change(note)

    # Import

    @contextmanager
    def take_turn(self) -> Iterator[None]:
        """For as long as an import takes, the arrival of its file included. Raises ChatError 503."""
        if self._imports >= MAX_IMPORTS:
            raise unavailable("Other imports are under way: try again later")
        self._imports += 1
        try:
            yield
        finally:
            self._imports -= 1

    async def import_file(self, actor: Actor, path: str) -> TenantState:
        """On return the tenant is whole, and served, under a new epoch. The file is changed. Raises ChatError: 400 for
        any other file, 409 if the tenant or one of its keys is there, 503; then nothing of it is seen."""
        staged = await self.stage(path)
        try:
            tenant = await self.copy(staged)
            return await self.reveal(actor, staged, tenant)
        finally:
            await asyncio.to_thread(staged.close)

    async def stage(self, path: str) -> StagedTenant:
        """Judges a file. Raises ChatError 400."""
        try:
            return await asyncio.to_thread(stage_tenant, path, self._clock.now_us())
        except BadExport as error:
            raise ChatError(Code.VALIDATION_ERROR, f"The file cannot be imported: {error}") from error

    async def copy(self, staged: StagedTenant, epoch: str | None = None) -> TenantState:
        """Stores all but the tenant's keys, in short steps. Nobody sees the tenant before `reveal`, nor after
        `discard`; a server that stops before purges it at its next start. `epoch` is a new one, unless it moves along.
        Raises ChatError; then it is discarded."""
        await self._wait_for_room(staged.tenant_id)
        config = self._tenants.check_imported(loads_stored(staged.tenant[3]), staged.hashes.values())
        now_us, new_epoch = self._clock.now_us(), epoch or make_epoch()
        self._store.writer.note_key(staged.last_key)
        tenant_key, base = await self._store.writer.step(
            lambda connection, _is_over: self._begin(staged, new_epoch, now_us, connection)
        )
        tenant = self._make_state(staged, tenant_key, config, new_epoch)
        try:
            for table in tenant_import.COPIED_TABLES:
                await self._copy_table(staged, table, tenant_key, base)
        except BaseException:
            self.discard(tenant)
            raise
        return tenant

    def _begin(
        self, staged: StagedTenant, epoch: str, now_us: int, connection: SqliteConnection
    ) -> tuple[TenantKey, int]:
        tenant_key, base = tenant_import.begin(staged, secrets.token_hex(4), epoch, now_us, connection)
        self.arriving.add(tenant_key)  # before a purge can see it
        return tenant_key, base

    async def _copy_table(self, staged: StagedTenant, table: TenantTable, tenant_key: TenantKey, base: int) -> None:
        batches = staged.read_rows(table, tenant_key, base)
        read_next = partial(asyncio.get_running_loop().run_in_executor, None, next, batches, None)
        is_first = table is ROOMS  # of which the first has come already
        reading = read_next()
        try:
            while batch := await asyncio.shield(reading):
                reading = read_next()  # while these are stored
                rows = deque(batch[1:] if is_first else batch)
                is_first = False
                while rows:
                    work = partial(tenant_import.insert_rows, table, rows, self._store.can_search)
                    done = await self._store.writer.step(work, is_repeatable=True, is_awaited=True)
                    for _ in range(done):
                        rows.popleft()
        finally:
            await asyncio.wait([reading])  # its thread uses the connection, which is closed next
            if not reading.cancelled():
                reading.exception()  # of a batch that nobody wants any more

    async def _check_absent(self, transaction: Transaction, tenant_id: str) -> None:
        found = self._tenants.find(tenant_id)
        if found is not None and found.away is not None:
            raise conflict(f"The tenant {tenant_id} has moved to another server: delete it here first")
        if found is not None:
            raise conflict(f"The tenant {tenant_id} is here already")
        if await handover.find_hidden(transaction, tenant_id) is not None:
            raise conflict(f"The tenant {tenant_id} is arriving from another server")

    async def _wait_for_room(self, tenant_id: str) -> None:
        """Until nothing is left of an earlier stay: it is purged as fast as an import goes on. Raises ChatError."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + LEAVING_SECONDS

        async def is_purging(transaction: Transaction) -> bool:
            await self._check_absent(transaction, tenant_id)
            return bool(await handover.list_left_over(transaction, tenant_id))

        while await self._store.writer.change(is_purging):
            if loop.time() > end_s:
                raise conflict(f"The tenant {tenant_id} was deleted and is still being removed: try again later")
            work = partial(purge.purge_deleted, arriving=self.arriving)
            if not await self._store.writer.step(work, is_awaited=True):
                await asyncio.sleep(LOOK_SECONDS)  # another import of this tenant is under way

    def _make_state(
        self, staged: StagedTenant, tenant_key: TenantKey, config: dict[str, object], epoch: str
    ) -> TenantState:
        _, tenant_id, name, _, token_secret, webhook_secret, replaced, created_at_us, _ = staged.tenant
        return TenantState(
            tenant_key=tenant_key,
            tenant_id=TenantId(tenant_id),
            name=name,
            token_secret=token_secret,
            config=config,
            settings=resolve_settings(config, self._config),
            created_at_us=created_at_us,
            epoch=epoch,
            webhook_secret=webhook_secret,
            replaced_webhook_secrets=[ReplacedSecret(*item) for item in loads_stored(replaced)],
        )

    async def reveal(self, actor: Actor, staged: StagedTenant, tenant: TenantState) -> TenantState:
        """From the commit of this on the tenant is served. Raises ChatError; then it is discarded."""
        try:
            await self._streams.load([tenant])  # before anybody can ask for one

            async def apply(transaction: Transaction) -> None:
                await self._check_absent(transaction, staged.tenant_id)
                await tenant_import.reveal(transaction, staged, tenant.tenant_key, tenant.epoch)
                await audit.record(transaction, actor, "tenant.import", tenant.tenant_id, tenant.tenant_id)

            def publish(_: None) -> None:
                self._tenant_bans.adopt(tenant, staged.bans)
                self._tenants.add_imported(tenant, staged.hashes)
                self.arriving.discard(tenant.tenant_key)

            await self._store.writer.change(apply, publish, barrier=True)
        except ChatError:
            self._rooms.drop_tenant(tenant.tenant_key)
            self.discard(tenant)
            raise
        await self._webhooks.resume([tenant])
        await self._notifications.resume([tenant])
        return tenant

    def discard(self, tenant: TenantState) -> None:
        """The rows of a tenant that was not revealed are purged, like those of a deleted one."""
        self.arriving.discard(tenant.tenant_key)
