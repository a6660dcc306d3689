"""Answers that nobody reads: bounded for a user, for a tenant and in all, on real sockets that do not read."""

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from conftest import StartServer
from driver import Server, User, eventually

from chatapi.errors import ChatError
from chatapi.models import TenantKey
from chatapi.rest import outflow
from chatapi.rest import server as server_module
from chatapi.rest.edge import count_bytes
from chatapi.rest.outflow import Outflow

CONTENT = "x" * 60_000
MESSAGES = 5
PAGE = MESSAGES * len(CONTENT)  # bytes of the answer, and a little more


class Unread:
    """One connection that has asked and does not read, before `read`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def read(self) -> tuple[int, bytes]:
        self.writer.transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(20):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += await self._reader.readexactly(1)
            length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            return int(head.split()[1]), await self._reader.readexactly(int(length.split()[1]))


class Clients:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.opened: list[Unread] = []

    async def ask(self, path: str, user: User | None = None, times: int = 1) -> Unread:
        reader, writer = await self.server.open_narrow()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        headers = "".join(f"{name}: {value}\r\n" for name, value in (user.headers if user else {}).items())
        writer.write(f"GET {path} HTTP/1.1\r\nHost: chat\r\n{headers}\r\n".encode() * times)
        self.opened.append(Unread(reader, writer))
        return self.opened[-1]

    def hang_up(self) -> None:
        for client in self.opened:
            client.writer.transport.abort()  # type: ignore[attr-defined]
        self.opened.clear()


@pytest.fixture
async def clients(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Clients]:
    """Room for three pages of a user's, five of a tenant's, and seven in all."""
    monkeypatch.setattr(outflow, "PAGE_BYTES", int(1.1 * PAGE))
    monkeypatch.setattr(outflow, "USER_BYTES", int(3.4 * PAGE))
    monkeypatch.setattr(outflow, "TENANT_BYTES", int(5.4 * PAGE))
    monkeypatch.setattr(outflow, "ALL_BYTES", int(7.4 * PAGE))
    opened = Clients(await start_server())
    yield opened
    opened.hang_up()
    await eventually(lambda: not flow(opened.server).total_bytes)


def flow(server: Server) -> Outflow:
    return server.app.server.outflow


async def make_channel(owner: User) -> str:
    """A room that anybody of the tenant may read; the path of its page."""
    room_id = await owner.make_room(room_type="channel")
    for _ in range(MESSAGES):
        await owner.say(room_id, CONTENT)
    return f"/rooms/{room_id}/messages"


async def test_answers_beyond_a_users_bound_wait_and_then_come(clients: Clients) -> None:
    server = clients.server
    alice, bob = server.user("alice"), server.user("bob")
    path = await make_channel(alice)
    asked = [await clients.ask(path, alice) for _ in range(10)]
    await eventually(lambda: flow(server).waiting == 7)
    assert 3 * PAGE < flow(server).total_bytes < 3.4 * PAGE
    # Nobody else is held up, and alice herself is answered where the answer is small.
    assert len((await bob.get(path)).data["messages"]) == MESSAGES
    stranger = server.user("carol", (await server.make_tenant("other"))["api_key"])
    assert (await stranger.get("/rooms")).status == 200
    assert (await alice.get("/rooms", limit=0)).status == 400
    for client in asked:
        status, body = await client.read()
        assert status == 200
        assert len(json.loads(body)["data"]["messages"]) == MESSAGES
    await eventually(lambda: not flow(server).total_bytes)


async def test_the_users_of_one_tenant_leave_room_for_another(clients: Clients) -> None:
    server = clients.server
    path = await make_channel(server.user("alice"))
    for number in range(8):
        await clients.ask(path, server.user(f"user{number}"))
    await eventually(lambda: flow(server).waiting == 3)
    assert 5 * PAGE < flow(server).total_bytes < 5.4 * PAGE
    other_key = (await server.make_tenant("other"))["api_key"]
    carol = server.user("carol", other_key)
    assert len((await carol.get(await make_channel(carol))).data["messages"]) == MESSAGES


async def test_all_tenants_together_are_bounded(clients: Clients) -> None:
    server = clients.server
    for name in ("a", "b", "c"):
        api_key = (await server.make_tenant(name))["api_key"]
        path = await make_channel(server.user("alice", api_key))
        for number in range(4):
            await clients.ask(path, server.user(f"user{number}", api_key))
    await eventually(lambda: flow(server).waiting == 5)
    assert 7 * PAGE < flow(server).total_bytes < 7.4 * PAGE


async def test_requests_that_wait_too_long_or_are_too_many_are_refused(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = clients.server
    alice = server.user("alice")
    path = await make_channel(alice)
    for _ in range(3):
        await clients.ask(path, alice)
    await eventually(lambda: flow(server).total_bytes > 3 * PAGE)
    with monkeypatch.context() as patch:
        patch.setattr(outflow, "WAIT_SECONDS", 0.05)
        reply = await alice.get(path)
    assert (reply.status, reply.error["code"], reply.headers["Retry-After"]) == (503, "INTERNAL_ERROR", "1")
    monkeypatch.setattr(outflow, "MAX_WAITING", 2)
    for _ in range(2):
        await clients.ask(path, alice)
    await eventually(lambda: flow(server).waiting >= 2)
    assert (await alice.get(path)).status == 503


async def test_writes_are_refused_only_to_the_user_with_unread_answers(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = clients.server
    alice, bob = server.user("alice"), server.user("bob")
    path = await make_channel(alice)
    await bob.post(path.replace("messages", "members"), {"user_id": "bob"})
    for _ in range(3):
        await clients.ask(path, alice)
    await eventually(lambda: flow(server).total_bytes > 3 * PAGE)
    assert (await alice.post(path, {"content": "short of the bound"})).status == 201
    monkeypatch.setattr(outflow, "USER_BYTES", 3 * PAGE)
    assert (await alice.post(path, {"content": "not stored"})).status == 503
    assert (await bob.post(path, {"content": "stored"})).status == 201
    newest = (await bob.get(path, limit=2)).data["messages"]
    assert [message["content"] for message in newest] == ["short of the bound", "stored"]


async def test_no_answer_is_made_for_clients_that_are_gone(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    server = clients.server
    alice = server.user("alice")
    path = await make_channel(alice)
    for _ in range(6):
        await clients.ask(path, alice)
    await eventually(lambda: flow(server).waiting == 3)
    calls = 0
    list_messages = server.services.chat.list_messages

    async def count(*args: object) -> object:
        nonlocal calls
        calls += 1
        return await list_messages(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(server.services.chat, "list_messages", count)
    clients.hang_up()
    await eventually(lambda: not flow(server).total_bytes and not flow(server).waiting)
    assert calls == 0
    # Their tasks have ended without an error that nobody would hear of.
    assert not [found for found in gc.get_objects() if isinstance(found, AttributeError)]
    assert not flow(server)._of_tenants
    assert not flow(server)._of_users


async def test_an_answer_whose_reader_is_gone_is_freed_at_once(clients: Clients) -> None:
    server = clients.server
    alice = server.user("alice")
    path = await make_channel(alice)
    for _ in range(3):
        await clients.ask(path, alice)
    await eventually(lambda: flow(server).total_bytes > 3 * PAGE)
    gc.collect()
    gc.disable()
    try:
        assert count_large_replies() == 3
        clients.hang_up()
        await eventually(lambda: not flow(server).total_bytes)
        await eventually(lambda: not count_large_replies())
    finally:
        gc.enable()


async def test_nothing_stays_of_a_connection_that_has_ended(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room("bob")

    async def come_and_go() -> None:
        socket = await server.user("bob").connect()
        await alice.say(room_id)
        await socket.expect("message")
        await socket.close()
        _, writer = await server.open()
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        await server.exchange(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        writer.close()
        await eventually(lambda: not server.services.hub.connections)
        await eventually(lambda: len(server.app.server.connections) <= 1)

    await come_and_go()
    server._sockets.clear()
    gc.collect()
    gc.disable()
    try:
        before = count_transports()
        for _ in range(3):
            await come_and_go()
        server._sockets.clear()
        # The clients' ends are in this process too, and asyncio's own: of 9 connections there is one end each.
        await eventually(lambda: count_transports() <= before + 9)
    finally:
        gc.enable()


async def test_an_idle_connection_holds_nothing_of_its_last_request(server: Server) -> None:
    """A body of a megabyte each, for as long as clients keep their connections."""
    alice = server.user("alice")
    room_id = await alice.make_room()
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "x", **alice.headers}.items())
    body = b'{"content": "%s"}' % (b"x" * 60_000)
    reader, writer = await server.open()
    gc.collect()
    gc.disable()
    try:
        for first in (len(body), 10):  # together with the head, and late
            head = f"POST /rooms/{room_id}/messages HTTP/1.1\r\n{lines}Content-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:first])
            if first < len(body):
                await eventually(lambda: any(one._awaits_body() for one in server.app.server._list_open()))
                writer.write(body[first:])
            answered = await reader.readuntil(b"\r\n\r\n")
            assert answered.startswith(b"HTTP/1.1 201 ")
            await reader.readexactly(int(answered.partition(b"Content-Length: ")[2].partition(b"\r")[0]))
            await eventually(lambda: not list_alive(web.BaseRequest, web.StreamResponse))
            assert not writer.is_closing()
    finally:
        gc.enable()


def list_alive(*kinds: type) -> list[object]:
    return [found for found in gc.get_objects() if isinstance(found, kinds)]


def count_transports() -> int:
    return sum(type(found).__name__ == "_SelectorSocketTransport" for found in gc.get_objects())


def count_large_replies() -> int:
    return sum(isinstance(found, web.Response) and count_bytes(found) > PAGE for found in gc.get_objects())


async def test_requests_on_one_connection_are_answered_one_at_a_time(clients: Clients) -> None:
    server = clients.server
    alice = server.user("alice")
    path = await make_channel(alice)
    client = await clients.ask(path, alice, times=5)
    await eventually(lambda: flow(server).total_bytes)
    assert (await server.user("bob").get(path)).status == 200
    await eventually(lambda: flow(server).total_bytes < 1.1 * PAGE)
    for _ in range(5):
        assert (await client.read())[0] == 200


async def test_it_takes_no_credential_to_be_bounded(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    server = clients.server
    monkeypatch.setattr(outflow, "SMALL_BYTES", 1024)
    size = len((await server.request("GET", "/openapi.json", headers={"Accept-Encoding": "identity"})).body)
    assert size > 0
    monkeypatch.setattr(outflow, "USER_BYTES", 500_000)
    monkeypatch.setattr(outflow, "PAGE_BYTES", 250_000)
    asked = [await clients.ask("/playground/swagger/swagger-ui-bundle.js") for _ in range(2)]
    asked += [await clients.ask("/openapi.json") for _ in range(12)]
    await eventually(lambda: flow(server).total_bytes > 200_000)
    assert flow(server).total_bytes <= 500_000
    assert (await server.user("alice").get("/rooms")).status == 200
    for client in asked[2:]:
        assert (await client.read())[0] == 200


async def test_file_that_is_refused_is_an_error_in_no_encoding(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outflow, "USER_BYTES", 100_000)
    reply = await clients.server.request("GET", "/playground/swagger/swagger-ui-bundle.js")
    assert (reply.status, reply.error["code"]) == (503, "INTERNAL_ERROR")
    assert {"Content-Encoding", "ETag", "Cache-Control"}.isdisjoint(reply.headers)


# By itself


async def test_owners_wait_in_turns_and_room_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outflow, "PAGE_BYTES", 10)
    monkeypatch.setattr(outflow, "ALL_BYTES", 25)
    counted = Outflow()
    full = (TenantKey(9), "x")
    counted.begin(full, 20)
    order: list[int] = []

    async def wait(tenant_key: int) -> None:
        async with counted.reserve_page((TenantKey(tenant_key), "u")):
            order.append(tenant_key)
            assert counted.total_bytes <= 25

    async with asyncio.TaskGroup() as group:
        for tenant_key in (1, 1, 1, 2, 3):
            group.create_task(wait(tenant_key))
        await asyncio.sleep(0)
        assert order == []
        counted.end(full, 20)
    assert sorted(order) == [1, 1, 1, 2, 3]
    assert set(order[:3]) == {1, 2, 3}
    assert counted.total_bytes == 0


async def test_one_that_is_cancelled_or_fails_leaves_no_room_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outflow, "PAGE_BYTES", 10)
    monkeypatch.setattr(outflow, "ALL_BYTES", 10)
    counted = Outflow()
    quota_key = (TenantKey(1), "u")

    async def wait(error: Exception | None = None) -> None:
        async with counted.reserve_page(quota_key):
            if error is not None:
                raise error

    counted.begin(quota_key, 10)
    waiting = [asyncio.create_task(wait()) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # while it waits
    await asyncio.sleep(0)
    counted.end(quota_key, 10)
    waiting[1].cancel()  # when it has just been given room
    await asyncio.wait(waiting)
    with pytest.raises(ChatError):
        await wait(ChatError(outflow.Code.INTERNAL_ERROR, "x"))
    await asyncio.sleep(0)
    assert counted.total_bytes == 0
    await wait()


@pytest.mark.slow
@pytest.mark.parametrize("reads", [False, True])
async def test_an_answer_that_nobody_reads_is_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    """It was held for as long as the client kept its end open."""
    monkeypatch.setattr(server_module, "UNREAD_SECONDS", 0.2)
    alice = server.user("alice")
    room_id = await alice.make_room()
    for _ in range(20):
        await alice.say(room_id, "x" * 60_000)
    reader, writer = await server.open_narrow()
    lines = [f"{name}: {value}" for name, value in alice.headers.items()]
    head = [f"GET /rooms/{room_id}/messages HTTP/1.1", "Host: chat", *lines, "Connection: close", "", ""]
    writer.write("\r\n".join(head).encode())
    received = 0
    with contextlib.suppress(ConnectionResetError):
        if not reads:
            await asyncio.sleep(1)
        while data := await reader.read(20_000):
            received += len(data)
            if reads:
                await asyncio.sleep(0.004)  # 1.2 MB take far longer than UNREAD_SECONDS
    assert (received > 1_000_000) is reads  # a page ends at 1 MiB
    writer.close()
