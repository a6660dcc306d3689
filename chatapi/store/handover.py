"""The durable writes of a move (docs/design.md, section 13): which server may serve a tenant."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chatapi.errors import not_found
from chatapi.models import SERVER_ACTOR, TenantId, TenantKey
from chatapi.protocol.json import dumps_text, loads_stored
from chatapi.store import audit, moves
from chatapi.store.keys import KEY_EPOCH_US
from chatapi.store.readers import Readers
from chatapi.store.tenant_tables import API_KEYS, TENANT_KEY
from chatapi.store.transaction import SqliteConnection, Transaction

_GET_SERVER = "SELECT value FROM meta WHERE name = 'server'"
_GET_VERSION = "SELECT user_version FROM pragma_user_version"

_LOAD_DEPARTURES = "SELECT own_key, url, arrival_id, secret FROM departures"
_INSERT_DEPARTURE = """
    INSERT INTO departures (own_key, url, arrival_id, secret, moved_at_us)
    VALUES (:tenant_key, :url, :arrival_id, :secret, :now_us)
"""
_CONFIRM_DEPARTURE = "UPDATE departures SET own_key = :new_key, secret = NULL WHERE own_key = :tenant_key"
_TAKE_NAME = """
    UPDATE tenants SET tenant_id = '~' || tenant_id || '~' || tenant_key, deleted_at_us = :now_us
    WHERE tenant_key = :tenant_key
"""
_MOVE_KEYS = "UPDATE api_keys SET tenant_key = :new_key WHERE tenant_key = :tenant_key"

_LIST_LEFT_OVER = """
    SELECT tenant_key FROM tenants WHERE deleted_at_us IS NOT NULL
    AND (tenant_id = :tenant_id OR substr(tenant_id, 1, length(:tenant_id) + 2) = '~' || :tenant_id || '~')
"""
_FIND_HIDDEN = "SELECT arrival_id, source FROM arrivals WHERE tenant_id = :tenant_id AND live_at_us IS NULL"
_INSERT_HIDDEN = """
    INSERT INTO tenants (tenant_id, name, token_secret, created_at_us, epoch, deleted_at_us)
    VALUES ('~' || :tenant_id || '~' || :arrival_id, '', '', :now_us, 'arriving', :now_us) RETURNING tenant_key
"""
_INSERT_ARRIVAL = """
    INSERT INTO arrivals (arrival_id, tenant_id, own_key, source, secret_hash)
    VALUES (:arrival_id, :tenant_id, :tenant_key, :source, :secret_hash)
"""
_FIND_ARRIVAL = """
    SELECT tenant_id, own_key, secret_hash, sealed, live_at_us FROM arrivals WHERE arrival_id = :arrival_id
"""
_SEAL = "UPDATE arrivals SET sealed = :sealed WHERE arrival_id = :arrival_id AND live_at_us IS NULL"
_SET_LIVE = "UPDATE arrivals SET sealed = NULL, live_at_us = :now_us WHERE arrival_id = :arrival_id"
_DELETE_ARRIVAL = "DELETE FROM arrivals WHERE arrival_id = :arrival_id"
_LAST_ACTIVITY = f"""
    SELECT coalesce(max(max(r.created_at_us,
        coalesce((SELECT (message_key >> 12) + {KEY_EPOCH_US} FROM messages
            WHERE room_key = r.room_key ORDER BY seq DESC LIMIT 1), 0),
        coalesce((SELECT created_at_us FROM changes WHERE room_key = r.room_key ORDER BY seq DESC LIMIT 1), 0))), 0)
    FROM rooms AS r WHERE r.tenant_key = :tenant_key AND r.deleted_at_us IS NULL
"""
_LIST_UNSEALED = "SELECT arrival_id, tenant_id FROM arrivals WHERE sealed IS NULL AND live_at_us IS NULL"
_FIND_NAMED = "SELECT tenant_key FROM tenants WHERE tenant_id = :tenant_id"

_KEY_COLUMNS = tuple(column for column in API_KEYS.columns if column != TENANT_KEY)
_AS_TEXT = {"key_hash": "hex(key_hash)"}  # JSON has no bytes


class Departure(NamedTuple):
    """A tenant that has moved. `secret` is None once the other server has confirmed."""

    tenant_key: TenantKey
    url: str
    arrival_id: str
    secret: str | None


class StoredArrival(NamedTuple):
    tenant_id: TenantId
    tenant_key: TenantKey
    secret_hash: bytes
    sealed: str | None
    live_at_us: int | None


class HiddenArrival(NamedTuple):
    arrival_id: str
    source: str


async def read_clock(transaction: Transaction) -> int:
    """In microseconds since the Unix epoch."""
    return transaction.now_us


async def find_last_activity(readers: Readers, tenant_key: TenantKey) -> int:
    """When something last happened in a room of the tenant, in microseconds since the Unix epoch; 0 for never."""
    row = await readers.fetch_one(_LAST_ACTIVITY, {"tenant_key": tenant_key})
    assert row is not None  # an aggregate has one row
    return int(row[0])


async def get_server(readers: Readers) -> str:
    """The id of this server: of its database."""
    row = await readers.fetch_one(_GET_SERVER, {})
    assert row is not None  # a migration wrote it
    return str(row[0])


async def get_version(readers: Readers) -> int:
    """Of the schema."""
    row = await readers.fetch_one(_GET_VERSION, {})
    assert row is not None  # every database has one
    return int(row[0])


# The source


async def load_departures(readers: Readers) -> list[Departure]:
    return [Departure(*row) for row in await readers.fetch(_LOAD_DEPARTURES, {})]


async def insert_departure(transaction: Transaction, departure: Departure) -> None:
    """S1. From its commit on this server does not serve the tenant."""
    await transaction.execute(_INSERT_DEPARTURE, {**departure._asdict(), "now_us": transaction.now_us})


async def confirm_departure(transaction: Transaction, tenant_key: TenantKey) -> TenantKey:
    """S2. The purge gets the tenant's rows; its own row and its keys stay, under the key that is returned."""
    await transaction.run(lambda connection: moves.drop_guard(connection, tenant_key))
    copied = ", ".join(
        column for column in await _list_columns(transaction) if column not in ("tenant_key", "tenant_id")
    )
    scope = {"tenant_key": tenant_key, "now_us": transaction.now_us}
    row = await transaction.fetch_one("SELECT tenant_id FROM tenants WHERE tenant_key = :tenant_key", scope)
    assert row is not None  # a departure has a tenant
    await transaction.execute(_TAKE_NAME, scope)
    rows = await transaction.fetch(
        f"INSERT INTO tenants (tenant_id, {copied}) SELECT :tenant_id, {copied} FROM tenants"
        " WHERE tenant_key = :tenant_key RETURNING tenant_key",
        {**scope, "tenant_id": row[0]},
    )
    new = {"tenant_key": tenant_key, "new_key": rows[0][0]}
    await transaction.execute("UPDATE tenants SET deleted_at_us = NULL WHERE tenant_key = :new_key", new)
    await transaction.execute(_MOVE_KEYS, new)
    await transaction.execute(_CONFIRM_DEPARTURE, new)
    return TenantKey(rows[0][0])


def read_identity(connection: SqliteConnection, tenant_key: TenantKey) -> dict[str, object]:
    """The tenant's own row and its keys, as JSON has them. Raises ChatError for one that is deleted."""
    cursor = connection.execute("SELECT * FROM tenants WHERE tenant_key = ?", (tenant_key,))
    row = dict(zip((column[0] for column in cursor.description), cursor.fetchone() or (), strict=False))
    if row.get("deleted_at_us", 0) is not None:
        raise not_found("Tenant")
    del row["tenant_key"], row["tenant_id"]
    columns = ", ".join(_AS_TEXT.get(column, column) for column in _KEY_COLUMNS)
    keys = connection.execute(f"SELECT {columns} FROM api_keys WHERE tenant_key = ?", (tenant_key,))
    return {"tenant": row, "keys": [dict(zip(_KEY_COLUMNS, key, strict=True)) for key in keys]}


# The target


async def find_hidden(transaction: Transaction, tenant_id: str) -> HiddenArrival | None:
    row = await transaction.fetch_one(_FIND_HIDDEN, {"tenant_id": tenant_id})
    return None if row is None else HiddenArrival(*row)


async def list_left_over(transaction: Transaction, tenant_id: str) -> list[TenantKey]:
    """The hidden tenants with rows of earlier stays of this tenant, which the purge has not come to yet. The ids of
    what arrives are those of such rows."""
    return [TenantKey(key) for (key,) in await transaction.fetch(_LIST_LEFT_OVER, {"tenant_id": tenant_id})]


async def insert_arrival(
    transaction: Transaction, arrival_id: str, tenant_id: str, source: str, secret_hash: bytes
) -> TenantKey:
    """T1. The key of the hidden tenant."""
    values = {
        "arrival_id": arrival_id,
        "tenant_id": tenant_id,
        "source": source,
        "secret_hash": secret_hash,
        "now_us": transaction.now_us,
    }
    rows = await transaction.fetch(_INSERT_HIDDEN, values)
    await transaction.execute(_INSERT_ARRIVAL, {**values, "tenant_key": rows[0][0]})
    return TenantKey(rows[0][0])


async def find_arrival(source: Readers | Transaction, arrival_id: str) -> StoredArrival | None:
    row = await source.fetch_one(_FIND_ARRIVAL, {"arrival_id": arrival_id})
    return None if row is None else StoredArrival(*row)


async def discard_arrival(transaction: Transaction, arrival_id: str, tenant_id: str) -> None:
    """The purge gets its rows, and the audit an entry."""
    await transaction.execute(_DELETE_ARRIVAL, {"arrival_id": arrival_id})
    await audit.record(transaction, SERVER_ACTOR, "tenant.arrive", tenant_id, tenant_id, audit.GIVEN_UP)


async def discard_unsealed(transaction: Transaction) -> int:
    """Those that a stop of this server has broken off; returns how many there were."""
    found = await transaction.fetch(_LIST_UNSEALED, {})
    for arrival_id, tenant_id in found:
        await discard_arrival(transaction, arrival_id, tenant_id)
    return len(found)


async def seal(transaction: Transaction, arrival_id: str, identity: dict[str, object]) -> None:
    """T2. From its commit on the arrival is kept until its source has decided."""
    await transaction.execute(_SEAL, {"arrival_id": arrival_id, "sealed": dumps_text(identity)})


async def set_live(transaction: Transaction, arrival_id: str, arrival: StoredArrival) -> None:
    """T3. From its commit on this server serves the tenant. A tenant of that name that has moved away before, and its
    keys, make room for it."""
    assert arrival.sealed is not None
    identity = loads_stored(arrival.sealed)
    before = await transaction.fetch_one(_FIND_NAMED, {"tenant_id": arrival.tenant_id})
    if before is not None:
        scope = {"tenant_key": before[0], "now_us": transaction.now_us}
        await transaction.execute("DELETE FROM api_keys WHERE tenant_key = :tenant_key", scope)
        await transaction.execute("DELETE FROM departures WHERE own_key = :tenant_key", scope)
        await transaction.execute(_TAKE_NAME, scope)
    columns = [column for column in await _list_columns(transaction) if column in identity["tenant"]]
    sets = ", ".join(f"{column} = :{column}" for column in columns)
    await transaction.execute(
        f"UPDATE tenants SET tenant_id = :tenant_id, {sets} WHERE tenant_key = :tenant_key",
        {**identity["tenant"], "tenant_id": arrival.tenant_id, "tenant_key": arrival.tenant_key},
    )
    await _insert_keys(transaction, arrival.tenant_key, identity["keys"])
    await transaction.execute(_SET_LIVE, {"arrival_id": arrival_id, "now_us": transaction.now_us})


async def _insert_keys(transaction: Transaction, tenant_key: TenantKey, keys: Sequence[Mapping[str, object]]) -> None:
    marks = ", ".join(f":{column}" for column in _KEY_COLUMNS)
    insert = f"INSERT INTO api_keys (tenant_key, {', '.join(_KEY_COLUMNS)}) VALUES (:tenant_key, {marks})"
    for key in keys:
        values = {**key, "key_hash": bytes.fromhex(str(key["key_hash"])), "tenant_key": tenant_key}
        await transaction.execute(insert, values)


async def check_keys(transaction: Transaction, tenant_id: str, keys: Sequence[Mapping[str, object]]) -> bool:
    """Whether none of these keys is another tenant's here."""
    for key in keys:
        found = await transaction.fetch_one(
            "SELECT 1 FROM api_keys AS k JOIN tenants AS t ON t.tenant_key = k.tenant_key"
            " WHERE (k.key_id = :key_id OR k.key_hash = :key_hash) AND t.tenant_id <> :tenant_id",
            {**key, "key_hash": bytes.fromhex(str(key["key_hash"])), "tenant_id": tenant_id},
        )
        if found is not None:
            return False
    return True


async def find_last_key(transaction: Transaction, tenant_key: TenantKey) -> int:
    """The greatest time-ordered key among the rows of the tenant: new ones have to be greater."""
    row = await transaction.fetch_one(
        """
        SELECT max(
            coalesce((SELECT max(m.message_key) FROM rooms AS r CROSS JOIN messages AS m
                      WHERE r.tenant_key = :tenant_key AND m.room_key = r.room_key
                      AND m.seq = (SELECT max(seq) FROM messages WHERE room_key = r.room_key)), 0),
            coalesce((SELECT max(notification_key) FROM notifications WHERE tenant_key = :tenant_key), 0))
        """,
        {"tenant_key": tenant_key},
    )
    assert row is not None  # an aggregate has one row
    return int(row[0])


async def _list_columns(transaction: Transaction) -> list[str]:
    return [name for (name,) in await transaction.fetch("SELECT name FROM pragma_table_info('tenants')", {})]
