"""A tenant's own database, as an export makes it, taken into the live one.

The file may come from anybody: nothing in it is believed before it has been judged. Its schema must be, word for word,
the one that its version of ChatAPI makes, so that it brings no trigger, view or column of its own; SQLite's integrity
check and our own must find nothing; and values have the bounds that other statements rely on. Older schemas are
migrated in the file, which is a copy of ours.

The tenant's rows are inserted in short steps (`store/background.py`). Until the last one the tenant counts as deleted:
nobody sees it, and after a crash the next start purges what has come.
"""

import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice

from chatapi.errors import conflict
from chatapi.models import KeyId, TenantKey
from chatapi.store.check import check_database
from chatapi.store.keys import find_key_time
from chatapi.store.migrate import list_migrations
from chatapi.store.search_index import add_among_older
from chatapi.store.standalone import SQLITE_ERRORS, UnusableDatabase, find_objection, one_line
from chatapi.store.tenant_tables import (
    API_KEYS,
    MESSAGES,
    ROOM_KEY,
    ROOMS,
    TENANT_KEY,
    TENANT_TABLES,
    TENANTS,
    TenantTable,
    list_rows,
)
from chatapi.store.transaction import Row, SqliteConnection, Transaction

BATCH_ROWS, BATCH_CHARACTERS = 1_024, 1024 * 1024  # read at once
STATEMENT_ROWS = 64  # inserted at once, about a millisecond: after each a step may end
STEP_CHARACTERS = 64 * 1024  # of messages, in a step: search takes in about 10 MB/s
# Messages are stored by their keys, and found by their rooms. Among so many that follow one another by key those of a
# room go in together: so a step changes few pages of either.
WINDOW_ROWS = 16_384
MAX_FINDINGS = 3  # told of a damaged file
CLOCK_AHEAD_US = 24 * 3600 * 1_000_000  # that another server's clock may be ahead of ours

_LATEST_US = 253_402_300_799_999_999  # the end of the year 9999
_LAST_KEY = 2**63 - 1
_LARGEST = 2**53  # up to which clients in JavaScript count exactly

# Search makes these tables for itself, and versions of SQLite word them differently.
_MADE_BY_SEARCH = frozenset(
    (
        "search_index",
        *(f"search_index_{part}" for part in ("data", "idx", "content", "docsize", "config")),
        "search_vocabulary",
        "search_entries",
    )
)
_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"

# Of a value, so that a file that somebody has made up takes no more memory than any other. Lists of users have their
# bound in `MAX_VALUE_BYTES`; all others are far below one of these.
MAX_VALUE_BYTES = 16 * 1024 * 1024
_MAX_CHARACTERS = 1024 * 1024
_MAX_BYTES = {"content": 131_072, "text": 131_072, "meta": 65_536, "metadata": 65_536, "payload": 131_072}
_LISTS = ("user_ids", "excluded", "mentioned")
_NUMBERS = ("_us", "_key", "seq", "_digest")

_USER_IDS = ("user_id", "sender_id", "blocked_id")
_COUNTS = ("last_ack", "last_read", "ordinal", "deliveries", "attempts", "step", "last_index", "slow_mode_seconds")
_TIMED_KEYS = ("message_key", "notification_key", "subscription_key", "report_key", "event_key")

_NUMBER_ROOMS = """
    CREATE TEMP TABLE room_numbers AS
    SELECT room_key, row_number() OVER (ORDER BY room_key) AS number FROM rooms
    WHERE tenant_key = :tenant_key AND deleted_at_us IS NULL
"""
_INDEX_ROOMS = "CREATE UNIQUE INDEX temp.room_numbers_key ON room_numbers (room_key)"
_LIST_TENANTS = """
    SELECT tenant_key, tenant_id, name, config, token_secret, webhook_secret, replaced_webhook_secrets, created_at_us,
        epoch
    FROM tenants WHERE deleted_at_us IS NULL LIMIT 2
"""
_LIST_BANS = "SELECT user_id, reason, until_us, heirs_due FROM user_bans WHERE tenant_key = :tenant_key"

_FIND_WINDOW = """
    SELECT message_key FROM messages WHERE message_key > :after_key ORDER BY message_key LIMIT 1 OFFSET :offset
"""
_IN_WINDOW = """
    FROM messages AS x CROSS JOIN temp.room_numbers AS n ON n.room_key = x.room_key
    WHERE x.message_key > :after_key AND x.message_key <= :to_key ORDER BY x.room_key, x.seq
"""

_INSERT_HIDDEN = """
    INSERT INTO tenants (tenant_id, name, config, token_secret, webhook_secret, replaced_webhook_secrets, created_at_us,
        epoch, deleted_at_us)
    VALUES (:hidden_id, :name, :config, :token_secret, :webhook_secret, :replaced, :created_at_us, :epoch, :now_us)
    RETURNING tenant_key
"""
_LAST_ROOM = "SELECT coalesce(max(room_key), 0) FROM rooms"
_REVEAL = """
    UPDATE tenants SET tenant_id = :tenant_id, epoch = :epoch, deleted_at_us = NULL WHERE tenant_key = :tenant_key
"""


class BadExport(Exception):
    """The file cannot be imported; the message says why."""


@dataclass(frozen=True, slots=True)
class StagedTenant:
    """A file that was judged. All of its methods block."""

    connection: sqlite3.Connection
    tenant: Row  # as `_LIST_TENANTS` has it
    rooms: int
    last_key: int
    api_keys: Sequence[Row]
    bans: Sequence[Row]

    @property
    def tenant_id(self) -> str:
        return str(self.tenant[1])

    @property
    def hashes(self) -> dict[KeyId, bytes]:
        return {KeyId(row[0]): row[2] for row in self.api_keys}

    def read_rows(self, table: TenantTable, tenant_key: TenantKey, base: int) -> Iterator[list[Row]]:
        """Batches of the table's rows, with the keys that they have in the live database: the tenant's, and `base` and
        the room's number for a room's."""
        columns = ", ".join(_READ_AS.get(column, f"x.{column}") for column in table.columns)
        scope = {"tenant_key": self.tenant[0], "target_key": tenant_key, "base": base}
        if table is MESSAGES:
            for after, to_key in self._list_windows():
                window = {**scope, "after_key": after, "to_key": to_key}
                yield from _read_batches(self.connection.execute(f"SELECT {columns} {_IN_WINDOW}", window))
            return
        # The greatest key of a room comes first: it keeps those of rooms that are made meanwhile above all of these.
        order = " ORDER BY x.room_key DESC" if table is ROOMS else ""
        yield from _read_batches(self.connection.execute(f"SELECT {columns} {list_rows(table)}{order}", scope))

    def _list_windows(self) -> Iterator[tuple[int, int]]:
        """Between which keys their messages are: those after the first one, up to the last one."""
        after: int | None = -1
        while after is not None:
            found = self.connection.execute(_FIND_WINDOW, {"after_key": after, "offset": WINDOW_ROWS - 1}).fetchone()
            yield after, found[0] if found else _LAST_KEY
            after = found[0] if found else None

    def close(self) -> None:
        self.connection.close()


def _read_batches(cursor: sqlite3.Cursor) -> Iterator[list[Row]]:
    batch: list[Row] = []
    characters = 0
    while some := cursor.fetchmany(STATEMENT_ROWS):
        batch += some
        characters += sum(len(value) for row in some for value in row if isinstance(value, str))
        if len(batch) >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


_READ_AS = {
    TENANT_KEY: ":target_key",
    ROOM_KEY: "(SELECT :base + n.number FROM temp.room_numbers AS n WHERE n.room_key = x.room_key)",
}


_CONTENT = MESSAGES.columns.index("content")
COPIED_TABLES = tuple(table for table in TENANT_TABLES if table not in (TENANTS, API_KEYS))
"""All but the tenant's own row, which is the first to come, and its keys, which are the last."""


def stage_tenant(path: str, now_us: int) -> StagedTenant:
    """Judges the file, and migrates it. Blocks. Raises BadExport."""
    try:
        if objection := find_objection(path):
            raise BadExport(objection)
        _migrate(path)
        if findings := check_database(path, with_index=False, max_value_bytes=MAX_VALUE_BYTES).findings:
            raise BadExport(f"damaged: {'; '.join(findings[:MAX_FINDINGS])}")
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        try:
            return _read_tenant(connection, now_us)
        except BaseException:
            connection.close()
            raise
    except UnusableDatabase as error:
        raise BadExport(str(error)) from error
    except SQLITE_ERRORS as error:
        raise BadExport(one_line(error)) from error


def _migrate(path: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = OFF")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if not version:
            raise BadExport("not a ChatAPI database")
        if _read_schema(connection) != _make_schema(version):
            raise BadExport("its tables are not those of a ChatAPI database")
        for _, script in list_migrations()[version:]:
            connection.executescript(script)


def _make_schema(version: int) -> set[tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for _, script in list_migrations()[:version]:
            connection.executescript(script)
        return _read_schema(connection)


def _read_schema(connection: sqlite3.Connection) -> set[tuple[str, ...]]:
    return {
        (*row[:3], one_line(row[3]))
        for row in connection.execute(_SCHEMA)
        if row[0] != "table" or row[1] not in _MADE_BY_SEARCH
    }


def _read_tenant(connection: sqlite3.Connection, now_us: int) -> StagedTenant:
    tenants = connection.execute(_LIST_TENANTS).fetchall()
    if len(tenants) != 1:
        raise BadExport("holds more than one tenant" if tenants else "holds no tenant")
    for table in TENANT_TABLES:
        _check_values(connection, table)
    scope = {"tenant_key": tenants[0][0]}
    last_key = max(_find_last_key(connection, table) for table in COPIED_TABLES)
    if find_key_time(last_key) > now_us + CLOCK_AHEAD_US:
        raise BadExport("has ids from the future: the clock of the server that made it, or of this one, is wrong")
    connection.execute(_NUMBER_ROOMS, scope)
    connection.execute(_INDEX_ROOMS)
    (rooms,) = connection.execute("SELECT count(*) FROM temp.room_numbers").fetchone()
    keys = f"SELECT {', '.join(API_KEYS.columns)} {list_rows(API_KEYS)}"
    return StagedTenant(
        connection,
        tenants[0],
        rooms,
        last_key,
        connection.execute(keys, scope).fetchall(),
        connection.execute(_LIST_BANS, scope).fetchall(),
    )


def _find_last_key(connection: sqlite3.Connection, table: TenantTable) -> int:
    if table.order[0] not in _TIMED_KEYS:
        return 0
    first, last = connection.execute(
        f"SELECT coalesce(min({table.order[0]}), 0), coalesce(max({table.order[0]}), 0) FROM {table.name}"
    ).fetchone()
    if first < 0:
        raise BadExport(f"{table.name}: {table.order[0]} is out of bounds")
    return int(last)


def _check_values(connection: sqlite3.Connection, table: TenantTable) -> None:
    """STRICT tables have values of the right type, or none."""
    bad = {column: f"{column} IS NOT NULL AND NOT json_valid({column})" for column in table.json}
    for column in table.columns:
        if column.endswith("_us"):
            bad[column] = f"{column} NOT BETWEEN 0 AND {_LATEST_US}"
        elif column.endswith("seq") or column in _COUNTS:
            bad[column] = f"{column} NOT BETWEEN 0 AND {_LARGEST}"
        elif column in _USER_IDS:
            bad[column] = f"length({column}) > 128 OR {column} GLOB '*[^!-~]*'"
        elif column.endswith("_id"):
            bad[column] = f"length({column}) NOT BETWEEN 1 AND 256 OR instr({column}, char(0))"
        elif column in _MAX_BYTES:
            is_wrong = f"{bad[column]} OR " if column in bad else ""
            bad[column] = f"{is_wrong}length(CAST({column} AS BLOB)) > {_MAX_BYTES[column]}"
        elif not column.endswith(_NUMBERS) and column not in _LISTS:
            is_wrong = f"{bad[column]} OR " if column in bad else ""
            bad[column] = f"{is_wrong}length({column}) > {_MAX_CHARACTERS}"
    if not bad:
        return
    named = " ".join(f"WHEN {condition} THEN '{column}'" for column, condition in bad.items())
    row = connection.execute(
        f"SELECT CASE {named} END FROM {table.name} WHERE {' OR '.join(bad.values())} LIMIT 1"
    ).fetchone()
    if row is not None:
        raise BadExport(f"{table.name}: {row[0]} is out of bounds")


# In the live database


def begin(
    staged: StagedTenant, suffix: str, epoch: str, now_us: int, connection: SqliteConnection
) -> tuple[TenantKey, int]:
    """The tenant's row, hidden, and the greatest of its rooms, by which the keys of all of them are kept free. Returns
    its key, and what is added to the numbers of its rooms."""
    _, tenant_id, name, config, token_secret, webhook_secret, replaced, created_at_us, _ = staged.tenant
    (base,) = connection.execute(_LAST_ROOM).fetchone()
    (tenant_key,) = connection.execute(
        _INSERT_HIDDEN,
        {
            "hidden_id": f"~{tenant_id}~{suffix}",  # as of any tenant whose rows may not meet others of the same ids
            "name": name,
            "config": config,
            "token_secret": token_secret,
            "webhook_secret": webhook_secret,
            "replaced": replaced,
            "created_at_us": created_at_us,
            "epoch": epoch,
            "now_us": now_us,
        },
    ).fetchone()
    first = next(staged.read_rows(ROOMS, TenantKey(tenant_key), base), [])[:1]
    if first:
        connection.execute(_insert(ROOMS, 1), first[0])
    return TenantKey(tenant_key), base


def insert_rows(
    table: TenantTable,
    rows: deque[Row],
    is_searched: bool,
    connection: SqliteConnection,
    is_over: Callable[[], bool],
) -> int:
    """One step: inserts the first of these; returns how many, which the caller takes away once they are committed.
    Raises ChatError CONFLICT."""
    done, inserted = 0, list(islice(rows, BATCH_ROWS))
    if table is MESSAGES:
        inserted = inserted[: _count_fitting(inserted)]
    try:
        while done < len(inserted):
            some = inserted[done : done + STATEMENT_ROWS]
            connection.execute(_insert(table, len(some)), list(chain.from_iterable(some)))
            done += len(some)
            if is_over():
                break
    except sqlite3.IntegrityError as error:
        raise conflict(f"The file has {table.name} that are stored here already, as those of another tenant") from error
    if table is MESSAGES and is_searched:
        add_among_older(connection, [row[0] for row in inserted[:done]])
    return done


def _count_fitting(messages: Sequence[Row]) -> int:
    """How many of these a step takes: one at least."""
    characters = 0
    for number, row in enumerate(messages):
        characters += len(row[_CONTENT] or "")
        if characters > STEP_CHARACTERS:
            return max(1, number)
    return len(messages)


def _insert(table: TenantTable, rows: int) -> str:
    values = f"({', '.join('?' * len(table.columns))})"
    return f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES {', '.join([values] * rows)}"


async def reveal(transaction: Transaction, staged: StagedTenant, tenant_key: TenantKey, epoch: str) -> None:
    """The last step: the tenant's keys, and the tenant itself. Raises ChatError CONFLICT."""
    try:
        for row in staged.api_keys:
            values = [
                tenant_key if column == TENANT_KEY else value
                for column, value in zip(API_KEYS.columns, row, strict=True)
            ]
            await transaction.fetch(_insert(API_KEYS, 1), values)
        scope = {"tenant_id": staged.tenant_id, "epoch": epoch, "tenant_key": tenant_key}
        await transaction.execute(_REVEAL, scope)
    except sqlite3.IntegrityError as error:
        raise conflict("Another tenant has one of the file's API keys, or its id") from error
