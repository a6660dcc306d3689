"""What the server sends: envelopes, and one encoder for each frame. Every event's shape is stated here and nowhere else
in Python; `store.log` states it once more in SQL, and a test holds the two together."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from chatapi.errors import ChatError
from chatapi.models import Member, Message, RoomId, UserId, encode_time
from chatapi.protocol.json import dumps, loads_stored
from chatapi.protocol.wire import decode_text, encode_text

T = TypeVar("T")


def encode_envelope(data: Mapping[str, object]) -> bytes:
    return dumps({"success": True, "data": data, "error": None})


def encode_raw_envelope(data: bytes) -> bytes:
    """The envelope around data that is JSON already."""
    return b'{"success":true,"data":' + data + b',"error":null}'


def encode_page(name: bytes, items: bytes, has_more: bool, next_cursor: str | None = None) -> bytes:
    """The envelope of a list whose items are JSON already."""
    more = b"true" if has_more else b"false"
    if next_cursor is not None:
        more += b',"next_cursor":' + dumps(next_cursor)
    return b'{"success":true,"data":{"' + name + b'":' + items + b',"has_more":' + more + b'},"error":null}'


def error_fields(error: ChatError) -> dict[str, object]:
    body: dict[str, object] = {"code": error.code, "message": error.message}
    if error.field is not None:
        body["field"] = error.field
    if error.details is not None:
        body["details"] = error.details
    return body


def encode_error_envelope(error: ChatError) -> bytes:
    return dumps({"success": False, "data": None, "error": error_fields(error)})


def encode_frame(frame_type: str, fields: Mapping[str, object], request_id: str | None = None) -> bytes:
    body = {"type": frame_type, **fields}
    if request_id is not None:
        body["request_id"] = request_id
    return encode_text(dumps(body))


def add_request_id(frame: bytes, request_id: str | None) -> bytes:
    """The copy of an encoded event that goes to the one who asked for it."""
    return (
        frame
        if request_id is None
        else encode_text(dumps({**loads_stored(decode_text(frame)), "request_id": request_id}))
    )


def encode_error_frame(error: ChatError, request_id: str | None = None) -> bytes:
    body = error_fields(error)
    if error.retry_after_s is not None:
        body["retry_after_ms"] = max(1, round(error.retry_after_s * 1000))
    return encode_frame("error", body, request_id)


def message_fields(message: Message) -> dict[str, object]:
    return {
        "message_id": message.message_id,
        "room_id": message.room_id,
        "seq": message.seq,
        "sender_id": message.sender_id,
        "content": message.content,
        "meta": message.meta,
        "reply_to": message.reply_to,
        "client_message_id": message.client_message_id,
        "created_at": encode_time(message.created_at_us),
        "edited_at": None if message.edited_at_us is None else encode_time(message.edited_at_us),
        "deleted_at": None if message.deleted_at_us is None else encode_time(message.deleted_at_us),
    }


def encode_message(message: Message) -> bytes:
    return encode_text(dumps({"type": "message", **message_fields(message)}))


_TYPE = b'"type":"message",'


def encode_messages(frames: Iterable[bytes]) -> bytes:
    """A JSON array of the messages that frames of type `message` hold."""
    return join_json(strip_type(decode_text(frame)) for frame in frames)


def strip_type(event: bytes) -> bytes:
    """The message that an event of type `message` holds."""
    return event.replace(_TYPE, b"", 1)


def encode_message_sent(message: Message, request_id: str | None) -> bytes:
    body = {
        "type": "message.sent",
        "room_id": message.room_id,
        "message_id": message.message_id,
        "seq": message.seq,
        "client_message_id": message.client_message_id,
        "created_at": encode_time(message.created_at_us),
    }
    if request_id is not None:
        body["request_id"] = request_id
    return encode_text(dumps(body))


def message_edited_fields(message: Message, seq: int) -> dict[str, object]:
    """The edit's own `seq`; the message's is `target_seq`."""
    return {**message_fields(message), "seq": seq, "target_seq": message.seq}


def message_deleted_fields(message: Message, seq: int) -> dict[str, object]:
    return {
        "room_id": message.room_id,
        "message_id": message.message_id,
        "seq": seq,
        "target_seq": message.seq,
    }


def member_fields(member: Member) -> dict[str, object]:
    return {"user_id": member.user_id, "role": member.role, "joined_at": encode_time(member.joined_at_us)}


def encode_receipt(frame_type: str, room_id: RoomId, user_id: UserId, seq: int, request_id: str | None = None) -> bytes:
    """`ack.received` or `read.updated`."""
    return encode_frame(frame_type, {"room_id": room_id, "seq": seq, "user_id": user_id}, request_id)


MAX_READY_BYTES = 256 * 1024  # of each part: many clients take frames of 1 MiB at most (docs/contract.md, section 11)


def encode_ready(fields: Mapping[str, object], rooms: Sequence[Mapping[str, object]]) -> list[bytes]:
    """`ready`, followed by `ready.rooms` as long as there are more rooms than go into one frame."""
    whole = encode_frame("ready", {**fields, "rooms": rooms})
    if len(whole) <= MAX_READY_BYTES:
        return [whole]
    # Most rooms are alike: as many as may be expected to fit, with a sixth to spare.
    per_part = max(1, len(rooms) * MAX_READY_BYTES * 5 // (len(whole) * 6))
    first, *others = _split(rooms, per_part, MAX_READY_BYTES - len(dumps(fields)) - 100)
    frames = [encode_frame("ready", {**fields, "rooms": first, "more": True})]
    for number, part in enumerate(others, start=1):
        frames.append(encode_frame("ready.rooms", {"rooms": part, "more": number < len(others)}))
    return frames


def _split(items: Sequence[T], per_part: int, max_bytes: int) -> list[Sequence[T]]:
    """Parts of at most `per_part` items, and of at most `max_bytes` as JSON unless it is one item."""
    parts = [items[start : start + per_part] for start in range(0, len(items), per_part)]
    return [
        smaller
        for part in parts
        for smaller in (
            [part] if len(part) == 1 or len(dumps(part)) <= max_bytes else _split(part, len(part) // 2, max_bytes)
        )
    ]


def encode_sync_complete(cursors: Mapping[RoomId, int], request_id: str | None = None) -> bytes:
    return encode_frame("sync.complete", {"rooms": cursors}, request_id)


def encode_sync_gap(room_id: RoomId, from_seq: int, to_seq: int) -> bytes:
    """Both ends are included in what is skipped."""
    return encode_frame("sync.gap", {"room_id": room_id, "from_seq": from_seq, "to_seq": to_seq})


def join_json(items: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"
