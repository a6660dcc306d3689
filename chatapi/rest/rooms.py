"""Rooms and members."""

from typing import Any

import msgspec

from chatapi.models import UserId
from chatapi.protocol import answers, queries
from chatapi.protocol import requests as req
from chatapi.protocol.fields import or_unset
from chatapi.protocol.moderation_requests import PatchMember
from chatapi.protocol.pages import read_window
from chatapi.rest.call import NO_CONTENT, Call, Response, ok
from chatapi.room import RoomState
from chatapi.room_lists import ROOMS_START
from chatapi.store import rooms as store_rooms
from chatapi.store.prefixes import PREFIX_START
from chatapi.store.rooms import CHANNELS_START, MEMBERS_START


async def create_room(call: Call[req.CreateRoom, None]) -> Response[answers.Room]:
    """Create a room. If the dm exists already, the answer is 409 with its id."""
    room = await call.services.membership.create_room(call.principal, call.body)
    return ok(room.record(), 201)


async def list_rooms(call: Call[None, queries.RoomsQuery]) -> Response[answers.OwnRooms]:
    """List the user's rooms, the most recently active first; those that they have hidden only with hidden=true."""
    principal, with_hidden = call.principal, call.query.hidden
    scope = ("all rooms" if with_hidden else "rooms", principal.tenant.tenant_id, principal.user_id)
    window = read_window(call.query, scope, ROOMS_START)
    page = await call.services.room_lists.list_page(principal, window, with_hidden=with_hidden)
    return ok(answers.OwnRooms(rooms=page.join(), has_more=page.has_more, next_cursor=page.next_cursor(scope)))


async def list_channels(call: Call[None, queries.PageQuery]) -> Response[answers.Channels]:
    """List the tenant's channels."""
    tenant = call.principal.tenant
    scope = ("channels", tenant.tenant_id)
    window = read_window(call.query, scope, CHANNELS_START.values())
    page = await store_rooms.list_channels(call.services.store.readers, tenant.tenant_key, window)
    return ok(answers.Channels(rooms=page.join(), has_more=page.has_more, next_cursor=page.next_cursor(scope)))


async def get_room(call: Call[None, None]) -> Response[answers.Room]:
    """Get a room."""
    room = await call.services.access.access_reader(call.principal, call.path["room_id"])
    return ok(room.record())


async def update_room(call: Call[req.PatchRoom, None]) -> Response[answers.Room]:
    """Rename a room, replace its metadata, or change who may post and how often. For its admins; an absent field stays,
    null clears a name or metadata."""
    room = await call.services.membership.update_room(call.principal, call.actor, call.path["room_id"], call.body)
    return ok(room.record())


async def delete_room(call: Call[None, None]) -> Response[None]:
    """Delete a room and everything in it. For its admins."""
    await call.services.membership.delete_room(call.principal, call.actor, call.path["room_id"])
    return NO_CONTENT


async def update_view(call: Call[req.PatchOwnView, None]) -> Response[answers.OwnView]:
    """Change the user's own view of a room: of what they are told while offline, and whether it is hidden."""
    view = await call.services.views.change(call.principal, call.path["room_id"], call.body)
    return ok(answers.OwnView(room_id=view.room_id, notify=view.notify, hidden=view.hidden))


async def list_members(call: Call[None, queries.MembersQuery]) -> Response[answers.Members]:
    """List a room's members, the longest-standing first; with `q` those whose name or id begins so, by name."""
    room = await call.services.access.access_reader(call.principal, call.path["room_id"])
    if isinstance(call.query.q, str):
        return await _search_members(call, room, call.query.q)
    scope = ("members", room.tenant.tenant_id, room.room_id)
    window = read_window(call.query, scope, MEMBERS_START.values())
    readers, now_us = call.services.store.readers, call.services.clock.now_us()
    page = await store_rooms.list_members(readers, room.tenant.tenant_key, room.room_key, now_us, window)
    return ok(answers.Members(members=page.join(), has_more=page.has_more, next_cursor=page.next_cursor(scope)))


async def _search_members(call: Call[None, queries.MembersQuery], room: RoomState, q: str) -> Response[answers.Members]:
    scope = ("members", room.tenant.tenant_id, room.room_id, q)
    window = read_window(call.query, scope, PREFIX_START.values())
    page = await call.services.profiles.search_members(room, q, call.services.clock.now_us(), window)
    return ok(answers.Members(members=page.join(), has_more=page.has_more, next_cursor=page.next_cursor(scope)))


async def add_member(call: Call[req.AddMember, None]) -> Response[answers.Member]:
    """Add a member. Admins add anyone; in a channel users add themselves."""
    member = await call.services.membership.add_member(call.principal, call.actor, call.path["room_id"], call.body)
    return ok(await _show_face(call, member), 201)


async def update_member(call: Call[PatchMember, None]) -> Response[answers.Member]:
    """Change a member's role, or mute the member. For admins; the last admin cannot be demoted."""
    user_id = UserId(call.path["user_id"])
    member = await call.services.membership.update_member(
        call.principal, call.actor, call.path["room_id"], user_id, call.body
    )
    return ok(await _show_face(call, member))


async def _show_face(call: Call[Any, Any], member: answers.Member) -> answers.Member:
    """The member with the name and the avatar of the user's profile."""
    name, avatar_url = await call.services.profiles.find_face(call.principal.tenant, member.user_id)
    return msgspec.structs.replace(member, name=or_unset(name), avatar_url=or_unset(avatar_url))


async def remove_member(call: Call[None, None]) -> Response[None]:
    """Remove a member. Admins remove anyone, and members leave; not in a dm."""
    await call.services.membership.remove_member(
        call.principal, call.actor, call.path["room_id"], UserId(call.path["user_id"])
    )
    return NO_CONTENT


async def list_online(call: Call[None, None]) -> Response[answers.Online]:
    """List the members who are online."""
    room = await call.services.access.access_member(call.principal, call.path["room_id"])
    return ok(answers.Online(online=list(await call.services.presence.list_online(room))))
