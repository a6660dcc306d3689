"""The OpenAPI and AsyncAPI documents, made from the route table and the records that serve the requests."""

from collections.abc import Sequence
from functools import lru_cache

from chatapi.protocol.json import dumps
from chatapi.rest.call import Call, Reply, Route
from chatapi.rest.documents.asyncapi import build_asyncapi
from chatapi.rest.documents.openapi import build_openapi
from chatapi.rest.encoding import compress


def serve_openapi(routes: Sequence[Route], public_url: str) -> Reply:
    document, gzipped = _encode_openapi(tuple(routes), public_url)
    return Reply(200, document, gzipped=gzipped)


async def asyncapi(call: Call) -> Reply:
    """The WebSocket's AsyncAPI document."""
    document, gzipped = _encode_asyncapi(call.services.config.server.public_url)
    return Reply(200, document, gzipped=gzipped)


# Made at the first request, in about 10 ms; a process has one public_url, so nothing piles up.
@lru_cache(maxsize=4)
def _encode_openapi(routes: tuple[Route, ...], public_url: str) -> tuple[bytes, bytes]:
    document = dumps(build_openapi(routes, public_url))
    return document, compress(document)


@lru_cache(maxsize=4)
def _encode_asyncapi(public_url: str) -> tuple[bytes, bytes]:
    document = dumps(build_asyncapi(public_url))
    return document, compress(document)
