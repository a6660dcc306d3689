"""The gates: the only way to a room, and the permission checks that stand in it."""

from collections.abc import Collection

from chatapi.banned_users import check_user_not_banned
from chatapi.errors import ChatError, conflict, forbidden, not_found, rate_limited
from chatapi.models import Posting, Principal, Role, RoomType, Scope, UserId, encode_time
from chatapi.room import RoomState
from chatapi.rooms import Rooms
from chatapi.rules import NO_END_US
from chatapi.store import Transaction, log


class Access:
    """Each gate raises ChatError: NOT_FOUND for a room that the tenant does not have, AUTHORIZATION_ERROR for a user
    who may not pass."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def access_member(self, principal: Principal, room_id: str) -> RoomState:
        """A room that the caller is a member of. Raises ChatError NOT_FOUND or AUTHORIZATION_ERROR."""
        room = self._rooms.find_loaded(principal.tenant.tenant_key, room_id)
        if room is None:
            room = await self._rooms.get(principal.tenant, room_id)
        check_member(room, principal.user_id)
        return room

    async def access_members(
        self, principal: Principal, room_ids: Collection[str]
    ) -> tuple[dict[str, RoomState], dict[str, ChatError]]:
        """The rooms that the caller is a member of, and for each other room the error that `access_member` raises."""
        await self._rooms.load_many(principal.tenant, room_ids)
        rooms: dict[str, RoomState] = {}
        errors: dict[str, ChatError] = {}
        for room_id in room_ids:
            room = self._rooms.find_loaded(principal.tenant.tenant_key, room_id)
            try:
                if room is None:
                    raise principal.tenant.away or not_found("Room")
                check_member(room, principal.user_id)
            except ChatError as error:
                errors[room_id] = error
            else:
                rooms[room_id] = room
        return rooms, errors

    async def access_reader(self, principal: Principal, room_id: str) -> RoomState:
        """A room that the caller may read: as a member, or because it is a channel."""
        room = await self._rooms.get(principal.tenant, room_id)
        check_may_read(room, principal.user_id)
        return room

    async def access_any(self, principal: Principal, room_id: str) -> RoomState:
        """A room of the tenant; the operation checks the rest."""
        return await self._rooms.get(principal.tenant, room_id)

    async def access_admin(self, principal: Principal, room_id: str) -> RoomState:
        room = await self._rooms.get(principal.tenant, room_id)
        check_admin(room, principal.user_id)
        return room


async def claim_message(
    transaction: Transaction, principal: Principal, room: RoomState, message_id: str
) -> log.StoredMessage:
    """A message of a room that the caller is a member of, in the writer's own turn: nothing can change between this
    look and the write. Raises ChatError NOT_FOUND or AUTHORIZATION_ERROR."""
    check_alive(room)
    check_member(room, principal.user_id)
    found = await log.find_message(transaction, room.tenant.tenant_key, room.room_key, room.room_id, message_id)
    if found is None:
        raise not_found("Message")
    return found


async def claim_undeleted(
    transaction: Transaction, principal: Principal, room: RoomState, message_id: str
) -> log.StoredMessage:
    """As `claim_message`; a deleted message is not found."""
    found = await claim_message(transaction, principal, room, message_id)
    if found.message.deleted_at is not None:
        raise not_found("Message")
    return found


def check_own_or_key(principal: Principal, user_id: UserId) -> None:
    """A user's own things may be changed by the user and by the tenant's backend."""
    if principal.scope is not Scope.API_KEY and principal.user_id != user_id:
        raise forbidden("Only the user and the tenant's API key may do this")


def check_alive(room: RoomState) -> None:
    """For use inside a write's transaction: the room may have been deleted while the write waited, or the tenant be
    held for a move."""
    if room.tenant.hold is not None:
        raise room.tenant.hold
    if room.gone:
        raise not_found("Room")


def can_read(room: RoomState, user_id: UserId) -> bool:
    """As a member, or because the room is a channel and the user is not banned from it."""
    if room.gone:
        return False
    return user_id in room.members or (room.type is RoomType.CHANNEL and find_ban(room, user_id) is None)


def check_may_read(room: RoomState, user_id: UserId) -> None:
    if room.tenant.bans is not None:
        check_user_not_banned(room.tenant, user_id)
    if not can_read(room, user_id):
        check_alive(room)
        check_member(room, user_id)


def check_member(room: RoomState, user_id: UserId) -> None:
    """Raises ChatError, also for members who are banned from the tenant: memberships outlive that."""
    if room.tenant.bans is not None:
        check_user_not_banned(room.tenant, user_id)
    if user_id not in room.members:
        check_not_banned(room, user_id)
        raise forbidden("Not a member of this room")


def check_not_banned(room: RoomState, user_id: UserId) -> None:
    until_us = find_ban(room, user_id)
    if until_us is not None:
        until = None if until_us == NO_END_US else encode_time(until_us)
        message = "You are banned from this room" if until is None else f"You are banned from this room until {until}"
        raise forbidden(message, {"banned_until": until})


def find_ban(room: RoomState, user_id: UserId) -> int | None:
    """When the ban ends that is in force, `NO_END_US` for one without an end; None unless the user is banned."""
    return None if room.rules is None else room.rules.find_ban(user_id)


def check_admin(room: RoomState, user_id: UserId) -> None:
    check_member(room, user_id)
    if room.members[user_id].role is not Role.ADMIN:
        raise forbidden("Not an admin of this room")


# May this member post, edit, react, pin or type here, now? Each is asked when a request comes, and again in its write's
# own turn, since the answer may change while it waits.


def check_may_post(room: RoomState, user_id: UserId) -> None:
    """Raises ChatError for those who may not, RATE_LIMIT_EXCEEDED for a member whose slow mode has not passed."""
    check_may_edit(room, user_id)
    if room.rules is not None and user_id not in room.admins:
        wait = room.rules.find_wait(user_id)
        if wait is not None:
            raise refuse_for_slow_mode(*wait)


def check_may_edit(room: RoomState, user_id: UserId) -> None:
    """An edit is a post, for which slow mode does not hold."""
    check_may_react(room, user_id)
    if room.rules is not None and room.rules.posting is Posting.ADMINS and user_id not in room.admins:
        raise forbidden("Only admins may post in this room")


check_may_type = check_may_edit
"""Users who could not post what they type may not type it."""


def check_may_react(room: RoomState, user_id: UserId) -> None:
    """All members who are not muted; nobody in a dm in which one of the two has blocked the other."""
    check_member(room, user_id)
    if room.rules is not None:
        if room.rules.is_blocked:
            raise refuse_blocked()
        muted_until_us = room.rules.find_mute(user_id)
        if muted_until_us is not None:
            muted_until = encode_time(muted_until_us)
            raise forbidden(f"You are muted in this room until {muted_until}", {"muted_until": muted_until})


def check_may_pin(room: RoomState, user_id: UserId) -> None:
    """Admins who are not muted, and both members of a dm."""
    check_may_react(room, user_id)
    if room.type is not RoomType.DM:
        check_admin(room, user_id)


def refuse_blocked() -> ChatError:
    return forbidden("One of the two users has blocked the other")


def refuse_for_slow_mode(until_us: int, wait_s: float) -> ChatError:
    until = encode_time(until_us)
    return rate_limited(wait_s, f"Slow mode: you may post again at {until}", {"slow_mode_until": until})


def check_not_dm(room: RoomState) -> None:
    if room.type is RoomType.DM:
        raise conflict("The members of a dm are fixed")
