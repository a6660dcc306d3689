"""The REST calls on what users do with messages."""

from typing import cast

from chatapi.client.envelope import Shape
from chatapi.client.http import RestClient
from chatapi.client.paths import message_path, pin_path, reaction_path, room_path
from chatapi.client.records import Message, MessageReactions, PinnedPage, ReactionPage
from chatapi.client.search_records import SearchPage

_MESSAGE: Shape = {"message_id": str}


class ConversationCalls(RestClient):
    """Reactions, pins and search: a part of `ChatAPI`."""

    async def add_reaction(self, room_id: str, message_id: str, emoji: str) -> MessageReactions:
        """Reacts to a message, as the caller, and returns all its reactions. Reacting again with the same emoji changes
        nothing. `emoji`: 1 to 64 bytes of UTF-8 without white space and control characters, kept byte for byte. Raises
        ApiError: 409 for more than 20 emoji of the caller, or 50 of all, on one message; 400, 403 for those who are not
        members, 404, also of a deleted message."""
        return cast(
            MessageReactions,
            await self.call("PUT", reaction_path(room_id, message_id, emoji), shape={"reactions": list}),
        )

    async def remove_reaction(self, room_id: str, message_id: str, emoji: str) -> None:
        """Takes a reaction of the caller back; where there is none, nothing changes. Raises ApiError: 400, 403, 404."""
        await self.call("DELETE", reaction_path(room_id, message_id, emoji))

    async def list_reactions(
        self,
        room_id: str,
        message_id: str,
        emoji: str | None = None,
        *,
        limit: int | None = None,
        offset: int | None = None,
        cursor: str | None = None,
    ) -> ReactionPage:
        """The reactions to a message, with any emoji or with the given one, in the order of reacting. `limit`: 1 to 100
        (50). Raises ApiError: 403, 404."""
        path = f"{message_path(room_id, message_id)}/reactions"
        query = {"emoji": emoji, "limit": limit, "offset": offset, "cursor": cursor}
        return cast(ReactionPage, await self.call("GET", path, query=query, shape={"reactions": list}))

    async def pin_message(self, room_id: str, message_id: str) -> Message:
        """Pins a message and returns it; pinning it again changes nothing. For the room's admins, in a dm for both.
        Raises ApiError: 409 for more than 100 in one room, 403, 404, also of a deleted message."""
        return cast(Message, await self.call("PUT", pin_path(room_id, message_id), shape=_MESSAGE))

    async def unpin_message(self, room_id: str, message_id: str) -> None:
        """Unpins a message; where it is not pinned, nothing changes. For the same users. Raises ApiError: 403, 404."""
        await self.call("DELETE", pin_path(room_id, message_id))

    async def list_pins(
        self, room_id: str, *, limit: int | None = None, offset: int | None = None, cursor: str | None = None
    ) -> PinnedPage:
        """The room's pinned messages, the newest pin first. `limit`: 1 to 100 (50). Raises ApiError: 403, 404."""
        query = {"limit": limit, "offset": offset, "cursor": cursor}
        return cast(
            PinnedPage, await self.call("GET", f"{room_path(room_id)}/pins", query=query, shape={"messages": list})
        )

    async def search(
        self,
        q: str,
        *,
        room_id: str | None = None,
        sender_id: str | None = None,
        after: str | None = None,
        before: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
        cursor: str | None = None,
    ) -> SearchPage:
        """Messages that have all words, "phrases" and prefix* of `q`, the newest first, without case and diacritics, in
        the caller's rooms.

        `q`: up to 256 characters and 16 terms. `room_id`: in this room alone, which may be a channel; one that the
        caller may not read finds nothing. `sender_id`: of this user alone. `after`, `before`: times of RFC 3339, both
        excluded. `limit`: 1 to 100 (50). `offset`: up to 1,000. Raises ApiError: 400; 404 where search is off; 503 for
        a search of more than 2 seconds.
        """
        query = {
            "q": q,
            "room_id": room_id,
            "sender_id": sender_id,
            "after": after,
            "before": before,
            "limit": limit,
            "offset": offset,
            "cursor": cursor,
        }
        return cast(SearchPage, await self.call("GET", "/search", query=query, shape={"results": list}))
