"""The calls of a tenant's webhook: one record for each type, and their headers.

The calls are built as JSON in SQL: a test compares each with its record, from which OpenAPI is made.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from chatapi.models import RoomType
from chatapi.protocol.fields import DeadLetterIdText, MessageFields, Metadata, Payload, Time
from chatapi.protocol.moderation_answers import Report
from chatapi.protocol.requests import NotificationIdText, RoomIdText, TenantIdText, UserIdText


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


class ReportedMessage(msgspec.Struct, frozen=True, kw_only=True):
    tenant_id: TenantIdText
    event: Report
    room: RoomOfCall


class ReportedMessageCall(WebhookCall, frozen=True, kw_only=True, tag="message.reported"):
    """A user's report of a message, whoever is online."""

    data: ReportedMessage


WEBHOOK_CALLS: tuple[type[WebhookCall], ...] = (OfflineMessageCall, OfflineNotificationCall, ReportedMessageCall)


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
