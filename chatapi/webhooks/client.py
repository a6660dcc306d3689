"""One HTTP call to a tenant's endpoint: to a public address only, with a deadline, following nothing, and reading next
to nothing of the answer."""

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

import chatapi
from chatapi.address import is_public

# An answer's body is read only so that its connection can be used again: it gets this much and this long.
MAX_ANSWER_BYTES = 64 * 1024
ANSWER_SECONDS = 1.0

KEEPALIVE_SECONDS = 30.0
MAX_ERROR_CHARACTERS = 200
MAX_RETRY_AFTER_SECONDS = 86_400.0  # longer waits are cut to a day: no endpoint holds a row forever

AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]


class CallResult(NamedTuple):
    """The outcome of a call. `error` is None if the endpoint accepted it (2xx); `status` is None if it gave no
    answer."""

    status: int | None
    error: str | None
    retry_after_s: float = 0.0


class WebhookClient:
    """Made within a running loop; `close` ends it."""

    def __init__(self, *, timeout_seconds: float, allow_private: bool) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # the worker bounds its calls
                resolver=_Resolver(),
                socket_factory=open_socket if allow_private else open_public_socket,
                keepalive_timeout=KEEPALIVE_SECONDS,
            ),
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,  # a proxy from the environment would connect where it likes
        )
        self._timeout_seconds = timeout_seconds

    async def call(self, url: str, headers: Mapping[str, str], body: bytes, now_us: int) -> CallResult:
        """POSTs the body, which is JSON. Raises nothing that the endpoint or the network can cause."""
        own = {
            "Content-Type": "application/json",
            "User-Agent": f"ChatAPI/{chatapi.__version__}",
            "Accept-Encoding": "identity",
        }
        try:
            async with self._session.post(
                url, data=body, headers={**own, **headers}, allow_redirects=False
            ) as response:
                await _drain(response)
                if 200 <= response.status < 300:
                    return CallResult(response.status, None)
                retry_after_s = parse_retry_after(response.headers.get("Retry-After"), now_us)
                return CallResult(response.status, f"HTTP {response.status}", retry_after_s)
        except TimeoutError:
            return CallResult(None, f"no answer within {self._timeout_seconds:g} s")
        except Exception as error:  # noqa: BLE001 - whatever aiohttp makes of an answer is the endpoint's doing
            return CallResult(None, _describe(error))

    async def close(self) -> None:
        """Ends the connections, those of calls under way included."""
        await self._session.close()


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Reads the answer's body within bounds. If there is more of it, the connection is not used again."""
    left = MAX_ANSWER_BYTES
    with contextlib.suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(ANSWER_SECONDS):
            while left > 0 and (chunk := await response.content.read(left)):
                left -= len(chunk)


def parse_retry_after(value: str | None, now_us: int) -> float:
    """Seconds from now, at most `MAX_RETRY_AFTER_SECONDS`; 0 when the header is absent or makes no sense (RFC 9110,
    section 10.2.3)."""
    if value is None:
        return 0.0
    if value.isascii() and value.isdigit():
        return min(float(value), MAX_RETRY_AFTER_SECONDS)
    try:
        until = parsedate_to_datetime(value)
        # A date of zone "-0000" comes without one, and is of UTC.
        until_s = (until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):  # it promises only the first
        return 0.0
    return min(max(0.0, until_s - now_us / 1_000_000), MAX_RETRY_AFTER_SECONDS)


def _describe(error: Exception) -> str:
    """One line for the operator, without the URL: there may be a secret in it."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        text = f"certificate not accepted: {error.certificate_error}"
    elif isinstance(error, aiohttp.ClientConnectorDNSError):
        text = f"cannot resolve {error.host}"
    elif isinstance(error, aiohttp.ClientConnectorError):
        text = f"cannot connect: {error.os_error.strerror or error.os_error}"
    elif isinstance(error, aiohttp.InvalidURL):
        text = "not a URL that can be called"
    elif isinstance(error, aiohttp.ServerDisconnectedError):
        text = "closed without an answer"
    else:
        text = type(error).__name__
    return text[:MAX_ERROR_CHARACTERS].encode("ascii", "replace").decode()


# The address that a socket is opened for is the one that it connects to: between this check and the connection there is
# no other look-up, and so no rebinding. Literal addresses come this way too.


def open_public_socket(info: AddressInfo) -> socket.socket:
    """Raises PermissionError for an address that is not public."""
    address = str(info[4][0])
    if not is_public(address):
        raise PermissionError(errno.EACCES, f"{address} is not a public address")
    return open_socket(info)


def open_socket(info: AddressInfo) -> socket.socket:
    family, kind, protocol, _, _ = info
    return socket.socket(family, kind, protocol)


class _Resolver(AbstractResolver):
    """Looks names up in threads of their own: the loop's few would all be taken by names whose servers do not answer,
    and Python would wait for them at its end."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[ResolveResult]] = loop.create_future()

        def finish(found: list[ResolveResult] | OSError) -> None:
            if future.done():  # nobody waits any more
                return
            if isinstance(found, OSError):
                future.set_exception(found)
            else:
                future.set_result(found)

        def look_up() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(finish, _look_up(host, port, family))

        threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
        return await future

    async def close(self) -> None:
        return


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult] | OSError:
    try:
        infos = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    except UnicodeError:
        return OSError(f"{host} is not a name")
    except OSError as error:
        return error
    return [
        ResolveResult(
            hostname=host,
            host=str(address[0]),
            port=int(address[1]),
            family=found,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for found, _, protocol, _, address in infos
    ]
