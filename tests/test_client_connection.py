"""The Python SDK's connection against a server of our own making, which says what a real one says only rarely."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from chatapi.client import ApiError, ChatAPI, Closed, Connection
from chatapi.client import connection as client_connection
from chatapi.client import socket as client_socket
from chatapi.errors import Code

PATIENCE_S = 20.0
ROOM = {"room_id": "room_a", "type": "group", "last_seq": 0, "last_ack": 0, "last_read": 0}


class Session:
    """One accepted WebSocket, from the server's side."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def say(self, frame_type: str, **fields: object) -> None:
        await self._socket.send_json({"type": frame_type, **fields})

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


class Stage:
    """A server whose every session a test plays by hand."""

    def __init__(self) -> None:
        self.url = ""
        self.refusals: list[web.StreamResponse] = []
        self.log = 0  # the last seq of the log that is served over REST
        self.log_status = 200
        self.reads: list[tuple[int, int]] = []
        self.dialled = 0
        self.broken_posts = 0
        self._sessions: asyncio.Queue[tuple[Session, asyncio.Event]] = asyncio.Queue()
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
        await self._sessions.put((Session(socket), end))
        await end.wait()
        return socket

    async def serve_log(self, request: web.Request) -> web.StreamResponse:
        if self.log_status != 200:
            return web.Response(status=self.log_status)
        after_seq, limit = int(request.query["after_seq"]), int(request.query["limit"])
        self.reads.append((after_seq, limit))
        last = min(self.log, after_seq + limit)
        events = [{"type": "message", **message(seq)} for seq in range(after_seq + 1, last + 1)]
        return web.json_response({"success": True, "data": {"events": events, "has_more": last < self.log}})

    async def store_message(self, request: web.Request) -> web.StreamResponse:
        if self.broken_posts:
            self.broken_posts -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"success": True, "data": message(1)})

    async def session(self) -> Session:
        async with asyncio.timeout(PATIENCE_S):
            return (await self._sessions.get())[0]

    def close(self) -> None:
        for end in self._ends:
            end.set()


def message(seq: int) -> dict[str, Any]:
    return {"room_id": "room_a", "seq": seq, "message_id": f"msg_{seq}", "sender_id": "bob", "content": str(seq)}


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setattr(client_socket, "CLOSE_TIMEOUT_S", 0.05)  # a session of ours does not say goodbye
    stage = Stage()
    app = web.Application()
    app.router.add_get("/v1/ws", stage.serve_socket)
    app.router.add_get("/v1/rooms/room_a/events", stage.serve_log)
    app.router.add_post("/v1/rooms/room_a/messages", stage.store_message)
    async with TestServer(app) as server:
        stage.url = str(server.make_url("")).rstrip("/")
        yield stage
        stage.close()


@pytest.fixture
async def client(stage: Stage) -> AsyncIterator[ChatAPI]:
    async with ChatAPI(stage.url, token="t", retries=0) as client:
        yield client


@pytest.fixture
async def connect(stage: Stage, client: ChatAPI) -> AsyncIterator[Callable[..., Any]]:
    """`connection, session = await connect()`: open, but nothing said after `ready`."""
    open_connections: list[Connection] = []

    async def connect(**options: Any) -> tuple[Connection, Session]:
        connection = client.connect(**{"min_delay_s": 0.01, "max_delay_s": 0.05, **options})
        open_connections.append(connection)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(connection.open())
            session = await stage.session()
            await session.say_ready()
        return connection, session

    yield connect
    stage.close()
    for connection in open_connections:
        await connection.close()


async def take(connection: Connection, event_type: str) -> Any:
    """The next event of this type; others before it are passed over."""
    async with asyncio.timeout(PATIENCE_S):
        while (event := await anext(connection))["type"] != event_type:
            pass
    return event


async def take_seqs(connection: Connection, count: int) -> list[int]:
    return [(await take(connection, "message"))["seq"] for _ in range(count)]


# What the server may do to a connection


async def test_a_sync_that_the_rate_limit_refuses_is_sent_again(connect: Any) -> None:
    connection, session = await connect()
    sync = await session.hear("sync")
    await session.say("error", code="RATE_LIMIT_EXCEEDED", message="", retry_after_ms=10, request_id=sync["request_id"])
    await session.complete(room_a=0)
    await take(connection, "sync.complete")
    assert connection.state == "live"


async def test_a_message_that_comes_twice_is_handed_over_once(connect: Any) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    for seq in (1, 1, 2, 1, 3):
        await session.say_message(seq)
    assert await take_seqs(connection, 3) == [1, 2, 3]


async def test_what_the_server_left_out_is_read_from_the_log(connect: Any, stage: Stage) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    await session.say_message(1)
    stage.log = 6
    await session.say_message(5)
    await session.say_message(6)
    assert await take_seqs(connection, 6) == [1, 2, 3, 4, 5, 6]
    assert stage.reads == [(1, 100)]


async def test_a_backlog_that_ends_too_early_is_completed_from_the_log(connect: Any, stage: Stage) -> None:
    connection, session = await connect()
    stage.log = 3
    await session.complete(room_a=3)
    assert await take_seqs(connection, 3) == [1, 2, 3]
    await take(connection, "sync.complete")


async def test_a_log_that_cannot_be_read_now_is_asked_for_again(connect: Any, stage: Stage) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    stage.log = 2
    stage.log_status = 503
    await session.say("sync.gap", room_id="room_a", from_seq=1, to_seq=2)
    session = await stage.session()
    stage.log_status = 200
    await session.say_ready()
    await session.complete(room_a=2)
    assert await take_seqs(connection, 2) == [1, 2]


async def test_a_log_that_may_not_be_read_any_more_is_given_up(connect: Any, stage: Stage) -> None:
    connection, session = await connect()
    stage.log_status = 403
    await session.complete(room_a=3)
    await take(connection, "sync.complete")
    assert connection.cursors["rooms"] == {}


async def test_a_reset_forgets_the_old_log(connect: Any, stage: Stage) -> None:
    kept = {"epoch": "e0", "rooms": {"room_a": 50}}
    connection, session = await connect(cursors=kept)
    sync = await session.hear("sync")
    assert (sync["epoch"], sync["rooms"]) == ("e0", {"room_a": 50})
    await session.say("sync.reset", epoch="e1", rooms={"room_a": 0})
    await session.say_message(1)
    await session.say("sync.complete", rooms={"room_a": 1}, request_id=sync["request_id"])
    assert (await take(connection, "sync.reset"))["rooms"] == {"room_a": 0}
    assert await take_seqs(connection, 1) == [1]
    await take(connection, "sync.complete")
    assert connection.cursors == {"epoch": "e1", "rooms": {"room_a": 1}}


async def test_an_epoch_counts_only_once_the_sync_is_through(connect: Any, stage: Stage) -> None:
    connection, session = await connect(cursors={"epoch": "e0", "rooms": {"room_a": 50}})
    await session.hear("sync")
    await session.close()
    session = await stage.session()
    await session.say_ready()
    sync = await session.hear("sync")
    assert (sync["epoch"], sync["rooms"]) == ("e0", {"room_a": 50})
    assert connection.cursors["epoch"] == "e0"


async def test_a_reconnect_asks_for_what_follows_the_queue(connect: Any, stage: Stage) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    await session.say_message(1)
    await session.say_message(2)
    assert await take_seqs(connection, 1) == [1]
    await session.close()
    session = await stage.session()
    sync = await session.start(room_a=2)
    assert sync["rooms"] == {"room_a": 2}
    await session.say_message(2)
    await session.say_message(3)
    assert await take_seqs(connection, 2) == [2, 3]


async def test_the_shutdown_says_when_to_come_back(connect: Any, stage: Stage) -> None:
    connection, session = await connect(min_delay_s=30.0, max_delay_s=30.0)
    await session.complete(room_a=0)
    await session.say("server.shutdown", reconnect_after_ms=200)
    loop = asyncio.get_running_loop()
    gone_at_s = loop.time()
    await session.close(1001)
    await stage.session()
    assert 0.2 <= loop.time() - gone_at_s < 5.0
    assert (await take(connection, "server.shutdown"))["reconnect_after_ms"] == 200


async def test_a_silent_server_is_left(connect: Any, stage: Stage, client: ChatAPI) -> None:
    connection = client.connect(min_delay_s=0.01, max_delay_s=0.05)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.open())
        session = await stage.session()
        await session.say_ready(heartbeat_seconds=0.1)
    await session.hear("ping")
    await stage.session()
    await connection.close()


async def test_a_refused_credential_ends_the_connection(connect: Any) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    await session.say("error", code="AUTHENTICATION_ERROR", message="The user token has expired")
    await session.close(4001)
    with pytest.raises(ApiError, match="expired") as caught:
        await take(connection, "never")
    assert caught.value.status == 401
    assert connection.state == "closed"
    with pytest.raises(StopAsyncIteration):
        await anext(connection)
    with pytest.raises(Closed):
        await connection.ping()


async def test_a_refused_credential_before_ready_ends_it_too(stage: Stage, client: ChatAPI) -> None:
    connection = client.connect()
    async with asyncio.TaskGroup() as tasks:
        opening = tasks.create_task(_refused(connection.open()))
        session = await stage.session()
        await session.say("error", code="AUTHENTICATION_ERROR", message="No such token")
        await session.close(4001)
    assert opening.result().message == "No such token"


async def _refused(call: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await call
    return caught.value


async def test_new_tokens_are_tried_twice_in_a_row(stage: Stage) -> None:
    asked = 0

    def get_token() -> str:
        nonlocal asked
        asked += 1
        return f"token-{asked}"

    stage.refusals = [web.Response(status=401) for _ in range(10)]
    async with ChatAPI(stage.url, get_token=get_token) as client:
        with pytest.raises(ApiError) as caught:
            await client.connect(min_delay_s=0.01, max_delay_s=0.05).open()
    assert caught.value.code is Code.AUTHENTICATION_ERROR
    assert asked == stage.dialled == 3


async def test_a_refusal_that_may_pass_is_waited_out(stage: Stage, client: ChatAPI) -> None:
    stage.refusals = [web.Response(status=503), web.Response(status=429, headers={"Retry-After": "1"})]
    loop = asyncio.get_running_loop()
    started_at_s = loop.time()
    connection = client.connect(min_delay_s=0.01, max_delay_s=0.05)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.open())
        await (await stage.session()).say_ready()
    assert loop.time() - started_at_s >= 1.0
    await connection.close()


async def test_what_get_token_raises_ends_the_connection(stage: Stage) -> None:
    def get_token() -> str:
        raise LookupError("no session")

    async with ChatAPI(stage.url, get_token=get_token) as client:
        with pytest.raises(LookupError):
            await client.connect().open()


async def test_a_closed_connection_stays_closed(connect: Any, client: ChatAPI) -> None:
    connection, _session = await connect()
    await connection.close()
    await connection.close()
    for closed in (connection, client.connect()):
        await closed.close()
        with pytest.raises(Closed):
            await closed.open()


# What is sent


async def test_a_message_without_an_answer_is_sent_again_with_its_id(connect: Any, stage: Stage) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(connection.send("room_a", "hello"))
        first = await session.hear("send_message")
        await session.close()
        session = await stage.session()
        await session.say_ready()
        second = await session.hear("send_message")
        assert second == first
        await session.say("message.sent", seq=1, request_id=second["request_id"])
    assert sending.result()["seq"] == 1


async def test_a_refusal_for_now_keeps_the_order(connect: Any) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    async with asyncio.TaskGroup() as tasks:
        for text in ("one", "two"):
            tasks.create_task(connection.send("room_a", text))
        sent = await session.hear("send_message")
        await session.say(
            "error", code="RATE_LIMIT_EXCEEDED", message="", retry_after_ms=5, request_id=sent["request_id"]
        )
        heard = []
        for seq in (1, 2):
            sent = await session.hear("send_message")
            heard.append(sent["content"])
            await session.say("message.sent", seq=seq, request_id=sent["request_id"])
    assert heard == ["one", "two"]


async def test_other_refusals_are_told(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_connection, "RETRY_CAP_S", 0.01)
    connection, session = await connect()
    await session.complete(room_a=0)

    async def refuse(code: str, frame_type: str, times: int = 1) -> None:
        for _ in range(times):
            frame = await session.hear(frame_type)
            await session.say("error", code=code, message="", field="seq", request_id=frame["request_id"])

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(refuse("VALIDATION_ERROR", "read"))
        with pytest.raises(ApiError) as caught:
            await connection.read("room_a", 99)
        assert caught.value.field == "seq"
        tasks.create_task(refuse("INTERNAL_ERROR", "message.delete", client_connection.ATTEMPTS))
        with pytest.raises(ApiError) as caught:
            await connection.delete("room_a", "msg_1")
        assert caught.value.code is Code.INTERNAL_ERROR


async def test_closing_tells_those_who_wait(connect: Any) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(_closed(connection.send("room_a", "hello", client_message_id="mine")))
        pinging = tasks.create_task(_closed(connection.ping()))
        await session.hear("ping")
        await connection.close()
    assert sending.result().client_message_id == "mine"
    assert pinging.result().client_message_id is None
    assert [event async for event in connection] == []


async def _closed(call: Any) -> Closed:
    with pytest.raises(Closed) as caught:
        await call
    return caught.value


async def test_a_cancelled_open_leaves_nothing(stage: Stage, client: ChatAPI) -> None:
    stage.refusals = [web.Response(status=503) for _ in range(1000)]
    connection = client.connect(min_delay_s=0.01, max_delay_s=0.01)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await connection.open()
    assert connection.state == "closed"
    assert len(asyncio.all_tasks()) == 1 + sum("aiohttp" in repr(task) for task in asyncio.all_tasks())


async def test_a_long_message_is_tried_over_http_until_it_is_stored(connect: Any, stage: Stage) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    stage.broken_posts = 2
    sent = await connection.send("room_a", '"' * 65_500)
    assert sent["seq"] == 1
    assert stage.broken_posts == 0


async def test_a_ping_of_the_server_is_answered(connect: Any) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    await session.ping()
    await session.hear_pong()
    assert connection.state == "live"


async def test_a_channel_that_is_gone_at_the_reconnect_is_given_up(connect: Any, stage: Stage) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.subscribe("channel"))
        asked = await session.hear("subscribe")
        await session.say("subscribed", room_id="channel", last_seq=4, request_id=asked["request_id"])
    await session.close()
    session = await stage.session()
    await session.start(room_a=0)
    asked = await session.hear("subscribe")
    await session.say("error", code="NOT_FOUND", message="", request_id=asked["request_id"])
    await session.close()
    session = await stage.session()
    await session.start(room_a=0)
    await session.say("room.deleted", room_id="room_a")
    await take(connection, "room.deleted")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_closed(connection.ping()))
        await session.hear_next("ping")
        await connection.close()


async def test_a_subscription_that_is_refused_is_told(connect: Any) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    async with asyncio.TaskGroup() as tasks:
        subscribing = tasks.create_task(_refused(connection.subscribe("private")))
        asked = await session.hear("subscribe")
        await session.say("error", code="AUTHORIZATION_ERROR", message="", request_id=asked["request_id"])
    assert subscribing.result().status == 403


async def test_a_sync_that_is_refused_for_good_is_tried_on_another_socket(connect: Any, stage: Stage) -> None:
    connection, session = await connect()
    asked = await session.hear("sync")
    await session.say("error", code="VALIDATION_ERROR", message="", request_id=asked["request_id"])
    await (await stage.session()).start(room_a=0)
    await take(connection, "sync.complete")


async def test_what_is_asked_while_offline_waits(connect: Any, stage: Stage) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    await connection.pause()
    await connection.typing("room_a")  # lost
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.ping())
        await asyncio.sleep(0)
        await connection.resume()
        session = await stage.session()
        await session.say_ready()
        asked = await session.hear_next("sync", "ping")
        assert asked["type"] == "sync"
        asked = await session.hear("ping")
        await session.say("pong", request_id=asked["request_id"])


# Acknowledgements


async def test_acks_are_joined_and_of_what_was_handled(connect: Any) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    for seq in (1, 2, 3):
        await session.say_message(seq)
    assert await take_seqs(connection, 3) == [1, 2, 3]
    assert await session.hear("ack") == {"type": "ack", "room_id": "room_a", "seq": 2}
    await connection.close()
    assert await session.hear("ack") == {"type": "ack", "room_id": "room_a", "seq": 3}


async def test_what_the_caller_failed_at_is_not_acknowledged(connect: Any) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    await session.say_message(1)
    with pytest.raises(KeyError):
        await _fail_at_one(connection)
    with pytest.raises(TypeError):  # the end of the session instead
        await session.hear("ack")
    assert connection.cursors["rooms"] == {"room_a": 0}


async def _fail_at_one(connection: Connection) -> None:
    async with connection:
        await take_seqs(connection, 1)
        raise KeyError


async def test_acks_can_be_switched_off(connect: Any) -> None:
    connection, session = await connect(auto_ack=False, auto_ack_notifications=False)
    await session.complete(room_a=0)
    await session.say_message(1)
    await session.say("notification", notification_id="notif_1", topic="t", payload=1, created_at="")
    await take(connection, "notification")
    await connection.ack_notification("notif_1")
    async with asyncio.TaskGroup() as tasks:
        acking = tasks.create_task(connection.ack("room_a", 1))
        frame = await session.hear("ack")
        assert frame["seq"] == 1
        await session.say("ack.received", room_id="room_a", seq=1, user_id="alice", request_id=frame["request_id"])
    assert acking.result()["seq"] == 1
    assert (await session.hear("notification.ack"))["notification_id"] == "notif_1"


# A slow caller


async def test_a_slow_caller_stops_the_reading_and_the_connection_lives(stage: Stage, client: ChatAPI) -> None:
    connection = client.connect(max_pending=5)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.open())
        session = await stage.session()
        await session.say_ready(heartbeat_seconds=0.2)
    for seq in range(1, 20):
        await session.say_message(seq)
    for _ in range(3):  # past any silence that would end it
        await session.hear("ping")
    assert stage.reads == []
    assert await take_seqs(connection, 19) == list(range(1, 20))
    assert stage.reads == []
    assert stage.dialled == 1
    await connection.close()


async def test_a_slow_caller_who_sends_gets_the_answer_and_misses_nothing(connect: Any, stage: Stage) -> None:
    connection, session = await connect(max_pending=5)
    await session.complete(room_a=0)
    stage.log = 30
    for seq in range(1, 31):
        await session.say_message(seq)
    seen = []
    async with asyncio.TaskGroup() as tasks:
        for _ in range(30):
            seen += await take_seqs(connection, 1)
            answering = tasks.create_task(_answer(session))
            await connection.ping()
            await answering
    assert seen == list(range(1, 31))
    assert stage.reads
    assert all(limit <= 5 for _, limit in stage.reads)


async def _answer(session: Session) -> None:
    ping = await session.hear("ping")
    await session.say("pong", request_id=ping["request_id"])


async def test_a_notification_without_space_comes_again(connect: Any, stage: Stage) -> None:
    connection, session = await connect(max_pending=2)
    await session.complete(room_a=0)
    for number in range(6):
        await session.say("notification", notification_id=f"n{number}", topic="t", payload=number, created_at="")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_answer(session))
        await connection.ping()
    came: list[int] = []
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_play_notifications_again(stage))
        while len(came) < 6:
            came.append((await take(connection, "notification"))["payload"])
    assert sorted(came) == list(range(6))


async def _play_notifications_again(stage: Stage) -> None:
    session = await stage.session()
    await session.say_ready()
    for number in range(6):
        await session.say("notification", notification_id=f"n{number}", topic="t", payload=number, created_at="")
    await session.complete(room_a=0)


# Rooms that come and go


async def test_a_room_that_is_joined_begins_after_its_creation(connect: Any) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    await session.say("room.created", room_id="room_b", last_seq=7)
    await session.say("message", **{**message(8), "room_id": "room_b"})
    await take(connection, "room.created")
    assert await take_seqs(connection, 1) == [8]
    await session.say("member.left", room_id="room_b", user_id="alice", seq=9)
    await take(connection, "member.left")
    assert "room_b" not in connection.cursors["rooms"]
    await session.say("room.created", room_id="room_b", last_seq=12)
    await session.say("message", **{**message(13), "room_id": "room_b"})
    assert await take_seqs(connection, 1) == [13]


async def test_a_room_that_is_not_wanted_stays_away_after_a_reconnect(connect: Any, stage: Stage) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.unsubscribe("room_a"))
        frame = await session.hear("unsubscribe")
        await session.say_message(1)
        await session.say("unsubscribed", room_id="room_a", request_id=frame["request_id"])
    await session.close()
    session = await stage.session()
    await session.say_ready()
    frame = await session.hear("unsubscribe")
    await session.say("unsubscribed", room_id="room_a", request_id=frame["request_id"])
    await session.say_message(2)
    await session.complete(room_a=2)
    while (event := await anext(connection))["type"] != "sync.complete" or connection.state != "live":
        assert event["type"] != "message"


async def test_a_pause_and_a_resume(connect: Any, stage: Stage) -> None:
    states: list[str] = []
    connection, session = await connect(on_state=states.append)
    await session.complete(room_a=0)
    await take(connection, "sync.complete")
    await connection.pause()
    assert connection.state == "paused"
    await connection.resume()
    await (await stage.session()).start(room_a=0)
    await take(connection, "sync.complete")
    await connection.close()
    assert states == ["syncing", "live", "paused", "connecting", "syncing", "live", "closed"]


async def test_typing_is_told_once_for_many_keys(connect: Any) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    for _ in range(3):
        await connection.typing("room_a")
    await connection.typing("room_a", False)
    await connection.typing("room_a", False)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.ping())
        types = []
        while (frame := await session.hear_next("typing.start", "typing.stop", "ping"))["type"] != "ping":
            types.append(frame["type"])
        await session.say("pong", request_id=frame["request_id"])
    assert types == ["typing.start", "typing.stop"]


def test_a_connection_is_not_open_before_it_is() -> None:
    connection = ChatAPI("http://127.0.0.1", token="t").connect()
    with pytest.raises(Closed):
        _ = connection.ready
    assert connection.cursors == {"epoch": None, "rooms": {}}
