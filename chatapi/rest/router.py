"""By method and path, a request finds its route. aiohttp's router tries one pattern after the other; before it come the
matches that were made last."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiohttp import web

KEPT_MATCHES = 1000
KEPT_PATH_CHARACTERS = 200  # so that all that are kept take about 1 MB at most

_PARAMETER = re.compile(r"{(\w+)}")
# No message has the id `stream`, which is the path of pipes, and no tenant the id `import`.
_NAMED_PATHS = {
    "/messages/{message_id}": "/messages/{message_id:(?!stream$)[^/]+}",
    "/admin/tenants/{tenant_id}": "/admin/tenants/{tenant_id:(?!import$)[^/]+}",
}


class Match(NamedTuple):
    """A route's path with the names of its parameters, and their values in the path of a request."""

    path: str
    values: Mapping[str, str]
    handler: Any


class Router:
    def __init__(self) -> None:
        self._router = web.UrlDispatcher()
        self._kept: dict[tuple[str, str], Match] = {}  # the oldest first

    def add(self, method: str, path: str, handler: Any) -> None:
        """HEAD is answered as GET is, and aiohttp leaves the body out."""
        self._router.add_route(method, _widen(path), handler)
        if method == "GET":
            self._router.add_route("HEAD", _widen(path), handler)

    def find_kept(self, request: web.BaseRequest) -> Match | None:
        return self._kept.get((request.method, request.rel_url.raw_path))

    async def find(self, request: web.BaseRequest) -> Match:
        """Raises web.HTTPException where there is no such route."""
        found = await self._router.resolve(request)  # type: ignore[arg-type]  # it reads method and path
        if found.http_exception is not None:
            raise found.http_exception
        path: str = found.route.resource.canonical  # type: ignore[union-attr]  # every route of ours has one
        match = Match(path, dict(found), found.handler)
        raw_path = request.rel_url.raw_path
        if len(raw_path) <= KEPT_PATH_CHARACTERS:
            if len(self._kept) >= KEPT_MATCHES:
                del self._kept[next(iter(self._kept))]
            self._kept[request.method, raw_path] = match
        return match


def _widen(path: str) -> str:
    """The route's pattern: aiohttp's own for a parameter takes no braces, which a user id may hold."""
    for prefix, pattern in _NAMED_PATHS.items():
        path = path.replace(prefix, pattern)
    return _PARAMETER.sub(r"{\1:[^/]+}", path)
