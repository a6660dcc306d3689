"""Erasing a user's data, in SQL: the erasures that there are, and the rows that are left."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from chatapi.models import TenantKey, UserId
from chatapi.protocol.json import dumps_text
from chatapi.store.background import CHUNK_ROWS
from chatapi.store.readers import Readers
from chatapi.store.transaction import SqliteConnection, Transaction

STEP_SECONDS = 0.008
WINDOW = 1_000  # events of a room's log that one statement looks at
ROOMS_PER_PAGE = 100

_LOAD = """
    SELECT e.tenant_key, e.user_id FROM erasures AS e INDEXED BY erasures_under_way
    JOIN tenants AS t ON t.tenant_key = e.tenant_key
    WHERE e.erased_at_us IS NULL AND t.deleted_at_us IS NULL
"""
_IS_ERASED = """
    SELECT 1 FROM erasures AS e
    WHERE e.tenant_key = :tenant_key AND e.user_id = :user_id AND e.erased_at_us IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM users WHERE tenant_key = :tenant_key AND user_id = :user_id)
      AND NOT EXISTS (SELECT 1 FROM notification_recipients WHERE tenant_key = :tenant_key AND user_id = :user_id)
      AND NOT EXISTS (SELECT 1 FROM subscriptions WHERE tenant_key = :tenant_key AND user_id = :user_id)
      AND NOT EXISTS (SELECT 1 FROM blocks WHERE tenant_key = :tenant_key AND user_id = :user_id)
"""
_BEGIN = """
    INSERT INTO erasures (tenant_key, user_id, begun_at_us) VALUES (:tenant_key, :user_id, :now_us)
    ON CONFLICT (tenant_key, user_id) DO UPDATE SET begun_at_us = :now_us, erased_at_us = NULL
"""
_FINISH = "UPDATE erasures SET erased_at_us = :now_us WHERE tenant_key = :tenant_key AND user_id = :user_id"
_LIST_MEMBERSHIPS = """
    SELECT m.room_key, r.room_id FROM members AS m CROSS JOIN rooms AS r ON r.room_key = m.room_key
    WHERE m.tenant_key = :tenant_key AND m.user_id = :user_id AND m.room_key > :after_key
      AND r.deleted_at_us IS NULL
    ORDER BY m.room_key LIMIT :limit
"""
_LIST_BLOCKS = "SELECT blocked_id FROM blocks WHERE tenant_key = :tenant_key AND user_id = :user_id LIMIT :limit"
# A user with none of these was never known.
_IS_KNOWN = f"""
    SELECT {
    " OR ".join(
        f"EXISTS (SELECT 1 FROM {table} WHERE tenant_key = :tenant_key AND user_id = :user_id)"
        for table in ("erasures", "users", "members", "traces", "notification_recipients", "subscriptions", "blocks")
    )
}
"""
# Dms, and the rooms that the user has left.
_LIST_ROOMS = """
    SELECT r.room_key, r.room_id, r.pruned_seq, r.deleted_at_us IS NULL,
           coalesce((SELECT max(seq) FROM messages WHERE room_key = r.room_key), 0)
    FROM (SELECT room_key FROM members WHERE tenant_key = :tenant_key AND user_id = :user_id AND room_key > :after_key
          UNION
          SELECT room_key FROM traces WHERE tenant_key = :tenant_key AND user_id = :user_id AND room_key > :after_key
          ORDER BY room_key LIMIT :limit) AS u
    CROSS JOIN rooms AS r ON r.room_key = u.room_key
    WHERE r.tenant_key = :tenant_key
    ORDER BY r.room_key
"""

# Of one window of a room's log.
_ID = "coalesce(m.imported_id, printf('msg_%016x', m.message_key))"
_FIND_MESSAGES = f"""
    SELECT {_ID}, m.deleted_at_us IS NULL
    FROM rooms AS r CROSS JOIN messages AS m ON m.room_key = r.room_key
    WHERE r.room_key = :room_key AND r.tenant_key = :tenant_key AND m.seq > :after_seq AND m.seq <= :to_seq
      AND m.sender_id = :user_id
      AND (m.deleted_at_us IS NULL OR m.client_message_id IS NOT NULL)
"""
_FIND_REACTIONS = f"""
    SELECT {_ID} FROM (SELECT DISTINCT target_seq FROM reaction_counts
        WHERE room_key = (SELECT room_key FROM rooms WHERE room_key = :room_key AND tenant_key = :tenant_key)
          AND target_seq > :after_seq AND target_seq <= :to_seq) AS t
    CROSS JOIN messages AS m ON m.room_key = :room_key AND m.seq = t.target_seq
    WHERE EXISTS (SELECT 1 FROM reactions INDEXED BY reactions_of_user
                  WHERE room_key = :room_key AND target_seq = t.target_seq AND user_id = :user_id)
"""
_OF_REPORTS = """
    reports.room_key = :room_key AND reports.tenant_key = :tenant_key AND target_seq > :after_seq
        AND target_seq <= :to_seq AND (
            reports.user_id = :user_id AND reason <> ''
            OR message ->> '$.sender_id' = :user_id AND (reason <> '' OR message ->> '$.content' IS NOT NULL
                OR message ->> '$.client_message_id' IS NOT NULL))
"""
_HAS_REPORTS = f"SELECT EXISTS (SELECT 1 FROM reports WHERE {_OF_REPORTS})"
_CLEAR_REPORTS = f"""
    UPDATE reports SET reason = '', message = iif(message ->> '$.sender_id' = :user_id,
        json_set(message, '$.content', NULL, '$.meta', NULL, '$.client_message_id', NULL), message)
    WHERE {_OF_REPORTS}
"""
_CLEAR_CLIENT_IDS = """
    UPDATE messages SET client_message_id = NULL, body_digest = NULL
    WHERE room_key = (SELECT room_key FROM rooms WHERE room_key = :room_key AND tenant_key = :tenant_key)
      AND seq > :after_seq AND seq <= :to_seq AND sender_id = :user_id AND deleted_at_us IS NOT NULL
      AND client_message_id IS NOT NULL
"""
_FREE_CLIENT_ID = """
    UPDATE messages SET client_message_id = NULL, body_digest = NULL
    WHERE message_key = :message_key
      AND room_key = (SELECT room_key FROM rooms WHERE room_key = :room_key AND tenant_key = :tenant_key)
"""
_LIST_RECEIVED = """
    SELECT notification_key FROM notification_recipients
    WHERE tenant_key = :tenant_key AND user_id = :user_id LIMIT :limit
"""
_DELETE_RECEIVED = """
    DELETE FROM notification_recipients
    WHERE tenant_key = :tenant_key AND user_id = :user_id
      AND notification_key IN (SELECT value FROM json_each(:keys))
"""
# Those that were for nobody else.
_DELETE_NOTIFICATIONS = """
    DELETE FROM notifications
    WHERE notification_key IN (SELECT value FROM json_each(:keys)) AND tenant_key = :tenant_key
      AND NOT EXISTS (SELECT 1 FROM notification_recipients
                      WHERE notification_key = notifications.notification_key)
      AND NOT EXISTS (SELECT 1 FROM unfinished_notifications
                      WHERE tenant_key = :tenant_key AND notification_key = notifications.notification_key)
"""
_DELETE_SUBSCRIPTIONS = """
    DELETE FROM subscriptions WHERE subscription_key IN (
        SELECT subscription_key FROM subscriptions
        WHERE tenant_key = :tenant_key AND user_id = :user_id LIMIT :limit)
"""
_DELETE_PROFILE = "DELETE FROM users WHERE tenant_key = :tenant_key AND user_id = :user_id"


class LogWindow(NamedTuple):
    """A part of a room's log, and what is the user's in it."""

    room_id: str
    room_key: int
    after_seq: int
    to_seq: int
    message_ids: list[str]  # not deleted yet
    has_client_ids: bool  # of messages that were deleted before
    reacted_ids: list[str]  # messages with reactions of the user
    has_reports: bool

    @property
    def is_clean(self) -> bool:
        return not (self.message_ids or self.has_client_ids or self.reacted_ids or self.has_reports)


class ErasureWalk:
    """Goes once through the logs of all rooms in which something of the user may be. `take_step` is work for
    `Readers.run_step`."""

    def __init__(self, tenant_key: TenantKey, user_id: UserId) -> None:
        self._scope: dict[str, object] = {"tenant_key": tenant_key, "user_id": user_id}
        self._connection: SqliteConnection | None = None
        self._run = self._list_windows()

    def take_step(self, connection: SqliteConnection) -> tuple[LogWindow | None, bool]:
        """The next window with something to erase, or None if a step's time is over, and whether there are more."""
        self._connection = connection
        end_s = time.perf_counter() + STEP_SECONDS
        for window in self._run:
            if not window.is_clean:
                return window, True
            if time.perf_counter() >= end_s:
                return None, True
        return None, False

    def _list_windows(self) -> Iterator[LogWindow]:
        after_key = 0
        while rooms := self._fetch(_LIST_ROOMS, {"after_key": after_key, "limit": ROOMS_PER_PAGE}):
            for room_key, room_id, pruned_seq, is_there, last_seq in rooms:
                for after_seq in range(pruned_seq, last_seq, WINDOW) if is_there else ():
                    yield self._look(room_id, room_key, after_seq, after_seq + WINDOW)
            after_key = rooms[-1][0]

    def _look(self, room_id: str, room_key: int, after_seq: int, to_seq: int) -> LogWindow:
        scope: dict[str, object] = {"room_key": room_key, "after_seq": after_seq, "to_seq": to_seq}
        found = self._fetch(_FIND_MESSAGES, scope)
        present = [message_id for message_id, is_there in found if is_there]
        reacted = [row[0] for row in self._fetch(_FIND_REACTIONS, scope)]
        [(has_reports,)] = self._fetch(_HAS_REPORTS, scope)
        return LogWindow(
            room_id, room_key, after_seq, to_seq, present, len(present) < len(found), reacted, bool(has_reports)
        )

    def _fetch(self, sql: str, scope: dict[str, object]) -> list[Any]:
        assert self._connection is not None  # of the step
        return self._connection.execute(sql, {**self._scope, **scope}).fetchall()


async def load(readers: Readers) -> list[tuple[TenantKey, UserId]]:
    """The erasures that are under way."""
    return [(row[0], row[1]) for row in await readers.fetch(_LOAD, {})]


async def is_nothing_left(transaction: Transaction, tenant_key: TenantKey, user_id: UserId, *, is_online: bool) -> bool:
    """Whether all of the user was erased, and they have not come back, or they were never known."""
    scope = {"tenant_key": tenant_key, "user_id": user_id}
    if await transaction.fetch_one(_IS_ERASED, scope) is not None:
        return True
    known = await transaction.fetch_one(_IS_KNOWN, scope)
    return not is_online and (known is None or not known[0])


async def begin(transaction: Transaction, tenant_key: TenantKey, user_id: UserId) -> None:
    scope = {"tenant_key": tenant_key, "user_id": user_id, "now_us": transaction.now_us}
    await transaction.execute(_BEGIN, scope)


async def finish(transaction: Transaction, tenant_key: TenantKey, user_id: UserId) -> None:
    """The last step. The profile goes here, since it also says when the user was last online."""
    scope = {"tenant_key": tenant_key, "user_id": user_id}
    await transaction.execute(_DELETE_PROFILE, scope)
    await transaction.execute(_FINISH, {**scope, "now_us": transaction.now_us})


async def list_memberships(
    readers: Readers, tenant_key: TenantKey, user_id: UserId, after_key: int
) -> list[tuple[int, str]]:
    """The next rooms of the user, by their keys."""
    scope = {"tenant_key": tenant_key, "user_id": user_id, "after_key": after_key, "limit": ROOMS_PER_PAGE}
    return [(row[0], row[1]) for row in await readers.fetch(_LIST_MEMBERSHIPS, scope)]


async def list_blocks(readers: Readers, tenant_key: TenantKey, user_id: UserId) -> list[UserId]:
    """Some of the users whom the user has blocked."""
    scope = {"tenant_key": tenant_key, "user_id": user_id, "limit": ROOMS_PER_PAGE}
    return [UserId(row[0]) for row in await readers.fetch(_LIST_BLOCKS, scope)]


async def free_client_id(transaction: Transaction, tenant_key: TenantKey, room_key: int, message_key: int) -> None:
    """Of a tombstone: the user may come back, and use it again."""
    scope = {"tenant_key": tenant_key, "room_key": room_key, "message_key": message_key}
    await transaction.execute(_FREE_CLIENT_ID, scope)


def clear_window(
    tenant_key: TenantKey,
    user_id: UserId,
    window: LogWindow,
    connection: SqliteConnection,
    _is_over: Callable[[], bool],
) -> None:
    """One step: texts in reports, by the user and of their messages, and the client's own ids of messages that were
    deleted before."""
    scope = {
        "tenant_key": tenant_key,
        "user_id": user_id,
        "room_key": window.room_key,
        "after_seq": window.after_seq,
        "to_seq": window.to_seq,
    }
    for statement in (_CLEAR_REPORTS, _CLEAR_CLIENT_IDS):
        connection.execute(statement, scope)


def remove_rest(
    tenant_key: TenantKey, user_id: UserId, connection: SqliteConnection, is_over: Callable[[], bool]
) -> bool:
    """One step: notifications and subscriptions. Whether there may be more to do."""
    scope = {"tenant_key": tenant_key, "user_id": user_id, "limit": CHUNK_ROWS}
    while found := connection.execute(_LIST_RECEIVED, scope).fetchall():
        keys = {**scope, "keys": dumps_text([row[0] for row in found])}
        connection.execute(_DELETE_RECEIVED, keys)
        connection.execute(_DELETE_NOTIFICATIONS, keys)
        if is_over():
            return True
    return connection.execute(_DELETE_SUBSCRIPTIONS, scope).rowcount > 0
