"""The database's files are removed or replaced under the running server: nothing is confirmed into nowhere."""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import StartServer
from driver import Server, eventually
from server_process import ServerProcess

from chatapi import housekeeping
from chatapi.housekeeping import watch_files
from chatapi.store import DatabaseGone


@pytest.fixture(autouse=True)
def _writes_are_tried_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "HEARTBEAT_SECONDS", 0.02)


def remove(path: Path) -> None:
    path.rename(f"{path}.away")


def replace(path: Path) -> None:
    path.rename(f"{path}.away")
    shutil.copy(f"{path}.away", path)


def remove_log(path: Path) -> None:
    Path(f"{path}-wal").rename(f"{path}-wal.away")


def cut_off(path: Path) -> None:
    os.rename(path, f"{path}.away")
    path.touch()


def bring_back(path: Path) -> None:
    for name in (str(path), f"{path}-wal"):
        if os.path.exists(f"{name}.away"):
            os.replace(f"{name}.away", name)


@pytest.mark.parametrize("harm", [remove, replace, remove_log, cut_off])
async def test_nothing_is_confirmed_until_the_same_file_is_back(
    start_server: StartServer, database: Path, harm: Callable[[Path], None]
) -> None:
    server = await start_server()
    alice = server.user("alice")
    room_id = await alice.make_room()
    await alice.say(room_id)
    harm(database)
    for _ in range(2):
        reply = await alice.post(f"/rooms/{room_id}/messages", {"content": "lost"})
        assert (reply.status, reply.error["code"]) == (503, "INTERNAL_ERROR")
    assert (await server.request("GET", "/readyz")).status == 503
    assert (await server.request("GET", "/health")).status == 503
    bring_back(database)
    await eventually(lambda: server.services.store.writer.writable)
    assert (await alice.say(room_id))["seq"] == 2


async def test_a_symbolic_link_to_the_database_is_one_of_its_names(start_server: StartServer, database: Path) -> None:
    pointer = database.with_name("pointer.db")
    pointer.symlink_to(database.name)
    server = await start_server({"database.path": str(pointer)})
    alice = server.user("alice")
    room_id = await alice.make_room()
    await alice.say(room_id)
    shutil.copy(database, database.with_name("another.db"))
    pointer.unlink()
    pointer.symlink_to("another.db")  # with which the next start would go on
    assert (await alice.post(f"/rooms/{room_id}/messages", {"content": "lost"})).status == 503
    pointer.unlink()
    pointer.symlink_to(database.name)
    await eventually(lambda: server.services.store.writer.writable)
    assert (await alice.say(room_id))["seq"] == 2


async def test_an_idle_server_notices_too_and_ends(
    server: Server, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "RETURN_SECONDS", 0.2)
    monkeypatch.setattr(housekeeping, "FILES_SECONDS", 0.02)
    remove(database)
    with pytest.raises(DatabaseGone, match="removed or replaced"):
        async with asyncio.timeout(20):
            await watch_files(server.services.store.writer)
    assert (await server.request("GET", "/readyz")).status == 503
    bring_back(database)


@pytest.mark.slow
def test_the_process_ends_with_a_line_that_says_why(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, dev=False) as server:
        (tmp_path / "chatapi.db").unlink()
        assert server._process is not None
        assert server._process.wait(30) == 1
        log = server.log.read_text()
        assert "was removed or replaced under the running server" in log
        server._process = None
