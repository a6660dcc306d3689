"""Fields of answers and frames, with the examples for the documents."""

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from chatapi.models import OptionalFields
from chatapi.protocol.json import MAX_INTEGER, Encoded
from chatapi.protocol.requests import MAX_EMOJI, SHOWN_USERS, EmojiText, MessageIdText, RoomIdText, UserIdText

T = TypeVar("T")

TIME_PATTERN = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"
EXAMPLE_TIME = "2025-12-13T12:00:00.123456Z"

SubscriptionIdText = Annotated[str, Meta(examples=["sub_0abc5d2f9113a704"])]
ReportIdText = Annotated[str, Meta(examples=["report_0abc5d2e81f3a704"])]
KeyIdText = Annotated[str, Meta(examples=["key_1c2d3e4f5a6b7c8d"])]
DeadLetterIdText = Annotated[str, Meta(examples=["dlv_0abc5d2e81f3a70400000001"])]
Time = Annotated[
    str,
    Meta(
        pattern=TIME_PATTERN,
        description="RFC 3339 in UTC with microseconds",
        examples=[EXAMPLE_TIME],
        extra_json_schema={"format": "date-time"},
    ),
]
BanEnd = Annotated[
    str | None,
    Meta(
        description="a time, or null for a ban without an end",
        examples=[None],
        extra_json_schema={"format": "date-time"},
    ),
]
BanReason = Annotated[str | None, Meta(examples=["spam"])]
Never = Annotated[
    str | None,
    Meta(
        description="a time, or null until it has happened",
        examples=[None],
        extra_json_schema={"format": "date-time"},
    ),
]
ReactionCount = Annotated[int, Meta(ge=1, description="how many users", examples=[2])]
LogSeq = Annotated[int, Meta(ge=1, le=MAX_INTEGER, examples=[42], description="the event's place in the room's log")]
Position = Annotated[int, Meta(ge=0, le=MAX_INTEGER, examples=[42], description="the seq up to which this holds")]
MAX_UNREAD = 1_000  # messages, counted (docs/contract.md, section 7)
UnreadMentions = Annotated[
    int, Meta(ge=0, le=MAX_UNREAD, description="others' messages that mention the user, counted to 1,000", examples=[1])
]
RequestIdText = Annotated[str, Meta(max_length=64, description="the request_id of the frame that this answers")]
Epoch = Annotated[str, Meta(description="changes when the database is restored", examples=["9f2c61d0a4b84e17"])]
Metadata = Annotated[Encoded[dict[str, object]] | None, Meta(examples=[{"project": "lighthouse"}])]
Payload = Annotated[Encoded[object], Meta(examples=[{"order": 1234}])]
OneTimeKey = Annotated[str, Meta(examples=["sk_tenant_9f2c61d0a4b84e17_shown-once"])]
OneTimeSecret = Annotated[str, Meta(examples=["shown-once-signs-user-tokens"])]
WebhookSecret = Annotated[str, Meta(examples=["whsec_c2hvd24tb25jZS1zaWducy13ZWJob29rcw=="])]
HasMore = Annotated[bool, Meta(description="whether there is another page", examples=[False])]
NextCursor = Annotated[
    str,
    Meta(
        description="if there is another page: the `cursor` with which the list goes on, and skips no item",
        examples=["r3q0b2lZaGVsWzEsImFsaWNlIl0"],
    ),
]


def or_unset(value: T | None) -> T | UnsetType:
    """For a field that is absent where there is nothing to say."""
    return UNSET if value is None else value


StreamIndex = Annotated[int, Meta(ge=0, le=MAX_INTEGER, description="of the last stored append", examples=[7])]
CancelRequested = Annotated[bool, Meta(description="true: somebody wants it to end; else absent", examples=[True])]


class StreamStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Of a message that is, or was, written in pieces. `index` and `cancel_requested` are there only while it is
    open."""

    state: Annotated[Literal["open", "done", "cancelled", "failed"], Meta(examples=["open"])]
    index: StreamIndex | UnsetType = UNSET
    cancel_requested: CancelRequested | UnsetType = UNSET


StreamOfMessage = Annotated[StreamStatus, Meta(description="of a message that is, or was, written in pieces")]


class MessageFields(msgspec.Struct, frozen=True):
    """The fields that events of a message carry: all that its sender wrote, as it now stands. A deleted message is a
    tombstone: `content` is null.

    Fields that not every message has come last, with the default UNSET: they are absent where they say nothing. Their
    SQL is in `store.log.OPTIONAL_FIELDS`. Others add to a message, too: that is shown only where it is read
    (`answers.Message`).
    """

    message_id: MessageIdText
    room_id: RoomIdText
    seq: LogSeq
    sender_id: UserIdText
    content: Annotated[str | None, Meta(examples=["Hello, Bob"])]
    meta: Annotated[Encoded[dict[str, object]] | None, Meta(examples=[None])]
    reply_to: Annotated[str | None, Meta(description="a message_id of the same room", examples=[None])]
    client_message_id: Annotated[str | None, Meta(examples=["draft-17"])]
    created_at: Time
    edited_at: Never
    deleted_at: Never
    thread_id: Annotated[MessageIdText, Meta(description="the message that it is a reply to")] | UnsetType = UNSET
    mentions: (
        Annotated[list[UserIdText], Meta(description="the users whom it mentions", examples=[["bob"]])] | UnsetType
    ) = UNSET
    mention_room: (
        Annotated[bool, Meta(description="true where it mentions every member, else absent", examples=[True])]
        | UnsetType
    ) = UNSET
    stream: StreamOfMessage | UnsetType = UNSET


def fields_of(optional: OptionalFields) -> dict[str, Any]:
    """These fields of a message: UNSET where they say nothing."""
    return {
        "thread_id": or_unset(optional.thread_id),
        "mentions": list(optional.mentions) if optional.mentions else UNSET,
        "mention_room": True if optional.mention_room else UNSET,
    }


def optional_fields_of(message: MessageFields) -> OptionalFields:
    """The optional fields of this message that its sender wrote."""
    return OptionalFields(
        thread_id=None if isinstance(message.thread_id, UnsetType) else message.thread_id,
        mentions=() if isinstance(message.mentions, UnsetType) else tuple(message.mentions),
        mention_room=message.mention_room is True,
    )


class ReactionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Of one emoji on a message."""

    emoji: EmojiText
    count: ReactionCount
    user_ids: Annotated[
        list[UserIdText],
        Meta(
            max_length=SHOWN_USERS,
            description=f"the first {SHOWN_USERS} of them, in the order of reacting",
            examples=[["alice", "bob"]],
        ),
    ]


ReactionSummaries = Annotated[
    list[ReactionSummary],
    Meta(max_length=MAX_EMOJI, description="in the order of first use; absent while there is none"),
]


class ThreadSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The replies to a message that are not deleted."""

    reply_count: Annotated[int, Meta(ge=1, examples=[2])]
    last_reply_seq: LogSeq
    last_reply_at: Time


PinnedAt = Annotated[Time, Meta(description="when it was pinned; absent unless it is")]


class Annotations(msgspec.Struct, frozen=True):
    """The fields of a message that others than its sender have written. They stand only where the message is read: the
    log has events of its own for them, and a replay would count twice. Their SQL is in `store.log.ANNOTATIONS`."""

    reactions: ReactionSummaries | UnsetType = UNSET
    pinned_at: PinnedAt | UnsetType = UNSET
    thread: ThreadSummary | UnsetType = UNSET


class ReadMessage(MessageFields, frozen=True):
    """A message as it is read: with what others have added to it, the fields of `Annotations`. A deleted one is a
    tombstone: `content` is null."""

    reactions: ReactionSummaries | UnsetType = UNSET
    pinned_at: PinnedAt | UnsetType = UNSET
    thread: ThreadSummary | UnsetType = UNSET


class UserFields(msgspec.Struct, frozen=True, kw_only=True):
    """A user's profile. `last_seen_at` is when they were last online, as far as the caller may know it."""

    user_id: UserIdText
    name: Annotated[str | None, Meta(examples=["Alice Archer"])]
    avatar_url: Annotated[str | None, Meta(examples=["https://cdn.example.com/alice.png"])]
    metadata: Metadata
    last_seen_at: Never
    created_at: Time
    updated_at: Time


class SearchHealth(msgspec.Struct, frozen=True, kw_only=True):
    enabled: Annotated[bool, Meta(examples=[True])]
    lag: Annotated[
        int | None,
        Meta(description="messages and edits that are not in the index yet, counted to 10,000", examples=[0]),
    ]
