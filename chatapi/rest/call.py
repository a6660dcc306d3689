"""One REST call between its edge and its handler, and what a route is."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import Any, Generic, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from aiohttp import web

from chatapi.models import Actor, Principal, make_actor
from chatapi.protocol.answers import Answer
from chatapi.protocol.encoders import encode_envelope
from chatapi.protocol.queries import Query
from chatapi.protocol.requests import Body
from chatapi.rest.incoming_text import IncomingText
from chatapi.services import Services

JSON = "application/json; charset=utf-8"


class Credential(Enum):
    """The credential that a route requires (docs/contract.md, section 4)."""

    NONE = auto()
    USER = auto()  # the tenant's key and a user, or a user token
    CONNECTION = auto()  # as USER, or a ticket or a user token in the URL
    API_KEY = auto()  # the tenant's key only
    MASTER = auto()


OF_USERS = (Credential.USER, Credential.CONNECTION, Credential.API_KEY)
"""With these a call has a principal."""


class Base(NamedTuple):
    """How the client reached the server."""

    scheme: str
    host: str  # with its port


NOWHERE = Base("http", "localhost")


class Exchange(NamedTuple):
    """The request itself, and the headers that its response will carry."""

    request: web.BaseRequest
    headers: dict[str, str]


BodyT = TypeVar("BodyT", bound=Body | IncomingText | None)
QueryT = TypeVar("QueryT", bound=Query | None)
AnswerT = TypeVar("AnswerT", bound=Answer | None)
DataT = TypeVar("DataT", bound=Answer)


@dataclass(slots=True)
class OpenCall(Generic[BodyT, QueryT]):
    """A call by anybody, or by the operator. `address`, the client's, is known to routes with a credential, `base` to
    documents alone, `exchange` to routes that wait."""

    services: Services
    path: Mapping[str, str]
    body: BodyT
    query: QueryT
    address: str = ""
    base: Base = NOWHERE
    exchange: Exchange | None = None

    @property
    def actor(self) -> Actor:
        """The operator."""
        return make_actor(None, self.address)


@dataclass(slots=True)
class Call(OpenCall[BodyT, QueryT]):
    """A call by a user."""

    principal: Principal = field(kw_only=True)

    @property
    def actor(self) -> Actor:
        return make_actor(self.principal, self.address)


@dataclass(slots=True)
class Response(Generic[AnswerT]):
    """The result of a handler: a status and an encoded body, which is an envelope around an `Answer`. `gzipped` is the
    same body, kept for those who can read it; `page` is where a browser is led instead; `lasting` has been sent by the
    handler itself."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] | None = None
    gzipped: bytes | None = None
    page: str | None = None
    lasting: web.StreamResponse | None = None


def ok(data: DataT, status: int = 200) -> Response[DataT]:
    return Response(status, encode_envelope(data))


NO_CONTENT: Response[None] = Response(204, b"")

Handler = Callable[[Any], Awaitable[Response[Any]]]


class Media(StrEnum):
    """The media type of a response without an envelope."""

    JSON = "application/json"
    METRICS = "text/plain"
    EVENTS = "text/event-stream"
    LINES = "application/x-ndjson"
    DATABASE = "application/octet-stream"


@dataclass(slots=True, frozen=True)
class Route:
    """The handler's signature, `(Call[body, query]) -> Response[answer]`, says what the route takes and answers. By it
    mypy judges the handler, the edge parses, and the documents are made, where the docstring is the summary.

    `reads_text` of a handler that takes `IncomingText` and reads it as it arrives; then there is no `body`.

    `takes` is the media type of a body that the handler, which has the request, reads from it.

    `status` is the usual one; `also` holds the others, except those that follow from the body, the query and the
    credential. A response is an envelope around `answer`, or of the type `media`, or empty. A handler that `waits` for
    something else than the database has the request itself. Raises TypeError for a handler that wants a user of a route
    that has none.
    """

    method: str
    path: str
    handler: Handler
    status: int
    credential: Credential = Credential.USER
    also: tuple[int, ...] = ()
    media: Media | None = None
    takes: Media | None = None
    waits: bool = False
    is_append: bool = False  # it takes a token of another bucket
    reads_text: bool = field(init=False, default=False)
    body: type[Body] | None = field(init=False)
    query: type[Query] | None = field(init=False)
    answer: type[Answer] | None = field(init=False)

    def __post_init__(self) -> None:
        call, response = get_type_hints(self.handler).values()
        if (get_origin(call) is Call) is not (self.credential in OF_USERS):
            raise TypeError(f"{self.handler.__name__} and the credential of {self.method} {self.path} do not fit")
        records = (*get_args(call), *get_args(response))
        for name, record in zip(("body", "query", "answer"), records, strict=True):
            object.__setattr__(self, name, None if record in (type(None), IncomingText) else record)
        object.__setattr__(self, "reads_text", records[0] is IncomingText)


RawHandler = Callable[[Services, web.BaseRequest, Mapping[str, str], dict[str, str]], Awaitable[web.StreamResponse]]
"""Gets what the path holds, and the headers that every response carries."""


@dataclass(slots=True, frozen=True)
class RawRoute:
    """A route that answers with something other than the envelope: files, and the WebSocket."""

    method: str
    path: str
    handler: RawHandler
