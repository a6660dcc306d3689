"""The durable side: one SQLite file, one writer, a few readers. All SQL is in this folder."""

import contextlib
import os
import sqlite3
from pathlib import Path

import aiosqlite

from chatapi.clock import Clock
from chatapi.store import backend_events, log, meta
from chatapi.store.copies import recognise_copy
from chatapi.store.file import DatabaseFiles, DatabaseGone, find_obstacle
from chatapi.store.keys import KeyMaker, find_key_time
from chatapi.store.litestream import find_conflict
from chatapi.store.lock import DatabaseLock
from chatapi.store.migrate import DatabaseTooNew, migrate
from chatapi.store.readers import Reader, Readers
from chatapi.store.search_index import prepare_index
from chatapi.store.standalone import find_objection
from chatapi.store.transaction import SeqCounter, Transaction
from chatapi.store.wal import WalBound
from chatapi.store.writer import BUSY_SECONDS, Writer
from chatapi.store.writes import Change, MessageWrite, Write

__all__ = [
    "SQLITE_VERSION",
    "Change",
    "DatabaseGone",
    "DatabaseTooNew",
    "MessageWrite",
    "Readers",
    "SeqCounter",
    "Store",
    "StoreError",
    "Transaction",
    "Write",
    "Writer",
    "check_usable",
    "open_store",
]

SQLITE_VERSION = sqlite3.sqlite_version
# `->>` with an index came in 3.38.
_OLDEST_SQLITE = (3, 38, 0)

_CONFLICT_ADVICE = (
    'Set database.checkpoints = "external", so that only Litestream does; if it is not used any more, remove that'
    " folder"
)
_WRITER_CACHE_KIB, _MIN_WRITER_CACHE_KIB = 16 * 1024, 2 * 1024  # on a small machine less, down to this
_READER_CACHE_KIB, _MIN_READER_CACHE_KIB = 8 * 1024, 1024  # of each
_CACHED_STATEMENTS = 320  # messages alone have 128 (`log.insert_messages`, `backend_events.insert_told_messages`)
# Of a new database, before anything is in it: free pages can be given back while the server runs (`free_space.py`).
_NEW_PRAGMAS = ("PRAGMA auto_vacuum = INCREMENTAL",)
# Each with its reason; the figures are in docs/design.md, section 5.
_WRITER_PRAGMAS = (
    "PRAGMA journal_mode = WAL",  # readers do not wait for the writer
    "PRAGMA wal_autocheckpoint = 4000",  # pages: fewer, longer checkpoints halve the p99 of a commit
    "PRAGMA journal_size_limit = 16777216",  # bytes: a WAL that has grown is cut back to what 4,000 pages take
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",  # deleted rows are overwritten, as many builds of SQLite do by default
    "PRAGMA temp_store = MEMORY",
)
# Where another program checkpoints, after those.
_EXTERNAL_PRAGMAS = ("PRAGMA wal_autocheckpoint = 0",)
_READER_PRAGMAS = (
    "PRAGMA query_only = ON",
    "PRAGMA temp_store = MEMORY",
)


class StoreError(Exception):
    """The database cannot be opened; the message is for the operator."""


class Store:
    """`writer` changes, `readers` read. Made by `open_store`. `can_search` says whether this SQLite has FTS5."""

    def __init__(
        self,
        connection: aiosqlite.Connection,
        writer: Writer,
        readers: Readers,
        *,
        latest_us: int,
        can_search: bool,
    ) -> None:
        self._connection = connection
        self.writer = writer
        self.readers = readers
        self.can_search = can_search
        self.latest_us = latest_us  # the latest time that was stored before this start; 0 = none

    async def close(self) -> None:
        """Closes the files. The writer's task must have ended, or have been cancelled."""
        await self.readers.close()
        await self._connection.close()


async def open_store(
    path: str,
    *,
    synchronous: str,
    readers: int,
    clock: Clock,
    lock: DatabaseLock | None = None,
    checkpoints: str = "server",
    commit_interval_ms: int = 0,
    memory_share: float = 1.0,
) -> Store:
    """Opens the database, makes it if need be, and migrates it. `check_usable` comes first, before anything makes a
    file beside it. With its `lock`, which is held, a copy is recognised. Raises StoreError; then nothing is left
    open."""
    is_external = checkpoints == "external"
    if not is_external and (conflict := find_conflict(path)):
        raise StoreError(f"cannot open the database {path}: {conflict}. {_CONFLICT_ADVICE}")
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old: 3.38 or newer is needed")
    try:
        # Their threads keep the process alive: any failure closes them.
        async with contextlib.AsyncExitStack() as opened:
            store = await _open_parts(path, synchronous, readers, clock, lock, is_external, memory_share, opened)
            store.writer.set_commit_interval(commit_interval_ms / 1000)
            opened.pop_all()
            return store
    except (sqlite3.Error, DatabaseTooNew, OSError) as error:
        raise StoreError(f"cannot open the database {path}: {error}") from error


async def _open_parts(
    path: str,
    synchronous: str,
    readers: int,
    clock: Clock,
    lock: DatabaseLock | None,
    is_external: bool,
    memory_share: float,
    opened: contextlib.AsyncExitStack,
) -> Store:
    """`opened` closes what has been opened so far."""
    is_new = _make_private(path)
    # When this fails in aiosqlite, its thread complains on stderr once the loop is gone.
    sqlite3.connect(path).close()
    connection = await aiosqlite.connect(
        Path(path), isolation_level=None, timeout=BUSY_SECONDS, cached_statements=_CACHED_STATEMENTS
    )
    opened.push_async_callback(connection.close)
    pragmas = (*(_NEW_PRAGMAS if is_new else ()), *_WRITER_PRAGMAS, *(_EXTERNAL_PRAGMAS if is_external else ()))
    set_synchronous = f"PRAGMA synchronous = {synchronous.upper()}"
    set_cache = _set_cache(_WRITER_CACHE_KIB, _MIN_WRITER_CACHE_KIB, memory_share)
    await connection.executescript(";".join((*pragmas, set_cache, set_synchronous)))  # one hop to its thread
    await migrate(connection)
    if lock is not None:
        await connection.execute("PRAGMA synchronous = FULL")  # the file beside it may be one id ahead at most
        await recognise_copy(connection, lock.id_note)
        await connection.execute(set_synchronous)
    can_search = await prepare_index(connection)
    await connection.executescript(backend_events.CREATE_TOLD_MESSAGES)
    reader_pragmas = (*_READER_PRAGMAS, _set_cache(_READER_CACHE_KIB, _MIN_READER_CACHE_KIB, memory_share))
    reading = Readers([Reader(path, reader_pragmas, BUSY_SECONDS) for _ in range(readers)])
    opened.push_async_callback(reading.close)
    await reading.open()
    last_key = await log.get_last_key(reading)
    latest_us = max(find_key_time(last_key) if last_key else 0, await meta.get_time(reading))
    wal_bound = WalBound(reading, is_external=is_external)
    writer = Writer(connection, clock, KeyMaker(clock, last_key), wal_bound, DatabaseFiles(path))
    writer.checkpoints_itself = not is_external
    writer.memory_share = memory_share
    reading.on_quiet = writer.wake
    return Store(connection, writer, reading, latest_us=latest_us, can_search=can_search)


def _set_cache(usual_kib: int, least_kib: int, memory_share: float) -> str:
    return f"PRAGMA cache_size = -{max(least_kib, int(usual_kib * memory_share))}"


def check_usable(path: str) -> None:
    """Raises StoreError for a file that is not a database of ours, or cannot be written. Changes and makes nothing."""
    if objection := find_obstacle(path) or find_objection(path):
        raise StoreError(f"cannot open the database {path}: {objection}")


def _make_private(path: str) -> bool:
    """A new database is for its owner only: it holds secrets. SQLite gives its other files the same mode. Returns
    whether there is nothing in it yet."""
    try:
        os.close(os.open(os.path.realpath(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return os.path.getsize(path) == 0
    return True
