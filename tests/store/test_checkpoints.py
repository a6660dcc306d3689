"""Which process checkpoints a database that Litestream replicates."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sample_database import make_database

from chatapi.clock import Clock
from chatapi.store import Store, StoreError, litestream, open_store
from chatapi.store.backup import back_up
from chatapi.store.check import check_database
from chatapi.store.compact import compact_database
from chatapi.store.standalone import UnusableDatabase

LITESTREAM_TABLES = """
    CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER);
    CREATE TABLE _litestream_lock (id INTEGER);
    INSERT INTO _litestream_seq VALUES (1, 7);
"""


@pytest.fixture
def replicated(tmp_path: Path) -> Path:
    (tmp_path / ".chat.db-litestream").mkdir()
    path = make_database(tmp_path / "chat.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(LITESTREAM_TABLES)
    return path


async def open_with(path: Path, checkpoints: str) -> Store:
    return await open_store(str(path), synchronous="normal", readers=1, clock=Clock(), checkpoints=checkpoints)


async def get_autocheckpoint(store: Store) -> int:
    [(pages,)] = await store.writer._connection.execute_fetchall("PRAGMA wal_autocheckpoint")
    return int(pages)


@pytest.mark.parametrize("sqlite_version", [(3, 40, 1), (3, 51, 2)])
async def test_old_sqlite_does_not_checkpoint_beside_litestream(
    replicated: Path, monkeypatch: pytest.MonkeyPatch, sqlite_version: tuple[int, int, int]
) -> None:
    monkeypatch.setattr(litestream, "SQLITE", sqlite_version)
    with pytest.raises(StoreError, match=r"Litestream replicates it .*database\.checkpoints = \"external\""):
        await open_with(replicated, "server")
    with pytest.raises(UnusableDatabase, match=r"chat\.db: Litestream replicates it .*Stop Litestream"):
        compact_database(str(replicated), lambda _: None)
    store = await open_with(replicated, "external")
    assert await get_autocheckpoint(store) == 0
    assert not store.writer.checkpoints_itself
    await store.close()
    replicated.with_name(".chat.db-litestream").rmdir()
    store = await open_with(replicated, "server")
    assert await get_autocheckpoint(store) == 4000
    await store.close()


async def test_newer_sqlite_may_do_as_it_likes(replicated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litestream, "SQLITE", (3, 51, 3))
    store = await open_with(replicated, "server")
    await store.close()
    compact_database(str(replicated), lambda _: None)


def test_tables_of_litestream_are_nobodys_business(replicated: Path) -> None:
    assert check_database(str(replicated)).findings == []
    back_up(str(replicated), str(replicated.with_name("copy.db")))
    assert check_database(str(replicated.with_name("copy.db"))).findings == []
