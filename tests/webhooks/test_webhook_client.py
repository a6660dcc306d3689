import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from receiver import Receiver, answer, close_early, hang
from texts import CHARACTERS

from chatapi.webhooks import client as module
from chatapi.webhooks.client import CallResult, WebhookClient, parse_retry_after

NOW_US = 1_765_627_200_000_000  # 2025-12-13T12:00:00Z


@asynccontextmanager
async def open_client(*, timeout_seconds: float = 2, allow_private: bool = True) -> AsyncIterator[WebhookClient]:
    client = WebhookClient(timeout_seconds=timeout_seconds, allow_private=allow_private)
    yield client
    await client.close()


async def call(url: str, *, body: bytes = b"{}", timeout_seconds: float = 2, allow_private: bool = True) -> CallResult:
    async with open_client(timeout_seconds=timeout_seconds, allow_private=allow_private) as client:
        return await client.call(url, {}, body, NOW_US)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("0", 0),
        ("120", 120),
        ("Sat, 13 Dec 2025 12:01:30 GMT", 90),
        ("Sat, 13 Dec 2025 11:00:00 GMT", 0),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("", 0),
        ("\u0664", 0),
        ("86401", 86_400),
        ("9" * 4000, 86_400),
        ("Sat, 13 Dec 2025 12:01:30 -0000", 90),
        ("Sat, 13 Dec 2026 12:01:30 GMT", 86_400),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float) -> None:
    assert parse_retry_after(header, NOW_US) == seconds


@pytest.mark.slow
@given(
    st.one_of(
        st.text(CHARACTERS, max_size=50),
        st.from_regex(
            r"\A[A-Z][a-z]{2}, [0-9]{1,20} [A-Z][a-z]{2} [0-9]{1,20} [0-9:]{1,20} [-+]?[0-9A-Z]{1,20}\Z",
            alphabet=CHARACTERS,
        ),
    )
)
def test_no_retry_after_can_be_absurd(header: str) -> None:
    assert 0 <= parse_retry_after(header, NOW_US) <= 86_400


@pytest.mark.parametrize("status", [200, 201, 204, 299])
async def test_any_2xx_is_taken(receiver: Receiver, status: int) -> None:
    receiver.behave = answer(status)
    assert await call(receiver.url) == CallResult(status, None)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed(receiver: Receiver, status: int) -> None:
    receiver.behave = answer(status, Location=receiver.url)
    assert await call(receiver.url) == CallResult(status, f"HTTP {status}")
    assert len(receiver.calls) == 1


async def test_failed_call_is_described_in_one_line(receiver: Receiver) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refused = await call(f"http://127.0.0.1:{unused.getsockname()[1]}/?token=secret")
    assert refused.status is None
    assert refused.error is not None
    assert refused.error.startswith("cannot connect: ")
    assert "secret" not in refused.error
    assert await call("http://no-such-host.invalid/") == CallResult(None, "cannot resolve no-such-host.invalid")
    receiver.behave = close_early
    assert await call(receiver.url) == CallResult(None, "closed without an answer")
    receiver.behave = hang
    assert await call(receiver.url, timeout_seconds=0.1) == CallResult(None, "no answer within 0.1 s")
    # TLS to a port that does not speak it.
    spoken = await call(receiver.url.replace("http:", "https:"))
    assert spoken.error is not None
    assert spoken.error.startswith("cannot connect: ")


async def test_an_answer_that_is_no_http_is_a_failure() -> None:
    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")

    async with open_endpoint(speak) as url:
        found = await call(url)
    assert (found.status, found.error is None) == (None, False)


@asynccontextmanager
async def open_endpoint(
    speak: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """`speak` has one connection; it is closed when it returns."""
    spoken = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await speak(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        spoken.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    yield f"http://{host}:{port}/"
    await spoken.wait()
    server.close()


async def test_an_endless_answer_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)
    written = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()
            written += 65_536

    async with open_endpoint(speak) as url:
        assert await call(url, timeout_seconds=60) == CallResult(200, None)
    assert written < 32 * 2**20  # what the buffers between the two take


async def test_an_answer_whose_body_never_comes_is_taken_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.1)

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        await reader.read()

    async with open_endpoint(speak) as url:
        assert await call(url) == CallResult(200, None)


async def test_connections_are_used_again_and_cookies_are_not(receiver: Receiver) -> None:
    peers = set()

    async def behave(_call: object, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(text="thanks", headers={"Set-Cookie": "a=b"})

    receiver.behave = behave
    async with open_client() as client:
        for _ in range(3):
            assert (await client.call(receiver.url, {}, b"{}", NOW_US)).error is None
    assert len(peers) == 1
    assert all("Cookie" not in found.headers for found in receiver.calls)


# Addresses


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"])
async def test_no_private_address_is_connected_to(receiver: Receiver, host: str) -> None:
    port = receiver.url.split(":")[2].split("/")[0]
    found = await call(f"http://{host}:{port}/", allow_private=False)
    assert found.status is None
    assert found.error is not None
    assert "not a public address" in found.error
    assert receiver.calls == []


@pytest.mark.parametrize("host", ["2130706433", "127.1"])
async def test_a_shortened_address_is_no_host(receiver: Receiver, host: str) -> None:
    """aiohttp itself does not take it, also where private addresses are allowed."""
    found = await call(receiver.url.replace("127.0.0.1", host))
    assert (found.error, receiver.calls) == ("not a URL that can be called", [])


async def test_a_name_is_asked_about_at_each_connection(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebinding: public when it is first looked up, and private when it is connected to."""
    port = int(receiver.url.split(":")[2].split("/")[0])
    answers = ["93.184.216.34", "127.0.0.1"]

    def look_up(*_args: object, **_options: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(module, "open_socket", refuse_to_leave)
    async with open_client(allow_private=False) as client:
        for address in ("would connect", "127.0.0.1 is not a public address"):
            found = await client.call(f"http://rebound.example:{port}/", {}, b"{}", NOW_US)
            assert found.error is not None
            assert address in found.error
            client._session.connector.clear_dns_cache()  # type: ignore[union-attr]  # as after its ten seconds
    assert receiver.calls == []


def refuse_to_leave(info: module.AddressInfo) -> socket.socket:
    """No test connects to another machine."""
    raise OSError(0, f"would connect to {info[4][0]}")


async def test_proxies_of_the_environment_are_ignored(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await call(receiver.url)).error is None


async def test_a_name_that_is_looked_up_for_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = asyncio.Event()
    loop = asyncio.get_running_loop()
    release = threading.Event()

    def look_up(*_args: object, **_options: object) -> list[object]:
        loop.call_soon_threadsafe(waiting.set)
        release.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    found = await call("http://slow.example/", timeout_seconds=0.2)
    assert found == CallResult(None, "no answer within 0.2 s")
    assert waiting.is_set()
    release.set()


async def test_a_certificate_that_is_not_trusted_is_refused(receiver: Receiver) -> None:
    error = ssl.SSLCertVerificationError("self-signed certificate")
    error.verify_message = "self-signed certificate"
    key = type("Key", (), {"host": "h", "port": 1, "ssl": True, "is_ssl": True})()
    text = module._describe(module.aiohttp.ClientConnectorCertificateError(key, error))
    assert text.startswith("certificate not accepted: ")
