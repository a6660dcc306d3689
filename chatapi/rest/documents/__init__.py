"""The OpenAPI and AsyncAPI documents, made from the route table and the records that serve the requests."""

from collections.abc import Sequence
from functools import lru_cache

from chatapi.protocol.json import dumps
from chatapi.rest.call import OpenCall, Response, Route
from chatapi.rest.documents.asyncapi import build_asyncapi
from chatapi.rest.documents.openapi import build_openapi
from chatapi.rest.negotiation import compress

ANY_HOST = "host.invalid"  # stands for the host until it is known (RFC 2606)
MAX_COMPRESSED = 16  # hosts for which a document is kept compressed: clients name the host, and may make any up


class _Document:
    """Made once, in about 10 ms, and shown under each host by which a client reaches the server."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._compressed: dict[str, bytes] = {}

    def serve(self, host: str) -> Response[None]:
        text = self._text.replace(ANY_HOST.encode(), host.encode())
        if host not in self._compressed and len(self._compressed) < MAX_COMPRESSED:
            self._compressed[host] = compress(text)
        return Response(200, text, gzipped=self._compressed.get(host))


def serve_openapi(routes: Sequence[Route], call: OpenCall[None, None]) -> Response[None]:
    return _make_openapi(tuple(routes), _generalize(call)).serve(call.base.host)


async def asyncapi(call: OpenCall[None, None]) -> Response[None]:
    """Get the AsyncAPI document of the WebSocket."""
    return _make_asyncapi(_generalize(call)).serve(call.base.host)


def _generalize(call: OpenCall[None, None]) -> str:
    """The address that the server has by its settings; else that of the request, without its host."""
    return call.services.config.server.public_url or f"{call.base.scheme}://{ANY_HOST}"


@lru_cache(maxsize=4)
def _make_openapi(routes: tuple[Route, ...], base_url: str) -> _Document:
    return _Document(dumps(build_openapi(routes, base_url)))


@lru_cache(maxsize=4)
def _make_asyncapi(base_url: str) -> _Document:
    return _Document(dumps(build_asyncapi(base_url)))
