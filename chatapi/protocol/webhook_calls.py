"""The calls of a tenant's webhook: one record for each type, and their headers.

The calls are built as JSON in SQL: a test compares each with its record, from which OpenAPI is made.
"""

from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import Meta

from chatapi.models import RoomType
from chatapi.protocol.fields import DeadLetterIdText, MessageFields, Metadata, Payload, Time
from chatapi.protocol.moderation_answers import Report
from chatapi.protocol.requests import NotificationIdText, RoomIdText, TenantIdText, UserIdText
from chatapi.protocol.server_frames import (
    MemberBannedFrame,
    MemberJoinedFrame,
    MemberLeftFrame,
    MessageDeletedFrame,
    MessageEditedFrame,
    MessageFinishedFrame,
    MessageFrame,
    PresenceUpdateFrame,
    ReactionAddedFrame,
    ReactionRemovedFrame,
    RoomCreatedFrame,
    RoomDeletedFrame,
    RoomUpdatedFrame,
)


class WebhookCall(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    timestamp: Time


class RoomOfCall(msgspec.Struct, frozen=True, kw_only=True):
    room_id: RoomIdText
    type: Annotated[RoomType, Meta(examples=["group"])]
    name: Annotated[str | None, Meta(examples=["Lighthouse keepers"])]
    metadata: Metadata


class OfflineMessage(msgspec.Struct, frozen=True, kw_only=True):
    tenant_id: TenantIdText
    user_id: Annotated[UserIdText, Meta(description="the user who is offline", examples=["bob"])]
    room: RoomOfCall
    message: MessageFields
    mentioned: Annotated[
        bool, Meta(description="whether the message mentioned the user when it was stored", examples=[False])
    ]


class OfflineMessageCall(WebhookCall, frozen=True, kw_only=True, tag="message.offline"):
    """A message for a member who had no open connection when it was stored."""

    data: OfflineMessage


class NotificationOfCall(msgspec.Struct, frozen=True, kw_only=True):
    notification_id: NotificationIdText
    topic: Annotated[str, Meta(examples=["order.shipped"])]
    payload: Payload
    created_at: Time


class OfflineNotification(msgspec.Struct, frozen=True, kw_only=True):
    tenant_id: TenantIdText
    user_id: Annotated[UserIdText, Meta(description="the user who is offline", examples=["bob"])]
    notification: NotificationOfCall


class OfflineNotificationCall(WebhookCall, frozen=True, kw_only=True, tag="notification.offline"):
    """A notification for a recipient who had no open connection when it was stored."""

    data: OfflineNotification


EventT = TypeVar("EventT")


class RoomEvent(msgspec.Struct, Generic[EventT], frozen=True, kw_only=True):
    """An event of a room: `event` is what its members get, or the report."""

    tenant_id: TenantIdText
    event: EventT
    room: RoomOfCall


class UserEvent(msgspec.Struct, frozen=True, kw_only=True):
    tenant_id: TenantIdText
    event: PresenceUpdateFrame


class MessageCreatedCall(WebhookCall, frozen=True, kw_only=True, tag="message.created"):
    """A message was sent. A stream has none: `message.finished` tells of it."""

    data: RoomEvent[MessageFrame]


class MessageEditedCall(WebhookCall, frozen=True, kw_only=True, tag="message.edited"):
    """A message was edited."""

    data: RoomEvent[MessageEditedFrame]


class MessageDeletedCall(WebhookCall, frozen=True, kw_only=True, tag="message.deleted"):
    """A message was deleted."""

    data: RoomEvent[MessageDeletedFrame]


class MessageFinishedCall(WebhookCall, frozen=True, kw_only=True, tag="message.finished"):
    """A stream has ended."""

    data: RoomEvent[MessageFinishedFrame]


class MessageReportedCall(WebhookCall, frozen=True, kw_only=True, tag="message.reported"):
    """A user has reported a message."""

    data: RoomEvent[Report]


class ReactionAddedCall(WebhookCall, frozen=True, kw_only=True, tag="reaction.added"):
    """A user has reacted to a message."""

    data: RoomEvent[ReactionAddedFrame]


class ReactionRemovedCall(WebhookCall, frozen=True, kw_only=True, tag="reaction.removed"):
    """A user has taken a reaction back."""

    data: RoomEvent[ReactionRemovedFrame]


class RoomCreatedCall(WebhookCall, frozen=True, kw_only=True, tag="room.created"):
    """A room was created."""

    data: RoomEvent[RoomCreatedFrame]


class RoomUpdatedCall(WebhookCall, frozen=True, kw_only=True, tag="room.updated"):
    """A room was changed."""

    data: RoomEvent[RoomUpdatedFrame]


class RoomDeletedCall(WebhookCall, frozen=True, kw_only=True, tag="room.deleted"):
    """A room was deleted."""

    data: RoomEvent[RoomDeletedFrame]


class MemberJoinedCall(WebhookCall, frozen=True, kw_only=True, tag="member.joined"):
    """A user has joined a room, or was added to it."""

    data: RoomEvent[MemberJoinedFrame]


class MemberLeftCall(WebhookCall, frozen=True, kw_only=True, tag="member.left"):
    """A member has left a room, or was removed."""

    data: RoomEvent[MemberLeftFrame]


class MemberBannedCall(WebhookCall, frozen=True, kw_only=True, tag="member.banned"):
    """A user was banned from a room."""

    data: RoomEvent[MemberBannedFrame]


class UserOnlineCall(WebhookCall, frozen=True, kw_only=True, tag="user.online"):
    """A user has come online."""

    data: UserEvent


class UserOfflineCall(WebhookCall, frozen=True, kw_only=True, tag="user.offline"):
    """A user has no connection any more."""

    data: UserEvent


EVENT_CALLS: tuple[type[WebhookCall], ...] = (
    MessageCreatedCall,
    MessageEditedCall,
    MessageDeletedCall,
    MessageFinishedCall,
    MessageReportedCall,
    ReactionAddedCall,
    ReactionRemovedCall,
    RoomCreatedCall,
    RoomUpdatedCall,
    RoomDeletedCall,
    MemberJoinedCall,
    MemberLeftCall,
    MemberBannedCall,
    UserOnlineCall,
    UserOfflineCall,
)
"""Those that tell the backend of what `config.webhook_events` names."""

WEBHOOK_CALLS: tuple[type[WebhookCall], ...] = (OfflineMessageCall, OfflineNotificationCall, *EVENT_CALLS)


class WebhookHeaders(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """The headers that Standard Webhooks defines."""

    webhook_id: Annotated[DeadLetterIdText, Meta(description="the same on every try of this call")]
    webhook_timestamp: Annotated[str, Meta(description="Unix seconds of this try", examples=["1765627200"])]
    webhook_signature: Annotated[
        str,
        Meta(
            description="signatures of id, timestamp and body: `v1,` and base64, separated by spaces",
            examples=["v1,c2lnbmF0dXJl"],
        ),
    ]
