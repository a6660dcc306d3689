"""Where a request comes in and its response goes out: request id, credential, limit, validation, envelope, CORS.

One function walks them in that order for every REST route; an error that a handler raises becomes the envelope here and
nowhere else.
"""

import asyncio
import itertools
import logging
import re
import secrets
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from aiohttp import web

from chatapi.banned_users import check_user_not_banned
from chatapi.callers import (
    Headers,
    add_cors_headers,
    authenticate_headers,
    authenticate_query,
    client_address,
    find_base,
    is_origin_allowed,
    is_preflight,
    read_header,
    take_token,
)
from chatapi.errors import ChatError, Code, invalid, not_found
from chatapi.memory_watch import INPUT_COPIES, LARGE_BYTES
from chatapi.models import Principal, TenantKey
from chatapi.protocol.encoders import encode_error_envelope
from chatapi.protocol.json import convert, loads
from chatapi.protocol.queries import Query, parse_query
from chatapi.protocol.requests import Body, may_be_absent
from chatapi.rest.call import Base, Call, Credential, Exchange, Media, OpenCall, RawRoute, Response, Route
from chatapi.rest.incoming_text import IncomingText, ask_for_body
from chatapi.rest.negotiation import accepts_gzip, prefers_html, vary_on
from chatapi.rest.outflow import SMALL_BYTES, LargeResponse, Outflow, QuotaKey, Sender, refuse
from chatapi.rest.router import Router
from chatapi.rest.web_response import LastingResponse, WholeResponse
from chatapi.services import Services

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 256 * 1024
SWITCHED = 101  # to a WebSocket
BODY_SECONDS = 30.0  # for a body to arrive, once its head has: 256 KiB at 70 kbit/s

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_PROCESS = secrets.token_hex(6)
_requests = itertools.count(1)


class Edge:
    """The server's one request handler."""

    def __init__(self, services: Services, routes: tuple[Route, ...], raw_routes: tuple[RawRoute, ...]) -> None:
        self._services = services
        self._logs_requests = services.config.log.requests
        self.outflow = Outflow(services.admission.memory.share)
        self._router = _make_router(routes, raw_routes)

    def serve(self, services: Services) -> None:
        """From now on these answer; requests that are under way keep those that they began with."""
        self._services = services

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        services = self._services
        started_s = services.clock.machine_s()
        request_id = take_request_id(request)
        headers: Headers = {"X-Request-Id": request_id}
        add_cors_headers(services.origins, request, headers)
        route = ""  # the path of the one that gives the response
        response: web.StreamResponse
        try:
            if is_preflight(request):
                is_origin_allowed(services.origins, request)  # for the log: the browser refuses by itself
                response = web.Response(status=204, headers=headers)
            else:
                match = self._router.find_kept(request) or await self._router.find(request)
                route = match.path
                size = min(MAX_BODY_BYTES, request.content_length or 0)
                if size <= LARGE_BYTES:
                    response = await match.handler(self, request, match.values, headers)
                else:
                    with services.admission.memory.hold(INPUT_COPIES * size):
                        response = await match.handler(self, request, match.values, headers)
        except ChatError as error:
            response = self._refuse(error, headers)
        except web.HTTPException as error:
            response = self._refuse(_translate(error), headers)
        except ConnectionError:
            raise  # the client is gone: aiohttp knows what to do
        except Exception:
            logger.exception("request failed", extra={"request_id": request_id})
            response = self._refuse(ChatError(Code.INTERNAL_ERROR, "Internal error"), headers)
        if response.status != SWITCHED and type(response) is not LastingResponse:  # those end much later
            if services.health.is_draining:
                response.force_close()
            seconds = services.clock.machine_s() - started_s
            # Another method than a route's own may be any text, so it is not a label.
            services.counters.add_request(request.method if route else "", route, response.status, seconds)
            if self._logs_requests:
                _log_request(request, response, request_id, seconds)
        return response

    @staticmethod
    def _bind(route: Route) -> Any:
        ends_in_emoji = route.path.endswith("/{emoji}")

        async def respond(
            edge: Edge, request: web.BaseRequest, path: Mapping[str, str], headers: Headers
        ) -> web.StreamResponse:
            services = edge._services  # also for the rest of a body that comes after a reset
            principal, address = edge._authenticate(route, request, headers)
            body = None if route.body is None else await _read_body(request, route.body)
            query = None if route.query is None else _read_query(request, route.query)
            _check_path(path)
            if ends_in_emoji:
                path = {**path, "emoji": _read_last_step(request)}
            call: OpenCall[Any, Any] = (
                OpenCall(services, path, body, query, address)
                if principal is None
                else Call(services, path, body, query, address, principal=principal)
            )
            if route.waits:
                call.exchange = Exchange(request, headers)
            if route.media is Media.JSON:
                call.base = Base(*find_base(request, services.config.server))
            response: Response[Any] | None = None
            if not edge.outflow.total_bytes or route.media is Media.EVENTS or edge._may_make(route, request, principal):
                response = await route.handler(call)
                if len(response.body) > SMALL_BYTES and not edge._takes_large(route, request, principal, response):
                    response = None
            if response is None:
                response = await edge._make_when_space(route, request, call, principal)
            if response.gzipped is not None:
                _choose_encoding(response, request, headers)
            elif response.page is not None:
                _choose_page(response, response.page, request, headers)
            elif response.lasting is not None:
                return response.lasting
            return _make_response(response, headers)

        return respond

    @staticmethod
    def _bind_text(route: Route) -> Any:
        """For a handler that reads the body itself. It may answer before the body has ended: then the connection ends,
        after aiohttp has passed over some of the rest, since a peer that still sends might lose the response."""

        async def respond(
            edge: Edge, request: web.BaseRequest, path: Mapping[str, str], headers: Headers
        ) -> web.StreamResponse:
            response: web.Response
            try:
                principal, address = edge._authenticate(route, request, headers)
                assert principal is not None  # of a `Call`
                body = IncomingText(request)
                query = None if route.query is None else _read_query(request, route.query)
                _check_path(path)
                if edge.outflow.total_bytes:
                    edge._may_make(route, request, principal)
                answer = await route.handler(Call(edge._services, path, body, query, address, principal=principal))
                if len(answer.body) > SMALL_BYTES:
                    edge._takes_large(route, request, principal, answer)
                response = _make_response(answer, headers)
            except ChatError as error:
                response = edge._refuse(error, headers)
            if not request.content.is_eof():
                response.force_close()
                if response.status < 400:
                    request.protocol.part_from_body()  # type: ignore[attr-defined]  # what our own server makes
            return response

        return respond

    @staticmethod
    def _bind_raw(route: RawRoute) -> Any:
        async def respond(
            edge: Edge, request: web.BaseRequest, path: Mapping[str, str], headers: Headers
        ) -> web.StreamResponse:
            of_every_response = headers.copy()
            response = await route.handler(edge._services, request, path, headers)
            size = count_bytes(response)
            if size > SMALL_BYTES:
                quota_key = edge._find_quota_key(request, None)
                if not edge.outflow.has_space(quota_key, size):
                    headers.clear()  # those of the file: its encoding, its tag
                    headers.update(of_every_response)
                    raise refuse()
                _note_large(request, quota_key, size)
            return response

        return respond

    def _may_make(self, route: Route, request: web.BaseRequest, principal: Principal | None) -> bool:
        """Whether there is space for a response. Raises ChatError 503 to users who have too much unread and would
        change something: that is carried out once, whatever space its response needs."""
        quota_key = self._find_quota_key(request, principal)
        if route.method == "GET":
            return self.outflow.has_space(quota_key, SMALL_BYTES)
        if self.outflow.has_much_unread(quota_key):
            raise refuse()
        return True

    def _takes_large(
        self, route: Route, request: web.BaseRequest, principal: Principal | None, response: Response[Any]
    ) -> bool:
        """Whether there is space for this response. One that is only read can be made again when there is."""
        quota_key, size = self._find_quota_key(request, principal), len(response.body)
        if route.method == "GET" and not self.outflow.has_space(quota_key, size):
            return False
        _note_large(request, quota_key, size)
        return True

    async def _make_when_space(
        self, route: Route, request: web.BaseRequest, call: OpenCall[Any, Any], principal: Principal | None
    ) -> Response[Any]:
        """The handler's response, once there is space for it."""
        quota_key = self._find_quota_key(request, principal)
        async with self.outflow.reserve_page(quota_key):
            if request.transport is None:  # the client is gone
                raise refuse()
            response = await route.handler(call)
        _note_large(request, quota_key, len(response.body))
        return response

    def _find_quota_key(self, request: web.BaseRequest, principal: Principal | None) -> QuotaKey:
        if principal is None:
            return TenantKey(0), client_address(request, self._services.config.server.trusted_proxies)
        return principal.tenant.tenant_key, principal.user_id

    def _authenticate(self, route: Route, request: web.BaseRequest, headers: Headers) -> tuple[Principal | None, str]:
        """The user who calls, None for a route that has none, and the client's address, empty for a route without a
        credential. Raises ChatError."""
        services = self._services
        if route.credential is Credential.NONE:
            return None, ""
        address = client_address(request, services.config.server.trusted_proxies)
        if route.credential is Credential.MASTER:
            services.auth.check_master_key(read_header(request, "X-Master-Key"), address)
            return None, address
        principal, is_paid = authenticate_headers(services, request, address), False
        if principal is None:
            found = None
            if route.credential is Credential.CONNECTION:
                found = authenticate_query(services, request, address)
            if found is None:
                raise ChatError(Code.AUTHENTICATION_ERROR, "X-API-Key or a Bearer token is required")
            principal, is_paid = found
        take_token(services, principal, headers, is_paid=is_paid, is_append=route.is_append)
        # On a route for the API key the user id only names who acts.
        if principal.tenant.bans is not None and not (route.credential is Credential.API_KEY and principal.key_id):
            check_user_not_banned(principal.tenant, principal.user_id)
        if route.credential is Credential.API_KEY and principal.key_id is None:
            raise ChatError(Code.AUTHORIZATION_ERROR, "This route needs the tenant's API key")
        return principal, address

    def _refuse(self, error: ChatError, headers: Headers) -> web.Response:
        if error.headers is not None:
            headers.update(error.headers)
        if error.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, -int(-error.retry_after_s // 1)))
        return _make_response(Response(error.status, encode_error_envelope(error)), headers)


@cache  # a process with several servers builds it once
def _make_router(routes: tuple[Route, ...], raw_routes: tuple[RawRoute, ...]) -> Router:
    """By it, a request finds its handler, which gets the edge that was asked."""
    router = Router()
    for prefix in ("", "/v1"):
        for route in routes:
            bind = Edge._bind_text if route.reads_text else Edge._bind
            router.add(route.method, prefix + route.path, bind(route))
        for raw_route in raw_routes:
            router.add(raw_route.method, prefix + raw_route.path, Edge._bind_raw(raw_route))
    return router


def _note_large(request: web.BaseRequest, quota_key: QuotaKey, size: int) -> None:
    cast(Sender, request.protocol).large_response = LargeResponse(quota_key, size)


def count_bytes(response: web.StreamResponse) -> int:
    """Of the body, as far as it is in memory."""
    body = response.body if isinstance(response, web.Response) else None
    return len(body) if isinstance(body, bytes) else 0


async def _read_body(request: web.BaseRequest, record: type[Body]) -> Body:
    if not request.body_exists and may_be_absent(record):
        body = record()
        body.check()
        return body
    if request.content_length is not None and request.content_length > MAX_BODY_BYTES:
        raise _too_large()
    if request.headers.get("Content-Type") != "application/json" or "Content-Encoding" in request.headers:
        _check_media(request)
    # Nearly all bodies come with their heads.
    data = request.content.read_nowait() if request.content.is_eof() else await _await_body(request)
    if len(data) > MAX_BODY_BYTES:
        raise _too_large()
    body = convert(loads(data), record)
    body.check()
    return body


async def _await_body(request: web.BaseRequest) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            await ask_for_body(request)
            return await request.read()
    except TimeoutError:
        raise ChatError(Code.VALIDATION_ERROR, "The body did not arrive in time", status=408) from None


def _check_media(request: web.BaseRequest) -> None:
    if "Content-Encoding" in request.headers:
        message = "Send the body as it is, without Content-Encoding: compressed bodies are not accepted"
    elif "Content-Type" not in request.headers:
        message = "Send the header Content-Type: application/json"
    elif request.content_type != "application/json":
        message = f"Send the body as JSON, with the header Content-Type: application/json, not {request.content_type}"
    else:
        return
    raise ChatError(Code.VALIDATION_ERROR, message, status=415)


def _list_parameters(request: web.BaseRequest, record: type[Query]) -> Iterable[tuple[str, str]]:
    """The query's names and values."""
    decoded = request.query.items()
    if not record.encoded:
        return decoded
    sent = [pair.partition("=") for pair in request.rel_url.raw_query_string.split("&")]
    return [
        *((name, value) for name, value in decoded if name not in record.encoded),
        *((name, value) for name, _, value in sent if name in record.encoded),
    ]


def _check_path(path: Mapping[str, str]) -> None:
    """An id that no database can hold names nothing."""
    for value in path.values():
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise not_found("Resource") from None


def _read_last_step(request: web.BaseRequest) -> str:
    """The end of the path, byte for byte: aiohttp leaves escapes that are not UTF-8 as they are, which makes them look
    like escapes of a `%`. Raises ChatError."""
    try:
        return unquote_to_bytes(request.rel_url.raw_path.rpartition("/")[2]).decode()
    except UnicodeError:
        raise invalid("Must be UTF-8, percent-encoded", "emoji") from None


def _read_query(request: web.BaseRequest, record: type[Query]) -> Query:
    if "%" in request.rel_url.raw_query_string:
        for parameter in request.rel_url.raw_query_string.split("&"):
            try:
                unquote_to_bytes(parameter).decode()
            except UnicodeError:
                raise invalid("Must be UTF-8, percent-encoded", parameter.partition("=")[0]) from None
    return parse_query(_list_parameters(request, record), record)


def _choose_encoding(response: Response[Any], request: web.BaseRequest, headers: Headers) -> None:
    vary_on(headers, "Accept-Encoding")
    if response.gzipped is not None and accepts_gzip(request):
        response.body = response.gzipped
        headers["Content-Encoding"] = "gzip"


def _choose_page(response: Response[Any], page: str, request: web.BaseRequest, headers: Headers) -> None:
    vary_on(headers, "Accept")
    if prefers_html(request):
        response.status, response.body = 302, b""
        headers["Location"] = page


def _make_response(response: Response[Any], headers: Headers) -> web.Response:
    if response.headers is not None:
        headers.update(response.headers)
    if response.body:
        headers["Content-Type"] = response.content_type
    return WholeResponse(body=response.body, status=response.status, headers=headers)


def _log_request(request: web.BaseRequest, response: web.StreamResponse, request_id: str, seconds: float) -> None:
    """Without the query, in which a credential may stand."""
    fields = {
        "method": request.method,
        "path": request.rel_url.raw_path,  # quoted: no line break of a client gets into the log
        "status": response.status,
        "ms": round(seconds * 1000, 2),
        "request_id": request_id,
    }
    logger.info("request", extra=fields)


def take_request_id(request: web.BaseRequest) -> str:
    """The client's own, or a new one."""
    given = request.headers.get("X-Request-Id")
    return given if given is not None and _REQUEST_ID.fullmatch(given) else make_request_id()


def make_request_id() -> str:
    """Unique across processes by its first part; a random one each would be a system call per request."""
    return f"{_PROCESS}-{next(_requests):x}"


def _too_large() -> ChatError:
    return ChatError(Code.VALIDATION_ERROR, f"The body is larger than {MAX_BODY_BYTES} bytes", status=413)


def _translate(error: web.HTTPException) -> ChatError:
    """The error for an exception of the framework."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"Method {error.method} is not allowed here"
        return ChatError(Code.NOT_FOUND, message, status=405, headers={"Allow": allowed})
    if isinstance(error, web.HTTPNotFound):
        return not_found("Route")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return _too_large()
    return ChatError(Code.VALIDATION_ERROR, "Malformed request", status=error.status)
