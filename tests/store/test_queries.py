"""Every statement finds its rows by an index: none reads a whole table that grows with use."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from statements import STATEMENTS

from chatapi.store.search_index import prepare_offline

# Tenants, their keys and banned users are few and all in memory; they are read once, at the start.
# What waits to be purged, and streams that are open, are read from the first one on.
SMALL = {
    "search_progress",
    "search_outdated",
    "tenants",
    "arrivals",
    "departures",
    "api_keys",
    "meta",
    "user_bans",
    "unfinished_notifications",
    "emptied_messages",
    "open_streams",
}

# Indexes of the few rows that wait for somebody: to read one of them from its start is no scan.
SHORT = {"rooms_deleted", "erasures_under_way"}


@pytest.fixture(scope="module")
def connection(migrated_database: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"file:{migrated_database}?mode=ro", uri=True)
    prepare_offline(connection)
    yield connection
    connection.close()


def explain(connection: sqlite3.Connection, sql: str) -> list[str]:
    bare = re.sub(r"'[^']*'", "", sql)
    parameters = [1] * bare.count("?") or dict.fromkeys(re.findall(r"[:](\w+)", bare), 1)
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]


def find_scans(connection: sqlite3.Connection, sql: str) -> list[str]:
    """The tables of ours that a statement reads from end to end."""
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    aliases = {alias: table for table, alias in re.findall(r"(\w+) AS (\w+)", sql) if table in tables}
    plan = [step for step in explain(connection, sql) if "VIRTUAL TABLE" not in step]  # an index of its own
    steps = [re.match(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?", step) for step in plan]
    scanned = [step[1] for step in steps if step is not None and step[2] not in SHORT]
    return [table for name in scanned if (table := aliases.get(name, name)) in tables]


def test_the_statements_are_found() -> None:
    assert len(STATEMENTS) >= 40
    assert "log._EVENTS" in dict(STATEMENTS)


def test_a_scan_is_noticed(connection: sqlite3.Connection) -> None:
    assert find_scans(connection, "SELECT * FROM messages AS m WHERE m.content = :content") == ["messages"]
    assert find_scans(connection, "SELECT seq FROM messages WHERE room_key = :room_key AND seq > 7") == []


@pytest.mark.parametrize(("name", "sql"), STATEMENTS, ids=[name for name, _ in STATEMENTS])
def test_no_statement_reads_a_whole_table(connection: sqlite3.Connection, name: str, sql: str) -> None:
    assert set(find_scans(connection, sql)) <= SMALL


# Pages that end at a number of bytes: what is beyond is not read.
PAGES = [
    *("log._HISTORY_AFTER", "log._HISTORY_BEFORE", "log._EVENTS", "log._NEWEST_EVENTS"),
    *("rooms._LIST_ROOMS", "rooms._LIST_CHANNELS", "rooms._LIST_MEMBERS", "rooms._LIST_RECEIPTS"),
    *("notifications._LIST_ALL", "notifications._LIST_PENDING", "notifications._LIST_DELIVERED"),
    *("notifications._READ_PENDING", "notifications._LIST_SUBSCRIPTIONS", "tenants._LIST_KEYS"),
    *("webhooks._LIST_DEAD", "webhooks._LIST_DEAD_OF_TENANT", "rooms._LOAD_MEMBERS_AFTER"),
]


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_read_in_the_order_of_an_index(connection: sqlite3.Connection, name: str) -> None:
    """To sort them, all of what they might hold would be read first."""
    assert not [step for step in explain(connection, dict(STATEMENTS)[name]) if "TEMP B-TREE" in step]


@pytest.mark.parametrize("name", ["rooms._LIST_MEMBERS", "rooms._LIST_RECEIPTS"])
def test_an_offset_passes_over_an_index_alone(connection: sqlite3.Connection, name: str) -> None:
    """Each member that it passes over takes 0.05 us there, and 2 us where their row is read."""
    steps = explain(connection, dict(STATEMENTS)[name])
    assert [step for step in steps if "USING COVERING INDEX members_standing" in step]
