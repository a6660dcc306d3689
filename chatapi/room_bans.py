"""Bans from a room: a banned user may neither be a member of the room nor, in a channel, read it."""

from typing import NamedTuple

from chatapi.access import Access, check_admin, check_alive, check_member
from chatapi.errors import conflict, forbidden, invalid
from chatapi.membership import Membership
from chatapi.models import Actor, Principal, RoomType, UserId, encode_time, is_user_id
from chatapi.protocol.moderation_answers import Ban
from chatapi.protocol.moderation_requests import BanUser
from chatapi.protocol.server_frames import MemberBannedFrame, MemberUnbannedFrame
from chatapi.room import RoomState
from chatapi.room_log import RoomLog
from chatapi.rooms import Rooms
from chatapi.store import Store, Transaction, audit
from chatapi.store import rooms as store_rooms
from chatapi.store.moderation import StoredBan, delete_ban, find_ban, write_ban


class _NewBan(NamedTuple):
    ban: StoredBan
    frame: MemberBannedFrame | None  # None: it was in force already


class RoomBans:
    """The operations on bans. When one returns, the change is committed and published.

    Permissions are checked within the writer's transaction, since they may change while a write waits. By the order of
    the commits nothing of a user comes after their `member.banned`.
    """

    def __init__(self, store: Store, rooms: Rooms, access: Access, membership: Membership, room_log: RoomLog) -> None:
        self._store = store
        self._rooms = rooms
        self._access = access
        self._membership = membership
        self._room_log = room_log

    async def ban(self, principal: Principal, actor: Actor, room_id: str, user_id: UserId, body: BanUser) -> Ban:
        """The ban, which replaces one that was there; the same one again makes no event. Raises ChatError; CONFLICT for
        the caller themselves."""
        if not is_user_id(user_id):
            raise invalid("Must be 1 to 128 characters of printable ASCII without spaces", "user_id")
        room = await self._access.access_any(principal, room_id)

        async def apply(transaction: Transaction) -> _NewBan:
            _check_moderator(principal, room)
            if user_id == principal.user_id:
                raise conflict("Nobody can ban themselves")
            now_us = transaction.now_us
            until_us = None if body.expires_in is None else now_us + body.expires_in * 1_000_000
            before = await find_ban(transaction, room.tenant.tenant_key, room.room_key, user_id)
            if before is not None and (before.until_us or now_us + 1) <= now_us:
                before = None
            if before is not None and (before.reason, before.until_us) == (body.reason, until_us):
                return _NewBan(before, None)
            by, at_us = (principal.user_id, now_us) if before is None else (before.created_by, before.created_at_us)
            ban = StoredBan(user_id, body.reason, until_us, by, at_us)
            await write_ban(transaction, room.tenant.tenant_key, room.room_key, ban)
            if user_id in room.members:
                await store_rooms.delete_member(transaction, room.tenant.tenant_key, room.room_key, user_id)
            seq = transaction.take_seq(room.counter)
            frame = MemberBannedFrame(
                room_id=room.room_id, user_id=user_id, reason=body.reason, until=_encode_end(until_us), seq=seq
            )
            await self._room_log.append(transaction, room, seq, frame, None, is_quiet=True)
            details = {"room_id": room.room_id, "until": _encode_end(until_us)}
            await audit.record(transaction, actor, "room.ban", room.tenant.tenant_id, user_id, details)
            return _NewBan(ban, frame)

        def publish(new: _NewBan) -> None:
            if new.frame is not None:
                self._rooms.rules_of(room).ban(user_id, new.ban.until_us)
                self._membership.publish_removal(room, user_id, new.frame, is_quiet=True)

        new = await self._store.writer.change(apply, publish, barrier=True, characters=body.count_characters())
        return _encode(new.ban)

    async def unban(self, principal: Principal, actor: Actor, room_id: str, user_id: UserId) -> None:
        """Does nothing for a user who is not banned. Raises ChatError."""
        room = await self._access.access_any(principal, room_id)

        async def apply(transaction: Transaction) -> MemberUnbannedFrame | None:
            _check_moderator(principal, room)
            ban = await find_ban(transaction, room.tenant.tenant_key, room.room_key, user_id)
            if ban is None:
                return None
            await delete_ban(transaction, room.tenant.tenant_key, room.room_key, user_id)
            if ban.until_us is not None and ban.until_us <= transaction.now_us:
                return None
            seq = transaction.take_seq(room.counter)
            frame = MemberUnbannedFrame(
                room_id=room.room_id, user_id=user_id, reason=ban.reason, until=_encode_end(ban.until_us), seq=seq
            )
            await self._room_log.append(transaction, room, seq, frame, None, is_quiet=True)
            details = {"room_id": room.room_id}
            await audit.record(transaction, actor, "room.unban", room.tenant.tenant_id, user_id, details)
            return frame

        def publish(frame: MemberUnbannedFrame | None) -> None:
            if frame is not None:
                self._rooms.rules_of(room).unban(user_id)
                self._membership.publish(room, frame, is_quiet=True)

        await self._store.writer.change(apply, publish, barrier=True)

    async def access_bans(self, principal: Principal, room_id: str) -> RoomState:
        """The room, whose bans the caller may see."""
        room = await self._access.access_any(principal, room_id)
        _check_moderator(principal, room)
        return room


def _check_moderator(principal: Principal, room: RoomState) -> None:
    check_alive(room)
    check_member(room, principal.user_id)
    if room.type is RoomType.DM:
        raise forbidden("Nobody is banned from a dm")
    check_admin(room, principal.user_id)


def _encode(ban: StoredBan) -> Ban:
    return Ban(
        user_id=ban.user_id,
        reason=ban.reason,
        until=_encode_end(ban.until_us),
        created_by=ban.created_by,
        created_at=encode_time(ban.created_at_us),
    )


def _encode_end(until_us: int | None) -> str | None:
    return None if until_us is None else encode_time(until_us)
