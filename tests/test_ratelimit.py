"""The token bucket by itself, and what it does to REST and WebSockets."""

import json
import math

import pytest
from conftest import StartServer
from driver import HandClock, Reply, Server, User
from hypothesis import given
from hypothesis import strategies as st

from chatapi.connection import LIGHT_BURST, LIGHT_RATE_PER_S
from chatapi.protocol.frames import CLIENT_FRAMES, LIGHT_FRAMES
from chatapi.ratelimit import TokenBucket
from chatapi.rest import ROUTES
from chatapi.rest.call import OF_USERS

# The bucket


def test_a_new_bucket_is_full() -> None:
    bucket = TokenBucket(10, 3, now_s=100.0)
    assert bucket.level() == (3, 3, 0.0)
    assert [bucket.take(100.0) for _ in range(4)] == [0, 0, 0, 0.1]
    assert bucket.level() == (3, 0, pytest.approx(0.3))


def test_tokens_flow_in_evenly_up_to_the_burst() -> None:
    bucket = TokenBucket(2, 4, now_s=0.0)
    for _ in range(4):
        bucket.take(0.0)
    assert bucket.take(0.25) == pytest.approx(0.25)
    assert bucket.take(0.5) == 0
    assert bucket.take(1000.0) == 0
    assert bucket.level().remaining == 3


def test_a_refusal_takes_nothing() -> None:
    bucket = TokenBucket(1, 1, now_s=0.0)
    assert bucket.take(0.0) == 0
    assert [bucket.take(0.5) for _ in range(100)] == [0.5] * 100
    assert bucket.take(1.0) == 0


def test_a_clock_that_steps_back_adds_nothing() -> None:
    bucket = TokenBucket(1, 1, now_s=100.0)
    assert bucket.take(100.0) == 0
    assert bucket.take(50.0) > 0
    assert bucket.take(100.5) > 0
    assert bucket.take(101.0) == 0


def test_a_smaller_burst_holds_at_once() -> None:
    bucket = TokenBucket(1, 100, now_s=0.0)
    bucket.burst = 2
    assert [bucket.take(0.0) for _ in range(3)] == [0, 0, 1.0]


STEPS = st.lists(st.floats(0, 10, allow_nan=False), max_size=60)
RATES = st.floats(0.001, 1000)


@given(rate=RATES, burst=st.integers(1, 50), steps=STEPS)
def test_no_more_passes_than_the_burst_and_the_refill(rate: float, burst: int, steps: list[float]) -> None:
    now_s, passed = 0.0, 0
    bucket = TokenBucket(rate, burst, now_s)
    for step in steps:
        now_s += step
        passed += bucket.take(now_s) == 0
        assert passed <= burst + rate * now_s + 1e-6
        limit, remaining, full_after_s = bucket.level()
        assert 0 <= remaining <= limit == burst
        assert 0 <= full_after_s <= burst / rate + 1e-6


@given(rate=RATES, burst=st.integers(1, 50), steps=STEPS)
def test_user_who_waits_as_long_as_told_gets_a_token(rate: float, burst: int, steps: list[float]) -> None:
    now_s = 0.0
    bucket = TokenBucket(rate, burst, now_s)
    for step in steps:
        now_s += step
        wait_s = bucket.take(now_s)
        assert wait_s >= 0
        if wait_s:
            now_s += wait_s * (1 + 1e-9) + 1e-9
            assert bucket.take(now_s) == 0


# REST


def rate_headers(reply: Reply) -> tuple[int, int]:
    return int(reply.headers["X-RateLimit-Limit"]), int(reply.headers["X-RateLimit-Remaining"])


async def test_a_tenant_gets_a_hundred_a_second_by_default(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server({"limits.rate_limit": 100}, clock=clock)
    alice = server.user("alice")
    reply = await alice.get("/rooms")
    assert rate_headers(reply) == (100, 99)
    replies = [await server.user(f"user-{n}").get("/rooms") for n in range(100)]
    assert [found.status for found in replies] == [200] * 99 + [429]
    refusal = replies[-1]
    assert refusal.error["code"] == "RATE_LIMIT_EXCEEDED"
    assert rate_headers(refusal) == (100, 0)
    assert refusal.headers["Retry-After"] == "1"
    full_at_s = clock.now_us() / 1_000_000 + 1
    assert full_at_s <= int(refusal.headers["X-RateLimit-Reset"]) <= full_at_s + 1
    clock.advance(0.02)
    assert [(await alice.get("/rooms")).status for _ in range(3)] == [200, 200, 429]
    clock.advance(1)
    reply = await alice.get("/rooms")
    assert rate_headers(reply) == (100, 99)


async def test_retry_after_is_whole_seconds_and_long_enough(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server({"limits.rate_limit": 0.1, "limits.rate_burst": 1}, clock=clock)
    alice = server.user("alice")
    await alice.get("/rooms")
    clock.advance(0.5)
    wait_s = int((await alice.get("/rooms")).headers["Retry-After"])
    assert wait_s == math.ceil(9.5)
    clock.advance(wait_s - 1)
    assert (await alice.get("/rooms")).status == 429
    clock.advance(1)
    assert (await alice.get("/rooms")).status == 200


async def test_every_answer_to_a_known_caller_carries_the_headers(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    token = (await alice.post("/tokens")).data["token"]
    for reply, status in (
        (await alice.get(f"/rooms/{room_id}"), 200),
        (await alice.post("/rooms", {"type": "x"}), 400),
        (await server.user("eve").get(f"/rooms/{room_id}"), 403),
        (await alice.get("/rooms/room_x"), 404),
        (await alice.delete(f"/rooms/{room_id}"), 204),
        (await server.bearer("alice", token).get("/rooms"), 200),
        (await server.bearer("alice", token).post("/tokens"), 403),
        (await alice.request("POST", "/rooms", b"x" * 300_000), 413),
    ):
        assert reply.status == status
        assert rate_headers(reply)[0] == 100_000


async def test_open_and_admin_routes_take_no_token(start_server: StartServer) -> None:
    server = await start_server({"limits.rate_limit": 1, "limits.rate_burst": 1}, clock=HandClock())
    assert (await server.user("alice").get("/rooms")).status == 200
    for reply, status in (
        (await server.request("GET", "/livez"), 200),
        (await server.request("GET", "/readyz"), 200),
        (await server.request("GET", "/health"), 200),
        (await server.admin("GET", "/tenants"), 200),
        (await server.user("alice").get("/nowhere"), 404),
        (await server.user("alice").put("/rooms", {}), 405),
        (await server.request("GET", "/rooms"), 401),
    ):
        assert reply.status == status
        assert not [name for name in reply.headers if name.startswith("X-RateLimit")]
    assert (await server.user("alice").get("/rooms")).status == 429


async def ask(user: User, method: str, path: str, body: bytes, query: dict[str, str], *, is_pipe: bool) -> Reply:
    """Reads the head of the response alone: some last as long as their connection."""
    headers = {**user.headers, "Content-Type": "text/plain" if is_pipe else "application/json"}
    url = user.server.url + path
    async with user.server.session.request(method, url, data=body or None, headers=headers, params=query) as response:
        return Reply(response.status, response.headers, None)


async def test_every_other_route_takes_one_token(start_server: StartServer) -> None:
    """However much it has to do."""
    server = await start_server({"limits.rate_burst": 1000}, clock=HandClock())
    alice = server.user("alice")
    room_id = await alice.make_room("bob", room_type="channel")
    message_id = (await alice.say(room_id))["message_id"]
    ids = {"room_id": room_id, "message_id": message_id, "user_id": "bob", "emoji": ":ship:"}
    names = {**ids, **dict.fromkeys(("notification_id", "subscription_id", "report_id"), "x")}
    body = {"content": "x", "reason": "x", "seq": 1, "topic": "x", "name": "x", "user_id": "carol", "type": "group"}
    body |= {"room_id": room_id, "payload": 1, "targets": {"user_ids": ["bob"]}, "role": "member"}
    body["state"] = "done"
    routes = [route for route in ROUTES if route.credential in OF_USERS and not route.is_append]
    routes.sort(key=lambda route: (route.method == "DELETE", -len(route.path)))  # the room last
    left = rate_headers(await alice.get("/rooms"))[1]
    for route in routes:
        query = {"q": "x"} if route.path in ("/search", "/users") else {}
        is_pipe = route.path.endswith("/messages/stream")
        sent = b"x" if is_pipe else b"" if route.body is None else json.dumps(body).encode()
        reply = await ask(alice, route.method, route.path.format(**names), sent, query, is_pipe=is_pipe)
        left -= 1
        assert (reply.status in (200, 201, 202, 204, 404, 409, 415), rate_headers(reply)[1]) == (True, left), route.path


async def test_a_tenants_own_figures_hold_from_when_they_are_set(start_server: StartServer) -> None:
    server = await start_server({"limits.rate_limit": 100}, clock=HandClock())
    tenant = await server.make_tenant("own", rate_limit=5, rate_burst=7)
    alice = server.user("alice", tenant["api_key"])
    assert rate_headers(await alice.get("/rooms")) == (7, 6)
    path = f"/tenants/{tenant['tenant_id']}"
    await server.admin("PATCH", path, {"config": {"rate_burst": 3}})
    assert rate_headers(await alice.get("/rooms")) == (3, 2)
    await server.admin("PATCH", path, {"config": {"rate_burst": None}})
    assert rate_headers(await alice.get("/rooms"))[0] == 5  # the burst is the rate in force
    await server.admin("PATCH", path, {"config": {"rate_limit": None}})
    assert rate_headers(await alice.get("/rooms"))[0] == 100


async def test_a_rate_below_one_still_lets_something_pass(start_server: StartServer) -> None:
    server = await start_server({"limits.rate_limit": 0.5}, clock=HandClock())
    assert [(await server.user("a").get("/rooms")).status for _ in range(2)] == [200, 429]


# WebSocket


async def test_frames_and_requests_share_the_tenants_bucket(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server({"limits.rate_limit": 10, "limits.rate_burst": 6}, clock=clock)
    alice = server.user("alice")
    room_id = await alice.make_room()  # 5 left
    socket = await alice.connect()  # 4
    await socket.send("send_message", room_id=room_id, content="1")  # 3
    await socket.send("subscribe", room_id=room_id)  # 2
    await socket.expect("subscribed")
    assert rate_headers(await alice.get("/rooms")) == (6, 1)
    await socket.send("send_message", room_id=room_id, content="2")
    for content in ("1", "2"):
        await socket.expect("message", content=content)
    await socket.send("send_message", room_id=room_id, content="3", request_id="r-1")
    error = await socket.expect("error", request_id="r-1", code="RATE_LIMIT_EXCEEDED")
    assert error["retry_after_ms"] == 100
    assert (await alice.get("/rooms")).status == 429
    clock.advance(0.1)
    await socket.send("send_message", room_id=room_id, content="4")
    assert (await socket.expect("message"))["content"] == "4"  # what was refused had no other effect


async def test_which_frames_take_a_token(start_server: StartServer) -> None:
    server = await start_server({"limits.rate_limit": 1, "limits.rate_burst": 1}, clock=HandClock())
    alice = server.user("alice")
    socket = await alice.connect()
    assert {"ack", "typing.start", "typing.stop", "ping", "notification.ack"} == LIGHT_FRAMES
    for frame_type in CLIENT_FRAMES:
        await socket.send(
            frame_type,
            room_id="room_x",
            content="x",
            seq=1,
            index=1,
            text="x",
            message_id="m",
            notification_id="n",
            request_id=frame_type,
        )
        answer = await socket.next()
        assert answer["request_id"] == frame_type
        is_limited = answer.get("code") == "RATE_LIMIT_EXCEEDED"
        assert is_limited is (frame_type not in LIGHT_FRAMES and frame_type != "message.append"), answer


@pytest.mark.slow
async def test_appends_take_tokens_of_buckets_ten_times_as_large(start_server: StartServer) -> None:
    settings = {"limits.rate_limit": 2, "limits.rate_burst": 6, "limits.user_rate_limit": 1}
    server = await start_server(settings, clock=HandClock())
    alice = server.user("alice")
    token = (await alice.post("/tokens")).data["token"]  # 5 left of the tenant's
    bearer = server.bearer("alice", token)
    room_id = await bearer.make_room()  # 4, and 1 of the user's
    opened = await bearer.say(room_id, "", stream=True)  # 3, and 0
    path = f"/rooms/{room_id}/messages/{opened['message_id']}/append"
    levels = []
    for index in range(1, 21):
        reply = await bearer.post(path, {"index": index, "text": "x"})
        levels.append((reply.status, *(reply.headers[f"X-RateLimit-{name}"] for name in ("Limit", "Remaining"))))
    assert levels == [(200, "20", str(left)) for left in range(19, -1, -1)]
    assert (await bearer.post(path, {"index": 21, "text": "x"})).headers["Retry-After"] == "1"
    socket = await alice.connect()  # 2 of the tenant's; the key's user has no bucket of their own
    for index in range(21, 61):
        await socket.send("message.append", room_id=room_id, message_id=opened["message_id"], index=index, text="x")
    for index in range(21, 61):
        await socket.expect("message.appended", index=index)
    await socket.send(
        "message.append", room_id=room_id, message_id=opened["message_id"], index=61, text="x", request_id="late"
    )
    error = await socket.expect("error", request_id="late", code="RATE_LIMIT_EXCEEDED")
    assert error["retry_after_ms"] == 50
    assert (await alice.get(f"/rooms/{room_id}")).headers["X-RateLimit-Remaining"] == "1"


async def test_a_reconnect_takes_one_token(start_server: StartServer) -> None:
    """The handshake's; the first `sync` under `?sync=none` belongs to it, and making a ticket has paid for it."""
    server = await start_server({"limits.rate_limit": 1, "limits.rate_burst": 3}, clock=HandClock())
    alice = server.user("alice")
    socket = await server.handshake(headers=alice.headers, sync="none")  # 2 left
    await socket.send("sync", rooms={}, request_id="first")
    await socket.expect("sync.complete", request_id="first")
    await socket.send("sync", rooms={}, request_id="second")  # 1
    await socket.expect("sync.complete", request_id="second")
    ticket = (await alice.post("/ws/token")).data["token"]  # 0
    ticketed = await server.handshake(sync="none", token=ticket)
    await ticketed.send("sync", rooms={})
    await ticketed.expect("sync.complete")
    await ticketed.send("sync", rooms={}, request_id="again")
    await ticketed.expect("error", request_id="again", code="RATE_LIMIT_EXCEEDED")


async def test_the_limit_closes_no_connection_and_leaves_deliveries_alone(start_server: StartServer) -> None:
    server = await start_server({"limits.rate_limit": 1, "limits.rate_burst": 5}, clock=HandClock())
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    watcher, socket = await bob.connect(), await alice.connect()
    for n in range(50):
        await socket.send("send_message", room_id=room_id, content=f"{n}")
    for n in range(2):
        await watcher.expect("message", content=f"{n}")
    for _ in range(48):
        await socket.expect("error", code="RATE_LIMIT_EXCEEDED")
    await watcher.expect_nothing("message", "error")


async def test_light_frames_have_a_bucket_for_each_connection(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    watcher, socket, other = await bob.connect(), await alice.connect(), await alice.connect()
    assert (LIGHT_RATE_PER_S, LIGHT_BURST) == (20, 40)
    for _ in range(20):
        await socket.send("typing.start", room_id=room_id)
        await socket.send("typing.stop", room_id=room_id)
    await socket.send("typing.start", room_id=room_id)  # over the burst: dropped, without an answer
    for _ in range(20):
        await watcher.expect("typing", action="start")
        await watcher.expect("typing", action="stop")
    await other.send("typing.start", room_id=room_id)
    await watcher.expect("typing", action="start")
    await socket.send("subscribe", room_id=room_id)
    assert (await socket.next())["type"] == "subscribed"
    await watcher.expect_nothing("typing")


async def test_acks_over_the_limit_are_delayed_not_lost(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    alice = server.user("alice")
    room_id = await alice.make_room()
    for n in range(LIGHT_BURST + 1):
        await alice.say(room_id, f"{n}")
    socket = await alice.connect()
    for seq in range(1, LIGHT_BURST + 2):
        await socket.send("ack", room_id=room_id, seq=seq, request_id=f"{seq}")
    for seq in range(1, LIGHT_BURST + 1):
        await socket.expect("ack.received", request_id=f"{seq}")
    [receipt] = (await alice.get(f"/rooms/{room_id}/receipts")).data["receipts"]
    assert receipt["last_ack"] == LIGHT_BURST
    clock.advance(0.06)
    await socket.expect("ack.received", request_id=f"{LIGHT_BURST + 1}", seq=LIGHT_BURST + 1)
