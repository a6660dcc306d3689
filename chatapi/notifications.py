"""Notifications: stored, then sent to those who are online; each recipient's delivery ends with its acknowledgement.
And the topics that users subscribe to."""

from typing import NamedTuple

from chatapi.access import Access, check_alive
from chatapi.connection import Connection, ConnectionState
from chatapi.errors import not_found
from chatapi.hub import Hub
from chatapi.models import (
    Principal,
    UserId,
    encode_notification_id,
    encode_subscription_id,
    encode_time,
    find_key,
)
from chatapi.protocol.answers import Notified, Subscription
from chatapi.protocol.encoders import encode_frame
from chatapi.protocol.json import dumps_text, encoded
from chatapi.protocol.pages import Page, Window
from chatapi.protocol.requests import Notify
from chatapi.protocol.server_frames import NotificationFrame
from chatapi.rooms import RoomState
from chatapi.store import Store, Transaction
from chatapi.store import notifications as store_notifications
from chatapi.webhooks.queue import WebhookQueue


class _Stored(NamedTuple):
    notification_key: int
    created_at_us: int
    recipients: frozenset[UserId]


class Notifications:
    def __init__(self, store: Store, hub: Hub, access: Access, webhook_queue: WebhookQueue) -> None:
        self._store = store
        self._hub = hub
        self._access = access
        self._webhook_queue = webhook_queue

    async def notify(self, principal: Principal, body: Notify) -> Notified:
        """Durable, and published, on return. Raises ChatError NOT_FOUND for a target room that is not the tenant's."""
        tenant = principal.tenant
        targets = body.targets
        payload = dumps_text(body.payload)
        room: RoomState | None = None
        if targets.room_id is not None:
            room = await self._access.access_any(principal, targets.room_id)

        async def apply(transaction: Transaction) -> _Stored:
            if room is not None:
                check_alive(room)
            # Made here, so that keys grow in the order of commits: a connection's cursor relies on that.
            notification_key = self._store.writer.next_key()
            await store_notifications.insert_notification(
                transaction, tenant.tenant_key, notification_key, body.topic, payload
            )
            recipients = frozenset(
                await store_notifications.insert_recipients(
                    transaction,
                    tenant.tenant_key,
                    notification_key,
                    user_ids=targets.user_ids or (),
                    room_key=None if room is None else room.room_key,
                    topic=body.topic if targets.topic_subscribers else None,
                )
            )
            await self._webhook_queue.queue_notification(transaction, tenant, notification_key, recipients)
            return _Stored(notification_key, transaction.now_us, recipients)

        def publish(stored: _Stored) -> None:
            frame = encode_frame(
                NotificationFrame(
                    notification_id=encode_notification_id(stored.notification_key),
                    topic=body.topic,
                    payload=encoded(payload),
                    created_at=encode_time(stored.created_at_us),
                )
            )
            for user_id in self._hub.list_connected(tenant.tenant_key, stored.recipients):
                for connection in self._hub.connections_of(tenant.tenant_key, user_id):
                    self._deliver(connection, stored.notification_key, frame)

        stored = await self._store.writer.change(apply, publish, characters=body.count_characters())
        return Notified(
            notification_id=encode_notification_id(stored.notification_key),
            created_at=encode_time(stored.created_at_us),
            recipients=len(stored.recipients),
        )

    def _deliver(self, connection: Connection, notification_key: int, frame: bytes) -> None:
        """Sent at once, or read from the store once the connection has caught up with what it lacks."""
        if notification_key <= connection.notified_key:
            return  # its recovery has read it between the commit and now
        if connection.state is ConnectionState.LIVE:
            if connection.unsent_bytes() + len(frame) <= connection.buffer_limit_bytes:
                self._hub.send(connection, frame)
                connection.notified_key = notification_key
                return
            self._hub.leave_live(connection)
        connection.notifications_due = True

    async def list_of_user(self, principal: Principal, status: str, window: Window) -> Page:
        """The caller's notifications, the newest first."""
        return await store_notifications.list_of_user(
            self._store.readers, principal.tenant.tenant_key, principal.user_id, status, window
        )

    async def acknowledge(self, principal: Principal, notification_id: str) -> None:
        """Doing it again changes nothing. Raises ChatError NOT_FOUND for one that is not the caller's."""
        notification_key = find_key("notif_", notification_id)
        if notification_key is None:
            raise not_found("Notification")

        async def apply(transaction: Transaction) -> None:
            if not await store_notifications.acknowledge(
                transaction, principal.tenant.tenant_key, principal.user_id, notification_key
            ):
                raise not_found("Notification")

        await self._store.writer.change(apply)

    # Subscriptions

    async def subscribe(self, principal: Principal, topic: str) -> tuple[Subscription, bool]:
        """The caller's subscription to the topic, and whether it is new."""
        key = (principal.tenant.tenant_key, principal.user_id, topic)

        async def apply(transaction: Transaction) -> tuple[int, int, bool]:
            found = await store_notifications.find_subscription(transaction, *key)
            if found is not None:
                return found[0], found[1], False
            subscription_key = self._store.writer.next_key()
            await store_notifications.insert_subscription(transaction, *key, subscription_key)
            return subscription_key, transaction.now_us, True

        subscription_key, created_at_us, is_new = await self._store.writer.change(apply)
        subscription = Subscription(
            subscription_id=encode_subscription_id(subscription_key),
            topic=topic,
            created_at=encode_time(created_at_us),
        )
        return subscription, is_new

    async def list_subscriptions(self, principal: Principal, window: Window) -> Page:
        """The caller's, the oldest first."""
        return await store_notifications.list_subscriptions(
            self._store.readers, principal.tenant.tenant_key, principal.user_id, window
        )

    async def unsubscribe(self, principal: Principal, subscription_id: str) -> None:
        """Raises ChatError NOT_FOUND for one that is not the caller's."""
        subscription_key = find_key("sub_", subscription_id)
        if subscription_key is None:
            raise not_found("Subscription")

        async def apply(transaction: Transaction) -> None:
            if not await store_notifications.delete_subscription(
                transaction, principal.tenant.tenant_key, principal.user_id, subscription_key
            ):
                raise not_found("Subscription")

        await self._store.writer.change(apply)
