"""Deletions leave no row behind, in whatever table: all tables of the schema are looked through, by their columns, so
that a new one cannot be forgotten. A table that the stage leaves empty fails the tests, too."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import StartServer
from driver import HandClock, Server, User
from marked_rows import fill
from stored_rows import Database

from chatapi import housekeeping
from chatapi.housekeeping import apply_retention, purge_deleted

DAY_SECONDS = 86_400.0


@pytest.fixture
def database_file(database: Path) -> Iterator[Database]:
    with closing(sqlite3.connect(database)) as connection:
        yield Database(connection)


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """No job runs by itself."""
    monkeypatch.setattr(housekeeping, "list_jobs", lambda _services: [])


async def purge(server: Server) -> None:
    await purge_deleted(server.services)
    await server.services.indexer.update()
    await purge_deleted(server.services)


def find_key(database: Database, room_id: str) -> int:
    return int(database.rows("SELECT room_key FROM rooms WHERE room_id = ?", room_id)[0][0])


async def test_a_deleted_room_leaves_no_row(server: Server, database_file: Database) -> None:
    tenant = await server.make_tenant("other")
    room_id = await fill(server, tenant)
    room_key = find_key(database_file, room_id)
    assert database_file.find("room_key", room_key) == database_file.having("room_key")
    await server.user("marked-alice", tenant["api_key"]).delete(f"/rooms/{room_id}")
    await purge(server)
    assert database_file.find("room_key", room_key) == set()
    assert database_file.find_text(room_id) == {"audit.target", "audit.details"}
    kept = {
        "audit",
        "users",
        "blocks",
        "user_bans",
        "erasures",
        "subscriptions",
        "notifications",
        "notification_recipients",
    }
    assert {column.split(".")[0] for column in database_file.find_text("marked")} == kept


@pytest.mark.slow
async def test_a_deleted_tenant_leaves_no_row(server: Server, database_file: Database) -> None:
    tenant = await server.make_tenant("other", webhook_url="https://marked.example/hook")
    room_key = find_key(database_file, await fill(server, tenant))
    [(tenant_key,)] = database_file.rows("SELECT tenant_key FROM tenants WHERE name = 'other'")
    assert database_file.find("tenant_key", tenant_key) == database_file.having("tenant_key")
    await server.admin("DELETE", f"/tenants/{tenant['tenant_id']}")
    await purge(server)
    assert database_file.find("tenant_key", tenant_key) == database_file.find("room_key", room_key) == set()
    assert database_file.find_text("marked") <= {"audit.user_id", "audit.target", "audit.details"}, "ids alone"
    assert database_file.find_text(tenant["tenant_id"]) == {"audit.tenant_id", "audit.target"}


async def test_retention_leaves_nothing_of_the_log(start_server: StartServer, database_file: Database) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    tenant = await server.make_tenant("other", retention_days=1)
    room_id = await fill(server, tenant)
    room_key = find_key(database_file, room_id)
    clock.advance(2 * DAY_SECONDS)
    await apply_retention(server.services, server.services.tenants.get(tenant["tenant_id"]))
    await purge(server)
    # The search block is that of the room's next message.
    kept = {"rooms", "members", "traces", "mutes", "bans", "search_blocks"}
    assert database_file.find("room_key", room_key) == kept
    for word in ("marked root", "marked mention", "marked edit", "marked spare", "marked reply"):
        assert database_file.find_text(word) == set()


async def test_all_that_a_user_takes_back_leaves_no_row(server: Server, database_file: Database) -> None:
    alice, bob, backend = server.user("alice"), server.user("bob"), server.user("backend")
    room_id = await alice.make_room("bob")
    path = f"/rooms/{room_id}"
    theirs = (await alice.say(room_id, mentions=["bob"]))["message_id"]
    own = (await bob.say(room_id))["message_id"]

    async def do_and_undo(user: User, target: str, body: object = None) -> None:
        assert (await user.request("PUT", target, body)).status == 200
        assert (await user.delete(target)).status == 204

    await do_and_undo(bob, f"{path}/messages/{theirs}/reactions/x")
    await do_and_undo(bob, "/blocks/dave")
    await do_and_undo(backend, "/users/bob/ban", {})
    await alice.patch(f"{path}/members/bob", {"role": "admin"})
    await do_and_undo(bob, f"{path}/pins/{theirs}")
    for seconds in (60, 0):
        await alice.patch(f"{path}/members/bob", {"muted_for": seconds})
    subscription = (await bob.post("/subscriptions", {"topic": "news"})).data["subscription_id"]
    await bob.delete(f"/subscriptions/{subscription}")
    await bob.put(f"{path}/messages/{own}/reactions/x", None)
    for user, message_id in ((bob, own), (alice, theirs)):
        await user.delete(f"{path}/messages/{message_id}")
    await do_and_undo(alice, f"{path}/bans/bob", {})
    await purge(server)
    assert database_file.find("user_id", "bob") == {"traces"}  # they have written there
    assert database_file.find("emoji", "x") == database_file.find("blocked_id", "dave") == set()
