"""Static files: the playground with Swagger UI beside it, and the JavaScript SDK. Every file has a route of its own: no
part of a request becomes a path."""

import asyncio
import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aiohttp import web

from chatapi.config import Config
from chatapi.protocol.json import dumps
from chatapi.rest.call import RawHandler, RawRoute
from chatapi.rest.negotiation import accepts_gzip, compress, vary_on
from chatapi.services import Services

WEB = Path(__file__).parent.parent / "web"
SWAGGER = "/playground/swagger/"
SWAGGER_FILES = ("swagger-ui.css", "swagger-ui-bundle.js")
SDK_FILES = ("chatapi.js", "room.js")

CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self';"
    " connect-src 'self' ws: wss:; frame-src 'self'; form-action 'none'; base-uri 'none';"
)
POLICY = f"{_POLICY} img-src 'self' data: https:; frame-ancestors 'none'"  # users' pictures are anywhere
# Swagger UI sets style attributes, and its page stands in a frame of the playground.
REST_PAGE_POLICY = f"{_POLICY} img-src 'self' data:; style-src-attr 'unsafe-inline'; frame-ancestors 'self'"
REST_PAGE = "/playground/rest.html"

_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_SDK_HEADERS = {"Access-Control-Allow-Origin": "*"}  # it is public: pages of any origin may import it

_ASK_EACH_TIME = "no-cache"  # kept, but asked for at each use: a new version shows at once
_KEEP_FOR_A_DAY = "max-age=86400"  # Swagger UI changes with a release at most, and any of its versions will do

DEV_USERS = ("alice", "bob")
DEV_AGENT = "echo"  # a user who answers with streams: chatapi/cli/echo.py


def make_file_routes(config: Config) -> tuple[RawRoute, ...]:
    """Reads the files: call it where blocking does no harm."""
    routes = _list_routes(config.playground.enabled)
    for path, file in _list_files(config.playground.enabled).items():
        if not _is_large(path):
            read_file(file)
    return routes


@cache
def _list_routes(has_playground: bool) -> tuple[RawRoute, ...]:
    handlers = {path: _make_handler(path, file) for path, file in _list_files(has_playground).items()}
    if has_playground:
        handlers["/playground/config.json"] = serve_playground_config
    return tuple(RawRoute("GET", path, handler) for path, handler in handlers.items())


@cache
def _list_files(has_playground: bool) -> dict[str, Path]:
    return list_sdk() | list_playground() if has_playground else list_sdk()


def list_sdk() -> dict[str, Path]:
    """By the path under which each is served."""
    parts = sorted((WEB / "sdk" / "room").iterdir())  # of room.js, which imports them
    return {
        **{f"/sdk/{name}": WEB / "sdk" / name for name in SDK_FILES},
        **{f"/sdk/room/{file.name}": file for file in parts},
    }


def list_playground() -> dict[str, Path]:
    """By the path under which each is served."""
    own = {f"/playground/{file.name}": file for file in sorted((WEB / "playground").iterdir())}
    index = own.pop("/playground/index.html")
    swagger = {f"{SWAGGER}{name}": WEB / "swagger" / name for name in SWAGGER_FILES}
    return {"/playground": index, "/playground/": index, **own, **swagger}


@dataclass(slots=True, frozen=True)
class File:
    """Held compressed only: hardly anybody asks for the rest, and of Swagger UI that is 0.5 MB instead of 2.4."""

    digest: str
    gzipped: bytes


@cache
def read_file(file: Path) -> File:
    """Blocks: 0.1 s for Swagger UI."""
    content = file.read_bytes()
    return File(hashlib.blake2b(content, digest_size=12).hexdigest(), compress(content))


def _is_large(path: str) -> bool:
    """Whether it is read when somebody asks for it, not before the server listens. The others are, so that what is
    served is of one version, even when the package is replaced under a running server."""
    return path.startswith(SWAGGER)


async def _get_large_file(services: Services, file: Path) -> File:
    async with services.file_turn:
        return await asyncio.to_thread(read_file, file)


def _make_handler(path: str, file: Path) -> RawHandler:
    fixed = {**_HEADERS, "Cache-Control": _KEEP_FOR_A_DAY if _is_large(path) else _ASK_EACH_TIME}
    if path.startswith("/playground"):
        fixed["Content-Security-Policy"] = REST_PAGE_POLICY if path == REST_PAGE else POLICY
        fixed["Cross-Origin-Resource-Policy"] = "same-origin"
    kind = CONTENT_TYPES[Path(path).suffix or ".html"]
    is_public = path.startswith("/sdk/")
    is_large = _is_large(path)

    async def serve(
        services: Services, request: web.BaseRequest, _path: Mapping[str, str], headers: dict[str, str]
    ) -> web.StreamResponse:
        found = await _get_large_file(services, file) if is_large else read_file(file)
        headers.update(fixed)
        if is_public:
            headers.pop("Vary", None)  # the same for every origin: a cache may keep one copy for all
            headers.update(_SDK_HEADERS)
        vary_on(headers, "Accept-Encoding")
        is_gzipped = accepts_gzip(request)
        headers["ETag"] = f'"{found.digest}-gzip"' if is_gzipped else f'"{found.digest}"'
        if _has(request, headers["ETag"]):
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = kind
        if is_gzipped:
            headers["Content-Encoding"] = "gzip"
            return web.Response(body=found.gzipped, headers=headers)
        return web.Response(body=await asyncio.to_thread(gzip.decompress, found.gzipped), headers=headers)

    return serve


def _has(request: web.BaseRequest, etag: str) -> bool:
    """Whether the client keeps just this, as in RFC 9110, section 13.1.2. Proxies that compress make a weak tag."""
    given = ",".join(request.headers.getall("If-None-Match", ()))
    return not {"*", etag}.isdisjoint(tag.strip().removeprefix("W/") for tag in given.split(","))


async def serve_playground_config(
    services: Services, _request: web.BaseRequest, _path: Mapping[str, str], headers: dict[str, str]
) -> web.StreamResponse:
    """The key of the tenant `dev`, under `serve --dev` only, for pages of this very host: no other may read it, though
    `--dev` allows all origins."""
    key = services.tenants.dev_key
    dev = None if key is None else {"api_key": key, "users": DEV_USERS, "agent": DEV_AGENT}
    headers.pop("Access-Control-Allow-Origin", None)
    headers |= {
        **_HEADERS,
        "Cache-Control": "no-store",
        "Content-Type": "application/json; charset=utf-8",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    return web.Response(body=dumps({"dev": dev}), headers=headers)
