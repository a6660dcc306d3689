"""The shapes of the operator's results; see `records`."""

from typing import Literal, NotRequired, TypedDict

from chatapi.client.records import Json, Page


class MoveState(TypedDict):
    """`state`: "copying", "held" while writes are refused, or "moved"."""

    state: Literal["copying", "held", "moved"]
    url: str
    rows: int


class TenantMove(MoveState):
    tenant_id: str
    held_ms: int


class Tenant(TypedDict):
    tenant_id: str
    name: str
    created_at: str
    config: Json
    move: NotRequired[MoveState]


class _WebhookSecret(TypedDict, total=False):
    webhook_secret: str


class ChangedTenant(Tenant, _WebhookSecret):
    """`webhook_secret` is there when the change was the first to set `webhook_url`."""


class NewTenant(ChangedTenant):
    """Its secrets are shown this once."""

    api_key: str
    token_secret: str


class TenantPage(Page):
    tenants: list[Tenant]


class NewKey(TypedDict):
    """The key is shown this once."""

    key_id: str
    api_key: str


class Key(TypedDict):
    key_id: str
    created_at: str
    last_used_at: str | None


class KeyPage(Page):
    keys: list[Key]


class NewTokenSecret(TypedDict):
    token_secret: str


class NewWebhookSecret(TypedDict):
    webhook_secret: str


EventName = Literal[
    "message.created",
    "message.edited",
    "message.deleted",
    "message.finished",
    "message.reported",
    "reaction.added",
    "reaction.removed",
    "room.created",
    "room.updated",
    "room.deleted",
    "member.joined",
    "member.left",
    "member.banned",
    "user.online",
    "user.offline",
]
"""The names that `webhook_events` of a tenant's config may hold."""


class FailedEvent(TypedDict):
    """A call that was to tell the tenant's backend of an event: its name, and what it was about. `attempts` is 0 if too
    many events were waiting."""

    id: str
    tenant_id: str
    event: EventName
    room_id: NotRequired[str]
    seq: NotRequired[int]
    user_id: NotRequired[str]
    report_id: NotRequired[str]
    attempts: int
    last_attempt_at: str
    error: str


class FailedCall(TypedDict):
    """A webhook call that was tried `attempts` times, and why the last try failed."""

    id: str
    tenant_id: str
    user_id: str
    attempts: int
    last_attempt_at: str
    error: str


class FailedMessage(FailedCall):
    message_id: str
    room_id: str


class FailedNotification(FailedCall):
    notification_id: str
    topic: str


class DeadLetters(Page):
    failed_messages: list[FailedMessage]
    failed_notifications: list[FailedNotification]
    failed_events: list[FailedEvent]


class AuditActor(TypedDict):
    """The credential with which somebody acted; with a key, `user_id` is the user that the backend acted for."""

    kind: Literal["master", "key", "user", "server"]
    key_id: NotRequired[str]
    user_id: NotRequired[str]


class AuditEntry(TypedDict):
    id: str
    at: str
    actor: AuditActor
    address: str | None
    action: str
    tenant_id: str | None
    target: str | None
    details: NotRequired[Json]


class AuditPage(TypedDict):
    entries: list[AuditEntry]
    has_more: bool


class RetriedOne(TypedDict):
    id: str


class RetriedAll(TypedDict):
    """How many are back in the queue."""

    retried: int


class Queues(TypedDict):
    """Notifications that are not acknowledged yet, for each recipient; webhook calls still to be made; dead letters."""

    notifications: int
    webhooks: int
    dead_letters: int


class AllQueues(Queues):
    """Of all tenants together; `writes` wait for the disk."""

    writes: int


class TenantStats(TypedDict):
    tenant_id: str
    name: str
    rooms: int
    messages: int
    connections: int
    move: NotRequired[MoveState]
    queues: Queues


class Compacted(TypedDict):
    """The file's size when the call began, and now; and how much of it holds nothing."""

    stage: Literal["working", "waiting", "done"]
    before_bytes: int
    file_bytes: int
    free_bytes: int


class Stats(TypedDict):
    tenants: list[TenantStats]
    queues: AllQueues
