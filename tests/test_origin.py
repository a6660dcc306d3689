"""CORS and `Origin`: what a browser lets a page of another origin do."""

import json
import shutil
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import aiohttp
import pytest
from conftest import StartServer
from driver import Reply, Server
from server_process import ServerProcess

from chatapi import callers

ALLOWED = "https://app.example.com"
FOREIGN = "https://elsewhere.example"
SETTINGS = {"server.allowed_origins": [ALLOWED, "http://localhost:3000"]}
RATE_HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After")


@pytest.fixture
async def listing(start_server: StartServer) -> Server:
    """A server with a list of origins."""
    return await start_server(SETTINGS)


async def preflight(server: Server, origin: str, path: str = "/rooms", method: str = "POST") -> Reply:
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "x-api-key,content-type"}
    return await server.request("OPTIONS", path, headers={"Origin": origin, **asked})


def is_readable(reply: Reply, origin: str) -> bool:
    """As a browser decides it."""
    return reply.headers.get("Access-Control-Allow-Origin") in (origin, "*")


async def test_preflight_of_an_allowed_origin(listing: Server) -> None:
    for path in ("/rooms", "/v1/rooms/room_1/messages/msg_1", "/nowhere"):
        reply = await preflight(listing, ALLOWED, path, "DELETE")
        assert (reply.status, reply.body) == (204, None)
        assert reply.headers["Access-Control-Allow-Origin"] == ALLOWED
        methods = reply.headers["Access-Control-Allow-Methods"].split(", ")
        assert {"GET", "POST", "PUT", "PATCH", "DELETE"} == set(methods)
        allowed = reply.headers["Access-Control-Allow-Headers"].lower().split(", ")
        credentials = {"authorization", "x-api-key", "x-user-id", "x-master-key"}
        assert {*credentials, "content-type", "x-request-id", "x-client-message-id"} == set(allowed)
        assert int(reply.headers["Access-Control-Max-Age"]) > 0
        assert reply.headers["Vary"] == "Origin"
        assert "X-RateLimit-Limit" not in reply.headers


async def test_preflight_of_another_origin(listing: Server) -> None:
    reply = await preflight(listing, FOREIGN)
    assert not [name for name in reply.headers if name.startswith("Access-Control")]
    assert reply.headers["Vary"] == "Origin"


async def test_answers_can_be_read_by_allowed_origins_only(listing: Server) -> None:
    alice = listing.user("alice")
    for path in ("/rooms", "/rooms/room_0", "/nowhere", "/health", "/openapi.json"):
        allowed = await alice.request("GET", path, headers={"Origin": ALLOWED})
        assert is_readable(allowed, ALLOWED), path
        exposed = allowed.headers["Access-Control-Expose-Headers"]
        assert all(name in exposed for name in (*RATE_HEADERS, "X-Request-Id"))
        assert "Access-Control-Allow-Credentials" not in allowed.headers
        foreign = await alice.request("GET", path, headers={"Origin": FOREIGN})
        assert foreign.status == allowed.status
        assert not is_readable(foreign, FOREIGN), path
        assert foreign.headers["Vary"] == allowed.headers["Vary"]
        assert foreign.headers["Vary"].split(", ")[0] == "Origin"


async def test_a_refused_credential_can_be_read_too(listing: Server) -> None:
    reply = await listing.request("GET", "/rooms", headers={"Origin": ALLOWED, "X-API-Key": "sk_wrong"})
    assert reply.status == 401
    assert is_readable(reply, ALLOWED)


async def test_an_answer_without_origin_is_not_kept_for_others(listing: Server) -> None:
    assert (await listing.request("GET", "/health")).headers["Vary"] == "Origin"


@pytest.mark.parametrize("origins", [[], [ALLOWED], ["*"]])
async def test_pages_of_every_origin_may_import_the_sdk(start_server: StartServer, origins: list[str]) -> None:
    server = await start_server({"server.allowed_origins": origins})
    etag = (await server.request("GET", "/sdk/chatapi.js")).headers["ETag"]
    for path in ("/sdk/chatapi.js", "/v1/sdk/chatapi.js"):
        for origin in ({}, {"Origin": FOREIGN}, {"Origin": ALLOWED}, {"Origin": "null"}):
            for method, more, status in (("GET", {}, 200), ("HEAD", {}, 200), ("GET", {"If-None-Match": etag}, 304)):
                reply = await server.request(method, path, headers={**origin, **more})
                assert reply.status == status
                assert reply.headers.getall("Access-Control-Allow-Origin") == ["*"], (path, origin, method)
                assert reply.headers["Vary"] == "Accept-Encoding", "one copy is for every origin"
    playground = await server.request("GET", "/playground", headers={"Origin": FOREIGN})
    assert is_readable(playground, FOREIGN) == ("*" in origins)


async def test_without_a_list_nobody_else_may_read(shared_server: Server) -> None:
    reply = await shared_server.request("GET", "/health", headers={"Origin": ALLOWED})
    assert reply.status == 200
    assert not is_readable(reply, ALLOWED)
    assert "Vary" not in reply.headers


async def test_all_origins(start_server: StartServer) -> None:
    server = await start_server({"server.allowed_origins": ["*"]})
    assert is_readable(await server.request("GET", "/health", headers={"Origin": FOREIGN}), FOREIGN)
    assert (await handshake(server, FOREIGN)) == 101


async def handshake(server: Server, origin: str | None, **headers: str) -> int:
    """The status with which the WebSocket was answered."""
    headers |= {} if origin is None else {"Origin": origin}
    try:
        websocket = await server.session.ws_connect(
            f"{server.url}/ws", headers={**server.user("alice").headers, **headers}
        )
    except aiohttp.WSServerHandshakeError as refusal:
        return refusal.status
    await websocket.close()
    return 101


async def test_websockets_of_pages(listing: Server) -> None:
    assert await handshake(listing, None) == 101
    assert await handshake(listing, listing.url) == 101
    assert await handshake(listing, ALLOWED) == 101
    assert await handshake(listing, ALLOWED.upper()) == 101
    for origin in (
        FOREIGN,
        "null",
        "http://127.0.0.1:1",
        f"{ALLOWED}.evil.example",
        f"{ALLOWED}:8443",
        "http://app.example.com",
        "http://[::1",
        "://",
        "",
    ):
        assert await handshake(listing, origin) == 403, origin


async def test_a_refused_page_is_told_so_in_the_envelope(shared_server: Server) -> None:
    headers = {
        **shared_server.user("alice").headers,
        "Origin": FOREIGN,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    reply = await shared_server.request("GET", "/ws", headers=headers)
    assert (reply.status, reply.error["code"]) == (403, "AUTHORIZATION_ERROR")


async def test_pages_of_the_public_address_are_its_own(start_server: StartServer) -> None:
    server = await start_server({"server.public_url": "https://Chat.example.com/base"})
    assert await handshake(server, "https://chat.example.com", Host="upstream:8080") == 101
    assert await handshake(server, FOREIGN, Host="upstream:8080") == 403


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("https://chat.example.com", "chat.example.com:443", 101),
        ("https://chat.example.com:443", "Chat.Example.com", 101),
        ("http://chat.example.com", "chat.example.com:80", 101),
        ("https://chat.example.com", "chat.example.com:8443", 403),
        ("https://chat.example.com", "chat.example.com.evil.example", 403),
        ("https://app.example.com:443", "elsewhere", 101),
    ],
)
async def test_default_ports_and_case_make_no_difference(listing: Server, origin: str, host: str, status: int) -> None:
    assert await handshake(listing, origin, Host=host) == status


async def test_an_origin_that_stands_there_twice_is_refused(listing: Server) -> None:
    twice = f"Host: a\r\nOrigin: {ALLOWED}\r\nOrigin: {FOREIGN}\r\n"
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n"
    for request, status in ((f"/rooms HTTP/1.0\r\n{twice}", b"401"), (f"/ws HTTP/1.0\r\n{twice}{upgrade}", b"400")):
        answer = await listing.exchange(f"GET {request}\r\n".encode())
        assert answer.split()[1] == status
        assert b"Access-Control-Allow-Origin" not in answer


async def test_the_log_tells_of_a_refused_origin(listing: Server, caplog: pytest.LogCaptureFixture) -> None:
    callers._seldom._logged.clear()
    for _ in range(3):
        assert await handshake(listing, FOREIGN, Host="chat.example.com") == 403
    lines = [record.getMessage() for record in caplog.records if "refused a page" in record.getMessage()]
    assert lines == [
        f"refused a page of the origin '{FOREIGN}': server.allowed_origins does not list it,"
        " and the request's host is 'chat.example.com'"
    ]
    callers._seldom._logged.clear()
    await preflight(listing, FOREIGN)
    assert caplog.records[-1].getMessage().startswith(f"refused a page of the origin '{FOREIGN}'")


async def test_null_is_allowed_only_where_it_is_listed(start_server: StartServer) -> None:
    server = await start_server({"server.allowed_origins": ["null"]})
    assert await handshake(server, "null") == 101
    assert is_readable(await server.request("GET", "/health", headers={"Origin": "null"}), "null")


# In a real browser


PAGE = b"<!doctype html><title>a page on another port</title><link rel=icon href=data:,>"
FETCH = """async ([url, key]) => {
  const headers = { "X-API-Key": key, "X-User-Id": "alice", "Content-Type": "application/json" };
  const answer = await fetch(url + "/rooms", { method: "POST", headers, body: '{"type": "group"}' });
  return [answer.status, (await answer.json()).success, answer.headers.get("X-RateLimit-Limit") !== null];
}"""
CONNECT = """([url, token]) => new Promise((resolve) => {
  const socket = new WebSocket(url.replace("http", "ws") + "/ws", ["chatapi.v1", "bearer." + token]);
  socket.onmessage = (event) => resolve(JSON.parse(event.data).type);
  socket.onclose = (event) => resolve(event.code);
})"""
IMPORT = 'async ([url]) => typeof (await import(url + "/sdk/chatapi.js")).ChatAPI'


@pytest.fixture
def page_origin() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(PAGE)))
            self.end_headers()
            self.wfile.write(PAGE)

        def log_message(self, format: str, *args: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    thread = Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.server_port}"
    listener.shutdown()
    listener.server_close()
    thread.join()


@pytest.mark.browser
@pytest.mark.parametrize("is_allowed", [True, False])
def test_a_page_on_another_port(is_allowed: bool, page_origin: str, tmp_path: Path) -> None:
    from playwright.sync_api import Error, sync_playwright

    origins = f'["{page_origin if is_allowed else FOREIGN}"]'
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    with (
        ServerProcess(tmp_path, {"server.allowed_origins": origins}, dev=False) as server,
        sync_playwright() as playwright,
    ):
        key = server.create_tenant("acme")
        token = make_token(server, key)
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"], headless=True)
        page = browser.new_page()
        page.goto(page_origin)

        def attempt(script: str, *arguments: str) -> Any:
            """What the script gives, or None for what the browser kept from it."""
            try:
                return page.evaluate(script, [server.url, *arguments])
            except Error as error:
                return None if "Failed to fetch" in error.message else error

        assert attempt(FETCH, key) == ([201, True, True] if is_allowed else None)
        assert attempt(CONNECT, token) == ("ready" if is_allowed else 1006)
        assert attempt(IMPORT) == "function", "the file itself is for every page"
        browser.close()


def make_token(server: ServerProcess, key: str) -> str:
    headers = {"X-API-Key": key, "X-User-Id": "alice", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.url}/tokens", data=b"{}", headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(json.load(answer)["data"]["token"])
