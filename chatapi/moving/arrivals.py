"""The target of a move (docs/design.md, section 13): takes in a tenant that nobody sees until its source says so."""

import asyncio
import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from chatapi.config import Config
from chatapi.erasures import Erasures
from chatapi.errors import conflict, held, not_found, unauthenticated
from chatapi.models import SERVER_ACTOR, Actor, TenantKey, TenantState
from chatapi.moving.departures import INSTANCE
from chatapi.notifications import Notifications
from chatapi.store import Store, Transaction, audit, handover, moves
from chatapi.store.moves import TableChange, Translation
from chatapi.store.transaction import SqliteConnection
from chatapi.streams import Streams
from chatapi.tenant_bans import TenantBans
from chatapi.tenants import TenantRegistry
from chatapi.webhooks.worker import WebhookWorker

logger = logging.getLogger(__name__)

SECRET_BYTES = 32
QUIET_SECONDS = 3.0  # without rows: then an arrival holds up no purge
CLOCK_SECONDS = 1.0  # that this server's clock may be behind the source's: it waits for so long before T3
BEGIN_AGAIN = "This arrival is not under way any more: begin the move again"


@dataclass(slots=True)
class IncomingTenant:
    """One whose rows come. `rooms` are the keys here of the source's rooms; a restart loses them, and then the source
    begins again. `left_over`: see `Translation`; there are no new ones while this one arrives."""

    arrival_id: str
    tenant_id: str
    tenant_key: TenantKey
    left_over: Sequence[TenantKey]
    rooms: dict[int, int] = field(default_factory=dict)
    rows: int = 0
    is_broken: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def translate(self) -> Translation:
        """For one turn of the writer. Raises ChatError once another arrival has taken this one's place."""
        if self.is_broken:
            raise conflict(BEGIN_AGAIN)
        return Translation(self.tenant_key, self.rooms, {}, self.left_over)


class TenantArrivals:
    def __init__(
        self,
        store: Store,
        tenants: TenantRegistry,
        tenant_bans: TenantBans,
        erasures: Erasures,
        webhooks: WebhookWorker,
        notifications: Notifications,
        streams: Streams,
        config: Config,
        importing: Collection[TenantKey],
    ) -> None:
        self._store = store
        self._tenants = tenants
        self._tenant_bans = tenant_bans
        self._erasures = erasures
        self._webhooks = webhooks
        self._notifications = notifications
        self._streams = streams
        self._config = config
        self._importing = importing
        self._arrivals: dict[str, IncomingTenant] = {}
        self._turn = asyncio.Lock()  # of those that become live
        self._took_s = float("-inf")  # when rows came last, of the machine's clock
        self.arrived = 0  # since the start

    def count(self) -> int:
        """Of the tenants whose rows come."""
        return len(self._arrivals)

    @property
    def is_taking_rows(self) -> bool:
        """A tenant is arriving: the purge leaves it the writer's time. Rows that are left of an earlier stay go as
        rows of the same ids come, and the others afterwards."""
        return bool(self._arrivals) and asyncio.get_running_loop().time() - self._took_s < QUIET_SECONDS

    async def load(self) -> None:
        """Throws away half copies; a sealed arrival waits for its source. Called once, at the start."""
        if count := await self._store.writer.change(handover.discard_unsealed):
            logger.info("half copies of tenants are thrown away", extra={"tenants": count})

    async def begin(
        self, actor: Actor, tenant_id: str, source: str, instance: str, schema: int, now_us: int
    ) -> tuple[str, str]:
        """T1: the arrival's id and its secret. It takes the place of an earlier one from the same source. Raises
        ChatError: CONFLICT, and 503 while it is not certain that the tenant has left."""
        if instance == INSTANCE:
            raise conflict("This is the server that the tenant is on")
        if self._config.database.synchronous != "full":
            raise conflict('A tenant moves only from and to servers with database.synchronous = "full"')
        own = await handover.get_version(self._store.readers)
        if schema != own:
            raise conflict(f"The schemas differ: {schema} there, {own} here. Bring both servers to the same version")
        arrival_id, secret = f"arrival_{secrets.token_hex(10)}", secrets.token_urlsafe(SECRET_BYTES)

        async def apply(transaction: Transaction) -> tuple[TenantKey, list[TenantKey]]:
            self._check_absent(tenant_id)
            _check_clock(now_us, transaction.now_us)
            before = await handover.find_hidden(transaction, tenant_id)
            if before is not None:
                if before.source != source:
                    raise conflict("The tenant is arriving from another server")
                self._forget(before.arrival_id)
                await handover.discard_arrival(transaction, before.arrival_id, tenant_id)
            left_over = await handover.list_left_over(transaction, tenant_id)
            if any(tenant_key in self._importing for tenant_key in left_over):
                raise conflict("The tenant is being imported here")
            tenant_key = await handover.insert_arrival(transaction, arrival_id, tenant_id, source, _hash(secret))
            await audit.record(transaction, actor, "tenant.arrive", tenant_id, tenant_id, audit.BEGUN)
            return tenant_key, left_over

        tenant_key, left_over = await self._store.writer.change(apply, barrier=True)
        self._arrivals[arrival_id] = IncomingTenant(arrival_id, tenant_id, tenant_key, left_over)
        return arrival_id, secret

    def _check_absent(self, tenant_id: str) -> None:
        tenant = self._tenants.find(tenant_id)
        if tenant is not None and tenant.away is None:
            raise conflict("This server has the tenant already")
        if tenant is not None and tenant.moved_to is None:
            raise held("The tenant has just left this server, and the other one has not confirmed that yet")

    def _forget(self, arrival_id: str) -> None:
        """Before its rows are handed to the purge: none may come after that."""
        arrival = self._arrivals.pop(arrival_id, None)
        if arrival is not None:
            arrival.is_broken = True

    async def take_rows(self, arrival_id: str, secret: str, changes: Sequence[TableChange], *, is_copy: bool) -> None:
        """On return they are committed. `is_copy`: rows that are new here, and that come again if they have changed.
        Raises ChatError."""
        await self.check(arrival_id, secret)
        arrival = self._arrivals.get(arrival_id)
        if arrival is None or arrival.is_broken:
            raise conflict(BEGIN_AGAIN)
        async with arrival.turn:
            self._took_s = asyncio.get_running_loop().time()
            try:
                if is_copy:
                    for change in changes:
                        await self._copy(arrival, change)
                else:
                    await self._apply(arrival, changes)
            except BaseException:
                arrival.is_broken = True  # some of it may be there
                raise
            arrival.rows += sum(len(change.rows) for change in changes)

    async def _copy(self, arrival: IncomingTenant, change: TableChange) -> None:
        done = 0
        while done < len(change.rows):

            def work(
                connection: SqliteConnection, is_over: Callable[[], bool], first: int = done
            ) -> tuple[int, dict[int, int]]:
                translation = arrival.translate()
                return moves.insert_rows(connection, translation, change, first, is_over), translation.found

            done, found = await self._store.writer.step(work, is_repeatable=True)
            arrival.rooms.update(found)

    async def _apply(self, arrival: IncomingTenant, changes: Sequence[TableChange]) -> None:
        def work(connection: SqliteConnection) -> dict[int, int]:
            translation = arrival.translate()
            moves.apply_changes(connection, translation, changes)
            return translation.found

        # A turn of its own: rows that do not fit roll back the whole transaction.
        found = await self._store.writer.change(lambda transaction: transaction.run(work), barrier=True)
        arrival.rooms.update(found)

    async def seal(self, arrival_id: str, secret: str, identity: dict[str, Any], counts: dict[str, int]) -> None:
        """T2. Raises ChatError CONFLICT if this is not what the source has."""
        await self.check(arrival_id, secret)
        arrival = self._arrivals.get(arrival_id)
        if arrival is None or arrival.is_broken:
            raise conflict(BEGIN_AGAIN)

        async def apply(transaction: Transaction) -> None:
            own = await transaction.run(partial(moves.count_rows, tenant_key=arrival.tenant_key))
            different = sorted(name for name in {*own, *counts} if own.get(name) != counts.get(name))
            if different:
                raise conflict(
                    f"The copy differs in {', '.join(different)}: ids may be taken here by rows of other tenants",
                    {name: {"here": own.get(name), "there": counts.get(name)} for name in different},
                )
            if not await handover.check_keys(transaction, arrival.tenant_id, identity["keys"]):
                raise conflict("An API key of the tenant is another tenant's here")
            await handover.seal(transaction, arrival_id, identity)

        async with arrival.turn:
            await self._store.writer.change(apply, barrier=True)

    async def go_live(self, arrival_id: str, secret: str) -> None:
        """T3. On return this server serves the tenant; the same again changes nothing. Raises ChatError."""
        async with self._turn:
            stored = await self.check(arrival_id, secret)
            if stored.live_at_us is None:
                await self._set_live(arrival_id, stored)
            await self._tenants.adopt(stored.tenant_key, self._prepare)

    async def _set_live(self, arrival_id: str, stored: handover.StoredArrival) -> None:
        if stored.sealed is None:
            raise conflict(BEGIN_AGAIN)

        async def apply(transaction: Transaction) -> None:
            await handover.set_live(transaction, arrival_id, stored)
            tenant_id = stored.tenant_id
            await audit.record(transaction, SERVER_ACTOR, "tenant.arrive", tenant_id, tenant_id, audit.DONE)
            self._store.writer.note_key(await handover.find_last_key(transaction, stored.tenant_key))

        await self._wait_for_clock(stored.tenant_key)
        await self._store.writer.change(apply, barrier=True)
        self._arrivals.pop(arrival_id, None)
        self.arrived += 1
        logger.info("a tenant has arrived", extra={"tenant_id": stored.tenant_id})

    async def _wait_for_clock(self, tenant_key: TenantKey) -> None:
        """Until what happens here is later than what has happened at the source: cursors of lists go by these times."""
        last_us = await handover.find_last_activity(self._store.readers, tenant_key)
        ahead_s = (last_us + 1 - await self._store.writer.change(handover.read_clock)) / 1_000_000
        if 0 < ahead_s <= CLOCK_SECONDS:
            await asyncio.sleep(ahead_s)

    async def _prepare(self, tenant: TenantState) -> None:
        """All that a start does for its tenants."""
        await self._tenant_bans.load([tenant])
        await self._erasures.load([tenant])
        await self._webhooks.resume([tenant])
        await self._notifications.resume([tenant])
        await self._streams.load([tenant])

    async def abort(self, arrival_id: str, secret: str) -> None:
        """The source has given up. Does nothing to a tenant that is live."""
        stored = await self.check(arrival_id, secret)

        async def apply(transaction: Transaction) -> None:
            found = await handover.find_arrival(transaction, arrival_id)
            if found is not None and found.live_at_us is None:
                self._forget(arrival_id)
                await handover.discard_arrival(transaction, arrival_id, stored.tenant_id)

        await self._store.writer.change(apply, barrier=True)

    async def check(self, arrival_id: str, secret: str) -> handover.StoredArrival:
        """Raises ChatError for an unknown one, and for a wrong secret."""
        stored = await handover.find_arrival(self._store.readers, arrival_id)
        if stored is None:
            raise not_found("Arrival")
        if not hmac.compare_digest(_hash(secret), stored.secret_hash):
            raise unauthenticated("Invalid credentials")
        return stored


def _check_clock(source_us: int, own_us: int) -> None:
    behind_s = (source_us - own_us) / 1_000_000
    if behind_s > CLOCK_SECONDS:
        raise conflict(f"This server's clock is {behind_s:.0f} s behind the other's: set them first")


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
