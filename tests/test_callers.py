"""Whose address a request is counted under, and who may read a new database."""

import stat
from pathlib import Path

import aiohttp
import pytest
from conftest import StartServer

from chatapi.app import start_app
from chatapi.auth import WRONG_KEYS_PER_MINUTE
from chatapi.clock import Clock
from chatapi.config import load_config

WRONG = {"X-API-Key": "sk_wrong", "X-User-Id": "alice"}


async def statuses(session: aiohttp.ClientSession, url: str, forwarded_for: str, times: int) -> list[int]:
    found = []
    for _ in range(times):
        async with session.get(f"{url}/rooms", headers={**WRONG, "X-Forwarded-For": forwarded_for}) as response:
            found.append(response.status)
    return found


async def test_a_trusted_proxy_is_believed(start_server: StartServer) -> None:
    server = await start_server({"server.trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"]})
    limit = WRONG_KEYS_PER_MINUTE
    assert await statuses(server.session, server.url, "192.0.2.1, 10.1.1.1", limit + 1) == [401] * limit + [429]
    assert await statuses(server.session, server.url, "192.0.2.2", 1) == [401]
    # What the client itself put in front of the proxy's entry is not looked at.
    assert await statuses(server.session, server.url, "192.0.2.9, 192.0.2.1", 1) == [429]


async def test_others_are_not_believed(start_server: StartServer) -> None:
    server = await start_server({"server.trusted_proxies": ["10.0.0.0/8"]})
    limit = WRONG_KEYS_PER_MINUTE
    assert await statuses(server.session, server.url, "192.0.2.1", limit) == [401] * limit
    assert await statuses(server.session, server.url, "192.0.2.2", 1) == [429]


async def test_the_proxy_behind_a_unix_socket_is_believed(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    flags = {"server.unix_socket": path, "database.path": str(tmp_path / "chatapi.db")}
    app = await start_app(load_config(None, {}, flags).config, clock=Clock(), dev=False, on_crash=pytest.fail)
    try:
        assert app.addresses == [f"unix:{path}"]
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session:
            limit = WRONG_KEYS_PER_MINUTE
            assert await statuses(session, "http://chat", "192.0.2.1", limit + 1) == [401] * limit + [429]
            assert await statuses(session, "http://chat", "192.0.2.2", 1) == [401]
    finally:
        await app.close()


async def test_a_new_database_is_for_its_owner_only(start_server: StartServer, tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    await start_server({"database.path": str(path)})
    for file in (path, tmp_path / "new.db-wal"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
