"""Static files: the playground with Swagger UI beside it, and the JavaScript SDK. They are read once, before the server
listens, and every file has a route of its own: no part of a request becomes a path."""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from aiohttp import web

from chatapi.config import Config
from chatapi.protocol.json import dumps
from chatapi.rest.call import RawHandler, RawRoute
from chatapi.services import Services

WEB = Path(__file__).parent.parent / "web"
SWAGGER_FILES = ("swagger-ui.css", "swagger-ui-bundle.js")
SDK_FILES = ("chatapi.js",)

CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self';"
    " connect-src 'self' ws: wss:; frame-src 'self'; form-action 'none'; base-uri 'none';"
)
POLICY = f"{_POLICY} frame-ancestors 'none'"
# Swagger UI sets style attributes, and its page stands in a frame of the playground.
REST_PAGE_POLICY = f"{_POLICY} style-src-attr 'unsafe-inline'; frame-ancestors 'self'"
REST_PAGE = "/playground/rest.html"

_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_FILE_HEADERS = {
    **_HEADERS,
    "Cache-Control": "no-cache",
}  # kept, but asked for at each use: a new version shows at once
_SDK_HEADERS = {"Access-Control-Allow-Origin": "*"}  # it is public: pages of any origin may import it

DEV_USERS = ("alice", "bob")


def make_file_routes(config: Config) -> list[RawRoute]:
    """Reads the files: call it where blocking does no harm."""
    files = dict(read_sdk())
    handlers: dict[str, RawHandler] = {}
    if config.playground.enabled:
        files.update(read_playground())
        handlers["/playground/config.json"] = serve_playground_config
    for path, body in files.items():
        handlers[path] = _make_handler(path, body)
    return [RawRoute(method, path, handler) for path, handler in handlers.items() for method in ("GET", "HEAD")]


@cache
def read_sdk() -> dict[str, bytes]:
    return {f"/sdk/{name}": (WEB / "sdk" / name).read_bytes() for name in SDK_FILES}


@cache
def read_playground() -> dict[str, bytes]:
    """By the path under which each is served."""
    own = {f"/playground/{file.name}": file.read_bytes() for file in sorted((WEB / "playground").iterdir())}
    index = own.pop("/playground/index.html")
    swagger = {f"/playground/swagger/{name}": (WEB / "swagger" / name).read_bytes() for name in SWAGGER_FILES}
    return {"/playground": index, "/playground/": index, **own, **swagger}


def _make_handler(path: str, body: bytes) -> RawHandler:
    etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    kind = CONTENT_TYPES[Path(path).suffix or ".html"]
    fixed = {**_FILE_HEADERS, "ETag": etag}
    if path.startswith("/playground"):
        fixed["Content-Security-Policy"] = REST_PAGE_POLICY if path == REST_PAGE else POLICY
        fixed["Cross-Origin-Resource-Policy"] = "same-origin"
    is_public = path.startswith("/sdk/")

    async def serve(
        _services: Services, request: web.BaseRequest, _path: Mapping[str, str], headers: dict[str, str]
    ) -> web.StreamResponse:
        headers.update(fixed)
        if is_public:
            headers.pop("Vary", None)  # the same for every origin: a cache may keep one copy for all
            headers.update(_SDK_HEADERS)
        if etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = kind
        return web.Response(body=body, headers=headers)

    return serve


async def serve_playground_config(
    services: Services, _request: web.BaseRequest, _path: Mapping[str, str], headers: dict[str, str]
) -> web.StreamResponse:
    """The key of the tenant `dev`, under `serve --dev` only, for pages of this very host: no other may read it, though
    `--dev` allows all origins."""
    dev = None if services.dev_key is None else {"api_key": services.dev_key, "users": DEV_USERS}
    headers.pop("Access-Control-Allow-Origin", None)
    headers |= {
        **_HEADERS,
        "Cache-Control": "no-store",
        "Content-Type": "application/json; charset=utf-8",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    return web.Response(body=dumps({"dev": dev}), headers=headers)
