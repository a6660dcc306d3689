"""Queues webhook calls: for the recipients of an event who have no open connection at its commit, and for the backend,
of the events that it wants (docs/contract.md, section 16).

The calls are written in the event's own transaction: those for recipients as deliveries where there are few, else as
one row from which the worker makes them.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from msgspec import Struct

from chatapi.banned_users import is_banned
from chatapi.clock import SteadyClock
from chatapi.hub import Hub
from chatapi.models import NO_OPTIONAL_FIELDS, OptionalFields, TenantState, UserId, WebhookEvent
from chatapi.protocol.json import dumps_text
from chatapi.protocol.server_frames import PresenceStatus
from chatapi.room import RoomState
from chatapi.store import MessageWrite, Transaction, backend_events, webhooks
from chatapi.store.writes import Statement
from chatapi.webhooks.events import make_presence_row, make_row, wants
from chatapi.webhooks.tenant_queues import CallKind

DIRECT_RECIPIENTS = 20  # up to so many are written with the event: most rooms are small
DIRECT_ROWS = 1_000  # and so many in one transaction, a few ms of the writer's time

Row = tuple[object, ...]


class EndedMessage(NamedTuple):
    """A stream that has ended; `seq` is that of the event which says so: a user who has acknowledged that needs no
    call. `decided_key` is greater than the keys of all messages up to now: the members' views at this moment count."""

    room: RoomState
    sender_id: UserId
    message_key: int
    seq: int
    optional: OptionalFields
    decided_key: int


class WebhookQueue:
    """`wake(tenant, kind, events)` tells the worker that the store holds something for it, and how many events."""

    def __init__(
        self,
        hub: Hub,
        steady: SteadyClock,
        first_wait_seconds: float,
        wake: Callable[[TenantState, CallKind, int], None],
    ) -> None:
        self._hub = hub
        self._steady = steady
        self._first_wait_us = int(first_wait_seconds * 1_000_000)
        self._wake = wake
        self._concerned: dict[TenantState, None] = {}  # for whose users something is being committed
        self._events: dict[TenantState, int] = {}  # for whose backends something is

    def wake_worker(self) -> None:
        """Called after each commit: before it the worker would find nothing."""
        if self._concerned:
            concerned, self._concerned = self._concerned, {}
            for tenant in concerned:
                self._wake(tenant, CallKind.USERS, 0)
        if self._events:
            events, self._events = self._events, {}
            for tenant, count in events.items():
                self._wake(tenant, CallKind.BACKEND, count)

    async def queue_ended(self, transaction: Transaction, message: EndedMessage) -> None:
        """The calls that tell of a stream, within the transaction that stores its end."""
        for sql, parameters in self.list_statements([message]):
            await transaction.execute(sql, parameters)

    def list_statements(self, fresh: Sequence[MessageWrite | EndedMessage]) -> Sequence[Statement]:
        """Statements to run in the transaction of these messages: none for tenants without a webhook. Of messages that
        the backend hears of it only says when: the writer stores that with them."""
        rows: list[Row] = []
        events: list[Row] = []
        connected: dict[RoomState, list[UserId]] = {}  # in large rooms, by room
        for write in fresh:
            room = write.room
            if room.tenant.settings.webhook_url is None:
                continue
            due_at_us = self._steady.now_us() + self._first_wait_us
            if WebhookEvent.MESSAGE_CREATED in room.tenant.settings.webhook_events and isinstance(write, MessageWrite):
                write.told_at_us = due_at_us
                self._events[room.tenant] = self._events.get(room.tenant, 0) + 1
            if len(room.members) <= DIRECT_RECIPIENTS and len(rows) < DIRECT_ROWS:
                rows.extend(self._list_deliveries(write, room, due_at_us))
                continue
            if room not in connected:
                connected[room] = self._hub.list_connected(room.tenant.tenant_key, room.members)
            excluded = self._add_excluded(room, connected[room], UserId(write.sender_id))
            if len(excluded) < len(room.members):
                tenant_key = room.tenant.tenant_key
                event = (write.message_key, tenant_key, room.room_key, write.seq, excluded, due_at_us)
                mentioned = write.optional or NO_OPTIONAL_FIELDS
                decided_key = write.decided_key if isinstance(write, EndedMessage) else write.message_key
                events.append((*event, mentioned.mentions, int(mentioned.mention_room), decided_key))
                self._concerned[room.tenant] = None
        statements: list[Statement] = []
        if rows:
            statements.append((webhooks.INSERT_DELIVERIES, {"rows": dumps_text(rows)}))
        if events:
            statements.append((webhooks.INSERT_EVENTS, {"rows": dumps_text(events)}))
        return statements

    def _add_excluded(self, room: RoomState, connected: list[UserId], sender_id: UserId) -> list[UserId]:
        """Those who get no call: each once. They may be 100,000, of whom most are connected."""
        bans = room.tenant.bans
        others = {sender_id, *(bans.list_ids() if bans is not None else ())}
        tenant_key = room.tenant.tenant_key
        return [
            *connected,
            *(one for one in others if one in room.members and not self._hub.is_connected(tenant_key, one)),
        ]

    def _list_deliveries(self, write: MessageWrite | EndedMessage, room: RoomState, due_at_us: int) -> list[Row]:
        tenant_key = room.tenant.tenant_key
        recipients: list[tuple[UserId, bool]] = []
        for user_id, member in room.members.items():
            if user_id == write.sender_id or self._hub.is_connected(tenant_key, user_id):
                continue
            if is_banned(room.tenant, user_id):
                continue
            is_mentioned = write.optional is not None and write.optional.mentions_user(user_id)
            if member.notify.wants(is_mentioned):
                recipients.append((user_id, is_mentioned))
        if recipients:
            self._concerned[room.tenant] = None
        return [
            (write.message_key, ordinal, tenant_key, room.room_key, user_id, due_at_us, int(is_mentioned))
            for ordinal, (user_id, is_mentioned) in enumerate(recipients, start=1)
        ]

    async def queue_event(
        self,
        transaction: Transaction,
        room: RoomState,
        event: WebhookEvent | None,
        event_key: int,
        *,
        seq: int | None = None,
        frame: Struct | None = None,
    ) -> None:
        """The call that tells the backend of something about a room, if it wants that, within the transaction that
        stores it. The keys of events have the order of the events."""
        if event is not None and wants(room.tenant, event):
            row = make_row(event_key, room.tenant, room.room_key, event, seq=seq, frame=frame)
            await self._insert_events(transaction, [row])
            self._events[room.tenant] = self._events.get(room.tenant, 0) + 1

    async def queue_presence(
        self,
        transaction: Transaction,
        changes: Sequence[tuple[TenantState, UserId, PresenceStatus]],
        next_key: Callable[[], int],
    ) -> None:
        """The same for users who have come online or gone."""
        await self._insert_events(transaction, [make_presence_row(next_key(), *change) for change in changes])
        for tenant, _, _ in changes:
            self._events[tenant] = self._events.get(tenant, 0) + 1

    async def _insert_events(self, transaction: Transaction, rows: Sequence[Row]) -> None:
        due_at_us = self._steady.now_us() + self._first_wait_us
        await backend_events.insert_events(transaction, [(*row, due_at_us) for row in rows])

    async def queue_notification(
        self, transaction: Transaction, tenant: TenantState, notification_key: int, recipients: Collection[UserId]
    ) -> None:
        """The same for a notification, within the transaction that stores it."""
        if tenant.settings.webhook_url is None:
            return
        tenant_key = tenant.tenant_key
        due_at_us = self._steady.now_us() + self._first_wait_us
        excluded = self._hub.list_connected(tenant_key, recipients)
        if len(excluded) == len(recipients):
            return
        if len(recipients) > DIRECT_RECIPIENTS:
            await webhooks.insert_event(transaction, (notification_key, tenant_key, None, None, excluded, due_at_us))
        else:
            unconnected = [user_id for user_id in recipients if user_id not in excluded]
            await webhooks.insert_deliveries(
                transaction,
                [
                    (notification_key, ordinal, tenant_key, None, user_id, due_at_us)
                    for ordinal, user_id in enumerate(unconnected, start=1)
                ],
            )
        self._concerned[tenant] = None
