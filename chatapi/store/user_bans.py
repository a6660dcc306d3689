"""Bans of users from their whole tenant, in SQL."""

from chatapi.models import RoomKey, TenantKey, UserId
from chatapi.store.readers import Readers
from chatapi.store.transaction import Transaction

_LOAD_BANS = """
    SELECT b.tenant_key, b.user_id, b.reason, b.until_us, b.heirs_due FROM user_bans AS b
    JOIN tenants AS t ON t.tenant_key = b.tenant_key WHERE t.deleted_at_us IS NULL
"""
_PUT_BAN = """
    INSERT INTO user_bans (tenant_key, user_id, reason, until_us, heirs_due)
    VALUES (:tenant_key, :user_id, :reason, :until_us, 1)
    ON CONFLICT (tenant_key, user_id) DO UPDATE SET reason = :reason, until_us = :until_us, heirs_due = 1
"""
_DELETE_ENDED = "DELETE FROM user_bans WHERE tenant_key = :tenant_key AND until_us <= :now_us"
_DELETE_BAN = "DELETE FROM user_bans WHERE tenant_key = :tenant_key AND user_id = :user_id"
_NOTE_HEIRS = "UPDATE user_bans SET heirs_due = 0 WHERE tenant_key = :tenant_key AND user_id = :user_id"
# The next rooms of which the user is an admin.
_LIST_ADMINISTERED = """
    SELECT m.room_key, r.room_id FROM members AS m CROSS JOIN rooms AS r
    WHERE m.tenant_key = :tenant_key AND m.user_id = :user_id AND m.room_key > :after_key AND m.role = 'admin'
      AND r.room_key = m.room_key AND r.deleted_at_us IS NULL
    ORDER BY m.room_key LIMIT :limit
"""


async def load_bans(readers: Readers) -> list[tuple[TenantKey, UserId, str | None, int | None, bool]]:
    """Rows of (tenant_key, user_id, reason, until_us, whether the user's rooms may still lack an admin)."""
    return [(*row[:4], bool(row[4])) for row in await readers.fetch(_LOAD_BANS, {})]


async def put_ban(
    transaction: Transaction, tenant_key: TenantKey, user_id: UserId, reason: str | None, until_us: int | None
) -> None:
    """Bans of the tenant that have ended go."""
    await transaction.execute(_DELETE_ENDED, {"tenant_key": tenant_key, "now_us": transaction.now_us})
    scope = {"tenant_key": tenant_key, "user_id": user_id, "reason": reason, "until_us": until_us}
    await transaction.execute(_PUT_BAN, scope)


async def delete_ban(transaction: Transaction, tenant_key: TenantKey, user_id: UserId) -> None:
    """Does nothing if there is none."""
    await transaction.execute(_DELETE_BAN, {"tenant_key": tenant_key, "user_id": user_id})


async def note_heirs(transaction: Transaction, tenant_key: TenantKey, user_id: UserId) -> None:
    """Each room of which the user was the last admin has another one."""
    await transaction.execute(_NOTE_HEIRS, {"tenant_key": tenant_key, "user_id": user_id})


async def list_administered(
    readers: Readers, tenant_key: TenantKey, user_id: UserId, after_key: RoomKey, limit: int
) -> list[tuple[RoomKey, str]]:
    """The next rooms of which the user is an admin, by their keys."""
    scope = {"tenant_key": tenant_key, "user_id": user_id, "after_key": after_key, "limit": limit}
    return [(row[0], row[1]) for row in await readers.fetch(_LIST_ADMINISTERED, scope)]
