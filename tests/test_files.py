"""The playground's files and the SDK, as a browser gets them."""

import asyncio
import gzip
import re
from functools import cache
from pathlib import Path
from urllib.parse import urljoin

import pytest
import yarl
from conftest import StartServer
from driver import Server

from chatapi.rest import documents, files
from chatapi.rest.files import POLICY, REST_PAGE_POLICY, list_playground, list_sdk

PATHS = {**list_playground(), **list_sdk()}
FILES = {path: file.read_bytes() for path, file in PATHS.items()}
BUNDLE = "/playground/swagger/swagger-ui-bundle.js"


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/playground", "text/html; charset=utf-8"),
        ("/playground/", "text/html; charset=utf-8"),
        ("/playground/rest.html", "text/html; charset=utf-8"),
        ("/playground/playground.js", "text/javascript; charset=utf-8"),
        ("/playground/base.css", "text/css; charset=utf-8"),
        ("/playground/icon.svg", "image/svg+xml"),
        ("/playground/swagger/swagger-ui.css", "text/css; charset=utf-8"),
        ("/playground/swagger/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        ("/sdk/chatapi.js", "text/javascript; charset=utf-8"),
    ],
)
async def test_each_file_with_its_type(shared_server: Server, path: str, content_type: str) -> None:
    for prefix in ("", "/v1"):
        reply = await shared_server.request("GET", prefix + path)
        assert reply.status == 200
        assert reply.body == FILES[path].decode()
        assert reply.headers["Content-Type"] == content_type
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert reply.headers["Cache-Control"] == ("max-age=86400" if "/swagger/" in path else "no-cache")
        assert "X-Request-Id" in reply.headers


async def test_every_link_between_the_files_leads_somewhere(shared_server: Server) -> None:
    links = set()
    for path, body in FILES.items():
        if "/swagger/" not in path and path.endswith((".html", ".js", "/playground")):
            links |= set(re.findall(r"""["'(](/(?:playground|sdk)/?[\w./-]*)["')?]""", body.decode()))
    assert {"/playground", "/sdk/chatapi.js", "/playground/rest.html", "/playground/config.json"} <= links
    for link in sorted(links):
        assert (await shared_server.request("GET", link)).status == 200, link


async def test_a_file_that_has_not_changed_is_not_sent_again(shared_server: Server) -> None:
    first = await shared_server.request("GET", "/sdk/chatapi.js")
    again = await shared_server.request("GET", "/sdk/chatapi.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, None)
    assert again.headers["ETag"] == first.headers["ETag"]
    other = await shared_server.request("GET", "/sdk/chatapi.js", headers={"If-None-Match": '"another"'})
    assert other.status == 200


@pytest.mark.parametrize(
    ("accepted", "gzipped"),
    [
        ("gzip", True),
        ("br, GZIP ;Q=0.5", True),
        ("*", True),
        ("x-gzip", True),
        ("deflate, gzip;q=1.0, *;q=0", True),
        ("", False),
        ("identity", False),
        ("br, deflate, zstd", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("*;q=0", False),
        ("gzip;q=nan", False),
        ("gzip;q=", False),
        ("gzip;q=2", False),
        (";;,,=", False),
        ("gzipped", False),
    ],
)
async def test_file_is_compressed_for_clients_that_accept_it(
    shared_server: Server, accepted: str, gzipped: bool
) -> None:
    for path in ("/playground", "/playground/playground.js", "/sdk/chatapi.js", "/playground/swagger/swagger-ui.css"):
        head, body = await get_bytes(shared_server, path, accepted)
        assert ("content-encoding: gzip" in head) == gzipped
        assert "vary: accept-encoding" in head
        assert (gzip.decompress(body) if gzipped else body) == FILES[path]
        assert f"content-length: {len(body)}\r\n" in head
        assert (await get_bytes(shared_server, path, accepted, method="HEAD")) == (head, b"")


async def test_the_documents_for_machines_are_compressed_as_well(shared_server: Server) -> None:
    # The process keeps them compressed for the first few hosts only: other tests' servers may have been those.
    documents._make_openapi.cache_clear()
    documents._make_asyncapi.cache_clear()
    for path in ("/openapi.json", "/asyncapi.json"):
        plain_head, plain = await get_bytes(shared_server, path, "identity")
        head, body = await get_bytes(shared_server, path, "gzip")
        assert gzip.decompress(body) == plain
        assert len(body) < len(plain) / 5
        assert "content-encoding: gzip" in head
        assert "content-encoding" not in plain_head
        assert "vary: accept-encoding" in head
        assert "vary: accept-encoding" in plain_head


async def get_bytes(server: Server, path: str, accepted: str, *, method: str = "GET") -> tuple[str, bytes]:
    """The answer's head in lower case, without what changes from answer to answer, and its body as sent."""
    lines = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: {accepted}\r\nConnection: close\r\n\r\n"
    head, _, body = (await server.exchange(lines.encode())).partition(b"\r\n\r\n")
    kept = [line for line in head.decode().lower().split("\r\n") if not line.startswith(("x-request-id", "date"))]
    return "\r\n".join(kept) + "\r\n", body


async def test_each_encoding_has_a_tag_of_its_own(shared_server: Server) -> None:
    for path in ("/playground", "/sdk/chatapi.js", BUNDLE):
        tags = []
        for accepted in ("gzip", "identity"):
            headers = {"Accept-Encoding": accepted}
            tags.append((await shared_server.request("GET", path, headers=headers)).headers["ETag"])
            for known in (tags[-1], f'"other", W/{tags[-1]}', "*"):
                again = await shared_server.request("GET", path, headers={**headers, "If-None-Match": known})
                assert (again.status, again.body, again.headers["ETag"]) == (304, None, tags[-1])
                assert again.headers["Vary"] == "Accept-Encoding"
                assert "Cache-Control" in again.headers
                assert "Content-Encoding" not in again.headers
            unknown = tags[0] if accepted == "identity" else tags[-1][:-2] + '"'
            changed = await shared_server.request("GET", path, headers={**headers, "If-None-Match": unknown})
            assert changed.status == 200
        assert tags[0] != tags[1]


async def test_file_that_depends_on_origin_and_encoding_has_both_in_vary(start_server: StartServer) -> None:
    server = await start_server({"server.allowed_origins": ["https://app.example.com"]})
    reply = await server.request("GET", "/playground", headers={"Origin": "https://app.example.com"})
    assert reply.headers["Vary"] == "Origin, Accept-Encoding"


@pytest.mark.slow
async def test_swagger_ui_is_read_once_and_when_it_is_asked_for(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    compressed: list[int] = []

    def compress(data: bytes) -> bytes:
        compressed.append(len(data))
        return gzip.compress(data, 1)

    monkeypatch.setattr(files, "compress", compress)
    # Only this test starts with none read: the server that many tests share has read them, and does not again.
    monkeypatch.setattr(files, "read_file", cache(files.read_file.__wrapped__))
    server = await start_server()
    assert compressed
    assert len(FILES[BUNDLE]) not in compressed, "only the small files are read at the start"
    compressed.clear()
    async with asyncio.TaskGroup() as together:
        calls = [together.create_task(server.request("GET", BUNDLE)) for _ in range(20)]
    assert {call.result().body for call in calls} == {FILES[BUNDLE].decode()}
    assert compressed == [len(FILES[BUNDLE])]


async def test_head_is_answered_without_the_body(shared_server: Server) -> None:
    reply = await shared_server.request("HEAD", "/playground", headers={"Accept-Encoding": "identity"})
    assert (reply.status, reply.body) == (200, None)
    assert int(reply.headers["Content-Length"]) == len(FILES["/playground"])
    reply = await shared_server.request("POST", "/playground", {})
    assert reply.status == 405
    assert reply.headers["Allow"] == "GET, HEAD"


async def test_pages_may_load_nothing_from_elsewhere(shared_server: Server) -> None:
    page = await shared_server.request("GET", "/playground")
    assert page.headers["Content-Security-Policy"] == POLICY
    assert "unsafe" not in POLICY
    assert "frame-ancestors 'none'" in POLICY
    inside = await shared_server.request("GET", "/playground/rest.html")
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
async def test_nothing_else_is_served(shared_server: Server, path: str) -> None:
    async with shared_server.session.get(yarl.URL(shared_server.url + path, encoded=True)) as answer:
        assert answer.status == 404
        assert (await answer.json())["error"]["code"] == "NOT_FOUND"


async def test_playground_can_be_switched_off_but_the_sdk_stays(start_server: StartServer) -> None:
    server = await start_server({"playground.enabled": False}, dev=True)
    for path in ("/playground", "/playground/config.json", "/playground/swagger/swagger-ui.css"):
        reply = await server.request("GET", path)
        assert reply.status == 404
        assert reply.error["code"] == "NOT_FOUND"
    assert (await server.request("GET", "/sdk/chatapi.js")).status == 200


async def test_pages_of_every_origin_may_import_the_sdk_and_its_parts(shared_server: Server) -> None:
    parts = [path for path in PATHS if path.startswith("/sdk/")]
    imported = set()
    for path in parts:
        reply = await shared_server.request("GET", path, headers={"Origin": "https://elsewhere.example"})
        assert reply.headers["Access-Control-Allow-Origin"] == "*", path
        imported |= {urljoin(path, name) for name in re.findall(r'^import .*"(.*)";$', reply.body, re.MULTILINE)}
    assert imported == set(parts) - {"/sdk/room.js", "/sdk/room/surroundings.js"}  # the latter holds types alone


async def test_the_dev_key_is_handed_out_under_dev_only(start_server: StartServer) -> None:
    production = await start_server()
    assert (await production.request("GET", "/playground/config.json")).body == {"dev": None}
    await production.app.close()
    dev = await start_server({"server.allowed_origins": ["*"]}, dev=True)
    reply = await dev.request("GET", "/playground/config.json", headers={"Origin": "https://elsewhere.example"})
    key = dev.services.tenants.dev_key
    assert reply.body == {"dev": {"api_key": key, "users": ["alice", "bob"], "agent": "echo"}}
    assert "Access-Control-Allow-Origin" not in reply.headers
    assert reply.headers["Cache-Control"] == "no-store"


def test_every_file_is_in_the_package() -> None:
    folder = Path(__file__).parent.parent / "chatapi" / "web" / "playground"
    served = {Path(path).name for path in list_playground()}
    assert {file.name for file in folder.iterdir()} - {"index.html"} <= served
