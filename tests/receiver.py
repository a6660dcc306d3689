"""An endpoint that gets webhooks, and misbehaves as a test wants it to."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

WAIT_SECONDS = 60.0


@dataclass
class Call:
    headers: dict[str, str]
    body: bytes
    at_s: float  # of the loop's clock

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> Any:
        return json.loads(self.body)

    @property
    def user_id(self) -> str:
        return str(self.event["data"]["user_id"])

    @property
    def content(self) -> str:
        return str(self.event["data"]["message"]["content"])


Behaviour = Callable[[Call, web.Request], Awaitable[web.StreamResponse]]


class Receiver:
    """`calls` holds every call in order. `behave` answers them, 204 by default."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.behave: Behaviour = answer(204)
        self.url = ""
        self._arrived = asyncio.Condition()

    @property
    def ids(self) -> list[str]:
        return [call.webhook_id for call in self.calls]

    async def wait_for(self, count: int) -> list[Call]:
        """The calls, once there are so many."""
        async with asyncio.timeout(WAIT_SECONDS), self._arrived:
            await self._arrived.wait_for(lambda: len(self.calls) >= count)
        return self.calls

    async def handle(self, request: web.Request) -> web.StreamResponse:
        call = Call(dict(request.headers), await request.read(), asyncio.get_running_loop().time())
        self.calls.append(call)
        async with self._arrived:
            self._arrived.notify_all()
        return await self.behave(call, request)


@asynccontextmanager
async def open_receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application(client_max_size=2**20)
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    receiver.url = f"http://{host}:{port}/hook"
    yield receiver
    await runner.cleanup()


def answer(status: int, **headers: str) -> Behaviour:
    async def behave(_call: Call, _request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={name.replace("_", "-"): text for name, text in headers.items()})

    return behave


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """One after the other, and then the last one for good."""
    left = list(behaviours)

    async def behave(call: Call, request: web.Request) -> web.StreamResponse:
        return await (left.pop(0) if len(left) > 1 else left[0])(call, request)

    return behave


async def hang(_call: Call, _request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


async def close_early(_call: Call, request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()
