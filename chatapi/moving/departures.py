"""The source of a move (docs/design.md, section 13): copies a tenant that works, holds it, hands it over, and stands by
that for good."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from msgspec import UNSET, UnsetType

from chatapi.config import Config
from chatapi.errors import ChatError, conflict, held
from chatapi.last_seen import LastSeen
from chatapi.log_lines import Seldom
from chatapi.models import SERVER_ACTOR, Actor, TenantKey, TenantState
from chatapi.moving.peer import BUSY, PeerError, TargetServer, check_url
from chatapi.piping import Pipes
from chatapi.protocol.move_records import MoveState
from chatapi.rooms import Rooms
from chatapi.store import Store, Transaction, audit, handover, moves
from chatapi.store.moves import TableChange
from chatapi.store.transaction import SqliteConnection
from chatapi.tasks import Tasks
from chatapi.tenants import TenantRegistry

logger = logging.getLogger(__name__)

HOLD_SECONDS = 30.0  # docs/contract.md: then the source goes on
FEW_ROWS = 200  # that have changed: they are sent within the hold, in some 50 ms
MAX_ROUNDS = 1_000  # before the hold: a tenant that changes faster than that is held all the same
CONFIRM_SECONDS = (0.05, 5.0)  # between two tries to reach the target, growing
WAIT_SECONDS = 60.0  # for a target that cannot take it now: the tenant has just left it, or it is starting

INSTANCE = secrets.token_hex(12)
"""Of this process: a target that answers with it is the source itself."""

Arrival = tuple[str, str]
"""The arrival's id at the target, and its secret."""


@dataclass(slots=True)
class Move:
    """One that is under way. `state` is what the operator sees."""

    tenant: TenantState
    url: str
    actor: Actor = SERVER_ACTOR
    state: Literal["copying", "held", "moved"] = "copying"
    is_recorded: bool = False  # that it has begun
    rows: int = 0  # sent
    held_s: float = 0.0  # when the hold began, of the machine's clock
    hold_seconds: float = 0.0  # how long it took
    arrival: Arrival | None = None
    done: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Departures:
    """At most one tenant is copied at a time. Each that has moved has a task that asks its target until it confirms."""

    def __init__(
        self,
        store: Store,
        tenants: TenantRegistry,
        rooms: Rooms,
        pipes: Pipes,
        last_seen: LastSeen,
        tasks: Tasks,
        config: Config,
    ) -> None:
        self._store = store
        self._tenants = tenants
        self._rooms = rooms
        self._pipes = pipes
        self._last_seen = last_seen
        self._tasks = tasks
        self._is_https = bool(config.server.tls_cert) or config.server.public_url.startswith("https:")
        self._is_durable = config.database.synchronous == "full"
        self._moves: dict[str, Move] = {}  # by tenant_id
        self._seldom = Seldom(logger)
        self.moved = 0  # since the start
        self.given_up = 0

    async def load(self) -> None:
        """Goes on where the last server ended. Called once, at the start."""
        for departure in await handover.load_departures(self._store.readers):
            tenant = self._tenants.find_by_key(departure.tenant_key)
            if tenant is None:
                continue  # it was deleted
            if departure.secret is None:
                self._tenants.set_moved(tenant, departure.url)
            else:
                self._begin_waiting(tenant)
                move = Move(tenant, departure.url, state="moved", arrival=(departure.arrival_id, departure.secret))
                self._moves[tenant.tenant_id] = move
                self._tasks.spawn(f"handing over {tenant.tenant_id}", self._confirm(move))

    def find_state(self, tenant: TenantState) -> MoveState | UnsetType:
        """The state that the operator sees."""
        move = self._moves.get(tenant.tenant_id)
        if move is not None:
            return MoveState(state=move.state, url=move.url, rows=move.rows)
        return UNSET if tenant.moved_to is None else MoveState(state="moved", url=tenant.moved_to, rows=0)

    @property
    def states(self) -> Iterator[str]:
        """Of the moves that are under way."""
        return (move.state for move in self._moves.values())

    async def move(self, actor: Actor, tenant_id: str, to: str, master_key: str) -> Move:
        """On return the target serves the tenant. Joins the same move if it is under way. Raises ChatError; then this
        server goes on to serve it, unless the state is `moved`: it has been handed over, and that goes on by itself."""
        tenant = self._tenants.get(tenant_id)
        url = check_url(to, is_https=self._is_https)
        move = self._moves.get(tenant_id)
        if move is None:
            if tenant.moved_to is not None:
                if tenant.moved_to != url:
                    raise conflict("The tenant has moved already", {"url": tenant.moved_to})
                return Move(tenant, url, state="moved")
            move = self._start(actor, tenant, url, master_key)
        elif move.url != url:
            raise conflict("The tenant is on its way to another server", {"url": move.url, "state": move.state})
        await asyncio.shield(move.done)
        return move

    def _start(self, actor: Actor, tenant: TenantState, url: str, master_key: str) -> Move:
        if not self._is_durable:
            raise conflict('A tenant moves only from and to servers with database.synchronous = "full"')
        if any(move.state != "moved" for move in self._moves.values()):
            raise conflict("Another tenant is being moved: one at a time")
        move = self._moves[tenant.tenant_id] = Move(tenant, url, actor)
        move.done.add_done_callback(lambda done: done.exception())  # nobody may wait for it
        self._tasks.spawn(f"moving {tenant.tenant_id}", self._run(move, master_key))
        return move

    async def _run(self, move: Move, master_key: str) -> None:
        peer = TargetServer(move.url)
        error: ChatError | None = None
        try:
            move.arrival = await self._begin(peer, move, master_key)
            await self._copy(peer, move, move.arrival)
            async with asyncio.timeout(HOLD_SECONDS):
                await self._hand_over(peer, move, move.arrival)
        except PeerError as failure:
            error = failure.as_error()
        except ChatError as failure:
            error = failure
        except TimeoutError:
            error = held("The other server did not take the rest in time: this one goes on")
        except Exception as failure:  # the writer's, or a bug: the tenant may not stay held
            logger.exception("the move has failed", extra={"tenant_id": move.tenant.tenant_id})
            error = held(f"The move has failed: {type(failure).__name__}")
        await peer.close()
        await self._end_hold(move)
        if move.state == "moved":
            await self._confirm(move)
            return
        self._moves.pop(move.tenant.tenant_id, None)
        self.given_up += 1
        move.done.set_exception(error or held("The move has failed"))
        logger.warning("the move was given up", extra={"tenant_id": move.tenant.tenant_id, "url": move.url})
        await self._abort(move)

    async def _begin(self, peer: TargetServer, move: Move, master_key: str) -> Arrival:
        """Waits for a target that is busy."""
        body = {
            "tenant_id": move.tenant.tenant_id,
            "source": await handover.get_server(self._store.readers),
            "instance": INSTANCE,
            "schema": await handover.get_version(self._store.readers),
            "now_us": await self._store.writer.change(handover.read_clock),
        }
        loop = asyncio.get_running_loop()
        end_s = loop.time() + WAIT_SECONDS
        while True:
            try:
                return await peer.begin(master_key, body)
            except PeerError as error:
                if error.status != BUSY or loop.time() >= end_s:
                    raise
            await asyncio.sleep(CONFIRM_SECONDS[0] * 4)

    # Copying

    async def _copy(self, peer: TargetServer, move: Move, arrival: Arrival) -> None:
        tenant_key = move.tenant.tenant_key

        async def note(transaction: Transaction) -> None:
            await transaction.run(partial(moves.start_noting, tenant_key=tenant_key))
            await _record(transaction, move, audit.BEGUN)

        def publish(_result: None) -> None:
            move.is_recorded = True

        await self._store.writer.change(note, publish, barrier=True)
        pages = moves.walk_rows(self._store.writer.files.path, tenant_key)
        try:
            while (page := await asyncio.to_thread(next, pages, None)) is not None:
                await peer.send_rows(arrival, [page], is_copy=True)
                move.rows += len(page.rows)
        finally:
            await asyncio.to_thread(pages.close)  # type: ignore[attr-defined]  # it is a generator
        for _ in range(MAX_ROUNDS):
            changes, left = await self._store.writer.step(_take_noted)
            await self._send_changes(peer, move, arrival, changes)
            if left <= FEW_ROWS:
                return

    async def _send_changes(self, peer: TargetServer, move: Move, arrival: Arrival, changes: list[TableChange]) -> None:
        if changes:
            await peer.send_rows(arrival, changes, is_copy=False)
            move.rows += sum(len(change.rows) + len(change.gone) for change in changes)

    # The hold

    async def _hand_over(self, peer: TargetServer, move: Move, arrival: Arrival) -> None:
        """On return S1 is on disk."""
        tenant = move.tenant
        await self._begin_hold(move)
        while True:
            changes, _left = await self._store.writer.change(
                lambda transaction: transaction.run(lambda connection: _take_noted(connection, lambda: False))
            )
            if not changes:
                break
            await self._send_changes(peer, move, arrival, changes)

        async def read(transaction: Transaction) -> tuple[dict[str, object], dict[str, int]]:
            identity = await transaction.run(lambda connection: handover.read_identity(connection, tenant.tenant_key))
            return identity, await transaction.run(lambda connection: moves.count_rows(connection, tenant.tenant_key))

        identity, counts = await self._store.writer.change(read)
        await peer.seal(arrival, identity, counts)
        await self._write_moved(move, arrival)

    async def _begin_hold(self, move: Move) -> None:
        """Everything that was queued before is committed and published; every later write of the tenant is refused."""
        tenant = move.tenant
        guard = partial(moves.raise_guard, tenant_key=tenant.tenant_key)

        def publish(_result: None) -> None:
            move.state = "held"
            move.held_s = asyncio.get_running_loop().time()
            tenant.hold = held("The tenant is on its way to another server")
            self._last_seen.hold(tenant.tenant_key)

        await self._pipes.end_all(tenant.tenant_key, held("The tenant is on its way to another server"))
        self._last_seen.hold(tenant.tenant_key)
        await self._store.writer.change(lambda transaction: transaction.run(guard), publish, barrier=True)

    async def _write_moved(self, move: Move, arrival: Arrival) -> None:
        """S1, in a turn in which the guard stands: a hold that was given up has taken it away."""
        tenant = move.tenant
        departure = handover.Departure(tenant.tenant_key, move.url, *arrival)

        async def apply(transaction: Transaction) -> None:
            if not await transaction.run(lambda connection: moves.has_guard(connection, tenant.tenant_key)):
                raise held("The hold has ended")
            await handover.insert_departure(transaction, departure)
            await _record(transaction, move, audit.DONE)

        def publish(_result: None) -> None:
            move.state = "moved"
            self._begin_waiting(tenant)

        await self._store.writer.change(apply, publish, barrier=True)

    async def _end_hold(self, move: Move) -> None:
        """On return it is certain whether S1 is on disk: this turn comes behind whatever the writer was given before.
        After S1 the guard stays. It is tried until it is done: nobody may tell the target to forget the arrival before.
        """
        tenant = move.tenant

        def work(connection: SqliteConnection) -> None:
            moves.stop_noting(connection)
            if move.state != "moved":
                moves.drop_guard(connection, tenant.tenant_key)

        async def apply(transaction: Transaction) -> None:
            await transaction.run(work)
            if move.is_recorded and move.state != "moved":
                await _record(transaction, move, audit.GIVEN_UP)

        def publish(_result: None) -> None:
            self._pipes.take_again(tenant.tenant_key)
            if move.state != "moved":
                tenant.hold = None
                self._last_seen.release(tenant.tenant_key)
            if move.held_s:
                move.hold_seconds = asyncio.get_running_loop().time() - move.held_s

        while True:
            try:
                await self._store.writer.change(apply, publish, barrier=True)
            except ChatError as refusal:
                self._seldom.error("the hold for a move cannot be ended: %s", refusal.message)
                await asyncio.sleep(CONFIRM_SECONDS[1])
            else:
                return

    async def _abort(self, move: Move) -> None:
        """Tells the target, so that it can throw away what it has; else the next arrival makes it do so."""
        if move.arrival is None:
            return
        peer = TargetServer(move.url)
        with contextlib.suppress(PeerError):
            await peer.abort(move.arrival)
        await peer.close()

    # Moved

    def _begin_waiting(self, tenant: TenantState) -> None:
        """Neither serves, until the target confirms."""
        tenant.hold = held("The tenant is on its way to another server")
        tenant.away = held("The tenant is on its way to another server")
        self._rooms.drop_tenant(tenant.tenant_key)

    async def _confirm(self, move: Move) -> None:
        """Asks until the target serves the tenant, and writes that down (S2)."""
        assert move.arrival is not None
        tenant, peer = move.tenant, TargetServer(move.url)
        wait_s, longest_s = CONFIRM_SECONDS
        try:
            while not await self._is_live(peer, move, move.arrival):
                await asyncio.sleep(wait_s)
                wait_s = min(longest_s, 2 * wait_s)
            while not await self._write_confirmed(tenant, move.url):  # noqa: ASYNC110 - nothing tells when to try again
                await asyncio.sleep(longest_s)
        finally:
            await peer.close()
        self.moved += 1
        self._moves.pop(tenant.tenant_id, None)
        if not move.done.done():
            move.done.set_result(None)
        logger.info("a tenant has moved", extra={"tenant_id": tenant.tenant_id, "url": move.url})

    async def _is_live(self, peer: TargetServer, move: Move, arrival: Arrival) -> bool:
        try:
            await peer.go_live(arrival)
        except PeerError as error:
            self._seldom.error("a tenant has moved, but %s does not confirm that it serves it: %s", move.url, error)
            return False
        return True

    async def _write_confirmed(self, tenant: TenantState, url: str) -> bool:
        def publish(new_key: TenantKey) -> None:
            self._tenants.hand_over(tenant, new_key, url)
            self._last_seen.release(tenant.tenant_key)

        try:
            await self._store.writer.change(
                lambda transaction: handover.confirm_departure(transaction, tenant.tenant_key), publish, barrier=True
            )
        except ChatError:
            return False
        return True


async def _record(transaction: Transaction, move: Move, outcome: Mapping[str, object]) -> None:
    tenant_id = move.tenant.tenant_id
    await audit.record(transaction, move.actor, "tenant.move", tenant_id, tenant_id, {**outcome, "url": move.url})


def _take_noted(connection: SqliteConnection, _is_over: object) -> tuple[list[TableChange], int]:
    return moves.take_noted(connection), moves.count_noted(connection)
