"""What a connection of the Python SDK sends, acknowledges and does for a slow application, against a server of our own
making."""

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
    message,
    run_scripted_server,
    take,
    take_seqs,
)

from chatapi.client import ApiError, ChatAPI, Closed, Connection, outgoing
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


# What is sent


async def test_a_message_without_an_answer_is_sent_again_with_its_id(connect: Any, scripted: ScriptedServer) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(connection.send("room_a", "hello"))
        first = await session.hear("send_message")
        await session.close()
        session = await scripted.session()
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
    monkeypatch.setattr(outgoing, "RETRY_CAP_S", 0.01)
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
        tasks.create_task(refuse("INTERNAL_ERROR", "message.delete", outgoing.ATTEMPTS))
        with pytest.raises(ApiError) as caught:
            await connection.delete("room_a", "msg_1")
        assert caught.value.code is Code.INTERNAL_ERROR


async def test_closing_fails_a_waiting_send_and_ping(connect: Any) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(fails(Closed, connection.send("room_a", "hello", client_message_id="mine")))
        pinging = tasks.create_task(fails(Closed, connection.ping()))
        await session.hear("ping")
        await connection.close()
    assert sending.result().client_message_id == "mine"
    assert pinging.result().client_message_id is None
    assert [event async for event in connection] == []


async def test_a_cancelled_open_leaves_nothing(scripted: ScriptedServer, client: ChatAPI) -> None:
    scripted.refusals = [web.Response(status=503) for _ in range(1000)]
    connection = client.connect(min_delay_s=0.01, max_delay_s=0.01)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await connection.open()
    assert connection.state == "closed"
    assert len(asyncio.all_tasks()) == 1 + sum("aiohttp" in repr(task) for task in asyncio.all_tasks())


async def test_a_long_message_is_tried_over_http_until_it_is_stored(connect: Any, scripted: ScriptedServer) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    scripted.broken_posts = 2
    sent = await connection.send("room_a", '"' * 65_500)
    assert sent["seq"] == 1
    assert scripted.broken_posts == 0


async def test_a_long_message_waits_for_a_resume_and_ends_with_the_connection(
    connect: Any, scripted: ScriptedServer
) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    await connection.pause()
    scripted.broken_posts = 1000
    async with asyncio.TaskGroup() as tasks:
        sends = [
            tasks.create_task(fails(Closed, connection.send("room_a", content, client_message_id=content[:5])))
            for content in ('"' * 65_500, "short")
        ]
        await asyncio.sleep(0.02)  # nothing tells that nothing is sent
        assert scripted.broken_posts == 1000
        await connection.resume()
        while scripted.broken_posts == 1000:  # noqa: ASYNC110 - it is asked of the server
            await asyncio.sleep(0.001)
        await connection.close()
    assert [send.result().client_message_id for send in sends] == ['"' * 5, "short"]


async def test_a_ping_of_the_server_is_answered(connect: Any) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    await session.ping()
    await session.hear_pong()
    assert connection.state == "live"


async def test_a_channel_is_followed_by_the_sync_and_given_up_when_it_is_gone(
    connect: Any, scripted: ScriptedServer
) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.subscribe("channel"))
        asked = await session.hear("subscribe")
        await session.say("subscribed", room_id="channel", last_seq=4, request_id=asked["request_id"])
    await session.close()
    session = await scripted.session()
    await session.say_ready()
    sync = await session.hear_next("sync")
    assert sync["rooms"] == {"channel": 4}
    gone = {"code": "NOT_FOUND", "message": "", "field": "rooms.channel", "request_id": sync["request_id"]}
    await session.say("error", **gone)
    await session.say("sync.complete", rooms={"room_a": 0}, request_id=sync["request_id"])
    await take(connection, "sync.complete")
    await session.close()
    session = await scripted.session()
    assert (await session.start(room_a=0))["rooms"] == {}
    await session.say("room.deleted", room_id="room_a")
    await take(connection, "room.deleted")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fails(Closed, connection.ping()))
        await session.hear_next("ping")
        await connection.close()


async def test_a_subscription_that_is_refused_is_told(connect: Any) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    async with asyncio.TaskGroup() as tasks:
        subscribing = tasks.create_task(fails(ApiError, connection.subscribe("private")))
        asked = await session.hear("subscribe")
        await session.say("error", code="AUTHORIZATION_ERROR", message="", request_id=asked["request_id"])
    assert subscribing.result().status == 403


async def test_a_sync_that_is_refused_for_good_is_tried_on_another_socket(
    connect: Any, scripted: ScriptedServer
) -> None:
    connection, session = await connect()
    asked = await session.hear("sync")
    await session.say("error", code="VALIDATION_ERROR", message="", request_id=asked["request_id"])
    await (await scripted.session()).start(room_a=0)
    await take(connection, "sync.complete")


async def test_call_made_while_offline_waits(connect: Any, scripted: ScriptedServer) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    await connection.pause()
    await connection.typing("room_a")  # lost
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.ping())
        await asyncio.sleep(0)
        await connection.resume()
        session = await scripted.session()
        await session.say_ready()
        asked = await session.hear_next("sync", "ping")
        assert asked["type"] == "sync"
        asked = await session.hear("ping")
        await session.say("pong", request_id=asked["request_id"])


# Acknowledgements


async def test_acks_are_joined_and_only_of_handled_events(connect: Any) -> None:
    connection, session = await connect()
    await session.complete(room_a=0)
    for seq in (1, 2, 3):
        await session.say_message(seq)
    assert await take_seqs(connection, 3) == [1, 2, 3]
    assert await session.hear("ack") == {"type": "ack", "room_id": "room_a", "seq": 2}
    await connection.close()
    assert await session.hear("ack") == {"type": "ack", "room_id": "room_a", "seq": 3}


async def test_rooms_are_acknowledged_together(connect: Any) -> None:
    rooms = [{**ROOM, "room_id": f"room_{number}"} for number in range(2500)]
    connection, session = await connect(ready={"rooms": rooms}, max_pending=10_000)
    await session.complete()
    for room in rooms:
        await session.say("message", **{**message(1), "room_id": room["room_id"]})
    await take_seqs(connection, 2500)
    await session.say("typing", room_id="room_0", user_id="bob", action="start")
    await take(connection, "typing")  # and so the last message is handled
    acked: dict[str, int] = {}
    frames = 0
    while len(acked) < 2500:
        frame = await session.hear_next("ack")
        frames += 1
        assert len(frame.get("rooms", {})) <= 1000
        acked |= frame.get("rooms") or {frame["room_id"]: frame["seq"]}
    assert frames <= 15
    assert set(acked.values()) == {1}


async def test_event_whose_handler_failed_is_not_acknowledged(connect: Any) -> None:
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


# A slow application


async def test_a_slow_application_stops_the_reading_and_the_connection_lives(
    scripted: ScriptedServer, client: ChatAPI
) -> None:
    connection = client.connect(max_pending=5)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.open())
        session = await scripted.session()
        await session.say_ready(heartbeat_seconds=0.2)
    for seq in range(1, 20):
        await session.say_message(seq)
    for _ in range(3):  # past any silence that would end it
        await session.hear("ping")
    assert scripted.reads == []
    assert await take_seqs(connection, 19) == list(range(1, 20))
    assert scripted.reads == []
    assert scripted.dialled == 1
    await connection.close()


async def test_a_slow_application_that_sends_gets_the_answer_and_misses_nothing(
    connect: Any, scripted: ScriptedServer
) -> None:
    connection, session = await connect(max_pending=5)
    await session.complete(room_a=0)
    scripted.log = 30
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
    assert scripted.reads
    assert all(limit <= 5 for _, limit in scripted.reads)


async def _answer(session: ScriptedSession) -> None:
    ping = await session.hear("ping")
    await session.say("pong", request_id=ping["request_id"])


async def test_a_notification_without_space_comes_again(connect: Any, scripted: ScriptedServer) -> None:
    connection, session = await connect(max_pending=2)
    await session.complete(room_a=0)
    for number in range(6):
        await session.say("notification", notification_id=f"n{number}", topic="t", payload=number, created_at="")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_answer(session))
        await connection.ping()
    came: list[int] = []
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_play_notifications_again(scripted))
        while len(came) < 6:
            came.append((await take(connection, "notification"))["payload"])
    assert sorted(came) == list(range(6))


async def _play_notifications_again(scripted: ScriptedServer) -> None:
    session = await scripted.session()
    await session.say_ready()
    for number in range(6):
        await session.say("notification", notification_id=f"n{number}", topic="t", payload=number, created_at="")
    await session.complete(room_a=0)
