"""The shapes of requests and results, for a type checker. A result stays the plain JSON object that it is on the wire,
with all fields that a newer server adds."""

from typing import Any, Literal, NotRequired, TypedDict

Json = dict[str, Any]
RoomType = Literal["dm", "group", "channel"]
Role = Literal["admin", "member"]
NotifyLevel = Literal["all", "mentions", "none"]
Posting = Literal["members", "admins"]


class RoomFields(TypedDict):
    room_id: str
    unique_key: str | None
    name: str | None
    metadata: Json | None
    posting: Posting
    slow_mode_seconds: int
    last_seq: int
    member_count: int
    created_by: str
    created_at: str
    updated_at: str


class Room(RoomFields):
    type: RoomType


class ReactionSummary(TypedDict):
    """Of one emoji on a message: `user_ids` are the first 20 of those who reacted with it, in that order."""

    emoji: str
    count: int
    user_ids: list[str]


class StreamStatus(TypedDict):
    """Of a message that is, or was, written in pieces. `index` is that of the last append; it and `cancel_requested`
    are there only while it is open."""

    state: Literal["open", "done", "cancelled", "failed"]
    index: NotRequired[int]
    cancel_requested: NotRequired[bool]


class MessageFields(TypedDict):
    """The fields that events of a message have, too. `content` is None once the message was deleted. Fields that not
    every message has are there only if they say something."""

    message_id: str
    room_id: str
    seq: int
    sender_id: str
    content: str | None
    meta: Json | None
    reply_to: str | None
    client_message_id: str | None
    created_at: str
    edited_at: str | None
    deleted_at: str | None
    thread_id: NotRequired[str]
    mentions: NotRequired[list[str]]
    mention_room: NotRequired[bool]
    stream: NotRequired[StreamStatus]


class ThreadSummary(TypedDict):
    """The replies to a message that are not deleted."""

    reply_count: int
    last_reply_seq: int
    last_reply_at: str


class Message(MessageFields):
    """A message as it is read. `reactions` are in the order of first use; events carry none of these fields."""

    reactions: NotRequired[list[ReactionSummary]]
    pinned_at: NotRequired[str]
    thread: NotRequired[ThreadSummary]


class Reaction(TypedDict):
    emoji: str
    user_id: str
    created_at: str


class AppendAnswer(TypedDict):
    """Everything up to `index` is stored. `cancel_requested`: somebody wants the stream to end."""

    index: int
    cancel_requested: NotRequired[bool]


class CancelAnswer(TypedDict):
    message_id: str
    cancel_requested: bool


class MessageReactions(TypedDict):
    """All reactions of a message, in the order of first use."""

    reactions: list[ReactionSummary]


class OwnRoom(Room):
    """A room as its member sees it in `list_rooms`; `unread_count` and `unread_mentions` stop at 1,000."""

    role: Role
    last_ack: int
    last_read: int
    notify: NotifyLevel
    hidden: bool
    unread_count: int
    unread_mentions: int
    last_message: Message | None


class OwnView(TypedDict):
    """How the caller sees a room."""

    room_id: str
    notify: NotifyLevel
    hidden: bool


class Member(TypedDict):
    """`muted_until` is there as long as it is ahead; `name` and `avatar_url` where the user's profile has them."""

    user_id: str
    role: Role
    joined_at: str
    muted_until: NotRequired[str]
    name: NotRequired[str]
    avatar_url: NotRequired[str]


class User(TypedDict):
    """A profile. `last_seen_at` is when the user was last online, for those who may know it."""

    user_id: str
    name: str | None
    avatar_url: str | None
    metadata: Json | None
    last_seen_at: str | None
    created_at: str
    updated_at: str


class Ban(TypedDict):
    """`until` is None for a ban without an end."""

    user_id: str
    reason: str | None
    until: str | None
    created_by: str
    created_at: str


class Erasure(TypedDict):
    """Whether a user's data is erased, or that is still under way."""

    erased: bool


class UserBan(TypedDict):
    """A ban from the whole tenant; `banned_until` is None if it has no end."""

    user_id: str
    reason: str | None
    banned_until: str | None


class Block(TypedDict):
    """A user from whom the caller wants no dm."""

    user_id: str
    created_at: str


class Report(TypedDict):
    """`user_id` reported the message, which is shown as it was then."""

    report_id: str
    status: Literal["open", "resolved"]
    room_id: str
    user_id: str
    reason: str
    message: Message
    created_at: str
    resolved_by: str | None
    resolved_at: str | None


class Reported(TypedDict):
    report_id: str


class Receipt(TypedDict):
    user_id: str
    last_ack: int
    last_read: int


class Position(TypedDict):
    """How far the caller now stands in a room."""

    room_id: str
    seq: int


class ErrorFields(TypedDict):
    code: str
    message: str
    field: NotRequired[str]


class RoomAcks(TypedDict):
    """By room: where the caller now stands, and why not."""

    rooms: dict[str, int]
    errors: dict[str, ErrorFields]


class Notification(TypedDict):
    notification_id: str
    topic: str
    payload: Any
    created_at: str


class ListedNotification(Notification):
    """`delivered` means acknowledged, at `acked_at`."""

    status: Literal["pending", "delivered"]
    acked_at: str | None


class AckedNotification(TypedDict):
    notification_id: str
    status: Literal["delivered"]


class Notified(TypedDict):
    notification_id: str
    created_at: str
    recipients: int


class Targets(TypedDict, total=False):
    """At least one of them. A user who is in several is notified once."""

    user_ids: list[str]
    room_id: str
    topic_subscribers: bool


class Subscription(TypedDict):
    subscription_id: str
    topic: str
    created_at: str


class UserToken(TypedDict):
    token: str
    user_id: str
    expires_at: str


class Ticket(TypedDict):
    """`expires_in` is in seconds."""

    token: str
    expires_in: int


class Sent(TypedDict):
    """A message that is stored."""

    room_id: str
    message_id: str
    seq: int
    client_message_id: str | None
    created_at: str
    stream: NotRequired[StreamStatus]


class Subscribed(TypedDict):
    room_id: str
    last_seq: int


class Cursors(TypedDict):
    """How far a device has come in each room, and in which life of the database. Plain JSON, to be kept."""

    epoch: str | None
    rooms: dict[str, int]


# Pages


class Page(TypedDict):
    """`next_cursor`, given as `cursor`, goes on where a page with more after it ended."""

    has_more: bool
    next_cursor: NotRequired[str]


class OwnRoomPage(Page):
    rooms: list[OwnRoom]


class RoomPage(Page):
    rooms: list[Room]


class ReactionPage(Page):
    reactions: list[Reaction]


class PinnedPage(Page):
    messages: list[Message]


class MemberPage(Page):
    members: list[Member]


class BlockPage(Page):
    blocks: list[Block]


class UserPage(Page):
    users: list[User]


class ReportPage(Page):
    reports: list[Report]


class BanPage(Page):
    bans: list[Ban]


class MessagePage(TypedDict):
    messages: list[Message]
    has_more: bool


class MentionPage(Page):
    messages: list[Message]


class ReceiptPage(Page):
    receipts: list[Receipt]


class NotificationPage(Page):
    notifications: list[ListedNotification]


class SubscriptionPage(Page):
    subscriptions: list[Subscription]


class Presence(TypedDict):
    online: list[str]
