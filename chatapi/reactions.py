"""Reactions: users add an emoji to a message, and take it back."""

from collections.abc import Collection

import msgspec
from msgspec import UNSET, UnsetType

from chatapi.access import Access, check_may_react, claim_undeleted
from chatapi.committer import Committer
from chatapi.connection import Requester
from chatapi.errors import conflict, not_found
from chatapi.hub import Hub
from chatapi.models import Principal, UserId, encode_time
from chatapi.protocol.answers import Message
from chatapi.protocol.encoders import add_request_id, encode_frame
from chatapi.protocol.fields import ReactionSummary, or_unset
from chatapi.protocol.pages import Page, read_window
from chatapi.protocol.queries import ReactionsQuery
from chatapi.protocol.requests import MAX_EMOJI, MAX_EMOJI_OF_USER
from chatapi.protocol.server_frames import ReactionAddedFrame, ReactionRemovedFrame
from chatapi.room import RoomState
from chatapi.room_log import RoomLog
from chatapi.store import Store, Transaction, log
from chatapi.store import reactions as store_reactions


class Reactions:
    """The operations on reactions. Each passes a gate of `Access` first, and raises ChatError when that refuses."""

    def __init__(self, store: Store, hub: Hub, committer: Committer, access: Access, room_log: RoomLog) -> None:
        self._store = store
        self._hub = hub
        self._committer = committer
        self._access = access
        self._room_log = room_log

    async def add(
        self,
        principal: Principal,
        room_id: str,
        message_id: str,
        emoji: str,
        requester: Requester | None = None,
    ) -> list[ReactionSummary]:
        """The message's reactions afterwards. Reacting again with the same emoji changes nothing."""
        room = await self._access.access_member(principal, room_id)
        tenant_key, user_id = room.tenant.tenant_key, principal.user_id
        check_may_react(room, user_id)

        async def apply(transaction: Transaction) -> tuple[Message, ReactionAddedFrame]:
            message_key, message = await claim_undeleted(transaction, principal, room, message_id)
            check_may_react(room, user_id)
            own = await store_reactions.list_own(transaction, tenant_key, room.room_key, message.seq, user_id)
            created_at_us = own.get(emoji)
            seq: int | None = None
            if created_at_us is None:
                _check_bounds(list_reactions(message), own, emoji)
                created_at_us, seq = transaction.now_us, transaction.take_seq(room.counter)
                if message.reactions is UNSET:
                    await log.mark_annotated(transaction, tenant_key, room.room_key, message_key)
                shown = await store_reactions.insert(
                    transaction, tenant_key, room.room_key, message.seq, user_id=user_id, emoji=emoji, seq=seq
                )
                message = msgspec.structs.replace(message, reactions=shown)
            frame = ReactionAddedFrame(
                room_id=room.room_id,
                message_id=message.message_id,
                target_seq=message.seq,
                user_id=user_id,
                emoji=emoji,
                count=count_users(message, emoji),
                created_at=encode_time(created_at_us),
                seq=or_unset(seq),
            )
            if seq is not None:
                await self._room_log.append(transaction, room, seq, frame, None, is_quiet=True)
            return message, frame

        message, _ = await self._store.writer.change(apply, lambda result: self._publish(room, *result, requester))
        return list_reactions(message)

    async def remove(
        self,
        principal: Principal,
        room_id: str,
        message_id: str,
        emoji: str,
        requester: Requester | None = None,
    ) -> None:
        """Takes the caller's own reaction back, also when they are muted; where there is none, nothing changes."""
        room = await self._access.access_member(principal, room_id)
        tenant_key, user_id = room.tenant.tenant_key, principal.user_id

        async def apply(transaction: Transaction) -> tuple[Message, ReactionRemovedFrame]:
            _, message = await claim_undeleted(transaction, principal, room, message_id)
            own = await store_reactions.list_own(transaction, tenant_key, room.room_key, message.seq, user_id)
            return await self._take_back(transaction, room, message, user_id, emoji, is_there=emoji in own)

        await self._store.writer.change(apply, lambda result: self._publish(room, *result, requester))

    async def erase(self, room: RoomState, user_id: UserId, message_id: str) -> None:
        """Takes back all of the user's reactions to the message."""
        tenant_key, room_key = room.tenant.tenant_key, room.room_key

        async def apply(transaction: Transaction) -> list[tuple[Message, ReactionRemovedFrame]]:
            found = await log.find_message(transaction, tenant_key, room_key, room.room_id, message_id)
            if room.gone or found is None or found.message.deleted_at is not None:
                return []
            message, removed = found.message, []
            for emoji in await store_reactions.list_own(transaction, tenant_key, room_key, message.seq, user_id):
                removed.append(await self._take_back(transaction, room, message, user_id, emoji, is_there=True))
                message = removed[-1][0]
            return removed

        def publish(removed: list[tuple[Message, ReactionRemovedFrame]]) -> None:
            for message, frame in removed:
                self._publish(room, message, frame, None)

        await self._store.writer.change(apply, publish)

    async def _take_back(
        self,
        transaction: Transaction,
        room: RoomState,
        message: Message,
        user_id: UserId,
        emoji: str,
        *,
        is_there: bool,
    ) -> tuple[Message, ReactionRemovedFrame]:
        """The message afterwards, and the event, which has no `seq` if nothing was there."""
        seq: int | None = None
        if is_there:
            seq = transaction.take_seq(room.counter)
            shown = await store_reactions.delete(
                transaction, room.tenant.tenant_key, room.room_key, message.seq, user_id=user_id, emoji=emoji
            )
            message = msgspec.structs.replace(message, reactions=shown or UNSET)
        frame = ReactionRemovedFrame(
            room_id=room.room_id,
            message_id=message.message_id,
            target_seq=message.seq,
            user_id=user_id,
            emoji=emoji,
            count=count_users(message, emoji),
            seq=or_unset(seq),
        )
        if seq is not None:
            await self._room_log.append(transaction, room, seq, frame, None, is_quiet=True)
        return message, frame

    async def list_page(
        self, principal: Principal, room_id: str, message_id: str, query: ReactionsQuery
    ) -> tuple[Page, str | UnsetType]:
        """The reactions to a message in the order of reacting, and the cursor of the next page. Raises ChatError
        NOT_FOUND for a deleted message, too."""
        room = await self._access.access_reader(principal, room_id)
        emoji = None if query.emoji is UNSET else query.emoji
        scope = ("reactions", room.tenant.tenant_id, room.room_id, message_id, emoji or "")
        window = read_window(query, scope, store_reactions.REACTIONS_START.values())
        readers = self._store.readers
        found = await log.find_message(readers, room.tenant.tenant_key, room.room_key, room.room_id, message_id)
        if found is None or found.message.deleted_at is not None:
            raise not_found("Message")
        about = sum(shown.count for shown in list_reactions(found.message) if emoji in (None, shown.emoji))
        page = await store_reactions.list_reactions(
            readers, room.tenant.tenant_key, room.room_key, found.message.seq, emoji, window, about
        )
        return page, page.next_cursor(scope)

    def _publish(
        self,
        room: RoomState,
        message: Message,
        frame: ReactionAddedFrame | ReactionRemovedFrame,
        requester: Requester | None,
    ) -> None:
        if frame.seq is not UNSET:
            self._committer.publish_annotation(room, message, frame, requester)
        elif requester is not None:
            self._hub.send(requester.connection, add_request_id(encode_frame(frame), requester.request_id))


def list_reactions(message: Message) -> list[ReactionSummary]:
    return [] if message.reactions is UNSET else message.reactions


def count_users(message: Message, emoji: str) -> int:
    """How many have reacted to the message with it."""
    return next((found.count for found in list_reactions(message) if found.emoji == emoji), 0)


def _check_bounds(there: list[ReactionSummary], own: Collection[str], emoji: str) -> None:
    if len(own) >= MAX_EMOJI_OF_USER:
        raise conflict(f"A user reacts to one message with at most {MAX_EMOJI_OF_USER} emoji")
    if len(there) >= MAX_EMOJI and all(found.emoji != emoji for found in there):
        raise conflict(f"A message has at most {MAX_EMOJI} different emoji")
