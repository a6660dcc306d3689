"""HTTP calls: credentials, tries, and the envelope taken off."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, BinaryIO, Self, TypeGuard, TypeVar, cast
from urllib.parse import urlencode, urlsplit

import aiohttp
from yarl import URL

from chatapi.client.backoff import full_jitter
from chatapi.client.credentials import Credentials
from chatapi.client.envelope import Shape, parse_json, parse_response, parse_text
from chatapi.client.errors import ApiError, NoAnswer, NotChatAPI, NoToken
from chatapi.client.records import Json
from chatapi.client.server_records import Health, ServerInfo, Status
from chatapi.protocol.json import dumps

RETRIES = 4
RETRY_BASE_S = 0.25
RETRY_CAP_S = 10.0
MAX_RETRY_AFTER_S = 60.0  # a longer one is the application's decision, which gets the error
TIMEOUT_S = 30.0  # of one try
CHUNK_BYTES = 256 * 1024  # of a file, at once
MAX_ANSWER_BYTES = 64 * 1024 * 1024  # far above any of the server's: pages end at 1 MiB
MAX_HOPS = 5  # from server to server: two servers may name each other

A = TypeVar("A")
T = TypeVar("T")
Parse = Callable[[str, int, Mapping[str, str], bytes], T]
"""Makes the result of method and path, status, headers and body. Raises ApiError, NotChatAPI."""


class Http:
    """One pool of sockets to one server, shared by all who call it; opened at the first call."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        retries: int,
        session: aiohttp.ClientSession | None = None,
        follows_moves: bool = True,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError("url must start with http:// or https://")
        self.base: str = url.rstrip("/")
        self._timeout_s = timeout_s
        self._retries = retries
        self._follows_moves = follows_moves
        self._session = session
        self._owns_session = session is None
        self._handshakes: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            # No bound on sockets: a WebSocket keeps one for as long as it lives.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
            )
            # It would repeat a request by itself when a connection breaks: tries are ours to count, so that a DELETE
            # that was done by the one before is told from one of what never was.
            self._session._retry_connection = False
        return self._session

    def handshake_session(self, middleware: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
        """The same sockets and defaults, with a look at what answers a handshake."""
        if self._handshakes is None:
            session = self.session()
            self._handshakes = aiohttp.ClientSession(
                connector=session.connector,
                connector_owner=False,
                headers=session.headers,
                cookie_jar=session.cookie_jar,
                trust_env=session.trust_env,
                proxy=session._default_proxy,
                proxy_auth=session._default_proxy_auth,
                middlewares=(middleware,),
            )
            self._handshakes._retry_connection = False
        return self._handshakes

    async def close(self) -> None:
        if self._handshakes is not None:
            await self._handshakes.close()
        if self._session is not None and self._owns_session:
            await self._session.close()

    async def call(
        self,
        credentials: Credentials,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        is_idempotent: bool | None = None,
        shape: Shape | None = None,
        wait_s: float = 0.0,
    ) -> Any:
        """The answer's `data`, None for a 204. `path` is escaped already, and `query` items that are None are left out.

        Tried again, with growing pauses, when there was no answer of the server's or a 502 to 504 of its own, unless
        doing it twice could differ from doing it once (a POST, if not stated otherwise); always after a 429 of its own,
        slow mode aside, once `Retry-After` has passed. `wait_s`: how much longer than others it may take. Raises
        ApiError, NoAnswer, NotChatAPI, NoToken.
        """

        def parse(call: str, status: int, headers: Mapping[str, str], response_body: bytes) -> dict[str, Any] | None:
            return parse_response(call, status, headers, response_body, shape)

        can_repeat = method != "POST" if is_idempotent is None else is_idempotent
        return await self._repeat(credentials, method, can_repeat, path, query, body, parse, wait_s)

    async def read(self, credentials: Credentials, path: str, parse: Parse[T], *, wait_s: float = 0.0) -> T:
        """The text of a route without an envelope, with tries and errors as in `call`."""
        result = await self._repeat(credentials, "GET", True, path, None, None, parse, wait_s)
        assert result is not None  # only a deletion has none
        return result

    async def _repeat(
        self,
        credentials: Credentials,
        method: str,
        can_repeat: bool,
        path: str,
        query: Mapping[str, object] | None,
        body: object,
        parse: Parse[T],
        wait_s: float = 0.0,
    ) -> T | None:
        is_renewed = was_lost = False
        attempt = hops = 0
        while True:
            asked = self.base
            try:
                return await self._try(credentials, method, path, query, body, parse, wait_s)
            except ApiError as error:
                if error.status == 404 and method == "DELETE" and was_lost:
                    return None  # an earlier try did it
                if hops < MAX_HOPS and self.follow(error, asked):
                    hops += 1  # nothing was done, so anything may be repeated
                    continue
                if error.status == 401 and not is_renewed and credentials.renew():
                    is_renewed = True
                    continue
                may_repeat = error.may_pass and (error.status == 429 or (can_repeat and error.status >= 502))
                retry_after_s = error.retry_after_s or 0.0
                if not may_repeat or attempt >= self._retries or retry_after_s > MAX_RETRY_AFTER_S:
                    raise
            except NoToken:
                raise
            except NoAnswer as error:
                if not can_repeat or attempt >= self._retries:
                    raise
                was_lost, retry_after_s = True, min(error.retry_after_s, RETRY_CAP_S)
            await asyncio.sleep(max(full_jitter(attempt, RETRY_BASE_S, RETRY_CAP_S), retry_after_s))
            attempt += 1

    async def _try(
        self,
        credentials: Credentials,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: object,
        parse: Parse[T],
        wait_s: float,
    ) -> T:
        headers = await credentials.headers()
        data = None
        if method in {"POST", "PUT", "PATCH"}:
            headers["Content-Type"] = "application/json"
            data = dumps({} if body is None else body)
        try:
            async with self.session().request(
                method,
                self.address(path, query),
                headers=headers,
                data=data,
                timeout=aiohttp.ClientTimeout(total=self._timeout_s + wait_s),
                allow_redirects=False,  # the credential is for this server only
                raise_for_status=False,
            ) as response:
                response_body = await read_answer(f"{method} {path}", response)
        except NotChatAPI:
            raise
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise NoAnswer(f"{method} {path}: {type(error).__name__}") from error
        return parse(f"{method} {path}", response.status, response.headers, response_body)

    async def download(self, credentials: Credentials, path: str, file: BinaryIO, *, wait_s: float) -> int:
        """Writes what a route serves without an envelope, piece by piece; returns its bytes. One try. `wait_s`: how
        long the server may send nothing. Raises ApiError, NoAnswer, NotChatAPI, and what writing raises."""
        call, taken, local = f"GET {path}", 0, _LocalFile()
        headers = await credentials.headers()
        async with self._asking(call, headers, None, wait_s, local) as response:
            if response.status != 200:
                parse_text(call, response.status, response.headers, await read_answer(call, response))
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                await local.run(file.write, chunk)
                taken += len(chunk)
        return taken

    async def upload(
        self, credentials: Credentials, path: str, file: BinaryIO, media: str, *, shape: Shape, wait_s: float
    ) -> Any:
        """Sends what the file still has, piece by piece; returns the answer's `data`. One try. Raises ApiError,
        NoAnswer, NotChatAPI, and what reading raises."""

        async def read() -> AsyncIterator[bytes]:
            while chunk := await local.run(file.read, CHUNK_BYTES):
                yield chunk

        call, local = f"POST {path}", _LocalFile()
        headers = {**await credentials.headers(), "Content-Type": media}
        async with self._asking(call, headers, read(), wait_s, local) as response:
            return parse_response(call, response.status, response.headers, await read_answer(call, response), shape)

    @asynccontextmanager
    async def _asking(
        self,
        call: str,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes] | None,
        wait_s: float,
        local: "_LocalFile",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        method, _, path = call.partition(" ")
        try:
            async with self.session().request(
                method,
                self.address(path),
                headers=headers,
                data=body,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._timeout_s, sock_read=wait_s),
                allow_redirects=False,
                raise_for_status=False,
            ) as response:
                yield response
        except NotChatAPI:
            raise
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            if local.error is not None:
                raise local.error from None
            raise NoAnswer(f"{call}: {type(error).__name__}") from error

    def follow(self, error: ApiError, asked: str) -> bool:
        """Whether another server than `asked` has the tenant now, as the error says, and is called from now on."""
        if error.raw_code != "TENANT_MOVED" or error.status != 421:
            return False
        if self.base != asked:
            return True  # another call was told before
        return self.move_to((error.details or {}).get("url"))

    def move_to(self, url: object) -> bool:
        """Calls this server from now on, credentials included. False, and nothing changes, if it is not the URL of a
        server, or http after https."""
        if not self._follows_moves or not is_server(url) or (is_https(self.base) and not is_https(url)):
            return False
        self.base = url.rstrip("/")
        return True

    def address(self, path: str, query: Mapping[str, object] | None = None) -> URL:
        """Escaped already, so that a user id with a slash in it stays one part of the path."""
        known = {name: _in_query(value) for name, value in (query or {}).items() if value is not None}
        return URL(f"{self.base}{path}" + (f"?{urlencode(known)}" if known else ""), encoded=True)


async def read_answer(call: str, response: aiohttp.ClientResponse) -> bytes:
    """All of it. Raises NotChatAPI for one that is too large to be the server's."""
    pieces, left = [], MAX_ANSWER_BYTES
    async for piece in response.content.iter_any():
        left -= len(piece)
        if left < 0:
            raise NotChatAPI(f"{call}: an answer of more than {MAX_ANSWER_BYTES} bytes", http_status=response.status)
        pieces.append(piece)
    return b"".join(pieces)


class _LocalFile:
    """Tells an error of the file's from one of the connection, as which aiohttp shows it, or whose type it has."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def run(self, act: Callable[[A], T], value: A) -> T:
        try:
            return await asyncio.to_thread(act, value)
        except Exception as error:
            self.error = error
            raise


def is_https(url: str) -> bool:
    return url.startswith("https://")


def is_server(url: object) -> TypeGuard[str]:
    """Whether it is the whole address of a server, with or without a path: a host, and nothing that hides another
    one."""
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        return False
    if not url.isprintable() or set(" \\?#") & set(url):
        return False
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        return False


def _in_query(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class RestClient:
    """The common part of both APIs: a pool of sockets that may be shared, and the calls that need no credential."""

    def __init__(self, http: Http, credentials: Credentials, *, owns_http: bool = True) -> None:
        self._http = http
        self._credentials = credentials
        self._owns_http = owns_http

    @property
    def url(self) -> str:
        """The server's address, without a slash at its end."""
        return self._http.base

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the sockets. Clients of `as_user` share them, and need not be closed."""
        if self._owns_http:
            await self._http.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        is_idempotent: bool | None = None,
        shape: Shape | None = None,
        wait_s: float = 0.0,
    ) -> Any:
        """Calls any route, such as `call("GET", "/rooms", query={"limit": 5})`, and returns the answer's `data` (None
        of a deletion). `path` begins after `/v1`, escaped; `query` items that are None are left out.

        `is_idempotent`: whether doing it twice is the same as doing it once, so that it may be tried again after a lost
        answer; anything but a POST, if not stated. `shape` names fields of `data` and their types: an answer that lacks
        them is not the server's. `wait_s`: how much longer than others it may take. Raises ApiError, NoAnswer,
        NotChatAPI, NoToken.
        """
        return await self._http.call(
            self._credentials,
            method,
            f"/v1{path}",
            query=query,
            body=body,
            is_idempotent=is_idempotent,
            shape=shape,
            wait_s=wait_s,
        )

    async def read_text(self, path: str) -> str:
        """Reads what is served without an envelope, by its whole path, such as `/sdk/chatapi.js`. Raises ApiError,
        NoAnswer, NotChatAPI."""
        return await self._http.read(self._credentials, path, parse_text)

    async def info(self) -> ServerInfo:
        """The server's name and version, and the paths of its documents. Needs no credential."""
        return cast(ServerInfo, await self.call("GET", "/", shape={"version": str, "links": dict}))

    async def livez(self) -> Status:
        """Whether the process answers; looks at nothing else. Needs no credential."""
        return cast(Status, await self.call("GET", "/livez", shape={"status": str}))

    async def readyz(self) -> Status:
        """Whether the server serves requests. Needs no credential. Raises ApiError with status 503, after the usual
        tries, while it starts, stops, or cannot write."""
        return cast(Status, await self.call("GET", "/readyz", shape={"status": str}))

    async def health(self) -> Health:
        """The server's version and uptime, in seconds and for people. Needs no credential. Raises ApiError with status
        503, after the usual tries, when the server cannot write; its `details` then hold the same fields."""
        return cast(Health, await self.call("GET", "/health", shape={"status": str}))

    async def metrics(self) -> str:
        """All metrics, in Prometheus' text format. Raises ApiError: 401 where the server wants the master key
        (`AdminAPI` sends it), 404 where metrics are off."""
        return await self.read_text("/v1/metrics")

    async def openapi(self) -> Json:
        """The OpenAPI document of the REST routes. Needs no credential."""
        return await self._http.read(self._credentials, "/v1/openapi.json", parse_json)

    async def asyncapi(self) -> Json:
        """The AsyncAPI document of the WebSocket's frames. Needs no credential."""
        return await self._http.read(self._credentials, "/v1/asyncapi.json", parse_json)
