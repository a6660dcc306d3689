"""Pins: a room's admins, in a dm both, mark messages that its readers find again."""

import msgspec
from msgspec import UNSET, UnsetType

from chatapi.access import Access, check_may_pin, claim_undeleted
from chatapi.committer import Committer
from chatapi.errors import conflict
from chatapi.models import Principal, encode_time
from chatapi.protocol.answers import Message
from chatapi.protocol.pages import Page, read_window
from chatapi.protocol.queries import PageQuery
from chatapi.protocol.server_frames import MessagePinnedFrame, MessageUnpinnedFrame
from chatapi.room import RoomState
from chatapi.room_log import RoomLog
from chatapi.store import Store, Transaction, log
from chatapi.store import pins as store_pins

MAX_PINS = 100  # of a room: more than anybody looks through


class Pins:
    """The operations on pins. Each passes a gate of `Access` first, and raises ChatError when that refuses."""

    def __init__(self, store: Store, committer: Committer, access: Access, room_log: RoomLog) -> None:
        self._store = store
        self._committer = committer
        self._access = access
        self._room_log = room_log

    async def pin(self, principal: Principal, room_id: str, message_id: str) -> Message:
        """The message as it is read afterwards. Pinning it again changes nothing."""
        room = await self._access.access_member(principal, room_id)
        check_may_pin(room, principal.user_id)
        tenant_key, user_id = room.tenant.tenant_key, principal.user_id

        async def apply(transaction: Transaction) -> tuple[Message, MessagePinnedFrame | None]:
            message_key, message = await claim_undeleted(transaction, principal, room, message_id)
            check_may_pin(room, user_id)
            if message.pinned_at is not UNSET:
                return message, None
            if await store_pins.count_pins(transaction, tenant_key, room.room_key, MAX_PINS) == MAX_PINS:
                raise conflict(f"A room has at most {MAX_PINS} pinned messages")
            seq, pinned_at = transaction.take_seq(room.counter), encode_time(transaction.now_us)
            await store_pins.insert(transaction, tenant_key, room.room_key, message.seq, user_id, seq)
            await log.mark_annotated(transaction, tenant_key, room.room_key, message_key)
            frame = MessagePinnedFrame(
                room_id=room.room_id,
                message_id=message.message_id,
                target_seq=message.seq,
                user_id=user_id,
                pinned_at=pinned_at,
                seq=seq,
            )
            await self._room_log.append(transaction, room, seq, frame, None, is_quiet=True)
            return msgspec.structs.replace(message, pinned_at=pinned_at), frame

        message, _ = await self._store.writer.change(apply, lambda result: self._publish(room, *result))
        return message

    async def unpin(self, principal: Principal, room_id: str, message_id: str) -> None:
        """Where the message is not pinned, nothing changes."""
        room = await self._access.access_member(principal, room_id)
        check_may_pin(room, principal.user_id)

        async def apply(transaction: Transaction) -> tuple[Message, MessageUnpinnedFrame | None]:
            _, message = await claim_undeleted(transaction, principal, room, message_id)
            check_may_pin(room, principal.user_id)
            if message.pinned_at is UNSET:
                return message, None
            seq = transaction.take_seq(room.counter)
            await store_pins.delete(transaction, room.tenant.tenant_key, room.room_key, message.seq)
            frame = MessageUnpinnedFrame(
                room_id=room.room_id,
                message_id=message.message_id,
                target_seq=message.seq,
                user_id=principal.user_id,
                seq=seq,
            )
            await self._room_log.append(transaction, room, seq, frame, None, is_quiet=True)
            return msgspec.structs.replace(message, pinned_at=UNSET), frame

        await self._store.writer.change(apply, lambda result: self._publish(room, *result))

    async def list_page(self, principal: Principal, room_id: str, query: PageQuery) -> tuple[Page, str | UnsetType]:
        """The pinned messages, the newest pin first, and the cursor of the next page."""
        room = await self._access.access_reader(principal, room_id)
        scope = ("pins", room.tenant.tenant_id, room.room_id)
        window = read_window(query, scope, store_pins.PINS_START.values())
        page = await store_pins.list_pins(self._store.readers, room.tenant.tenant_key, room.room_key, window)
        return page, page.next_cursor(scope)

    def _publish(
        self, room: RoomState, message: Message, frame: MessagePinnedFrame | MessageUnpinnedFrame | None
    ) -> None:
        if frame is not None:
            self._committer.publish_annotation(room, message, frame, None)
