"""Mutes and bans in SQL; and, for slow mode, the last message of each user."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from chatapi.models import RoomKey, TenantKey, UserId
from chatapi.protocol.json import MAX_KEY, dumps_text
from chatapi.protocol.pages import Page, Value, Window
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
        SELECT user_id, room_key FROM mutes WHERE until_us <= :now_us
          AND tenant_key NOT IN (SELECT value FROM json_each(:held)) LIMIT :limit)
"""
_LOAD_BANS = """
    SELECT user_id, until_us FROM bans
    WHERE room_key = :room_key AND tenant_key = :tenant_key AND user_id > :after_user_id
    ORDER BY user_id LIMIT :limit
"""
_FIND_BAN = """
    SELECT user_id, reason, until_us, created_by, created_at_us FROM bans
    WHERE room_key = :room_key AND user_id = :user_id AND tenant_key = :tenant_key
"""
_PUT_BAN = """
    INSERT INTO bans (room_key, user_id, tenant_key, reason, until_us, created_by, created_at_us)
    VALUES (:room_key, :user_id, :tenant_key, :reason, :until_us, :created_by, :created_at_us)
    ON CONFLICT DO UPDATE SET reason = :reason, until_us = :until_us, created_by = :created_by,
        created_at_us = :created_at_us
"""
_DELETE_BAN = "DELETE FROM bans WHERE room_key = :room_key AND user_id = :user_id AND tenant_key = :tenant_key"
_DELETE_ENDED_BANS = """
    DELETE FROM bans WHERE (user_id, room_key) IN (
        SELECT user_id, room_key FROM bans WHERE until_us <= :now_us
          AND tenant_key NOT IN (SELECT value FROM json_each(:held)) LIMIT :limit)
"""
_LIST_BANS = """
    SELECT b.created_at_us, b.user_id, CAST(json_object('user_id', b.user_id, 'reason', b.reason,
        'until', iif(b.until_us IS NULL, NULL, strftime('%Y-%m-%dT%H:%M:%S', b.until_us / 1000000, 'unixepoch')
            || printf('.%06dZ', b.until_us % 1000000)),
        'created_by', b.created_by,
        'created_at', strftime('%Y-%m-%dT%H:%M:%S', b.created_at_us / 1000000, 'unixepoch')
            || printf('.%06dZ', b.created_at_us % 1000000)) AS BLOB)
    FROM bans AS b INDEXED BY bans_newest
    WHERE b.room_key = :room_key AND b.tenant_key = :tenant_key AND coalesce(b.until_us, :now_us + 1) > :now_us
      AND (b.created_at_us, b.user_id) < (:created_at_us, :user_id)
    ORDER BY b.created_at_us DESC, b.user_id DESC LIMIT :limit + 1 OFFSET :offset
"""
BANS_START: Mapping[str, Value] = {"created_at_us": MAX_KEY, "user_id": ""}
_LIST_POSTS = """
    SELECT m.seq, m.sender_id, m.created_at_us FROM rooms AS r CROSS JOIN messages AS m ON m.room_key = r.room_key
    WHERE r.room_key = :room_key AND r.tenant_key = :tenant_key AND m.seq < :seq
    ORDER BY m.seq DESC LIMIT :limit
"""


class StoredBan(NamedTuple):
    user_id: UserId
    reason: str | None
    until_us: int | None  # None: it has no end
    created_by: str
    created_at_us: int


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


async def load_bans(
    readers: Readers, tenant_key: TenantKey, room_key: RoomKey, after_user_id: str, limit: int
) -> list[Row]:
    """As `load_mutes`; a ban without an end has no `until_us`."""
    scope = {"tenant_key": tenant_key, "room_key": room_key, "after_user_id": after_user_id, "limit": limit}
    return await readers.fetch(_LOAD_BANS, scope)


async def find_ban(
    transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, user_id: UserId
) -> StoredBan | None:
    """It may have ended."""
    scope = {"tenant_key": tenant_key, "room_key": room_key, "user_id": user_id}
    row = await transaction.fetch_one(_FIND_BAN, scope)
    return None if row is None else StoredBan(*row)


async def write_ban(transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, ban: StoredBan) -> None:
    """In place of one that is there."""
    await transaction.execute(_PUT_BAN, {"tenant_key": tenant_key, "room_key": room_key, **ban._asdict()})


async def delete_ban(transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, user_id: UserId) -> None:
    await transaction.execute(_DELETE_BAN, {"tenant_key": tenant_key, "room_key": room_key, "user_id": user_id})


async def list_bans(readers: Readers, tenant_key: TenantKey, room_key: RoomKey, now_us: int, window: Window) -> Page:
    """The newest first; those that have ended by then are left out."""
    scope = {"tenant_key": tenant_key, "room_key": room_key, "now_us": now_us}
    return await readers.fetch_list(_LIST_BANS, scope, window, BANS_START)


async def list_posts(readers: Readers, tenant_key: TenantKey, room_key: RoomKey, seq: int, limit: int) -> list[Row]:
    """Rows of (seq, sender_id, created_at_us) of the messages before that seq, the newest first."""
    scope = {"tenant_key": tenant_key, "room_key": room_key, "seq": seq, "limit": limit}
    return await readers.fetch(_LIST_POSTS, scope)


def purge_ended(now_us: int, held: list[TenantKey], connection: SqliteConnection, is_over: Callable[[], bool]) -> bool:
    """One step of removing mutes and bans that have ended; whether there may be more to do. Those of tenants that are
    held stay."""
    scope = {"now_us": now_us, "held": dumps_text(held), "limit": CHUNK_ROWS}
    for statement in (_DELETE_ENDED_MUTES, _DELETE_ENDED_BANS):
        while connection.execute(statement, scope).rowcount == CHUNK_ROWS:
            if is_over():
                return True
    return False
