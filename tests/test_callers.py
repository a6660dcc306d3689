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
    app = await start_app(load_config(None, {}, flags).config, clock=Clock(), dev=None, on_crash=pytest.fail)
    try:
        assert app.addresses == [f"unix:{path}"]
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session:
            limit = WRONG_KEYS_PER_MINUTE
            assert await statuses(session, "http://chat", "192.0.2.1", limit + 1) == [401] * limit + [429]
            assert await statuses(session, "http://chat", "192.0.2.2", 1) == [401]
    finally:
        await app.close()


SPELLINGS = ["2001:db8::1", "2001:DB8:0::1", "[2001:db8::1]:443", '"[2001:db8::1]:80"', "2001:db8:0:0:0:0:0:1%eth0"]


async def test_an_address_is_counted_as_one_in_every_spelling(start_server: StartServer) -> None:
    server = await start_server({"server.trusted_proxies": ["127.0.0.1", "::ffff:10.0.0.0/104"]})
    limit = WRONG_KEYS_PER_MINUTE
    found = [(await statuses(server.session, server.url, SPELLINGS[n % 5], 1))[0] for n in range(limit + 1)]
    assert found == [401] * limit + [429]
    assert await statuses(server.session, server.url, "2001:db8::2", 1) == [401]
    mapped = [
        (await statuses(server.session, server.url, f"{hop}, 10.1.1.1:999", 1))[0]
        for hop in ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1:81", "[::ffff:c000:201]:1"] * (limit // 4)
    ]
    assert mapped == [401] * limit
    assert await statuses(server.session, server.url, "192.0.2.1", 1) == [429]


async def test_lines_of_forwarded_addresses_are_one_list(start_server: StartServer) -> None:
    server = await start_server({"server.trusted_proxies": ["127.0.0.1", "10.0.0.0/8"]})

    async def status(*lines: str) -> int:
        head = "".join(f"X-Forwarded-For: {line}\r\n" for line in lines)
        wrong = "X-API-Key: sk_wrong\r\nX-User-Id: alice\r\n"
        answer = await server.exchange(
            f"GET /rooms HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{wrong}{head}\r\n".encode()
        )
        return int(answer.split()[1])

    limit = WRONG_KEYS_PER_MINUTE
    assert [await status("192.0.2.9", "192.0.2.1, 10.0.0.1") for _ in range(limit + 1)] == [401] * limit + [429]
    assert await status("192.0.2.1") == 429
    assert await status("192.0.2.1", "192.0.2.2", "", "10.0.0.1,") == 401


async def test_invalid_forwarded_addresses_count_as_one_address(start_server: StartServer) -> None:
    server = await start_server({"server.trusted_proxies": ["127.0.0.1"]})
    limit = WRONG_KEYS_PER_MINUTE
    found = [(await statuses(server.session, server.url, f"made-up-{n}", 1))[0] for n in range(limit + 1)]
    assert found == [401] * limit + [429]


@pytest.mark.parametrize("name", ["X-API-Key", "X-User-Id", "Authorization", "X-Master-Key"])
async def test_a_header_with_two_values_is_refused(start_server: StartServer, name: str) -> None:
    server = await start_server()
    token = (await server.user("alice").post("/tokens")).data["token"]
    values = {"X-API-Key": server.api_key, "X-User-Id": "alice", "X-Master-Key": server.master_key}
    if name == "Authorization":
        values = {"Authorization": f"Bearer {token}"}
    path = "/admin/tenants" if name == "X-Master-Key" else "/rooms"

    async def status(extra: str) -> int:
        head = "".join(f"{key}: {value}\r\n" for key, value in values.items())
        request = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{head}{name}: {extra}\r\n\r\n"
        answer = await server.exchange(request.encode())
        return int(answer.split()[1])

    assert await status(values[name]) == 200
    assert await status("another") == 400


async def test_a_new_database_is_for_its_owner_only(start_server: StartServer, tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    await start_server({"database.path": str(path)})
    for file in (path, tmp_path / "new.db-wal"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
