"""The webhook calls that have a user as their recipient, in SQL: they go when the user's data is erased.

They have no index by user, which would cost every call. So a tenant's calls are walked through in the order of the
indexes that there are.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

from chatapi.models import TenantKey, UserId
from chatapi.protocol.json import dumps_text
from chatapi.store.transaction import SqliteConnection
from chatapi.store.webhooks import DeliveryKey

STEP_SECONDS = 0.008
PAGE_ROWS = 1_000  # that one statement looks at, about a millisecond

# A row is the sort key of a call, and whether the call is for the user.
_WAITING = """
    SELECT at_us, event_key, ordinal, user_id = :user_id FROM (
        SELECT next_attempt_at_us AS at_us, event_key, ordinal, user_id
        FROM webhook_deliveries INDEXED BY webhook_deliveries_due
        WHERE tenant_key = :tenant_key AND next_attempt_at_us IS NOT NULL AND ordinal > 0
          AND (next_attempt_at_us, event_key, ordinal) > (:at_us, :event_key, :ordinal)
        ORDER BY next_attempt_at_us, event_key, ordinal LIMIT :limit)
"""
_DEAD = """
    SELECT at_us, event_key, ordinal, user_id = :user_id FROM (
        SELECT last_attempt_at_us AS at_us, event_key, ordinal, user_id
        FROM webhook_deliveries INDEXED BY webhook_deliveries_dead_of_tenant
        WHERE tenant_key = :tenant_key AND next_attempt_at_us IS NULL
          AND (last_attempt_at_us, event_key, ordinal) > (:at_us, :event_key, :ordinal)
        ORDER BY last_attempt_at_us, event_key, ordinal LIMIT :limit)
"""
# A dead letter that is put back into the queue meanwhile is passed over by the first two, and not by the third.
_PASSES = (_WAITING, _DEAD, _WAITING)
_DELETE = """
    DELETE FROM webhook_deliveries
    WHERE (event_key, ordinal) IN (SELECT value ->> 0, value ->> 1 FROM json_each(:keys))
      AND tenant_key = :tenant_key AND user_id = :user_id
"""


class CallsWalk:
    """Goes once through the calls of the tenant. `take_step` is work for `Readers.run_step`."""

    def __init__(self, tenant_key: TenantKey, user_id: UserId) -> None:
        self._scope: dict[str, object] = {"tenant_key": tenant_key, "user_id": user_id, "limit": PAGE_ROWS}
        self._connection: SqliteConnection | None = None
        self._run = self._list_pages()

    def take_step(self, connection: SqliteConnection) -> tuple[list[DeliveryKey], bool]:
        """The next calls of the user, and whether there may be more."""
        self._connection = connection
        end_s = time.perf_counter() + STEP_SECONDS
        for found in self._run:
            if found or time.perf_counter() >= end_s:
                return found, True
        return [], False

    def _list_pages(self) -> Iterator[list[DeliveryKey]]:
        for statement in _PASSES:
            last: tuple[int, int, int] = (-1, -1, -1)
            while rows := self._fetch(statement, last):
                last = rows[-1][:3]
                yield [DeliveryKey(row[1], row[2]) for row in rows if row[3]]

    def _fetch(self, sql: str, last: tuple[int, int, int]) -> list[Any]:
        assert self._connection is not None  # of the step
        at_us, event_key, ordinal = last
        scope = {**self._scope, "at_us": at_us, "event_key": event_key, "ordinal": ordinal}
        return self._connection.execute(sql, scope).fetchall()


def delete(
    tenant_key: TenantKey,
    user_id: UserId,
    keys: list[DeliveryKey],
    connection: SqliteConnection,
    _is_over: Callable[[], bool],
) -> None:
    """One step. A call that is under way is made all the same, and then forgotten."""
    scope = {"tenant_key": tenant_key, "user_id": user_id, "keys": dumps_text([tuple(key) for key in keys])}
    connection.execute(_DELETE, scope)
