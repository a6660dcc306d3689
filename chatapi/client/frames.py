"""The shapes of frames on which a connection relies. A frame of another shape is not ChatAPI's, and ends the socket.
Types and fields that this SDK does not know are ignored."""

from typing import Any, TypeGuard

from chatapi.client.envelope import Shape, is_shaped
from chatapi.client.errors import NotChatAPI
from chatapi.client.events import LogEvent
from chatapi.protocol.json import loads_stored

UNLOGGED = frozenset({"message.sent", "ack.received", "read.updated", "subscribed"})
"""Frames with `room_id` and `seq` that are not part of the room's log; every other one with both is
(docs/contract.md, section 12)."""

_REPEATED = frozenset({"reaction.added", "reaction.removed"})
_LOG_EVENT: Shape = {"room_id": str, "seq": int}
_OF_MESSAGE: Shape = {"room_id": str, "message_id": str}
_SHAPES: dict[str, Shape] = {
    "ready": {"user_id": str, "epoch": str, "rooms": list},
    "ready.rooms": {"rooms": list, "more": bool},
    "message": _LOG_EVENT,
    "message.edited": _LOG_EVENT,
    "message.finished": _LOG_EVENT,
    "message.appended": {"message_id": str, "index": int},
    "message.delta": {**_OF_MESSAGE, "after": int, "index": int, "text": str},
    "message.state": {"room_id": str, "message": dict},
    "message.cancel_requested": _OF_MESSAGE,
    "message.deleted": _LOG_EVENT,
    "reaction.added": _OF_MESSAGE,
    "reaction.removed": _OF_MESSAGE,
    "message.pinned": _LOG_EVENT,
    "message.unpinned": _LOG_EVENT,
    "room.updated": _LOG_EVENT,
    "member.joined": _LOG_EVENT,
    "member.updated": _LOG_EVENT,
    "member.left": {**_LOG_EVENT, "user_id": str},
    "member.banned": {**_LOG_EVENT, "user_id": str},
    "member.unbanned": _LOG_EVENT,
    "room.created": {"room_id": str, "last_seq": int},
    "room.deleted": {"room_id": str},
    "room.me": {"room_id": str},
    "notification": {"notification_id": str},
    "ack.received": _LOG_EVENT,
    "subscribed": {"room_id": str, "last_seq": int},
    "sync.gap": {"room_id": str, "to_seq": int},
    "sync.reset": {"epoch": str, "rooms": dict},
    "sync.complete": {"rooms": dict},
    "error": {"code": str},
}
_READY_ROOM: Shape = {"room_id": str, "last_seq": int, "last_ack": int}


def parse_frame(data: bytes) -> dict[str, Any]:
    """Raises NotChatAPI."""
    try:
        frame = loads_stored(data)
    except ValueError:
        raise NotChatAPI("a frame that is not JSON") from None
    if not is_shaped(frame, {"type": str}) or not _is_sound(frame):
        raise NotChatAPI("a frame that is not ChatAPI's")
    return frame


def is_log_event(event: object) -> TypeGuard[LogEvent]:
    """Whether an event takes a number in its room's log. A newer server has types of these that are not known here."""
    return is_shaped(event, _LOG_EVENT) and event["type"] not in UNLOGGED


def is_repetition(frame: dict[str, Any]) -> bool:
    """Whether it only answers a request that changed nothing: it looks like an event, but has no place in the log."""
    return frame["type"] in _REPEATED and "seq" not in frame


def is_page_of(room_id: str, after_seq: int, page: dict[str, Any]) -> bool:
    """Whether these are events of that room's log after `after_seq`, in order. An empty page has nothing after it."""
    last_seq = after_seq
    for event in page["events"]:
        if not is_shaped(event, {"type": str, "room_id": str, "seq": int}):
            return False
        if event["room_id"] != room_id or event["seq"] <= last_seq:
            return False
        last_seq = event["seq"]
    return last_seq > after_seq or not page["has_more"]


def _is_sound(frame: dict[str, Any]) -> bool:
    frame_type = frame["type"]
    if not is_shaped(frame, _SHAPES.get(frame_type, {})):
        return False
    if frame_type in {"ready", "ready.rooms"}:
        return all(is_shaped(room, _READY_ROOM) for room in frame["rooms"])
    if frame_type in {"sync.reset", "sync.complete"}:
        return all(type(seq) is int for seq in frame["rooms"].values())
    return True


def find_number(frame: dict[str, Any], name: str, default: float) -> float:
    """The number in this field of a frame, if it is one that can be waited for."""
    value = frame.get(name)
    return value if isinstance(value, int | float) and 0 <= value < 1e9 else default
