"""Origins and hosts as values, so that two spellings of one are equal: `HTTPS://Chat.Example.com:443` is
`https://chat.example.com` (RFC 6454, section 4; RFC 3986, section 6.2.3). No I/O."""

import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv6Address
from typing import NamedTuple

ANY = "*"
OPAQUE = "null"  # of sandboxed frames and local files

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL)
_HOST = re.compile(r"(?:\[([0-9a-f:.]{2,45})\]|([^\s\[\]:/?#@%*\\,;'\"<>]{1,253}))(?::([0-9]{0,10}))?")


class Host(NamedTuple):
    """Where a server is reached: a name or an address, and the port unless it is the scheme's own."""

    name: str
    port: int | None


class Origin(NamedTuple):
    scheme: str
    host: Host


class OriginPolicy:
    """Which web pages may use the API from a browser: those of the server's own host, and those on a list."""

    def __init__(self, allowed: Iterable[str], public_url: str) -> None:
        allowed = tuple(allowed)
        self.allows_any = ANY in allowed
        self._allows_opaque = OPAQUE in allowed
        self._listed = frozenset(map(parse_origin, allowed)) - {None}
        self.has_list = self.allows_any or self._allows_opaque or bool(self._listed)
        # A proxy may pass its own name on as Host, so that pages of the server itself seem to be of another one.
        own = _ORIGIN.fullmatch(public_url.lower())
        self._own_host = parse_host(own[2].partition("/")[0], own[1]) if own else None

    def is_listed(self, origin: str) -> bool:
        if self.allows_any:
            return True
        if origin == OPAQUE:
            return self._allows_opaque
        parsed = parse_origin(origin)
        return parsed is not None and parsed in self._listed

    def is_own(self, origin: str, host: str) -> bool:
        """Whether the page comes from this server: `host` is the Host header of its request."""
        parsed = parse_origin(origin)
        if parsed is None:
            return False
        return parsed.host in (parse_host(host, parsed.scheme), self._own_host)


def parse_origin(text: str) -> Origin | None:
    """None for `null`, and for what no browser sends: a path, credentials, a wildcard, a port out of range."""
    match = _ORIGIN.fullmatch(text.lower())
    host = None if match is None else parse_host(match[2], match[1])
    return None if match is None or host is None else Origin(match[1], host)


def parse_host(text: str, scheme: str) -> Host | None:
    """A Host header, or the authority of a URL of this scheme. None when it is malformed."""
    match = _HOST.fullmatch(text.lower())
    name = None if match is None else _normalise_name(match[1], match[2])
    if match is None or name is None:
        return None
    port = int(match[3]) if match[3] else None
    if port is not None and not 0 < port <= 65_535:
        return None
    return Host(name, None if port == _DEFAULT_PORTS.get(scheme) else port)


def _normalise_name(ipv6: str | None, name: str) -> str | None:
    if ipv6 is not None:
        try:
            return IPv6Address(ipv6).compressed
        except AddressValueError:
            return None
    if not name.isascii():
        try:
            name = name.encode("idna").decode()  # browsers send a name with other letters in this form
        except UnicodeError:
            return None
    return name.removesuffix(".") or None
