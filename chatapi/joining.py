"""Whom a room begins with, and who may be added to it later."""

from chatapi.access import check_admin, check_member, check_not_banned, check_not_dm, find_ban
from chatapi.banned_users import check_not_erasing, check_user_not_banned
from chatapi.errors import conflict, forbidden, invalid
from chatapi.models import Principal, Role, RoomType, Scope, UserId
from chatapi.protocol.requests import CreateRoom
from chatapi.room import RoomState


def list_founders(principal: Principal, body: CreateRoom) -> dict[UserId, Role]:
    """The members of a new room with their roles, duplicates folded."""
    named = [UserId(user_id) for user_id in dict.fromkeys(body.members or ())]
    if body.type is not RoomType.DM:
        return {principal.user_id: Role.ADMIN} | {
            user_id: Role.MEMBER for user_id in named if user_id != principal.user_id
        }
    if len(named) == 1:
        named.insert(0, principal.user_id)
    if len(set(named)) != 2:
        raise invalid("A dm must have exactly two distinct members", "members")
    if principal.scope is Scope.USER_TOKEN and principal.user_id not in named:
        raise forbidden("With a user token, a dm must include the token's user")
    return dict.fromkeys(named, Role.MEMBER)


def check_may_add(principal: Principal, room: RoomState, user_id: UserId, role: Role) -> Role:
    """The role with which the caller may add this user."""
    check_user_not_banned(room.tenant, principal.user_id)
    joins = room.type is RoomType.CHANNEL and user_id == principal.user_id
    is_first = not room.members and (joins or principal.scope is Scope.API_KEY)
    if user_id == principal.user_id:
        check_not_banned(room, user_id)
    if not joins and not is_first:
        check_member(room, principal.user_id)
        check_not_dm(room)
        check_admin(room, principal.user_id)
    check_not_erasing(room.tenant, user_id)
    if find_ban(room, user_id) is not None:
        raise conflict("This user is banned from the room")
    if is_first:
        return Role.ADMIN
    if user_id in room.members:
        raise conflict("Already a member")
    if joins and role is not Role.MEMBER:
        raise forbidden("Users who join a channel themselves get the role member")
    return role
