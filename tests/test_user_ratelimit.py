"""The bucket that users have of their own when they come with a user token."""

import itertools

import pytest
from conftest import StartServer
from driver import HandClock, Reply, Server, User

from chatapi.ratelimit import MAX_USERS, UserBuckets

TENANTS = 1_000
"""The tenant's bucket, much larger than a user's."""

tokens_made = itertools.count(1)


async def start(start_server: StartServer, user_rate: float, **settings: object) -> tuple[Server, HandClock]:
    clock = HandClock()
    limits: dict[str, object] = {"rate_limit": TENANTS, "user_rate_limit": user_rate, **settings}
    server = await start_server({f"limits.{name}": value for name, value in limits.items()}, clock=clock)
    return server, clock


async def make_bearer(server: Server, user_id: str) -> User:
    """By a token that differs from all others of that user."""
    expires_in = 3600 + next(tokens_made)
    reply = await server.user("backend").post("/tokens", {"user_id": user_id, "expires_in": expires_in})
    return server.bearer(user_id, reply.data["token"])


def shown(reply: Reply) -> tuple[int, int]:
    return int(reply.headers["X-RateLimit-Limit"]), int(reply.headers["X-RateLimit-Remaining"])


async def left_of_tenant(server: Server) -> int:
    """What the tenant's bucket has left, after the request that asks."""
    return shown(await server.user("backend").get("/rooms"))[1]


async def test_the_default_is_twenty_a_second_and_twice_that_at_once(start_server: StartServer) -> None:
    server, clock = await start(start_server, 20)
    alice = await make_bearer(server, "alice")
    replies = [await alice.get("/rooms") for _ in range(41)]
    assert [reply.status for reply in replies] == [200] * 40 + [429]
    assert [shown(reply) for reply in (replies[0], replies[39], replies[40])] == [(40, 39), (40, 0), (40, 0)]
    refusal = replies[40]
    assert (refusal.error["code"], refusal.headers["Retry-After"]) == ("RATE_LIMIT_EXCEEDED", "1")
    full_at_s = clock.now_us() / 1_000_000 + 2
    assert full_at_s <= int(refusal.headers["X-RateLimit-Reset"]) <= full_at_s + 1
    clock.advance(0.05)
    assert [(await alice.get("/rooms")).status for _ in range(2)] == [200, 429]


async def test_request_over_the_users_limit_takes_no_token_of_the_tenant(start_server: StartServer) -> None:
    server, _clock = await start(start_server, 1)
    alice = await make_bearer(server, "alice")
    before = await left_of_tenant(server)
    assert [(await alice.get("/rooms")).status for _ in range(10)] == [200, 200] + [429] * 8
    assert await left_of_tenant(server) == before - 2 - 1
    assert (await (await make_bearer(server, "bob")).get("/rooms")).status == 200


async def test_request_over_the_tenants_limit_takes_no_token_of_the_user(start_server: StartServer) -> None:
    server, clock = await start(start_server, 2, rate_limit=1, rate_burst=2)
    alice = await make_bearer(server, "alice")  # 1 of the tenant's left
    replies = [await alice.get("/rooms") for _ in range(6)]
    assert [reply.status for reply in replies] == [200] + [429] * 5
    assert [shown(reply) for reply in replies] == [(2, 0)] * 6
    [tenant] = server.services.tenants.all()
    await server.admin(
        "PATCH", f"/tenants/{tenant.tenant_id}", {"config": {"rate_limit": TENANTS, "rate_burst": TENANTS}}
    )
    clock.advance(0.1)
    assert shown(await alice.get("/rooms")) == (4, 2)


async def test_the_headers_show_the_bucket_with_less_left(start_server: StartServer) -> None:
    server, _clock = await start(start_server, 3, rate_limit=10, rate_burst=8)
    alice = await make_bearer(server, "alice")  # 7 of 8 left, and 6 of the user's 6
    assert shown(await alice.get("/rooms")) == (6, 5)
    for _ in range(3):
        await server.user("backend").get("/rooms")
    assert shown(await alice.get("/rooms")) == (8, 2)


async def test_one_bucket_over_tokens_tickets_and_sockets(start_server: StartServer) -> None:
    server, clock = await start(start_server, 1.5)
    alice, again = await make_bearer(server, "alice"), await make_bearer(server, "alice")
    assert alice.headers != again.headers
    ticket = (await alice.post("/ws/token")).data["token"]  # 2 left
    socket = await server.handshake(token=ticket)  # the ticket has paid for it
    await socket.expect("sync.complete")
    assert shown(await again.get("/rooms")) == (3, 1)
    await socket.send("subscribe", room_id="room_x", request_id="1")  # a refused frame takes its token too
    await socket.expect("error", request_id="1", code="NOT_FOUND")
    for limited in ("2", "3"):
        await socket.send("subscribe", room_id="room_x", request_id=limited)
        error = await socket.expect("error", request_id=limited, code="RATE_LIMIT_EXCEEDED")
        assert error["retry_after_ms"] == pytest.approx(667, abs=1)
    assert (await again.get("/rooms")).status == 429
    with pytest.raises(Exception, match="429"):
        await server.handshake(headers=again.headers)
    await socket.send("ping", request_id="light")
    await socket.expect("pong", request_id="light")
    clock.advance(1)
    await socket.send("subscribe", room_id="room_x", request_id="4")
    await socket.expect("error", request_id="4", code="NOT_FOUND")


async def test_the_api_key_has_the_tenants_bucket_alone(start_server: StartServer) -> None:
    """Its tickets and sockets too."""
    server, _clock = await start(start_server, 1)
    key = server.user("alice")
    assert [shown(await key.get("/rooms")) for _ in range(5)] == [(TENANTS, TENANTS - 1 - n) for n in range(5)]
    ticket = (await key.post("/ws/token")).data["token"]
    socket = await server.handshake(token=ticket)
    for n in range(5):
        await socket.send("subscribe", room_id="room_x", request_id=f"{n}")
        await socket.expect("error", request_id=f"{n}", code="NOT_FOUND")
    bearer = await make_bearer(server, "alice")
    assert shown(await bearer.get("/rooms")) == (2, 1)


async def test_a_tenants_own_figure_holds_from_when_it_is_set(start_server: StartServer) -> None:
    server, _clock = await start(start_server, 20)
    [tenant] = server.services.tenants.all()
    alice = await make_bearer(server, "alice")
    path = f"/tenants/{tenant.tenant_id}"
    assert shown(await alice.get("/rooms")) == (40, 39)
    for rate, limit in ((2, 4), (0.25, 1), (1.2, 3)):
        await server.admin("PATCH", path, {"config": {"user_rate_limit": rate}})
        assert shown(await alice.get("/rooms")) == (limit, limit - 1)
    await server.admin("PATCH", path, {"name": "other"})
    assert shown(await alice.get("/rooms")) == (3, 1)  # a change of something else fills no bucket
    await server.admin("PATCH", path, {"config": {"user_rate_limit": 0}})
    assert shown(await alice.get("/rooms"))[0] == TENANTS
    await server.admin("PATCH", path, {"config": {"user_rate_limit": None}})
    assert shown(await alice.get("/rooms")) == (40, 39)
    for refused in (-1, 1_000_001, "1", True):
        reply = await server.admin("PATCH", path, {"config": {"user_rate_limit": refused}})
        assert (reply.status, reply.error["field"]) == (400, "config.user_rate_limit")


async def test_two_tenants_users_of_one_name_have_a_bucket_each(start_server: StartServer) -> None:
    server, _clock = await start(start_server, 1)
    other = await server.make_tenant("other")
    alice = await make_bearer(server, "alice")
    reply = await server.user("x", other["api_key"]).post("/tokens", {"user_id": "alice"})
    namesake = server.bearer("alice", reply.data["token"])
    assert [(await alice.get("/rooms")).status for _ in range(3)] == [200, 200, 429]
    assert (await namesake.get("/rooms")).status == 200


@pytest.mark.slow
def test_memory_is_bounded_when_very_many_users_come() -> None:
    buckets = UserBuckets(20)
    for n in range(100_000):
        buckets.get(f"user-{n}", now_s=0.0).take(0.0)
    assert len(buckets) == MAX_USERS
    for n in range(30_000):  # users who come a second later find full buckets, which are forgotten
        buckets.get(f"other-{n}", now_s=1.0 + n / 10_000).take(1.0 + n / 10_000)
    assert len(buckets) < 2_000


def test_a_bucket_in_use_is_not_forgotten() -> None:
    buckets = UserBuckets(0.001)
    buckets.get("busy", 0.0).take(0.0)
    for n in range(2 * MAX_USERS):
        buckets.get(f"user-{n}", 0.0).take(0.0)
        if n % 1_000 == 0:
            buckets.get("busy", 0.0)
    assert buckets.get("busy", 0.0).level().remaining == 0
