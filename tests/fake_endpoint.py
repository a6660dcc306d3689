"""An endpoint that speaks as OpenAI's chat completions do. A test answers each request itself, piece by piece, or says
once how all are answered."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web
from raw_websocket import WAIT_SECONDS


def write_chunk(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake", "choices": [choice]}
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()


FIRST = write_chunk({"role": "assistant", "content": ""})
LAST = write_chunk({}, "stop") + b"data: [DONE]\n\n"


class Exchange:
    """One request, and its answer in the making."""

    def __init__(self, request: web.Request, body: Any) -> None:
        self.headers = request.headers
        self.messages: list[dict[str, str]] = body["messages"]
        self.body = body
        self.has_left = asyncio.Event()  # the client went away before the end
        self._request = request
        self._response: web.StreamResponse | None = None
        self._done = asyncio.Event()

    async def write(self, data: bytes, content_type: str = "text/event-stream") -> None:
        if self._response is None:
            self._response = web.StreamResponse(headers={"Content-Type": content_type})
            await self._response.prepare(self._request)
        await self._response.write(data)

    async def say(self, *texts: str) -> None:
        if self._response is None:
            await self.write(FIRST)
        for text in texts:
            await self.write(write_chunk({"content": text}))

    async def end(self, *texts: str) -> None:
        await self.say(*texts)
        await self.write(LAST)
        self._done.set()

    async def stop(self, data: bytes = b"", content_type: str = "text/event-stream") -> None:
        """The body ends after `data`, and nothing says that the answer does."""
        await self.write(data, content_type)
        self._done.set()

    def refuse(self, status: int, body: object, **headers: str) -> None:
        """`Retry_After="1"` stands for `Retry-After: 1`."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        self._response = web.json_response(body, status=status, headers=given)
        self._done.set()

    def break_off(self) -> None:
        assert self._request.transport is not None
        self._request.transport.abort()

    async def finished(self) -> web.StreamResponse:
        try:
            await self._done.wait()
        except asyncio.CancelledError:
            self.has_left.set()
            raise
        assert self._response is not None
        return self._response


class FakeEndpoint:
    """`script`: the texts that every request gets, at once; without it, a test takes each with `asked`."""

    def __init__(self) -> None:
        self.port = 0
        self.script: Sequence[str] | None = None
        self.wants_key = ""
        self.exchanges: list[Exchange] = []
        self._came: asyncio.Queue[Exchange] = asyncio.Queue()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        """Again at the same port, if it was open before."""
        app = web.Application(client_max_size=2**30)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._list_models)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def kill(self) -> None:
        """All connections break, and new ones are refused."""
        assert self._runner is not None
        for exchange in self.exchanges:
            if exchange._request.transport is not None:
                exchange._request.transport.abort()
        runner, self._runner = self._runner, None
        await runner.cleanup()

    async def close(self) -> None:
        if self._runner is not None:
            await self.kill()

    async def asked(self) -> Exchange:
        """The next request."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self._came.get()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        assert body["stream"] is True
        exchange = Exchange(request, body)
        self.exchanges.append(exchange)
        with suppress(ConnectionError):  # the client went away
            if self.script is not None:
                await exchange.end(*self.script)
            else:
                self._came.put_nowait(exchange)
            return await exchange.finished()
        raise asyncio.CancelledError

    async def _list_models(self, request: web.Request) -> web.Response:
        if self.wants_key not in request.headers.get("Authorization", ""):
            return web.json_response({"error": {"message": "Incorrect API key"}}, status=401)
        return web.json_response({"object": "list", "data": [{"id": "fake", "object": "model"}]})


@asynccontextmanager
async def open_endpoint() -> AsyncIterator[FakeEndpoint]:
    endpoint = FakeEndpoint()
    await endpoint.start()
    yield endpoint
    await endpoint.close()
