"""Banning users from their whole tenant, for its backend."""

import asyncio
from collections.abc import Iterable

from chatapi.banned_users import USER_BANNED, BannedUsers, UserBan, is_banned, refuse_banned
from chatapi.clock import Clock
from chatapi.errors import not_found
from chatapi.hub import Hub
from chatapi.membership import Membership
from chatapi.models import Actor, RoomKey, TenantState, UserId
from chatapi.presence import Presence
from chatapi.protocol.answers import BannedUser
from chatapi.protocol.moderation_requests import BanUser
from chatapi.rooms import Rooms
from chatapi.store import Store, Transaction, audit
from chatapi.store import user_bans as store_bans
from chatapi.tasks import Tasks

ROOMS_PER_STEP = 100  # looked at, and loaded, together
HEIRS_SECONDS = 5.0  # that a request waits for the heirs in the banned user's rooms; there may be thousands


class TenantBans:
    """When an operation returns, the change is committed and in force."""

    def __init__(
        self,
        store: Store,
        rooms: Rooms,
        hub: Hub,
        membership: Membership,
        presence: Presence,
        tasks: Tasks,
        clock: Clock,
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._hub = hub
        self._membership = membership
        self._presence = presence
        self._tasks = tasks
        self._clock = clock

    async def load(self, tenants: list[TenantState]) -> None:
        """Reads all bans, and goes on where the last server ended. Called once, at the start."""
        by_key = {tenant.tenant_key: tenant for tenant in tenants}
        for tenant_key, user_id, reason, until_us, is_heir_due in await store_bans.load_bans(self._store.readers):
            tenant = by_key.get(tenant_key)
            if tenant is None:
                continue  # it is arriving, or has moved away
            self._bans_of(tenant).load(user_id, UserBan(reason, until_us))
            if is_heir_due:
                self._start_promoting(tenant, user_id)

    def adopt(self, tenant: TenantState, bans: Iterable[tuple[str, str | None, int | None, int]]) -> None:
        """As `load`, of a tenant that has just come: its users, with the reasons and ends of their bans, and whether
        rooms of theirs may need another admin."""
        for user_id, reason, until_us, heirs_due in bans:
            self._bans_of(tenant).load(UserId(user_id), UserBan(reason, until_us))
            if heirs_due:
                self._start_promoting(tenant, UserId(user_id))

    def get_ban(self, tenant: TenantState, user_id: str) -> BannedUser:
        """Raises ChatError NOT_FOUND for a user who is not banned."""
        ban = None if tenant.bans is None else tenant.bans.find(user_id)
        if ban is None:
            raise not_found("Ban")
        return _show(user_id, ban)

    async def ban_user(self, tenant: TenantState, actor: Actor, user_id: UserId, body: BanUser) -> BannedUser:
        """The user's connections are closed, and all that they ask for is refused, what waits for the writer as well.
        A ban that is there is replaced."""
        promoting: list[asyncio.Task[None]] = []

        async def apply(transaction: Transaction) -> UserBan:
            until_us = None if body.expires_in is None else transaction.now_us + body.expires_in * 1_000_000
            ban = UserBan(body.reason, until_us)
            await store_bans.put_ban(transaction, tenant.tenant_key, user_id, ban.reason, ban.until_us)
            if tenant.bans is None or tenant.bans.find(user_id) != ban:
                await audit.record(
                    transaction, actor, "user.ban", tenant.tenant_id, user_id, {"until": ban.banned_until}
                )
            return ban

        def publish(ban: UserBan) -> None:
            self._bans_of(tenant).put(user_id, ban)
            self._presence.stop_all_typing(tenant.tenant_key, user_id)
            for connection in list(self._hub.connections_of(tenant.tenant_key, user_id)):
                self._hub.close(connection, USER_BANNED, refuse_banned(ban))
            promoting.append(self._start_promoting(tenant, user_id))

        ban = await self._store.writer.change(apply, publish, barrier=True)
        await asyncio.wait(promoting, timeout=HEIRS_SECONDS)  # it goes on, also if nobody waits any more
        return _show(user_id, ban)

    async def unban_user(self, tenant: TenantState, actor: Actor, user_id: UserId) -> None:
        """Does nothing for a user who is not banned."""

        async def apply(transaction: Transaction) -> None:
            await store_bans.delete_ban(transaction, tenant.tenant_key, user_id)
            if is_banned(tenant, user_id):
                await audit.record(transaction, actor, "user.unban", tenant.tenant_id, user_id)

        def publish(_result: None) -> None:
            if tenant.bans is not None:
                tenant.bans.remove(user_id)

        await self._store.writer.change(apply, publish, barrier=True)

    def _bans_of(self, tenant: TenantState) -> BannedUsers:
        if tenant.bans is None:
            tenant.bans = BannedUsers(self._clock)
        return tenant.bans

    def _start_promoting(self, tenant: TenantState, user_id: UserId) -> asyncio.Task[None]:
        return self._tasks.spawn(f"heirs of a banned user of {tenant.tenant_id}", self._promote_heirs(tenant, user_id))

    async def _promote_heirs(self, tenant: TenantState, user_id: UserId) -> None:
        """Each room of which the user was the last admin gets another one. After a crash all of it is done again, which
        changes nothing."""
        after_key = RoomKey(0)
        while rows := await store_bans.list_administered(
            self._store.readers, tenant.tenant_key, user_id, after_key, ROOMS_PER_STEP
        ):
            room_ids = [room_id for _, room_id in rows]
            await self._rooms.load_many(tenant, room_ids)
            for room_id in room_ids:
                room = self._rooms.find_loaded(tenant.tenant_key, room_id)
                if room is not None:
                    await self._membership.replace_banned_admin(room, user_id)
            after_key = rows[-1][0]
        await self._store.writer.change(
            lambda transaction: store_bans.note_heirs(transaction, tenant.tenant_key, user_id)
        )


def _show(user_id: str, ban: UserBan) -> BannedUser:
    return BannedUser(user_id=user_id, reason=ban.reason, banned_until=ban.banned_until)
