"""A tenant's rows on their way from one database to another: read, noted when they change, guarded, and put in there.

The statements are made from the one list of a tenant's tables. Keys of
tenants and rooms are integers of one database and are translated; all others are unique across servers.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

from chatapi.errors import ChatError, conflict
from chatapi.models import TenantKey
from chatapi.store.search_index import add_among_older, can_search
from chatapi.store.tenant_tables import (
    API_KEYS,
    ROOM_KEY,
    TENANT_KEY,
    TENANT_TABLES,
    TENANTS,
    RowsBy,
    TenantTable,
)
from chatapi.store.transaction import SqliteConnection

PAGE_ROWS = 500
PAGE_CHARACTERS = 1024 * 1024  # of texts: a row may be a large message
HELD = "the tenant is held for a move"  # by the guard, in SQLite's error

_APART = frozenset({TENANTS.name, API_KEYS.name})  # the last to come, once the target may serve the tenant
# The purge empties these in the background on either server.
_UNCOUNTED = frozenset({"emptied_messages", "reactions", "stream_chunks"})

Row = tuple[Any, ...]
_tables: dict[int, list["Table"]] = {}  # of each version of the schema: they are asked for with each page
Put = Callable[[list[object]], sqlite3.Cursor]
RoomKeys = Mapping[int, int]
"""Of the source's rooms the keys that they have here."""


class Table(NamedTuple):
    """`walk` are the columns after its scope, the room or the tenant, in whose order it is read page by page."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    walk: tuple[str, ...]
    is_of_room: bool
    has_room: bool


class TableChange(NamedTuple):
    """Rows as they now stand, and the keys of those that are gone."""

    table: str
    columns: tuple[str, ...]
    rows: list[Row]
    gone: list[Row]


def list_tables(connection: SqliteConnection) -> list[Table]:
    """The tables with rows of tenants, those first that others refer to."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version not in _tables:
        _tables[version] = [_describe(connection, table) for table in TENANT_TABLES if table.name not in _APART]
    return _tables[version]


def _describe(connection: SqliteConnection, table: TenantTable) -> Table:
    is_of_room = table.scope is RowsBy.ROOM
    scope = ROOM_KEY if is_of_room else TENANT_KEY
    key = table.order
    walk = key[1:] if key[0] == scope else (_find_walk(connection, table.name, scope) or key)
    return Table(table.name, table.columns, key, walk, is_of_room, ROOM_KEY in table.columns)


def _find_walk(connection: SqliteConnection, name: str, scope: str) -> tuple[str, ...] | None:
    """The columns of a unique index after its first one, which is the scope."""
    indexes = connection.execute('SELECT name FROM pragma_index_list(?) WHERE "unique" AND NOT partial', (name,))
    for (index,) in indexes.fetchall():
        first, *rest = (column for (column,) in connection.execute("SELECT name FROM pragma_index_info(?)", (index,)))
        if first == scope:
            return tuple(rest)
    return None


# Reading at the source


def walk_rows(path_uri: str, tenant_key: TenantKey) -> Iterator[TableChange]:
    """All rows of the tenant, page by page, each read by itself: rows that change meanwhile are noted. To run in a
    thread, one page at a time. Rows of rooms that are deleted stay behind."""
    with closing(sqlite3.connect(path_uri, uri=True, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("PRAGMA query_only = ON")
        rooms: list[int] = []
        for table in list_tables(connection):
            scopes = rooms if table.is_of_room else [tenant_key]
            for page in _join_pages(_read_pages(connection, table, scopes)):
                if table.name == "rooms":
                    rooms += [row[table.columns.index("room_key")] for row in page]
                yield TableChange(table.name, table.columns, page, [])


def _read_pages(connection: SqliteConnection, table: Table, scopes: Sequence[int]) -> Iterator[list[Row]]:
    scope = "room_key" if table.is_of_room else "tenant_key"
    names, marks = ", ".join(table.walk), ", ".join("?" for _ in table.walk)
    alive = " AND deleted_at_us IS NULL" if table.name == "rooms" else ""
    after = f" AND ({names}) > ({marks})" if table.walk else ""
    order = f" ORDER BY {names}" if table.walk else ""
    select = f"SELECT {', '.join(table.columns)} FROM {table.name} WHERE {scope} = ?{alive}"
    indexes = [table.columns.index(column) for column in table.walk]
    for value in scopes:
        rows = connection.execute(f"{select}{order} LIMIT {PAGE_ROWS}", (value,)).fetchall()
        while rows:
            yield rows
            if len(rows) < PAGE_ROWS or not table.walk:
                break
            last = [rows[-1][index] for index in indexes]
            rows = connection.execute(f"{select}{after}{order} LIMIT {PAGE_ROWS}", (value, *last)).fetchall()


def _join_pages(pages: Iterator[list[Row]]) -> Iterator[list[Row]]:
    """Few rows of many rooms are one page, and large rows are several."""
    joined: list[Row] = []
    characters = 0
    for page in pages:
        for row in page:
            joined.append(row)
            characters += _count_characters(row)
            if len(joined) >= PAGE_ROWS or characters >= PAGE_CHARACTERS:
                yield joined
                joined, characters = [], 0
    if joined:
        yield joined


def _count_characters(row: Row) -> int:
    return sum(len(value) for value in row if isinstance(value, str))


# Noting changes, and the guard: triggers in the schema `temp`, on the writer's connection


def start_noting(connection: SqliteConnection, tenant_key: TenantKey) -> None:
    """From now on the keys of the tenant's rows that change are noted, each once. Not by OR IGNORE: in a trigger the
    statement that fires it decides about conflicts, and an upsert fails by them."""
    stop_noting(connection)
    connection.execute(
        "CREATE TEMP TABLE moving_rows (position INTEGER PRIMARY KEY, number INTEGER, key TEXT, UNIQUE (number, key))"
    )
    for number, table in enumerate(list_tables(connection)):
        for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("UPDATE", "OLD"), ("DELETE", "OLD")):
            values = ", ".join(f"{row}.{column}" for column in table.key)
            connection.execute(
                f"CREATE TEMP TRIGGER moving_{table.name}_{event}_{row} AFTER {event} ON main.{table.name}"
                f" WHEN {_belongs(table, row, tenant_key)} BEGIN"
                f" INSERT INTO moving_rows (number, key) SELECT {number}, json_array({values})"
                f" WHERE NOT EXISTS (SELECT 1 FROM moving_rows WHERE number = {number} AND key = json_array({values}));"
                " END"
            )


def stop_noting(connection: SqliteConnection) -> None:
    _drop_triggers(connection, "moving_")
    connection.execute("DROP TABLE IF EXISTS temp.moving_rows")


def raise_guard(connection: SqliteConnection, tenant_key: TenantKey) -> None:
    """From now on no statement of this connection changes a row of the tenant: it fails with `HELD`."""
    drop_guard(connection, tenant_key)
    own = int(tenant_key)
    for table in list_tables(connection):
        for event, row in (("INSERT", "NEW"), ("UPDATE", "OLD"), ("DELETE", "OLD")):
            if event != "DELETE" or table.name not in _UNCOUNTED:  # the purge removes some of these
                _guard(connection, own, table.name, event, _belongs(table, row, tenant_key, is_guard=True))
    for name, event, row in (
        ("tenants", "UPDATE", "OLD"),
        ("tenants", "DELETE", "OLD"),
        ("api_keys", "INSERT", "NEW"),
        ("api_keys", "DELETE", "OLD"),
    ):
        _guard(connection, own, name, event, f"{row}.tenant_key = {own}")


def has_guard(connection: SqliteConnection, tenant_key: TenantKey) -> bool:
    name = f"guard_{int(tenant_key)}_tenants_DELETE"
    return bool(connection.execute("SELECT 1 FROM temp.sqlite_schema WHERE name = ?", (name,)).fetchone())


def drop_guard(connection: SqliteConnection, tenant_key: TenantKey) -> None:
    _drop_triggers(connection, f"guard_{int(tenant_key)}_")


def _guard(connection: SqliteConnection, own: int, name: str, event: str, when: str) -> None:
    connection.execute(
        f"CREATE TEMP TRIGGER guard_{own}_{name}_{event} BEFORE {event} ON main.{name} WHEN {when}"
        f" BEGIN SELECT RAISE(ABORT, '{HELD}'); END"
    )


def _drop_triggers(connection: SqliteConnection, prefix: str) -> None:
    found = connection.execute(
        "SELECT name FROM temp.sqlite_schema WHERE type = 'trigger' AND name GLOB ? || '*'", (prefix,)
    )
    for (name,) in found.fetchall():
        connection.execute(f"DROP TRIGGER temp.{name}")


def _belongs(table: Table, row: str, tenant_key: TenantKey, *, is_guard: bool = False) -> str:
    """Whether a row is this tenant's. Rooms that are deleted are none of its rooms any more: the purge has them."""
    own = int(tenant_key)
    if table.is_of_room:
        found = f"SELECT tenant_key FROM main.rooms WHERE room_key = {row}.room_key AND deleted_at_us IS NULL"
        return f"({found}) = {own}"
    if table.name == "rooms" and is_guard:
        return f"{row}.tenant_key = {own} AND {row}.deleted_at_us IS NULL"
    return f"{row}.tenant_key = {own}"


def count_noted(connection: SqliteConnection) -> int:
    return int(connection.execute("SELECT count(*) FROM temp.moving_rows").fetchone()[0])


def take_noted(connection: SqliteConnection) -> list[TableChange]:
    """The next rows that were noted, as they now stand, and notes them no more. Empty if there are none."""
    noted = connection.execute(
        "SELECT position, number, key FROM temp.moving_rows ORDER BY number, position LIMIT ?", (PAGE_ROWS,)
    ).fetchall()
    tables = list_tables(connection) if noted else []
    changes: dict[int, TableChange] = {}
    characters = 0
    for position, number, key_text in noted:
        table = tables[number]
        change = changes.setdefault(number, TableChange(table.name, table.columns, [], []))
        key = tuple(value for (value,) in connection.execute("SELECT value FROM json_each(?)", (key_text,)))
        row = connection.execute(_select_row(table), key).fetchone()
        if row is None:
            change.gone.append(key)
        else:
            change.rows.append(row)
            characters += _count_characters(row)
        connection.execute("DELETE FROM temp.moving_rows WHERE position = ?", (position,))
        if characters >= PAGE_CHARACTERS:
            break
    return [change for _, change in sorted(changes.items())]


def _select_row(table: Table) -> str:
    key = " AND ".join(f"{column} = ?" for column in table.key)
    alive = ""
    if table.name == "rooms":
        alive = " AND deleted_at_us IS NULL"
    elif table.is_of_room:
        alive = " AND room_key IN (SELECT room_key FROM rooms WHERE deleted_at_us IS NULL)"
    return f"SELECT {', '.join(table.columns)} FROM {table.name} WHERE {key}{alive}"


def count_rows(connection: SqliteConnection, tenant_key: TenantKey) -> dict[str, int]:
    """How many rows of the tenant each table has, for both servers to compare; of rooms also where their logs end."""
    own = int(tenant_key)
    rooms = f"SELECT room_key FROM rooms WHERE tenant_key = {own} AND deleted_at_us IS NULL"
    counts: dict[str, int] = {}
    for table in list_tables(connection):
        if table.name in _UNCOUNTED:
            continue
        if table.is_of_room:
            # Room by room: by the index.
            select = f"SELECT count(*) FROM ({rooms}) AS r CROSS JOIN {table.name} AS x WHERE x.room_key = r.room_key"
        elif table.name == "rooms":
            select = f"SELECT count(*) FROM ({rooms})"
        else:
            of_rooms = f" AND (room_key IS NULL OR room_key IN ({rooms}))" if table.has_room else ""
            select = f"SELECT count(*) FROM {table.name} WHERE tenant_key = {own}{of_rooms}"
        counts[table.name] = int(connection.execute(select).fetchone()[0])
    for name in ("messages", "changes"):
        ends = f"SELECT coalesce(sum((SELECT max(seq) FROM {name} WHERE room_key = r.room_key)), 0) FROM ({rooms}) AS r"
        counts[f"{name}.seq"] = int(connection.execute(ends).fetchone()[0])
    return counts


# Putting them in, at the target


class Translation(NamedTuple):
    """Keys of the source to keys of this database. `found` are rooms of the transaction under way, which may fail.
    `left_over` are the hidden tenants with rows of an earlier stay, which the purge has not come to yet."""

    tenant_key: TenantKey
    rooms: RoomKeys
    found: dict[int, int]
    left_over: Sequence[TenantKey] = ()

    def find_room(self, room_key: int) -> int | None:
        return self.found.get(room_key) or self.rooms.get(room_key)


def insert_rows(
    connection: SqliteConnection,
    translation: Translation,
    change: TableChange,
    first: int,
    is_over: Callable[[], bool],
) -> int:
    """Puts rows in from the one numbered `first` on; returns how far it has come. A row that does not fit is left out:
    it has changed meanwhile, and comes again, or the counts differ in the end. Raises ChatError."""
    table = _find_table(connection, change)
    insert = partial(connection.execute, _make_insert(table))
    inserted: list[Row] = []
    done = first
    while done < len(change.rows):
        values = change.rows[done]
        done += 1
        row = _translate(table, change.columns, values, translation)
        if row is not None and _insert_new(connection, table, insert, row, translation, values):
            inserted.append(values)
        if is_over():
            break
    _add_to_search(connection, table, inserted)
    return done


def _insert_new(
    connection: SqliteConnection,
    table: Table,
    put: Put,
    row: list[object],
    translation: Translation,
    values: Sequence[Any],
) -> bool:
    """Whether it fits. A row of an earlier stay makes room for it."""
    with suppress(sqlite3.IntegrityError):
        _insert(table, put, row, translation, values)
        return True
    if _make_room(connection, table, row, translation):
        with suppress(sqlite3.IntegrityError):
            _insert(table, partial(_upsert, connection, table), row, translation, values)
            return True
    return False


def _make_room(connection: SqliteConnection, table: Table, row: Sequence[object], translation: Translation) -> bool:
    """Takes over the row of this key that the tenant has left here at an earlier stay; whether there was one. In the
    other tables keys hold a tenant's or a room's, which differ for each stay."""
    scope = ROOM_KEY if table.is_of_room else TENANT_KEY
    if not translation.left_over or scope in table.key or table.name == "rooms":
        return False
    holder = (
        f"(SELECT tenant_key FROM rooms WHERE room_key = {table.name}.room_key)" if table.is_of_room else TENANT_KEY
    )
    where = " AND ".join(f"{column} = ?" for column in table.key)
    marks = ", ".join("?" for _ in translation.left_over)
    values = [*(row[table.columns.index(column)] for column in table.key), *translation.left_over]
    if table.name == "messages":  # for a trigger, by which the index of search forgets it
        action = "DELETE FROM messages"
    else:
        action = f"UPDATE {table.name} SET {scope} = ?"
        values.insert(0, row[table.columns.index(scope)])
    return connection.execute(f"{action} WHERE {where} AND {holder} IN ({marks})", values).rowcount > 0


def _add_to_search(connection: SqliteConnection, table: Table, rows: Sequence[Row]) -> None:
    """Messages that are new here, and older than those that the index has come to."""
    if table.name == "messages" and rows and can_search(connection):
        index = table.columns.index("message_key")
        add_among_older(connection, [row[index] for row in rows])


def apply_changes(connection: SqliteConnection, translation: Translation, changes: Sequence[TableChange]) -> None:
    """Makes these rows what they are at the source. Raises ChatError for rows that do not fit; then none of them is
    changed."""
    connection.execute("PRAGMA defer_foreign_keys = ON")
    connection.execute("SAVEPOINT rows_of_a_move")
    try:
        _apply(connection, translation, changes)
    except ChatError:
        connection.execute("ROLLBACK TO rows_of_a_move")
        raise
    finally:
        connection.execute("RELEASE rows_of_a_move")


def _apply(connection: SqliteConnection, translation: Translation, changes: Sequence[TableChange]) -> None:
    tables = [_find_table(connection, change) for change in changes]
    for table, change in reversed(list(zip(tables, changes, strict=True))):
        with _refusing_misfits(table):
            for key in change.gone:
                _delete(connection, table, key, translation)
    for table, change in zip(tables, changes, strict=True):
        upsert = partial(_upsert, connection, table)
        new: list[Row] = []
        for values in change.rows:
            row = _translate(table, change.columns, values, translation)
            if row is not None:
                _make_room(connection, table, row, translation)
                if table.name == "messages" and not _has_message(
                    connection, values[table.columns.index("message_key")]
                ):
                    new.append(values)
                with _refusing_misfits(table):
                    _insert(table, upsert, row, translation, values)
        _add_to_search(connection, table, new)


@contextmanager
def _refusing_misfits(table: Table) -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError:
        raise conflict(f"Rows of {table.name} do not fit: ids may be taken here by other rows") from None


def _has_message(connection: SqliteConnection, message_key: object) -> bool:
    return connection.execute("SELECT 1 FROM messages WHERE message_key = ?", (message_key,)).fetchone() is not None


def _find_table(connection: SqliteConnection, change: TableChange) -> Table:
    for table in list_tables(connection):
        if table.name == change.table and table.columns == tuple(change.columns):
            return table
    raise conflict(f"The table {change.table!r} is not the same here")


def _translate(
    table: Table, columns: Sequence[str], values: Sequence[object], translation: Translation
) -> list[object] | None:
    """None for a row of a room that is not here: it was deleted."""
    row = list(values)
    for index, column in enumerate(columns):
        if column == "tenant_key":
            row[index] = translation.tenant_key
        elif column == "room_key" and table.name != "rooms" and values[index] is not None:
            row[index] = translation.find_room(values[index])  # type: ignore[arg-type]  # of the source's database
            if row[index] is None:
                return None
    return row


def _insert(
    table: Table,
    put: Put,
    row: list[object],
    translation: Translation,
    values: Sequence[Any],
) -> None:
    if table.name != "rooms":
        put(row)
        return
    index = table.columns.index("room_key")
    row[index] = translation.find_room(values[index])  # None: SQLite gives it one
    cursor = put(row)
    translation.found[values[index]] = row[index] or cursor.lastrowid  # type: ignore[assignment]  # it was inserted


def _delete(connection: SqliteConnection, table: Table, key: Sequence[object], translation: Translation) -> None:
    values = list(key)
    for index, column in enumerate(table.key):
        if column == "tenant_key":
            values[index] = translation.tenant_key
        elif column == "room_key":
            values[index] = translation.find_room(values[index])  # type: ignore[arg-type]
    where = " AND ".join(f"{column} = ?" for column in table.key)
    if table.name == "rooms":  # the purge removes it with all that belongs to it
        connection.execute(
            "UPDATE rooms SET deleted_at_us = created_at_us, unique_key = NULL WHERE room_key = ?", values
        )
        return
    scope = "room_key IN (SELECT room_key FROM rooms WHERE tenant_key = ?)" if table.is_of_room else "tenant_key = ?"
    connection.execute(f"DELETE FROM {table.name} WHERE {where} AND {scope}", [*values, translation.tenant_key])


def _make_insert(table: Table) -> str:
    marks = ", ".join("?" for _ in table.columns)
    return f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({marks})"


def _upsert(connection: SqliteConnection, table: Table, row: Sequence[object]) -> sqlite3.Cursor:
    """Never touches another tenant's row, whatever its key: then the counts differ. Not by DO UPDATE, which makes the
    triggers that it fires fail where they say OR IGNORE."""
    update = _make_update(table)
    if update and (cursor := connection.execute(update, row)).rowcount:
        return cursor
    return connection.execute(f"{_make_insert(table)} ON CONFLICT ({', '.join(table.key)}) DO NOTHING", row)


def _make_update(table: Table) -> str | None:
    others = [column for column in table.columns if column not in table.key]
    if not others:
        return None
    marks = {column: f"{column} = ?{number}" for number, column in enumerate(table.columns, start=1)}
    scope = marks["room_key" if table.is_of_room else "tenant_key"]
    key = " AND ".join(marks[column] for column in table.key)
    return f"UPDATE {table.name} SET {', '.join(marks[column] for column in others)} WHERE {key} AND {scope}"
