"""HEAD wherever there is GET, the page at the root, and headers that tell nothing of what the server is made of."""

import pytest
from conftest import StartServer
from driver import Server
from raw_websocket import HANDSHAKE

import chatapi
from chatapi.rest import ROUTES
from chatapi.rest.call import Media
from chatapi.rest.files import list_playground, list_sdk

FILES = [*list_playground(), *list_sdk(), "/playground/config.json"]
GET_ROUTES = [
    route.path for route in ROUTES if route.method == "GET" and route.media not in (Media.EVENTS, Media.LINES)
]
VARYING = {"Date", "X-Request-Id", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Content-Length"}


async def exchange(server: Server, method: str, path: str, **headers: str) -> tuple[str, dict[str, str], bytes]:
    """The answer's status line, headers and body, as they are on the wire."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"Connection": "close", **headers}.items())
    answer = await server.exchange(f"{method} {path} HTTP/1.1\r\nHost: chat\r\n{lines}\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    return status, dict(field.split(": ", 1) for field in fields), body


async def make_ids(server: Server) -> dict[str, str]:
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    message = await alice.say(room_id)
    [tenant] = (await server.admin("GET", "/tenants")).data["tenants"]
    ids = {"room_id": room_id, "message_id": message["message_id"], "user_id": "bob"}
    return {**ids, "tenant_id": tenant["tenant_id"]}


async def test_every_route_that_answers_get_answers_head(server: Server) -> None:
    ids = await make_ids(server)
    await server.services.tenants.write_used_keys()  # in the background else, and then the list of keys is longer
    alice = {**server.user("alice").headers, "X-Master-Key": server.master_key}
    for path in [*GET_ROUTES, *FILES, "/ws"]:
        for prefix in ("", "/v1"):
            url = prefix + path.format(**ids)
            got, asked = [await exchange(server, method, url, **alice) for method in ("GET", "HEAD")]
            assert got[0] == asked[0], url
            assert asked[2] == b"", url
            assert len(got[2]) == int(got[1]["Content-Length"]), url
            if path.endswith("}/export"):
                del got[1]["Content-Length"]  # nothing is copied only to tell how much it would be
            same = VARYING if path == "/metrics" or path == "/health" else VARYING - {"Content-Length"}
            assert set(got[1]) == set(asked[1]), url
            assert {name: got[1][name] for name in set(got[1]) - same} == {
                name: asked[1][name] for name in set(asked[1]) - same
            }, url


async def test_head_is_judged_as_get_is(server: Server) -> None:
    ids = await make_ids(server)
    for path, headers, status in (
        ("/rooms", {}, "401"),
        (f"/rooms/{ids['room_id']}", server.user("eve").headers, "403"),
        ("/rooms/room_of_nobody", server.user("eve").headers, "404"),
        ("/rooms?limit=1.0", server.user("eve").headers, "400"),
        ("/nowhere", {}, "404"),
        ("/admin/tenants", {}, "401"),
    ):
        got, asked = [await exchange(server, method, path, **headers) for method in ("GET", "HEAD")]
        assert got[0].split(" ")[1] == asked[0].split(" ")[1] == status
        assert (got[1]["Content-Length"], asked[2]) == (asked[1]["Content-Length"], b"")


async def test_head_takes_a_token_and_opens_no_websocket(start_server: StartServer) -> None:
    server = await start_server({"limits.rate_limit": 1, "limits.rate_burst": 2})
    alice = server.user("alice").headers
    left = [(await exchange(server, "HEAD", "/rooms", **alice))[1]["X-RateLimit-Remaining"] for _ in range(2)]
    assert left == ["1", "0"]
    status, headers, body = await exchange(server, "HEAD", "/rooms", **alice)
    assert (status.split(" ")[1], body) == ("429", b"")
    assert int(headers["Retry-After"]) >= 1
    reply = await server.request("HEAD", "/ws", headers={**HANDSHAKE, **alice})
    assert (reply.status, reply.headers["Upgrade"], reply.body) == (426, "websocket", None)


async def test_a_kept_file_is_not_sent_again_to_head_either(server: Server) -> None:
    etag = (await server.request("HEAD", "/sdk/chatapi.js")).headers["ETag"]
    reply = await server.request("HEAD", "/sdk/chatapi.js", headers={"If-None-Match": etag})
    assert (reply.status, reply.headers["ETag"]) == (304, etag)


# The root

BROWSERS = [
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "text/html, application/xhtml+xml, image/jxr, */*; q=0.5",
    "text/html",
    "TEXT/HTML;Q=0.9, application/json;q=0.8",
    "text/html;level=1;q=0.2,*/*;q=0.1",
    "application/json;q=0, text/html;q=0.001",
]
OTHERS = [
    None,
    "",
    "*/*",
    "application/json",
    "application/json, text/plain, */*",
    "text/html, application/json",
    "text/html;q=0.8, application/json;q=0.9",
    "text/html, */*",
    "text/html;q=0.5, application/*;q=0.6",
    "text/html;q=0",
    "text/html;q=x",
    "text/html;q=-1",
    "text/html;q=nan",
    "text/*",
    "text/htmlx",
    "x" * 4_000,
]


@pytest.mark.parametrize("accept", BROWSERS)
async def test_the_root_leads_a_browser_to_the_playground(shared_server: Server, accept: str) -> None:
    for path in ("/", "/v1/"):
        for method in ("GET", "HEAD"):
            reply = await shared_server.request(method, path, headers={"Accept": accept}, allow_redirects=False)
            assert (reply.status, reply.headers["Location"], reply.body) == (302, "/playground", None)
            assert "Accept" in reply.headers["Vary"]
    page = await shared_server.request("GET", "/", headers={"Accept": accept})
    assert page.body.startswith("<!doctype html>")


@pytest.mark.parametrize("accept", OTHERS)
async def test_root_answers_other_clients_with_name_version_and_links(
    shared_server: Server, accept: str | None
) -> None:
    reply = await shared_server.request(
        "GET", "/", headers={} if accept is None else {"Accept": accept}, skip_auto_headers=["Accept"]
    )
    assert (reply.status, reply.headers["Vary"]) == (200, "Accept")
    assert set(reply.data) == {"name", "version", "links"}
    assert (reply.data["name"], reply.data["version"]) == ("ChatAPI", chatapi.__version__)


async def test_every_link_of_the_root_leads_somewhere(start_server: StartServer) -> None:
    server = await start_server()
    links = (await server.request("GET", "/")).data["links"]
    assert {"openapi", "asyncapi", "playground", "sdk", "websocket", "health"} <= set(links)
    for name, path in links.items():
        assert (await server.request("GET", path)).status == (426 if name == "websocket" else 200), name
    await server.app.close()
    server = await start_server({"playground.enabled": False})
    reply = await server.request("GET", "/", headers={"Accept": "text/html"})
    assert "playground" not in reply.data["links"]


async def test_several_lines_of_a_header_are_one_list(server: Server) -> None:
    answer = await server.exchange(
        b"GET / HTTP/1.1\r\nHost: chat\r\nAccept: text/html\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 200 ")


# Headers


async def test_no_header_names_the_framework(server: Server) -> None:
    alice = server.user("alice").headers
    answers = [
        await exchange(server, "GET", "/rooms", **alice),
        await exchange(server, "GET", "/rooms"),
        await exchange(server, "GET", "/nowhere"),
        await exchange(server, "DELETE", "/rooms"),
        await exchange(server, "GET", "/playground"),
        await exchange(server, "GET", "/metrics"),
        await exchange(server, "GET", "/ws"),
        await exchange(server, "DELETE", f"/rooms/{await server.user('alice').make_room()}", **alice),
        await exchange(server, "GET", "/rooms", Bad="\x00"),
        await exchange(server, "GET", "/rooms", **{"Content-Length": "x"}),
    ]
    statuses = [answer[0].split(" ")[1] for answer in answers]
    assert statuses == ["200", "401", "404", "405", "200", "200", "426", "204", "400", "400"]
    etag = answers[4][1]["ETag"]
    answers.append(await exchange(server, "GET", "/playground", **{"If-None-Match": etag}))
    reader, writer = await server.open()
    handshake = "".join(f"{name}: {value}\r\n" for name, value in {**HANDSHAKE, **alice}.items())
    writer.write(f"GET /ws HTTP/1.1\r\nHost: chat\r\n{handshake}\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 101 ")
    writer.close()
    refused = [await server.refused_handshake(headers=extra) for extra in ({}, {"Origin": "https://evil.example"})]
    shown = [head, *(str(answer[1]) for answer in answers), *(str(reply.headers) for reply in refused)]
    for headers in shown:
        assert not any(name in headers.lower() for name in ("server:", "'server'", "aiohttp", "python"))
