import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from chatapi.store.migrate import list_migrations
from chatapi.store.tenant_tables import (
    LEFT_OUT,
    LEFT_OUT_COLUMNS,
    ROOM_KEY,
    TENANT_KEY,
    TENANT_TABLES,
    RowsBy,
    TenantTable,
    list_rows,
)


@pytest.fixture
def schema() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for _, script in list_migrations():
            connection.executescript(script)
        yield connection


def test_each_table_is_a_tenants_or_left_out_with_a_reason(schema: sqlite3.Connection) -> None:
    stored = {name for (name,) in schema.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    named = [table.name for table in TENANT_TABLES]
    assert len(named) == len(set(named))
    assert stored == {*named, *LEFT_OUT}
    assert not set(named) & set(LEFT_OUT)


def test_each_column_is_copied_or_left_out_with_a_reason(schema: sqlite3.Connection) -> None:
    left_out = set()
    for table in TENANT_TABLES:
        stored = [row[1] for row in schema.execute("SELECT * FROM pragma_table_xinfo(?)", (table.name,))]
        assert set(table.columns) <= set(stored)
        left_out |= {f"{table.name}.{column}" for column in stored if column not in table.columns}
    assert left_out == set(LEFT_OUT_COLUMNS)


@pytest.mark.parametrize("table", TENANT_TABLES, ids=lambda table: table.name)
def test_a_table_is_as_it_is_described(schema: sqlite3.Connection, table: TenantTable) -> None:
    info = schema.execute("SELECT name, type, pk FROM pragma_table_xinfo(?)", (table.name,)).fetchall()
    assert [name for name, _, place in sorted(info, key=lambda row: row[2]) if place] == list(table.order)
    kinds = {name: kind for name, kind, _ in info}
    assert {kinds[column] for column in table.json} <= {"TEXT"}
    assert (TENANT_KEY if table.scope is RowsBy.TENANT else ROOM_KEY) in kinds
    schema.execute(f"SELECT x.{', x.'.join(table.columns)} {list_rows(table)}", {"tenant_key": 1})


def test_rows_come_after_those_that_they_refer_to(schema: sqlite3.Connection) -> None:
    names = [table.name for table in TENANT_TABLES]
    for place, name in enumerate(names):
        parents = {row[2] for row in schema.execute("SELECT * FROM pragma_foreign_key_list(?)", (name,))}
        assert parents <= set(names[:place])
