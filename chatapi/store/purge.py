"""Removing what was deleted or is too old, a few rows at a time, so that no other write waits long."""

from typing import NamedTuple

from chatapi.models import RoomId, RoomKey, TenantKey
from chatapi.store.readers import Readers
from chatapi.store.transaction import Transaction

STEP_ROWS = 500  # about 5 ms of the writer's time

_FIND_DELETED_ROOM = "SELECT room_key FROM rooms WHERE deleted_at_us IS NOT NULL LIMIT 1"
_FIND_DELETED_TENANT = "SELECT tenant_key FROM tenants WHERE deleted_at_us IS NOT NULL LIMIT 1"

# The rows of a deleted room, each statement STEP_ROWS at most; the room itself goes once they are gone.
_EMPTY_ROOM = (
    """DELETE FROM messages WHERE message_key IN (
           SELECT message_key FROM messages WHERE room_key = :room_key LIMIT :limit)""",
    """DELETE FROM changes WHERE room_key = :room_key AND seq IN (
           SELECT seq FROM changes WHERE room_key = :room_key LIMIT :limit)""",
    """DELETE FROM members WHERE room_key = :room_key AND user_id IN (
           SELECT user_id FROM members WHERE room_key = :room_key LIMIT :limit)""",
)
_DELETE_ROOM = "DELETE FROM rooms WHERE room_key = :room_key"

# The same for a deleted tenant, whose rooms are gone already.
_EMPTY_TENANT = (
    # A room that was being created while the tenant was deleted.
    """UPDATE rooms SET deleted_at_us = created_at_us, unique_key = NULL
       WHERE tenant_key = :tenant_key AND deleted_at_us IS NULL""",
    """DELETE FROM webhook_deliveries WHERE (event_key, ordinal) IN (
           SELECT event_key, ordinal FROM webhook_deliveries
           WHERE tenant_key = :tenant_key AND next_attempt_at_us IS NOT NULL LIMIT :limit)""",
    """DELETE FROM webhook_deliveries WHERE (event_key, ordinal) IN (
           SELECT event_key, ordinal FROM webhook_deliveries
           WHERE tenant_key = :tenant_key AND next_attempt_at_us IS NULL LIMIT :limit)""",
    """DELETE FROM webhook_events WHERE event_key IN (
           SELECT event_key FROM webhook_events WHERE tenant_key = :tenant_key LIMIT :limit)""",
    """DELETE FROM subscriptions WHERE subscription_key IN (
           SELECT subscription_key FROM subscriptions WHERE tenant_key = :tenant_key LIMIT :limit)""",
    """DELETE FROM notification_recipients WHERE (tenant_key, user_id, notification_key) IN (
           SELECT tenant_key, user_id, notification_key FROM notification_recipients
           WHERE tenant_key = :tenant_key LIMIT :limit)""",
    """DELETE FROM notifications WHERE notification_key IN (
           SELECT notification_key FROM notifications WHERE tenant_key = :tenant_key LIMIT :limit)""",
    """DELETE FROM api_keys WHERE key_id IN (
           SELECT key_id FROM api_keys WHERE tenant_key = :tenant_key LIMIT :limit)""",
)
_DELETE_TENANT = "DELETE FROM tenants WHERE tenant_key = :tenant_key"

# Notifications that are too old, with their recipients.
_FIND_OLD_NOTIFICATION = """
    SELECT notification_key FROM notifications WHERE tenant_key = :tenant_key AND created_at_us < :before_us
    ORDER BY notification_key LIMIT 1
"""
_DELETE_RECIPIENTS = """
    DELETE FROM notification_recipients WHERE notification_key = :notification_key AND user_id IN (
        SELECT user_id FROM notification_recipients WHERE notification_key = :notification_key LIMIT :limit)
"""
_DELETE_NOTIFICATION = "DELETE FROM notifications WHERE notification_key = :notification_key"

# A room of which retention has something to remove.
_FIND_OLD_ROOMS = """
    SELECT r.room_key, r.room_id FROM rooms AS r
    WHERE r.tenant_key = :tenant_key AND r.deleted_at_us IS NULL AND min(
        coalesce((SELECT created_at_us FROM messages WHERE room_key = r.room_key ORDER BY seq LIMIT 1), :before_us),
        coalesce((SELECT created_at_us FROM changes WHERE room_key = r.room_key ORDER BY seq LIMIT 1), :before_us)
    ) < :before_us
"""
# The last seq of the log's beginning in which every event is old.
_FIND_OLD_SEQ = """
    WITH oldest AS (
        SELECT seq, created_at_us FROM (
            SELECT seq, created_at_us FROM messages WHERE room_key = :room_key
            UNION ALL
            SELECT seq, created_at_us FROM changes WHERE room_key = :room_key
            ORDER BY seq LIMIT :limit)
    )
    SELECT coalesce((SELECT min(seq) - 1 FROM oldest WHERE created_at_us >= :before_us), (SELECT max(seq) FROM oldest))
"""
_MOVE_BEGINNING = """
    UPDATE rooms SET pruned_seq = :seq WHERE room_key = :room_key AND tenant_key = :tenant_key AND pruned_seq < :seq
"""
_DELETE_OLD = (
    "DELETE FROM messages WHERE room_key = :room_key AND seq <= :seq",
    "DELETE FROM changes WHERE room_key = :room_key AND seq <= :seq",
)


class OldRoom(NamedTuple):
    room_key: RoomKey
    room_id: RoomId


async def purge_deleted(transaction: Transaction) -> bool:
    """One step of removing what was deleted, rooms first; whether there may be more to do."""
    row = await transaction.fetch_one(_FIND_DELETED_ROOM, {})
    if row is not None:
        await _empty(transaction, _EMPTY_ROOM, _DELETE_ROOM, {"room_key": row[0]})
        return True
    row = await transaction.fetch_one(_FIND_DELETED_TENANT, {})
    if row is not None:
        await _empty(transaction, _EMPTY_TENANT, _DELETE_TENANT, {"tenant_key": row[0]})
    return row is not None


async def _empty(transaction: Transaction, emptying: tuple[str, ...], last: str, place: dict[str, object]) -> None:
    for statement in emptying:
        if await transaction.execute(statement, {**place, "limit": STEP_ROWS}):
            return
    await transaction.execute(last, place)


async def find_old_rooms(readers: Readers, tenant_key: TenantKey, before_us: int) -> list[OldRoom]:
    """The tenant's rooms whose log begins with events from before `before_us`."""
    rows = await readers.fetch(_FIND_OLD_ROOMS, {"tenant_key": tenant_key, "before_us": before_us})
    return [OldRoom(RoomKey(row[0]), RoomId(row[1])) for row in rows]


async def purge_old_events(
    transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, before_us: int
) -> int | None:
    """One step of removing the beginning of a room's log: the last `seq` removed, or None when nothing is too old."""
    row = await transaction.fetch_one(_FIND_OLD_SEQ, {"room_key": room_key, "before_us": before_us, "limit": STEP_ROWS})
    if row is None or not row[0]:
        return None
    moved = await transaction.execute(_MOVE_BEGINNING, {"tenant_key": tenant_key, "room_key": room_key, "seq": row[0]})
    if not moved:
        return None
    for statement in _DELETE_OLD:
        await transaction.execute(statement, {"room_key": room_key, "seq": row[0]})
    return int(row[0])


async def purge_old_notification(transaction: Transaction, tenant_key: TenantKey, before_us: int) -> bool:
    """One step; whether there may be more to do."""
    row = await transaction.fetch_one(_FIND_OLD_NOTIFICATION, {"tenant_key": tenant_key, "before_us": before_us})
    if row is None:
        return False
    place = {"notification_key": row[0]}
    await _empty(transaction, (_DELETE_RECIPIENTS,), _DELETE_NOTIFICATION, place)
    return True
