"""The answers of REST: one record for each.

An answer is what its handler builds and the server encodes, and what OpenAPI is made from, its examples included. Items
of pages are built as JSON in SQL: tests compare each with its record.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from chatapi.errors import Code
from chatapi.models import NotifyLevel, Role, RoomType, WebhookEvent
from chatapi.protocol.fields import (
    EXAMPLE_TIME,
    MAX_UNREAD,
    DeadLetterIdText,
    HasMore,
    KeyIdText,
    Metadata,
    Never,
    NextCursor,
    OneTimeKey,
    OneTimeSecret,
    Payload,
    Position,
    ReactionSummaries,
    ReadMessage,
    ReportIdText,
    SearchHealth,
    SubscriptionIdText,
    Time,
    UnreadMentions,
    UserFields,
    WebhookSecret,
)
from chatapi.protocol.json import Encoded
from chatapi.protocol.move_records import MoveState
from chatapi.protocol.requests import (
    EmojiText,
    MessageIdText,
    NotificationIdText,
    PostingRule,
    RoomIdText,
    SlowModeSeconds,
    TenantConfigObject,
    TenantIdText,
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
    errors: "dict[RoomIdText, ErrorBody] | UnsetType" = UNSET


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


# The operator's


class Tenant(Answer, frozen=True, kw_only=True):
    tenant_id: TenantIdText
    name: Annotated[str, Meta(examples=["Acme"])]
    config: TenantConfigObject
    created_at: Time
    move: Annotated[MoveState, Meta(description="of a tenant that is on its way, or has moved")] | UnsetType = UNSET


class NewTenant(Tenant, frozen=True, kw_only=True):
    api_key: OneTimeKey
    token_secret: OneTimeSecret
    webhook_secret: Annotated[WebhookSecret, Meta(description="if webhook_url is set")] | UnsetType = UNSET


class UpdatedTenant(Tenant, frozen=True, kw_only=True):
    webhook_secret: (
        Annotated[WebhookSecret, Meta(description="when webhook_url is set for the first time")] | UnsetType
    ) = UNSET


class Tenants(Answer, frozen=True, kw_only=True):
    tenants: Encoded[list[Tenant]]
    has_more: HasMore
    next_cursor: NextCursor | UnsetType = UNSET


class NewKey(Answer, frozen=True, kw_only=True):
    key_id: KeyIdText
    api_key: OneTimeKey


class Key(Answer, frozen=True, kw_only=True):
    key_id: KeyIdText
    created_at: Time
    last_used_at: Annotated[Never, Meta(examples=[EXAMPLE_TIME])]


class Keys(Answer, frozen=True, kw_only=True):
    keys: Encoded[list[Key]]
    has_more: HasMore
    next_cursor: NextCursor | UnsetType = UNSET


class TokenSecret(Answer, frozen=True, kw_only=True):
    token_secret: OneTimeSecret


class NewWebhookSecret(Answer, frozen=True, kw_only=True):
    webhook_secret: WebhookSecret


class FailedEvent(Answer, frozen=True, kw_only=True):
    """A call that tells the tenant's backend of an event. It was never tried (`attempts` is 0) if too many events were
    waiting."""

    id: DeadLetterIdText
    tenant_id: TenantIdText
    event: Annotated[WebhookEvent, Meta(description="the call's type", examples=["message.created"])]
    room_id: RoomIdText | UnsetType = UNSET
    seq: Annotated[int, Meta(ge=1, description="of an event of the room's log", examples=[42])] | UnsetType = UNSET
    user_id: Annotated[UserIdText, Meta(description="of `user.online` and `user.offline`")] | UnsetType = UNSET
    report_id: ReportIdText | UnsetType = UNSET
    attempts: Annotated[int, Meta(ge=0, examples=[8])]
    last_attempt_at: Time
    error: Annotated[str, Meta(examples=["HTTP 503"])]


class FailedCall(Answer, frozen=True, kw_only=True):
    id: DeadLetterIdText
    tenant_id: TenantIdText
    user_id: UserIdText
    attempts: Annotated[int, Meta(ge=1, examples=[8])]
    last_attempt_at: Time
    error: Annotated[str, Meta(examples=["HTTP 503"])]


class FailedMessage(FailedCall, frozen=True, kw_only=True):
    message_id: MessageIdText
    room_id: RoomIdText


class FailedNotification(FailedCall, frozen=True, kw_only=True):
    notification_id: NotificationIdText
    topic: Annotated[str, Meta(examples=["order.shipped"])]


class DeadLetters(Answer, frozen=True, kw_only=True):
    """The latest first."""

    failed_messages: Encoded[list[FailedMessage]]
    failed_notifications: Encoded[list[FailedNotification]]
    failed_events: Encoded[list[FailedEvent]]
    has_more: HasMore
    next_cursor: NextCursor | UnsetType = UNSET


class RetriedOne(Answer, frozen=True, kw_only=True):
    id: DeadLetterIdText


class RetriedAll(Answer, frozen=True, kw_only=True):
    retried: Annotated[int, Meta(ge=0, examples=[12])]


Waiting = Annotated[
    int, Meta(ge=0, description="notifications not yet acknowledged, one for each recipient", examples=[4])
]
CallsLeft = Annotated[int, Meta(ge=0, description="calls still to be made", examples=[0])]
DeadCount = Annotated[int, Meta(ge=0, examples=[0])]


class Queues(msgspec.Struct, frozen=True, kw_only=True):
    notifications: Waiting
    webhooks: CallsLeft
    dead_letters: DeadCount


class TenantStats(Answer, frozen=True, kw_only=True):
    tenant_id: TenantIdText
    name: Annotated[str, Meta(examples=["Acme"])]
    rooms: Annotated[int, Meta(ge=0, examples=[120])]
    messages: Annotated[int, Meta(ge=0, examples=[51_200])]
    connections: Annotated[int, Meta(ge=0, examples=[37])]
    move: MoveState | UnsetType = UNSET
    queues: Queues


class AllQueues(msgspec.Struct, frozen=True, kw_only=True):
    """The queues of all tenants together."""

    writes: Annotated[int, Meta(ge=0, description="writes that wait for the disk", examples=[0])]
    notifications: Waiting
    webhooks: CallsLeft
    dead_letters: DeadCount


class Stats(Answer, frozen=True, kw_only=True):
    tenants: list[TenantStats]
    queues: AllQueues


class Compacted(Answer, frozen=True, kw_only=True):
    """How far it is. `waiting`: a backup, a check or a long read still needs the database as it was. Make the call
    again until the stage is `done`."""

    stage: Annotated[Literal["working", "waiting", "done"], Meta(examples=["working"])]
    before_bytes: Annotated[int, Meta(ge=0, description="of the file when the call began", examples=[73_400_320])]
    file_bytes: Annotated[int, Meta(ge=0, description="of the database's file, as it is now", examples=[69_701_632])]
    free_bytes: Annotated[int, Meta(ge=0, description="of it, which hold nothing", examples=[41_943_040])]


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
