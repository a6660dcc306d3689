"""Three servers behind a real HAProxy, with the configuration of docs/operations.md and the map of tenants."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import jwt
import pytest
from client_rig import eventually, numbered
from examples import example
from haproxy import NAMES, OPERATORS_PATHS, HAProxy
from raw_websocket import HANDSHAKE
from server_process import ServerProcess, free_port, read_until

from chatapi.cli.haproxy import ask_haproxy, find_route
from chatapi.client import AdminAPI, ApiError, ChatAPI
from chatapi.tenant_secrets import encode_routing_name

pytestmark = pytest.mark.slow

SETTINGS = {"server.trusted_proxies": '["127.0.0.1"]', "auth.query_api_key": "true"}
ODD_ID = "Acme, 100%/_b_\"'"  # as one that was imported
NGINX = example("docs/operations.md", "nginx", "upstream")
MOVE = example("docs/operations.md", "sh", "chatapi tenant move")
NGINX_MAP = example("docs/operations.md", "nginx", "map $host")
HOST = "chat.example.com"
UNAVAILABLE = {"code": "INTERNAL_ERROR", "message": "The server is not available"}


class Front(Protocol):
    """A proxy."""

    port: int


class Shards(NamedTuple):
    proxy: HAProxy
    servers: dict[str, ServerProcess]
    tenants: dict[str, dict[str, Any]]  # by their server's name; the one of c has an odd id


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shards]:
    folder = tmp_path_factory.mktemp("shards")
    with contextlib.ExitStack() as stack:
        servers, tenants = {}, {}
        for name in NAMES:
            (folder / name).mkdir()
            servers[name] = stack.enter_context(ServerProcess(folder / name, SETTINGS, dev=False))
            tenants[name] = servers[name].make_tenant(name)
        tenants["c"] |= rename_tenant(servers["c"], folder / "c", tenants["c"]["tenant_id"])
        proxy = stack.enter_context(HAProxy(folder, [server.port for server in servers.values()]))
        for name in ("b", "c"):  # a is where tenants are that the map does not name
            find_route(proxy.socket, name).send(tenants[name]["tenant_id"])
        yield Shards(proxy, servers, tenants)


def rename_tenant(server: ServerProcess, folder: Path, tenant_id: str) -> dict[str, Any]:
    server.stop()
    with contextlib.closing(sqlite3.connect(folder / "chatapi.db", isolation_level=None)) as connection:
        connection.execute("UPDATE tenants SET tenant_id = ? WHERE tenant_id = ?", (ODD_ID, tenant_id))
    server.start()
    path = f"/admin/tenants/{quote(ODD_ID, safe='')}/keys"
    made = server._call("POST", path, None, {"X-Master-Key": server.master_key})
    return {"tenant_id": ODD_ID, "api_key": made["api_key"]}


def ask(
    proxy: Front, path: str, headers: dict[str, str] | None = None, *, method: str = "GET", host: str = HOST
) -> tuple[int, dict[str, str], Any]:
    """Of the answer: the status, the headers, and the body if it is JSON."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)) as connection:
        connection.request(method, path, headers={"Host": host, **(headers or {})})
        answer = connection.getresponse()
        if answer.status == 101 or "event-stream" in answer.headers.get("Content-Type", ""):
            return answer.status, {}, None
        answered = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status, answered, json.loads(answer.read() or b"null")


def by_key(tenant: dict[str, Any]) -> dict[str, str]:
    return {"X-API-Key": tenant["api_key"], "X-User-Id": "alice"}


def sign(tenant: dict[str, Any]) -> str:
    claims = {"iss": tenant["tenant_id"], "sub": "alice", "exp": int(time.time()) + 600}
    return jwt.encode(claims, tenant["token_secret"], algorithm="HS256")


# Routing


@pytest.mark.parametrize("name", NAMES)
def test_every_form_of_a_credential_reaches_the_tenants_server(shards: Shards, name: str) -> None:
    proxy, tenant = shards.proxy, shards.tenants[name]
    key, token = by_key(tenant), sign(tenant)
    query_key = f"api_key={quote(tenant['api_key'])}&user_id=alice"

    def make_ticket() -> str:
        return quote(ask(proxy, "/ws/token", key, method="POST")[2]["data"]["token"])

    for path, headers in (
        ("/rooms", key),
        ("/v1/rooms", {"Authorization": f"Bearer {token}"}),
        ("/rooms", {"Authorization": f"bearer {token}"}),
        ("/sync", key),
        ("/events/stream", key),
        ("/events/stream", {"Authorization": f"Bearer {token}"}),
        (f"/events/stream?token={token}", {}),
        (f"/v1/events/stream?token={make_ticket()}", {}),
        (f"/events/stream?{query_key}", {}),
    ):
        status, _, body = ask(proxy, path, headers, method="POST" if path == "/sync" else "GET")
        assert status == 200, (path, headers, body)
    for path, headers in (
        ("/ws", key),
        ("/v1/ws", {"Authorization": f"Bearer {token}"}),
        ("/ws", {"Sec-WebSocket-Protocol": f"chatapi.v1, bearer.{token}"}),
        ("/ws", {"Sec-WebSocket-Protocol": f"bearer.{token},chatapi.v1"}),
        (f"/ws?token={token}", {}),
        (f"/ws?sync=none&token={make_ticket()}", {}),
        (f"/ws?{query_key}", {}),
    ):
        with open_websocket(proxy, path, headers):
            pass


@contextlib.contextmanager
def open_websocket(proxy: Front, path: str, headers: dict[str, str]) -> Iterator[socket.socket]:
    """One whose backlog is read."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as opened:
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**HANDSHAKE, "Host": HOST, **headers}.items())
        opened.sendall(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        assert opened.recv(13) == b"HTTP/1.1 101 ", (path, headers)
        read_until(opened, b'"type":"ready"')
        yield opened


def test_a_name_in_a_credential_gives_no_access(shards: Shards) -> None:
    a, b = shards.tenants["a"], shards.tenants["b"]
    secret = a["api_key"].rsplit("_", 1)[1]
    forged = jwt.encode({"iss": b["tenant_id"], "sub": "alice", "exp": 4e9}, a["token_secret"], algorithm="HS256")
    for headers in (
        {"X-API-Key": f"sk_{b['tenant_id']}_{secret}", "X-User-Id": "alice"},
        {"X-API-Key": "sk_b_00", "X-User-Id": "alice"},
        {"X-API-Key": "b", "X-User-Id": "alice"},
        {"X-API-Key": "sk__", "X-User-Id": "alice"},
        {"Authorization": f"Bearer {forged}"},
        {"Authorization": "Bearer a.b.c"},
        {"Authorization": "Bearer eyJ."},
        {"Authorization": "Basic eyJ"},
        {},
    ):
        status, _, body = ask(shards.proxy, "/rooms", headers)
        assert (status, body["error"]["code"]) == (401, "AUTHENTICATION_ERROR"), headers
    # The server's own order of credentials decides, and the proxy's is the same.
    both = {**by_key(b), "Authorization": f"Bearer {sign(a)}"}
    assert ask(shards.proxy, f"/rooms?token={sign(a)}", both)[0] == 200


def test_a_tenants_own_host_leads_keys_of_an_old_form(shards: Shards) -> None:
    folder, old = shards.proxy.map.parent, {"X-API-Key": "sk_an-old-key", "X-User-Id": "alice"}
    server = shards.servers["b"]

    def refused_by_b() -> bool:
        before = count_refused(server)
        assert ask(shards.proxy, "/rooms", old, host="acme.example.com")[0] in (401, 429)
        return count_refused(server) > before

    assert not refused_by_b()
    (folder / "chatapi-hosts.map").write_text(f"acme.example.com {shards.tenants['b']['tenant_id']}\n")
    shards.proxy.reload()
    assert refused_by_b()


def count_refused(server: ServerProcess) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    [line] = [line for line in text.splitlines() if line.startswith("chatapi_wrong_credentials_total")]
    return float(line.split()[-1])


def test_operators_reach_each_server_by_its_name_alone(shards: Shards) -> None:
    master = {"X-Master-Key": shards.servers["a"].master_key}
    for name, tenant in shards.tenants.items():
        status, _, body = ask(shards.proxy, "/admin/tenants", master, host=f"{name}.chat.example.com")
        assert (status, [made["tenant_id"] for made in body["data"]["tenants"]]) == (200, [tenant["tenant_id"]])
    for path in OPERATORS_PATHS:
        status, _, body = ask(shards.proxy, path, master)
        assert (status, body["error"]["code"]) == (404, "NOT_FOUND"), path
    strangers = shards.proxy.file.read_text().replace("src 127.0.0.1 10.0.0.0/8", "src 192.0.2.1")
    own = shards.proxy.file.read_text()
    shards.proxy.file.write_text(strangers)
    shards.proxy.reload()
    for path in OPERATORS_PATHS:
        assert ask(shards.proxy, path, master, host="b.chat.example.com")[0] == 404, path
    shards.proxy.file.write_text(own)
    shards.proxy.reload()


def test_addresses_that_clients_claim_are_not_believed_and_no_query_is_logged(shards: Shards) -> None:
    statuses = []
    for number in range(22):
        headers = {"X-API-Key": "sk_wrong", "X-User-Id": "alice", "X-Forwarded-For": f"192.0.2.{number}"}
        statuses.append(ask(shards.proxy, "/rooms?token=a-secret", headers, host="c.chat.example.com")[0])
    assert statuses[0] in (401, 429)
    assert statuses[-1] == 429
    log = shards.proxy.log.read_text()
    assert "GET /rooms 429" in log
    assert "?" not in log
    assert "a-secret" not in log


# The SDK


@pytest.mark.parametrize("transport", ["websocket", "sse", "poll"])
async def test_the_sdk_works_over_each_transport(shards: Shards, transport: Any) -> None:
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(60):
        for tenant in shards.tenants.values():
            alice = await stack.enter_async_context(
                ChatAPI(shards.proxy.url, api_key=tenant["api_key"], user_id="alice")
            )
            bob = await stack.enter_async_context(ChatAPI(shards.proxy.url, token=sign(tenant)))
            room_id = (await alice.create_room("group", ["alice", "bob"]))["room_id"]
            connection = await stack.enter_async_context(bob.connect(transports=[transport]))
            for text in ("one", "two"):
                await alice.send_message(room_id, text)
            sent = await connection.send(room_id, "three")
            assert sent["seq"] == 3
            seen = []
            async for event in connection:
                if event["type"] == "message" and event["room_id"] == room_id:
                    seen.append(event["content"])
                    if len(seen) == 3:
                        break
            assert seen == ["one", "two", "three"]
            assert connection.transport == transport
            if transport == "websocket":
                await check_pipe_and_search(shards.proxy, alice, tenant, room_id)


async def check_pipe_and_search(proxy: HAProxy, alice: ChatAPI, tenant: dict[str, Any], room_id: str) -> None:
    def pipe() -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)) as connection:
            path, headers = f"/rooms/{room_id}/messages/stream", {"Host": HOST, **by_key(tenant)}
            parts = (part for part in (b"from ", b"a ", b"pipeline"))
            connection.request("POST", path, parts, headers, encode_chunked=True)
            answer = connection.getresponse()
            assert (answer.status, json.load(answer)["data"]["content"]) == (201, "from a pipeline")

    await asyncio.to_thread(pipe)

    async def is_found() -> bool:
        return bool((await alice.search("pipeline", room_id=room_id))["results"])

    await eventually(is_found)


# Servers that end and come back, and maps that change


def test_a_dead_server_is_503_in_our_form_and_the_others_serve(shards: Shards) -> None:
    proxy, server = shards.proxy, shards.servers["b"]
    server.kill()
    try:
        for _ in range(2):
            status, headers, body = ask(proxy, "/rooms", by_key(shards.tenants["b"]))
            assert (status, headers["retry-after"]) == (503, "1")
            assert body == {"success": False, "data": None, "error": UNAVAILABLE}
        for name in ("a", "c"):
            assert ask(proxy, "/rooms", by_key(shards.tenants[name]))[0] == 200
    finally:
        server.start()
    deadline = time.monotonic() + 20
    while ask(proxy, "/rooms", by_key(shards.tenants["b"]))[0] != 200:
        assert time.monotonic() < deadline


async def test_a_map_that_changes_and_reloads_under_load_lose_nothing(shards: Shards) -> None:
    proxy = shards.proxy
    others = len(proxy.map.read_text().splitlines())
    routes = [find_route(proxy.socket, name) for name in NAMES]

    def change() -> None:
        for number in range(120):
            routes[number % 3].send(f"tenant_{number % 40}")
            if number % 40 == 20:
                proxy.reload()

    async with asyncio.timeout(100), asyncio.TaskGroup() as tasks:
        changing = asyncio.to_thread(change)
        for tenant in shards.tenants.values():
            tasks.create_task(chat(proxy.url, tenant))
        await changing
    entries = dict(line.split() for line in proxy.map.read_text().splitlines())
    assert len(entries) == others + 40
    assert entries["tenant_39"] == NAMES[119 % 3]


async def chat(url: str, tenant: dict[str, Any]) -> None:
    """What a user sends arrives once, in order, and over one connection."""
    texts, seen = numbered("text", 200), []
    async with ChatAPI(url, api_key=tenant["api_key"], user_id="alice") as alice:
        room_id = (await alice.create_room("group", ["alice"]))["room_id"]
        states: list[str] = []
        async with alice.connect(on_state=states.append) as connection, asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(send_each(alice, room_id, texts))
            async for event in connection:
                if event["type"] == "message" and event["room_id"] == room_id:
                    seen.append(event["content"])
                    if len(seen) == len(texts):
                        break
            await sending
    assert seen == texts
    assert states.count("live") == 1, states


async def send_each(client: ChatAPI, room_id: str, texts: list[str]) -> None:
    for text in texts:
        await client.send_message(room_id, text)


def test_a_websocket_outlives_reloads(shards: Shards) -> None:
    tenant, proxy = shards.tenants["b"], shards.proxy
    with open_websocket(proxy, "/ws", by_key(tenant)) as opened:
        for _ in range(2):
            proxy.reload()
        made = shards.servers["b"].call("POST", "/rooms", {"type": "group"}, key=tenant["api_key"], user="alice")
        read_until(opened, made["room_id"].encode())


# nginx


def test_nginx_leads_host_names_to_their_servers(shards: Shards, tmp_path: Path) -> None:
    """The example of docs/operations.md: its map in the place of `upstream`."""
    ports = [server.port for server in shards.servers.values()]
    port = free_port()
    text = re.sub(r"upstream chatapi \{.*?\}", lambda _: NGINX_MAP, NGINX, flags=re.DOTALL)
    for old, new in (
        ("proxy_pass http://chatapi;", "proxy_pass http://$chatapi;"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port};"),
        ("server_name chat.example.com;", "server_name .chat.example.com acme.example.com;"),
        ("/var/log/nginx/", f"{tmp_path}/"),
        *((f"127.0.0.1:{8080 + number}", f"127.0.0.1:{port}") for number, port in enumerate(ports)),
    ):
        assert old in text
        text = text.replace(old, new)
    text = re.sub(r"ssl_certificate.*;", "", text)
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/nginx.pid; daemon off; master_process off; events {{}} http {{ {temporary} {text} }}"
    )
    errors = tmp_path / "error.log"
    with subprocess.Popen(["/usr/sbin/nginx", "-e", errors, "-c", tmp_path / "nginx.conf"]) as nginx:
        try:
            front = SimpleNamespace(port=port)
            wait_for_port(port)
            for host, name in (
                ("chat.example.com", "a"),
                ("b.chat.example.com", "b"),
                ("c.chat.example.com", "c"),
                ("acme.example.com", "b"),
            ):
                assert ask(front, "/rooms", by_key(shards.tenants[name]), host=host)[0] == 200, errors.read_text()
                with open_websocket(front, "/ws", {**by_key(shards.tenants[name]), "Host": host}):
                    pass
            assert ask(front, "/rooms", by_key(shards.tenants["b"]))[0] == 401, "nginx reads no keys"
        finally:
            nginx.terminate()


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return


# The command


def route(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chatapi", "tenant", "route", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_keeps_the_rest_of_the_file(shards: Shards) -> None:
    proxy = shards.proxy
    before = proxy.map.read_text()
    proxy.map.write_text("# of the operator\n" + before)
    proxy.map.chmod(0o640)
    done = route("tenant_new", "c", "--haproxy", proxy.socket)
    assert (done.returncode, done.stdout) == (0, f"tenant_new goes to c, and {proxy.map} says so\n"), done.stderr
    assert route("tenant_new", "b", "--haproxy", proxy.socket).returncode == 0
    assert proxy.map.read_text() == f"# of the operator\n{before}tenant_new b\n"
    assert stat.S_IMODE(proxy.map.stat().st_mode) == 0o640
    assert list(proxy.map.parent.glob(f"{proxy.map.name}?*")) == []
    proxy.reload()
    assert 'value="b"' in ask_haproxy(proxy.socket, f"get map {proxy.map} tenant_new")
    odd = ask_haproxy(proxy.socket, f"get map {proxy.map} {encode_routing_name(ODD_ID)}")
    assert 'value="c"' in odd


def test_the_command_explains_mistakes_and_changes_nothing(shards: Shards, tmp_path: Path) -> None:
    proxy = shards.proxy
    before = proxy.map.read_text()
    for server, admin_socket, why in (
        ("d", proxy.socket, "has no backend d"),
        ("a; disable frontend chatapi", proxy.socket, "can have no backend"),
        ("a", str(tmp_path / "none.sock"), "No such file or directory"),
        ("a", str(tmp_path), "Connection refused"),
    ):
        done = route("tenant_1", server, "--haproxy", admin_socket)
        assert (done.returncode, done.stdout) == (1, "")
        assert why in done.stderr
    assert proxy.map.read_text() == before


async def test_admin_calls_of_the_sdk_go_by_name(shards: Shards) -> None:
    """The public name has no admin routes at all."""
    async with AdminAPI(shards.proxy.url, shards.servers["a"].master_key, retries=0) as admin:
        with pytest.raises(ApiError) as caught:
            await admin.list_tenants()
        assert caught.value.code == "NOT_FOUND"


async def test_the_move_command_takes_a_tenant_to_another_server_under_load(shards: Shards) -> None:
    source, target, proxy = shards.servers["a"], shards.servers["b"], shards.proxy
    tenant = source.make_tenant("on its way")
    move = ["move", tenant["tenant_id"], "--to", target.url, "--url", source.url]
    keys = {"CHATAPI_AUTH_MASTER_KEY": source.master_key, "CHATAPI_TO_MASTER_KEY": target.master_key}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "chatapi", "tenant", *move, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **keys})

    async with ChatAPI(proxy.url, api_key=tenant["api_key"], user_id="alice") as alice:
        room_id = (await alice.create_room("group", ["bob"]))["room_id"]
        refused = await asyncio.to_thread(run, "--haproxy", proxy.socket, "--backend", "d")
        assert (refused.returncode, "has no backend d" in refused.stderr) == (1, True)
        texts = numbered("text", 400)
        sending = asyncio.create_task(send_each(alice, room_id, texts))
        assert MOVE.split()[3:5] + MOVE.split()[6:7] + MOVE.split()[8:] == [
            "tenant_1",
            "--to",
            "--haproxy",
            "--backend",
            "b",
        ]
        moved = await asyncio.to_thread(run, "--haproxy", proxy.socket, "--backend", "b")
        assert (moved.returncode, moved.stdout.startswith(f"{tenant['tenant_id']} is at {target.url} (")) == (0, True)
        await sending
    # New clients come to the other server without a detour.
    assert 'value="b"' in ask_haproxy(proxy.socket, f"get map {proxy.map} {tenant['tenant_id']}")
    async with ChatAPI(proxy.url, api_key=tenant["api_key"], user_id="bob", retries=0) as bob:
        page = await bob.list_messages(room_id, limit=100)
        assert bob.url == proxy.url
        assert [message["content"] for message in page["messages"]] in (texts[-100:], texts[:-101:-1])
    again = await asyncio.to_thread(run)
    assert (again.returncode, again.stderr) == (0, "")
