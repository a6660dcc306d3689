"""The Python SDK's connection against a server of our own making, which says what a real one says only rarely."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from scripted_server import (
    ROOM,
    Connector,
    ScriptedServer,
    ScriptedSession,
    fails,
    make_jwt,
    message,
    refusal,
    run_scripted_server,
    take,
    take_seqs,
)

from chatapi.client import ApiError, ChatAPI, Closed, NotChatAPI, NoToken
from chatapi.client import socket as client_socket
from chatapi.errors import Code


@pytest.fixture
async def scripted(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedServer]:
    monkeypatch.setattr(client_socket, "CLOSE_TIMEOUT_S", 0.05)  # a session of ours does not say goodbye
    async with run_scripted_server() as scripted:
        yield scripted


@pytest.fixture
async def client(scripted: ScriptedServer) -> AsyncIterator[ChatAPI]:
    async with ChatAPI(scripted.url, token="t", retries=0) as client:
        yield client


@pytest.fixture
async def connect(scripted: ScriptedServer, client: ChatAPI) -> AsyncIterator[Connector]:
    connect = Connector(scripted, client)
    yield connect
    await connect.close()


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


async def test_events_left_out_by_the_server_are_read_from_the_log(connect: Any, scripted: ScriptedServer) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    await session.say_message(1)
    scripted.log = 6
    await session.say_message(5)
    await session.say_message(6)
    assert await take_seqs(connection, 6) == [1, 2, 3, 4, 5, 6]
    assert scripted.reads == [(1, 100)]


async def test_a_backlog_that_ends_too_early_is_completed_from_the_log(connect: Any, scripted: ScriptedServer) -> None:
    connection, session = await connect()
    scripted.log = 3
    await session.complete(room_a=3)
    assert await take_seqs(connection, 3) == [1, 2, 3]
    await take(connection, "sync.complete")


async def test_a_log_that_cannot_be_read_now_is_asked_for_again_and_the_rest_goes_on(
    connect: Any, scripted: ScriptedServer
) -> None:
    told: list[Exception] = []
    connection, session = await connect(on_error=told.append)
    await session.complete(room_a=0)
    scripted.log = 2
    scripted.log_answers = [
        web.Response(status=404, text="page not found"),
        web.Response(status=404, text="page not found"),
        refusal(503, "INTERNAL_ERROR"),
        web.json_response({"success": True, "data": {"events": None}}),
        web.json_response({"success": True, "data": {"events": [], "has_more": True}}),
        web.json_response({"success": True, "data": {"events": [{"type": "x", **message(9)}], "has_more": 1}}),
    ]
    await session.say("sync.gap", room_id="room_a", from_seq=1, to_seq=2)
    await session.say("message", **{**message(1), "room_id": "room_b"})
    assert (await take(connection, "message"))["room_id"] == "room_b"
    assert await take_seqs(connection, 2) == [1, 2]
    assert scripted.log_answers == []
    assert scripted.dialled == 1
    assert [type(error) for error in told][:2] == [NotChatAPI, ApiError]


async def test_a_log_that_may_not_be_read_any_more_is_given_up(connect: Any, scripted: ScriptedServer) -> None:
    connection, session = await connect()
    scripted.log_answers = [refusal(403, "AUTHORIZATION_ERROR")]
    await session.complete(room_a=3)
    await take(connection, "sync.complete")
    assert connection.cursors["rooms"] == {}


NO_FRAMES = [
    "not JSON",
    "[]",
    "null",
    "{}",
    '{"type": 7}',
    '{"type": "message", "room_id": "room_a", "seq": "1"}',
    '{"type": "message", "seq": 1}',
    '{"type": "message", "room_id": "room_a", "seq": true}',
    '{"type": "sync.complete", "rooms": {"room_a": null}}',
    '{"type": "sync.complete"}',
    '{"type": "sync.gap", "room_id": "room_a"}',
    '{"type": "subscribed", "room_id": "room_a"}',
    '{"type": "notification"}',
    '{"type": "error", "message": "no code"}',
    b"binary",
    "[" * 100_000,
]


@pytest.mark.slow
async def test_invalid_frame_ends_the_socket_and_the_next_one_goes_on(connect: Any, scripted: ScriptedServer) -> None:
    told: list[Exception] = []
    connection, session = await connect(on_error=told.append)
    for count, text in enumerate(NO_FRAMES):
        await session.complete(room_a=count)
        await session.say_message(count + 1)
        assert await take_seqs(connection, 1) == [count + 1]
        await session.say_raw(text)
        session = await scripted.session()
        await session.say_ready(rooms=[{**ROOM, "last_seq": count + 1}])
    assert told
    assert {type(error) for error in told} == {NotChatAPI}
    await session.complete(room_a=len(NO_FRAMES))


async def test_server_whose_first_frame_is_no_ready_is_not_chatapi(
    connect: Any, scripted: ScriptedServer, client: ChatAPI
) -> None:
    connection = client.connect(min_delay_s=0.001, max_delay_s=0.002)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.open())
        rooms = ['"none"', "[1]", '[{"room_id": "room_a"}]']
        for text in ("hello", '{"type": "ready"}', *(f'{{"type": "ready", "rooms": {bad}}}' for bad in rooms)):
            await (await scripted.session()).say_raw(text)
        session = await scripted.session()
        await session.close(4001)  # nobody has said that this was ChatAPI
        session = await scripted.session()
        await session.say("hello", room_id=7)  # a type that is not known is passed over
        await session.say_ready()
    await connection.close()


async def test_ready_comes_in_parts(connect: Any, scripted: ScriptedServer, client: ChatAPI) -> None:
    connection = client.connect()
    rooms = [{**ROOM, "room_id": f"room_{number}"} for number in range(6)]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.open())
        session = await scripted.session()
        await session.say_ready(rooms=rooms[:2], more=True)
        await session.say("room.created", room_id="room_new", last_seq=0)
        await session.say("ready.rooms", rooms=rooms[2:4], more=True)
        await session.say("ready.rooms", rooms=rooms[4:], more=False)
        await session.complete()
    assert connection.ready["rooms"] == rooms
    assert "more" not in connection.ready
    assert [(await anext(connection))["type"] for _ in range(3)] == ["ready", "room.created", "sync.complete"]
    assert connection.cursors["rooms"] == {**{room["room_id"]: 0 for room in rooms}, "room_new": 0}
    await connection.close()


async def test_an_event_of_a_kind_that_is_not_known_yet_counts(connect: Any, scripted: ScriptedServer) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    await session.say_message(1)
    await session.say("huddle.began", room_id="room_a", seq=2, emoji="+1")
    await session.say("weather", room_id="room_a", wind=3)
    await session.say_message(3)
    assert [(await take(connection, name))["type"] for name in ("message", "huddle.began", "weather", "message")]
    assert scripted.reads == []
    assert connection.cursors["rooms"] == {"room_a": 2}


async def test_a_reset_forgets_the_old_log(connect: Any, scripted: ScriptedServer) -> None:
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


async def test_an_epoch_counts_only_once_the_sync_is_through(connect: Any, scripted: ScriptedServer) -> None:
    connection, session = await connect(cursors={"epoch": "e0", "rooms": {"room_a": 50}})
    await session.hear("sync")
    await session.close()
    session = await scripted.session()
    await session.say_ready()
    sync = await session.hear("sync")
    assert (sync["epoch"], sync["rooms"]) == ("e0", {"room_a": 50})
    assert connection.cursors["epoch"] == "e0"


async def test_reconnect_asks_for_events_after_the_queue(connect: Any, scripted: ScriptedServer) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    await session.say_message(1)
    await session.say_message(2)
    assert await take_seqs(connection, 1) == [1]
    await session.close()
    session = await scripted.session()
    sync = await session.start(room_a=2)
    assert sync["rooms"] == {"room_a": 2}
    await session.say_message(2)
    await session.say_message(3)
    assert await take_seqs(connection, 2) == [2, 3]


async def test_the_shutdown_says_when_to_come_back(connect: Any, scripted: ScriptedServer) -> None:
    connection, session = await connect(min_delay_s=30.0, max_delay_s=30.0)
    await session.complete(room_a=0)
    await session.say("server.shutdown", reconnect_after_ms=200)
    loop = asyncio.get_running_loop()
    gone_at_s = loop.time()
    await session.close(1001)
    await scripted.session()
    assert 0.2 <= loop.time() - gone_at_s < 25.0
    assert (await take(connection, "server.shutdown"))["reconnect_after_ms"] == 200


async def test_a_silent_server_is_left(connect: Any, scripted: ScriptedServer, client: ChatAPI) -> None:
    connection = client.connect(min_delay_s=0.01, max_delay_s=0.05)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.open())
        session = await scripted.session()
        await session.say_ready(heartbeat_seconds=0.1)
    await session.hear("ping")
    await scripted.session()
    assert connection._runner is not None
    assert not connection._runner.cancelling()  # else its timeouts do not work in Debian 12's Python
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


async def test_a_refused_credential_before_ready_ends_it_too(scripted: ScriptedServer, client: ChatAPI) -> None:
    connection = client.connect()
    async with asyncio.TaskGroup() as tasks:
        opening = tasks.create_task(fails(ApiError, connection.open()))
        session = await scripted.session()
        await session.say("error", code="AUTHENTICATION_ERROR", message="No such token")
        await session.close(4001)
    assert opening.result().message == "No such token"


async def test_new_tokens_are_tried_twice_in_a_row(scripted: ScriptedServer) -> None:
    asked = 0

    def get_token() -> str:
        nonlocal asked
        asked += 1
        return f"token-{asked}"

    scripted.refusals = [refusal(401, "AUTHENTICATION_ERROR") for _ in range(10)]
    async with ChatAPI(scripted.url, get_token=get_token) as client:
        with pytest.raises(ApiError) as caught:
            await client.connect(min_delay_s=0.01, max_delay_s=0.05).open()
    assert caught.value.code is Code.AUTHENTICATION_ERROR
    assert asked == scripted.dialled == 3


@pytest.mark.slow
async def test_a_refusal_that_may_pass_is_waited_out(scripted: ScriptedServer, client: ChatAPI) -> None:
    scripted.refusals = [web.Response(status=503), refusal(429, "RATE_LIMIT_EXCEEDED", **{"Retry-After": "1"})]
    loop = asyncio.get_running_loop()
    started_at_s = loop.time()
    connection = client.connect(min_delay_s=0.01, max_delay_s=0.05)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.open())
        await (await scripted.session()).say_ready()
    assert loop.time() - started_at_s >= 1.0
    await connection.close()


async def test_a_handshake_follows_no_redirect(scripted: ScriptedServer, client: ChatAPI) -> None:
    scripted.refusals = [web.Response(status=307, headers={"Location": "/v1/ws?sync=none"})]
    told: list[Any] = []
    connection = client.connect(min_delay_s=0.001, max_delay_s=0.002, on_error=told.append)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.open())
        await (await scripted.session()).say_ready()
    assert [error.http_status for error in told] == [307]
    await connection.close()


async def test_a_wait_can_be_cut_short(scripted: ScriptedServer, client: ChatAPI) -> None:
    scripted.refusals = [web.Response(status=502)]
    waiting = asyncio.Event()

    def on_state(state: str) -> None:
        if state == "waiting":
            waiting.set()
        raise KeyError("of the application's own")

    connection = client.connect(min_delay_s=3600.0, max_delay_s=3600.0, on_state=on_state)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.open())
        await waiting.wait()
        assert isinstance(connection.error, NotChatAPI)
        assert connection.error.http_status == 502
        await connection.resume()
        await (await scripted.session()).say_ready()
    await connection.close()


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_a_refusal_that_will_not_pass_ends_it_and_says_why(
    scripted: ScriptedServer, client: ChatAPI, status: int
) -> None:
    scripted.refusals = [
        web.Response(status=status),
        refusal(status, "AUTHORIZATION_ERROR", "This origin is not allowed"),
    ]
    told: list[Exception] = []
    connection = client.connect(min_delay_s=0.001, max_delay_s=0.002, on_error=told.append)
    error = await fails(ApiError, connection.open())
    assert (error.status, error.message) == (status, "This origin is not allowed")
    assert (connection.state, connection.error) == ("closed", error)
    assert [type(one) for one in told] == [NotChatAPI, ApiError]


async def test_get_token_failures_are_told_and_it_is_asked_again(scripted: ScriptedServer) -> None:
    """Raises, is cancelled, hangs, or returns what is no token, or one that has expired: none of it ends anything."""
    never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    expired = make_jwt(exp=1)
    answers: list[Any] = [LookupError("no session"), asyncio.CancelledError(), never, None, "", 7, b"t"]
    answers += ["a\nb", '"quoted"', "t\u00f6ken", *[expired] * 5, "good"]
    expected = [NoToken] * 8 + [ApiError]  # each once: three strings are refused with the same words
    scripted.refusals = [refusal(401, "AUTHENTICATION_ERROR", f"{number}") for number in range(5)]
    told: list[Exception] = []

    async def get_token() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return await answer if answer is never else answer

    async with ChatAPI(scripted.url, get_token=get_token, timeout_s=0.05) as client:
        connection = client.connect(min_delay_s=0.001, max_delay_s=0.002, on_error=told.append)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(connection.open())
            await (await scripted.session()).say_ready()
        assert connection.error is None
        await connection.close()
    assert answers == []
    assert scripted.dialled == 6
    assert [type(error) for error in told][: len(expected)] == expected
    assert isinstance(told[0].__cause__, LookupError)
    assert "no session" in str(told[0])


async def test_a_closed_connection_stays_closed(connect: Any, client: ChatAPI) -> None:
    connection, _session = await connect()
    await connection.close()
    await connection.close()
    for closed in (connection, client.connect()):
        await closed.close()
        with pytest.raises(Closed):
            await closed.open()


# Rooms that come and go


async def test_a_leaving_that_is_history_ends_nothing(connect: Any, scripted: ScriptedServer) -> None:
    """The user was removed and added again while this device was away, and the log tells of both."""
    connection, session = await connect(ready={"rooms": [{**ROOM, "last_seq": 120}]})
    scripted.log = 120
    scripted.left_at = 50
    await session.complete(room_a=120)
    assert len(await take_seqs(connection, 119)) == 119
    await session.say_message(121)
    assert await take_seqs(connection, 1) == [121]
    assert connection.cursors["rooms"] == {"room_a": 120}
    while (await session.hear("ack"))["seq"] < 120:
        pass


async def test_a_refusal_from_before_the_return_ends_nothing(connect: Any, scripted: ScriptedServer) -> None:
    """The log is asked for, the server refuses, and by then the user has been added again."""
    connection, session = await connect()
    await session.complete(room_a=0)
    scripted.log = 3
    scripted.log_hold = asyncio.Event()
    scripted.log_answers = [refusal(403, "AUTHORIZATION_ERROR")]
    await session.say("sync.gap", room_id="room_a", from_seq=1, to_seq=3)
    await scripted.log_asked.wait()
    await session.say("room.created", room_id="room_a", last_seq=3)
    await take(connection, "room.created")
    scripted.log_hold.set()
    assert await take_seqs(connection, 3) == [1, 2, 3]
    assert (await session.hear("ack"))["seq"] in (2, 3)


async def test_a_room_that_the_server_goes_on_telling_of_is_one_of_the_users(
    connect: Any, scripted: ScriptedServer
) -> None:
    connection, session = await connect()
    scripted.log_answers = [refusal(404, "NOT_FOUND")]
    await session.complete(room_a=3)
    await take(connection, "sync.complete")
    for seq in (4, 5, 6):
        await session.say_message(seq)
    assert await take_seqs(connection, 3) == [4, 5, 6]
    assert (await session.hear("ack"))["seq"] >= 4


async def test_acks_that_the_server_could_not_store_are_sent_again(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a tenant that is held for a move: the refusal does not say which. An ack that has its answer is not
    sent again."""
    monkeypatch.setattr("chatapi.client.session.ACK_RETRY_S", 0.01)
    connection, session = await connect()
    await session.complete(room_a=0)
    await session.say_message(1)
    await session.say_message(2)
    await take_seqs(connection, 2)  # the application has handled the first
    for _ in range(2):
        assert (await session.hear("ack"))["seq"] == 1
        await session.say("error", code="INTERNAL_ERROR", message="held", retry_after_ms=10)
    assert (await session.hear("ack"))["seq"] == 1
    await session.say("ack.received", room_id="room_a", seq=1, user_id="alice")
    await session.say("error", code="INTERNAL_ERROR", message="held")
    await session.say_message(3)
    await take_seqs(connection, 1)
    assert (await session.hear("ack"))["seq"] == 2


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


async def test_a_room_that_is_not_wanted_stays_away_after_a_reconnect(connect: Any, scripted: ScriptedServer) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.unsubscribe("room_a"))
        frame = await session.hear("unsubscribe")
        await session.say_message(1)
        await session.say("unsubscribed", room_id="room_a", request_id=frame["request_id"])
    await session.close()
    session = await scripted.session()
    await session.say_ready(rooms=[{**ROOM, "last_seq": 1}])
    sync = await session.hear_next("sync")
    assert sync["rooms"] == {"room_a": 1}  # nothing of it is streamed again
    await session.say_message(2)
    await session.say_message(3)
    await session.say("typing", room_id="room_a", user_id="bob", action="start")
    await session.say("sync.complete", rooms={"room_a": 3}, request_id=sync["request_id"])
    while (event := await anext(connection))["type"] != "sync.complete" or connection.state != "live":
        assert event["type"] not in ("message", "typing")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.ping())
        assert (await session.hear_next("unsubscribe"))["room_id"] == "room_a"  # said once, when it was heard of
        await _answer_ping(session)


async def _answer_ping(session: ScriptedSession) -> None:
    ping = await session.hear_next("ping")
    await session.say("pong", request_id=ping["request_id"])


async def test_a_pause_and_a_resume(connect: Any, scripted: ScriptedServer) -> None:
    states: list[str] = []
    connection, session = await connect(on_state=states.append)
    await session.complete(room_a=0)
    await take(connection, "sync.complete")
    await connection.pause()
    assert connection.state == "paused"
    await connection.resume()
    await (await scripted.session()).start(room_a=0)
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


@pytest.mark.parametrize("sends", ["send", "stream"])
async def test_typing_is_told_again_after_a_message(connect: Any, sends: str) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)

    async def say_nothing() -> AsyncIterator[str]:
        for text in ():
            yield text

    await connection.typing("room_a")
    async with asyncio.TaskGroup() as tasks:
        content = "Hello" if sends == "send" else say_nothing()
        sending = tasks.create_task(getattr(connection, sends)("room_a", content))
        assert (await session.hear_next("typing.start"))["room_id"] == "room_a"
        await session.hear_next("send_message")
        await connection.typing("room_a")
        assert (await session.hear_next("typing.start", "ping"))["type"] == "typing.start"
        sending.cancel()


def test_a_connection_is_not_open_before_it_is() -> None:
    connection = ChatAPI("http://127.0.0.1", token="t").connect()
    with pytest.raises(Closed):
        _ = connection.ready
    assert connection.cursors == {"epoch": None, "rooms": {}}
