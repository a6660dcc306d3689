"""A running server and its users, as tests drive them: real HTTP and real WebSockets on loopback."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
from raw_websocket import HANDSHAKE, WAIT_SECONDS, RawSocket

from chatapi.app import App
from chatapi.clock import Clock
from chatapi.connection import Connection
from chatapi.rest.listener import Listener
from chatapi.services import Services
from chatapi.store import Transaction, Write


class HandClock(Clock):
    """Stands still until a test moves it.

    It starts at the present, since what others sign has real times in it; its monotonic side starts at 0, so that the
    rounding of sums and differences is the same in every run.
    """

    def __init__(self) -> None:
        self._now_us = super().now_us()
        self._monotonic_s = 0.0

    def now_us(self) -> int:
        return self._now_us

    def monotonic_s(self) -> float:
        return self._monotonic_s

    machine_s = monotonic_s

    def advance(self, seconds: float) -> None:
        self.set_forward(seconds)
        self._monotonic_s += seconds

    def set_forward(self, seconds: float) -> None:
        """The time of day alone, as when somebody sets it: no connection has been silent for that long."""
        self._now_us += round(seconds * 1_000_000)


@dataclass
class Reply:
    status: int
    headers: Any
    body: Any  # the whole envelope, or None

    @property
    def data(self) -> Any:
        assert self.body["success"] is True, self.body
        return self.body["data"]

    @property
    def error(self) -> Any:
        assert self.body["success"] is False, self.body
        return self.body["error"]


class Socket:
    """One WebSocket. `backlog` keeps what came before what a test waited for."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self.websocket = websocket

    async def send(self, frame_type: str, **fields: object) -> None:
        await self.websocket.send_str(json.dumps({"type": frame_type, **fields}, ensure_ascii=False))

    async def next(self) -> dict[str, Any]:
        """The next frame that is not of presence: this one comes 0.25 s after a connect, wherever a test is by then."""
        while (frame := await self.next_of_any_type())["type"] == "presence.update":
            pass
        return frame

    async def next_of_any_type(self) -> dict[str, Any]:
        """The next frame; fails when the connection ends first."""
        message = await self.websocket.receive(timeout=WAIT_SECONDS)
        assert message.type is aiohttp.WSMsgType.TEXT, f"ended with {message} {self.websocket.close_code}"
        return json.loads(message.data)

    async def expect(self, frame_type: str, **fields: object) -> dict[str, Any]:
        """The next frame of this type; others before it are passed over. Its fields must be these."""
        while (frame := await self.next_of_any_type())["type"] != frame_type:
            pass
        assert {name: frame.get(name) for name in fields} == fields, frame
        return frame

    async def answer_to(self, request_id: str) -> dict[str, Any]:
        """The frame that answers; others before it, perhaps of the same type, are passed over."""
        while (frame := await self.next_of_any_type()).get("request_id") != request_id:
            pass
        return frame

    async def collect(self, until: str) -> list[dict[str, Any]]:
        """All frames up to the first of type `until`, without it, and without those of presence."""
        frames = []
        while (frame := await self.next())["type"] != until:
            frames.append(frame)
        return frames

    async def expect_nothing(self, *frame_types: str) -> None:
        """None of these types comes before the answer to a ping."""
        await self.send("ping", request_id="nothing-else")
        while (frame := await self.next_of_any_type()).get("request_id") != "nothing-else":
            assert frame["type"] not in frame_types, frame

    async def close_code(self) -> int | None:
        """Reads to the end of the connection."""
        while (await self.websocket.receive(timeout=WAIT_SECONDS)).type in (
            aiohttp.WSMsgType.TEXT,
            aiohttp.WSMsgType.PING,
        ):
            pass
        return self.websocket.close_code

    async def close(self) -> None:
        await self.websocket.close()


class EventStream(Socket):
    """One event stream. `lines` are those that are no data, since the last frame; `ended` says whether it ended as it
    should, with a frame `close`."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.lines: list[str] = []

    async def next_of_any_type(self) -> dict[str, Any]:
        self.lines = []
        while True:
            async with asyncio.timeout(WAIT_SECONDS):
                event = await self.response.content.readuntil(b"\n\n")
            for line in event.decode().split("\n"):
                if line.startswith("data: "):
                    return dict(json.loads(line.removeprefix("data: ")))
                self.lines += [line] if line else []

    async def close_code(self) -> int | None:
        while (frame := await self.next_of_any_type())["type"] != "close":
            pass
        async with asyncio.timeout(WAIT_SECONDS):
            assert await self.response.content.read() == b""
        return int(frame["code"])

    async def close(self) -> None:
        self.response.close()


SocketT = TypeVar("SocketT", bound=Socket)


class User:
    """A user of a tenant, through the tenant's API key."""

    def __init__(self, server: "Server", api_key: str, user_id: str) -> None:
        self.server = server
        self.user_id = user_id
        self.headers = {"X-API-Key": api_key, "X-User-Id": user_id}

    async def request(self, method: str, path: str, body: object = None, **options: Any) -> Reply:
        headers = {**self.headers, **options.pop("headers", {})}
        return await self.server.request(method, path, body, headers=headers, **options)

    async def get(self, path: str, **params: object) -> Reply:
        return await self.request("GET", path, params={name: str(value) for name, value in params.items()})

    async def post(self, path: str, body: object = None) -> Reply:
        return await self.request("POST", path, {} if body is None else body)

    async def put(self, path: str, body: object) -> Reply:
        return await self.request("PUT", path, body)

    async def patch(self, path: str, body: object) -> Reply:
        return await self.request("PATCH", path, body)

    async def delete(self, path: str) -> Reply:
        return await self.request("DELETE", path)

    async def connect(self, *, ready: bool = True, **params: str) -> Socket:
        """A WebSocket; by default everything up to `sync.complete` is read."""
        websocket = await self.server.session.ws_connect(
            f"{self.server.url}/ws", headers=self.headers, params=params, autoping=True
        )
        socket = self.server.keep(Socket(websocket))
        if ready:
            await socket.expect("sync.complete")
        return socket

    async def stream(self, *, ready: bool = True, **params: str) -> EventStream:
        """An event stream; by default everything up to `sync.complete` is read."""
        response = await self.server.session.get(
            f"{self.server.url}/events/stream", headers=self.headers, params=params, read_bufsize=2**20
        )
        assert response.status == 200, await response.text()
        stream = self.server.keep(EventStream(response))
        if ready:
            await stream.expect("sync.complete")
        return stream

    async def connect_raw(self, query: str = "", *, ready: bool = False, is_narrow: bool = False) -> RawSocket:
        """A WebSocket without a client's help; by default nothing is read after the handshake."""
        opening = self.server.open_narrow() if is_narrow else self.server.open()
        raw = RawSocket(*await opening)
        await raw.open(f"/ws{query}", self.headers)
        if ready:
            await raw.expect("sync.complete")
        return raw

    async def make_room(self, *members: str, room_type: str = "group", **fields: object) -> str:
        reply = await self.post("/rooms", {"type": room_type, "members": list(members), **fields})
        return str(reply.data["room_id"])

    async def say(self, room_id: str, content: str = "hello", **fields: object) -> dict[str, Any]:
        return dict((await self.post(f"/rooms/{room_id}/messages", {"content": content, **fields})).data)


class Server:
    def __init__(self, app: App, session: aiohttp.ClientSession, master_key: str) -> None:
        self.app = app
        self.session = session
        self.master_key = master_key
        self.url = app.addresses[0]
        self.host, port = self.url.removeprefix("http://").rsplit(":", 1)
        self.port = int(port)
        self.api_key = ""
        self._sockets: list[Socket] = []
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def services(self) -> Services:
        """Others after a reset."""
        return self.app.services

    async def request(self, method: str, path: str, body: object = None, **options: Any) -> Reply:
        if body is not None:
            options["data"] = body if isinstance(body, bytes) else json.dumps(body).encode()
            options["headers"] = {"Content-Type": "application/json", **options.get("headers", {})}
        async with self.session.request(method, self.url + path, **options) as response:
            text = await response.text(errors="replace")  # a database is none
            is_json = response.headers.get("Content-Type", "").startswith("application/json")
            return Reply(response.status, response.headers, json.loads(text) if text and is_json else text or None)

    async def admin(self, method: str, path: str, body: object = None, **options: Any) -> Reply:
        return await self.request(method, f"/admin{path}", body, headers={"X-Master-Key": self.master_key}, **options)

    async def make_tenant(self, name: str = "acme", **config: object) -> dict[str, Any]:
        """The answer: tenant_id, api_key, token_secret, …"""
        reply = await self.admin("POST", "/tenants", {"name": name, "config": config})
        return dict(reply.data)

    async def erase(self, user_id: str, api_key: str | None = None) -> None:
        """Returns once all of the user is erased."""
        async with asyncio.timeout(WAIT_SECONDS):
            while (reply := await self.user("backend", api_key).delete(f"/users/{user_id}")).status == 202:
                assert reply.data == {"erased": False}
                await asyncio.sleep(0.05)
        assert (reply.status, reply.data) == (200, {"erased": True})

    def user(self, user_id: str, api_key: str | None = None) -> User:
        return User(self, self.api_key if api_key is None else api_key, user_id)

    def bearer(self, user_id: str, token: str) -> User:
        """The user by a token of its own."""
        user = User(self, "", user_id)
        user.headers = {"Authorization": f"Bearer {token}"}
        return user

    async def handshake(
        self, *, headers: dict[str, str] | None = None, protocols: tuple[str, ...] = (), **params: str
    ) -> Socket:
        """A WebSocket with these credentials alone; nothing is read. Raises aiohttp.WSServerHandshakeError."""
        websocket = await self.session.ws_connect(
            f"{self.url}/ws", headers=headers, protocols=protocols, params=params, autoping=True
        )
        return self.keep(Socket(websocket))

    def keep(self, socket: SocketT) -> SocketT:
        """What nobody refers to any more is closed by the garbage collector."""
        self._sockets.append(socket)
        return socket

    @contextlib.asynccontextmanager
    async def hold_writer(self) -> AsyncIterator[None]:
        """Nothing is written meanwhile: what comes waits. It ends with the test, also if that fails."""
        held, release = asyncio.Event(), asyncio.Event()

        async def hold(_transaction: Transaction) -> None:
            held.set()
            await release.wait()

        holding = asyncio.ensure_future(self.services.store.writer.change(hold, barrier=True))
        await held.wait()
        try:
            yield
        finally:
            release.set()
            await holding

    async def together(self, *requests: Coroutine[Any, Any, Reply]) -> list[Reply]:
        """Carries them out so that their writes, one each, come in this order and in one batch."""
        writer = self.services.store.writer
        submit, come = writer.submit, 0
        tasks: list[asyncio.Future[Reply]] = []

        def count(write: Write) -> None:
            """The server's jobs write, too, whenever it is their time."""
            nonlocal come
            submit(write)
            task = asyncio.current_task()
            come += task is None or not task.get_name().startswith(("housekeeping", "webhooks"))

        try:
            async with self.hold_writer():
                writer.submit = count  # type: ignore[method-assign]
                for waiting, request in enumerate(requests, start=1):
                    tasks.append(asyncio.ensure_future(request))
                    await eventually(lambda waiting=waiting: come >= waiting or tasks[-1].done())
                    assert come >= waiting, f"answered before its turn: {tasks[-1].result()}"
        finally:
            writer.submit = submit  # type: ignore[method-assign]
            for request in requests[len(tasks) :]:
                request.close()
            replies = await asyncio.gather(*tasks)
        return replies

    async def refused_handshake(self, path: str = "/ws", **options: Any) -> Reply:
        """What a handshake with these headers and parameters is answered, when it is not accepted."""
        return await self.request("GET", path, headers={**HANDSHAKE, **options.pop("headers", {})}, **options)

    async def exchange(self, data: bytes) -> bytes:
        """All that the server answers to these bytes, until it closes the connection."""
        reader, writer = await self.open()
        writer.write(data)
        async with asyncio.timeout(WAIT_SECONDS):
            return await reader.read()

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare connection."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        self._writers.append(writer)
        return reader, writer

    async def open_narrow(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare connection for which neither the kernel nor the test holds much that is unread, or unsent."""
        bare = socket.socket()
        bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        bare.setblocking(False)
        await asyncio.get_running_loop().sock_connect(bare, (self.host, self.port))
        reader, writer = await asyncio.open_connection(sock=bare, limit=1)
        writer.transport.set_write_buffer_limits(0)
        self._writers.append(writer)
        return reader, writer

    async def stop(self) -> None:
        """As `app.close()`, once nobody is connected: a peer that reads no more is waited for a while."""
        for opened in self._sockets:
            await opened.close()
        await self.app.close()

    async def leave(self) -> None:
        """Ends all connections that were made through this object."""
        for opened in self._sockets:
            await opened.close()
        await self.hang_up()

    async def hang_up(self) -> None:
        """Ends all bare connections that are still open."""
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def connections_of(self, user_id: str) -> list[Connection]:
        return [found for found in self.services.hub.connections.values() if found.user_id == user_id]


StartServer = Callable[..., Awaitable[Server]]
"""As the fixture `start_server` has it."""


async def eventually(condition: Any) -> None:
    """Returns once `condition()` holds."""
    pause_seconds = 0.0005
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # it is asked of objects that tell nobody
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, 0.005)


async def checkpoint(server: Server) -> None:
    """Returns once all of the log is in the database's file, and nothing else. SQLite refuses it to a connection in a
    transaction, so what the server itself writes after its start has to have ended."""
    store = server.services.store
    await eventually(lambda: not store.writer._is_committing and not store.writer._background._waiting)
    [(is_busy, _, _)] = await store._connection.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
    assert not is_busy


class Gate:
    """Stands in for an async method: calls wait until it is opened."""

    def __init__(self, method: Any) -> None:
        self._method = method
        self._is_open = asyncio.Event()
        self.arrived = asyncio.Event()

    async def __call__(self, *args: Any) -> Any:
        self.arrived.set()
        await self._is_open.wait()
        return await self._method(*args)

    def open(self) -> None:
        self._is_open.set()


class TlsDoor:
    """A port at which the server speaks TLS itself. `certificate` is the fixture's."""

    def __init__(self, server: Server, certificate: tuple[str, str]) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
        services = server.services
        self._server = server
        self._listener = Listener(server.app.server, services.admission, services.tasks, context)
        self.port = int(self._listener.listen_on_host(server.host, 0)[0].rsplit(":", 1)[1])
        self.client_context = ssl.create_default_context(cafile=certificate[0])

    async def connect(self, user: User, query: str = "", *, limit: int = 1 << 16) -> RawSocket:
        """As `User.connect_raw`. With a limit of 1 nothing is read before it is asked for."""
        opening = asyncio.open_connection(
            self._server.host, self.port, ssl=self.client_context, server_hostname="localhost", limit=limit
        )
        raw = RawSocket(*await opening)
        self._server._writers.append(raw.writer)
        await raw.open(f"/ws{query}", user.headers)
        return raw

    def close(self) -> None:
        self._listener.close()


@contextlib.contextmanager
def serve_tls(server: Server, certificate: tuple[str, str]) -> Iterator[TlsDoor]:
    door = TlsDoor(server, certificate)
    try:
        yield door
    finally:
        door.close()


async def restart(start_server: StartServer, server: Server, settings: dict[str, object] | None = None) -> Server:
    """The same database with nothing in memory."""
    await server.app.close()
    return await start_server(settings)


async def say_many(user: User, room_id: str, count: int) -> list[str]:
    """Their ids. Sent without waiting for each, so that hundreds are a few commits."""
    socket = await user.connect(sync="none", ready=False)
    for number in range(count):
        await socket.send("send_message", room_id=room_id, content=f"{user.user_id} {number}")
    ids = [str((await socket.expect("message.sent"))["message_id"]) for _ in range(count)]
    await socket.close()
    return ids


def seqs(frames: Sequence[dict[str, Any]], room_id: str) -> list[int]:
    return [frame["seq"] for frame in frames if frame.get("room_id") == room_id and "seq" in frame]
