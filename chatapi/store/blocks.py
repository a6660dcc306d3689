"""Blocks between two users, in SQL."""

from collections.abc import Mapping

from chatapi.models import TenantKey, UserId
from chatapi.protocol.json import MAX_KEY
from chatapi.protocol.pages import Page, Value, Window
from chatapi.store.readers import Readers
from chatapi.store.transaction import Transaction

_INSERT_BLOCK = """
    INSERT INTO blocks (tenant_key, user_id, blocked_id, dm_key, created_at_us)
    VALUES (:tenant_key, :user_id, :blocked_id, :dm_key, :now_us)
    ON CONFLICT (tenant_key, user_id, blocked_id) DO NOTHING
"""
_FIND_BLOCK = """
    SELECT created_at_us FROM blocks
    WHERE tenant_key = :tenant_key AND user_id = :user_id AND blocked_id = :blocked_id
"""
_DELETE_BLOCK = "DELETE FROM blocks WHERE tenant_key = :tenant_key AND user_id = :user_id AND blocked_id = :blocked_id"
_IS_BLOCKED = "SELECT EXISTS (SELECT 1 FROM blocks WHERE tenant_key = :tenant_key AND dm_key = :dm_key)"
_LIST_BLOCKS = """
    SELECT b.created_at_us, b.blocked_id, CAST(json_object('user_id', b.blocked_id,
        'created_at', strftime('%Y-%m-%dT%H:%M:%S', b.created_at_us / 1000000, 'unixepoch')
            || printf('.%06dZ', b.created_at_us % 1000000)) AS BLOB)
    FROM blocks AS b
    WHERE b.tenant_key = :tenant_key AND b.user_id = :user_id
      AND (b.created_at_us, b.blocked_id) < (:created_at_us, :blocked_id)
    ORDER BY b.created_at_us DESC, b.blocked_id DESC LIMIT :limit + 1 OFFSET :offset
"""
BLOCKS_START: Mapping[str, Value] = {"created_at_us": MAX_KEY, "blocked_id": ""}


async def put_block(
    transaction: Transaction, tenant_key: TenantKey, user_id: UserId, blocked_id: UserId, dm_key: str
) -> int:
    """When the user has blocked the other one first, in microseconds."""
    scope = {"tenant_key": tenant_key, "user_id": user_id, "blocked_id": blocked_id}
    await transaction.execute(_INSERT_BLOCK, {**scope, "dm_key": dm_key, "now_us": transaction.now_us})
    row = await transaction.fetch_one(_FIND_BLOCK, scope)
    assert row is not None  # inserted, or there before
    return int(row[0])


async def delete_block(transaction: Transaction, tenant_key: TenantKey, user_id: UserId, blocked_id: UserId) -> None:
    """Does nothing if there is none."""
    scope = {"tenant_key": tenant_key, "user_id": user_id, "blocked_id": blocked_id}
    await transaction.execute(_DELETE_BLOCK, scope)


async def is_blocked(transaction: Transaction, tenant_key: TenantKey, dm_key: str) -> bool:
    """Whether one of the two has blocked the other."""
    row = await transaction.fetch_one(_IS_BLOCKED, {"tenant_key": tenant_key, "dm_key": dm_key})
    return row is not None and bool(row[0])


async def list_blocks(readers: Readers, tenant_key: TenantKey, user_id: UserId, window: Window) -> Page:
    """The users whom this one has blocked, the latest first."""
    scope = {"tenant_key": tenant_key, "user_id": user_id}
    return await readers.fetch_list(_LIST_BLOCKS, scope, window, BLOCKS_START)
