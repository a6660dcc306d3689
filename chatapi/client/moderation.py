"""The REST calls of a room's moderators."""

from typing import Literal, cast

from chatapi.client.envelope import Shape
from chatapi.client.http import RestClient
from chatapi.client.paths import ban_path, escape, message_path, room_path
from chatapi.client.records import Ban, BanPage, Report, Reported, ReportPage

_BAN: Shape = {"user_id": str}
_REPORT: Shape = {"report_id": str}


class ModerationCalls(RestClient):
    """Bans and reports: a part of `ChatAPI`."""

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

    async def report_message(self, room_id: str, message_id: str, reason: str) -> Reported:
        """Reports a message to the tenant's backend; again, the first report is returned. For all who can read the
        message. `reason`: 1 to 1,000 characters. Raises ApiError: 400, 403, 404, also of a deleted message."""
        path = f"{message_path(room_id, message_id)}/report"
        return cast(Reported, await self.call("POST", path, body={"reason": reason}, is_idempotent=True, shape=_REPORT))

    async def list_reports(
        self,
        status: Literal["open", "resolved"] | None = None,
        *,
        limit: int | None = None,
        offset: int | None = None,
        cursor: str | None = None,
    ) -> ReportPage:
        """The tenant's reports, the open ones if not said otherwise, the newest first; with an API key only.
        `limit`: 1 to 100 (50). Raises ApiError: 403."""
        query = {"status": status, "limit": limit, "offset": offset, "cursor": cursor}
        return cast(ReportPage, await self.call("GET", "/reports", query=query, shape={"reports": list}))

    async def resolve_report(self, report_id: str) -> Report:
        """Marks a report as resolved by the caller; again, nothing changes. With an API key only. Raises ApiError: 403,
        404."""
        path = f"/reports/{escape(report_id)}/resolve"
        return cast(Report, await self.call("POST", path, is_idempotent=True, shape=_REPORT))
