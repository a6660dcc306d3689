"""Free pages of the database, and giving them back to the file system while the server runs.

Deleted rows leave pages that hold nothing. Later rows use them again, but the file stays as large as it was, until
its last pages have moved to free pages before them and it is cut off behind them. A new database can do that page
by page (`auto_vacuum = INCREMENTAL`); one of an earlier version has to be rewritten once (`compact.py`).

A page costs some ten microseconds where what was deleted lay together, as a room's messages do. A free page at the end
of the file is looked for in the list of all of them: 0.3 ms with 100,000 that are scattered at random, 3 ms with a
million.
"""

import asyncio
import os
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import NamedTuple

from chatapi.errors import conflict
from chatapi.store.purge import purge_deleted
from chatapi.store.search_index import remove_outdated
from chatapi.store.transaction import SqliteConnection
from chatapi.store.writer import Writer

CALL_SECONDS = 1.0  # of one `give_back`: a client that repeats the call learns this often how far it is
# Of the WAL, needed by a backup for instance, which each page that moves makes longer: 8 MiB. While there are
# more, nothing moves.
MAX_PINNED_PAGES = 2048
WAIT_SECONDS = 0.05  # before the next look at a file that cannot be cut off yet

_INCREMENTAL = 2  # the value of `auto_vacuum`


class CompactionStage(StrEnum):
    WORKING = "working"
    WAITING = "waiting"  # for a read, a backup or a check that still needs the pages as they were
    DONE = "done"


class SpaceUsage(NamedTuple):
    """The size of the database's file, which gets smaller only in leaps while pages are given back."""

    file_bytes: int
    free_bytes: int  # in pages that hold nothing
    stage: CompactionStage


class Pages(NamedTuple):
    size_bytes: int  # of each
    total: int
    free: int


def count_pages(connection: SqliteConnection) -> Pages:
    names = ("page_size", "page_count", "freelist_count")
    return Pages(*(int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in names))


def is_incremental(connection: SqliteConnection) -> bool:
    """Whether the database can give back single pages."""
    return bool(connection.execute("PRAGMA auto_vacuum").fetchone()[0] == _INCREMENTAL)


def measure(path: str, connection: SqliteConnection, *, is_pinned: bool = False) -> SpaceUsage:
    """`is_pinned`: somebody needs so much of the WAL that nothing should be added to it."""
    pages = count_pages(connection)
    file_bytes = os.path.getsize(path)
    if is_pinned:
        stage = CompactionStage.WAITING
    elif pages.free:
        stage = CompactionStage.WORKING
    else:
        # It is cut off by the checkpoint that finds nobody who reads what was there before.
        stage = CompactionStage.WAITING if file_bytes > pages.total * pages.size_bytes else CompactionStage.DONE
    return SpaceUsage(file_bytes, pages.free * pages.size_bytes, stage)


def give_back_pages(connection: SqliteConnection, is_over: Callable[[], bool]) -> None:
    """Gives back free pages until there are none or the time is over. Within a transaction, as all that writes."""
    for _ in range(count_pages(connection).free):
        connection.execute("PRAGMA incremental_vacuum (1)")
        if is_over():
            return


def _take_step(path: str, is_pinned: bool, connection: SqliteConnection, is_over: Callable[[], bool]) -> SpaceUsage:
    if not is_incremental(connection):
        raise conflict(
            "The database was made by an earlier version and cannot give space back while the server runs:"
            " stop the server, run `chatapi compact` once, and start it again"
        )
    if is_pinned:
        return measure(path, connection, is_pinned=True)
    # The index of search keeps the text of deleted messages until it has taken them out.
    if purge_deleted(connection, is_over) or remove_outdated(connection, is_over):
        return measure(path, connection)._replace(stage=CompactionStage.WORKING)
    give_back_pages(connection, is_over)
    return measure(path, connection)


async def give_back(writer: Writer) -> tuple[int, SpaceUsage]:
    """Removes what was deleted and gives free pages back, in steps of the background, for a second or until it is done.
    Returns also the file's size as it was, in bytes.

    Calls at the same time share the work. Raises ChatError 409 for a database of an earlier version, and 503.
    """
    path = writer.files.path
    before = await writer.step(lambda connection, _is_over: measure(path, connection))
    loop = asyncio.get_running_loop()
    end_s = loop.time() + CALL_SECONDS
    while True:
        is_pinned = writer.pinned_wal_pages > MAX_PINNED_PAGES
        space = await writer.step(partial(_take_step, path, is_pinned), moves_pages=True)
        if space.stage is CompactionStage.DONE or loop.time() >= end_s:
            return before.file_bytes, space
        if space.stage is CompactionStage.WAITING:
            await asyncio.sleep(WAIT_SECONDS)  # a checkpoint follows every few steps
