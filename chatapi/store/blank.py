"""The database with which a reset begins: one tenant and its keys."""

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing

from chatapi.clock import Clock
from chatapi.store import open_store
from chatapi.store.copies import GET_ID, PUT_ID
from chatapi.store.epochs import renew_epochs

SUFFIXES = ("", "-wal", "-shm")  # of SQLite's files, after the path of the database

_ATTACH = "ATTACH :path AS source"
_COPY = (
    "INSERT INTO tenants SELECT * FROM source.tenants WHERE tenant_id = :tenant_id",
    """
    INSERT INTO api_keys SELECT k.* FROM source.tenants AS t
    JOIN source.api_keys AS k ON k.tenant_key = t.tenant_key WHERE t.tenant_id = :tenant_id
    """,
)


async def make_blank(source: str, path: str, tenant_id: str, clock: Clock) -> None:
    """Makes a database with this tenant of `source` and its keys, and nothing else. Raises StoreError."""
    await asyncio.to_thread(remove_database, path)
    store = await open_store(path, synchronous="normal", readers=1, clock=clock)
    await store.close()
    await asyncio.to_thread(_copy_tenant, source, path, tenant_id)


def _copy_tenant(source: str, path: str, tenant_id: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(_ATTACH, {"path": source})
        connection.execute("BEGIN")
        for statement in _COPY:
            connection.execute(statement, {"tenant_id": tenant_id})
        connection.execute("COMMIT")


def copy_blank(blank: str, path: str) -> None:
    """Makes a database of a blank one, with a new epoch. Blocks."""
    shutil.copyfile(blank, path)
    os.chmod(path, 0o600)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        renew_epochs(connection)


def overwrite(path: str, source: str) -> None:
    """Moves `source` to the place of what `path` holds: as a write of SQLite's, for others may have the database open,
    such as a developer's shell. They keep its WAL there, which SQLite would apply to any file that was put in its
    place. Blocks, as long as another process writes."""
    with closing(sqlite3.connect(source, isolation_level=None)) as new, closing(sqlite3.connect(path)) as database:
        for row in database.execute(GET_ID):  # so that the next start does not take this for a copy
            new.execute(PUT_ID, {"database_id": row[0]})
        new.backup(database)
    remove_database(source)


def remove_database(path: str) -> None:
    """Its files, as far as they are there. Nobody may have it open."""
    for suffix in SUFFIXES:
        try:
            os.unlink(path + suffix)
        except FileNotFoundError:
            continue
