"""The playground's files and the SDK, as a browser gets them."""

import re
from pathlib import Path

import pytest
import yarl
from conftest import StartServer
from driver import Server

from chatapi.rest.files import POLICY, REST_PAGE_POLICY, read_playground, read_sdk

FILES = {**read_playground(), **read_sdk()}


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/playground", "text/html; charset=utf-8"),
        ("/playground/", "text/html; charset=utf-8"),
        ("/playground/rest.html", "text/html; charset=utf-8"),
        ("/playground/playground.js", "text/javascript; charset=utf-8"),
        ("/playground/playground.css", "text/css; charset=utf-8"),
        ("/playground/icon.svg", "image/svg+xml"),
        ("/playground/swagger/swagger-ui.css", "text/css; charset=utf-8"),
        ("/playground/swagger/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        ("/sdk/chatapi.js", "text/javascript; charset=utf-8"),
    ],
)
async def test_each_file_with_its_type(server: Server, path: str, content_type: str) -> None:
    for prefix in ("", "/v1"):
        reply = await server.request("GET", prefix + path)
        assert reply.status == 200
        assert reply.body == FILES[path].decode()
        assert reply.headers["Content-Type"] == content_type
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert reply.headers["Cache-Control"] == "no-cache"
        assert "X-Request-Id" in reply.headers


async def test_every_link_between_the_files_leads_somewhere(server: Server) -> None:
    links = set()
    for path, body in FILES.items():
        if "/swagger/" not in path and path.endswith((".html", ".js", "/playground")):
            links |= set(re.findall(r"""["'(](/(?:playground|sdk)/?[\w./-]*)["')?]""", body.decode()))
    assert {"/playground", "/sdk/chatapi.js", "/playground/rest.html", "/playground/config.json"} <= links
    for link in sorted(links):
        assert (await server.request("GET", link)).status == 200, link


async def test_a_file_that_has_not_changed_is_not_sent_again(server: Server) -> None:
    first = await server.request("GET", "/sdk/chatapi.js")
    again = await server.request("GET", "/sdk/chatapi.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, None)
    assert again.headers["ETag"] == first.headers["ETag"]
    other = await server.request("GET", "/sdk/chatapi.js", headers={"If-None-Match": '"another"'})
    assert other.status == 200


async def test_head_is_answered_without_the_body(server: Server) -> None:
    reply = await server.request("HEAD", "/playground")
    assert (reply.status, reply.body) == (200, None)
    assert int(reply.headers["Content-Length"]) == len(FILES["/playground"])
    reply = await server.request("POST", "/playground", {})
    assert reply.status == 405
    assert reply.headers["Allow"] == "GET, HEAD"


async def test_pages_may_load_nothing_from_elsewhere(server: Server) -> None:
    page = await server.request("GET", "/playground")
    assert page.headers["Content-Security-Policy"] == POLICY
    assert "unsafe" not in POLICY
    assert "frame-ancestors 'none'" in POLICY
    inside = await server.request("GET", "/playground/rest.html")
    assert inside.headers["Content-Security-Policy"] == REST_PAGE_POLICY
    assert "script-src 'self';" in REST_PAGE_POLICY


@pytest.mark.parametrize(
    "path",
    [
        "/playground/nothing.js",
        "/playground/index.html",
        "/playground/../protocol/json.py",
        "/playground/..%2f..%2frest%2ffiles.py",
        "/playground/swagger/../../../rest/files.py",
        "/playground/%2e%2e/sdk/package.json",
        "/playground//etc/passwd",
        "/sdk/package.json",
        "/sdk/",
    ],
)
async def test_nothing_else_is_served(server: Server, path: str) -> None:
    async with server.session.get(yarl.URL(server.url + path, encoded=True)) as answer:
        assert answer.status == 404
        assert (await answer.json())["error"]["code"] == "NOT_FOUND"


async def test_playground_can_be_switched_off_but_the_sdk_stays(start_server: StartServer) -> None:
    server = await start_server({"playground.enabled": False}, dev=True)
    for path in ("/playground", "/playground/config.json", "/playground/swagger/swagger-ui.css"):
        reply = await server.request("GET", path)
        assert reply.status == 404
        assert reply.error["code"] == "NOT_FOUND"
    assert (await server.request("GET", "/sdk/chatapi.js")).status == 200


async def test_the_dev_key_is_handed_out_under_dev_only(start_server: StartServer) -> None:
    production = await start_server()
    assert (await production.request("GET", "/playground/config.json")).body == {"dev": None}
    await production.app.close()
    dev = await start_server({"server.allowed_origins": ["*"]}, dev=True)
    reply = await dev.request("GET", "/playground/config.json", headers={"Origin": "https://elsewhere.example"})
    assert reply.body == {"dev": {"api_key": dev.services.dev_key, "users": ["alice", "bob"]}}
    assert "Access-Control-Allow-Origin" not in reply.headers
    assert reply.headers["Cache-Control"] == "no-store"


def test_every_file_is_in_the_package() -> None:
    folder = Path(__file__).parent.parent / "chatapi" / "web" / "playground"
    served = {Path(path).name for path in read_playground()}
    assert {file.name for file in folder.iterdir()} - {"index.html"} <= served
