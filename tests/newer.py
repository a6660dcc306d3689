"""A server of a later 1.x, as far as a client can tell: the real one, with what this version does not know yet put into
its frames and answers as they pass. What that is stands in sdk_cases.json under `newer_server`."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any, Self

from aiohttp import (
    ClientError,
    ClientResponse,
    ClientSession,
    ClientWebSocketResponse,
    WSMsgType,
    WSServerHandshakeError,
    web,
)

CASES: dict[str, Any] = json.loads((Path(__file__).parent / "sdk_cases.json").read_text())
NEWS: dict[str, Any] = CASES["newer_server"]
OPAQUE = frozenset({"meta", "metadata", "payload", "details", "config"})  # the application's own, or free in its form
BY_ROOM = frozenset({"rooms", "errors", "reset"})  # objects whose keys are ids
PASSED_HEADERS = frozenset({"x-api-key", "x-user-id", "x-master-key", "authorization", "content-type", "origin"})
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class EventStream:
    """The frames of a connection as Server-Sent Events."""

    def __init__(self, response: web.StreamResponse, upstream: ClientResponse) -> None:
        self._response = response
        self._upstream = upstream

    async def send_json(self, frame: dict[str, Any]) -> None:
        await self._response.write(f"data: {json.dumps(frame)}\n\n".encode())

    async def close(self, *, code: int) -> None:
        with suppress(ConnectionResetError):  # its reader has gone already
            await self.send_json({"type": "close", "code": code, "reason": ""})
        self._upstream.close()


class NewerServer:
    """`app` serves it. Tests in another process drive it with POST /newer/say (a frame), POST /newer/close (a code)
    and GET /newer/reads."""

    def __init__(self, target: str, *, renames: bool = True) -> None:
        """`renames`: known kinds, values and codes are replaced by new ones. Without it there are only additions."""
        self._target = target
        self._values: dict[str, dict[str, str]] = NEWS["values"] if renames else {}
        self._sockets: set[web.WebSocketResponse | EventStream] = set()
        self.reads = 0  # calls for the events of a room
        self.app = web.Application()
        self.app.cleanup_ctx.append(self._hold_session)
        self.app.router.add_post("/newer/say", self._serve_say)
        self.app.router.add_post("/newer/close", self._serve_close)
        self.app.router.add_get("/newer/reads", self._serve_reads)
        self.app.router.add_route("*", "/{path:.*}", self._serve)

    async def say(self, frame: dict[str, Any]) -> None:
        """To every connection."""
        for socket in self._sockets:
            await socket.send_json(frame)

    async def close(self, code: int) -> None:
        """Every connection."""
        for socket in list(self._sockets):
            await socket.close(code=code)

    async def _hold_session(self, _app: web.Application) -> AsyncIterator[None]:
        async with ClientSession() as self._session:
            yield

    async def _serve_say(self, request: web.Request) -> web.Response:
        await self.say(await request.json())
        return web.Response()

    async def _serve_close(self, request: web.Request) -> web.Response:
        await self.close(await request.json())
        return web.Response()

    async def _serve_reads(self, _request: web.Request) -> web.Response:
        return web.json_response(self.reads)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() in PASSED_HEADERS}
        address = f"{self._target}{request.rel_url}"
        if request.headers.get("Upgrade", "").lower() == "websocket":
            protocols = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
            try:
                async with self._session.ws_connect(address, headers=headers, protocols=protocols) as upstream:
                    return await self._pass_frames(request, upstream)
            except WSServerHandshakeError:
                headers |= HANDSHAKE  # refused once more, as a call whose answer can be seen
        self.reads += request.path.endswith("/events")
        async with self._session.request(
            request.method, address, headers=headers, data=await request.read(), allow_redirects=False
        ) as answer:
            if answer.content_type == "text/event-stream":
                return await self._pass_events(request, answer)
            return await self._renew_answer(answer)

    async def _renew_answer(self, answer: ClientResponse) -> web.Response:
        body = await answer.read()
        kept = {name: answer.headers[name] for name in ("X-Request-Id", "Retry-After") if name in answer.headers}
        if not answer.content_type.endswith("/json"):
            return web.Response(status=answer.status, body=body or None, content_type=answer.content_type, headers=kept)
        return web.json_response(self._renew(json.loads(body)), status=answer.status, headers=kept)

    async def _pass_frames(self, request: web.Request, upstream: ClientWebSocketResponse) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("chatapi.v1",))
        await socket.prepare(request)
        pump = asyncio.create_task(self._pump(socket, upstream))
        try:
            async for message in socket:
                await upstream.send_str(message.data)
        finally:
            self._sockets.discard(socket)
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
        return socket

    async def _pump(self, socket: web.WebSocketResponse, upstream: ClientWebSocketResponse) -> None:
        await socket.send_json(NEWS["frames"][0])  # before `ready`
        async for message in upstream:
            if message.type is WSMsgType.TEXT:
                await socket.send_json(self._renew(json.loads(message.data)))
                for frame in NEWS["frames"]:
                    await socket.send_json(frame)
                self._sockets.add(socket)
        await socket.close(code=upstream.close_code or 1001)

    async def _pass_events(self, request: web.Request, answer: ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        stream = EventStream(response, answer)
        try:
            await stream.send_json(NEWS["frames"][0])  # before `ready`
            async for line in answer.content:
                if line.startswith(b"data: "):
                    await stream.send_json(self._renew(json.loads(line[6:])))
                    for frame in NEWS["frames"]:
                        await stream.send_json(frame)
                    self._sockets.add(stream)
        except (ClientError, ConnectionResetError):
            pass  # either side is gone
        finally:
            self._sockets.discard(stream)
        return response

    def _renew(self, value: Any, field: str = "") -> Any:
        if isinstance(value, list):
            return [self._renew(item) for item in value]
        if isinstance(value, str):
            return self._values.get(field, {}).get(value, value)
        if not isinstance(value, dict) or field in OPAQUE:
            return value
        renewed = {name: self._renew(item, name) for name, item in value.items()}
        return renewed if field in BY_ROOM else {**renewed, **NEWS["fields"]}


class NewerServerThread:
    """The same beside a test that has no event loop."""

    def __init__(self, target: str, *, renames: bool = True) -> None:
        self._newer = NewerServer(target, renames=renames)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="newer server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._runner = web.AppRunner(self._newer.app, shutdown_timeout=0.1)
        self.url = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    async def _start(self) -> str:
        return await _listen(self._runner)

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _listen(runner: web.AppRunner) -> str:
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    return f"http://{host}:{port}"


@asynccontextmanager
async def open_newer(target: str, *, renames: bool = True) -> AsyncIterator[tuple[NewerServer, str]]:
    """The server and its address."""
    newer = NewerServer(target, renames=renames)
    runner = web.AppRunner(newer.app, shutdown_timeout=0.1)
    try:
        yield newer, await _listen(runner)
    finally:
        await runner.cleanup()
