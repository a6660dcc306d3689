"""The REST calls of a room's moderators."""

from typing import cast

from chatapi.client.envelope import Shape
from chatapi.client.http import RestClient
from chatapi.client.paths import ban_path, room_path
from chatapi.client.records import Ban, BanPage

_BAN: Shape = {"user_id": str}


class ModerationCalls(RestClient):
    """Bans: a part of `ChatAPI`."""

    async def ban_member(
        self, room_id: str, user_id: str, *, reason: str | None = None, expires_in_s: int | None = None
    ) -> Ban:
        """Bans a user, who is removed if they are a member: they may not join the room, be added or, in a channel, read
        it. For admins of the room. `reason`: up to 500 characters. `expires_in_s`: 1 to 31,536,000; without it the ban
        has no end. Banning again replaces both. Raises ApiError: 409 for the caller themselves, 403, also of a dm,
        404."""
        body = {"reason": reason, "expires_in": expires_in_s}
        return cast(Ban, await self.call("PUT", ban_path(room_id, user_id), body=body, shape=_BAN))

    async def unban_member(self, room_id: str, user_id: str) -> None:
        """Lifts a ban; does nothing for a user who is not banned. For admins of the room. Raises ApiError: 403, 404."""
        await self.call("DELETE", ban_path(room_id, user_id))

    async def list_bans(
        self, room_id: str, *, limit: int | None = None, offset: int | None = None, cursor: str | None = None
    ) -> BanPage:
        """The bans that are in force, the newest first. For admins of the room. `limit`: 1 to 100 (50). Raises
        ApiError: 403, 404."""
        query = {"limit": limit, "offset": offset, "cursor": cursor}
        return cast(BanPage, await self.call("GET", f"{room_path(room_id)}/bans", query=query, shape={"bans": list}))
