"""Tenants that leave as a file and come from one: over the routes of real servers."""

import asyncio
import json
import os
import re
import secrets
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from blockbuster import BlockBuster
from conftest import MASTER_KEY, StartServer, make_flags
from driver import Server, eventually
from marked_rows import fill

from chatapi import housekeeping
from chatapi.app import start_app
from chatapi.clock import Clock
from chatapi.config import Config, load_config
from chatapi.errors import ChatError, Code
from chatapi.housekeeping import purge_deleted
from chatapi.store.check import check_database
from chatapi.store.migrate import list_migrations
from chatapi.store.tenant_lines import LINES, WITHOUT_LINES, list_lines
from chatapi.store.tenant_tables import ROOM_KEY, TENANT_KEY, TENANT_TABLES, list_rows

PRIVATE = {"webhooks.allow_private_addresses": True}
MASTER = {"X-Master-Key": MASTER_KEY}
# What changes by itself.
USED = {
    "api_keys": {"last_used_at_us"},
    "tenants": {"epoch"},
    "users": {"last_seen_at_us"},
    "webhook_deliveries": {"attempts", "next_attempt_at_us", "last_attempt_at_us", "error", "step"},
}


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is purged before it has been compared."""
    monkeypatch.setattr(housekeeping, "list_jobs", lambda _services: [])


@pytest.fixture
async def server(start_server: StartServer) -> Server:
    return await start_server(PRIVATE)


@pytest.fixture
def target_config(tmp_path: Path) -> Config:
    (tmp_path / "target").mkdir()
    return load_config(None, {}, {**make_flags(tmp_path / "target" / "chatapi.db"), **PRIVATE}).config


@pytest.fixture
async def target(target_config: Config, start_server: StartServer, blocking: BlockBuster) -> AsyncIterator[Server]:
    """Another server, which has a tenant of its own."""
    crashed: list[str] = []
    app = await start_app(target_config, clock=Clock(), dev=None, on_crash=crashed.append)
    async with aiohttp.ClientSession() as session:
        server = Server(app, session, MASTER_KEY)
        tenant = await server.make_tenant("resident")
        await server.user("resident", tenant["api_key"]).make_room("neighbour")
        yield server
        await server.hang_up()
    blocking.deactivate()
    await app.close()
    assert crashed == []


async def export(server: Server, tenant_id: str, path: Path) -> Path:
    async with server.session.get(f"{server.url}/admin/tenants/{tenant_id}/export", headers=MASTER) as response:
        assert response.status == 200, await response.text()
        await asyncio.to_thread(path.write_bytes, await response.read())
    return path


async def take(server: Server, path: Path) -> tuple[int, Any]:
    body = await asyncio.to_thread(path.read_bytes)
    async with server.session.post(
        f"{server.url}/admin/tenants/import", headers=MASTER, data=BytesIO(body)
    ) as response:
        return response.status, await response.json()


def read_rows(path: str | Path, tenant_id: str) -> dict[str, list[Any]]:
    """All that is stored of a tenant, with names in the place of the database's own keys."""
    with closing(sqlite3.connect(path)) as connection:
        [(tenant_key,)] = connection.execute("SELECT tenant_key FROM tenants WHERE tenant_id = ?", (tenant_id,))
        found = {}
        for table in TENANT_TABLES:
            columns = [column for column in table.columns if column not in {TENANT_KEY, *USED.get(table.name, ())}]
            room = "(SELECT room_id FROM rooms AS n WHERE n.room_key = x.room_key AND n.deleted_at_us IS NULL)"
            shown = [room if column == ROOM_KEY else f"x.{column}" for column in columns]
            rows = connection.execute(f"SELECT {', '.join(shown)} {list_rows(table)}", {"tenant_key": tenant_key})
            found[table.name] = sorted(rows, key=repr)
        return found


def read_epoch(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT epoch FROM tenants").fetchone()[0])


def path_of(server: Server) -> str:
    return server.services.store.writer.files.path


def files_of(folder: Path) -> list[str]:
    return [name for _, _, names in os.walk(folder) for name in names]


async def test_a_tenant_is_the_same_on_another_server(target: Server, server: Server, tmp_path: Path) -> None:
    config = {"webhook_url": "https://127.0.0.1:1/hook", "webhook_events": ["room.deleted"]}
    tenant = await server.make_tenant("mover", **config)
    tenant_id, api_key = tenant["tenant_id"], tenant["api_key"]
    room_id = await fill(server, tenant)
    alice = server.user("marked-alice", api_key)
    gone = await alice.make_room()
    assert (await alice.delete(f"/rooms/{gone}")).status == 204
    there = target.user("marked-alice", api_key)
    await eventually(lambda: not read_rows(path_of(server), tenant_id)["webhook_events"])
    for number in range(100):  # until nobody has been told meanwhile
        file = await export(server, tenant_id, tmp_path / f"tenant-{number}.db")
        before, there_now = read_rows(file, tenant_id), read_rows(path_of(server), tenant_id)
        there_now["users"] = before["users"]  # a job notes meanwhile who was online
        if there_now["webhook_deliveries"] == before["webhook_deliveries"]:
            break
    assert there_now == before
    report = await asyncio.to_thread(check_database, str(file))
    assert (report.findings, report.counts["tenants"]) == ([], 1)
    assert {name for name, rows in before.items() if not rows} <= {"unfinished_notifications", "webhook_events"}
    status, answer = await take(target, file)
    assert status == 201, answer
    assert read_rows(path_of(target), tenant_id) == before
    for path in (f"/rooms/{room_id}/messages", f"/rooms/{room_id}/members", "/rooms", f"/rooms/{room_id}/pins"):
        assert (await there.get(path)).data == (await alice.get(path)).data, path
    epochs = {(await user.post("/sync")).data["epoch"] for user in (alice, there)}
    assert len({*epochs, read_epoch(file)}) == 3
    assert "room.deleted" in {row[-3] for row in before["webhook_deliveries"]}
    for name, expected in (("marked-eve", 403), ("marked-bob", 200)):  # eve is banned
        token = (await target.user("backend", api_key).post("/tokens", {"user_id": name})).data["token"]
        assert (await target.bearer(name, token).get("/rooms")).status == expected
    assert len((await there.get("/search?q=marked")).data["results"]) == len(
        (await alice.get("/search?q=marked")).data["results"]
    )
    said = await there.say(room_id, "after the move")
    assert said["seq"] == (await alice.say(room_id, "after the move"))["seq"]
    assert (await asyncio.to_thread(check_database, path_of(target))).findings == []
    status, answer = await take(target, file)
    assert (status, answer["error"]["code"]) == (409, "CONFLICT")
    assert not [
        name for name in await asyncio.to_thread(files_of, tmp_path) if ".import-" in name or ".export-" in name
    ]


async def test_it_comes_back_to_the_server_that_deleted_it(server: Server, tmp_path: Path) -> None:
    tenant = await server.make_tenant("returner")
    tenant_id, api_key = tenant["tenant_id"], tenant["api_key"]
    room_id = await fill(server, tenant)
    await server.services.indexer.update()
    file = await export(server, tenant_id, tmp_path / "tenant.db")
    before = read_rows(file, tenant_id)
    cursors = (await server.user("marked-bob", api_key).post("/sync")).data
    assert (await server.admin("DELETE", f"/tenants/{tenant_id}")).status == 204
    await purge_deleted(server.services)
    assert (await take(server, file))[0] == 201
    assert read_rows(path_of(server), tenant_id) == before
    body = {"epoch": cursors["epoch"], "rooms": cursors["rooms"]}
    assert (await server.user("marked-bob", api_key).post("/sync", body)).data["reset"].keys() == cursors[
        "rooms"
    ].keys()
    found = (await server.user("marked-alice", api_key).get("/search?q=marked")).data["results"]
    assert {result["room_id"] for result in found if "room_id" in result} <= {room_id}
    assert found
    await server.services.indexer.update()
    assert (await asyncio.to_thread(check_database, path_of(server))).findings == []


def read_documented_fields() -> dict[str, set[str]]:
    text = (Path(__file__).parent.parent / "docs" / "operations.md").read_text()
    table = text[text.index("| `type` | fields |") :].split("\n\n")[0]
    rows = [
        [re.findall("`([a-z_]+)`", cell.replace("(`null`", "")) for cell in row.split("|")[1:3]]
        for row in table.splitlines()[2:]
    ]
    return {kinds[0]: set(fields) for kinds, fields in rows}


async def test_lines_for_people_are_as_documented_and_hold_no_secret(server: Server, tmp_path: Path) -> None:
    tenant = await server.make_tenant("mover", webhook_url="https://127.0.0.1:1/hook")
    room_id = await fill(server, tenant)
    await eventually(lambda: not read_rows(path_of(server), tenant["tenant_id"])["webhook_events"])
    file = await export(server, tenant["tenant_id"], tmp_path / "tenant.db")
    lines = await asyncio.to_thread(lambda: list(list_lines(str(file))))
    records = [json.loads(line) for line in lines]
    assert (records[0]["type"], records[0]["tenant_id"], records[-1]) == (
        "tenant",
        tenant["tenant_id"],
        {"type": "end"},
    )
    seen: dict[str, set[str]] = {}
    for record in records:
        seen.setdefault(record.pop("type"), set()).update(record)
    assert seen == read_documented_fields()
    stored = read_rows(file, tenant["tenant_id"])
    secrets_of_tenant = [tenant["api_key"], tenant["token_secret"], tenant["webhook_secret"]]
    hashes = [row[1] for row in stored["api_keys"]]
    assert all(isinstance(found, bytes) for found in hashes)
    text = "\n".join(lines)
    assert not [secret for secret in (*secrets_of_tenant, *(found.hex() for found in hashes)) if secret in text]
    told = {record["message_id"]: record for record in records if "message_id" in record}
    alice = server.user("marked-alice", tenant["api_key"])
    shown = (await alice.get(f"/rooms/{room_id}/messages")).data["messages"]
    assert [told[message["message_id"]] for message in shown] == shown
    assert {*LINES, *WITHOUT_LINES} == {table.name for table in TENANT_TABLES}


LARGE = "printf('%.*c', 17000000, 'x')"
SECOND_TENANT = """
    INSERT INTO tenants (tenant_id, name, token_secret, created_at_us, epoch) VALUES ('b', 'b', 'b', 1, 'b')
"""


async def spoil(file: Path, *statements: str) -> Path:
    """A copy of the file in which somebody has done that."""

    def work() -> Path:
        spoilt = file.with_name(f"spoilt-{secrets.token_hex(4)}.db")
        shutil.copy(file, spoilt)
        with closing(sqlite3.connect(spoilt, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)
        return spoilt

    return await asyncio.to_thread(work)


@pytest.mark.slow
async def test_bad_files_are_refused_and_leave_nothing(target: Server, server: Server, tmp_path: Path) -> None:
    tenant = await server.make_tenant("mover")
    await fill(server, tenant)
    file = await export(server, tenant["tenant_id"], tmp_path / "tenant.db")
    newest = list_migrations()[-1][0]
    pages = "UPDATE messages SET content = zeroblob(3)"
    room = "UPDATE rooms SET created_at_us = 9223372036854775807"
    for statements, expected in (
        ((f"PRAGMA user_version = {newest + 1}",), "made by a later version"),
        (("PRAGMA application_id = 7",), "not a ChatAPI database"),
        (("CREATE TRIGGER bad AFTER INSERT ON rooms BEGIN DELETE FROM tenants; END",), "its tables are not those"),
        (("CREATE VIEW bad AS SELECT 1",), "its tables are not those"),
        (("ALTER TABLE messages ADD COLUMN bad INTEGER AS (seq) VIRTUAL",), "its tables are not those"),
        ((SECOND_TENANT,), "more than one tenant"),
        (("UPDATE tenants SET deleted_at_us = 1",), "holds no tenant"),
        ((pages.replace("zeroblob(3)", "'x'"), "DELETE FROM messages WHERE seq = 1"), "damaged"),
        ((room,), "rooms: created_at_us is out of bounds"),
        (("UPDATE rooms SET metadata = '{'",), "rooms: metadata is out of bounds"),
        (("UPDATE members SET user_id = 'a b' WHERE user_id = 'marked-bob'",), "damaged|out of bounds"),
        (("UPDATE notifications SET notification_key = 1 << 62",), "damaged|from the future"),
        (("UPDATE messages SET content = printf('%.*c', 131073, 'x') WHERE seq = 1",), "content is out of bounds"),
        ((f"UPDATE messages SET content = {LARGE} WHERE seq = 1",), "too big|content is out of bounds"),
        ((f"UPDATE rooms SET metadata = json_array({LARGE})",), "too big"),
        ((f"UPDATE rooms SET name = {LARGE}",), "too big|name is out of bounds"),
        ((f"UPDATE reaction_counts SET user_ids = json_array({LARGE})",), "too big"),
        (("UPDATE changes SET frame = json_array(printf('%.*c', 1048577, 'x'))",), "damaged|frame is out of bounds"),
    ):
        status, answer = await take(target, await spoil(file, *statements))
        assert status == 400, (statements, answer)
        assert re.search(expected, answer["error"]["message"]), (statements, answer)
    half = (await asyncio.to_thread(file.read_bytes))[: file.stat().st_size // 2]
    for content, expected in ((b"", "."), (b"no database" * 1000, "not a database"), (half, "damaged|malformed")):
        await asyncio.to_thread((tmp_path / "bad.db").write_bytes, content)
        status, answer = await take(target, tmp_path / "bad.db")
        assert (status, bool(re.search(expected, answer["error"]["message"]))) == (400, True), answer
    names = await asyncio.to_thread(files_of, tmp_path)
    assert not [name for name in names if ".import-" in name]
    assert len(target.services.tenants.all()) == 1
    assert (await take(target, file))[0] == 201


async def test_a_key_of_another_tenant_is_a_conflict(server: Server, tmp_path: Path) -> None:
    tenant = await server.make_tenant("mover")
    alice = server.user("alice", tenant["api_key"])
    await alice.say(await alice.make_room("bob"), "hello")
    file = await export(server, tenant["tenant_id"], tmp_path / "tenant.db")
    renamed = await spoil(file, "UPDATE tenants SET tenant_id = 'tenant_other'")
    status, answer = await take(server, renamed)
    assert (status, answer["error"]["message"]) == (409, "Another tenant has one of the file's API keys")
    status, answer = await take(server, await spoil(renamed, "DELETE FROM api_keys"))
    assert (status, answer["error"]["message"]) == (
        409,
        "The file has messages that are stored here already, as those of another tenant",
    )
    await purge_deleted(server.services)
    assert (await asyncio.to_thread(check_database, path_of(server))).findings == []
    assert await asyncio.to_thread(count_rows, path_of(server)) == 1


async def test_a_tenant_that_has_moved_away_is_exported_and_imported_elsewhere(server: Server, tmp_path: Path) -> None:
    tenant = await server.make_tenant("mover")
    file = await export(server, tenant["tenant_id"], tmp_path / "tenant.db")
    server.services.tenants.set_moved(server.services.tenants.get(tenant["tenant_id"]), "https://other.example.com")
    path = f"{server.url}/admin/tenants/{tenant['tenant_id']}/export"
    async with server.session.get(path, headers=MASTER) as response:
        answer = await response.json()
    assert (response.status, answer["error"]["details"]) == (421, {"url": "https://other.example.com"})
    status, answer = await take(server, file)
    assert status == 409
    assert "has moved to another server: delete it here first" in answer["error"]["message"]


async def test_an_import_right_after_the_deletion_purges_the_rest(server: Server, tmp_path: Path) -> None:
    """No job of housekeeping does it here."""
    tenant = await server.make_tenant("mover")
    await fill(server, tenant)
    file = await export(server, tenant["tenant_id"], tmp_path / "tenant.db")
    before = await asyncio.to_thread(count_rows, path_of(server))
    assert (await server.admin("DELETE", f"/tenants/{tenant['tenant_id']}")).status == 204
    async with asyncio.timeout(60):
        assert (await take(server, file))[0] == 201
    assert await asyncio.to_thread(count_rows, path_of(server)) == before


async def test_an_import_that_was_broken_off_is_purged_at_the_next_start(
    start_server: StartServer, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await server.make_tenant("mover")
    await fill(server, tenant)
    file = await export(server, tenant["tenant_id"], tmp_path / "tenant.db")
    assert (await server.admin("DELETE", f"/tenants/{tenant['tenant_id']}")).status == 204
    await purge_deleted(server.services)

    async def never(*_: object) -> None:
        raise ChatError(Code.INTERNAL_ERROR, "as if killed")

    monkeypatch.setattr(server.services.transfers, "reveal", never)
    monkeypatch.setattr(server.services.transfers, "discard", lambda _tenant: None)
    assert (await take(server, file))[0] == 500
    await purge_deleted(server.services)  # leaves what arrives alone
    hidden = await asyncio.to_thread(count_rows, path_of(server))
    assert hidden > 1
    assert (await server.admin("GET", f"/tenants/{tenant['tenant_id']}")).status == 404
    assert len((await server.admin("GET", "/tenants")).data["tenants"]) == 1
    await server.hang_up()
    await server.app.close()
    server = await start_server(PRIVATE)
    await purge_deleted(server.services)
    assert await asyncio.to_thread(count_rows, path_of(server)) == 0
    assert (await take(server, file))[0] == 201


def count_rows(path: str) -> int:
    """Messages and reactions, whosever they are."""
    with closing(sqlite3.connect(path)) as connection:
        sql = "SELECT (SELECT count(*) FROM messages) + (SELECT count(*) FROM reactions)"
        return int(connection.execute(sql).fetchone()[0])
