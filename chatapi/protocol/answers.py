"""The answers of REST: one record for each.

An answer is what its handler builds and the server encodes, and what OpenAPI is made from, its examples included. Items
of pages are built as JSON in SQL: tests compare each with its record.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from chatapi.errors import Code
from chatapi.models import NotifyLevel, Role, RoomType
from chatapi.protocol.fields import (
    EXAMPLE_TIME,
    MAX_UNREAD,
    HasMore,
    Metadata,
    Never,
    NextCursor,
    Payload,
    Position,
    ReactionSummaries,
    ReadMessage,
    SearchHealth,
    SubscriptionIdText,
    Time,
    UnreadMentions,
    UserFields,
)
from chatapi.protocol.json import Encoded
from chatapi.protocol.requests import (
    EmojiText,
    NotificationIdText,
    PostingRule,
    RoomIdText,
    SlowModeSeconds,
    UserIdText,
)
from chatapi.protocol.server_frames import LogEvent


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The record in the `data` of a response's envelope."""


# Rooms


class Room(Answer, frozen=True, kw_only=True):
    room_id: RoomIdText
    type: Annotated[RoomType, Meta(examples=["group"])]
    unique_key: Annotated[str | None, Meta(description="of a dm: the same for both orders", examples=[None])]
    name: Annotated[str | None, Meta(examples=["Lighthouse keepers"])]
    metadata: Metadata
    posting: PostingRule
    slow_mode_seconds: SlowModeSeconds
    last_seq: Annotated[int, Meta(ge=0, description="of the newest event; 0 in a new room", examples=[42])]
    member_count: Annotated[int, Meta(ge=0, examples=[2])]
    created_by: UserIdText
    created_at: Time
    updated_at: Time


class Message(ReadMessage, Answer, frozen=True):
    """A message as it is read."""


class PinnedMessages(Answer, frozen=True, kw_only=True):
    """The newest pin first."""

    messages: Encoded[list[Message]]
    has_more: HasMore
    next_cursor: NextCursor | UnsetType = UNSET


class Reaction(Answer, frozen=True, kw_only=True):
    emoji: EmojiText
    user_id: UserIdText
    created_at: Time


class ReactionPage(Answer, frozen=True, kw_only=True):
    """In the order of reacting."""

    reactions: Encoded[list[Reaction]]
    has_more: HasMore
    next_cursor: NextCursor | UnsetType = UNSET


class MessageReactions(Answer, frozen=True, kw_only=True):
    """All that the message has now."""

    reactions: ReactionSummaries


class OwnRoom(Room, frozen=True, kw_only=True):
    """A room as one of its members sees it."""

    role: Annotated[Role, Meta(examples=["admin"])]
    last_ack: Position
    last_read: Position
    notify: Annotated[NotifyLevel, Meta(description="of which messages they are told while offline", examples=["all"])]
    hidden: Annotated[bool, Meta(description="left out of the list until somebody else posts", examples=[False])]
    unread_count: Annotated[
        int, Meta(ge=0, le=MAX_UNREAD, description="others' messages, counted to 1,000", examples=[3])
    ]
    unread_mentions: UnreadMentions
    last_message: Message | None


class OwnRooms(Answer, frozen=True, kw_only=True):
    rooms: Encoded[list[OwnRoom]]
    has_more: HasMore
    next_cursor: NextCursor | UnsetType = UNSET


class Channels(Answer, frozen=True, kw_only=True):
    rooms: Encoded[list[Room]]
    has_more: HasMore
    next_cursor: NextCursor | UnsetType = UNSET


class Member(Answer, frozen=True, kw_only=True):
    """`name` and `avatar_url` are those of the user's profile, and are absent if it has none."""

    user_id: UserIdText
    role: Annotated[Role, Meta(examples=["member"])]
    joined_at: Time
    muted_until: Annotated[Time, Meta(description="as long as it is ahead")] | UnsetType = UNSET
    name: Annotated[str, Meta(examples=["Bob Brown"])] | UnsetType = UNSET
    avatar_url: Annotated[str, Meta(examples=["https://cdn.example.com/bob.png"])] | UnsetType = UNSET


class Members(Answer, frozen=True, kw_only=True):
    members: Encoded[list[Member]]
    has_more: HasMore
    next_cursor: NextCursor | UnsetType = UNSET


class Online(Answer, frozen=True, kw_only=True):
    online: list[UserIdText]


class OwnView(Answer, frozen=True, kw_only=True):
    """How the user sees the room."""

    room_id: RoomIdText
    notify: Annotated[NotifyLevel, Meta(examples=["mentions"])]
    hidden: Annotated[bool, Meta(examples=[False])]


class Standing(Answer, frozen=True, kw_only=True):
    """How far the user has got in the room."""

    room_id: RoomIdText
    seq: Position


class Acknowledged(Answer, frozen=True, kw_only=True):
    """How far the user has got: in the one room, or in each of `rooms`. `errors` holds the rooms that were refused."""

    room_id: RoomIdText | UnsetType = UNSET
    seq: Position | UnsetType = UNSET
    rooms: dict[RoomIdText, Position] | UnsetType = UNSET
    errors: "dict[str, ErrorBody] | UnsetType" = UNSET


class Receipt(Answer, frozen=True, kw_only=True):
    user_id: UserIdText
    last_ack: Position
    last_read: Position


class ReceiptPage(Answer, frozen=True, kw_only=True):
    receipts: Encoded[list[Receipt]]
    has_more: HasMore
    next_cursor: NextCursor | UnsetType = UNSET


class History(Answer, frozen=True, kw_only=True):
    """Ascending by `seq`."""

    messages: Encoded[list[Message]]
    has_more: HasMore


class MentionPage(Answer, frozen=True, kw_only=True):
    """The newest first."""

    messages: Encoded[list[Message]]
    has_more: HasMore
    next_cursor: NextCursor | UnsetType = UNSET


class Events(Answer, frozen=True, kw_only=True):
    """Events of the room's log, ascending. Each has the shape of its frame."""

    events: Encoded[list[LogEvent]]
    has_more: HasMore


# Users


class User(UserFields, Answer, frozen=True, kw_only=True):
    pass


class Users(Answer, frozen=True, kw_only=True):
    users: Encoded[list[User]]
    has_more: HasMore
    next_cursor: NextCursor | UnsetType = UNSET


class BannedUser(Answer, frozen=True, kw_only=True):
    """`banned_until` is null for a ban without an end."""

    user_id: UserIdText
    reason: Annotated[str | None, Meta(examples=["spam"])]
    banned_until: Annotated[Time | None, Meta(examples=[EXAMPLE_TIME])]


class Block(Answer, frozen=True, kw_only=True):
    """A user from whom the caller wants no dm."""

    user_id: UserIdText
    created_at: Time


class BlockPage(Answer, frozen=True, kw_only=True):
    """The latest first."""

    blocks: Encoded[list[Block]]
    has_more: HasMore
    next_cursor: NextCursor | UnsetType = UNSET


# Notifications, subscriptions, tokens


class Notified(Answer, frozen=True, kw_only=True):
    notification_id: NotificationIdText
    created_at: Time
    recipients: Annotated[int, Meta(ge=0, examples=[1])]


class Notification(Answer, frozen=True, kw_only=True):
    notification_id: NotificationIdText
    topic: Annotated[str, Meta(examples=["order.shipped"])]
    payload: Payload
    created_at: Time
    status: Annotated[Literal["pending", "delivered"], Meta(description="delivered means acknowledged")]
    acked_at: Never


class NotificationPage(Answer, frozen=True, kw_only=True):
    """The newest first."""

    notifications: Encoded[list[Notification]]
    has_more: HasMore
    next_cursor: NextCursor | UnsetType = UNSET


class AckedNotification(Answer, frozen=True, kw_only=True):
    notification_id: NotificationIdText
    status: Literal["delivered"]


class Subscription(Answer, frozen=True, kw_only=True):
    subscription_id: SubscriptionIdText
    topic: Annotated[str, Meta(examples=["order.shipped"])]
    created_at: Time


class Subscriptions(Answer, frozen=True, kw_only=True):
    subscriptions: Encoded[list[Subscription]]
    has_more: HasMore
    next_cursor: NextCursor | UnsetType = UNSET


class UserToken(Answer, frozen=True, kw_only=True):
    token: Annotated[str, Meta(description="a JWT, signed with HS256", examples=["eyJhbGciOiJIUzI1NiJ9.e30.c2ln"])]
    user_id: UserIdText
    expires_at: Time


class Ticket(Answer, frozen=True, kw_only=True):
    token: Annotated[
        str,
        Meta(description="for one WebSocket: /ws?token=…", examples=["tkt_tenant_9f2c61d0a4b84e17_…"]),
    ]
    expires_in: Annotated[int, Meta(description="seconds", examples=[60])]


# The server


class Root(Answer, frozen=True, kw_only=True):
    name: Literal["ChatAPI"]
    version: Annotated[str, Meta(examples=["1.0.0"])]
    links: Annotated[dict[str, str], Meta(description="paths", examples=[{"openapi": "/openapi.json"}])]


class Status(Answer, frozen=True, kw_only=True):
    status: Literal["ok"]


class Health(Answer, frozen=True, kw_only=True):
    status: Literal["ok"]
    service: Literal["chatapi"]
    version: Annotated[str, Meta(examples=["1.0.0"])]
    uptime: Annotated[str, Meta(examples=["3d 4h 0m 12s"])]
    uptime_seconds: Annotated[int, Meta(ge=0, examples=[273_612])]
    db_writable: Annotated[bool, Meta(examples=[True])]
    search: SearchHealth


# Errors


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """`field` and `details` are there only if they say something."""

    code: Code
    message: str
    field: str | UnsetType = UNSET
    details: dict[str, object] | UnsetType = UNSET


class Envelope(msgspec.Struct, frozen=True):
    """The envelope of every answer and every error (docs/contract.md, section 2)."""

    success: bool
    data: Answer | None
    error: ErrorBody | None
