"""Who is calling, as an HTTP request tells it, for REST and WebSocket alike: the credential in its headers, the
client's address, and the page's origin."""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from aiohttp import web

from chatapi.config import ServerConfig
from chatapi.errors import ChatError, Code
from chatapi.models import Principal
from chatapi.services import Services

Headers = dict[str, str]
"""Those that an answer is to carry."""

EXPOSED = "X-Request-Id, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After"
ALLOWED_HEADERS = "Authorization, Content-Type, X-API-Key, X-User-Id, X-Master-Key, X-Request-Id"
UNIX_PEER = "unix"  # what stands for the address of a peer that has none

ALLOWED_METHODS = "GET, POST, PUT, PATCH, DELETE"
PREFLIGHT_SECONDS = 600  # how long a browser may keep a preflight's answer


class Origins:
    """Which web pages may use the API from a browser: `server.allowed_origins`, and the server's own."""

    def __init__(self, config: ServerConfig) -> None:
        self._allowed = frozenset(origin.rstrip("/").lower() for origin in config.allowed_origins)
        # A proxy may pass its own name on as Host, so that pages of the server itself seem to be of another one.
        self._own_host = _get_host(config.public_url.lower())

    def is_allowed(self, request: web.BaseRequest) -> bool:
        """No Origin, the same host, and those on the list."""
        origin = request.headers.get("Origin")
        return origin is None or self._is_same_host(request, origin) or self._is_listed(origin)

    def is_preflight(self, request: web.BaseRequest) -> bool:
        return (
            request.method == "OPTIONS"
            and "Origin" in request.headers
            and "Access-Control-Request-Method" in request.headers
        )

    def add_headers(self, request: web.BaseRequest, headers: Headers) -> None:
        """What a browser needs to let a page of an allowed origin read the answer."""
        if not self._allowed:
            return
        headers["Vary"] = "Origin"  # also where there is none: a cache must not give that answer to another page
        origin = request.headers.get("Origin")
        if origin is None or not self._is_listed(origin):
            return
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Expose-Headers"] = EXPOSED
        if request.method == "OPTIONS":
            headers["Access-Control-Allow-Methods"] = ALLOWED_METHODS
            headers["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
            headers["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)

    def _is_listed(self, origin: str) -> bool:
        return "*" in self._allowed or origin.lower() in self._allowed

    def _is_same_host(self, request: web.BaseRequest, origin: str) -> bool:
        host = _get_host(origin.lower())
        return host != "" and host in (request.headers.get("Host", "").lower(), self._own_host)


def _get_host(url: str) -> str:
    """Host and port, as they stand in an origin; nothing for `null`."""
    return url.partition("://")[2].partition("/")[0]


@lru_cache(maxsize=64)
def _parse_networks(
    trusted: tuple[str, ...],
) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(network, strict=False) for network in trusted)


def client_address(request: web.BaseRequest, trusted_proxies: tuple[str, ...]) -> str:
    """The peer's address or, from a trusted proxy, the last one in X-Forwarded-For that is not a proxy's.

    Over a Unix socket only a proxy of this machine connects: it is trusted.
    """
    peer = request.remote or UNIX_PEER
    if not trusted_proxies and peer != UNIX_PEER:
        return peer
    networks = _parse_networks(trusted_proxies)
    hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",") if hop.strip()]
    while hops and (peer == UNIX_PEER or _is_in(peer, networks)):
        peer = hops.pop()
    return peer


def _is_in(address: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def authenticate_headers(services: Services, request: web.BaseRequest, address: str) -> Principal | None:
    """The caller by its headers, or None when they hold no credential. The first kind is the only one looked at."""
    api_key = request.headers.get("X-API-Key")
    if api_key is not None:
        return services.auth.authenticate_key(api_key, request.headers.get("X-User-Id"), address)
    authorization = request.headers.get("Authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise services.auth.refuse_key(address)
        return services.auth.authenticate_token(token.strip(), address)
    return None


def take_token(services: Services, principal: Principal, headers: Headers) -> None:
    """One token of the tenant's bucket; its standing goes into the answer's headers. Raises ChatError."""
    bucket = services.tenants.bucket(principal.tenant)
    retry_after_s = bucket.take(services.clock.monotonic_s())
    limit, remaining, full_after_s = bucket.standing()
    headers["X-RateLimit-Limit"] = str(limit)
    headers["X-RateLimit-Remaining"] = str(remaining)
    headers["X-RateLimit-Reset"] = str(int(services.clock.now_us() / 1_000_000 + full_after_s) + 1)
    if retry_after_s:
        services.counters.limited_requests += 1
        raise ChatError(Code.RATE_LIMIT_EXCEEDED, "Rate limit exceeded", retry_after_s=retry_after_s)
