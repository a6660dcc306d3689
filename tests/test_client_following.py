"""The Python SDK follows a tenant to another server. The first server is played; the second one is real."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from client_rig import PATIENCE_S

from chatapi.client import AdminAPI, ApiError, ChatAPI
from chatapi.client.http import MAX_HOPS, Http
from tests.driver import Server


class Before:
    """The server that the tenant has left: 421 for requests, `ready` and `server.shutdown` for sockets if asked."""

    def __init__(self) -> None:
        self.url = self.to = ""
        self.requests = 0
        self.says_goodbye = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        if self.says_goodbye and request.path == "/v1/ws":
            socket = web.WebSocketResponse(protocols=("chatapi.v1",))
            await socket.prepare(request)
            await socket.send_json({"type": "ready", "epoch": "e", "user_id": "alice", "rooms": []})
            await socket.receive()  # `sync`
            await socket.send_json({"type": "server.shutdown", "reconnect_after_ms": 1, "url": self.to})
            await socket.close(code=1001)
            return socket
        error = {"code": "TENANT_MOVED", "message": "moved", "details": {"url": self.to}}
        return web.json_response({"success": False, "data": None, "error": error}, status=421)


@asynccontextmanager
async def start_before() -> AsyncIterator[Before]:
    """In the loop of the test, which is the one of `shared_server`."""
    before = Before()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", before.handle)
    async with TestServer(app) as server:
        before.url = before.to = str(server.make_url("")).rstrip("/")
        yield before


def alice_at(url: str, server: Server, **options: Any) -> ChatAPI:
    return ChatAPI(url, api_key=server.api_key, user_id="alice", **options)


async def test_call_is_repeated_where_the_tenant_is_and_later_ones_begin_there(
    shared_server: Server,
) -> None:
    async with start_before() as before, alice_at(before.url, shared_server, retries=0) as alice:
        before.to = shared_server.url
        room = await alice.create_room("group", ["bob"])  # a POST
        await alice.send_message(room["room_id"], "hello")
        assert alice.url == shared_server.url
        assert before.requests == 1


async def test_two_servers_that_name_each_other_are_given_up(shared_server: Server) -> None:
    async with start_before() as before, alice_at(before.url, shared_server) as alice:
        with pytest.raises(ApiError) as raised:
            await alice.list_rooms()
    assert raised.value.raw_code == "TENANT_MOVED"
    assert before.requests == MAX_HOPS + 1


async def test_operator_stays_at_the_server_that_was_named(shared_server: Server) -> None:
    async with start_before() as before, AdminAPI(before.url, "master") as admin:
        before.to = shared_server.url
        with pytest.raises(ApiError, match="TENANT_MOVED"):
            await admin.list_tenants()
    assert before.requests == 1


async def test_credentials_go_from_https_to_https_only() -> None:
    http = Http("https://one.example/chat", timeout_s=1, retries=0)
    for url in ("http://two.example", "ftp://two.example", 7, None):
        assert not http.move_to(url)
    assert http.base == "https://one.example/chat"
    assert http.move_to("https://two.example/base/")
    assert str(http.address("/v1/rooms")) == "https://two.example/base/v1/rooms"


@pytest.mark.parametrize("says_goodbye", [False, True])
async def test_connection_goes_on_where_the_tenant_is(shared_server: Server, says_goodbye: bool) -> None:
    async with alice_at(shared_server.url, shared_server) as setup:
        room_id = (await setup.create_room("group", ["bob"]))["room_id"]
    async with start_before() as before, alice_at(before.url, shared_server) as alice:
        before.to, before.says_goodbye = shared_server.url, says_goodbye
        async with asyncio.timeout(PATIENCE_S), alice.connect(auto_ack=False) as connection:
            sent = await connection.send(room_id, "hello")
            assert sent["room_id"] == room_id
        assert alice.url == shared_server.url
    assert before.requests == 1
