"""The OpenAPI and AsyncAPI documents, made from the route table and the records that serve the requests."""

from collections.abc import Sequence
from functools import lru_cache

from chatapi.protocol.json import dumps
from chatapi.rest.call import Call, Reply, Route
from chatapi.rest.documents.asyncapi import build_asyncapi
from chatapi.rest.documents.openapi import build_openapi


def serve_openapi(routes: Sequence[Route], public_url: str) -> Reply:
    return Reply(200, _encode_openapi(tuple(routes), public_url))


async def asyncapi(call: Call) -> Reply:
    """The WebSocket's AsyncAPI document."""
    return Reply(200, _encode_asyncapi(call.services.config.server.public_url))


# Made at the first request, in about 10 ms; a process has one public_url, so nothing piles up.
@lru_cache(maxsize=4)
def _encode_openapi(routes: tuple[Route, ...], public_url: str) -> bytes:
    return dumps(build_openapi(routes, public_url))


@lru_cache(maxsize=4)
def _encode_asyncapi(public_url: str) -> bytes:
    return dumps(build_asyncapi(public_url))
