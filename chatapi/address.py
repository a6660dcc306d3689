"""Addresses as values. A webhook may only call public ones, so that no tenant can make this server reach into the
operator's network (SSRF). There is no I/O here: the code that connects asks about the very address that it connects
to."""

import re
import socket
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from chatapi.errors import invalid

# The special-purpose registries of IANA (RFC 6890), less what is globally reachable. Written out, since the answer of
# `ipaddress.is_global` differs between versions of Python, and calls multicast global.
_REFUSED_V4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, and some clouds' metadata
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local: the metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
]
# Of IPv6 only global unicast is taken at all, less these.
_GLOBAL_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = [
    IPv6Network(network)
    for network in (
        "2001::/23",  # Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: carries any IPv4 address
        "3fff::/20",  # documentation
    )
]
_NAT64 = IPv6Network("64:ff9b::/96")  # how a host with IPv6 only reaches IPv4: the last 32 bits count


# The forms in which a proxy may name a client. Quotes are of RFC 7239; an IPv6 address with a port is in brackets.
_HOP = re.compile(r'"?(?:\[([^\[\]]+)\](?::[0-9]+)?|([0-9.]+)(?::[0-9]+)?|([0-9A-Fa-f:.]+(?:%.+)?))"?')
_MAX_HOP_CHARACTERS = 64  # an IPv6 address with its zone and a port

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@lru_cache(maxsize=4096)
def read_address(text: str) -> str | None:
    """The one spelling of an address as a proxy or a socket may write it, its port and zone dropped; an IPv4 address
    that is mapped into IPv6 is the IPv4 address. None for any other text."""
    match = _HOP.fullmatch(text) if len(text) <= _MAX_HOP_CHARACTERS else None
    if match is None:
        return None
    try:
        address = ip_address((match[1] or match[2] or match[3]).partition("%")[0])
    except ValueError:
        return None
    return str(_unmap(address))


def _unmap(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def read_network(text: str) -> Network:
    """An address or a network in CIDR notation, whatever its host bits. Raises ValueError."""
    network = ip_network(text, strict=False)
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - 96))
    return network


@lru_cache(maxsize=4096)
def is_in_networks(address: str, networks: tuple[str, ...]) -> bool:
    """False for text that is not an address. Raises ValueError for a network that is none."""
    spelling = read_address(address)
    if spelling is None:
        return False
    return any(ip_address(spelling) in network for network in map(read_network, networks))


def is_public(address: str) -> bool:
    """Whether a webhook may call this numeric address, in a socket's form. False for text that is not an address."""
    try:
        ip = ip_address(address.partition("%")[0])  # the zone of a link-local address
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        if ip not in _NAT64 and ip.ipv4_mapped is None:
            return ip in _GLOBAL_V6 and not any(ip in network for network in _REFUSED_V6)
        ip = IPv4Address(int(ip) & 0xFFFF_FFFF)
    return not any(ip in network for network in _REFUSED_V4)


def check_webhook_url(url: str, allow_private: bool) -> None:
    """Raises ChatError for a literal address that is not public, in any notation that a resolver would take.

    A name passes. Its address can change, and is looked up when connecting.
    """
    host = urlsplit(url).hostname
    literal = None if host is None else _read_literal(host)
    if literal is not None and not allow_private and not is_public(literal):
        raise invalid("Must not be a private, loopback, link-local or otherwise special address", "config.webhook_url")


def _read_literal(host: str) -> str | None:
    """The numeric address that this host is, or None for a name."""
    try:
        return str(ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        # Resolvers also take these for an address: 0x7f.1, 2130706433, 017700000001.
        return socket.inet_ntoa(socket.inet_aton(host.removesuffix(".")))
    except OSError:
        return None
