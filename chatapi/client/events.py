"""The events that a connection hands over. `event["type"]` tells a type checker which event it is."""

from typing import Literal, NotRequired, TypedDict

from chatapi.client.records import (
    ErrorFields,
    Message,
    MessageFields,
    Notification,
    NotifyLevel,
    Role,
    RoomFields,
    RoomType,
    ThreadSummary,
    User,
)


class ReadyRoom(TypedDict):
    room_id: str
    type: RoomType
    last_seq: int
    last_ack: int
    last_read: int
    unread_mentions: int
    notify: NotifyLevel
    hidden: bool


class ReadyEvent(TypedDict):
    type: Literal["ready"]
    connection_id: str
    user_id: str
    epoch: str
    server_time: str
    heartbeat_seconds: float
    rooms: list[ReadyRoom]


class MessageEvent(MessageFields):
    type: Literal["message"]


class MessageEditedEvent(MessageFields):
    """`seq` is the edit's own, `target_seq` the message's."""

    type: Literal["message.edited"]
    target_seq: int


class MessageFinishedEvent(MessageFields):
    """The end of a stream, with the whole message: `seq` is the end's own, `target_seq` the message's."""

    type: Literal["message.finished"]
    target_seq: int


class MessageDeltaEvent(TypedDict):
    """The text that was appended to an open stream after `after`, up to `index`."""

    type: Literal["message.delta"]
    room_id: str
    message_id: str
    after: int
    index: int
    text: str


class MessageStateEvent(TypedDict):
    """An open stream as it stands, after the connection has caught up."""

    type: Literal["message.state"]
    room_id: str
    message: Message


class MessageCancelRequestedEvent(TypedDict):
    """`user_id` wants this stream of the connection's user to end."""

    type: Literal["message.cancel_requested"]
    room_id: str
    message_id: str
    user_id: str


class MessageDeletedEvent(TypedDict):
    """Of a reply it has the thread, and what its root shows from now on."""

    type: Literal["message.deleted"]
    room_id: str
    message_id: str
    seq: int
    target_seq: int
    thread_id: NotRequired[str]
    thread: NotRequired[ThreadSummary | None]


class ReactionAddedEvent(TypedDict):
    """`count` users have now reacted with this emoji to the message, whose own seq is `target_seq`."""

    type: Literal["reaction.added"]
    room_id: str
    message_id: str
    target_seq: int
    user_id: str
    emoji: str
    count: int
    created_at: str
    seq: NotRequired[int]


class ReactionRemovedEvent(TypedDict):
    """`count` users are left with this emoji; at 0 it has lost its place."""

    type: Literal["reaction.removed"]
    room_id: str
    message_id: str
    target_seq: int
    user_id: str
    emoji: str
    count: int
    seq: NotRequired[int]


class MessagePinnedEvent(TypedDict):
    type: Literal["message.pinned"]
    room_id: str
    message_id: str
    target_seq: int
    user_id: str
    pinned_at: str
    seq: int


class MessageUnpinnedEvent(TypedDict):
    """A deletion unpins a message without this event."""

    type: Literal["message.unpinned"]
    room_id: str
    message_id: str
    target_seq: int
    user_id: str
    seq: int


class _RoomEvent(RoomFields):
    """The room's own type is `room_type` here."""

    room_type: RoomType


class RoomCreatedEvent(_RoomEvent):
    type: Literal["room.created"]


class RoomUpdatedEvent(_RoomEvent):
    type: Literal["room.updated"]
    seq: int


class RoomDeletedEvent(_RoomEvent):
    type: Literal["room.deleted"]


class RoomMeEvent(TypedDict):
    """The user's own view of a room has changed."""

    type: Literal["room.me"]
    room_id: str
    notify: NotifyLevel
    hidden: bool


class MemberJoinedEvent(TypedDict):
    type: Literal["member.joined"]
    room_id: str
    user_id: str
    role: Role
    muted_until: NotRequired[str]
    seq: int


class MemberUpdatedEvent(TypedDict):
    """The end of a mute makes no event: see `muted_until`."""

    type: Literal["member.updated"]
    room_id: str
    user_id: str
    role: Role
    muted_until: str | None
    seq: int


class MemberLeftEvent(TypedDict):
    type: Literal["member.left"]
    room_id: str
    user_id: str
    seq: int


class MemberBannedEvent(TypedDict):
    """A member who is banned is a member no longer; `until` is None for a ban without an end."""

    type: Literal["member.banned"]
    room_id: str
    user_id: str
    reason: str | None
    until: str | None
    seq: int


class MemberUnbannedEvent(TypedDict):
    """An admin has lifted this ban. The end of a ban by itself makes no event."""

    type: Literal["member.unbanned"]
    room_id: str
    user_id: str
    reason: str | None
    until: str | None
    seq: int


class AckReceivedEvent(TypedDict):
    """Delivered to the user up to `seq`."""

    type: Literal["ack.received"]
    room_id: str
    seq: int
    user_id: str


class ReadUpdatedEvent(TypedDict):
    type: Literal["read.updated"]
    room_id: str
    seq: int
    user_id: str


class PresenceEvent(TypedDict):
    type: Literal["presence.update"]
    user_id: str
    status: Literal["online", "offline"]


class TypingEvent(TypedDict):
    type: Literal["typing"]
    room_id: str
    user_id: str
    action: Literal["start", "stop"]


class UserUpdatedEvent(TypedDict):
    """A profile has changed: that of the user themselves, or of somebody in a room of up to 200 members."""

    type: Literal["user.updated"]
    user: User


class NotificationEvent(Notification):
    type: Literal["notification"]


class SyncCompleteEvent(TypedDict):
    """All missed events have been handed over; the next ones are live."""

    type: Literal["sync.complete"]
    rooms: dict[str, int]


class SyncResetEvent(TypedDict):
    """The server has another log than the one these cursors came from, so that the next events may have been seen
    before."""

    type: Literal["sync.reset"]
    epoch: str
    rooms: dict[str, int]


class ShutdownEvent(TypedDict):
    type: Literal["server.shutdown"]
    reconnect_after_ms: int
    url: NotRequired[str]


LogEvent = (
    MessageEvent
    | MessageEditedEvent
    | MessageFinishedEvent
    | MessageDeletedEvent
    | ReactionAddedEvent
    | ReactionRemovedEvent
    | MessagePinnedEvent
    | MessageUnpinnedEvent
    | RoomUpdatedEvent
    | MemberJoinedEvent
    | MemberUpdatedEvent
    | MemberLeftEvent
    | MemberBannedEvent
    | MemberUnbannedEvent
)
"""The events that take a number in a room's log, of the types that this SDK knows. `is_log_event` knows the others
too."""

Event = (
    LogEvent
    | ReadyEvent
    | MessageDeltaEvent
    | MessageStateEvent
    | MessageCancelRequestedEvent
    | RoomCreatedEvent
    | RoomDeletedEvent
    | RoomMeEvent
    | AckReceivedEvent
    | ReadUpdatedEvent
    | PresenceEvent
    | TypingEvent
    | UserUpdatedEvent
    | NotificationEvent
    | SyncCompleteEvent
    | SyncResetEvent
    | ShutdownEvent
)


class EventPage(TypedDict):
    events: list[LogEvent]
    has_more: bool


class SkippedEvents(TypedDict):
    """Events that retention has removed, both ends included."""

    room_id: str
    from_seq: int
    to_seq: int


class Synced(TypedDict):
    """`rooms` is what to ask with next time; `reset` holds rooms whose cursors cannot be right, and where they begin
    instead; `errors` rooms that the user may not read."""

    epoch: str
    events: list[LogEvent]
    rooms: dict[str, int]
    reset: dict[str, int]
    gaps: list[SkippedEvents]
    notifications: list[NotificationEvent]
    errors: dict[str, ErrorFields]
    has_more: bool
