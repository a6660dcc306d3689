"""`server.unix_socket`: for a proxy of this machine that runs as another user."""

import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from chatapi.app import start_app
from chatapi.clock import Clock
from chatapi.config import load_config


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chatapi.sock"


@pytest.fixture
def _private_files() -> Iterator[None]:
    """As in a unit that keeps the database to itself."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@asynccontextmanager
async def listening(path: Path, database: Path) -> AsyncIterator[None]:
    flags = {"server.unix_socket": str(path), "database.path": str(database)}
    app = await start_app(load_config(None, {}, flags).config, clock=Clock(), dev=None, on_crash=pytest.fail)
    try:
        assert app.addresses == [f"unix:{path}"]
        yield
    finally:
        await app.close()


async def is_alive(path: Path) -> bool:
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
        session.get("http://chat/livez") as answer,
    ):
        return answer.status == 200


async def refusal(path: Path, database: Path) -> str:
    with pytest.raises(OSError, match=r"^/") as refused:
        async with listening(path, database):
            pass
    return str(refused.value)


@pytest.mark.usefixtures("_private_files")
async def test_access_to_the_socket_follows_the_folder_not_the_umask(path: Path, database: Path) -> None:
    async with listening(path, database):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
        assert await is_alive(path)


async def test_socket_left_by_a_killed_server_is_replaced(path: Path, database: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
        killed.listen()
    async with listening(path, database):
        assert await is_alive(path)


async def test_a_server_that_still_listens_keeps_its_socket(path: Path, database: Path, tmp_path: Path) -> None:
    async with listening(path, database):
        assert await refusal(path, tmp_path / "other.db") == f"{path}: another server listens there"
        assert await is_alive(path)


async def test_a_busy_one_too(path: Path, database: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))  # and nobody accepts it
        assert await refusal(path, database) == f"{path}: another server listens there"


async def test_any_other_file_stays(path: Path, database: Path) -> None:
    os.mkfifo(path)
    before = os.stat(path)
    assert await refusal(path, database) == f"{path}: there is a file that is not a socket"
    assert os.stat(path) == before


async def test_a_missing_folder_is_named(tmp_path: Path, database: Path) -> None:
    path = tmp_path / "missing" / "chatapi.sock"
    assert await refusal(path, database) == f"{path}: No such file or directory"
