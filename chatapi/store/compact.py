"""Giving all free space of a database back that no server has open.

Page by page, as a server does it (`free_space.py`), or by rewriting the database (SQLite's VACUUM): once for one that
was made by an earlier version, which can then give back single pages too, and where less than half of the file would be
left, which is sooner copied than moved. Both are transactions of SQLite: an interruption leaves the database as it was,
or as far as it got.
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from chatapi.store import check_usable
from chatapi.store.free_space import (
    MAX_PINNED_PAGES,
    CompactionStage,
    SpaceUsage,
    count_pages,
    give_back_pages,
    is_incremental,
    measure,
)
from chatapi.store.litestream import OFFLINE_ADVICE, find_conflict
from chatapi.store.lock import DatabaseLock
from chatapi.store.migrate import list_migrations
from chatapi.store.purge import purge_deleted
from chatapi.store.search_index import can_search, clear_outdated, prepare_offline
from chatapi.store.standalone import UnusableDatabase, explain_errors

STEP_SECONDS = 0.1  # of one transaction: an interruption loses no more
LOOK_SECONDS = 0.2  # between two looks at a rewriting, or at somebody who still reads
BUSY_SECONDS = 5.0  # SQLite waits for another program's lock
CACHE_KIB = 65_536

# A rewriting writes what is left three times: into a temporary file, the WAL, and the database.
COPIES = 3
SPARE = 1.05  # of disk space: the WAL has 24 bytes more to each page, the copy a page more to each 819
SPARE_BYTES = 1_000_000

# Where SQLite makes temporary files: the first of these that is a folder and can be written to.
_TEMPORARY_VARIABLES = ("SQLITE_TMPDIR", "TMPDIR")
_TEMPORARY_FOLDERS = ("/var/tmp", "/usr/tmp", "/tmp", ".")  # noqa: S108 - SQLite's own list

_IO_COUNTERS = Path("/proc/self/io")


class Rewriting(NamedTuple):
    """How far it is; `written_bytes` is None where the system does not count them. The total is the most that it can
    be: pages get fuller."""

    written_bytes: int | None
    total_bytes: int


Report = Callable[[SpaceUsage | Rewriting], None]


def compact_database(path: str, report: Report) -> SpaceUsage:
    """Returns once the file holds no free page any more. `report` is told now and then how far it is.

    Raises DatabaseInUse when a server has it, StoreError, UnusableDatabase, OSError.
    """
    if not os.path.exists(path):
        raise UnusableDatabase(f"{path}: no such file")
    check_usable(path)  # before the lock makes a file beside it
    if conflict := find_conflict(path):
        raise UnusableDatabase(f"{path}: {conflict}. {OFFLINE_ADVICE}")
    with DatabaseLock(path), explain_errors(path), closing(_open(path)) as connection:
        version = _get_number(connection, "user_version")
        if not version:
            raise UnusableDatabase(f"{path}: not a ChatAPI database")
        report(measure(path, connection))
        if version == list_migrations()[-1][0]:  # else its tables may be others
            _take_steps(path, connection, report, purge_deleted)
            if can_search(connection):
                prepare_offline(connection)
                _take_steps(path, connection, report, clear_outdated)
        if not is_incremental(connection) or _is_mostly_free(connection):
            _rewrite(path, connection, report)
        _take_steps(path, connection, report, give_back_pages)
        return _cut_off(path, connection, report)


def _open(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = FILE")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    return connection


def _get_number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _is_mostly_free(connection: sqlite3.Connection) -> bool:
    pages = count_pages(connection)
    return pages.free > pages.total // 2


def _take_steps(
    path: str,
    connection: sqlite3.Connection,
    report: Report,
    work: Callable[[sqlite3.Connection, Callable[[], bool]], object],
) -> None:
    """Each is a transaction, until one ends before its time."""
    is_over = False

    def look() -> bool:
        nonlocal is_over
        is_over = time.monotonic() >= end_s
        return is_over

    while True:
        end_s = time.monotonic() + STEP_SECONDS
        connection.execute("BEGIN IMMEDIATE")
        work(connection, look)
        connection.execute("COMMIT")
        if not is_over:
            return
        is_over = False
        report(measure(path, connection))
        while _checkpoint(connection) > MAX_PINNED_PAGES:
            report(measure(path, connection, is_pinned=True))
            time.sleep(LOOK_SECONDS)


def _checkpoint(connection: sqlite3.Connection) -> int:
    """The pages of the WAL that somebody still needs; none where the database has no WAL."""
    _, frames, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return int(frames) - int(copied)


def _cut_off(path: str, connection: sqlite3.Connection, report: Report) -> SpaceUsage:
    """Waits for those who read what was there before."""
    while True:
        _checkpoint(connection)
        space = measure(path, connection)
        if space.stage is not CompactionStage.WAITING:
            return space
        report(space)
        time.sleep(LOOK_SECONDS)


def _rewrite(path: str, connection: sqlite3.Connection, report: Report) -> None:
    """As one transaction. Raises UnusableDatabase, and nothing has changed."""
    pages = count_pages(connection)
    left_bytes = (pages.total - pages.free) * pages.size_bytes
    if obstacle := _find_shortage(path, left_bytes):
        if is_incremental(connection):
            return  # it takes longer page by page, and needs no space
        raise UnusableDatabase(f"{path}: {obstacle}; nothing was changed")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    before_bytes = _count_written_bytes()
    with ThreadPoolExecutor(1) as pool:  # here signals are heard meanwhile
        rewriting = pool.submit(connection.execute, "VACUUM")
        try:
            while wait((rewriting,), LOOK_SECONDS).not_done:
                written_bytes = _count_written_bytes()
                if written_bytes is not None and before_bytes is not None:
                    written_bytes = min(written_bytes - before_bytes, COPIES * left_bytes)
                report(Rewriting(written_bytes, COPIES * left_bytes))
        except BaseException:
            connection.interrupt()
            raise
    rewriting.result()


def _count_written_bytes() -> int | None:
    """By this process so far; None where the system does not tell."""
    try:
        lines = _IO_COUNTERS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))


def _find_shortage(path: str, left_bytes: int) -> str | None:
    """Which disk has too little space for a rewriting, in words; None when there is enough."""
    needed_bytes = int(left_bytes * SPARE) + SPARE_BYTES
    folder = os.path.dirname(os.path.realpath(path))
    temporary = _find_temporary_folder()
    is_one = os.stat(folder).st_dev == os.stat(temporary).st_dev
    needs = {folder: 2 * needed_bytes} if is_one else {folder: needed_bytes, temporary: needed_bytes}
    for directory, directory_bytes in needs.items():
        free_bytes = shutil.disk_usage(directory).free
        if free_bytes < directory_bytes:
            where = " and ".join(dict.fromkeys((folder, temporary))) if is_one else directory
            return (
                f"a rewrite needs {directory_bytes / 1e6:,.1f} MB of disk space in {where}, where"
                f" {free_bytes / 1e6:,.1f} MB are free"
            )
    return None


def _find_temporary_folder() -> str:
    named = [folder for name in _TEMPORARY_VARIABLES if (folder := os.environ.get(name))]
    for folder in (*named, *_TEMPORARY_FOLDERS):
        if os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return folder
    return "."
