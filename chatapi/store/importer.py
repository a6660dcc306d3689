"""Takes over the database of the Go ChatAPI v0.1, in one transaction: all of it or nothing.

It can be run again. Then a tenant that is here already keeps its name, config, keys, subscriptions and notifications,
and a room follows the old database for as long as nothing has happened in it here.
"""

import asyncio
import os
import sqlite3
from contextlib import closing
from urllib.parse import quote

from chatapi.clock import Clock
from chatapi.store import StoreError, check_usable, open_store
from chatapi.store.go.messages import take_acks, take_messages
from chatapi.store.go.notifications import take_notifications, take_subscriptions
from chatapi.store.go.rooms import take_rooms
from chatapi.store.go.run import Count, CredentialMakers, ImportReport, Run
from chatapi.store.go.source import attach_old
from chatapi.store.go.tenants import take_tenants
from chatapi.store.litestream import OFFLINE_ADVICE, find_conflict
from chatapi.store.lock import DatabaseInUse, DatabaseLock
from chatapi.store.search_index import build_again
from chatapi.store.standalone import UnusableDatabase, decode_text, explain_errors, one_line

__all__ = ["Count", "CredentialMakers", "ImportReport", "import_go_database"]

# Each finds what those before it have made.
_PARTS = (take_tenants, take_rooms, take_messages, take_acks, take_subscriptions, take_notifications)


def import_go_database(source: str, target: str, *, clock: Clock, credentials: CredentialMakers) -> ImportReport:
    """Imports the file `source` into `target`, which is made if need be and must not be in use by a server.

    Raises UnusableDatabase, and nothing has changed.
    """
    try:
        with explain_errors(source), closing(_connect(":memory:")) as probe:
            attach_old(probe, source)  # before anything is made
            _check_old(probe, source)
        check_usable(target)
        if conflict := find_conflict(target):
            raise UnusableDatabase(f"{target}: {conflict}. {OFFLINE_ADVICE}")
        with DatabaseLock(target):
            asyncio.run(_make_database(target, clock))
            with explain_errors(f"{source} into {target}"), closing(_connect(target)) as connection:
                attach_old(connection, source)
                connection.execute("BEGIN IMMEDIATE")
                run = Run(connection, clock, credentials)
                for take in _PARTS:
                    take(run)
                if run.report.counts["messages"].imported:
                    build_again(connection)
                connection.execute("COMMIT")
                return run.report
    except (DatabaseInUse, StoreError) as error:
        raise UnusableDatabase(one_line(error)) from error
    except OSError as error:
        raise UnusableDatabase(f"{error.filename or target}: {error.strerror}") from error


def _check_old(connection: sqlite3.Connection, source: str) -> None:
    """A damaged file could be read and yet miss rows."""
    [finding] = connection.execute("PRAGMA old.integrity_check(1)").fetchone()
    if finding != "ok":
        raise UnusableDatabase(f"{source}: damaged: {one_line(finding)}")


async def _make_database(path: str, clock: Clock) -> None:
    store = await open_store(path, synchronous="full", readers=1, clock=clock)
    await store.close()


def _connect(path: str) -> sqlite3.Connection:
    # As a URI, so that the old database can be attached as one.
    uri = path if path == ":memory:" else f"file:{quote(os.path.abspath(path))}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    connection.text_factory = decode_text
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA cache_size = -65536")  # 64 MiB: rows come by time, and so to many places of the indexes
    return connection
