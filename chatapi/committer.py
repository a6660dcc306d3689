"""The writer's other half: it decides whether a message may be stored, adds the rows beside it, and publishes each
commit.

Committed events become visible here and nowhere else: in the order of the commits, and before anybody is told.
"""

from collections import Counter
from collections.abc import Sequence

import msgspec

from chatapi.access import check_alive, check_may_post, check_member, refuse_for_slow_mode
from chatapi.connection import Requester
from chatapi.errors import conflict, rate_limited
from chatapi.history import HistoryCache
from chatapi.hub import Hub
from chatapi.mentions import check_mentions, note_new_mentions
from chatapi.models import TenantKey, UserId, encode_message_id, encode_time
from chatapi.presence import Presence
from chatapi.protocol.answers import Message
from chatapi.protocol.encoders import (
    count_reply,
    encode_annotations,
    encode_frame,
    encode_message_frame,
    is_finished_frame,
    message_edited_frame,
    message_finished_frame,
    message_frame,
)
from chatapi.protocol.fields import StreamStatus, fields_of
from chatapi.protocol.json import encoded
from chatapi.protocol.server_frames import LogEvent, MessageEditedFrame, MessageFinishedFrame
from chatapi.room import RoomState
from chatapi.rooms import Rooms
from chatapi.rules import Rules
from chatapi.store import Change, MessageWrite, Write, log, mentions, streams, threads, views
from chatapi.store.keys import find_key_time
from chatapi.store.writes import Statement
from chatapi.views import unhide
from chatapi.webhooks.queue import WebhookQueue

OPEN_STREAMS_RETRY_SECONDS = 1.0  # after which a tenant may try again that has as many open as it may


class Committer:
    """Given to the writer, which calls `check_sender` and `list_statements` within its transaction, and `publish` after
    it."""

    def __init__(
        self, *, rooms: Rooms, history: HistoryCache, hub: Hub, presence: Presence, webhook_queue: WebhookQueue
    ) -> None:
        self._rooms = rooms
        self._history = history
        self._hub = hub
        self._presence = presence
        self._webhook_queue = webhook_queue
        self._slow: dict[tuple[RoomState, UserId], MessageWrite] = {}  # of this batch, the users' messages in slow mode
        self._opening: dict[MessageWrite, None] = {}  # of this batch, the streams
        self.committed: Counter[TenantKey] = Counter()  # messages since the start, of each tenant

    def check_sender(self, write: MessageWrite) -> None:
        """Raises ChatError: the sender may have been removed, or the room deleted, while the message waited."""
        check_alive(write.room)
        check_member(write.room, UserId(write.sender_id))

    def judge(self, write: MessageWrite) -> None:
        """Raises ChatError when the message may not be stored unless it repeats one that is."""
        if write.refusal is not None:
            raise write.refusal
        if write.room.rules is not None:
            check_may_post(write.room, UserId(write.sender_id))
            self._check_one_at_a_time(write, write.room.rules)
        if write.optional is not None:
            check_mentions(write.room, UserId(write.sender_id), write.mentioned, write.optional)
            if write.optional.stream:
                self._check_open_streams(write)

    def _check_open_streams(self, write: MessageWrite) -> None:
        tenant = write.room.tenant
        opening = sum(other.room.tenant is tenant and other.error is None for other in self._opening if other != write)
        if self._rooms.streams.count_of_tenant(tenant.tenant_key) + opening >= tenant.settings.open_streams:
            raise rate_limited(OPEN_STREAMS_RETRY_SECONDS, "Too many streams are open")
        self._opening[write] = None

    def list_counted(self, messages: Sequence[MessageWrite]) -> Sequence[MessageWrite]:
        """In slow mode a message counts for the user's next one, a repetition does not."""
        return [
            write
            for write in messages
            if write.room.rules is not None
            and write.room.rules.slow_mode_seconds
            and write.client_message_id is not None
        ]

    def _check_one_at_a_time(self, write: MessageWrite, rules: Rules) -> None:
        """In slow mode a user's second message in one batch comes too early, though the first is not committed yet."""
        user_id = UserId(write.sender_id)
        if not rules.slow_mode_seconds or user_id in write.room.admins:
            return
        first = self._slow.setdefault((write.room, user_id), write)
        if first is not write and first.error is None:
            wait = rules.find_wait_after(rules.now_us())
            assert wait is not None  # slow mode takes at least a second
            raise refuse_for_slow_mode(*wait)
        self._slow[write.room, user_id] = write

    def list_statements(self, messages: Sequence[MessageWrite]) -> Sequence[Statement]:
        """Statements to run in the transaction of these messages, whose keys and seqs are known."""
        marked = [write for write in messages if write.optional is not None]
        beside = self._list_marked(messages, marked) if marked else self._webhook_queue.list_statements(messages)
        hidden = [write for write in messages if write.room.hidden_by]
        return [*beside, *views.list_statements(hidden)] if hidden else beside

    def _list_marked(self, messages: Sequence[MessageWrite], marked: Sequence[MessageWrite]) -> Sequence[Statement]:
        """The same where some have more than plain fields. Nobody is told of a stream before it has ended."""
        opened = [write for write in marked if write.optional is not None and write.optional.stream]
        told = [write for write in messages if write.optional is None or not write.optional.stream]
        replies = [write for write in marked if write.root_seq]
        return [
            *streams.list_statements(opened),
            *mentions.list_statements(marked),
            *threads.list_statements(replies),
            *self._webhook_queue.list_statements(told),
        ]

    def publish(self, batch: Sequence[Write]) -> None:
        """Publishes a batch that was committed (or refused), in its order: each sender is confirmed before its
        message goes out, and the messages of one room go out as one chunk."""
        chunks: dict[RoomState, list[bytes]] = {}
        self._rooms.begin_commit()
        for write in batch:
            if isinstance(write, Change):
                self._fan_out(chunks)
                self._rooms.begin_change(write.stored_us)
                write.finish()
            else:
                self._publish_message(write, chunks)
        self._fan_out(chunks)
        self._slow.clear()
        self._opening.clear()
        self._hub.flush()
        self._webhook_queue.wake_worker()

    def publish_message_change(
        self, room: RoomState, message: Message, event: LogEvent, requester: Requester | None
    ) -> None:
        """Publishes the room's next event, which made the message what it now is, after updating the caches."""
        self._tell_caches(room, message)
        frame = encode_frame(event)
        # In the log an edit, and the end of a stream, show the message as it now stands; every other event about it
        # stays as it was.
        shows_message = isinstance(event, MessageEditedFrame | MessageFinishedFrame)
        self._rooms.remember(room, frame, message.seq if shows_message else 0)
        self._hub.publish_requested(room, frame, requester)

    def publish_annotation(
        self, room: RoomState, message: Message, event: LogEvent, requester: Requester | None
    ) -> None:
        """Publishes the room's next event, by which something was added to the message or taken from it by others than
        its sender, after updating the caches. It does not count as activity of the room."""
        self.tell_annotations(room, message)
        frame = encode_frame(event)
        self._rooms.remember_quiet(room, frame)
        self._hub.publish_requested(room, frame, requester)

    def tell_annotations(self, room: RoomState, message: Message) -> None:
        """Updates all caches that hold the message with its annotations."""
        self._tell_annotations(room, message.seq, encode_annotations(message))

    def _tell_annotations(self, room: RoomState, seq: int, annotations: bytes) -> None:
        self._rooms.annotate(room, seq, annotations)
        self._history.forget(room, seq)

    def _tell_caches(self, room: RoomState, message: Message) -> None:
        """Updates all caches that hold this message encoded, or count it."""

        def encode_entry(seq: int, before: bytes) -> bytes:
            if seq == message.seq:
                return encode_frame(message_frame(message))
            if is_finished_frame(before):
                return encode_frame(message_finished_frame(message, seq))
            return encode_frame(message_edited_frame(message, seq))

        self._rooms.replace_message(room, message.seq, encode_entry)
        self.tell_annotations(room, message)
        if message.deleted_at is not None:
            self._rooms.rankings.void_counts(room.room_key)

    def _publish_message(self, write: MessageWrite, chunks: dict[RoomState, list[bytes]]) -> None:
        room = write.room
        if write.error is not None or write.stored is not None or write.repeats is not None:
            _resolve_repetition(write, room)
            write.confirm(write)
            return
        write.message = Message(
            message_id=encode_message_id(write.message_key),
            room_id=room.room_id,
            seq=write.seq,
            sender_id=write.sender_id,
            content=write.content,
            meta=encoded(write.meta_text),
            reply_to=write.reply_to,
            client_message_id=write.client_message_id,
            created_at=encode_time(write.created_at_us),
            edited_at=None,
            deleted_at=None,
        )
        if write.optional is not None:
            write.message = msgspec.structs.replace(write.message, **fields_of(write.optional))
            if write.optional.stream:
                write.message = msgspec.structs.replace(write.message, stream=StreamStatus(state="open", index=0))
                self._rooms.open_stream(room, write.message)
        write.confirm(write)
        if room.rules is not None:
            room.rules.note_post(UserId(write.sender_id), write.created_at_us)
        frame = encode_message_frame(write.message)
        self._rooms.remember(room, frame, write.seq, find_key_time(write.message_key))
        chunks.setdefault(room, []).append(frame)
        if write.optional is not None and not write.optional.stream:
            note_new_mentions(room, write.message)
        if write.root_seq:
            annotations = room.ring.find_annotations(write.root_seq)
            self._tell_annotations(room, write.root_seq, count_reply(annotations, write.message))
        if room.hidden_by:
            unhide(self._rooms, self._hub, room, UserId(write.sender_id))
        self._presence.stop_typing(room, UserId(write.sender_id))

    def _fan_out(self, chunks: dict[RoomState, list[bytes]]) -> None:
        for room, frames in chunks.items():
            self.committed[room.tenant.tenant_key] += len(frames)
            self._hub.publish(room, frames)
        chunks.clear()


def get_outcome(write: MessageWrite) -> tuple[Message, bool]:
    """The outcome of a finished write: the message as it now stands, and whether it is new. Raises ChatError."""
    if write.error is not None:
        raise write.error
    assert write.message is not None  # finished
    return write.message, write.stored is None and write.repeats is None


def _resolve_repetition(write: MessageWrite, room: RoomState) -> None:
    """A retry with the same body gets the first message."""
    if write.error is not None:
        return
    first = write if write.repeats is None else write.repeats
    if first.stored is not None:  # `first` is itself a retry, perhaps one with another body
        digest = first.stored[0]
        write.message = log.read_message(room.room_id, first.stored[1:]).message
    else:
        digest, write.message, write.error = first.body_digest, first.message, first.error
    if write.error is None and digest != write.body_digest:
        assert write.message is not None  # either branch
        write.error = conflict(
            "client_message_id was used for another message", {"message_id": write.message.message_id}
        )
