"""From records to what the server sends: envelopes and frames. `store.log` states the shape of a message once more, in
SQL, and a test holds the two together."""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET

from chatapi.errors import ChatError
from chatapi.models import MemberState, encode_time
from chatapi.protocol.answers import Answer, Envelope, ErrorBody, Member, Message
from chatapi.protocol.fields import Annotations, MessageFields, ThreadSummary, or_unset
from chatapi.protocol.json import Encoded, dumps, encode, encoded
from chatapi.protocol.server_frames import (
    ErrorFrame,
    MessageDeletedFrame,
    MessageEditedFrame,
    MessageFinishedFrame,
    MessageFrame,
    MessageSentFrame,
    ReadyFrame,
    ReadyRoomsFrame,
    RoomInReady,
    ServerFrame,
)
from chatapi.protocol.wire import decode_text, encode_text


def encode_envelope(data: Answer) -> bytes:
    return encode(Envelope(True, data, None))


def encode_error_envelope(error: ChatError) -> bytes:
    return encode(Envelope(False, None, error_body(error)))


def error_body(error: ChatError) -> ErrorBody:
    details = UNSET if error.details is None else dict(error.details)
    return ErrorBody(code=error.code, message=error.message, field=or_unset(error.field), details=details)


def encode_frame(frame: ServerFrame) -> bytes:
    """A whole WebSocket frame, the same bytes for every connection (RFC 6455, section 5.2)."""
    return encode_text(encode(frame))


def encode_error_frame(error: ChatError, request_id: str | None = None) -> bytes:
    """The error as a whole frame; `retry_after_ms` is at least 1."""
    body = error_body(error)
    retry_after_ms = UNSET if error.retry_after_s is None else max(1, round(error.retry_after_s * 1000))
    return encode_frame(
        ErrorFrame(
            code=body.code,
            message=body.message,
            field=body.field,
            details=body.details,
            retry_after_ms=retry_after_ms,
            request_id=or_unset(request_id),
        )
    )


def add_request_id(frame: bytes, request_id: str | None) -> bytes:
    """The copy of an encoded event that goes to the one who asked for it."""
    if request_id is None:
        return frame
    return encode_text(b'%s,"request_id":%s}' % (decode_text(frame)[:-1], dumps(request_id)))


# Messages


_TYPE = b'"type":"message",'
_OF_EVENTS = len(MessageFields.__struct_fields__)  # the first fields of a `Message`; the others are `Annotations`


def message_frame(message: Message) -> MessageFrame:
    return MessageFrame(*msgspec.structs.astuple(message)[:_OF_EVENTS])


def encode_message_frame(message: Message) -> bytes:
    """The frame of a message that was just stored and has no annotations: that of `message_frame`, without a second
    record."""
    return encode_text(b"{%s%s" % (_TYPE, encode(message)[1:]))


def message_sent_frame(message: Message, request_id: str | None) -> MessageSentFrame:
    return MessageSentFrame(
        room_id=message.room_id,
        message_id=message.message_id,
        seq=message.seq,
        client_message_id=message.client_message_id,
        created_at=message.created_at,
        stream=message.stream,
        request_id=or_unset(request_id),
    )


def message_edited_frame(message: Message, seq: int) -> MessageEditedFrame:
    """The edit's own `seq`; the message's is `target_seq`."""
    edited = msgspec.structs.replace(message, seq=seq)
    return MessageEditedFrame(*msgspec.structs.astuple(edited)[:_OF_EVENTS], target_seq=message.seq)


def message_finished_frame(message: Message, seq: int) -> MessageFinishedFrame:
    """The end's own `seq`; the message's is `target_seq`."""
    finished = msgspec.structs.replace(message, seq=seq)
    return MessageFinishedFrame(*msgspec.structs.astuple(finished)[:_OF_EVENTS], target_seq=message.seq)


def is_finished_frame(frame: bytes) -> bool:
    return decode_text(frame).startswith(b'{"type":"message.finished",')


def message_deleted_frame(message: Message, seq: int, root: Message | None = None) -> MessageDeletedFrame:
    """`root`: of a reply, as it is without it."""
    is_alone = root is None or root.thread is UNSET
    return MessageDeletedFrame(
        room_id=message.room_id,
        message_id=message.message_id,
        seq=seq,
        target_seq=message.seq,
        thread_id=message.thread_id,
        thread=UNSET if message.thread_id is UNSET else None if is_alone or root is None else root.thread,
    )


def encode_annotations(message: Message) -> bytes:
    """The members of the message's JSON object that its events do not carry, or nothing."""
    return encode(Annotations(*msgspec.structs.astuple(message)[_OF_EVENTS:]))[1:-1]


def count_reply(annotations: bytes, reply: Message) -> bytes:
    """The annotations of a message that has one reply more."""
    before = msgspec.json.decode(b"{%s}" % annotations, type=Annotations)
    thread = ThreadSummary(
        reply_count=1 if before.thread is UNSET else before.thread.reply_count + 1,
        last_reply_seq=reply.seq,
        last_reply_at=reply.created_at,
    )
    return encode(msgspec.structs.replace(before, thread=thread))[1:-1]


def annotate(event: bytes, annotations: bytes) -> bytes:
    """The JSON of a message, and so of its event, with what `encode_annotations` has made."""
    return b"%s,%s}" % (event[:-1], annotations) if annotations else event


def annotate_frame(frame: bytes, annotations: bytes) -> bytes:
    """The same of a whole frame."""
    return encode_text(annotate(decode_text(frame), annotations))


def join_messages(frames: Iterable[bytes]) -> Encoded[list[Message]]:
    """The messages that frames of type `message` hold."""
    return join_json([strip_type(decode_text(frame)) for frame in frames])


def strip_type(event: bytes) -> bytes:
    """The message that an event of type `message` holds."""
    return event.replace(_TYPE, b"", 1)


def join_json(items: Iterable[bytes]) -> Encoded[list[Any]]:
    """A list of what is JSON already."""
    return encoded(b"[" + b",".join(items) + b"]")


def member_record(member: MemberState, muted_until_us: int | None) -> Member:
    muted_until = UNSET if muted_until_us is None else encode_time(muted_until_us)
    joined_at = encode_time(member.joined_at_us)
    return Member(user_id=member.user_id, role=member.role, joined_at=joined_at, muted_until=muted_until)


# The beginning of a connection

MAX_READY_BYTES = 256 * 1024  # of each part: many clients take frames of 1 MiB at most (docs/contract.md, section 11)


def encode_ready(ready: ReadyFrame) -> list[bytes]:
    """`ready`, followed by `ready.rooms` as long as there are more rooms than go into one frame."""
    whole = encode_frame(ready)
    if len(whole) <= MAX_READY_BYTES:
        return [whole]
    rooms = ready.rooms
    # Most rooms are alike: as many as may be expected to fit, with a sixth to spare.
    per_part = max(1, len(rooms) * MAX_READY_BYTES * 5 // (len(whole) * 6))
    bare_bytes = len(encode(msgspec.structs.replace(ready, rooms=[])))
    first, *others = _split(rooms, per_part, MAX_READY_BYTES - bare_bytes - 64)
    frames = [encode_frame(msgspec.structs.replace(ready, rooms=first, more=True))]
    for number, part in enumerate(others, start=1):
        frames.append(encode_frame(ReadyRoomsFrame(rooms=part, more=number < len(others))))
    return frames


def _split(items: list[RoomInReady], per_part: int, max_bytes: int) -> list[list[RoomInReady]]:
    """Parts of at most `per_part` items, and of at most `max_bytes` as JSON unless it is one item."""
    parts = [items[start : start + per_part] for start in range(0, len(items), per_part)]
    return [
        smaller
        for part in parts
        for smaller in (
            [part] if len(part) == 1 or len(encode(part)) <= max_bytes else _split(part, len(part) // 2, max_bytes)
        )
    ]
