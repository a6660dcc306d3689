"""Erasing all that is stored of one user, in small steps that hold up nobody."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from functools import partial

from chatapi.banned_users import BannedUsers
from chatapi.blocks import Blocks
from chatapi.chat import Chat
from chatapi.clock import Clock
from chatapi.errors import ChatError, rate_limited, unauthenticated
from chatapi.hub import Hub
from chatapi.indexer import Indexer
from chatapi.last_seen import LastSeen
from chatapi.membership import Membership
from chatapi.models import SERVER_ACTOR, Actor, TenantKey, TenantState, UserId
from chatapi.reactions import Reactions
from chatapi.room import RoomState
from chatapi.rooms import Rooms
from chatapi.store import Store, Transaction, audit, user_calls
from chatapi.store import erasures as store_erasures
from chatapi.store.background import CHUNK_ROWS
from chatapi.store.erasures import ErasureWalk, LogWindow
from chatapi.store.user_calls import CallsWalk
from chatapi.tasks import Tasks
from chatapi.tenants import CREDENTIAL_GONE

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 1.0  # that a request waits for the end
RETRY_SECONDS = 1.0
MOST_OF_TENANT = 1_000  # under way: each is a task
MESSAGES_PER_CHANGE = 16  # at most, if the writer is quick
COPIES_PER_CHANGE = 10_000  # of events, for those who listen: some 10 ms of the loop
REST = 2.0  # between two changes, times as long as the one took: others write meanwhile


class Erasures:
    """When `erase` returns, the erasure is stored, and in force: a restart goes on with it."""

    def __init__(
        self,
        store: Store,
        rooms: Rooms,
        hub: Hub,
        tasks: Tasks,
        clock: Clock,
        last_seen: LastSeen,
        indexer: Indexer,
        chat: Chat,
        reactions: Reactions,
        membership: Membership,
        blocks: Blocks,
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._hub = hub
        self._tasks = tasks
        self._clock = clock
        self._last_seen = last_seen
        self._indexer = indexer
        self._chat = chat
        self._reactions = reactions
        self._membership = membership
        self._blocks = blocks
        self._running: dict[tuple[TenantKey, UserId], asyncio.Task[None]] = {}
        self._locks: dict[TenantKey, asyncio.Lock] = {}  # one erasure of a tenant at a time
        self._counts: Counter[TenantKey] = Counter()

    async def load(self, tenants: Iterable[TenantState]) -> None:
        """Goes on where the last server ended, or the one that the tenant comes from."""
        by_key = {tenant.tenant_key: tenant for tenant in tenants}
        for tenant_key, user_id in await store_erasures.load(self._store.readers):
            tenant = by_key.get(tenant_key)  # others are arriving, or have moved away
            if tenant is not None and (tenant_key, user_id) not in self._running:
                self._start(tenant, user_id)

    async def erase(self, tenant: TenantState, actor: Actor, user_id: UserId) -> bool:
        """Whether all is erased; otherwise it is under way. Raises ChatError."""
        task = self._running.get((tenant.tenant_key, user_id))
        if task is None:
            is_begun = await self._begin(tenant, actor, user_id, has_calls=False)
            if not is_begun and not await self._has_calls(tenant, user_id):
                return True
            if not is_begun:
                await self._begin(tenant, actor, user_id, has_calls=True)
            task = self._running.get((tenant.tenant_key, user_id))
        if task is not None:
            await asyncio.wait([task], timeout=ANSWER_SECONDS)
        return task is None or task.done()

    async def _begin(self, tenant: TenantState, actor: Actor, user_id: UserId, *, has_calls: bool) -> bool:
        """Whether there is something to erase. Raises ChatError."""
        is_online = self._hub.find_online(tenant.tenant_key, user_id) is not None

        async def apply(transaction: Transaction) -> bool:
            scope = (transaction, tenant.tenant_key, user_id)
            if not has_calls and await store_erasures.is_nothing_left(*scope, is_online=is_online):
                return False
            if self._counts[tenant.tenant_key] >= MOST_OF_TENANT:
                raise rate_limited(RETRY_SECONDS, "Too many erasures are under way")
            await store_erasures.begin(*scope)
            await audit.record(transaction, actor, "user.erase", tenant.tenant_id, user_id, audit.BEGUN)
            return True

        def publish(is_new: bool) -> None:
            if is_new and (tenant.tenant_key, user_id) not in self._running:
                self._start(tenant, user_id)

        return await self._store.writer.change(apply, publish, barrier=True)

    async def _has_calls(self, tenant: TenantState, user_id: UserId) -> bool:
        """Webhook calls outlive the notifications that retention removes, and may be all that is left of a user."""
        walk, has_more = CallsWalk(tenant.tenant_key, user_id), True
        while has_more and not tenant.gone:
            found, has_more = await self._store.readers.run_step(tenant.tenant_key, walk.take_step)
            if found:
                return True
        return False

    def _start(self, tenant: TenantState, user_id: UserId) -> None:
        """From now on the user is refused."""
        if tenant.bans is None:
            tenant.bans = BannedUsers(self._clock)
        tenant.bans.erasing.add(user_id)
        for connection in list(self._hub.connections_of(tenant.tenant_key, user_id)):
            self._hub.close(connection, CREDENTIAL_GONE, unauthenticated("This user's data is being erased"))
        self._counts[tenant.tenant_key] += 1
        task = self._tasks.spawn(f"erasure in {tenant.tenant_id}", self._run(tenant, user_id))
        self._running[tenant.tenant_key, user_id] = task

    async def _run(self, tenant: TenantState, user_id: UserId) -> None:
        """To the end, or until the tenant is gone. A step that fails is tried again: all of it may be done twice."""
        turn = self._locks.setdefault(tenant.tenant_key, asyncio.Lock())
        try:
            async with turn:
                while not tenant.gone:
                    try:
                        await self._erase_all(tenant, user_id)
                        return
                    except ChatError as error:
                        logger.debug("an erasure has to wait: %s", error.message)
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            del self._running[tenant.tenant_key, user_id]
            self._counts[tenant.tenant_key] -= 1
            if not self._counts[tenant.tenant_key]:
                del self._counts[tenant.tenant_key], self._locks[tenant.tenant_key]

    async def _erase_all(self, tenant: TenantState, user_id: UserId) -> None:
        await self._end_memberships(tenant, user_id)
        while others := await store_erasures.list_blocks(self._store.readers, tenant.tenant_key, user_id):
            for other_id in others:
                await self._blocks.erase(tenant, user_id, other_id)
        walk, has_more = ErasureWalk(tenant.tenant_key, user_id), True
        while has_more and not tenant.gone:
            window, has_more = await self._store.readers.run_step(tenant.tenant_key, walk.take_step)
            if window is not None:
                await self._erase_window(tenant, user_id, window)
        # Within the grace of presence they are still online, and would leave the time when they were last seen.
        while self._hub.find_online(tenant.tenant_key, user_id) is not None:  # noqa: ASYNC110 - once per erasure
            await asyncio.sleep(RETRY_SECONDS)
        await self._erase_calls(tenant, user_id)
        rest = partial(store_erasures.remove_rest, tenant.tenant_key, user_id)
        while await self._store.writer.step(rest):
            pass
        await self._indexer.forget_removed()
        self._last_seen.forget(tenant.tenant_key, user_id)
        if not tenant.gone:
            await self._finish(tenant, user_id)

    async def _finish(self, tenant: TenantState, user_id: UserId) -> None:
        async def apply(transaction: Transaction) -> None:
            await store_erasures.finish(transaction, tenant.tenant_key, user_id)
            await audit.record(transaction, SERVER_ACTOR, "user.erase", tenant.tenant_id, user_id, audit.DONE)

        def publish(_result: None) -> None:
            assert tenant.bans is not None  # since the start
            tenant.bans.erasing.discard(user_id)

        await self._store.writer.change(apply, publish, barrier=True)

    async def _end_memberships(self, tenant: TenantState, user_id: UserId) -> None:
        after_key = 0
        while rows := await store_erasures.list_memberships(self._store.readers, tenant.tenant_key, user_id, after_key):
            await self._rooms.load_many(tenant, [room_id for _, room_id in rows])
            for _, room_id in rows:
                room = await self._find_room(tenant, room_id)
                if room is not None:
                    await self._membership.erase_member(room, user_id)
            after_key = rows[-1][0]

    async def _erase_window(self, tenant: TenantState, user_id: UserId, window: LogWindow) -> None:
        room = await self._find_room(tenant, window.room_id)
        if room is None:
            return
        loop = asyncio.get_running_loop()
        first = 0
        while first < len(window.message_ids):
            started_s = loop.time()
            most = max(1, min(MESSAGES_PER_CHANGE, COPIES_PER_CHANGE // max(1, len(room.subscribers))))
            some = window.message_ids[first : first + most]
            first += await self._chat.erase_messages(room, user_id, some)
            await asyncio.sleep(REST * (loop.time() - started_s))
        for message_id in window.reacted_ids:
            started_s = loop.time()
            await self._reactions.erase(room, user_id, message_id)
            await asyncio.sleep(REST * (loop.time() - started_s))
        if window.has_reports or window.has_client_ids:
            await self._store.writer.step(partial(store_erasures.clear_window, tenant.tenant_key, user_id, window))

    async def _erase_calls(self, tenant: TenantState, user_id: UserId) -> None:
        walk, has_more = CallsWalk(tenant.tenant_key, user_id), True
        while has_more and not tenant.gone:
            keys, has_more = await self._store.readers.run_step(tenant.tenant_key, walk.take_step)
            for first in range(0, len(keys), CHUNK_ROWS):
                some = keys[first : first + CHUNK_ROWS]
                await self._store.writer.step(partial(user_calls.delete, tenant.tenant_key, user_id, some))

    async def _find_room(self, tenant: TenantState, room_id: str) -> RoomState | None:
        """None if it was deleted meanwhile."""
        try:
            return await self._rooms.get(tenant, room_id)
        except ChatError as error:
            if error.status != 404:
                raise
            return None
