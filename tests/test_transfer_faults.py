"""Exports and imports in bad hours: others who send meanwhile, clients that stall or leave, a full disk, huge files."""

import asyncio
import os
import socket
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from blockbuster import BlockBuster
from conftest import MASTER_KEY, make_flags
from driver import Server, eventually

from chatapi import housekeeping, transfers
from chatapi.app import start_app
from chatapi.clock import Clock
from chatapi.config import load_config
from chatapi.rest import transfers as routes
from chatapi.store import tenant_export
from chatapi.store.check import check_database
from chatapi.store.migrate import list_migrations

MASTER = {"X-Master-Key": MASTER_KEY}
IMPORT = "/admin/tenants/import"


def list_leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if ".export-" in path.name or ".import-" in path.name]


def count_deleted() -> int:
    """Files that this process holds open although they have no name."""
    links = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            continue
    return sum(".export-" in link or ".import-" in link for link in links)


async def eventually_clean(folder: Path) -> None:
    await eventually(lambda: not list_leftovers(folder) and not count_deleted())


def read(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


async def fetch_export(server: Server, tenant_id: str, path: Path) -> None:
    async with server.session.get(f"{server.url}/admin/tenants/{tenant_id}/export", headers=MASTER) as response:
        assert response.status == 200, await response.text()
        await asyncio.to_thread(path.write_bytes, await response.read())


async def make_large(server: Server, messages: int = 120) -> dict[str, Any]:
    """A tenant of several megabytes: more than sockets take by themselves."""
    tenant = await server.make_tenant("large", rate_limit=100_000, rate_burst=100_000)
    alice = server.user("alice", tenant["api_key"])
    room_id = await alice.make_room("bob")
    for _ in range(messages):
        await alice.say(room_id, "x" * 60_000)
    return tenant


async def connect(server: Server, head: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = server.url.removeprefix("http://").split(":")
    own = socket.socket()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # else the kernel might take all of it
    own.setblocking(False)
    await asyncio.get_running_loop().sock_connect(own, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=own, limit=1024)
    writer.write(f"{head} HTTP/1.1\r\nHost: chat\r\nX-Master-Key: {MASTER_KEY}\r\n".encode())
    return reader, writer


@pytest.mark.slow
async def test_an_export_is_one_moment_while_others_send(
    server: Server, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant_export, "PACE_OPERATIONS", 200)
    monkeypatch.setattr(tenant_export, "WORK_SECONDS", 0.0)
    monkeypatch.setattr(tenant_export, "REST_SECONDS", 0.005)  # so that much is sent meanwhile
    tenant = await server.make_tenant("busy", rate_limit=100_000, rate_burst=100_000)
    alice = server.user("alice", tenant["api_key"])
    rooms = [await alice.make_room("bob") for _ in range(2)]
    sent, is_over = 0, False

    async def send() -> None:
        nonlocal sent
        while not is_over:
            room_id = rooms[sent % 2]
            message = await alice.say(room_id, str(sent))
            await alice.put(f"/rooms/{room_id}/messages/{message['message_id']}/reactions/x", None)
            sent += 1

    async with asyncio.TaskGroup() as group:
        group.create_task(send())
        await eventually(lambda: sent > 150)
        before = sent
        await fetch_export(server, tenant["tenant_id"], tmp_path / "tenant.db")
        after, is_over = sent, True
    report = await asyncio.to_thread(check_database, str(tmp_path / "tenant.db"))
    assert report.findings == []
    copied = read(tmp_path / "tenant.db", "SELECT content, seq FROM messages ORDER BY message_key")
    assert [content for content, _ in copied] == [str(number) for number in range(len(copied))]
    assert before <= len(copied) < after
    [(reactions,)] = read(tmp_path / "tenant.db", "SELECT count(*) FROM reactions")
    assert len(copied) - 1 <= reactions <= len(copied)  # those of a later moment would be more
    await eventually_clean(database.parent)


@pytest.mark.slow
async def test_a_client_that_reads_nothing_is_cut_off(
    server: Server, database: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(transfers, "MAX_COPIES", 1)
    tenant = await make_large(server)
    path = f"/admin/tenants/{tenant['tenant_id']}/export"
    monkeypatch.setattr(routes, "STALL_SECONDS", 3600)
    _, leaving = await connect(server, f"GET {path}")
    leaving.write(b"\r\n")
    await eventually(lambda: count_deleted() == 1)
    refused = await server.admin("GET", path.removeprefix("/admin"))
    assert (refused.status, refused.error["message"]) == (503, "Other exports are being read: try again later")
    leaving.transport.abort()
    await eventually_clean(database.parent)
    await eventually(lambda: server.services.transfers._copies == 0)

    monkeypatch.setattr(routes, "STALL_SECONDS", 0.3)
    reader, writer = await connect(server, f"GET {path}")
    writer.write(b"\r\n")
    await eventually(lambda: "an export was cut off" in caplog.text)
    await eventually_clean(database.parent)
    await eventually(lambda: server.services.transfers._copies == 0)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await reader.readexactly(7_000_000)  # of more than that
    writer.close()
    monkeypatch.setattr(routes, "STALL_SECONDS", 30)
    await fetch_export(server, tenant["tenant_id"], database.parent / "whole.db")


@pytest.mark.slow
async def test_a_client_that_leaves_ends_its_export(
    server: Server, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await make_large(server, 20)
    path = f"/admin/tenants/{tenant['tenant_id']}/export"
    monkeypatch.setattr(tenant_export, "PACE_OPERATIONS", 10)
    monkeypatch.setattr(tenant_export, "WORK_SECONDS", 0.0)
    monkeypatch.setattr(tenant_export, "REST_SECONDS", 0.05)
    writers = []
    for _ in range(2):
        _, writer = await connect(server, f"GET {path}")
        writer.write(b"\r\n")
        writers.append(writer)
    await eventually(lambda: len(list_leftovers(database.parent)) == 2)
    async with server.session.get(server.url + path, headers=MASTER) as response:
        assert (response.status, (await response.json())["error"]["message"]) == (
            503,
            "Other exports are under way: try again later",
        )
    for writer in writers:
        writer.transport.abort()
    await eventually_clean(database.parent)
    monkeypatch.undo()
    await fetch_export(server, tenant["tenant_id"], database.parent / "whole.db")


@pytest.mark.slow
@pytest.mark.parametrize("leaves", [False, True])
async def test_a_client_that_stops_sending_leaves_nothing(
    server: Server, database: Path, monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    if not leaves:
        monkeypatch.setattr(routes, "STALL_SECONDS", 0.3)
    reader, writer = await connect(server, f"POST {IMPORT}")
    writer.write(b"Content-Length: 10000000\r\n\r\n" + b"x" * 1_000_000)
    await eventually(lambda: list_leftovers(database.parent))
    if leaves:
        writer.transport.abort()
    else:
        async with asyncio.timeout(20):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        writer.close()
    await eventually_clean(database.parent)
    assert len((await server.admin("GET", "/tenants")).data["tenants"]) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(folder)], check=False).returncode:
        pytest.skip("only root mounts a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
async def cramped(small_disk: Path, blocking: BlockBuster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """A server on a disk of 6 MB that nobody looks after."""
    for module in (tenant_export, routes):
        monkeypatch.setattr(module, "SPARE_BYTES", 0)
    monkeypatch.setattr(housekeeping, "list_jobs", lambda _services: [])
    blocking.deactivate()  # for the start, beside a server that runs
    config = load_config(None, {}, make_flags(small_disk / "chatapi.db")).config
    app = await start_app(config, clock=Clock(), dev=None, on_crash=lambda _: None)
    async with aiohttp.ClientSession() as session:
        server = Server(app, session, MASTER_KEY)
        yield server
        await server.hang_up()
    await app.close()


@pytest.mark.slow
async def test_a_full_disk_is_told_and_nothing_stays_half(
    server: Server, cramped: Server, small_disk: Path, tmp_path: Path
) -> None:
    tenant = await make_large(server, 60)
    file = tmp_path / "tenant.db"
    await fetch_export(server, tenant["tenant_id"], file)
    small = await make_large(server, 35)
    await fetch_export(server, small["tenant_id"], tmp_path / "small.db")

    async def take(path: Path) -> tuple[int, str]:
        with path.open("rb") as body:
            async with cramped.session.post(cramped.url + IMPORT, headers=MASTER, data=body) as response:
                return response.status, (await response.json())["error"]["message"]

    assert file.stat().st_size < 6_000_000
    status, message = await take(file)
    # It fits, and the tenant beside it does not; or its journal does not.
    assert status == 503, message
    assert message in ("The database cannot accept writes", "The file could not be stored: No space left on device")
    await eventually(lambda: not list_leftovers(small_disk))
    assert (await cramped.admin("GET", "/tenants")).data["tenants"] == []
    await housekeeping.purge_deleted(cramped.services)
    assert read(small_disk / "chatapi.db", "SELECT count(*) FROM messages") == [(0,)]
    made = await make_large(cramped, 30)
    path = f"{cramped.url}/admin/tenants/{made['tenant_id']}/export"
    async with cramped.session.get(path, headers=MASTER) as response:
        assert response.status == 503
        message = (await response.json())["error"]["message"]
    assert message == "The export could not be made: database or disk is full"
    assert not list_leftovers(small_disk)
    alice = cramped.user("alice", made["api_key"])
    await alice.say(await alice.make_room(), "it goes on")


@pytest.mark.slow
@pytest.mark.parametrize("version", sorted({*range(1, len(list_migrations()), 5), len(list_migrations()) - 1}))
async def test_a_file_of_an_earlier_version_is_brought_up_to_date(server: Server, tmp_path: Path, version: int) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for _, script in list_migrations()[:version]:
            connection.executescript(script)
        connection.executescript("""
            INSERT INTO tenants (tenant_key, tenant_id, name, token_secret, created_at_us)
            VALUES (1, 'old', 'o', 's', 1);
            INSERT INTO rooms (room_key, tenant_key, room_id, type, created_by, created_at_us, updated_at_us)
            VALUES (1, 1, 'room_old', 'group', 'alice', 1, 1);
            INSERT INTO members (room_key, user_id, tenant_key, role, joined_at_us) VALUES (1, 'alice', 1, 'admin', 1);
            INSERT INTO messages (message_key, room_key, seq, sender_id, content, created_at_us)
            VALUES (4096, 1, 1, 'alice', 'old words', 1);
        """)
        if [row for row in connection.execute("PRAGMA table_info (tenants)") if row[1] == "epoch"]:
            connection.execute("UPDATE tenants SET epoch = 'e1'")
    with path.open("rb") as body:
        async with server.session.post(server.url + IMPORT, headers=MASTER, data=body) as response:
            assert response.status == 201, await response.text()
    key = (await server.admin("POST", "/tenants/old/keys")).data["api_key"]
    alice = server.user("alice", key)
    assert (await alice.get("/rooms/room_old/messages")).data["messages"][0]["content"] == "old words"
    assert (await alice.say("room_old", "new words"))["seq"] == 2
