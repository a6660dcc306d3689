"""Ids and records of all subsystems. They have no behaviour beyond the form of an id and of a time.

Public ids are opaque to clients. Messages, notifications and subscriptions have a time-ordered 63-bit integer as their
key in the database; the public id is an encoding of it, so that no second index is needed (docs/design.md, section 5).
"""

import datetime
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, NewType

import msgspec

if TYPE_CHECKING:
    from chatapi.banned_users import BannedUsers
    from chatapi.config import TenantSettings
    from chatapi.errors import ChatError

TenantId = NewType("TenantId", str)
RoomId = NewType("RoomId", str)
UserId = NewType("UserId", str)
MessageId = NewType("MessageId", str)
KeyId = NewType("KeyId", str)

# Integer keys of the database, never shown to a client.
TenantKey = NewType("TenantKey", int)
RoomKey = NewType("RoomKey", int)


class RoomType(StrEnum):
    DM = "dm"
    GROUP = "group"
    CHANNEL = "channel"


class Role(StrEnum):
    ADMIN = "admin"
    MEMBER = "member"


class Posting(StrEnum):
    """The members who may post in a room."""

    MEMBERS = "members"
    ADMINS = "admins"


class NotifyLevel(StrEnum):
    """Of which messages a member who is offline is told."""

    ALL = "all"
    MENTIONS = "mentions"
    NONE = "none"

    def wants(self, is_mentioned: bool) -> bool:
        """Whether they are told of a message that mentions them, or does not."""
        return self is NotifyLevel.ALL or (is_mentioned and self is NotifyLevel.MENTIONS)


class WebhookEvent(StrEnum):
    """The names in `config.webhook_events`, and the types of the calls that tell a tenant's backend of events."""

    MESSAGE_CREATED = "message.created"
    MESSAGE_EDITED = "message.edited"
    MESSAGE_DELETED = "message.deleted"
    MESSAGE_FINISHED = "message.finished"
    MESSAGE_REPORTED = "message.reported"
    REACTION_ADDED = "reaction.added"
    REACTION_REMOVED = "reaction.removed"
    ROOM_CREATED = "room.created"
    ROOM_UPDATED = "room.updated"
    ROOM_DELETED = "room.deleted"
    MEMBER_JOINED = "member.joined"
    MEMBER_LEFT = "member.left"
    MEMBER_BANNED = "member.banned"
    USER_ONLINE = "user.online"
    USER_OFFLINE = "user.offline"


class Scope(StrEnum):
    """The kinds of credentials (docs/contract.md, section 4)."""

    API_KEY = "api_key"
    USER_TOKEN = "user_token"


class ReplacedSecret(NamedTuple):
    """A webhook secret that signs along until then."""

    secret: str
    until_us: int


class TenantState:
    """A tenant as it now stands: one object for each, shared by all who hold it, changed only after a commit.

    `settings` are those in force, that is the tenant's own `config` over the server's.
    """

    __slots__ = (
        "away",
        "bans",
        "config",
        "created_at_us",
        "epoch",
        "gone",
        "hold",
        "moved_to",
        "name",
        "replaced_webhook_secrets",
        "settings",
        "tenant_id",
        "tenant_key",
        "token_secret",
        "webhook_secret",
    )

    def __init__(
        self,
        *,
        tenant_key: TenantKey,
        tenant_id: TenantId,
        name: str,
        token_secret: str,
        config: dict[str, object],
        settings: "TenantSettings",
        created_at_us: int,
        epoch: str,
        webhook_secret: str | None = None,
        replaced_webhook_secrets: Sequence[ReplacedSecret] = (),
    ) -> None:
        self.tenant_key = tenant_key
        self.tenant_id = tenant_id
        self.name = name
        self.token_secret = token_secret
        self.config = config
        self.settings = settings
        self.created_at_us = created_at_us
        self.epoch = epoch  # for which alone the cursors of clients hold
        self.gone = False  # deleted: its rooms are there no more, though their rows may be
        self.hold: ChatError | None = None  # why its writes are refused, while it is held for a move
        self.moved_to: str | None = None  # the URL of the server that it has moved to, which has confirmed it
        self.away: ChatError | None = None  # why all is refused, and no room is found: another server has it
        self.webhook_secret = webhook_secret
        self.replaced_webhook_secrets = list(replaced_webhook_secrets)
        self.bans: BannedUsers | None = None  # of users; most tenants have none


def list_held_keys(tenants: Iterable[TenantState]) -> list[TenantKey]:
    """Of those whose writes are refused: one row of theirs would have a statement over all tenants refused."""
    return [tenant.tenant_key for tenant in tenants if tenant.hold is not None]


class Principal(msgspec.Struct, frozen=True):
    """A user of a tenant who acts, and the credential that they gave."""

    tenant: TenantState
    user_id: UserId
    scope: Scope
    key_id: KeyId | None = None  # the API key used, so that its revocation closes the sockets opened with it
    expires_at_us: int | None = None  # of a user token


class ActorKind(StrEnum):
    MASTER = "master"
    KEY = "key"
    USER = "user"
    SERVER = "server"


class Actor(msgspec.Struct, frozen=True):
    """The actor of an entry in the audit: their credential, and the address from which it came, None for the server
    itself. With a key, `user_id` is the user that the backend acts for."""

    kind: ActorKind
    address: str | None = None
    key_id: KeyId | None = None
    user_id: UserId | None = None


SERVER_ACTOR = Actor(ActorKind.SERVER)


def make_actor(principal: Principal | None, address: str) -> Actor:
    """None stands for the operator, who has no user."""
    if principal is None:
        return Actor(ActorKind.MASTER, address)
    kind = ActorKind.KEY if principal.scope is Scope.API_KEY else ActorKind.USER
    return Actor(kind, address, principal.key_id, principal.user_id)


class MemberState(msgspec.Struct):
    """A member of a loaded room. `last_ack` and `last_read` only grow while the membership lasts."""

    user_id: UserId
    role: Role
    joined_at_us: int
    last_ack: int
    last_read: int
    last_mention_seq: int = 0  # no message with a greater seq mentions them, unless it mentions the whole room
    notify: NotifyLevel = NotifyLevel.ALL
    new_mentions: int = 0  # beside those of the whole room, since it was loaded; less for each of their own of those


class OptionalFields(NamedTuple):
    """The fields that the sender of a message wrote, and that not every message has."""

    thread_id: str | None = None
    mentions: tuple[str, ...] = ()  # each user once, in the order in which they were written
    mention_room: bool = False
    stream: bool = False  # it was opened as one

    def mentions_user(self, user_id: str) -> bool:
        """For a member who is not the sender."""
        return self.mention_room or user_id in self.mentions


NO_OPTIONAL_FIELDS = OptionalFields()


_USER_ID = re.compile(r"[!-~]{1,128}")


def is_user_id(text: str) -> bool:
    """1 to 128 characters of printable ASCII without spaces."""
    return _USER_ID.fullmatch(text) is not None


def encode_message_id(message_key: int) -> MessageId:
    return MessageId(f"msg_{message_key:016x}")


def encode_notification_id(notification_key: int) -> str:
    return f"notif_{notification_key:016x}"


def encode_report_id(report_key: int) -> str:
    return f"report_{report_key:016x}"


def encode_audit_id(audit_key: int) -> str:
    return f"audit_{audit_key:016x}"


def encode_subscription_id(subscription_key: int) -> str:
    return f"sub_{subscription_key:016x}"


def find_key(prefix: str, public_id: str) -> int | None:
    """The integer behind an id that `encode_…_id` made, or None for any other text."""
    digits = public_id.removeprefix(prefix)
    if len(digits) != 16 or len(public_id) != len(prefix) + 16:
        return None
    try:
        key = int(digits, 16)
    except ValueError:
        return None
    # int() also takes signs, underscores and capitals: only the one spelling that we make is an id.
    return key if f"{key:016x}" == digits and key < 1 << 63 else None


@lru_cache(maxsize=4096)
def _encode_second(second: int) -> str:
    return datetime.datetime.fromtimestamp(second, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=256)  # all messages of a commit have one time, and each is written twice
def encode_time(time_us: int) -> str:
    """RFC 3339 in UTC with microseconds, as in `2025-12-13T12:00:00.123456Z`."""
    second, microsecond = divmod(time_us, 1_000_000)
    return f"{_encode_second(second)}.{microsecond:06d}Z"


def encode_dm_key(first: UserId, second: UserId) -> str:
    """The same for both orders, and different for any two pairs: user ids may contain any separator, so the first
    one's length says where it ends."""
    low, high = sorted((first, second))
    return f"dm:{len(low)}:{low}:{high}"
