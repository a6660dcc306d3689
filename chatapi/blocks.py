"""Blocks: users who want no dm from somebody. Neither of the two may then post in their dm, or open one."""

import contextlib

from chatapi.banned_users import check_user_not_banned
from chatapi.errors import ChatError, invalid
from chatapi.models import Principal, TenantState, UserId, encode_dm_key, encode_time
from chatapi.presence import Presence
from chatapi.protocol.answers import Block
from chatapi.rooms import Rooms
from chatapi.store import Store, Transaction
from chatapi.store import blocks as store_blocks
from chatapi.store import rooms as store_rooms


class Blocks:
    """When an operation returns, the change is committed and in force in the dm of the two, if they have one."""

    def __init__(self, store: Store, rooms: Rooms, presence: Presence) -> None:
        self._store = store
        self._rooms = rooms
        self._presence = presence

    async def block(self, principal: Principal, other_id: UserId) -> Block:
        """A block that is there already stays. Raises ChatError for the caller themselves."""
        tenant, user_id = principal.tenant, principal.user_id
        if other_id == user_id:
            raise invalid("Nobody can block themselves", "user_id")
        dm_key = encode_dm_key(user_id, other_id)

        async def apply(transaction: Transaction) -> tuple[int, str | None]:
            check_user_not_banned(tenant, user_id)
            created_at_us = await store_blocks.put_block(transaction, tenant.tenant_key, user_id, other_id, dm_key)
            return created_at_us, await store_rooms.find_dm(transaction, tenant.tenant_key, dm_key)

        await self._load_dm(tenant, dm_key)
        created_at_us, _room_id = await self._store.writer.change(
            apply, lambda result: self._put_in_force(tenant, result[1], is_blocked=True), barrier=True
        )
        return Block(user_id=other_id, created_at=encode_time(created_at_us))

    async def unblock(self, principal: Principal, other_id: UserId) -> None:
        """The dm stays blocked if the other one has blocked the caller. Does nothing without a block."""
        await self._end_block(principal.tenant, principal.user_id, other_id)

    async def erase(self, tenant: TenantState, user_id: UserId, other_id: UserId) -> None:
        """As `unblock`, for a user whose data is erased."""
        await self._end_block(tenant, user_id, other_id, is_erasure=True)

    async def _end_block(
        self, tenant: TenantState, user_id: UserId, other_id: UserId, *, is_erasure: bool = False
    ) -> None:
        dm_key = encode_dm_key(user_id, other_id)

        async def apply(transaction: Transaction) -> tuple[bool, str | None]:
            if not is_erasure:
                check_user_not_banned(tenant, user_id)
            await store_blocks.delete_block(transaction, tenant.tenant_key, user_id, other_id)
            is_blocked = await store_blocks.is_blocked(transaction, tenant.tenant_key, dm_key)
            return is_blocked, await store_rooms.find_dm(transaction, tenant.tenant_key, dm_key)

        await self._load_dm(tenant, dm_key)
        await self._store.writer.change(
            apply, lambda result: self._put_in_force(tenant, result[1], is_blocked=result[0]), barrier=True
        )

    async def _load_dm(self, tenant: TenantState, dm_key: str) -> None:
        """A dm that is loaded while the block is written might miss it."""
        room_id = await store_rooms.find_dm(self._store.readers, tenant.tenant_key, dm_key)
        if room_id is not None:
            with contextlib.suppress(ChatError):  # it was deleted meanwhile
                await self._rooms.get(tenant, room_id)

    def _put_in_force(self, tenant: TenantState, room_id: str | None, *, is_blocked: bool) -> None:
        room = None if room_id is None else self._rooms.find_loaded(tenant.tenant_key, room_id)
        if room is None or (room.rules is None and not is_blocked):
            return
        self._rooms.rules_of(room).is_blocked = is_blocked
        self._presence.stop_forbidden_typing(room)
