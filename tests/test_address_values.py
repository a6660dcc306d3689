"""Addresses, origins and hosts in their many spellings."""

import pytest

from chatapi.address import is_in_networks, read_address
from chatapi.origin import Host, Origin, OriginPolicy, parse_host, parse_origin


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:5678", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::FFFF:192.0.2.1]:443", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:5678", "2001:db8::1"),
        ('"[2001:db8::0001]:5678"', "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:1", "fe80::1"),
        ("unknown", None),
        ("_hidden", None),
        ("192.0.2.256", None),
        ("192.0.2.1:x", None),
        ("192.0.02.1", None),
        ("192.0.2", None),
        ("2001:db8::1]:5", None),
        ("", None),
        ("1" * 100, None),
    ],
)
def test_an_address_has_one_spelling(text: str, address: str | None) -> None:
    assert read_address(text) == address


@pytest.mark.parametrize(
    ("address", "network", "is_in"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("::ffff:10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "::ffff:10.0.0.0/104", True),
        ("11.1.2.3", "::ffff:10.0.0.0/104", False),
        ("10.1.2.3", "::/0", False),
        ("2001:db8::1", "2001:DB8::/32", True),
        ("fe80::1%eth0", "fe80::/10", True),
        ("unix", "0.0.0.0/0", False),
    ],
)
def test_networks_hold_addresses_in_every_spelling(address: str, network: str, is_in: bool) -> None:
    assert is_in_networks(address, ("192.0.2.0/24", network)) is is_in


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://chat.example.com", Origin("https", Host("chat.example.com", None))),
        ("HTTPS://Chat.Example.com:443", Origin("https", Host("chat.example.com", None))),
        ("https://chat.example.com:0443", Origin("https", Host("chat.example.com", None))),
        ("https://chat.example.com.", Origin("https", Host("chat.example.com", None))),
        ("https://chat.example.com:", Origin("https", Host("chat.example.com", None))),
        ("https://chat.example.com:80", Origin("https", Host("chat.example.com", 80))),
        ("http://[0:0:0:0:0:0:0:1]:8080", Origin("http", Host("::1", 8080))),
        ("https://BÜCHER.example", Origin("https", Host("xn--bcher-kva.example", None))),
        ("https://xn--bcher-kva.example", Origin("https", Host("xn--bcher-kva.example", None))),
        ("app://x", Origin("app", Host("x", None))),
        ("null", None),
        ("https://", None),
        ("https://a/", None),
        ("https://a:٤٤٣", None),
        ("https://a\n", None),
        ("https://[::1]x", None),
    ],
)
def test_an_origin_has_one_value(text: str, origin: Origin | None) -> None:
    assert parse_origin(text) == origin


@pytest.mark.parametrize(
    ("host", "scheme", "value"),
    [
        ("a:443", "https", Host("a", None)),
        ("a:443", "http", Host("a", 443)),
        ("a:80", "http", Host("a", None)),
        ("A.", "http", Host("a", None)),
        ("a:99999999999999999999", "http", None),
        ("a:b", "http", None),
        ("a b", "http", None),
        ("", "http", None),
    ],
)
def test_a_host_drops_the_port_of_the_scheme(host: str, scheme: str, value: Host | None) -> None:
    assert parse_host(host, scheme) == value


@pytest.mark.parametrize(
    ("origin", "host", "is_own"),
    [
        ("https://chat.example.com", "chat.example.com:443", True),
        ("https://chat.example.com:443", "chat.example.com", True),
        ("https://chat.example.com", "CHAT.example.com", True),
        ("http://chat.example.com", "chat.example.com:80", True),
        ("http://localhost:8080", "localhost:8080", True),
        ("http://[::1]:8080", "[0::1]:8080", True),
        ("https://chat.example.com", "chat.example.com:80", False),
        ("https://chat.example.com:8443", "chat.example.com", False),
        ("https://chat.example.com", "chat.example.com:8443", False),
        ("https://chat.example.com.evil.example", "chat.example.com", False),
        ("https://evil.example", "chat.example.com", False),
        ("null", "null", False),
        ("https://a", "", False),
        ("://", "", False),
        ("https://public.example", "upstream", True),
        ("https://public.example:443", "upstream", True),
        ("https://public.example:8443", "upstream", False),
    ],
)
def test_a_page_of_the_servers_own_host(origin: str, host: str, is_own: bool) -> None:
    assert OriginPolicy((), "https://Public.Example:443/base").is_own(origin, host) is is_own


def test_a_listed_origin_matches_in_every_spelling() -> None:
    policy = OriginPolicy(("HTTPS://App.Example.com:443", "http://bücher.example"), "")
    assert policy.is_listed("https://app.example.com")
    assert policy.is_listed("http://xn--bcher-kva.example:80")
    assert not policy.is_listed("http://app.example.com")
    assert not policy.is_listed("null")
