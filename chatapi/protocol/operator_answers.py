"""The answers of REST that only the operator gets, as the others in `answers`."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from chatapi.models import WebhookEvent
from chatapi.protocol.answers import Answer
from chatapi.protocol.fields import (
    EXAMPLE_TIME,
    DeadLetterIdText,
    HasMore,
    KeyIdText,
    Never,
    NextCursor,
    OneTimeKey,
    OneTimeSecret,
    ReportIdText,
    Time,
    WebhookSecret,
)
from chatapi.protocol.json import Encoded
from chatapi.protocol.move_records import MoveState
from chatapi.protocol.requests import (
    MessageIdText,
    NotificationIdText,
    RoomIdText,
    TenantConfigObject,
    TenantIdText,
    UserIdText,
)

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
