"""Mutes in SQL; and, for slow mode, the last message of each user."""

from collections.abc import Callable
from typing import Any

from chatapi.models import RoomKey, TenantKey, UserId
from chatapi.store.background import CHUNK_ROWS
from chatapi.store.readers import Readers
from chatapi.store.transaction import SqliteConnection, Transaction

Row = tuple[Any, ...]

_LOAD_MUTES = """
    SELECT user_id, until_us FROM mutes
    WHERE room_key = :room_key AND tenant_key = :tenant_key AND user_id > :after_user_id
    ORDER BY user_id LIMIT :limit
"""
_PUT_MUTE = """
    INSERT INTO mutes (room_key, user_id, tenant_key, until_us) VALUES (:room_key, :user_id, :tenant_key, :until_us)
    ON CONFLICT DO UPDATE SET until_us = :until_us
"""
_DELETE_MUTE = "DELETE FROM mutes WHERE room_key = :room_key AND user_id = :user_id AND tenant_key = :tenant_key"
_DELETE_ENDED_MUTES = """
    DELETE FROM mutes WHERE (user_id, room_key) IN (
        SELECT user_id, room_key FROM mutes WHERE until_us <= :now_us LIMIT :limit)
"""
_LIST_POSTS = """
    SELECT m.seq, m.sender_id, m.created_at_us FROM rooms AS r CROSS JOIN messages AS m ON m.room_key = r.room_key
    WHERE r.room_key = :room_key AND r.tenant_key = :tenant_key AND m.seq < :seq
    ORDER BY m.seq DESC LIMIT :limit
"""


async def load_mutes(
    readers: Readers, tenant_key: TenantKey, room_key: RoomKey, after_user_id: str, limit: int
) -> list[Row]:
    """Rows of (user_id, until_us), by user id."""
    scope = {"tenant_key": tenant_key, "room_key": room_key, "after_user_id": after_user_id, "limit": limit}
    return await readers.fetch(_LOAD_MUTES, scope)


async def write_mute(
    transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, user_id: UserId, until_us: int | None
) -> None:
    """None: the user is not muted."""
    scope = {"tenant_key": tenant_key, "room_key": room_key, "user_id": user_id}
    if until_us is None:
        await transaction.execute(_DELETE_MUTE, scope)
    else:
        await transaction.execute(_PUT_MUTE, {**scope, "until_us": until_us})


async def list_posts(readers: Readers, tenant_key: TenantKey, room_key: RoomKey, seq: int, limit: int) -> list[Row]:
    """Rows of (seq, sender_id, created_at_us) of the messages before that seq, the newest first."""
    scope = {"tenant_key": tenant_key, "room_key": room_key, "seq": seq, "limit": limit}
    return await readers.fetch(_LIST_POSTS, scope)


def purge_ended(now_us: int, connection: SqliteConnection, is_over: Callable[[], bool]) -> bool:
    """One step of removing mutes that have ended; whether there may be more to do."""
    while connection.execute(_DELETE_ENDED_MUTES, {"now_us": now_us, "limit": CHUNK_ROWS}).rowcount == CHUNK_ROWS:
        if is_over():
            return True
    return False
