"""Which events a tenant's backend is told of, and the rows that tell it (`store.backend_events`)."""

from collections.abc import Mapping

from msgspec import Struct

from chatapi.models import TenantState, UserId, WebhookEvent
from chatapi.protocol.json import encode
from chatapi.protocol.server_frames import (
    LogEvent,
    MemberBannedFrame,
    MemberJoinedFrame,
    MemberLeftFrame,
    MemberUnbannedFrame,
    MemberUpdatedFrame,
    MessageDeletedFrame,
    MessageEditedFrame,
    MessageFinishedFrame,
    MessageFrame,
    MessagePinnedFrame,
    MessageUnpinnedFrame,
    PresenceStatus,
    PresenceUpdateFrame,
    ReactionAddedFrame,
    ReactionRemovedFrame,
    RoomUpdatedFrame,
)
from chatapi.store.webhooks import NOBODY

Row = tuple[object, ...]
"""Of `backend_events.INSERT_EVENTS`, without the last column."""

EVENT_OF_LOG: Mapping[type[LogEvent], WebhookEvent | None] = {
    MessageFrame: WebhookEvent.MESSAGE_CREATED,
    MessageEditedFrame: WebhookEvent.MESSAGE_EDITED,
    MessageFinishedFrame: WebhookEvent.MESSAGE_FINISHED,
    MessageDeletedFrame: WebhookEvent.MESSAGE_DELETED,
    ReactionAddedFrame: WebhookEvent.REACTION_ADDED,
    ReactionRemovedFrame: WebhookEvent.REACTION_REMOVED,
    MessagePinnedFrame: None,
    MessageUnpinnedFrame: None,
    RoomUpdatedFrame: WebhookEvent.ROOM_UPDATED,
    MemberJoinedFrame: WebhookEvent.MEMBER_JOINED,
    MemberUpdatedFrame: None,
    MemberLeftFrame: WebhookEvent.MEMBER_LEFT,
    MemberBannedFrame: WebhookEvent.MEMBER_BANNED,
    MemberUnbannedFrame: None,
}
"""The call that tells of each event of the log; None for those of which there is none."""

EVENT_OF_PRESENCE: Mapping[PresenceStatus, WebhookEvent] = {
    "online": WebhookEvent.USER_ONLINE,
    "offline": WebhookEvent.USER_OFFLINE,
}


def wants(tenant: TenantState, event: WebhookEvent | None) -> bool:
    """Whether the tenant's backend hears of it, as its config stands now."""
    settings = tenant.settings
    return event in settings.webhook_events and settings.webhook_url is not None


def make_row(
    event_key: int,
    tenant: TenantState,
    room_key: int | None,
    event: WebhookEvent,
    *,
    seq: int | None = None,
    frame: Struct | None = None,
) -> Row:
    """Of an event of a room: of its log, with the `seq`, or with its frame where that is stored nowhere else."""
    text = None if frame is None else encode(frame).decode()
    return (event_key, tenant.tenant_key, room_key, NOBODY, seq, event, text)


def make_presence_row(event_key: int, tenant: TenantState, user_id: UserId, status: PresenceStatus) -> Row:
    text = encode(PresenceUpdateFrame(user_id=user_id, status=status)).decode()
    return (event_key, tenant.tenant_key, None, user_id, None, EVENT_OF_PRESENCE[status], text)
