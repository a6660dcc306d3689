"""Reads from an HTTP request who is calling, for REST and WebSocket alike: the credential in the headers, the client's
address, and the page's origin."""

import logging

from aiohttp import web

from chatapi.address import is_in_networks, read_address
from chatapi.config import ServerConfig
from chatapi.errors import ChatError, Code, invalid
from chatapi.log_lines import Seldom
from chatapi.models import Principal
from chatapi.origin import Host, OriginPolicy, parse_host
from chatapi.services import Services

_seldom = Seldom(logging.getLogger(__name__))

Headers = dict[str, str]
"""The headers that the response will carry."""

EXPOSED = "X-Request-Id, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After"
ALLOWED_HEADERS = "Authorization, Content-Type, X-API-Key, X-User-Id, X-Master-Key, X-Request-Id, X-Client-Message-Id"
BEARER = "bearer."  # before a user token among the subprotocols
UNIX_PEER = "unix"  # stands for the address of a peer that has none
UNKNOWN_ADDRESS = "unknown"  # stands for anything that a trusted proxy gives and that is not an address

ALLOWED_METHODS = "GET, POST, PUT, PATCH, DELETE"
PREFLIGHT_SECONDS = 600  # how long a browser may keep a preflight's answer


def read_header(request: web.BaseRequest, name: str) -> str | None:
    """The value of a header. Raises ChatError if the request has it several times with different values: a proxy might
    use another one than we do."""
    values = request.headers.getall(name, ())
    if not values:
        return None
    if len(values) > 1 and any(value != values[0] for value in values):
        raise invalid("The request has this header more than once, with different values", name)
    return values[0]


def is_origin_allowed(policy: OriginPolicy, request: web.BaseRequest) -> bool:
    """True without an Origin, for the server's own host, and for origins on the list. Others are logged, once a
    minute."""
    origin = read_header(request, "Origin")
    if origin is None:
        return True
    host = read_header(request, "Host") or ""
    if policy.is_own(origin, host) or policy.is_listed(origin):
        return True
    _seldom.warning(
        "refused a page of the origin %.200r: server.allowed_origins does not list it, and the request's host is"
        " %.200r",
        origin,
        host,
    )
    return False


def is_preflight(request: web.BaseRequest) -> bool:
    return (
        request.method == "OPTIONS"
        and "Origin" in request.headers
        and "Access-Control-Request-Method" in request.headers
    )


def add_cors_headers(policy: OriginPolicy, request: web.BaseRequest, headers: Headers) -> None:
    """Adds the headers with which a browser lets a page of an allowed origin read the answer."""
    if not policy.has_list:
        return
    headers["Vary"] = "Origin"  # also where there is none: a cache must not give that answer to another page
    origins = request.headers.getall("Origin", ())
    if len(origins) != 1 or not policy.is_listed(origins[0]):
        return
    headers["Access-Control-Allow-Origin"] = origins[0]
    headers["Access-Control-Expose-Headers"] = EXPOSED
    if request.method == "OPTIONS":
        headers["Access-Control-Allow-Methods"] = ALLOWED_METHODS
        headers["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
        headers["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)


def client_address(request: web.BaseRequest, trusted_proxies: tuple[str, ...]) -> str:
    """The peer's address or, from a trusted proxy, the last one in X-Forwarded-For that is not a proxy's; one spelling
    for each address, and `UNKNOWN_ADDRESS` where a proxy names none.

    Over a Unix socket only a proxy of this machine connects: it is trusted.
    """
    peer = request.remote or UNIX_PEER
    if not trusted_proxies and peer != UNIX_PEER:
        return peer
    # Several lines of one header are one list (RFC 9110, section 5.3).
    hops = [hop.strip() for line in request.headers.getall("X-Forwarded-For", ()) for hop in line.split(",")]
    while hops and (peer == UNIX_PEER or is_in_networks(peer, trusted_proxies)):
        if hop := hops.pop():
            peer = read_address(hop) or UNKNOWN_ADDRESS
    return peer


def find_base(request: web.BaseRequest, server: ServerConfig) -> tuple[str, str]:
    """The scheme and the host, with its port, by which the client reached the server. A trusted proxy's
    X-Forwarded-Proto is believed."""
    scheme = "https" if server.tls_cert else "http"
    peer = request.remote or UNIX_PEER
    if peer == UNIX_PEER or is_in_networks(peer, server.trusted_proxies):
        forwarded = read_header(request, "X-Forwarded-Proto")
        scheme = "https" if forwarded is not None and forwarded.lower() == "https" else scheme
    host = parse_host(read_header(request, "Host") or "", scheme) or Host("localhost", server.port)
    name = f"[{host.name}]" if ":" in host.name else host.name
    return scheme, name if host.port is None else f"{name}:{host.port}"


def authenticate_headers(services: Services, request: web.BaseRequest, address: str) -> Principal | None:
    """The principal of the headers' credential, or None if there is none. Only the first kind of credential counts."""
    api_key = read_header(request, "X-API-Key")
    if api_key is not None:
        return services.auth.authenticate_key(api_key, read_header(request, "X-User-Id"), address)
    authorization = read_header(request, "Authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise services.auth.refuse_key(address)
        return services.auth.authenticate_token(token.strip(), address)
    return None


def authenticate_query(services: Services, request: web.BaseRequest, address: str) -> tuple[Principal, bool] | None:
    """The principal of the URL's credential, and whether its token was taken before: making a ticket takes one. None if
    there is none. Raises ChatError."""
    auth = services.auth
    if (token := _read_parameter(request, "token")) is not None:
        if auth.is_ticket(token):
            return auth.authenticate_ticket(token, address), True
        return auth.authenticate_token(token, address), False
    if services.config.auth.query_api_key and (api_key := _read_parameter(request, "api_key")) is not None:
        return auth.authenticate_key(api_key, _read_parameter(request, "user_id"), address), False
    return None


def find_offered_token(request: web.BaseRequest) -> str | None:
    """The user token in the subprotocol list. Several lines of the header are one list (RFC 6455, section 11.3.4)."""
    for line in request.headers.getall("Sec-WebSocket-Protocol", ()):
        for offered in line.split(","):
            if offered.strip().startswith(BEARER):
                return offered.strip().removeprefix(BEARER)
    return None


def find_claimed_user(services: Services, request: web.BaseRequest) -> str | None:
    """The user whom the request names, if it names any. Nothing is verified: nothing may be allowed by it."""
    headers, query = request.headers, request.query
    if "X-API-Key" in headers:
        return headers.get("X-User-Id")
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    token = (token if scheme.lower() == "bearer" else find_offered_token(request)) or query.get("token", "")
    return services.auth.find_claimed_user(token.strip()) if token else query.get("user_id")


def _read_parameter(request: web.BaseRequest, name: str) -> str | None:
    """Of the query. Raises ChatError when it stands there several times with different values."""
    values = request.query.getall(name, [])
    if any(value != values[0] for value in values):
        raise invalid("The URL has this parameter more than once, with different values", name)
    return values[0] if values else None


def take_token(
    services: Services, principal: Principal, headers: Headers, *, is_paid: bool = False, is_append: bool = False
) -> None:
    """Takes one token for the caller, unless it was taken before, and adds the rate limit's headers. Raises
    ChatError."""
    retry_after_s = 0.0 if is_paid else services.tenants.take_token(principal, is_append=is_append)
    limit, remaining, full_after_s = services.tenants.find_level(principal, is_append=is_append)
    headers["X-RateLimit-Limit"] = str(limit)
    headers["X-RateLimit-Remaining"] = str(remaining)
    headers["X-RateLimit-Reset"] = str(int(services.clock.now_us() / 1_000_000 + full_after_s) + 1)
    if retry_after_s:
        services.counters.limited_requests += 1
        raise ChatError(Code.RATE_LIMIT_EXCEEDED, "Rate limit exceeded", retry_after_s=retry_after_s)
