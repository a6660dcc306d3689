"""Tenants and their keys."""

from chatapi.protocol.json import dumps_text
from chatapi.store.epochs import make_epoch
from chatapi.store.go.run import BAD_ID, DELETED, NO_TENANT, Run
from chatapi.store.go.values import clean_text, is_public_id, parse_key_hash, split_config

_OLD_TENANTS = """
    SELECT tenant_id, api_key, api_key_hash, name, config, go_time(created_at) FROM old_tenants ORDER BY 6, 1
"""
_FIND_TENANT = "SELECT tenant_key, deleted_at_us IS NOT NULL FROM main.tenants WHERE tenant_id = :tenant_id"
_INSERT_TENANT = """
    INSERT INTO main.tenants (tenant_id, name, config, token_secret, created_at_us, epoch)
    VALUES (:tenant_id, :name, :config, :token_secret, :created_at_us, :epoch)
    RETURNING tenant_key
"""
_INSERT_KEY = """
    INSERT INTO main.api_keys (key_id, tenant_key, key_hash, created_at_us)
    VALUES (:key_id, :tenant_key, :key_hash, :created_at_us)
    ON CONFLICT (key_hash) DO NOTHING
"""
_MAP_TENANT = "INSERT INTO tenant_map (tenant_id, tenant_key, is_new) VALUES (:tenant_id, :tenant_key, :is_new)"


def take_tenants(run: Run) -> None:
    for row in run.connection.execute(_OLD_TENANTS).fetchall():
        tenant_id, api_key, api_key_hash, name, config, created_at_us = row
        created_at_us = created_at_us or run.now_us
        known = run.connection.execute(_FIND_TENANT, {"tenant_id": tenant_id}).fetchone()
        if not is_public_id(tenant_id):
            run.report.skip("tenants", BAD_ID)
            run.report.skip("API keys", NO_TENANT)
        elif known is None:
            tenant_key = _insert_tenant(run, tenant_id, name, config, created_at_us)
            _insert_key(run, tenant_key, api_key, api_key_hash, created_at_us)
            _map_tenant(run, tenant_id, tenant_key, is_new=True)
        elif known[1]:
            run.report.skip("tenants", DELETED)
            run.report.skip("API keys", NO_TENANT)
        else:
            _map_tenant(run, tenant_id, known[0], is_new=False)


def _map_tenant(run: Run, tenant_id: str, tenant_key: int, *, is_new: bool) -> None:
    row = {"tenant_id": tenant_id, "tenant_key": tenant_key, "is_new": is_new}
    run.connection.execute(_MAP_TENANT, row)


def _insert_tenant(run: Run, tenant_id: str, name: object, config: object, created_at_us: int) -> int:
    kept, dropped = split_config(config)
    for key in dropped:
        run.report.remark("tenants", f"without the setting {key}: it has to be set again, if it exists here")
    row = {
        "tenant_id": tenant_id,
        "name": clean_text(name) or tenant_id,
        "config": dumps_text(kept),
        "token_secret": run.credentials.make_token_secret(),
        "created_at_us": created_at_us,
        "epoch": make_epoch(),
    }
    run.report.counts["tenants"].imported += 1
    return int(run.connection.execute(_INSERT_TENANT, row).fetchone()[0])


def _insert_key(run: Run, tenant_key: int, api_key: str | None, api_key_hash: object, created_at_us: int) -> None:
    key_hash = run.credentials.hash_key(api_key) if api_key else parse_key_hash(api_key_hash)
    if key_hash is None:
        run.report.skip("API keys", "neither a key nor a SHA-256; the tenant needs a new one")
        return
    row = {
        "key_id": run.credentials.make_key_id(),
        "tenant_key": tenant_key,
        "key_hash": key_hash,
        "created_at_us": created_at_us,
    }
    if run.connection.execute(_INSERT_KEY, row).rowcount:
        run.report.counts["API keys"].imported += 1
    else:
        run.report.skip("API keys", "another tenant has the same one; the tenant needs a new one")
