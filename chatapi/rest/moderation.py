"""Bans of a room."""

from chatapi.models import UserId
from chatapi.protocol import moderation_answers as answers
from chatapi.protocol import queries
from chatapi.protocol.moderation_requests import BanUser
from chatapi.protocol.pages import read_window
from chatapi.rest.call import NO_CONTENT, Call, Response, ok
from chatapi.store import moderation
from chatapi.store.moderation import BANS_START


async def ban_member(call: Call[BanUser, None]) -> Response[answers.Ban]:
    """Ban a user from a room, a member or not. For its admins."""
    user_id = UserId(call.path["user_id"])
    return ok(await call.services.room_bans.ban(call.principal, call.actor, call.path["room_id"], user_id, call.body))


async def unban_member(call: Call[None, None]) -> Response[None]:
    """Lift a user's ban. For the room's admins."""
    user_id = UserId(call.path["user_id"])
    await call.services.room_bans.unban(call.principal, call.actor, call.path["room_id"], user_id)
    return NO_CONTENT


async def list_bans(call: Call[None, queries.PageQuery]) -> Response[answers.Bans]:
    """List the room's bans that are in force, the newest first. For its admins."""
    room = await call.services.room_bans.access_bans(call.principal, call.path["room_id"])
    scope = ("bans", room.tenant.tenant_id, room.room_id)
    window = read_window(call.query, scope, BANS_START.values())
    readers, now_us = call.services.store.readers, call.services.clock.now_us()
    page = await moderation.list_bans(readers, room.tenant.tenant_key, room.room_key, now_us, window)
    return ok(answers.Bans(bans=page.join(), has_more=page.has_more, next_cursor=page.next_cursor(scope)))
