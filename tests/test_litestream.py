"""A machine is lost with its disk. Its database comes back from what Litestream has sent elsewhere."""

import asyncio
import contextlib
import sqlite3
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from driver import eventually
from litestream import SETTINGS, WAIT_SECONDS, Chatting, Litestream, count_loss, lose_machine, start_s3
from server_process import ServerProcess, free_port

from chatapi.store.check import check_database

pytestmark = [pytest.mark.release, pytest.mark.timeout(600)]

MOST_LOST_SECONDS = 15.0  # on a machine that is busy; docs/operations.md has what was measured
LOAD_SECONDS = 3.0


@pytest.fixture(params=["directory", "s3"])
def replica(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | Path]:
    if request.param == "directory":
        yield tmp_path / "replica"
        return
    with start_s3(tmp_path) as address:
        yield address


async def test_lost_machine_comes_back_from_its_replica(tmp_path: Path, replica: str | Path) -> None:
    (lost := tmp_path / "lost").mkdir()
    (spare := tmp_path / "spare").mkdir()
    port = free_port()
    first = ServerProcess(lost, SETTINGS, dev=False, port=port)
    second = ServerProcess(spare, SETTINGS, dev=False, port=port)
    litestream = Litestream(tmp_path, lost / "chatapi.db", replica)
    try:
        await asyncio.to_thread(first.start)
        await asyncio.to_thread(litestream.start)
        chatting = Chatting(first.url, await asyncio.to_thread(first.create_tenant, "acme"))
        async with asyncio.TaskGroup() as group:
            group.create_task(chatting.run())
            await asyncio.sleep(LOAD_SECONDS)  # the load itself
            while not await asyncio.to_thread(litestream.has_messages, tmp_path / "probe.db"):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.2)
            killed_s = await asyncio.to_thread(lose_machine, first, litestream, lost)
            await asyncio.to_thread(litestream.restore, spare / "chatapi.db")
            report = await asyncio.to_thread(check_database, str(spare / "chatapi.db"))
            assert report.findings == []
            with contextlib.closing(sqlite3.connect(spare / "chatapi.db")) as connection:
                stored = {content for (content,) in connection.execute("SELECT content FROM messages")}
            loss = count_loss(chatting, stored, killed_s)
            confirmed = len(chatting.confirmed)
            await asyncio.to_thread(second.start)
            await eventually(lambda: len(chatting.confirmed) > confirmed)
            chatting.is_over = True
        assert loss.seconds < MOST_LOST_SECONDS, loss
        assert len(stored) > 0
        assert chatting.resets == 1
        assert "the database was restored or copied" in second.log.read_text()
        second.kill()
        stored = second.read_stored()
        assert {content for when, _, content in chatting.confirmed if when > killed_s} <= stored
        assert set(chatting.kept.values()) == stored
        assert check_database(str(spare / "chatapi.db")).findings == []
    finally:
        litestream.kill()
        for server in (first, second):
            with contextlib.suppress(AssertionError):
                server.kill()


def test_old_sqlite_does_not_checkpoint_beside_litestream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With this setting no checkpoint is the server's: Litestream alone makes the WAL start over."""
    server = ServerProcess(tmp_path, SETTINGS, dev=False)
    litestream = Litestream(tmp_path, tmp_path / "chatapi.db", tmp_path / "replica")
    with server:
        key = server.create_tenant("acme")
        room = server.call("POST", "/rooms", {"type": "group"}, key=key, user="alice")["room_id"]
        before = (tmp_path / "chatapi.db").stat().st_size
        for number in range(300):
            server.call(
                "POST", f"/rooms/{room}/messages", {"content": f"{number} " + 60_000 * "x"}, key=key, user="alice"
            )
        assert (tmp_path / "chatapi.db").stat().st_size == before, "all is in the WAL"
        litestream.start()
        try:
            deadline = time.monotonic() + WAIT_SECONDS
            while (tmp_path / "chatapi.db").stat().st_size == before:
                assert time.monotonic() < deadline
                server.call("POST", f"/rooms/{room}/messages", {"content": "one more"}, key=key, user="alice")
                time.sleep(0.2)
        finally:
            litestream.kill()


def test_a_tenant_is_imported_while_litestream_replicates(tmp_path: Path) -> None:
    for name in ("source", "target", "spare"):
        (tmp_path / name).mkdir()
    with ServerProcess(tmp_path / "source", dev=False) as source:
        tenant = source.make_tenant("acme")
        room: dict[str, object] = {"type": "group"}
        room_id = source.call("POST", "/rooms", room, key=tenant["api_key"], user="alice")["room_id"]
        for number in range(200):
            body: dict[str, object] = {"content": f"{number} " + 10_000 * "x"}
            source.call("POST", f"/rooms/{room_id}/messages", body, key=tenant["api_key"], user="alice")
        exported = call_admin(source, "GET", f"/admin/tenants/{tenant['tenant_id']}/export")
    litestream = Litestream(tmp_path, tmp_path / "target" / "chatapi.db", tmp_path / "replica")
    with ServerProcess(tmp_path / "target", SETTINGS, dev=False) as target:
        litestream.start()
        try:
            call_admin(target, "POST", "/admin/tenants/import", exported)
            deadline = time.monotonic() + WAIT_SECONDS
            while True:  # until all of it was sent
                litestream.restore(tmp_path / "spare" / "chatapi.db")
                with contextlib.closing(sqlite3.connect(tmp_path / "spare" / "chatapi.db")) as connection:
                    [(count,)] = connection.execute(
                        "SELECT count(*) FROM messages WHERE EXISTS (SELECT 1 FROM tenants WHERE tenant_id = ?)",
                        (tenant["tenant_id"],),
                    )
                if count == 200:
                    break
                assert time.monotonic() < deadline, count
                (tmp_path / "spare" / "chatapi.db").unlink()
        finally:
            litestream.kill()
    for folder in ("target", "spare"):
        assert check_database(str(tmp_path / folder / "chatapi.db")).findings == []


def call_admin(server: ServerProcess, method: str, path: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(
        server.url + path,
        body,
        {"X-Master-Key": server.master_key, "Content-Type": "application/octet-stream"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())
