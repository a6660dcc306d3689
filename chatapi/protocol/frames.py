"""The frames that clients send: one record for each, and the parser of a frame's bytes."""

from typing import Annotated, cast

import msgspec
from msgspec import Meta

from chatapi.errors import ChatError, invalid
from chatapi.protocol.json import check_bounds, convert, is_unicode, loads_unchecked
from chatapi.protocol.requests import (
    AckUpTo,
    Body,
    Cursor,
    EmojiText,
    MessageDraft,
    MessageEdit,
    MessageIdText,
    NotificationIdText,
    RoomIdText,
    check_emoji,
    parse_seq,
)
from chatapi.protocol.stream_requests import StreamAppend, StreamEnding

MAX_FRAME_BYTES = 128 * 1024
MAX_REQUEST_ID_CHARACTERS = 64


class SendMessage(MessageDraft, frozen=True, kw_only=True):
    room_id: RoomIdText


class EditMessage(MessageEdit, frozen=True, kw_only=True):
    room_id: RoomIdText
    message_id: MessageIdText


class DeleteMessage(Body, frozen=True):
    room_id: RoomIdText
    message_id: MessageIdText


class AddReaction(Body, frozen=True):
    room_id: RoomIdText
    message_id: MessageIdText
    emoji: EmojiText

    def check(self) -> None:
        check_emoji(self.emoji)


class RemoveReaction(AddReaction, frozen=True):
    """The user's own."""


class AppendToMessage(StreamAppend, frozen=True, kw_only=True):
    room_id: RoomIdText
    message_id: MessageIdText


class FinishMessage(StreamEnding, frozen=True, kw_only=True):
    room_id: RoomIdText
    message_id: MessageIdText


class CancelMessage(Body, frozen=True):
    room_id: RoomIdText
    message_id: MessageIdText


class Ack(AckUpTo, frozen=True):
    """Either `room_id` and `seq`, or `rooms` alone: `{room_id: seq}` of up to 1,000 rooms, each judged and answered on
    its own."""


class Read(Body, frozen=True):
    room_id: RoomIdText
    seq: Cursor


class TypingStart(Body, frozen=True):
    room_id: RoomIdText


class TypingStop(Body, frozen=True):
    room_id: RoomIdText


class SubscribeRoom(Body, frozen=True):
    room_id: RoomIdText


class UnsubscribeRoom(Body, frozen=True):
    room_id: RoomIdText


class Sync(Body, frozen=True):
    """`rooms` holds the client's own cursors: the last `seq` that it has seen in each room."""

    epoch: Annotated[str, Meta(max_length=64)] | None = None
    rooms: Annotated[dict[str, object], Meta(examples=[{"room_5f3a9c0e71b24d6688aa10cf": 42}])] = msgspec.field(
        default_factory=dict
    )

    def check(self) -> None:
        for room_id, after_seq in self.rooms.items():
            parse_seq(after_seq, f"rooms.{room_id}")

    @property
    def cursors(self) -> dict[str, int]:
        return cast(dict[str, int], self.rooms)  # `check` has seen every value


class AckNotification(Body, frozen=True):
    notification_id: NotificationIdText


class Ping(Body, frozen=True):
    pass


CLIENT_FRAMES: dict[str, type[Body]] = {
    "send_message": SendMessage,
    "message.edit": EditMessage,
    "message.delete": DeleteMessage,
    "message.append": AppendToMessage,
    "message.finish": FinishMessage,
    "message.cancel": CancelMessage,
    "reaction.add": AddReaction,
    "reaction.remove": RemoveReaction,
    "ack": Ack,
    "read": Read,
    "typing.start": TypingStart,
    "typing.stop": TypingStop,
    "subscribe": SubscribeRoom,
    "unsubscribe": UnsubscribeRoom,
    "sync": Sync,
    "notification.ack": AckNotification,
    "ping": Ping,
}

# These have a bucket of their own per connection; every other frame takes a token of the tenant's (docs/contract.md,
# section 5).
LIGHT_FRAMES = frozenset({"ack", "typing.start", "typing.stop", "ping", "notification.ack"})
TYPING_FRAMES = frozenset({"typing.start", "typing.stop"})


class ClientFrame(msgspec.Struct, frozen=True):
    type: str
    request_id: str | None
    body: Body


class BadFrame(Exception):
    """A frame that cannot be taken, with its type and the `request_id` that its answer repeats, as far as they could be
    read."""

    def __init__(self, error: ChatError, request_id: str | None, frame_type: str | None) -> None:
        super().__init__(error.message)
        self.error = error
        self.request_id = request_id
        self.frame_type = frame_type


def parse_frame(payload: bytes) -> ClientFrame:
    """A client's frame. Its fields may also be nested in `data`. Raises BadFrame."""
    request_id: str | None = None
    frame_type: object = None
    try:
        outer = loads_unchecked(payload)
        if not isinstance(outer, dict):
            raise invalid("A frame must be a JSON object")
        frame_type = outer.get("type")
        nested = outer.get("data")
        fields = nested if isinstance(nested, dict) else outer
        request_id = _parse_request_id(outer.get("request_id", fields.get("request_id")))
        check_bounds(payload, outer)
        if not isinstance(frame_type, str) or (record := CLIENT_FRAMES.get(frame_type)) is None:
            raise invalid("Required" if frame_type is None else "Unknown frame type", "type")
        body = convert(fields, record)
        body.check()
        return ClientFrame(frame_type, request_id, body)
    except ChatError as error:
        raise BadFrame(error, request_id, frame_type if isinstance(frame_type, str) else None) from None


def _parse_request_id(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_REQUEST_ID_CHARACTERS:
        raise invalid(f"Must be a string of at most {MAX_REQUEST_ID_CHARACTERS} characters", "request_id")
    if not is_unicode(value):
        raise invalid("Strings must not contain half a pair of surrogates", "request_id")
    return value
