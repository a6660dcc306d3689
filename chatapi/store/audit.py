"""The audit: acts of operators and moderators. Entries are only added, and outlive their tenant."""

from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import Any

from chatapi.models import Actor, TenantState
from chatapi.protocol.json import dumps_text
from chatapi.store.background import CHUNK_ROWS
from chatapi.store.readers import Readers
from chatapi.store.transaction import SqliteConnection, Transaction

_INSERT = """
    INSERT INTO audit (at_us, kind, key_id, user_id, address, action, tenant_id, target, details)
    VALUES (:now_us, :kind, :key_id, :user_id, :address, :action, :tenant_id, :target, :details)
"""
_COLUMNS = "audit_key, at_us, kind, key_id, user_id, address, action, tenant_id, target, details"
_LIST = f"SELECT {_COLUMNS} FROM audit WHERE audit_key > :after_key ORDER BY audit_key LIMIT :limit"
_LIST_OF_TENANT = f"""
    SELECT {_COLUMNS} FROM audit WHERE tenant_id = :tenant_id AND audit_key > :after_key
    ORDER BY audit_key LIMIT :limit
"""
_LIST_OLDEST = "SELECT audit_key, at_us FROM audit WHERE audit_key > 0 ORDER BY audit_key LIMIT :limit"
_EXPIRE = "DELETE FROM audit WHERE audit_key <= :audit_key"

# Details of acts that take longer than their request: one entry for the beginning, another one for the end.
BEGUN = {"outcome": "begun"}
DONE = {"outcome": "done"}
GIVEN_UP = {"outcome": "given_up"}


async def record(
    transaction: Transaction,
    actor: Actor,
    action: str,
    tenant_id: str | None,
    target: str | None,
    details: Mapping[str, object] | None = None,
) -> None:
    """Writes an entry in the act's own transaction: either both are committed or neither. `action` is a name such as
    "key.revoke", `target` the id of what was acted upon. `details` hold neither contents nor secrets."""
    await transaction.execute(
        _INSERT,
        {
            "now_us": transaction.now_us,
            "kind": actor.kind,
            "key_id": actor.key_id,
            "user_id": actor.user_id,
            "address": actor.address,
            "action": action,
            "tenant_id": tenant_id,
            "target": target,
            "details": dumps_text(details) if details else None,
        },
    )


def list_changes(tenant: TenantState, name: str, config: dict[str, object]) -> list[str]:
    """The names of what changes, never the values: a webhook's URL may hold a secret."""
    keys = sorted(tenant.config.keys() | config.keys())
    changed = [f"config.{key}" for key in keys if tenant.config.get(key) != config.get(key)]
    return ["name", *changed] if name != tenant.name else changed


async def list_entries(
    readers: Readers, tenant_id: str | None, after_key: int, limit: int
) -> tuple[list[tuple[Any, ...]], bool]:
    """The entries after that one, the oldest first, and whether there are more: rows of (audit_key, at_us, kind,
    key_id, user_id, address, action, tenant_id, target, details). None stands for all tenants, and for acts on none."""
    scope = {"after_key": after_key, "limit": limit + 1}
    if tenant_id is None:
        rows = await readers.fetch(_LIST, scope)
    else:
        rows = await readers.fetch(_LIST_OF_TENANT, {**scope, "tenant_id": tenant_id})
    return rows[:limit], len(rows) > limit


def expire(before_us: int, connection: SqliteConnection, is_over: Callable[[], bool]) -> bool:
    """One step of removing entries from before that time; whether there may be more to do. An entry goes once all
    before it have gone."""
    while rows := connection.execute(_LIST_OLDEST, {"limit": CHUNK_ROWS}).fetchall():
        old = [key for key, _ in takewhile(lambda row: row[1] < before_us, rows)]
        if not old:
            return False
        connection.execute(_EXPIRE, {"audit_key": old[-1]})
        if is_over():
            return True
    return False
