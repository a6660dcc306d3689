"""Tenants and their API keys in SQL. Keys are stored as SHA-256 only."""

from collections.abc import Mapping, Sequence
from typing import Any

from chatapi.config import Config, parse_tenant_config, resolve_settings
from chatapi.models import KeyId, ReplacedSecret, TenantId, TenantKey, TenantState
from chatapi.protocol.json import dumps_text, loads_stored
from chatapi.protocol.pages import Page, Value, Window
from chatapi.store.readers import Readers
from chatapi.store.transaction import Transaction

Row = tuple[Any, ...]

_LOAD_TENANTS = """
    SELECT tenant_key, tenant_id, name, config, token_secret, webhook_secret, replaced_webhook_secrets, created_at_us,
        epoch
    FROM tenants WHERE deleted_at_us IS NULL ORDER BY tenant_key
"""
_LOAD_KEYS = """
    SELECT k.key_hash, k.key_id, k.tenant_key FROM api_keys AS k
    JOIN tenants AS t ON t.tenant_key = k.tenant_key WHERE t.deleted_at_us IS NULL
"""
_INSERT_TENANT = """
    INSERT INTO tenants (tenant_id, name, config, token_secret, webhook_secret, created_at_us, epoch)
    VALUES (:tenant_id, :name, :config, :token_secret, :webhook_secret, :now_us, :epoch)
    RETURNING tenant_key
"""
_UPDATE_TENANT = """
    UPDATE tenants SET name = :name, config = :config, webhook_secret = :webhook_secret WHERE tenant_key = :tenant_key
"""
_UPDATE_TOKEN_SECRET = "UPDATE tenants SET token_secret = :token_secret WHERE tenant_key = :tenant_key"
_UPDATE_WEBHOOK_SECRET = """
    UPDATE tenants SET webhook_secret = :webhook_secret, replaced_webhook_secrets = :replaced
    WHERE tenant_key = :tenant_key
"""
_MARK_DELETED = "UPDATE tenants SET deleted_at_us = :now_us WHERE tenant_key = :tenant_key"
_INSERT_KEY = """
    INSERT INTO api_keys (key_id, tenant_key, key_hash, shown_key, created_at_us)
    VALUES (:key_id, :tenant_key, :key_hash, :shown_key, :now_us)
"""
_DELETE_KEY = "DELETE FROM api_keys WHERE tenant_key = :tenant_key AND key_id = :key_id RETURNING key_hash"
_LIST_KEYS = """
    SELECT k.created_at_us, k.key_id, CAST(json_object('key_id', k.key_id,
        'created_at', strftime('%Y-%m-%dT%H:%M:%S', k.created_at_us / 1000000, 'unixepoch')
            || printf('.%06dZ', k.created_at_us % 1000000),
        'last_used_at', iif(k.last_used_at_us IS NULL, NULL,
            strftime('%Y-%m-%dT%H:%M:%S', k.last_used_at_us / 1000000, 'unixepoch')
                || printf('.%06dZ', k.last_used_at_us % 1000000))) AS BLOB)
    FROM api_keys AS k
    WHERE k.tenant_key = :tenant_key AND (k.created_at_us, k.key_id) > (:created_at_us, :key_id)
    ORDER BY k.created_at_us, k.key_id LIMIT :limit + 1 OFFSET :offset
"""
KEYS_START: Mapping[str, Value] = {"created_at_us": -1, "key_id": ""}
_FIND_SHOWN_KEY = """
    SELECT shown_key FROM api_keys WHERE tenant_key = :tenant_key AND shown_key IS NOT NULL
"""
_TOUCH_KEYS = """
    UPDATE api_keys SET last_used_at_us = w.value ->> 1 FROM json_each(:used) AS w WHERE key_id = w.value ->> 0
"""


async def load_tenants(readers: Readers, server: Config) -> list[TenantState]:
    """Their settings are put in force over the server's."""
    return [_read_tenant(row, server) for row in await readers.fetch(_LOAD_TENANTS, {})]


def _read_tenant(row: Row, server: Config) -> TenantState:
    config = loads_stored(row[3])
    return TenantState(
        tenant_key=TenantKey(row[0]),
        tenant_id=TenantId(row[1]),
        name=row[2],
        config=config,
        settings=resolve_settings(parse_tenant_config(config), server),
        token_secret=row[4],
        webhook_secret=row[5],
        replaced_webhook_secrets=[ReplacedSecret(*item) for item in loads_stored(row[6])],
        created_at_us=row[7],
        epoch=row[8],
    )


async def load_keys(readers: Readers) -> list[tuple[bytes, KeyId, TenantKey]]:
    """The SHA-256, the id and the tenant of every key."""
    return [(row[0], KeyId(row[1]), TenantKey(row[2])) for row in await readers.fetch(_LOAD_KEYS, {})]


async def insert_tenant(
    transaction: Transaction,
    tenant_id: TenantId,
    name: str,
    config: dict[str, object],
    token_secret: str,
    webhook_secret: str | None,
    epoch: str,
) -> TenantKey:
    row = await transaction.fetch_one(
        _INSERT_TENANT,
        {
            "tenant_id": tenant_id,
            "name": name,
            "config": dumps_text(config),
            "token_secret": token_secret,
            "webhook_secret": webhook_secret,
            "now_us": transaction.now_us,
            "epoch": epoch,
        },
    )
    assert row is not None  # RETURNING
    return TenantKey(row[0])


async def update_tenant(
    transaction: Transaction, tenant_key: TenantKey, name: str, config: dict[str, object], webhook_secret: str | None
) -> None:
    await transaction.execute(
        _UPDATE_TENANT,
        {"tenant_key": tenant_key, "name": name, "config": dumps_text(config), "webhook_secret": webhook_secret},
    )


async def update_token_secret(transaction: Transaction, tenant_key: TenantKey, token_secret: str) -> None:
    await transaction.execute(_UPDATE_TOKEN_SECRET, {"tenant_key": tenant_key, "token_secret": token_secret})


async def update_webhook_secret(
    transaction: Transaction, tenant_key: TenantKey, webhook_secret: str, replaced: Sequence[ReplacedSecret]
) -> None:
    """`replaced` are all that sign along."""
    await transaction.execute(
        _UPDATE_WEBHOOK_SECRET,
        {
            "tenant_key": tenant_key,
            "webhook_secret": webhook_secret,
            "replaced": dumps_text([tuple(found) for found in replaced]),
        },
    )


async def mark_tenant_deleted(transaction: Transaction, tenant_key: TenantKey) -> None:
    """Gone for everybody from this commit on; `store.purge` removes the rows afterwards, its rooms and keys among
    them."""
    await transaction.execute(_MARK_DELETED, {"tenant_key": tenant_key, "now_us": transaction.now_us})


async def insert_key(
    transaction: Transaction, tenant_key: TenantKey, key_id: KeyId, key_hash: bytes, shown_key: str | None
) -> None:
    """`shown_key` is the key itself, which only the tenant of `serve --dev` has stored."""
    await transaction.execute(
        _INSERT_KEY,
        {
            "tenant_key": tenant_key,
            "key_id": key_id,
            "key_hash": key_hash,
            "shown_key": shown_key,
            "now_us": transaction.now_us,
        },
    )


async def delete_key(transaction: Transaction, tenant_key: TenantKey, key_id: str) -> bytes | None:
    """The hash of the key that is gone, or None when the tenant has no such key."""
    row = await transaction.fetch_one(_DELETE_KEY, {"tenant_key": tenant_key, "key_id": key_id})
    return None if row is None else bytes(row[0])


async def list_keys(readers: Readers, tenant_key: TenantKey, window: Window) -> Page:
    """The tenant's keys without any secret, the oldest first."""
    return await readers.fetch_list(_LIST_KEYS, {"tenant_key": tenant_key}, window, KEYS_START)


async def find_shown_key(readers: Readers, tenant_key: TenantKey) -> str | None:
    """The key that was stored in full, if the tenant has one that was not revoked."""
    row = await readers.fetch_one(_FIND_SHOWN_KEY, {"tenant_key": tenant_key})
    return None if row is None else row[0]


async def touch_keys(transaction: Transaction, used: dict[KeyId, int]) -> None:
    """Notes when each key was last used, in microseconds."""
    await transaction.execute(_TOUCH_KEYS, {"used": dumps_text(list(used.items()))})
