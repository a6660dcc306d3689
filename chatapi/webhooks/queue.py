"""Queues webhook calls for the recipients of an event who have no open connection at its commit (docs/contract.md,
section 16).

The calls are written in the event's own transaction: as deliveries where there are few, else as one row from which the
worker makes them.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from chatapi.banned_users import is_banned
from chatapi.clock import SteadyClock
from chatapi.hub import Hub
from chatapi.models import NO_OPTIONAL_FIELDS, OptionalFields, TenantState, UserId
from chatapi.protocol.json import dumps_text
from chatapi.room import RoomState
from chatapi.store import MessageWrite, Transaction, webhooks
from chatapi.store.writes import Statement

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
    """`wake(tenant)` tells the worker that the store holds something for it."""

    def __init__(
        self, hub: Hub, steady: SteadyClock, first_wait_seconds: float, wake: Callable[[TenantState], None]
    ) -> None:
        self._hub = hub
        self._steady = steady
        self._first_wait_us = int(first_wait_seconds * 1_000_000)
        self._wake = wake
        self._concerned: dict[TenantState, None] = {}  # for whom something is being committed

    def wake_worker(self) -> None:
        """Called after each commit: before it the worker would find nothing."""
        concerned, self._concerned = self._concerned, {}
        for tenant in concerned:
            self._wake(tenant)

    async def queue_ended(self, transaction: Transaction, message: EndedMessage) -> None:
        """The calls that tell of a stream, within the transaction that stores its end."""
        for sql, parameters in self.list_statements([message]):
            await transaction.execute(sql, parameters)

    def list_statements(self, fresh: Sequence[MessageWrite | EndedMessage]) -> Sequence[Statement]:
        """Statements to run in the transaction of these messages: none for tenants without a webhook."""
        rows: list[Row] = []
        events: list[Row] = []
        connected: dict[RoomState, list[UserId]] = {}  # in large rooms, by room
        for write in fresh:
            room = write.room
            if room.tenant.settings.webhook_url is None:
                continue
            due_at_us = self._steady.now_us() + self._first_wait_us
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

    async def queue_report(self, transaction: Transaction, tenant: TenantState, report_key: int) -> None:
        """The call that tells the tenant of a report, within the transaction that stores it."""
        if tenant.settings.webhook_url is None:
            return
        due_at_us = self._steady.now_us() + self._first_wait_us
        row = (report_key, 1, tenant.tenant_key, None, webhooks.NOBODY, due_at_us)
        await webhooks.insert_deliveries(transaction, [row])
        self._concerned[tenant] = None

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
