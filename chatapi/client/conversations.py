"""The REST calls on what users do with messages."""

from typing import Literal, cast

from msgspec import UNSET, UnsetType

from chatapi.client.drafts import given
from chatapi.client.envelope import Shape
from chatapi.client.http import RestClient
from chatapi.client.paths import message_path, pin_path, reaction_path, room_path
from chatapi.client.records import (
    AppendAnswer,
    CancelAnswer,
    Json,
    Message,
    MessageReactions,
    PinnedPage,
    ReactionPage,
)
from chatapi.client.search_records import SearchPage

_MESSAGE: Shape = {"message_id": str}


class ConversationCalls(RestClient):
    """Streams, reactions, pins and search: a part of `ChatAPI`."""

    async def append_to_message(self, room_id: str, message_id: str, index: int, text: str) -> AppendAnswer:
        """Appends to a message that was opened as a stream; returns once the text, and all before it, is stored. The
        same `index` with the same text is stored once. `index`: 1 for the first append, then one more each time.
        `text`: up to 16 KiB of UTF-8; an empty one with the last `index` only says that the sender is still there.
        For its sender. Raises ApiError: 409 for an index that does not follow, where `details["index"]` is the last
        one that is stored, and for a stream that has ended; 400, 403, 404."""
        path = f"{message_path(room_id, message_id)}/append"
        answer = await self.call(
            "POST", path, body={"index": index, "text": text}, is_idempotent=True, shape={"index": int}
        )
        return cast(AppendAnswer, answer)

    async def finish_message(
        self,
        room_id: str,
        message_id: str,
        state: Literal["done", "cancelled", "failed"],
        *,
        index: int | UnsetType = UNSET,
        content: str | UnsetType = UNSET,
        meta: Json | UnsetType | None = UNSET,
    ) -> Message:
        """Ends a stream and returns the message; the same end again changes nothing. `index`: of the last append.
        `content` replaces all that was appended; `meta` stays when it is not given, None clears it. For its sender.
        Raises ApiError: 409 for another `index`, or a stream that has ended otherwise; 400, 403, 404."""
        body = given(state=state, index=index, content=content, meta=meta)
        path = f"{message_path(room_id, message_id)}/finish"
        return cast(Message, await self.call("POST", path, body=body, is_idempotent=True, shape=_MESSAGE))

    async def cancel_message(self, room_id: str, message_id: str) -> CancelAnswer:
        """Asks the sender of a stream to stop, who decides. For members who may post. Raises ApiError: 409 for a stream
        that has ended; 403, 404."""
        path = f"{message_path(room_id, message_id)}/cancel"
        return cast(CancelAnswer, await self.call("POST", path, is_idempotent=True, shape=_MESSAGE))

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
