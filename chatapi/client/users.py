"""The REST calls about users and their profiles."""

from collections.abc import Mapping
from typing import Any, cast

from msgspec import UNSET, UnsetType

from chatapi.client.envelope import Shape, parse_text
from chatapi.client.http import RestClient
from chatapi.client.paths import escape
from chatapi.client.records import Block, BlockPage, Erasure, Json, User, UserBan, UserPage

_USER: Shape = {"user_id": str}
_USERS: Shape = {"users": list}
EXPORT_SECONDS = 600.0  # of an export that the SDK waits for


class UserCalls(RestClient):
    """A part of `ChatAPI`."""

    async def get_user(self, user_id: str) -> User:
        """A user's profile, for everybody in the tenant. `last_seen_at` is None for those who may not know it. Raises
        ApiError: 404 for a user who has no profile and was never online."""
        return cast(User, await self.call("GET", _user(user_id), shape=_USER))

    async def put_user(
        self,
        user_id: str,
        *,
        name: str | UnsetType | None = UNSET,
        avatar_url: str | UnsetType | None = UNSET,
        metadata: Json | UnsetType | None = UNSET,
    ) -> User:
        """Writes what is given into a user's profile; None clears it. Users write their own, the API key everybody's.

        `name`: 1 to 200 characters. `avatar_url`: an http or https URL of up to 2,048 characters. `metadata`: at most
        16 KiB as JSON, replaced as a whole. Raises ApiError: 403, 400.
        """
        fields: Mapping[str, Any] = {"name": name, "avatar_url": avatar_url, "metadata": metadata}
        body = {field: value for field, value in fields.items() if value is not UNSET}
        return cast(User, await self.call("PUT", _user(user_id), body=body, shape=_USER))

    async def list_users(
        self,
        user_ids: list[str] | None = None,
        *,
        q: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
        cursor: str | None = None,
    ) -> UserPage:
        """The profiles of up to 100 `user_ids`, in their order; those without one are left out. Or, with an API key,
        of the users whose name or id begins with `q` (1 to 100 characters, without case and diacritics), by name.
        `limit`: 1 to 100 (50 with `q`). Raises ApiError: 403 for `q` with a user token, 400."""
        ids = None if user_ids is None else ",".join(map(escape, user_ids))
        query = {"ids": ids, "q": q, "limit": limit, "offset": offset, "cursor": cursor}
        return cast(UserPage, await self.call("GET", "/users", query=query, shape=_USERS))

    async def get_ban(self, user_id: str) -> UserBan:
        """The ban of a user from the tenant. With an API key only. Raises ApiError: 404 for a user who is not
        banned."""
        return cast(UserBan, await self.call("GET", f"{_user(user_id)}/ban", shape=_USER))

    async def ban_user(self, user_id: str, *, reason: str | None = None, expires_in_s: int | None = None) -> UserBan:
        """Bans a user from the whole tenant, with an API key only: their connections close with 4003, and all that they
        ask for is refused. It replaces an earlier ban. `reason`: up to 500 characters. `expires_in_s`: 1 to 31,536,000
        seconds; without it the ban has no end. Raises ApiError: 400."""
        body = {"reason": reason, "expires_in": expires_in_s}
        return cast(UserBan, await self.call("PUT", f"{_user(user_id)}/ban", body=body, shape=_USER))

    async def unban_user(self, user_id: str) -> None:
        """Ends the ban of a user, if there is one. With an API key only."""
        await self.call("DELETE", f"{_user(user_id)}/ban")

    async def export_user(self, user_id: str) -> str:
        """All that is stored of a user, as lines of JSON that have a `type`: the first one is `user`, the last one
        `end`. With an API key only. It is held in memory and may take 10 minutes: a program that expects more reads the
        route as a stream. Raises ApiError: 400, 429 while too many run."""
        return await self._http.read(
            self._credentials, f"/v1{_user(user_id)}/export", parse_text, wait_s=EXPORT_SECONDS
        )

    async def erase_user(self, user_id: str) -> Erasure:
        """Erases a user's data, with an API key only: their messages become tombstones, and the rest goes. `erased` is
        false while it is under way: ask again, until it is true. Meanwhile all that the user asks for is refused.
        Raises ApiError: 400, 429 while too many are under way."""
        return cast(Erasure, await self.call("DELETE", _user(user_id), shape={"erased": bool}))

    async def block_user(self, user_id: str) -> Block:
        """The caller wants no dm from that user: neither of the two may open one, or post in theirs. Blocking again
        changes nothing. Raises ApiError: 400 for oneself."""
        return cast(Block, await self.call("PUT", f"/blocks/{escape(user_id)}", shape=_USER))

    async def unblock_user(self, user_id: str) -> None:
        """Ends the caller's block of that user, if there is one."""
        await self.call("DELETE", f"/blocks/{escape(user_id)}")

    async def list_blocks(
        self, *, limit: int | None = None, offset: int | None = None, cursor: str | None = None
    ) -> BlockPage:
        """The users whom the caller has blocked, the latest first. `limit`: 1 to 100 (50)."""
        query = {"limit": limit, "offset": offset, "cursor": cursor}
        return cast(BlockPage, await self.call("GET", "/blocks", query=query, shape={"blocks": list}))


def _user(user_id: str) -> str:
    return f"/users/{escape(user_id)}"
