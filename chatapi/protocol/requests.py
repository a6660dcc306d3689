"""The bodies of REST: one record for each, with its bounds.

The same records validate the request and make its OpenAPI schema. Where a bound is not JSON Schema's to state (bytes of
UTF-8, bytes of an object), `check` states it.
"""

from functools import cache
from typing import Annotated, ClassVar, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from chatapi.errors import invalid
from chatapi.models import NotifyLevel, OptionalFields, Posting, Role, RoomType, UserId
from chatapi.protocol.json import MAX_INTEGER, check_object_bytes, convert

MAX_OBJECT_BYTES = 16 * 1024  # metadata and meta
MAX_PAYLOAD_BYTES = 64 * 1024  # of a notification
MAX_MEMBERS_AT_CREATION = 1000
MAX_MENTIONS = 50  # of one message
MAX_TARGET_USERS = 1000
MAX_ACKED_ROOMS = 1000  # in one call: about 3 ms of the writer's time
MAX_TOKEN_SECONDS = 86400
MAX_SLOW_MODE_SECONDS = 6 * 3600
MAX_EMOJI_BYTES = 64  # of UTF-8: a flag of a region takes 28, a family of four 25
MAX_EMOJI = 50  # different ones on one message
MAX_EMOJI_OF_USER = 20  # on one message
SHOWN_USERS = 20  # of those who reacted with one emoji, where a message is read

# `$` alone would also match before a trailing newline.
UserIdText = Annotated[
    str,
    Meta(
        pattern=r"^[!-~]{1,128}$(?!\n)",
        description="1 to 128 characters of printable ASCII without spaces",
        examples=["alice"],
    ),
]
RoomName = Annotated[str, Meta(min_length=1, max_length=200, examples=["Lighthouse keepers"])]
TenantName = Annotated[str, Meta(min_length=1, max_length=200, examples=["Acme"])]
Topic = Annotated[str, Meta(min_length=1, max_length=200, examples=["order.shipped"])]
Seq = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Cursor = Annotated[Seq, Meta(examples=[42])]
Content = Annotated[
    str,
    Meta(
        min_length=1,
        description="1 byte to 64 KiB of UTF-8 (a tenant's own bound may differ)",
        examples=["Hello, Bob"],
    ),
]
DraftContent = Annotated[
    str,
    Meta(description="1 byte to 64 KiB of UTF-8, as in an edit; not needed with `stream`", examples=["Hello, Bob"]),
]
ClientMessageId = Annotated[str, Meta(min_length=1, max_length=64)]
PublicId = Annotated[str, Meta(min_length=1, max_length=200)]
RoomIdText = Annotated[PublicId, Meta(examples=["room_5f3a9c0e71b24d6688aa10cf"])]
MessageIdText = Annotated[PublicId, Meta(examples=["msg_0abc5d2e81f3a704"])]
# White space is Unicode's White_Space, control characters are its category Cc.
EmojiText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_EMOJI_BYTES,
        pattern=r"^[^\x00-\x20\x7F-\xA0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000]+$(?!\n)",
        description=f"1 to {MAX_EMOJI_BYTES} bytes of UTF-8 without white space and control characters, kept as sent;"
        " not `.` or `..`, which are steps in a path",
        examples=["👍"],
    ),
]
NotificationIdText = Annotated[PublicId, Meta(examples=["notif_0abc5d2f02c3a704"])]
TenantIdText = Annotated[PublicId, Meta(examples=["tenant_9b1f6c3a2d4e5f607182"])]
JsonObject = Annotated[dict[str, object], Meta(description=f"at most {MAX_OBJECT_BYTES} bytes as JSON")]
# The settings say what it may hold: the document's schema of this name is made from them.
TenantConfigObject = Annotated[
    dict[str, object],
    Meta(examples=[{"rate_limit": 250}], extra_json_schema={"$ref": "#/components/schemas/TenantConfig"}),
]


PostingRule = Annotated[
    Posting,
    Meta(description="the members who may post: all, or the admins alone; `members` in a dm", examples=["members"]),
]
SlowModeSeconds = Annotated[
    int,
    Meta(
        ge=0,
        le=MAX_SLOW_MODE_SECONDS,
        description="from a member's message to their next one; not for admins; 0 in a dm",
        examples=[0],
    ),
]


class Body(msgspec.Struct, frozen=True):
    """A request's body. `check` raises ChatError for the bounds that the types cannot state."""

    needs_body: ClassVar = False  # though each field is optional

    def check(self) -> None:
        return

    def count_characters(self) -> int:
        """Its size, which is the memory that it takes while its write waits."""
        return len(msgspec.json.encode(self))


@cache
def may_be_absent(record: type[Body]) -> bool:
    """Whether all fields are optional: a request without a body is then one with `{}`, and needs no Content-Type."""
    return not record.needs_body and not any(field.required for field in msgspec.structs.fields(record))


class CreateRoom(Body, frozen=True):
    type: Annotated[RoomType, Meta(examples=["group"])]
    members: Annotated[list[UserIdText], Meta(max_length=MAX_MEMBERS_AT_CREATION, examples=[["bob"]])] | None = None
    name: RoomName | None = None
    metadata: JsonObject | None = None
    posting: PostingRule = Posting.MEMBERS
    slow_mode_seconds: SlowModeSeconds = 0

    def check(self) -> None:
        check_object_bytes(self.metadata, "metadata", MAX_OBJECT_BYTES)
        if self.type is RoomType.DM:
            check_settings_of_dm(self)


class PatchRoom(Body, frozen=True):
    """An absent field stays unchanged, null clears it."""

    name: RoomName | UnsetType | None = UNSET
    metadata: JsonObject | UnsetType | None = UNSET
    posting: PostingRule | UnsetType = UNSET
    slow_mode_seconds: SlowModeSeconds | UnsetType = UNSET

    def check(self) -> None:
        if self.metadata is not UNSET:
            check_object_bytes(self.metadata, "metadata", MAX_OBJECT_BYTES)


def check_settings_of_dm(settings: CreateRoom | PatchRoom) -> None:
    """Raises ChatError for a setting that a dm does not have."""
    if settings.posting not in (Posting.MEMBERS, UNSET):
        raise invalid("Not in a dm", "posting")
    if settings.slow_mode_seconds not in (0, UNSET):
        raise invalid("Not in a dm", "slow_mode_seconds")


class AddMember(Body, frozen=True):
    user_id: Annotated[UserIdText, Meta(examples=["bob"])]
    role: Role = Role.MEMBER


_MENTIONS = "members of the room; ids that are given twice count once"
Mentions = Annotated[list[UserIdText], Meta(max_length=MAX_MENTIONS, description=_MENTIONS, examples=[["bob"]])]
MentionRoom = Annotated[bool, Meta(description="mentions every member; for room admins, in a dm for both")]


class PatchOwnView(Body, frozen=True):
    """An absent field stays unchanged."""

    notify: Annotated[NotifyLevel, Meta(examples=["mentions"])] | UnsetType = UNSET
    hidden: Annotated[bool, Meta(examples=[True])] | UnsetType = UNSET


class MessageDraft(Body, frozen=True):
    needs_body: ClassVar = True

    content: DraftContent = ""
    meta: JsonObject | None = None
    reply_to: PublicId | None = None
    client_message_id: ClientMessageId | None = None
    thread_id: Annotated[PublicId, Meta(description="a message of the room that is no reply itself")] | None = None
    mentions: Mentions | None = None
    mention_room: MentionRoom | None = None
    stream: Annotated[bool, Meta(description="opens a stream: the message is written in pieces")] = False

    def check(self) -> None:
        if not self.content and not self.stream:
            raise invalid("Required, unless the message opens a stream", "content")
        check_object_bytes(self.meta, "meta", MAX_OBJECT_BYTES)

    @property
    def optional(self) -> OptionalFields | None:
        """None for a message of plain fields."""
        if self.mentions or self.mention_room or self.thread_id is not None or self.stream:
            named = tuple(dict.fromkeys(self.mentions or ()))
            return OptionalFields(self.thread_id, named, bool(self.mention_room), self.stream)
        return None


class MessageEdit(Body, frozen=True):
    """An absent field stays unchanged, null clears it; so do an empty list of mentions, and false."""

    content: Content
    meta: JsonObject | UnsetType | None = UNSET
    mentions: Mentions | UnsetType | None = UNSET
    mention_room: MentionRoom | UnsetType | None = UNSET

    def check(self) -> None:
        if self.meta is not UNSET:
            check_object_bytes(self.meta, "meta", MAX_OBJECT_BYTES)

    def apply_to(self, optional: OptionalFields) -> OptionalFields:
        """The message's optional fields after the edit."""
        if self.mentions is not UNSET:
            optional = optional._replace(mentions=tuple(dict.fromkeys(self.mentions or ())))
        if self.mention_room is not UNSET:
            optional = optional._replace(mention_room=bool(self.mention_room))
        return optional


class EmojiInPath(Body, frozen=True):
    emoji: EmojiText

    def check(self) -> None:
        check_emoji(self.emoji)


def parse_emoji(text: str) -> str:
    """The emoji in a path. Raises ChatError, as for one in a frame."""
    named = convert({"emoji": text}, EmojiInPath)
    named.check()
    return named.emoji


def check_emoji(emoji: str) -> None:
    """Raises ChatError for what the type cannot state."""
    try:
        size = len(emoji.encode())
    except UnicodeEncodeError:
        raise invalid("Must be valid Unicode", "emoji") from None
    if size > MAX_EMOJI_BYTES:
        raise invalid(f"Must be at most {MAX_EMOJI_BYTES} bytes of UTF-8", "emoji")
    if emoji in (".", ".."):
        raise invalid("Must not be a step in a path", "emoji")


class ReadUpTo(Body, frozen=True):
    seq: Cursor


class AckUpTo(Body, frozen=True):
    """Either `room_id` and `seq`, or `rooms` alone: `{room_id: seq}` for up to 1,000 rooms, each judged on its own."""

    room_id: RoomIdText | UnsetType = UNSET
    seq: Cursor | UnsetType = UNSET
    # No example: a request has one form or the other, and the document's example is made of all that have one.
    rooms: Annotated[dict[str, object], Meta(max_length=MAX_ACKED_ROOMS)] | UnsetType = UNSET

    def check(self) -> None:
        if self.rooms is not UNSET:
            if self.room_id is not UNSET or self.seq is not UNSET:
                raise invalid("Give either room_id and seq, or rooms, not both", "rooms")
        elif self.room_id is UNSET:
            raise invalid("Required, unless rooms is given", "room_id")
        elif self.seq is UNSET:
            raise invalid("Required", "seq")

    @property
    def room_and_seq(self) -> tuple[str, int]:
        return cast(tuple[str, int], (self.room_id, self.seq))  # of the form without `rooms`; `check` has seen both


def parse_user_id(text: str, field: str = "user_id") -> UserId:
    """A user id of a path or a list. Raises ChatError."""
    try:
        return UserId(msgspec.convert(text, UserIdText))
    except msgspec.ValidationError:
        raise invalid("Must be 1 to 128 characters of printable ASCII without spaces", field) from None


def parse_seq(value: object, field: str) -> int:
    """One value of an object of cursors. Raises ChatError."""
    try:
        return msgspec.convert(value, Seq)
    except msgspec.ValidationError as error:
        raise invalid(str(error), field) from None


class NotifyTargets(msgspec.Struct, frozen=True):
    """At least one kind of target. Each user is notified once, however many targets name them."""

    user_ids: Annotated[list[UserIdText], Meta(max_length=MAX_TARGET_USERS, examples=[["bob"]])] | None = None
    room_id: PublicId | None = None
    topic_subscribers: bool = False


class Notify(Body, frozen=True):
    topic: Topic
    payload: Annotated[
        object, Meta(description=f"any JSON, at most {MAX_PAYLOAD_BYTES} bytes", examples=[{"order": 1234}])
    ]
    targets: NotifyTargets

    def check(self) -> None:
        targets = self.targets
        if targets.user_ids is None and targets.room_id is None and not targets.topic_subscribers:
            raise invalid("Name at least one of user_ids, room_id, topic_subscribers", "targets")
        check_object_bytes({"payload": self.payload}, "payload", MAX_PAYLOAD_BYTES + len('{"payload":}'))


class Subscribe(Body, frozen=True):
    topic: Topic


class MintToken(Body, frozen=True):
    user_id: UserIdText | None = None
    expires_in: Annotated[int, Meta(ge=1, le=MAX_TOKEN_SECONDS, description="seconds")] = 3600


class RetryDeadLetters(Body, frozen=True):
    tenant_id: TenantIdText


class CreateTenant(Body, frozen=True):
    name: TenantName
    config: TenantConfigObject | None = None


class PatchTenant(Body, frozen=True):
    """An absent field stays unchanged. In `config` an absent key stays too, and null removes the tenant's own
    setting."""

    name: TenantName | UnsetType = UNSET
    config: TenantConfigObject | UnsetType = UNSET
