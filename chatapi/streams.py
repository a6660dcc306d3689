"""Streams: messages that are still being written. `Chat.send_message` opens one, its sender appends to it
(`appends.py`) and ends it; others may ask for its end."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from chatapi.access import Access, check_alive, check_may_edit, claim_undeleted
from chatapi.appends import Appends, check_sender, refuse_ended
from chatapi.chat import check_content
from chatapi.clock import Clock
from chatapi.committer import Committer
from chatapi.connection import Connection, Requester
from chatapi.errors import ChatError
from chatapi.hub import Hub
from chatapi.mentions import note_changed_mentions
from chatapi.models import Principal, TenantState, UserId
from chatapi.open_streams import OpenStream, find_index, is_open, refuse
from chatapi.protocol.answers import Message
from chatapi.protocol.encoders import add_request_id, encode_frame, message_finished_frame
from chatapi.protocol.fields import StreamStatus, optional_fields_of
from chatapi.protocol.json import dumps_text, encoded, text_of
from chatapi.protocol.server_frames import MessageCancelRequestedFrame
from chatapi.protocol.stream_requests import StreamEnding
from chatapi.room import RoomState
from chatapi.room_log import RoomLog
from chatapi.rooms import Rooms
from chatapi.store import Store, Transaction, log, mentions
from chatapi.store import streams as store_streams
from chatapi.store.mentions import Mentioning
from chatapi.webhooks.queue import EndedMessage, WebhookQueue

ENDS_AT_ONCE = 100  # streams that have been idle for too long, ended in one round


class _End(NamedTuple):
    message: Message
    seq: int  # of the event
    last_index: int
    is_new: bool


class Streams:
    """The operations on open streams, appends aside. Each passes a gate of `Access` first, and raises ChatError when
    that refuses."""

    def __init__(
        self,
        store: Store,
        rooms: Rooms,
        hub: Hub,
        committer: Committer,
        access: Access,
        appends: Appends,
        webhook_queue: WebhookQueue,
        room_log: RoomLog,
        clock: Clock,
        idle_seconds: float,
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._open = rooms.streams
        self._hub = hub
        self._committer = committer
        self._access = access
        self._appends = appends
        self._webhook_queue = webhook_queue
        self._room_log = room_log
        self._clock = clock
        self._idle_seconds = idle_seconds

    async def load(self, tenants: Iterable[TenantState]) -> None:
        """Takes up what was open when the server ended: each has all of its idle time again."""
        by_key = {tenant.tenant_key: tenant for tenant in tenants}
        for stored in await store_streams.list_open(self._store.readers):
            if stored.tenant_key not in by_key:
                continue  # a deleted tenant's, which is being purged
            stream = OpenStream(by_key[stored.tenant_key], stored.room_key, stored.message, self._clock.monotonic_s())
            stream.load(stored.text, stored.sizes)
            stream.cancel_requested = stored.message.stream is not UNSET and (
                stored.message.stream.cancel_requested is True
            )
            self._open.add(stream)

    # Ending

    async def finish(
        self,
        principal: Principal,
        room_id: str,
        message_id: str,
        end: StreamEnding,
        requester: Requester | None = None,
    ) -> Message:
        """The message, once its end is committed and published. The same end again changes nothing."""
        room = await self._access.access_member(principal, room_id)
        user_id = principal.user_id
        stream = self._open.find(room.room_key, message_id)
        if stream is not None:
            check_sender(stream.message, user_id)
            check_may_edit(room, user_id)
            if end.content is not UNSET:
                check_content(end.content, principal.tenant.settings.max_message_bytes)
            await self._appends.wait_for_all(stream)

        async def apply(transaction: Transaction) -> _End:
            found = await claim_undeleted(transaction, principal, room, message_id)
            check_sender(found.message, user_id)
            check_may_edit(room, user_id)
            if not is_open(found.message):
                return await self._repeat_end(transaction, room, found, end)
            return await self._end(transaction, room, found, end)

        def publish(result: _End) -> None:
            if result.is_new:
                self._publish_end(room, result, requester)
            elif requester is not None:
                event = message_finished_frame(result.message, result.seq)
                self._hub.answer_with_past_event(requester, room, result.seq, encode_frame(event))

        characters = 0 if end.content is UNSET else len(end.content)
        return (await self._store.writer.change(apply, publish, characters=characters)).message

    async def end_idle(self) -> None:
        """Ends the streams whose senders have not been heard of for too long: they have failed. Those of tenants that
        are held for a move wait: their refusal would keep the others from their turn."""
        long_ago_s = self._clock.monotonic_s() - self._idle_seconds
        idle = [
            stream for stream in self._open.list_all() if stream.heard_at_s <= long_ago_s and stream.tenant.hold is None
        ]
        for stream in idle[:ENDS_AT_ONCE]:
            if self._open.find(stream.room_key, stream.message.message_id) is stream:
                await self._fail_idle(stream)

    async def _fail_idle(self, stream: OpenStream) -> None:
        try:
            room = await self._rooms.get(stream.tenant, stream.message.room_id)
        except ChatError:
            return  # it was deleted, and the stream with it

        async def apply(transaction: Transaction) -> _End | None:
            check_alive(room)
            found = await log.find_message(
                transaction, room.tenant.tenant_key, room.room_key, room.room_id, stream.message.message_id
            )
            if found is None or not is_open(found.message):
                return None
            return await self._end(transaction, room, found, StreamEnding(state="failed"))

        def publish(result: _End | None) -> None:
            if result is not None:
                self._publish_end(room, result, None)

        await self._store.writer.change(apply, publish)

    async def _end(
        self, transaction: Transaction, room: RoomState, found: log.StoredMessage, end: StreamEnding
    ) -> _End:
        message_key, message = found
        last_index = find_index(message)
        if end.index is not UNSET and end.index != last_index:
            raise refuse("This is not the index of the last append", last_index, "open")
        content = (message.content or "") if end.content is UNSET else end.content
        meta = _find_meta(message, end)
        ended = msgspec.structs.replace(
            message, content=content, meta=encoded(meta), stream=StreamStatus(state=end.state)
        )
        seq = transaction.take_seq(room.counter)
        await store_streams.end(
            transaction,
            room.tenant.tenant_key,
            room.room_key,
            message_key,
            seq=message.seq,
            state=end.state,
            content=content,
            meta=meta,
        )
        await self._room_log.append(transaction, room, seq, None, message_key, last_index=last_index)
        optional = optional_fields_of(ended)
        await mentions.insert_mentions(
            transaction, Mentioning(room.room_key, message_key, message.seq, message.sender_id, optional)
        )
        if content:
            now_key = self._store.writer.next_key()
            told = EndedMessage(room, UserId(message.sender_id), message_key, seq, optional, now_key)
            await self._webhook_queue.queue_ended(transaction, told)
        return _End(ended, seq, last_index, True)

    async def _repeat_end(
        self, transaction: Transaction, room: RoomState, found: log.StoredMessage, end: StreamEnding
    ) -> _End:
        """Raises ChatError unless the stream has ended in just this way."""
        message = found.message
        ending = await store_streams.find_ending(transaction, room.tenant.tenant_key, room.room_key, found.message_key)
        last_index = None if ending is None else ending.last_index
        if message.stream is UNSET:
            raise refuse("The message is no stream", None, None)
        is_same = (
            end.state == message.stream.state
            and (end.index is UNSET or end.index == last_index)
            and (end.content is UNSET or end.content == message.content)
            and (end.meta is UNSET or _find_meta(message, end) == _text_of(message))
        )
        if not is_same:
            raise refuse("The stream has ended otherwise", last_index, message.stream.state)
        return _End(message, message.seq if ending is None else ending.seq, last_index or 0, False)

    def _publish_end(self, room: RoomState, result: _End, requester: Requester | None) -> None:
        message, seq, last_index, _ = result
        assert message.stream is not UNSET  # it has ended
        ended = refuse("The stream has ended", last_index, message.stream.state)
        stream = self._open.find(room.room_key, message.message_id)
        if stream is not None:
            self._appends.fail(stream, ended)
            self._open.remove(stream, ended)
        if message.mentions is not UNSET or message.mention_room is not UNSET:
            note_changed_mentions(room, message)
        self._committer.publish_message_change(room, message, message_finished_frame(message, seq), requester)

    # Cancelling

    async def cancel(
        self, principal: Principal, room_id: str, message_id: str, requester: Requester | None = None
    ) -> None:
        """Asks the sender to stop, who decides. Once the wish is stored, their connections are told, the first time."""
        room = await self._access.access_member(principal, room_id)
        user_id = principal.user_id
        check_may_edit(room, user_id)

        async def apply(transaction: Transaction) -> tuple[Message, bool]:
            found = await claim_undeleted(transaction, principal, room, message_id)
            check_may_edit(room, user_id)
            if not is_open(found.message):
                raise await refuse_ended(transaction, room, found)
            is_new = await store_streams.ask_to_stop(
                transaction, room.tenant.tenant_key, room.room_key, found.message.seq
            )
            return found.message, is_new

        def publish(result: tuple[Message, bool]) -> None:
            message, is_new = result
            stream = self._open.find(room.room_key, message.message_id)
            if stream is not None:
                stream.ask_to_stop()
            self._tell_sender(room, message, user_id, requester, is_new)

        await self._store.writer.change(apply, publish)

    def _tell_sender(
        self, room: RoomState, message: Message, user_id: UserId, requester: Requester | None, is_new: bool
    ) -> None:
        frame = encode_frame(
            MessageCancelRequestedFrame(room_id=room.room_id, message_id=message.message_id, user_id=user_id)
        )
        if requester is not None:
            self._hub.send(requester.connection, add_request_id(frame, requester.request_id))
        stream = self._open.find(room.room_key, message.message_id)
        if not is_new or stream is None:
            return
        for connection in list(self._hub.connections_of(room.tenant.tenant_key, UserId(message.sender_id))):
            if requester is None or connection is not requester.connection:
                _forget_ended(connection)
                self._hub.send_undroppable(connection, {(stream, MessageCancelRequestedFrame): frame})


def _forget_ended(connection: Connection) -> None:
    """So that no more frames wait for a connection than there are open streams."""
    for key in [key for key in connection.undroppable if isinstance(key[0], OpenStream) and key[0].ended is not None]:
        del connection.undroppable[key]


def _find_meta(message: Message, end: StreamEnding) -> str | None:
    """The `meta` after the end, as JSON."""
    if end.meta is UNSET:
        return _text_of(message)
    return None if end.meta is None else dumps_text(end.meta)


def _text_of(message: Message) -> str | None:
    return None if message.meta is None else text_of(message.meta)
