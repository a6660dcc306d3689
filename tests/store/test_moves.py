"""A tenant's rows that come back to a database in which rows of an earlier stay are left."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from driver import Server
from marked_rows import fill

from chatapi import housekeeping
from chatapi.errors import ChatError
from chatapi.models import TenantKey
from chatapi.store import handover, moves, purge
from chatapi.store.check import check_database
from chatapi.words import list_words

EVENT, DELIVERY = 11, 12  # keys of webhook rows


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """No job runs by itself."""
    monkeypatch.setattr(housekeeping, "list_jobs", lambda _services: [])


class Stay:
    """A copy of the database from which the tenant has just moved away, and to which it comes back."""

    def __init__(self, source: Path, path: Path, tenant_id: str) -> None:
        self.path = path
        with closing(sqlite3.connect(source)) as original, closing(sqlite3.connect(path)) as copy:
            original.backup(copy)
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA foreign_keys = ON")
        self.connection.create_function("search_words", 1, lambda text: " ".join(list_words(text)))
        self.own = self.find_key(tenant_id)
        for key, ordinal in ((EVENT, None), (DELIVERY, 1)):
            self.add_webhook(key, ordinal)
        self.source = path.with_suffix(".source")
        with closing(sqlite3.connect(self.source)) as away:
            self.connection.backup(away)
        self.connection.execute(
            "UPDATE tenants SET tenant_id = '~' || tenant_id || '~1', deleted_at_us = 1 WHERE tenant_key = ?",
            (self.own,),
        )
        self.connection.execute(
            "INSERT INTO tenants (tenant_id, name, token_secret, created_at_us, epoch) VALUES (?, '', '', 1, 'e')",
            (tenant_id,),
        )
        self.new = self.find_key(tenant_id)

    def find_key(self, tenant_id: str) -> TenantKey:
        row = self.connection.execute("SELECT tenant_key FROM tenants WHERE tenant_id = ?", (tenant_id,)).fetchone()
        return TenantKey(row[0])

    def add_webhook(self, key: int, ordinal: int | None) -> None:
        if ordinal is None:
            self.connection.execute(
                "INSERT INTO webhook_events (event_key, tenant_key, excluded, due_at_us) VALUES (?, ?, '[]', 1)",
                (key, self.own),
            )
        else:
            self.connection.execute(
                "INSERT INTO webhook_deliveries (event_key, ordinal, tenant_key, user_id, next_attempt_at_us)"
                " VALUES (?, ?, ?, 'marked', 1)",
                (key, ordinal, self.own),
            )

    def come_back(self, left_over: list[TenantKey], *, as_changes: bool) -> None:
        rooms: dict[int, int] = {}
        for page in moves.walk_rows(f"file:{self.source}", self.own):
            translation = moves.Translation(self.new, rooms, {}, left_over)
            self.connection.execute("BEGIN IMMEDIATE")
            if as_changes:
                moves.apply_changes(self.connection, translation, [page])
            else:
                done = 0
                while done < len(page.rows):
                    done = moves.insert_rows(self.connection, translation, page, done, lambda: True)
            self.connection.execute("COMMIT")
            rooms.update(translation.found)

    def count(self, tenant_key: TenantKey) -> dict[str, int]:
        return moves.count_rows(self.connection, tenant_key)

    def count_source(self) -> dict[str, int]:
        with closing(sqlite3.connect(self.source)) as source:
            return moves.count_rows(source, self.own)

    def purge(self) -> None:
        while purge.purge_deleted(self.connection, lambda: False):
            pass


@pytest.fixture
async def made(server: Server, database: Path, tmp_path: Path) -> Stay:
    tenant = await server.make_tenant("mover")
    await fill(server, tenant)
    return Stay(database, tmp_path / "copy.db", tenant["tenant_id"])


@pytest.fixture
def stay(made: Stay) -> Iterator[Stay]:
    yield made
    made.connection.close()


@pytest.mark.parametrize("as_changes", [False, True])
def test_rows_that_come_back_take_the_place_of_those_that_are_left(stay: Stay, as_changes: bool) -> None:
    there = stay.count_source()
    # Of these tables keys are unique in the whole database: without room for them the rows would not go in.
    for name in ("messages", "notifications", "subscriptions", "reports", "webhook_events", "webhook_deliveries"):
        assert there[name] > 0, name
    stay.come_back([stay.own], as_changes=as_changes)
    assert stay.count(stay.new) == there
    stay.purge()
    assert stay.count(stay.new) == there
    assert stay.connection.execute("SELECT count(*) FROM tenants WHERE tenant_key = ?", (stay.own,)).fetchone() == (0,)
    assert check_database(str(stay.path)).findings == []


def test_rows_of_other_tenants_make_no_room(stay: Stay) -> None:
    before = stay.count(stay.own)
    stay.come_back([], as_changes=False)
    assert stay.count(stay.own) == before
    assert stay.count(stay.new)["messages"] == 0


def test_a_row_that_changes_again_is_noted_once_by_an_upsert_too(stay: Stay) -> None:
    """An upsert decides about the conflicts of the triggers that it fires."""
    moves.start_noting(stay.connection, stay.own)
    tried = set()
    for table in moves.list_tables(stay.connection):
        columns = ", ".join(table.columns)
        scope = (
            "room_key IN (SELECT room_key FROM rooms WHERE tenant_key = ?)" if table.is_of_room else "tenant_key = ?"
        )
        last = table.columns[-1]
        upsert = (
            f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM {table.name} WHERE {scope} LIMIT 1"
            f" ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {last} = excluded.{last}"
        )
        for _ in range(2):
            if stay.connection.execute(upsert, (stay.own,)).rowcount > 0:
                tried.add(table.name)
    assert tried >= {"rooms", "messages", "members", "threads", "reaction_counts", "users"}
    assert moves.count_noted(stay.connection) == len(tried)


def test_a_message_that_is_edited_twice_during_a_move_arrives(stay: Stay) -> None:
    """The index of search has not come to it in between: its trigger finds the row outdated already."""
    stay.connection.execute("DELETE FROM messages")
    stay.come_back([], as_changes=False)
    stay.connection.execute("DELETE FROM search_outdated")
    stay.connection.execute("UPDATE search_progress SET done_key = (SELECT max(message_key) FROM messages)")
    stay.connection.execute("INSERT OR IGNORE INTO search_blocks (room_key, number) SELECT room_key, 0 FROM rooms")
    rooms = {key: key for (key,) in stay.connection.execute("SELECT room_key FROM rooms").fetchall()}
    [messages] = [table for table in moves.list_tables(stay.connection) if table.name == "messages"]
    content = messages.columns.index("content")
    row = stay.connection.execute(
        f"SELECT {', '.join(messages.columns)} FROM messages WHERE content IS NOT NULL LIMIT 1"
    ).fetchone()
    for text in ("once", "twice"):
        edited = (*row[:content], text, *row[content + 1 :])
        change = moves.TableChange("messages", messages.columns, [edited], [])
        moves.apply_changes(stay.connection, moves.Translation(stay.new, rooms, {}), [change])
    assert stay.connection.execute("SELECT content FROM messages WHERE message_key = ?", row[:1]).fetchone() == (
        "twice",
    )
    assert stay.connection.execute("SELECT content FROM search_outdated").fetchall() == [(row[content],)]


def test_a_tenant_that_was_deleted_while_it_was_copied_is_not_handed_over(stay: Stay) -> None:
    for tenant_key in (stay.own, TenantKey(stay.new + 1)):  # deleted, and purged already
        with pytest.raises(ChatError, match="Tenant not found"):
            handover.read_identity(stay.connection, tenant_key)
    assert handover.read_identity(stay.connection, stay.new)["keys"] == []
