"""An OpenAI-compatible endpoint, and the text of its answers while they are generated."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager

import aiohttp

from chatapi.client import StreamFailed
from chatapi.client.backoff import full_jitter
from chatapi.client.envelope import parse_retry_after
from chatapi.protocol.json import dumps, loads_stored
from chatapi.protocol.piped_text import EventStreamText

CONNECT_S = 10.0
BUSY = frozenset({429, 503})  # statuses after which the same is asked again
TRIES = 3  # of one answer...
PATIENCE_S = 60.0  # ...within this time: somebody waits for it
RETRY_S = 2.0  # before the next try, if the endpoint does not say when; each time twice as long
MAX_ANSWER_S = 3600.0  # an endpoint that never ends would hold up its room forever
READ_BYTES = 4 * 1024  # looked at in one step of the loop: up to 10 ms, for the shortest of lines
MAX_ERROR_BYTES = 64 * 1024
MAX_REASON_CHARACTERS = 200


class EndpointFailed(StreamFailed):
    """The reason, in a few words that everybody in the room may read."""


class Endpoint:
    def __init__(self, session: aiohttp.ClientSession, base_url: str, model: str, key: str, silence_s: float) -> None:
        """`key` may be empty. An answer of which nothing comes for `silence_s` has failed."""
        self._session = session
        self._base_url = base_url.rstrip("/")
        self._model = model
        self._key = key
        self._headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        self._timeout = aiohttp.ClientTimeout(total=MAX_ANSWER_S, sock_connect=CONNECT_S, sock_read=silence_s)

    async def check(self) -> None:
        """Raises EndpointFailed if nothing answers, or the key is refused. Some endpoints have no list of models."""
        with self._explaining():
            async with self._request("GET", "/models") as response:
                if response.status in (401, 403):
                    raise await self._refuse(response)

    async def answer(self, messages: list[dict[str, str]]) -> AsyncGenerator[str, None]:
        """The text as it comes. An endpoint that is busy is asked again. Raises EndpointFailed, perhaps after a part of
        the text."""
        body = dumps({"model": self._model, "messages": messages, "stream": True})
        until_s = asyncio.get_running_loop().time() + PATIENCE_S
        for attempt in range(TRIES):
            with self._explaining():
                async with self._request("POST", "/chat/completions", body) as response:
                    wait_s = _find_wait(response, attempt)
                    if wait_s is None or asyncio.get_running_loop().time() + wait_s > until_s:
                        async with aclosing(self._read(response)) as pieces:
                            async for piece in pieces:
                                yield piece
                        return
            await asyncio.sleep(wait_s)

    async def _read(self, response: aiohttp.ClientResponse) -> AsyncGenerator[str, None]:
        if response.status != 200:
            raise await self._refuse(response)
        text = EventStreamText()
        while not text.is_over and text.error is None and (data := await response.content.read(READ_BYTES)):
            if piece := text.feed(data):
                yield piece
        if piece := text.close():
            yield piece
        if text.error is not None:
            raise self._fail(text.error.message)
        if text.end == "failed":
            raise self._fail("the answer broke off")

    def _request(self, method: str, path: str, body: bytes | None = None) -> aiohttp.client._RequestContextManager:
        """Without redirects: the key is for this endpoint only."""
        url = self._base_url + path
        return self._session.request(
            method, url, data=body, headers=self._headers, timeout=self._timeout, allow_redirects=False
        )

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise self._fail("nothing came for too long") from error
        except aiohttp.InvalidURL as error:
            raise self._fail("this is not an address of HTTP") from error
        except aiohttp.ClientConnectorError as error:
            raise self._fail("no connection to the model") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._fail("the connection to the model broke") from error

    async def _refuse(self, response: aiohttp.ClientResponse) -> EndpointFailed:
        """The status, and the message of an error as OpenAI has it."""
        try:
            error = loads_stored(await response.content.read(MAX_ERROR_BYTES))["error"]
            message = error if isinstance(error, str) else str(error["message"])
        except (ValueError, LookupError, TypeError):
            return self._fail(f"HTTP {response.status}")
        return self._fail(f"HTTP {response.status}: {message}")

    def _fail(self, reason: str) -> EndpointFailed:
        """Some endpoints repeat the key that they refuse."""
        reason = reason.replace(self._key, "***") if self._key else reason
        return EndpointFailed(" ".join(reason.replace("\0", " ").split())[:MAX_REASON_CHARACTERS])


def _find_wait(response: aiohttp.ClientResponse, attempt: int) -> float | None:
    """Seconds until the next try; None if this is the answer."""
    if response.status not in BUSY or attempt == TRIES - 1:
        return None
    least_s = RETRY_S * 2.0**attempt
    return parse_retry_after(response.headers) or least_s + full_jitter(attempt, RETRY_S, RETRY_S)
