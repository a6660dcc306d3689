"""One REST call between its edge and its handler, and what a route is."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Any, NamedTuple

from aiohttp import web

from chatapi.models import Principal
from chatapi.protocol.replies import encode_envelope
from chatapi.protocol.requests import Body, Query
from chatapi.protocol.responses import Answer
from chatapi.services import Services

JSON = "application/json; charset=utf-8"


class Credential(Enum):
    """What a route asks of its caller (docs/contract.md, section 4)."""

    NONE = auto()
    USER = auto()  # the tenant's key and a user, or a user token
    API_KEY = auto()  # the tenant's key only
    MASTER = auto()


class Base(NamedTuple):
    """How the client reached the server."""

    scheme: str
    host: str  # with its port


NOWHERE = Base("http", "localhost")


@dataclass(slots=True)
class Call:
    """`body` and `query` are records of the types that the route names. `base` is known to documents alone."""

    services: Services
    principal: Principal
    path: Mapping[str, str]
    body: Any
    query: Any
    base: Base = NOWHERE


@dataclass(slots=True)
class Reply:
    """An answer: JSON that is encoded already. `gzipped` is the same body, kept for those who can read it; `page` is
    where a browser is led instead."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] | None = None
    gzipped: bytes | None = None
    page: str | None = None


def ok(data: Answer, status: int = 200) -> Reply:
    return Reply(status, encode_envelope(data))


NO_CONTENT = Reply(204, b"")

Handler = Callable[[Call], Awaitable[Reply]]


class Media(StrEnum):
    """What an answer without an envelope is."""

    JSON = "application/json"
    METRICS = "text/plain"


@dataclass(slots=True, frozen=True)
class Route:
    """The handler's docstring is its summary in the documents. `status` is the usual one; `also` holds the others, but
    those that follow from what the route takes. An answer is an envelope around `answer`, or of the type `media`, or
    empty."""

    method: str
    path: str
    handler: Handler
    status: int
    answer: type[Answer] | None = None
    credential: Credential = Credential.USER
    body: type[Body] | None = None
    query: type[Query] | None = None
    also: tuple[int, ...] = ()
    media: Media | None = None


RawHandler = Callable[[Services, web.BaseRequest, Mapping[str, str], dict[str, str]], Awaitable[web.StreamResponse]]
"""Gets what the path holds, and the headers that every answer carries."""


@dataclass(slots=True, frozen=True)
class RawRoute:
    """A route that answers with something other than the envelope: files, and the WebSocket."""

    method: str
    path: str
    handler: RawHandler
