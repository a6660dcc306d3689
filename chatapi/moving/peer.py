"""The calls of the source to the target: JSON, and the envelope in which every server answers."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from chatapi.errors import ChatError, Code, conflict, invalid
from chatapi.protocol.json import dumps, loads_stored
from chatapi.store.moves import TableChange

CALL_SECONDS = 30.0
MAX_URL_LENGTH = 2_000
MAX_ANSWER_BYTES = 64 * 1024  # the largest is a refusal with the counts of all tables
_NOT_IN_ADDRESSES = frozenset(" \\?#@")  # SDKs follow to no such one
BUSY = 503

Json = dict[str, Any]


class PeerError(Exception):
    """The target has not done it; the message says why. `status` is None if it gave no answer, and then it may have
    done it."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    def as_error(self) -> ChatError:
        """As the operator is told."""
        if self.status is None or self.status >= 500:
            return ChatError(Code.INTERNAL_ERROR, f"The other server: {self}", status=BUSY, retry_after_s=1.0)
        return conflict(f"The other server: {self}", {"status": self.status})


class TargetServer:
    """The target, at `url`. `close` ends its connections."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=CALL_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # a few bytes could become any number
            trust_env=False,
        )

    async def begin(self, master_key: str, body: Json) -> tuple[str, str]:
        """The arrival's id and its secret. Raises PeerError, as the others do."""
        data = await self._call("/admin/arrivals", body, {"X-Master-Key": master_key})
        return str(data["arrival_id"]), str(data["secret"])

    async def send_rows(self, arrival: tuple[str, str], changes: Sequence[TableChange], *, is_copy: bool) -> None:
        await self._call_arrival(
            arrival, "rows", {"is_copy": is_copy, "changes": [tuple(change) for change in changes]}
        )

    async def seal(self, arrival: tuple[str, str], identity: Json, counts: Mapping[str, int]) -> None:
        await self._call_arrival(arrival, "seal", {"identity": identity, "counts": counts})

    async def go_live(self, arrival: tuple[str, str]) -> None:
        await self._call_arrival(arrival, "live", {})

    async def abort(self, arrival: tuple[str, str]) -> None:
        await self._call_arrival(arrival, "abort", {})

    async def close(self) -> None:
        await self._session.close()

    async def _call_arrival(self, arrival: tuple[str, str], action: str, body: Json) -> Json:
        arrival_id, secret = arrival
        return await self._call(f"/admin/arrivals/{arrival_id}/{action}", body, {"Authorization": f"Bearer {secret}"})

    async def _call(self, path: str, body: Json, headers: Mapping[str, str]) -> Json:
        try:
            async with self._session.post(
                self.url + path,
                data=dumps(body),
                headers={**headers, "Content-Type": "application/json", "Accept-Encoding": "identity"},
                allow_redirects=False,
            ) as answer:
                text = await _read_text(answer)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise PeerError(f"no answer ({type(error).__name__})") from None
        return _read_answer(answer.status, text)


async def _read_text(answer: aiohttp.ClientResponse) -> bytes:
    """An answer that is not ChatAPI's may never end. Raises PeerError."""
    text = bytearray()
    async for some in answer.content.iter_any():
        text += some
        if len(text) > MAX_ANSWER_BYTES:
            raise _make_foreign(answer.status)
    return bytes(text)


def _read_answer(status: int, text: bytes) -> Json:
    try:
        envelope = loads_stored(text.decode())
        if status < 300:
            return dict(envelope["data"])
        message = str(envelope["error"]["message"])
    except (ValueError, KeyError, TypeError):
        raise _make_foreign(status) from None
    raise PeerError(message, status)


def _make_foreign(status: int) -> PeerError:
    return PeerError(f"HTTP {status}, and not from ChatAPI", status if status >= 300 else 502)


def check_url(url: str, *, is_https: bool) -> str:
    """The URL as clients will get it. Raises ChatError."""
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_valid = False
    is_whole = url.isprintable() and _NOT_IN_ADDRESSES.isdisjoint(url) and len(url) <= MAX_URL_LENGTH
    if not is_valid or not is_whole:
        raise invalid("Must be the other server's address, as in https://chat2.example.com", "to")
    if is_https and parts.scheme != "https":
        raise invalid("Must begin with https://, as this server's address does: clients follow to nothing less", "to")
    return url.rstrip("/")
