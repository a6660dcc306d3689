"""`POST /dev/clock`: everything that waits for its time follows, in order, and nothing that guards against peers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import jwt
import pytest
from conftest import StartServer
from driver import Server, eventually
from receiver import Receiver, answer

from chatapi.dev_clock import DevClock

HOUR = 3600
DAY = 86_400


@pytest.fixture
async def server(start_server: StartServer) -> Server:
    server = await start_server({"websocket.presence_grace_seconds": 30, "websocket.typing_seconds": 5}, dev=True)
    key = server.services.tenants.dev_key
    assert key is not None
    server.api_key = key
    return server


async def dev(server: Server, method: str, path: str, body: object = None) -> Any:
    reply = await server.request(method, f"/dev{path}", body, headers={"X-Master-Key": server.master_key})
    return reply.body and reply.data


async def advance(server: Server, seconds: float) -> None:
    await dev(server, "POST", "/clock", {"advance": seconds})


# What clients are promised


async def test_rules_that_end(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob", "carol")
    await alice.patch(f"/rooms/{room_id}/members/bob", {"muted_for": HOUR})
    await alice.put(f"/rooms/{room_id}/bans/carol", {"expires_in": HOUR})
    assert (await bob.post(f"/rooms/{room_id}/messages", {"content": "x"})).status == 403
    assert (await alice.post(f"/rooms/{room_id}/members", {"user_id": "carol"})).status == 409
    await advance(server, HOUR - 5)
    assert (await bob.post(f"/rooms/{room_id}/messages", {"content": "x"})).status == 403
    await advance(server, 6)
    assert (await bob.post(f"/rooms/{room_id}/messages", {"content": "x"})).status == 201
    assert (await alice.post(f"/rooms/{room_id}/members", {"user_id": "carol"})).status == 201
    await alice.patch(f"/rooms/{room_id}", {"slow_mode_seconds": 60})
    assert (await bob.post(f"/rooms/{room_id}/messages", {"content": "y"})).status == 429
    await advance(server, 61)
    assert (await bob.post(f"/rooms/{room_id}/messages", {"content": "y"})).status == 201


async def test_typing_and_presence_in_order(server: Server) -> None:
    alice, bob, carol = server.user("alice"), server.user("bob"), server.user("carol")
    room_id = await alice.make_room("bob", "carol")
    watching, typing, leaving = await alice.connect(), await bob.connect(), await carol.connect()
    await advance(server, 1)
    await typing.send("typing.start", room_id=room_id)
    await watching.expect("typing", user_id="bob", action="start")
    await leaving.close()
    await eventually(lambda: len(server.services.hub.connections) == 2)
    await advance(server, 60)
    await watching.send("ping", request_id="now")
    seen = []
    while (frame := await watching.next_of_any_type()).get("request_id") != "now":
        seen.append((frame["type"], frame["user_id"], frame.get("status") or frame.get("action")))
    assert seen == [("typing", "bob", "stop"), ("presence.update", "carol", "offline")]


async def test_a_stream_that_nobody_writes_fails(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    watching = await server.user("bob").connect()
    await alice.post(f"/rooms/{room_id}/messages", {"content": "so far", "stream": True})
    await watching.expect("message")
    await advance(server, 120)
    assert (await watching.expect("message.finished"))["stream"] == {"state": "failed"}


async def test_tokens_tickets_and_buckets(server: Server) -> None:
    alice = server.user("alice")
    minted = (await alice.post("/tokens", {"user_id": "bob", "expires_in": HOUR})).data["token"]
    bob = server.bearer("bob", minted)
    by_token, by_key = await bob.connect(), await alice.connect()
    ticket = (await alice.post("/ws/token")).data["token"]
    await advance(server, HOUR + 1)
    assert await by_token.close_code() == 4001
    assert (await bob.get("/rooms")).status == 401
    await by_key.send("ping", request_id="there")
    await by_key.answer_to("there")
    late = await server.handshake(token=ticket)
    assert await late.close_code() == 4001
    # A new token holds by the advanced clock.
    minted = (await alice.post("/tokens", {"user_id": "bob", "expires_in": HOUR})).data["token"]
    assert (await server.bearer("bob", minted).get("/rooms")).status == 200
    assert jwt.decode(minted, options={"verify_signature": False})["exp"] > server.services.clock.now_us() / 1e6
    # The bucket is full again after a second.
    limited = await server.make_tenant("limited", rate_limit=2)
    dora = server.user("dora", limited["api_key"])
    assert [(await dora.get("/rooms")).status for _ in range(4)][2:] == [429, 429]
    await advance(server, 1)
    assert (await dora.get("/rooms")).status == 200


@pytest.mark.slow
async def test_messages_that_are_kept_for_days(server: Server) -> None:
    made = await server.make_tenant("short", retention_days=1)
    alice = server.user("alice", made["api_key"])
    room_id = await alice.make_room("bob")
    await alice.say(room_id, "old")
    await advance(server, DAY / 2)
    await alice.say(room_id, "newer")
    assert len((await alice.get(f"/rooms/{room_id}/messages")).data["messages"]) == 2
    await advance(server, DAY / 2 + 120)
    [left] = (await alice.get(f"/rooms/{room_id}/messages")).data["messages"]
    assert left["content"] == "newer"


async def test_a_long_poll_ends_with_its_time(server: Server) -> None:
    alice = server.user("alice")
    await alice.make_room("bob")
    cursors = (await alice.post("/sync", {})).data["rooms"]
    waiting = asyncio.create_task(alice.post("/sync", {"rooms": cursors, "wait": 60}))
    await eventually(lambda: server.services.hub.connections)
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await advance(server, 60)
    assert (await waiting).data["events"] == []


@pytest.mark.slow
async def test_webhooks_are_tried_again(server: Server, receiver: Receiver) -> None:
    receiver.behave = answer(500)
    tenant_id = server.services.tenants.get("tenant_dev").tenant_id
    await server.admin("PATCH", f"/tenants/{tenant_id}", {"config": {"webhook_url": receiver.url}})
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    await alice.say(room_id, "are you there?")
    await receiver.wait_for(1)
    schedule = server.services.config.webhooks.retry_schedule_seconds
    await advance(server, 2 * sum(schedule))
    assert len(receiver.calls) == len(schedule)
    dead = (await server.admin("GET", "/dead-letters")).data["failed_messages"]
    assert len(dead) == 1


# What it leaves alone


@pytest.mark.slow
async def test_nobody_is_cut_off_for_a_silence_that_did_not_happen(server: Server) -> None:
    socket = await server.user("alice").connect()
    stream = await server.user("alice").stream()
    await advance(server, 10 * DAY)
    await socket.send("ping", request_id="there")
    await socket.answer_to("there")
    room_id = await server.user("alice").make_room("bob")
    await stream.expect("room.created", room_id=room_id)


# The clock itself


async def test_timers_are_called_in_order_and_at_their_time() -> None:
    clock, called = DevClock(), []
    began_s = clock.monotonic_s()

    def note(name: str) -> None:
        called.append((name, round(clock.monotonic_s() - began_s, 1)))
        if name == "first":
            clock.call_later(0.5, note, "begun by the first")

    for seconds, name in (
        (3, "third"),
        (1, "first"),
        (2, "second"),
        (3.02, "fifth"),
        (3.01, "fourth"),
        (100, "last"),
    ):
        clock.call_later(seconds, note, name)
    clock.call_later(2, note, "cancelled").cancel()
    await clock.advance(10)
    assert called[:4] == [("first", 1.0), ("begun by the first", 1.5), ("second", 2.0), ("third", 3.0)]
    assert [name for name, _ in called[4:]] == ["fourth", "fifth"]  # in one step
    await clock.go_back()
    assert clock.advanced_s == 0


async def test_timers_go_on_for_the_time_left_when_the_clock_goes_back() -> None:
    """Else those of the world before a reset would keep it in memory, for as long as the clock was ahead."""
    clock, called = DevClock(), asyncio.Event()
    await clock.advance(24 * HOUR)
    clock.call_later(0.01, called.set)
    sleeping = asyncio.ensure_future(clock.sleep(0.01))
    await asyncio.sleep(0)
    await clock.go_back()
    async with asyncio.timeout(5):
        await called.wait()
        await sleeping


@pytest.mark.parametrize("wait", [lambda clock: clock.sleep(HOUR), lambda clock: time_out(clock)])
async def test_those_who_sleep_wake_up(wait: Callable[[DevClock], Awaitable[None]]) -> None:
    clock = DevClock()
    waiting = asyncio.ensure_future(wait(clock))
    await clock.advance(HOUR - 1)
    assert not waiting.done()
    await clock.advance(2)
    assert waiting.done()


async def time_out(clock: DevClock) -> None:
    with pytest.raises(TimeoutError):
        async with clock.timeout(HOUR):
            await asyncio.Event().wait()


async def test_timers_that_nobody_waits_for_do_not_pile_up() -> None:
    clock = DevClock()
    for _ in range(10_000):
        clock.call_later(HOUR, print).cancel()
    assert len(clock._timers) < 3_000


async def test_ten_years_are_few_steps() -> None:
    clock, rounds = DevClock(), 0

    async def repeat() -> None:
        nonlocal rounds
        while True:
            await clock.sleep(1)
            rounds += 1

    repeating = asyncio.ensure_future(repeat())
    await clock.advance(10 * 365 * DAY)
    assert 100 < rounds < 1_000
    repeating.cancel()
