"""Notifications: stored, then sent to those who are online; each recipient's delivery ends with its acknowledgement.
And the topics that users subscribe to."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TypeVar

from chatapi.access import Access, check_alive
from chatapi.banned_users import check_user_not_banned
from chatapi.connection import Connection, ConnectionState
from chatapi.errors import ChatError, not_found, unavailable
from chatapi.hub import Hub
from chatapi.models import (
    Principal,
    TenantKey,
    TenantState,
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
from chatapi.room import RoomState
from chatapi.store import Store, Transaction
from chatapi.store import notifications as store_notifications
from chatapi.tasks import Tasks
from chatapi.webhooks.queue import WebhookQueue

T = TypeVar("T")

UNAVAILABLE, NOT_FOUND = 503, 404
RECIPIENTS_OF_PAGE = 10_000  # read at once when a notification goes on after a stop

LARGE_RECIPIENTS = 1_000  # stored in one transaction, some 10 ms of the writer's time; more of them in steps
PAUSE_SECONDS = 1.0  # before the store is asked again after it has refused
# Of one tenant, while one of its large notifications is stored; further ones are refused with 503.
MAX_WAITING = 1_000
MAX_WAITING_CHARACTERS = 8 * 1024 * 1024  # of what clients wrote, which is most of their memory


class _Delivery:
    """A notification on its way to its recipients. It has ended once all of them are stored and those online were sent
    its frame, or with an error."""

    def __init__(self, tenant: TenantState, topic: str, payload: str) -> None:
        """`payload` is JSON."""
        self.tenant = tenant
        self.topic = topic
        self.payload = payload
        self.notification_key = self.created_at_us = 0  # both once it is stored
        self.recipients: set[UserId] = set()
        self.is_stored = False  # though perhaps not yet for all of its recipients
        self.error: ChatError | None = None
        self._has_ended = False
        self._waiting: dict[asyncio.Future[None], int] = {}  # the characters of each one's body
        self._waiting_characters = 0

    @property
    def key(self) -> tuple[TenantKey, int]:
        return self.tenant.tenant_key, self.notification_key

    def encode(self) -> bytes:
        return encode_frame(
            NotificationFrame(
                notification_id=encode_notification_id(self.notification_key),
                topic=self.topic,
                payload=encoded(self.payload),
                created_at=encode_time(self.created_at_us),
            )
        )

    def explain(self, error: ChatError) -> ChatError:
        """The error for the request itself. If it leaves the notification stored, to go on later, it names it."""
        if not self.is_stored or error.status != UNAVAILABLE:
            return error
        return unavailable(error.message, {"notification_id": encode_notification_id(self.notification_key)})

    async def wait(self, characters: int) -> None:
        """Returns once it has ended. Raises ChatError 503 if too many wait, or as soon as the database refuses."""
        if self._has_ended:
            return
        if len(self._waiting) >= MAX_WAITING or self._waiting_characters >= MAX_WAITING_CHARACTERS:
            raise unavailable("Too many notifications are waiting")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = characters
        self._waiting_characters += characters
        try:
            await future
        finally:
            self._waiting_characters -= self._waiting.pop(future)

    def end(self) -> None:
        self._has_ended = True
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    def refuse(self, error: ChatError) -> None:
        """Tells the requests that wait. The delivery goes on later."""
        for future in self._waiting:
            if not future.done():
                future.set_exception(error)


class Notifications:
    """A notification of very many recipients is stored in steps, so that it holds up nobody's writes for long. Until it
    has ended, further ones of its tenant wait: a connection's cursor relies on the notifications of each user being
    stored in the order of their keys."""

    def __init__(self, store: Store, hub: Hub, tasks: Tasks, access: Access, webhook_queue: WebhookQueue) -> None:
        self._store = store
        self._hub = hub
        self._tasks = tasks
        self._access = access
        self._webhook_queue = webhook_queue
        self._under_way: dict[TenantKey, _Delivery] = {}  # those that are stored in steps
        self._steps = asyncio.Semaphore(1)  # however many of them there are, one step is in the writer's queue

    async def resume(self, tenants: Iterable[TenantState]) -> None:
        """Goes on with the notifications that a stop has interrupted. Called once, at the start."""
        by_key = {tenant.tenant_key: tenant for tenant in tenants}
        for found in await store_notifications.list_unfinished(self._store.readers):
            if found.tenant_key in by_key:
                delivery = _Delivery(by_key[found.tenant_key], found.topic, found.payload)
                delivery.notification_key, delivery.created_at_us = found.notification_key, found.created_at_us
                self._start(delivery, partial(self._read_recipients, delivery))

    async def notify(self, principal: Principal, body: Notify) -> Notified:
        """On return the notification is durable and published. Raises ChatError NOT_FOUND for a target room that is not
        the tenant's, or if it or the tenant was deleted meanwhile."""
        tenant, targets = principal.tenant, body.targets
        room: RoomState | None = None
        if targets.room_id is not None:
            room = await self._access.access_any(principal, targets.room_id)
        remaining = store_notifications.RemainingTargets(
            None if room is None else room.room_key, body.topic if targets.topic_subscribers else None
        )
        delivery = _Delivery(tenant, body.topic, dumps_text(body.payload))
        characters = body.count_characters()
        is_large = await self._wait_for_turn(tenant.tenant_key, room, remaining.topic, characters)

        async def apply(transaction: Transaction) -> None:
            _check_tenant(tenant)
            if room is not None:
                check_alive(room)
            # Made here, so that keys grow in the order of commits: a connection's cursor relies on that.
            delivery.notification_key, delivery.created_at_us = self._store.writer.next_key(), transaction.now_us
            await store_notifications.insert_notification(transaction, *delivery.key, body.topic, delivery.payload)
            if targets.user_ids:
                await store_notifications.insert_users(transaction, *delivery.key, targets.user_ids)
            delivery.recipients = set(map(UserId, targets.user_ids or ()))
            if is_large:
                await store_notifications.insert_unfinished(transaction, *delivery.key, remaining)
            else:
                await self._store_all(transaction, delivery, remaining)

        # From here to the writer's queue nothing is awaited: no other one of the tenant comes in between.
        if is_large:
            self._start(delivery, partial(self._store.writer.change, apply, characters=characters))
            try:
                await delivery.wait(characters)
            except ChatError as error:
                raise delivery.explain(error) from None
            if delivery.error is not None:
                raise delivery.explain(delivery.error)
        else:
            await self._store.writer.change(apply, lambda _: self._send(delivery), characters=characters)
        return Notified(
            notification_id=encode_notification_id(delivery.notification_key),
            created_at=encode_time(delivery.created_at_us),
            recipients=len(delivery.recipients),
        )

    async def _wait_for_turn(
        self, tenant_key: TenantKey, room: RoomState | None, topic: str | None, characters: int
    ) -> bool:
        """Returns once none of the tenant's is under way; whether this one is large then."""
        while True:
            while (other := self._under_way.get(tenant_key)) is not None:
                await other.wait(characters)
            is_large = await self._is_large(tenant_key, room, topic)
            if tenant_key not in self._under_way:
                return is_large

    async def _is_large(self, tenant_key: TenantKey, room: RoomState | None, topic: str | None) -> bool:
        """Whether it takes long to store all of its recipients."""
        count = 0 if room is None else len(room.members)
        if topic is not None and count <= LARGE_RECIPIENTS:
            readers = self._store.readers
            count += await store_notifications.count_subscribers(readers, tenant_key, topic, LARGE_RECIPIENTS + 1)
        return count > LARGE_RECIPIENTS

    async def _store_all(
        self, transaction: Transaction, delivery: _Delivery, remaining: store_notifications.RemainingTargets
    ) -> None:
        if not remaining.is_empty:
            work = partial(store_notifications.insert_all_recipients, *delivery.key, remaining)
            delivery.recipients.update(await transaction.run(work))
        await self._queue_webhooks(transaction, delivery)

    async def _queue_webhooks(self, transaction: Transaction, delivery: _Delivery) -> None:
        await self._webhook_queue.queue_notification(
            transaction, delivery.tenant, delivery.notification_key, delivery.recipients
        )

    def _start(self, delivery: _Delivery, begin: Callable[[], Awaitable[None]]) -> None:
        """The delivery is under way at once; `begin` comes before its steps."""
        self._under_way[delivery.tenant.tenant_key] = delivery
        self._tasks.spawn(f"notification of {delivery.tenant.tenant_id}", self._go_on(delivery, begin))

    async def _go_on(self, delivery: _Delivery, begin: Callable[[], Awaitable[None]]) -> None:
        """Stores the recipients, step by step, between the writes of others."""
        delivery.error = unavailable("The server is shutting down")
        try:
            await begin()
            delivery.is_stored = True
            await self._store_rest(delivery)
            delivery.error = None
        except ChatError as error:
            delivery.error = error
            raise
        finally:
            del self._under_way[delivery.tenant.tenant_key]
            delivery.end()

    async def _read_recipients(self, delivery: _Delivery) -> None:
        """The recipients that were stored before a stop."""
        read = partial(store_notifications.list_recipients, self._store.readers, *delivery.key)
        last = UserId("")
        while page := await self._try(delivery, partial(read, last, RECIPIENTS_OF_PAGE)):
            delivery.recipients.update(page)
            last = page[-1]

    async def _store_rest(self, delivery: _Delivery) -> None:
        async def give_up(transaction: Transaction) -> None:
            await store_notifications.give_up(transaction, *delivery.key)

        try:
            await self._take_steps(delivery)
        except ChatError as error:
            if error.status != NOT_FOUND:
                # A fault of the server: no step would succeed. The recipients so far keep the notification.
                await self._try(delivery, lambda: self._store.writer.change(give_up))
            raise

    async def _take_steps(self, delivery: _Delivery) -> None:
        writer = self._store.writer

        async def take_step(transaction: Transaction) -> tuple[list[UserId], bool]:
            _check_tenant(delivery.tenant)
            return await transaction.run(partial(store_notifications.insert_more_recipients, *delivery.key))

        async def finish(transaction: Transaction) -> None:
            _check_tenant(delivery.tenant)
            await store_notifications.finish(transaction, *delivery.key)
            await self._queue_webhooks(transaction, delivery)

        has_more = True
        while has_more:
            found, has_more = await self._try(delivery, lambda: writer.change(take_step))
            delivery.recipients.update(found)
        await self._try(delivery, lambda: writer.change(finish, lambda _: self._send(delivery)))

    async def _try(self, delivery: _Delivery, step: Callable[[], Awaitable[T]]) -> T:
        """Repeats the step until the database accepts it."""
        while True:
            try:
                async with self._steps:
                    return await step()
            except ChatError as error:
                if error.status != UNAVAILABLE:
                    raise
                if not self._store.writer.writable:
                    delivery.refuse(error)
            await asyncio.sleep(PAUSE_SECONDS)

    def _send(self, delivery: _Delivery) -> None:
        tenant_key = delivery.tenant.tenant_key
        frame = delivery.encode()
        for user_id in self._hub.list_connected(tenant_key, delivery.recipients):
            for connection in self._hub.connections_of(tenant_key, user_id):
                self._deliver(connection, delivery.notification_key, frame)

    def _deliver(self, connection: Connection, notification_key: int, frame: bytes) -> None:
        """Sends the frame at once; a connection that is catching up reads it from the store later."""
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
            check_user_not_banned(principal.tenant, principal.user_id)
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
            check_user_not_banned(principal.tenant, principal.user_id)
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
            check_user_not_banned(principal.tenant, principal.user_id)
            if not await store_notifications.delete_subscription(
                transaction, principal.tenant.tenant_key, principal.user_id, subscription_key
            ):
                raise not_found("Subscription")

        await self._store.writer.change(apply)


def _check_tenant(tenant: TenantState) -> None:
    """For use inside a write's transaction: rows of a tenant that was deleted meanwhile would be purged at once."""
    if tenant.gone:
        raise not_found("Tenant")
