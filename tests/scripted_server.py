"""A server that a test plays by hand, session by session, for what a real one says only rarely."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from chatapi.client import ChatAPI, Connection

PATIENCE_S = 60.0
ROOM = {"room_id": "room_a", "type": "group", "last_seq": 0, "last_ack": 0, "last_read": 0}


Error = TypeVar("Error", bound=Exception)


class ScriptedSession:
    """One accepted WebSocket, from the server's side."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def say(self, frame_type: str, **fields: object) -> None:
        await self._socket.send_json({"type": frame_type, **fields})

    async def say_raw(self, text: str | bytes) -> None:
        await (self._socket.send_str(text) if isinstance(text, str) else self._socket.send_bytes(text))

    async def say_ready(self, epoch: str = "e1", **fields: object) -> None:
        ready = {"connection_id": "c", "user_id": "alice", "server_time": "", "heartbeat_seconds": 30, "rooms": [ROOM]}
        await self.say("ready", epoch=epoch, **{**ready, **fields})

    async def say_message(self, seq: int) -> None:
        await self.say("message", **message(seq))

    async def hear(self, frame_type: str) -> dict[str, Any]:
        """The next frame of this type; others before it are passed over."""
        while (frame := await self._socket.receive_json(timeout=PATIENCE_S))["type"] != frame_type:
            pass
        return dict(frame)

    async def hear_next(self, *frame_types: str) -> dict[str, Any]:
        """The next frame, which is of one of these types."""
        frame = await self._socket.receive_json(timeout=PATIENCE_S)
        assert frame["type"] in frame_types
        return dict(frame)

    async def ping(self) -> None:
        await self._socket.ping(b"still there?")

    async def hear_pong(self) -> None:
        assert (await self._socket.receive(timeout=PATIENCE_S)).type is WSMsgType.PONG

    async def complete(self, **last_seqs: int) -> dict[str, Any]:
        """Answers the `sync`, and returns it."""
        sync = await self.hear("sync")
        await self.say("sync.complete", rooms=last_seqs, request_id=sync["request_id"])
        return sync

    async def start(self, **last_seqs: int) -> dict[str, Any]:
        await self.say_ready()
        return await self.complete(**last_seqs)

    async def close(self, code: int = 1001) -> None:
        await self._socket.close(code=code)

    async def ended(self) -> None:
        while (await self._socket.receive(timeout=PATIENCE_S)).type in (WSMsgType.TEXT, WSMsgType.PING):
            pass


class ScriptedServer:
    """A server whose every session a test plays by hand."""

    def __init__(self) -> None:
        self.url = ""
        self.refusals: list[web.StreamResponse] = []
        self.log = 0  # the last seq of the log that is served over REST
        self.left_at = 0  # where in the log alice leaves
        self.log_asked = asyncio.Event()
        self.log_hold: asyncio.Event | None = None  # the log is answered once it is set
        self.log_answers: list[web.StreamResponse] = []  # in place of the log, one after the other
        self.reads: list[tuple[int, int]] = []
        self.dialled = 0
        self.broken_posts = 0
        self._sessions: asyncio.Queue[tuple[ScriptedSession, asyncio.Event]] = asyncio.Queue()
        self._ends: list[asyncio.Event] = []

    async def serve_socket(self, request: web.Request) -> web.StreamResponse:
        self.dialled += 1
        assert request.query["sync"] == "none"
        if self.refusals:
            return self.refusals.pop(0)
        socket = web.WebSocketResponse(protocols=("chatapi.v1",), autoping=False)
        await socket.prepare(request)
        end = asyncio.Event()
        self._ends.append(end)
        await self._sessions.put((ScriptedSession(socket), end))
        await end.wait()
        return socket

    async def serve_log(self, request: web.Request) -> web.StreamResponse:
        self.log_asked.set()
        if self.log_hold is not None:
            await self.log_hold.wait()
        if self.log_answers:
            return self.log_answers.pop(0)
        after_seq, limit = int(request.query["after_seq"]), int(request.query["limit"])
        self.reads.append((after_seq, limit))
        last = min(self.log, after_seq + limit)
        events: list[Any] = [{"type": "message", **message(seq)} for seq in range(after_seq + 1, last + 1)]
        for event in events:
            if event["seq"] == self.left_at:
                event.update(type="member.left", user_id="alice")
        return web.json_response({"success": True, "data": {"events": events, "has_more": last < self.log}})

    async def store_message(self, request: web.Request) -> web.StreamResponse:
        if self.broken_posts:
            self.broken_posts -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"success": True, "data": message(1)})

    async def session(self) -> ScriptedSession:
        async with asyncio.timeout(PATIENCE_S):
            return (await self._sessions.get())[0]

    def close(self) -> None:
        for end in self._ends:
            end.set()


def message(seq: int) -> dict[str, Any]:
    return {"room_id": "room_a", "seq": seq, "message_id": f"msg_{seq}", "sender_id": "bob", "content": str(seq)}


def make_jwt(**claims: object) -> str:
    """Unsigned, for code that only looks at its claims."""
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.c2ln"


def refusal(status: int, code: str, message: str = "no", **headers: str) -> web.Response:
    """The server's own, in its envelope."""
    error = {"code": code, "message": message}
    return web.json_response({"success": False, "data": None, "error": error}, status=status, headers=headers)


@asynccontextmanager
async def run_scripted_server() -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer()
    app = web.Application()
    app.router.add_get("/v1/ws", scripted.serve_socket)
    app.router.add_get("/v1/rooms/room_a/events", scripted.serve_log)
    app.router.add_post("/v1/rooms/room_a/messages", scripted.store_message)
    app.router.add_put("/v1/rooms/room_a/messages/{message_id}", scripted.store_message)
    async with TestServer(app) as server:
        scripted.url = str(server.make_url("")).rstrip("/")
        yield scripted
        scripted.close()


class Connector:
    """`connection, session = await connect()`: open, but nothing said after `ready`."""

    def __init__(self, scripted: ScriptedServer, client: ChatAPI) -> None:
        self._scripted = scripted
        self._client = client
        self._connections: list[Connection] = []

    async def __call__(self, ready: dict[str, Any] | None = None, **options: Any) -> tuple[Connection, ScriptedSession]:
        connection = self._client.connect(**{"min_delay_s": 0.01, "max_delay_s": 0.05, **options})
        self._connections.append(connection)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(connection.open())
            session = await self._scripted.session()
            await session.say_ready(**(ready or {}))
        return connection, session

    async def close(self) -> None:
        self._scripted.close()
        for connection in self._connections:
            await connection.close()


async def fails(expected: type[Error], call: Any) -> Error:
    with pytest.raises(expected) as caught:
        await call
    return caught.value


async def take(connection: Connection, event_type: str) -> Any:
    """The next event of this type; others before it are passed over."""
    async with asyncio.timeout(PATIENCE_S):
        while (event := await anext(connection))["type"] != event_type:
            pass
    return event


async def take_seqs(connection: Connection, count: int) -> list[int]:
    return [(await take(connection, "message"))["seq"] for _ in range(count)]
