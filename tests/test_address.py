import pytest

from chatapi.address import check_webhook_url, is_public
from chatapi.errors import ChatError

PUBLIC = [
    "1.1.1.1",
    "93.184.216.34",
    "100.128.0.1",
    "172.32.0.1",
    "2606:4700:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]
NOT_PUBLIC = [
    "0.0.0.0",
    "10.1.2.3",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "localhost",
    "",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_called(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_no_other_address_may(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "0",
        "169.254.169.254",
        "[::1]",
        "[::ffff:10.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[fe80::1%25eth0]",
    ],
)
def test_a_literal_address_is_refused_when_configured(host: str) -> None:
    for url in (f"http://{host}/hook", f"https://{host}:8443/"):
        with pytest.raises(ChatError) as caught:
            check_webhook_url(url, allow_private=False)
        assert caught.value.field == "config.webhook_url"
        check_webhook_url(url, allow_private=True)


@pytest.mark.parametrize("host", ["example.com", "localhost", "1.1.1.1", "16843009", "[2606:4700::1]", "10.example"])
def test_names_and_public_addresses_pass(host: str) -> None:
    check_webhook_url(f"https://{host}/hook?a=b", allow_private=False)
