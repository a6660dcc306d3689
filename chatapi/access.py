"""The gates: the only way to a room, and the permission checks that stand in it."""

from collections.abc import Collection

from chatapi.errors import ChatError, conflict, forbidden, not_found
from chatapi.models import Principal, Role, RoomType, UserId
from chatapi.rooms import Rooms, RoomState


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
                    raise not_found("Room")
                check_member(room, principal.user_id)
            except ChatError as error:
                errors[room_id] = error
            else:
                rooms[room_id] = room
        return rooms, errors

    async def access_reader(self, principal: Principal, room_id: str) -> RoomState:
        """A room that the caller may read: as a member, or since it is a channel."""
        room = await self._rooms.get(principal.tenant, room_id)
        if not can_read(room, principal.user_id):
            check_member(room, principal.user_id)
        return room

    async def access_any(self, principal: Principal, room_id: str) -> RoomState:
        """A room of the tenant; the operation checks the rest."""
        return await self._rooms.get(principal.tenant, room_id)

    async def access_admin(self, principal: Principal, room_id: str) -> RoomState:
        room = await self._rooms.get(principal.tenant, room_id)
        check_admin(room, principal.user_id)
        return room


def check_alive(room: RoomState) -> None:
    """For use inside a write's transaction: the room may have been deleted while the write waited."""
    if room.gone:
        raise not_found("Room")


def can_read(room: RoomState, user_id: UserId) -> bool:
    """As a member, or since it is a channel."""
    return not room.gone and (room.type is RoomType.CHANNEL or user_id in room.members)


def check_member(room: RoomState, user_id: UserId) -> None:
    if user_id not in room.members:
        raise forbidden("Not a member of this room")


def check_admin(room: RoomState, user_id: UserId) -> None:
    check_member(room, user_id)
    if room.members[user_id].role is not Role.ADMIN:
        raise forbidden("Not an admin of this room")


def check_not_dm(room: RoomState) -> None:
    if room.type is RoomType.DM:
        raise conflict("The members of a dm are fixed")
