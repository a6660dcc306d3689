"""Bans of users from their whole tenant."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from conftest import StartServer
from driver import HandClock, Server, Socket, User, restart
from hooked import QUICK, hook
from receiver import Receiver, answer

from chatapi.housekeeping import purge_deleted

BAN = "/users/bob/ban"


async def make_bearer(server: Server, user_id: str) -> User:
    return server.bearer(user_id, (await server.user("backend").post("/tokens", {"user_id": user_id})).data["token"])


def assert_banned(error: dict[str, Any], until: str | None = None) -> None:
    assert (error["code"], error["details"]) == ("AUTHORIZATION_ERROR", {"banned_until": until})


async def expect_closed(socket: Socket, until: str | None = None) -> None:
    assert_banned(await socket.expect("error"), until)
    assert await socket.close_code() == 4003


async def test_a_ban_is_set_replaced_shown_and_ended(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    backend = server.user("backend")
    assert (await backend.get(BAN)).status == 404
    forever = {"user_id": "bob", "reason": None, "banned_until": None}
    assert (await backend.request("PUT", BAN)).data == forever  # the body may be absent
    assert (await backend.put(BAN, {})).data == forever == (await backend.get(BAN)).data
    timed = (await backend.put(BAN, {"reason": "spam", "expires_in": 60})).data
    assert (timed["reason"], timed["banned_until"] > "2020") == ("spam", True)
    assert (await backend.get(BAN)).data == timed
    clock.advance(59.9)
    assert_banned((await server.user("bob").get("/rooms")).error, timed["banned_until"])
    clock.advance(0.2)
    assert (await backend.get(BAN)).status == 404
    assert (await server.user("bob").get("/rooms")).status == 200
    await backend.put(BAN, {"reason": "again"})
    assert [(await backend.delete(BAN)).status for _ in range(2)] == [204, 204]
    assert (await backend.get(BAN)).status == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"reason": "x" * 501}, "reason"),
        ({"reason": 1}, "reason"),
        ({"expires_in": 0}, "expires_in"),
        ({"expires_in": 31_536_001}, "expires_in"),
        ({"expires_in": 1.5}, "expires_in"),
    ],
)
async def test_the_bounds_of_a_ban(shared_server: Server, body: dict[str, object], field: str) -> None:
    backend = shared_server.user("backend")
    reply = await backend.put(BAN, body)
    assert (reply.status, reply.error["field"]) == (400, field)
    assert (await backend.get(BAN)).status == 404
    for right in ({"reason": "x" * 500}, {"reason": None}, {"expires_in": 1}, {"expires_in": 31_536_000}):
        assert (await backend.put(BAN, right)).status == 200
    reply = await backend.put("/users/a%20b/ban", {})
    assert (reply.status, reply.error["field"]) == (400, "user_id")


async def test_everything_else_is_refused(shared_server: Server) -> None:
    bob, key = await make_bearer(shared_server, "bob"), shared_server.user("bob")
    room_id = await key.make_room("carol")
    channel = await shared_server.user("carol").make_room(room_type="channel")
    await shared_server.user("backend").put(BAN, {})
    for user in (bob, key):
        for method, path, body in (
            ("GET", "/rooms", None),
            ("POST", "/rooms", {"type": "group"}),
            ("GET", f"/rooms/{channel}/messages", None),
            ("POST", f"/rooms/{room_id}/messages", {"content": "x"}),
            ("POST", f"/rooms/{channel}/members", {"user_id": "bob"}),
            ("DELETE", f"/rooms/{room_id}/members/bob", None),
            ("PUT", "/users/bob", {"name": "B"}),
            ("GET", "/users/carol", None),
            ("GET", "/notifications", None),
            ("POST", "/acks", {"rooms": {room_id: 1}}),
            ("POST", "/ws/token", {}),
            ("GET", "/nowhere", None),
        ):
            reply = await user.request(method, path, body)
            if path == "/nowhere":
                assert reply.status == 404
            else:
                assert_banned(reply.error)
    assert_banned((await bob.post("/tokens", {})).error)
    # On routes for the API key the user id only names who acts.
    assert (await key.post("/tokens", {})).status == 201
    assert (await key.get(BAN)).status == 200
    members = (await shared_server.user("carol").get(f"/rooms/{room_id}/members")).data["members"]
    assert {member["user_id"]: member["role"] for member in members}["bob"] == "admin"  # memberships stay
    assert (await key.delete(BAN)).status == 204
    assert (await bob.get("/rooms")).data["rooms"][0]["room_id"] == room_id


async def test_open_sockets_close_and_others_stay(shared_server: Server) -> None:
    bob, token = shared_server.user("bob"), await make_bearer(shared_server, "bob")
    room_id = await bob.make_room("carol")
    sockets = [await bob.connect(), await token.connect(), await bob.connect(sync="none", ready=False)]
    carol = await shared_server.user("carol").connect()
    namesake = shared_server.user("bob", (await shared_server.make_tenant("other"))["api_key"])
    elsewhere = await namesake.connect()
    until = (await shared_server.user("backend").put(BAN, {"expires_in": 100})).data["banned_until"]
    for socket in sockets:
        await expect_closed(socket, until)
    await shared_server.user("carol").say(room_id)
    await carol.expect("message")
    await elsewhere.expect_nothing("error")


async def test_handshakes_are_refused(shared_server: Server) -> None:
    bob = shared_server.user("bob")
    token = (await bob.post("/tokens")).data["token"]
    ticket = (await bob.post("/ws/token")).data["token"]
    await shared_server.user("backend").put(BAN, {})
    for headers in (bob.headers, {"Authorization": f"Bearer {token}"}):
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await shared_server.handshake(headers=headers)
        assert_banned((await shared_server.refused_handshake(headers=headers)).error)
    await expect_closed(await shared_server.handshake(protocols=("chatapi.v1", f"bearer.{token}")))
    await expect_closed(await shared_server.handshake(token=token))
    await expect_closed(await shared_server.handshake(token=ticket))
    await shared_server.user("backend").delete(BAN)
    await (await shared_server.handshake(token=ticket)).expect("ready")  # it holds again
    await (await shared_server.handshake(token=token)).expect("ready")


async def test_a_banned_handshake_takes_its_token(start_server: StartServer) -> None:
    server = await start_server({"limits.rate_limit": 1, "limits.rate_burst": 3}, clock=HandClock())
    bob = server.user("bob")
    await server.user("backend").put(BAN, {})
    statuses = [(await server.refused_handshake(headers=bob.headers)).status for _ in range(3)]
    assert statuses == [403, 403, 429]


async def test_writes_that_wait_are_refused(server: Server) -> None:
    bob, backend, carol = server.user("bob"), server.user("backend"), server.user("carol")
    room_id = await bob.make_room("carol")
    channel = await carol.make_room(room_type="channel")
    message = (await bob.say(room_id))["message_id"]
    path = f"/rooms/{room_id}/messages"
    replies = await server.together(
        backend.put(BAN, {}),
        bob.post(path, {"content": "late"}),
        bob.put(f"{path}/{message}", {"content": "late"}),
        bob.delete(f"{path}/{message}"),
        bob.put(f"{path}/{message}/reactions/x", None),
        bob.patch(f"/rooms/{room_id}", {"name": "late"}),
        bob.post("/rooms", {"type": "group"}),
        bob.post(f"/rooms/{channel}/members", {"user_id": "bob"}),
        bob.delete(f"/rooms/{room_id}/members/bob"),
        bob.put("/users/bob", {"name": "late"}),
    )
    assert replies[0].status == 200
    for reply in replies[1:]:
        assert_banned(reply.error)
    events = (await carol.get(f"/rooms/{room_id}/events")).data["events"]
    assert [(event["type"], event.get("user_id")) for event in events] == [
        ("message", None),
        ("member.updated", "carol"),
    ]


async def test_frames_that_wait_are_refused(server: Server) -> None:
    bob, backend = server.user("bob"), server.user("backend")
    room_id = await bob.make_room("carol")
    carol, socket = await server.user("carol").connect(), await bob.connect()

    async def send() -> Any:
        await socket.send("send_message", room_id=room_id, content="late", request_id="late")
        await socket.expect("error")
        return None

    await server.together(backend.put(BAN, {}), send())
    assert await socket.close_code() == 4003
    await carol.expect_nothing("message")


async def test_no_message_offline_meanwhile(start_server: StartServer, receiver: Receiver) -> None:
    server = await start_server({**QUICK, "webhooks.retry_schedule_seconds": [0, 0.3, 0.3]})
    hooked = await hook(server, receiver.url)
    alice, backend = hooked.user("alice"), hooked.user("backend")
    small = await alice.make_room("bob", "carol")
    large = await alice.make_room("bob", *(f"u{n}" for n in range(30)))
    receiver.behave = answer(503)
    await alice.say(small, "early")
    await receiver.wait_for(2)
    await backend.put(BAN, {})  # while both calls wait for their next try
    receiver.behave = answer(204)
    for room_id in (small, large):
        await alice.say(room_id, "late")
    await alice.post("/notify", {"topic": "t", "payload": 1, "targets": {"user_ids": ["bob"]}})
    await hooked.is_settled()
    told = [(call.event["type"], call.user_id) for call in receiver.calls[2:]]
    assert sorted(told) == [
        ("message.offline", "carol"),
        ("message.offline", "carol"),
        *sorted(("message.offline", f"u{n}") for n in range(30)),
        ("notification.offline", "bob"),
    ]
    assert server.services.webhooks.dropped == 1
    await backend.delete(BAN)
    await alice.say(small, "after")
    await hooked.is_settled()
    assert "bob" in [call.user_id for call in receiver.calls[-2:]]


# Admins


async def roles_of(user: User, room_id: str) -> dict[str, str]:
    members = (await user.get(f"/rooms/{room_id}/members")).data["members"]
    return {member["user_id"]: member["role"] for member in members}


async def test_the_longest_standing_other_member_takes_over(shared_server: Server) -> None:
    bob, backend, carol = shared_server.user("bob"), shared_server.user("backend"), shared_server.user("carol")
    alone, shared = await bob.make_room(), await bob.make_room("carol", "dave")
    for user_id in ("zoe", "carol"):
        await bob.post(f"/rooms/{alone}/members", {"user_id": user_id})
    await bob.patch(f"/rooms/{shared}/members/dave", {"role": "admin"})
    empty = await bob.make_room()
    dm = await bob.make_room("carol", room_type="dm")
    socket = await carol.connect()
    await backend.put(BAN, {})
    await socket.expect("member.updated", room_id=alone, user_id="zoe", role="admin")
    assert await roles_of(carol, alone) == {"bob": "admin", "zoe": "admin", "carol": "member"}
    assert await roles_of(carol, shared) == {"bob": "admin", "carol": "member", "dave": "admin"}
    assert await roles_of(carol, dm) == {"bob": "member", "carol": "member"}
    await backend.put(BAN, {"reason": "again"})
    assert (await roles_of(carol, alone))["carol"] == "member"
    await backend.delete(BAN)
    assert await roles_of(bob, empty) == {"bob": "admin"}


async def test_banned_users_take_over_nothing(shared_server: Server) -> None:
    backend, bob, carol = shared_server.user("backend"), shared_server.user("bob"), shared_server.user("carol")
    room_id = await bob.make_room()
    for user_id in ("zoe", "yan", "carol"):
        await bob.post(f"/rooms/{room_id}/members", {"user_id": user_id})
    await backend.put("/users/zoe/ban", {})
    await backend.put(BAN, {})
    assert await roles_of(carol, room_id) == {"bob": "admin", "zoe": "member", "yan": "admin", "carol": "member"}
    await backend.put("/users/yan/ban", {})  # all other admins are banned by now
    assert (await roles_of(carol, room_id))["carol"] == "admin"
    other = await carol.make_room()
    for user_id in ("zoe", "dave"):
        await carol.post(f"/rooms/{other}/members", {"user_id": user_id})
    await carol.delete(f"/rooms/{other}/members/carol")
    assert await roles_of(shared_server.user("dave"), other) == {"zoe": "member", "dave": "admin"}


async def test_takeovers_that_a_crash_left_out_come_at_the_next_start(
    start_server: StartServer, server: Server
) -> None:
    bob, carol = server.user("bob"), server.user("carol")
    room_id = await bob.make_room("carol")
    membership = server.services.membership

    async def crash(*_: object) -> None:
        raise asyncio.CancelledError

    object.__setattr__(membership, "replace_banned_admin", crash)
    await server.user("backend").put(BAN, {})
    assert (await roles_of(carol, room_id))["carol"] == "member"
    server = await restart(start_server, server)
    carol = server.user("carol")
    assert_banned((await server.user("bob").get("/rooms")).error)

    async def is_admin() -> bool:
        return (await roles_of(carol, room_id))["carol"] == "admin"

    async with asyncio.timeout(10):
        while not await is_admin():
            pass


async def test_bans_outlive_the_server_and_end_with_the_tenant(
    start_server: StartServer, server: Server, database: Path
) -> None:
    tenant = await server.make_tenant("other")
    theirs = server.user("backend", tenant["api_key"])
    await server.user("backend").put(BAN, {"reason": "rude"})
    await server.user("backend").put(BAN, {"reason": "spam", "expires_in": 1000})
    shown = (await server.user("backend").get(BAN)).data
    await theirs.put(BAN, {})
    server = await restart(start_server, server)
    assert (await server.user("backend").get(BAN)).data == shown
    assert_banned((await server.user("bob").get("/rooms")).error, shown["banned_until"])
    await server.admin("DELETE", f"/tenants/{tenant['tenant_id']}")
    await purge_deleted(server.services)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT user_id, reason FROM user_bans").fetchall() == [("bob", "spam")]


async def test_bans_that_have_ended_are_forgotten(start_server: StartServer, database: Path) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    backend = server.user("backend")
    for n in range(5):
        await backend.put(f"/users/u{n}/ban", {"expires_in": 10})
    clock.advance(11)
    await backend.put(BAN, {})
    [tenant] = server.services.tenants.all()
    assert tenant.bans is not None
    assert list(tenant.bans._bans) == ["bob"]
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT user_id FROM user_bans").fetchall() == [("bob",)]


async def test_another_tenants_user_of_that_name_is_another_one(shared_server: Server) -> None:
    other = await shared_server.make_tenant("other")
    await shared_server.user("backend").put(BAN, {})
    namesake = shared_server.user("bob", other["api_key"])
    assert (await namesake.get("/rooms")).status == 200
    assert (await namesake.get(BAN)).status == 404
