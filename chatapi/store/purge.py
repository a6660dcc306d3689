"""Removes deleted and old data in the background (`store.background`): in steps that end in time, each of statements
that remove a few rows.

A statement takes the rows of many rooms, or notifications, at once: the cost is in the statement, not in the row.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from chatapi.models import RoomId, RoomKey, TenantKey
from chatapi.protocol.json import dumps_text
from chatapi.store.background import CHUNK_ROWS
from chatapi.store.keys import KEY_EPOCH_US
from chatapi.store.readers import Readers
from chatapi.store.transaction import SqliteConnection

_FIND_DELETED_ROOMS = "SELECT room_key FROM rooms WHERE deleted_at_us IS NOT NULL ORDER BY room_key LIMIT :limit"
_FIND_DELETED_TENANT = """
    SELECT tenant_key FROM tenants
    WHERE deleted_at_us IS NOT NULL AND tenant_key NOT IN (SELECT value FROM json_each(:arriving))
      AND tenant_key NOT IN (SELECT own_key FROM arrivals WHERE live_at_us IS NULL) LIMIT 1
"""

# The rows of deleted rooms, at most :limit for each statement; the rooms themselves go once they are gone.
_EMPTY_ROOMS = (
    # The text first, as of the members below.
    """DELETE FROM reactions WHERE (user_id, room_key, target_seq, seq) IN (
           SELECT x.user_id, x.room_key, x.target_seq, x.seq FROM json_each(:keys) AS w CROSS JOIN reactions AS x
           WHERE x.room_key = w.value LIMIT :limit)""",
    """DELETE FROM reaction_counts WHERE (room_key, target_seq, first_seq) IN (
           SELECT x.room_key, x.target_seq, x.first_seq FROM json_each(:keys) AS w CROSS JOIN reaction_counts AS x
           WHERE x.room_key = w.value LIMIT :limit)""",
    """DELETE FROM pins WHERE (room_key, seq) IN (
           SELECT x.room_key, x.seq FROM json_each(:keys) AS w CROSS JOIN pins AS x
           WHERE x.room_key = w.value LIMIT :limit)""",
    """DELETE FROM emptied_messages WHERE (room_key, target_seq) IN (
           SELECT x.room_key, x.target_seq FROM json_each(:keys) AS w CROSS JOIN emptied_messages AS x
           WHERE x.room_key = w.value LIMIT :limit)""",
    """DELETE FROM stream_chunks WHERE (room_key, target_seq, last_index) IN (
           SELECT x.room_key, x.target_seq, x.last_index FROM json_each(:keys) AS w CROSS JOIN stream_chunks AS x
           WHERE x.room_key = w.value LIMIT :limit)""",
    """DELETE FROM open_streams WHERE (room_key, target_seq) IN (
           SELECT x.room_key, x.target_seq FROM json_each(:keys) AS w CROSS JOIN open_streams AS x
           WHERE x.room_key = w.value LIMIT :limit)""",
    """DELETE FROM messages WHERE message_key IN (
           SELECT m.message_key FROM json_each(:keys) AS w CROSS JOIN messages AS m
           WHERE m.room_key = w.value LIMIT :limit)""",
    """DELETE FROM changes WHERE (room_key, seq) IN (
           SELECT c.room_key, c.seq FROM json_each(:keys) AS w CROSS JOIN changes AS c
           WHERE c.room_key = w.value LIMIT :limit)""",
    """DELETE FROM threads WHERE (room_key, root_seq) IN (
           SELECT t.room_key, t.root_seq FROM json_each(:keys) AS w CROSS JOIN threads AS t
           WHERE t.room_key = w.value LIMIT :limit)""",
    """DELETE FROM mentions WHERE (user_id, room_key, message_key) IN (
           SELECT n.user_id, n.room_key, n.message_key FROM json_each(:keys) AS w CROSS JOIN mentions AS n
           WHERE n.room_key = w.value LIMIT :limit)""",
    # The text first: otherwise SQLite finds the rooms alone by the index, and looks through all their members.
    """DELETE FROM members WHERE (user_id, room_key) IN (
           SELECT b.user_id, b.room_key FROM json_each(:keys) AS w CROSS JOIN members AS b
           WHERE b.room_key = w.value LIMIT :limit)""",
    """DELETE FROM traces WHERE (user_id, room_key) IN (
           SELECT b.user_id, b.room_key FROM json_each(:keys) AS w CROSS JOIN traces AS b
           WHERE b.room_key = w.value LIMIT :limit)""",
    """DELETE FROM mutes WHERE (user_id, room_key) IN (
           SELECT b.user_id, b.room_key FROM json_each(:keys) AS w CROSS JOIN mutes AS b
           WHERE b.room_key = w.value LIMIT :limit)""",
    """DELETE FROM reports WHERE report_key IN (
           SELECT b.report_key FROM json_each(:keys) AS w CROSS JOIN reports AS b
           WHERE b.room_key = w.value LIMIT :limit)""",
    """DELETE FROM bans WHERE (user_id, room_key) IN (
           SELECT b.user_id, b.room_key FROM json_each(:keys) AS w CROSS JOIN bans AS b
           WHERE b.room_key = w.value LIMIT :limit)""",
    "DELETE FROM rooms WHERE room_key IN (SELECT value FROM json_each(:keys) LIMIT :limit)",
)

# The reactions of messages that are gone, in rooms that are not, and the chunks of streams that are gone with them: of
# one message there may be thousands.
_FIND_EMPTIED = "SELECT room_key, target_seq FROM emptied_messages LIMIT :limit"
_EMPTY_MESSAGES = (
    """DELETE FROM reactions WHERE (room_key, target_seq, seq) IN (
           SELECT x.room_key, x.target_seq, x.seq FROM json_each(:keys) AS w CROSS JOIN reactions AS x
           WHERE x.room_key = w.value ->> 0 AND x.target_seq = w.value ->> 1 LIMIT :limit)""",
    """DELETE FROM stream_chunks WHERE (room_key, target_seq, last_index) IN (
           SELECT x.room_key, x.target_seq, x.last_index FROM json_each(:keys) AS w CROSS JOIN stream_chunks AS x
           WHERE x.room_key = w.value ->> 0 AND x.target_seq = w.value ->> 1 LIMIT :limit)""",
    """DELETE FROM emptied_messages WHERE (room_key, target_seq) IN (
           SELECT value ->> 0, value ->> 1 FROM json_each(:keys) LIMIT :limit)""",
)

# The same for a deleted tenant, once its rooms are gone: they are marked, and purged as other deleted rooms.
_MARK_ROOMS = """
    UPDATE rooms SET deleted_at_us = created_at_us, unique_key = NULL WHERE room_key IN (
        SELECT room_key FROM rooms WHERE tenant_key = :tenant_key AND deleted_at_us IS NULL LIMIT :limit)
"""
_EMPTY_TENANT = (
    """DELETE FROM webhook_deliveries WHERE (event_key, ordinal) IN (
           SELECT event_key, ordinal FROM webhook_deliveries
           WHERE tenant_key = :tenant_key AND next_attempt_at_us IS NOT NULL AND ordinal > 0 LIMIT :limit)""",
    """DELETE FROM webhook_deliveries WHERE (event_key, ordinal) IN (
           SELECT event_key, ordinal FROM webhook_deliveries
           WHERE tenant_key = :tenant_key AND next_attempt_at_us IS NOT NULL AND ordinal = 0 LIMIT :limit)""",
    """DELETE FROM webhook_deliveries WHERE (event_key, ordinal) IN (
           SELECT event_key, ordinal FROM webhook_deliveries
           WHERE tenant_key = :tenant_key AND next_attempt_at_us IS NULL LIMIT :limit)""",
    """DELETE FROM webhook_events WHERE event_key IN (
           SELECT event_key FROM webhook_events WHERE tenant_key = :tenant_key LIMIT :limit)""",
    """DELETE FROM subscriptions WHERE subscription_key IN (
           SELECT subscription_key FROM subscriptions WHERE tenant_key = :tenant_key LIMIT :limit)""",
    # Before the recipients, so that none are added any more.
    "DELETE FROM unfinished_notifications WHERE tenant_key = :tenant_key AND :limit > 0",
    """DELETE FROM notification_recipients WHERE (user_id, tenant_key, notification_key) IN (
           SELECT user_id, tenant_key, notification_key FROM notification_recipients
           WHERE tenant_key = :tenant_key LIMIT :limit)""",
    """DELETE FROM notifications WHERE notification_key IN (
           SELECT notification_key FROM notifications WHERE tenant_key = :tenant_key LIMIT :limit)""",
    """DELETE FROM blocks WHERE (blocked_id, user_id, tenant_key) IN (
           SELECT blocked_id, user_id, tenant_key FROM blocks WHERE tenant_key = :tenant_key LIMIT :limit)""",
    """DELETE FROM user_bans WHERE (user_id, tenant_key) IN (
           SELECT user_id, tenant_key FROM user_bans WHERE tenant_key = :tenant_key LIMIT :limit)""",
    """DELETE FROM erasures WHERE (user_id, tenant_key) IN (
           SELECT user_id, tenant_key FROM erasures WHERE tenant_key = :tenant_key LIMIT :limit)""",
    """DELETE FROM users WHERE (user_id, tenant_key) IN (
           SELECT user_id, tenant_key FROM users WHERE tenant_key = :tenant_key LIMIT :limit)""",
    """DELETE FROM api_keys WHERE key_id IN (
           SELECT key_id FROM api_keys WHERE tenant_key = :tenant_key LIMIT :limit)""",
    "DELETE FROM tenants WHERE tenant_key = :tenant_key AND :limit > 0",
)

# Which of the tenants have notifications that are too old; rows of [tenant_key, before_key, before_us]. The key is made
# from the time, so that nothing is looked at that is not too old.
_FIND_OLD_NOTIFICATIONS = """
    SELECT w.value ->> 0 FROM json_each(:wanted) AS w
    WHERE EXISTS (SELECT 1 FROM notifications WHERE tenant_key = w.value ->> 0
                  AND notification_key < w.value ->> 1 AND created_at_us < w.value ->> 2)
"""
_LIST_OLD_NOTIFICATIONS = """
    SELECT notification_key FROM notifications
    WHERE tenant_key = :tenant_key AND notification_key < :before_key AND created_at_us < :before_us
    ORDER BY notification_key LIMIT :limit
"""
_EMPTY_NOTIFICATIONS = (
    """DELETE FROM unfinished_notifications WHERE tenant_key = :tenant_key AND :limit > 0
           AND notification_key IN (SELECT value FROM json_each(:keys))""",
    """DELETE FROM notification_recipients WHERE (user_id, tenant_key, notification_key) IN (
           SELECT p.user_id, p.tenant_key, p.notification_key
           FROM json_each(:keys) AS w CROSS JOIN notification_recipients AS p
           WHERE p.notification_key = w.value LIMIT :limit)""",
    "DELETE FROM notifications WHERE notification_key IN (SELECT value FROM json_each(:keys) LIMIT :limit)",
)

# The tenant's next rooms, and whether the log of each begins with something too old.
_LIST_ROOMS = """
    SELECT r.room_key, r.room_id, min(
        coalesce((SELECT created_at_us FROM messages WHERE room_key = r.room_key ORDER BY seq LIMIT 1), :before_us),
        coalesce((SELECT created_at_us FROM changes WHERE room_key = r.room_key ORDER BY seq LIMIT 1), :before_us)
    ) < :before_us
    FROM rooms AS r
    WHERE r.tenant_key = :tenant_key AND r.room_id > :after_room_id AND r.deleted_at_us IS NULL
    ORDER BY r.room_id LIMIT :limit
"""
# For each room the last seq of the log's beginning in which every event is old, and how many events were looked at.
_OLDEST = """
    SELECT seq, created_at_us FROM messages WHERE room_key = w.value
    UNION ALL
    SELECT seq, created_at_us FROM changes WHERE room_key = w.value
    ORDER BY seq LIMIT :limit
"""
_FIND_OLD_SEQS = f"""
    SELECT r.room_key, r.room_id,
           coalesce((SELECT min(seq) - 1 FROM ({_OLDEST}) WHERE created_at_us >= :before_us),
                    (SELECT max(seq) FROM ({_OLDEST}))),
           (SELECT count(*) FROM ({_OLDEST}) WHERE created_at_us < :before_us)
    FROM json_each(:keys) AS w CROSS JOIN rooms AS r WHERE r.room_key = w.value AND r.tenant_key = :tenant_key
"""
_MOVE_BEGINNING = """
    UPDATE rooms SET pruned_seq = :seq WHERE room_key = :room_key AND tenant_key = :tenant_key AND pruned_seq < :seq
"""
_DELETE_OLD = (
    "DELETE FROM threads WHERE room_key = :room_key AND root_seq <= :seq",
    """DELETE FROM mentions INDEXED BY mentions_by_seq
       WHERE room_key = :room_key AND seq <= :seq AND user_id IN (
           SELECT n.value FROM messages AS m CROSS JOIN json_each(m.mentions) AS n
           WHERE m.room_key = :room_key AND m.seq <= :seq AND m.mentions IS NOT NULL
           UNION SELECT '')""",
    """INSERT INTO emptied_messages (room_key, target_seq)
           SELECT room_key, target_seq FROM reaction_counts WHERE room_key = :room_key AND target_seq <= :seq
           UNION SELECT room_key, target_seq FROM open_streams WHERE room_key = :room_key AND target_seq <= :seq""",
    "DELETE FROM open_streams WHERE room_key = :room_key AND target_seq <= :seq",
    "DELETE FROM messages WHERE room_key = :room_key AND seq <= :seq",
    "DELETE FROM changes WHERE room_key = :room_key AND seq <= :seq",
    "DELETE FROM reaction_counts WHERE room_key = :room_key AND target_seq <= :seq",
    "DELETE FROM pins WHERE room_key = :room_key AND target_seq <= :seq",
    "DELETE FROM reports WHERE room_key = :room_key AND target_seq <= :seq",
    # Of 1,024 events each: those that have no other.
    "DELETE FROM search_blocks WHERE room_key = :room_key AND number < (:seq + 1) >> 10",
)


class OldRooms(NamedTuple):
    """Rooms of a tenant whose logs begin with old events. `last_room_id` is None when there are no more after them."""

    old_room_keys: list[RoomKey]
    last_room_id: str | None


class OldLog(NamedTuple):
    """The beginning of a room's log that is too old: `events` of them, up to `last_seq`."""

    room_key: RoomKey
    room_id: RoomId
    last_seq: int
    events: int


def purge_deleted(
    connection: SqliteConnection, is_over: Callable[[], bool], *, arriving: Collection[TenantKey] = ()
) -> bool:
    """One step of removing what was deleted, rooms first; whether there may be more to do. `arriving` are tenants that
    are being imported: hidden until they are whole, and removed like deleted ones if that fails. Those that arrive by a
    move are hidden in the same way, and known by their rows: a restart keeps them."""
    while _purge_some(connection, arriving):
        if is_over():
            return True
    return False


def _purge_some(connection: SqliteConnection, arriving: Collection[TenantKey] = ()) -> bool:
    found = connection.execute(_FIND_DELETED_ROOMS, {"limit": CHUNK_ROWS}).fetchall()
    if found:
        _empty(connection, _EMPTY_ROOMS, {"keys": dumps_text([row[0] for row in found])})
        return True
    emptied = connection.execute(_FIND_EMPTIED, {"limit": CHUNK_ROWS}).fetchall()
    if emptied:
        _empty(connection, _EMPTY_MESSAGES, {"keys": dumps_text(emptied)})
        return True
    row = connection.execute(_FIND_DELETED_TENANT, {"arriving": dumps_text(list(arriving))}).fetchone()
    if row is None:
        return False
    tenant = {"tenant_key": row[0]}
    if not connection.execute(_MARK_ROOMS, {**tenant, "limit": CHUNK_ROWS}).rowcount:
        _empty(connection, _EMPTY_TENANT, tenant)
    return True


def _empty(connection: SqliteConnection, statements: Sequence[str], scope: dict[str, object]) -> None:
    """Each statement removes what keeps the next one from being run, and is run once that is gone."""
    left = CHUNK_ROWS
    for statement in statements:
        left -= connection.execute(statement, {**scope, "limit": left}).rowcount
        if left <= 0:
            return


async def list_rooms(
    readers: Readers, tenant_key: TenantKey, before_us: int, after_room_id: str, limit: int
) -> OldRooms:
    """Of the tenant's next rooms after that one those whose log begins with events from before `before_us`."""
    scope = {"tenant_key": tenant_key, "before_us": before_us, "after_room_id": after_room_id, "limit": limit}
    rows = await readers.fetch(_LIST_ROOMS, scope)
    return OldRooms([RoomKey(row[0]) for row in rows if row[2]], rows[-1][1] if len(rows) == limit else None)


async def find_old_logs(
    readers: Readers, tenant_key: TenantKey, room_keys: Sequence[RoomKey], before_us: int, limit: int
) -> list[OldLog]:
    """Looks at no more than the first `limit` events of each room."""
    scope = {"tenant_key": tenant_key, "keys": dumps_text(room_keys), "before_us": before_us, "limit": limit}
    return [OldLog(*row) for row in await readers.fetch(_FIND_OLD_SEQS, scope) if row[2] and row[3]]


def purge_old_events(
    tenant_key: TenantKey, logs: Sequence[OldLog], connection: SqliteConnection, is_over: Callable[[], bool]
) -> Sequence[OldLog]:
    """One step of retention; returns those that it came to. Events that were found to be old stay old."""
    for count, log in enumerate(logs, start=1):
        scope = {"room_key": log.room_key, "tenant_key": tenant_key, "seq": log.last_seq}
        for statement in (_MOVE_BEGINNING, *_DELETE_OLD):
            connection.execute(statement, scope)
        if is_over():
            return logs[:count]
    return logs


async def find_old_notifications(readers: Readers, before_us: dict[TenantKey, int]) -> list[TenantKey]:
    """Which of these tenants have notifications from before their time."""
    wanted = [(tenant_key, _encode_key(time_us), time_us) for tenant_key, time_us in before_us.items()]
    rows = await readers.fetch(_FIND_OLD_NOTIFICATIONS, {"wanted": dumps_text(wanted)})
    return [TenantKey(row[0]) for row in rows]


def purge_old_notifications(
    tenant_key: TenantKey, before_us: int, connection: SqliteConnection, is_over: Callable[[], bool]
) -> bool:
    """One step; whether there may be more to do."""
    scope = {"tenant_key": tenant_key, "before_key": _encode_key(before_us), "before_us": before_us}
    while found := connection.execute(_LIST_OLD_NOTIFICATIONS, {**scope, "limit": CHUNK_ROWS}).fetchall():
        keys = dumps_text([row[0] for row in found])
        _empty(connection, _EMPTY_NOTIFICATIONS, {"tenant_key": tenant_key, "keys": keys})
        if is_over():
            return True
    return False


def _encode_key(time_us: int) -> int:
    """Every key that was made before that is below."""
    return max(0, time_us - KEY_EPOCH_US) << 12
