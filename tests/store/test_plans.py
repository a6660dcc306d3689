"""No statement walks over a whole table: each is looked at as SQLite would run it."""

import re
import sqlite3
from collections.abc import Iterator
from types import ModuleType

import pytest

from chatapi.store import notifications, stats, webhooks
from chatapi.store.migrate import list_migrations

STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b")
LISTS = {"rows", "but", "places", "failures", "wanted", "tenant_keys", "user_ids"}  # parameters that are JSON
PARTS = {"_EXCLUDED", "_MESSAGE_BODY", "_NOTIFICATION_BODY", "_DEAD_LETTER"}  # of other statements

BOUNDED = {"webhooks._COUNT_WAITING"}  # walks over an index, up to a limit


def list_statements(module: ModuleType) -> Iterator[tuple[str, str]]:
    for name, value in vars(module).items():
        texts = value if isinstance(value, dict) else {"": value}
        for variant, text in texts.items():
            if isinstance(text, str) and name not in PARTS and STATEMENT.match(text):
                yield f"{module.__name__.rpartition('.')[2]}.{name}{variant and '-' + variant}", text


STATEMENTS = dict(pair for module in (notifications, stats, webhooks) for pair in list_statements(module))


@pytest.fixture(scope="module")
def empty_database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    for _, script in list_migrations():
        connection.executescript(script)
    yield connection
    connection.close()


@pytest.mark.parametrize("name", STATEMENTS)
def test_it_uses_an_index(empty_database: sqlite3.Connection, name: str) -> None:
    sql = STATEMENTS[name]
    parameters = {found: "[]" if found in LISTS else 1 for found in re.findall(r"(?<![%\w]):([a-z_]+)", sql)}
    plan = [row[3] for row in empty_database.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
    made = {match[1] for line in plan if (match := re.match(r"(?:CO-ROUTINE|MATERIALIZE) (\S+)", line))}
    for line in plan:
        scanned = re.match(r"SCAN (\S+)", line)
        bounded = name in BOUNDED and "USING COVERING INDEX" in line
        assert scanned is None or "VIRTUAL TABLE" in line or scanned[1] in made or bounded, plan


def test_there_are_statements_to_look_at() -> None:
    assert len(STATEMENTS) > 30
