import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sample_database import make_database

from chatapi.clock import Clock
from chatapi.store import StoreError, check_usable, open_store
from chatapi.store.migrate import list_migrations


async def open_and_close(path: Path) -> None:
    store = await open_store(str(path), synchronous="full", readers=1, clock=Clock())
    await store.close()


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def schema(path: Path) -> list[tuple[object, ...]]:
    return query(path, "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name")


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [number for number, _ in list_migrations()] == list(range(1, len(list_migrations()) + 1))


@pytest.mark.parametrize("number", range(len(list_migrations())))
def test_a_migration_and_its_version_are_one_transaction(number: int) -> None:
    version, script = list_migrations()[number]
    statements = [line.strip() for line in script.splitlines() if line.strip() and not line.strip().startswith("--")]
    assert statements[0] == "BEGIN;"
    assert statements[-2:] == [f"PRAGMA user_version = {version};", "COMMIT;"]


async def test_a_new_database_gets_the_newest_schema(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    await open_and_close(path)
    assert query(path, "PRAGMA user_version") == [(list_migrations()[-1][0],)]
    assert query(path, "PRAGMA journal_mode") == [("wal",)]
    tables = query(path, "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND NOT strict")
    assert [name for (name,) in tables if not str(name).startswith("sqlite_")] == []


async def test_opening_it_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    await open_and_close(path)
    before = schema(path)
    await open_and_close(path)
    assert schema(path) == before


@pytest.mark.parametrize("version", range(len(list_migrations())))
async def test_an_older_database_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    with closing(sqlite3.connect(old)) as connection:
        for _, script in list_migrations()[:version]:
            connection.executescript(script)
    await open_and_close(old)
    await open_and_close(new)
    assert schema(old) == schema(new)


async def test_a_newer_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    await open_and_close(path)
    newer = list_migrations()[-1][0] + 1
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {newer}")
    with pytest.raises(StoreError, match=rf"\(its schema is {newer}, the newest known here {newer - 1}\)$"):
        check_usable(str(path))
    with pytest.raises(StoreError, match=rf"has schema version {newer}, this ChatAPI knows {newer - 1}$"):
        await open_and_close(path)
    assert query(path, "PRAGMA user_version") == [(newer,)]


@pytest.mark.parametrize("kind", ["a folder", "another file", "no folder"])
async def test_file_that_is_no_database_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "chat.db"
    if kind == "a folder":
        path.mkdir()
    elif kind == "another file":
        path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    else:
        path = tmp_path / "nowhere" / "chat.db"
    with pytest.raises(StoreError, match=r"cannot open the database .*chat\.db"):
        await open_and_close(path)


async def test_the_pragmas_are_in_force(tmp_path: Path) -> None:
    for setting, level in (("full", 2), ("normal", 1)):
        store = await open_store(str(tmp_path / "chat.db"), synchronous=setting, readers=2, clock=Clock())
        found = [
            (await store._connection.execute_fetchall(f"PRAGMA {pragma}"))[0][0]
            for pragma in ("synchronous", "foreign_keys", "busy_timeout")
        ]
        query_only = [await store.readers.fetch_one("PRAGMA query_only", {}) for _ in range(2)]
        await store.close()
        assert found == [level, 1, 5000]
        assert query_only == [(1,), (1,)]


async def test_rows_of_an_older_database_are_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    with closing(sqlite3.connect(path)) as connection:
        for _, script in list_migrations()[:2]:
            connection.executescript(script)
        connection.execute("INSERT INTO tenants VALUES (1, 'tenant_a', 'a', '{}', 's', 'new', 'old', 5000, 1, NULL)")
        connection.execute("INSERT INTO tenants VALUES (2, 'tenant_b', 'b', '{}', 's', 'new', NULL, 0, 1, NULL)")
        connection.execute("INSERT INTO webhook_deliveries VALUES (1, 1, 1, NULL, 'bob', 3, 7, 6, 'HTTP 500')")
        connection.commit()
    await open_and_close(path)
    epochs = {epoch for (epoch,) in query(path, "SELECT epoch FROM tenants")}
    assert [len(str(epoch)) for epoch in epochs] == [24, 24]
    secrets = query(path, "SELECT replaced_webhook_secrets FROM tenants ORDER BY tenant_key")
    assert secrets == [('[["old",5000]]',), ("[]",)]
    assert query(path, "SELECT attempts, step FROM webhook_deliveries") == [(3, 3)]


async def test_rooms_that_users_have_left_are_noted_by_the_migration(tmp_path: Path) -> None:
    path = make_database(tmp_path / "chat.db", newest=27)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("""
            DELETE FROM members WHERE room_key = 1 AND user_id = 'bob';
            INSERT INTO reactions VALUES (1, 1, 4, 'x', 'dave', 1);
            INSERT INTO reports (report_key, tenant_key, room_key, target_seq, user_id, reason, message, created_at_us)
                VALUES (1, 1, 1, 1, 'eve', '', '{}', 1);
        """)
    await open_and_close(path)
    traces = "SELECT room_key, user_id, tenant_key FROM traces ORDER BY user_id"
    assert query(path, traces) == [(1, "bob", 1), (1, "dave", 1), (1, "eve", 1)]
