"""The frames that the server sends: one record for each. The server encodes these records, and AsyncAPI is made from
them.

An answer carries the `request_id` of the client's frame, as its last field.
"""

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from chatapi.errors import Code
from chatapi.models import NotifyLevel, Role, RoomType
from chatapi.protocol.fields import (
    BanEnd,
    BanReason,
    CancelRequested,
    Epoch,
    LogSeq,
    MessageFields,
    Metadata,
    Never,
    Payload,
    Position,
    ReactionCount,
    ReadMessage,
    RequestIdText,
    StreamIndex,
    StreamOfMessage,
    ThreadSummary,
    Time,
    UnreadMentions,
    UserFields,
)
from chatapi.protocol.requests import (
    EmojiText,
    MessageIdText,
    NotificationIdText,
    PostingRule,
    RoomIdText,
    SlowModeSeconds,
    UserIdText,
)


class ServerFrame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    pass


class RoomInReady(msgspec.Struct, frozen=True, kw_only=True):
    room_id: RoomIdText
    type: Annotated[RoomType, Meta(examples=["group"])]
    last_seq: Position
    last_ack: Position
    last_read: Position
    unread_mentions: UnreadMentions
    notify: Annotated[NotifyLevel, Meta(examples=["all"])]
    hidden: Annotated[bool, Meta(examples=[False])]


class ReadyFrame(ServerFrame, frozen=True, kw_only=True, tag="ready"):
    """The first frame of each connection. If there are many rooms it holds the first ones, and `ready.rooms` the
    others."""

    connection_id: Annotated[str, Meta(examples=["conn_3f9a6d0c2b1e4857"])]
    user_id: UserIdText
    epoch: Epoch
    server_time: Time
    heartbeat_seconds: Annotated[float, Meta(examples=[30])]
    rooms: list[RoomInReady]
    more: Annotated[Literal[True], Meta(description="`ready.rooms` follows at once")] | UnsetType = UNSET


class ReadyRoomsFrame(ServerFrame, frozen=True, kw_only=True, tag="ready.rooms"):
    """More rooms, which did not fit into `ready`: each of these frames has at most 256 KiB."""

    rooms: list[RoomInReady]
    more: Annotated[bool, Meta(description="whether another one follows", examples=[False])]


class MessageSentFrame(ServerFrame, frozen=True, kw_only=True, tag="message.sent"):
    """The answer to `send_message`, once the message is on disk; it comes before the message itself."""

    room_id: RoomIdText
    message_id: MessageIdText
    seq: LogSeq
    client_message_id: Annotated[str | None, Meta(examples=["draft-17"])]
    created_at: Time
    stream: StreamOfMessage | UnsetType = UNSET
    request_id: RequestIdText | UnsetType = UNSET


class MessageFrame(MessageFields, ServerFrame, frozen=True, tag="message"):
    """A message, sent to every connection that follows the room, the sender's included."""


class MessageEditedFrame(MessageFields, ServerFrame, frozen=True, kw_only=True, tag="message.edited"):
    """An edited message as it now stands. `seq` is the edit's own, `target_seq` the message's."""

    target_seq: Annotated[int, Meta(ge=1, examples=[41])]
    request_id: RequestIdText | UnsetType = UNSET


class MessageFinishedFrame(MessageFields, ServerFrame, frozen=True, kw_only=True, tag="message.finished"):
    """The end of a stream, with the whole message. `seq` is the event's own, `target_seq` the message's."""

    target_seq: Annotated[int, Meta(ge=1, examples=[41])]
    request_id: RequestIdText | UnsetType = UNSET


class MessageAppendedFrame(ServerFrame, frozen=True, kw_only=True, tag="message.appended"):
    """The answer to `message.append`, once the text is on disk. It confirms every append of the message before it,
    too."""

    message_id: MessageIdText
    index: StreamIndex
    cancel_requested: CancelRequested | UnsetType = UNSET
    request_id: RequestIdText | UnsetType = UNSET


class MessageDeltaFrame(ServerFrame, frozen=True, kw_only=True, tag="message.delta"):
    """The text that was appended to a stream after `after`, up to `index`. May be dropped: `message.state` makes up for
    it."""

    room_id: RoomIdText
    message_id: MessageIdText
    after: Annotated[int, Meta(ge=0, examples=[5])]
    index: Annotated[int, Meta(ge=1, examples=[7])]
    text: Annotated[str, Meta(examples=[" Bob"])]


class MessageStateFrame(ServerFrame, frozen=True, kw_only=True, tag="message.state"):
    """A stream that is open, as it stands, for a connection that has caught up. The next delta goes on from its
    `index`."""

    room_id: RoomIdText
    message: ReadMessage


class MessageCancelRequestedFrame(ServerFrame, frozen=True, kw_only=True, tag="message.cancel_requested"):
    """A user wants a stream to end. It is sent to the connections of the message's sender, who decides; and it answers
    `message.cancel`."""

    room_id: RoomIdText
    message_id: MessageIdText
    user_id: UserIdText
    request_id: RequestIdText | UnsetType = UNSET


class MessageDeletedFrame(ServerFrame, frozen=True, kw_only=True, tag="message.deleted"):
    room_id: RoomIdText
    message_id: MessageIdText
    seq: LogSeq
    target_seq: Annotated[int, Meta(ge=1, examples=[41], description="the deleted message's own seq")]
    thread_id: Annotated[MessageIdText, Meta(description="of a reply")] | UnsetType = UNSET
    thread: (
        Annotated[ThreadSummary | None, Meta(description="of a reply: what its root now shows, null for no replies")]
        | UnsetType
    ) = UNSET
    request_id: RequestIdText | UnsetType = UNSET


class ReactionFrame(ServerFrame, frozen=True, kw_only=True):
    """How the message's reactions with one emoji stand after the event. An answer to a request that changed nothing has
    no `seq`, and only the asker gets it."""

    room_id: RoomIdText
    message_id: MessageIdText
    target_seq: Annotated[int, Meta(ge=1, examples=[41], description="the message's own seq")]
    user_id: UserIdText
    emoji: EmojiText


class ReactionAddedFrame(ReactionFrame, frozen=True, kw_only=True, tag="reaction.added"):
    """A user has reacted to a message. `count` users have now done so with this emoji."""

    count: ReactionCount
    created_at: Time
    seq: LogSeq | UnsetType = UNSET
    request_id: RequestIdText | UnsetType = UNSET


class ReactionRemovedFrame(ReactionFrame, frozen=True, kw_only=True, tag="reaction.removed"):
    """A user has taken a reaction back. `count` users are left with this emoji; at 0 it has lost its place."""

    count: Annotated[int, Meta(ge=0, examples=[1])]
    seq: LogSeq | UnsetType = UNSET
    request_id: RequestIdText | UnsetType = UNSET


class MessagePinnedFrame(ServerFrame, frozen=True, kw_only=True, tag="message.pinned"):
    room_id: RoomIdText
    message_id: MessageIdText
    target_seq: Annotated[int, Meta(ge=1, examples=[41], description="the message's own seq")]
    user_id: UserIdText
    pinned_at: Time
    seq: LogSeq


class MessageUnpinnedFrame(ServerFrame, frozen=True, kw_only=True, tag="message.unpinned"):
    room_id: RoomIdText
    message_id: MessageIdText
    target_seq: Annotated[int, Meta(ge=1, examples=[41], description="the message's own seq")]
    user_id: UserIdText
    seq: LogSeq


class RoomFrame(ServerFrame, frozen=True, kw_only=True):
    """The room's fields. Its own type is `room_type`."""

    room_id: RoomIdText
    unique_key: Annotated[str | None, Meta(examples=[None])]
    name: Annotated[str | None, Meta(examples=["Lighthouse keepers"])]
    metadata: Metadata
    posting: PostingRule
    slow_mode_seconds: SlowModeSeconds
    last_seq: Annotated[int, Meta(ge=0, examples=[42])]
    member_count: Annotated[int, Meta(ge=0, examples=[2])]
    created_by: UserIdText
    created_at: Time
    updated_at: Time
    room_type: Annotated[RoomType, Meta(examples=["group"])]


class RoomCreatedFrame(RoomFrame, frozen=True, kw_only=True, tag="room.created"):
    """A room that was created with this user, or to which they were added."""


class RoomUpdatedFrame(RoomFrame, frozen=True, kw_only=True, tag="room.updated"):
    seq: LogSeq


class RoomDeletedFrame(RoomFrame, frozen=True, kw_only=True, tag="room.deleted"):
    pass


class RoomMeFrame(ServerFrame, frozen=True, kw_only=True, tag="room.me"):
    """The user's own view of the room has changed, by a request of theirs or by a message that shows a hidden room
    again. It is sent to the user's own connections."""

    room_id: RoomIdText
    notify: Annotated[NotifyLevel, Meta(examples=["mentions"])]
    hidden: Annotated[bool, Meta(examples=[False])]


class MemberJoinedFrame(ServerFrame, frozen=True, kw_only=True, tag="member.joined"):
    room_id: RoomIdText
    user_id: UserIdText
    role: Annotated[Role, Meta(examples=["member"])]
    muted_until: Annotated[Time, Meta(description="of a user who was muted before they left")] | UnsetType = UNSET
    seq: LogSeq


class MemberUpdatedFrame(ServerFrame, frozen=True, kw_only=True, tag="member.updated"):
    """A member has another role, or is muted or no longer muted. The end of a mute makes no event."""

    room_id: RoomIdText
    user_id: UserIdText
    role: Annotated[Role, Meta(examples=["admin"])]
    muted_until: Annotated[Never, Meta(description="a time, or null for a member who is not muted")]
    seq: LogSeq


class MemberLeftFrame(ServerFrame, frozen=True, kw_only=True, tag="member.left"):
    room_id: RoomIdText
    user_id: UserIdText
    seq: LogSeq


class BanFrame(ServerFrame, frozen=True, kw_only=True):
    room_id: RoomIdText
    user_id: UserIdText
    reason: BanReason
    until: BanEnd
    seq: LogSeq


class MemberBannedFrame(BanFrame, frozen=True, kw_only=True, tag="member.banned"):
    """A user is banned. If they were a member, they are no longer; their connections get nothing more of the room."""


class MemberUnbannedFrame(BanFrame, frozen=True, kw_only=True, tag="member.unbanned"):
    """An admin has lifted this ban. The end of a ban by itself makes no event."""


class ReceiptFrame(ServerFrame, frozen=True, kw_only=True):
    room_id: RoomIdText
    seq: Position
    user_id: UserIdText
    request_id: RequestIdText | UnsetType = UNSET


class AckReceivedFrame(ReceiptFrame, frozen=True, kw_only=True, tag="ack.received"):
    """The user has acknowledged everything up to `seq`."""


class ReadUpdatedFrame(ReceiptFrame, frozen=True, kw_only=True, tag="read.updated"):
    """The user has read everything up to `seq`."""


class SubscribedFrame(ServerFrame, frozen=True, kw_only=True, tag="subscribed"):
    room_id: RoomIdText
    last_seq: Position
    request_id: RequestIdText | UnsetType = UNSET


class UnsubscribedFrame(ServerFrame, frozen=True, kw_only=True, tag="unsubscribed"):
    room_id: RoomIdText
    request_id: RequestIdText | UnsetType = UNSET


PresenceStatus = Literal["online", "offline"]
TypingAction = Literal["start", "stop"]


class PresenceUpdateFrame(ServerFrame, frozen=True, kw_only=True, tag="presence.update"):
    """A user is online from their first connection on, and offline some seconds after the last one ended. May be
    dropped."""

    user_id: UserIdText
    status: PresenceStatus


class TypingFrame(ServerFrame, frozen=True, kw_only=True, tag="typing"):
    """A member starts or stops typing. It is never sent to the typist, and may be dropped."""

    room_id: RoomIdText
    user_id: UserIdText
    action: TypingAction


class UserUpdatedFrame(ServerFrame, frozen=True, kw_only=True, tag="user.updated"):
    """A user's profile has changed. It goes to the user's own connections, and to those who hear of the user's
    presence; it may be dropped."""

    user: UserFields


class NotificationFrame(ServerFrame, frozen=True, kw_only=True, tag="notification"):
    """A notification. It comes again at each connect until the user acknowledges it."""

    notification_id: NotificationIdText
    topic: Annotated[str, Meta(examples=["order.shipped"])]
    payload: Payload
    created_at: Time


RoomCursors = Annotated[dict[str, int], Meta(examples=[{"room_5f3a9c0e71b24d6688aa10cf": 42}])]


class SyncCompleteFrame(ServerFrame, frozen=True, kw_only=True, tag="sync.complete"):
    """The backlog has been sent, and the connection is live. `rooms` holds the last seq sent in each room."""

    rooms: RoomCursors
    request_id: RequestIdText | UnsetType = UNSET


class SyncGapFrame(ServerFrame, frozen=True, kw_only=True, tag="sync.gap"):
    """The server skips these events, both ends included. Read them over REST; the newest events follow."""

    room_id: RoomIdText
    from_seq: Annotated[int, Meta(ge=1, examples=[43])]
    to_seq: Annotated[int, Meta(ge=1, examples=[2048])]


class SyncResetFrame(ServerFrame, frozen=True, kw_only=True, tag="sync.reset"):
    """The client's cursors cannot be right. The server continues from these."""

    epoch: Epoch
    rooms: RoomCursors
    request_id: RequestIdText | UnsetType = UNSET


class ErrorFrame(ServerFrame, frozen=True, kw_only=True, tag="error"):
    """The server could not carry out a frame, which had no other effect, or is about to close the connection."""

    code: Annotated[Code, Meta(examples=["RATE_LIMIT_EXCEEDED"])]
    message: Annotated[str, Meta(examples=["Rate limit exceeded"])]
    field: str | UnsetType = UNSET
    details: dict[str, object] | UnsetType = UNSET
    retry_after_ms: Annotated[int, Meta(ge=1, examples=[120])] | UnsetType = UNSET
    request_id: RequestIdText | UnsetType = UNSET


class ServerShutdownFrame(ServerFrame, frozen=True, kw_only=True, tag="server.shutdown"):
    """The server is about to close with 1001. The delay differs, so that clients do not return all at once."""

    reconnect_after_ms: Annotated[int, Meta(ge=0, examples=[730])]
    url: Annotated[str, Meta(description="of the server that the tenant has moved to")] | UnsetType = UNSET


class CloseFrame(ServerFrame, frozen=True, kw_only=True, tag="close"):
    """The last event of an event stream, in place of the WebSocket's close frame, with the same codes."""

    code: Annotated[int, Meta(ge=1000, le=4999, examples=[1001])]
    reason: Annotated[str, Meta(examples=["server going away"])]


class PongFrame(ServerFrame, frozen=True, kw_only=True, tag="pong"):
    request_id: RequestIdText | UnsetType = UNSET


LogEvent = (
    MessageFrame
    | MessageEditedFrame
    | MessageFinishedFrame
    | MessageDeletedFrame
    | ReactionAddedFrame
    | ReactionRemovedFrame
    | MessagePinnedFrame
    | MessageUnpinnedFrame
    | RoomUpdatedFrame
    | MemberJoinedFrame
    | MemberUpdatedFrame
    | MemberLeftFrame
    | MemberBannedFrame
    | MemberUnbannedFrame
)
"""The durable events of a room's log, each with its `seq`. All other lists of them follow from this one, or are
compared with it by `tests/protocol/test_log_events.py`."""

LOG_EVENTS: tuple[type[ServerFrame], ...] = get_args(LogEvent)
LOGGED = frozenset(str(record.__struct_config__.tag) for record in LOG_EVENTS)
"""Their types."""

SERVER_FRAMES: tuple[type[ServerFrame], ...] = (
    ReadyFrame,
    ReadyRoomsFrame,
    MessageSentFrame,
    MessageFrame,
    MessageEditedFrame,
    MessageFinishedFrame,
    MessageAppendedFrame,
    MessageDeltaFrame,
    MessageStateFrame,
    MessageCancelRequestedFrame,
    MessageDeletedFrame,
    ReactionAddedFrame,
    ReactionRemovedFrame,
    MessagePinnedFrame,
    MessageUnpinnedFrame,
    RoomCreatedFrame,
    RoomUpdatedFrame,
    RoomDeletedFrame,
    RoomMeFrame,
    MemberJoinedFrame,
    MemberUpdatedFrame,
    MemberLeftFrame,
    MemberBannedFrame,
    MemberUnbannedFrame,
    AckReceivedFrame,
    ReadUpdatedFrame,
    SubscribedFrame,
    UnsubscribedFrame,
    PresenceUpdateFrame,
    TypingFrame,
    UserUpdatedFrame,
    NotificationFrame,
    SyncCompleteFrame,
    SyncGapFrame,
    SyncResetFrame,
    ErrorFrame,
    ServerShutdownFrame,
    PongFrame,
)
