"""An acknowledgement of many rooms in one call: each judged on its own, and told to those concerned."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from conftest import StartServer
from driver import HandClock, Server, Socket, User

from chatapi import receipts
from chatapi.connection import LIGHT_BURST
from chatapi.models import RoomType
from chatapi.protocol.requests import MAX_ACKED_ROOMS, CreateRoom


async def make_rooms(user: User, count: int, *members: str) -> list[str]:
    """Rooms of this user, not over HTTP, which would take a second."""
    services = user.server.services
    principal = services.auth.authenticate_key(user.headers["X-API-Key"], user.user_id, "test")
    body = CreateRoom(RoomType.GROUP, list(members))
    async with asyncio.TaskGroup() as group:
        made = [group.create_task(services.membership.create_room(principal, body)) for _ in range(count)]
    return [str(room.result().room_id) for room in made]


class Outcome:
    """What one acknowledgement of many came to, over either transport."""

    def __init__(self) -> None:
        self.rooms: dict[str, int] = {}
        self.errors: dict[str, dict[str, Any]] = {}


async def ack_over_rest(user: User, rooms: dict[str, Any]) -> Outcome:
    outcome = Outcome()
    reply = await user.post("/acks", {"rooms": rooms})
    assert reply.status == 200
    outcome.rooms, outcome.errors = reply.data["rooms"], reply.data["errors"]
    return outcome


async def ack_over_websocket(user: User, rooms: dict[str, Any]) -> Outcome:
    outcome = Outcome()
    socket = await user.connect(sync="none", ready=False)
    await socket.expect("ready")
    await socket.send("ack", rooms=rooms, request_id="all")
    while len(outcome.rooms) + len(outcome.errors) < len(rooms):
        frame = await socket.next()
        assert frame.pop("request_id") == "all"
        if frame.pop("type") == "ack.received":
            assert frame["user_id"] == user.user_id
            outcome.rooms[frame["room_id"]] = frame["seq"]
        else:
            outcome.errors[frame["field"].removeprefix("rooms.")] = frame
    await socket.close()
    return outcome


Acknowledge = Callable[[User, dict[str, Any]], Awaitable[Outcome]]
BOTH = pytest.mark.parametrize("acknowledge", [ack_over_rest, ack_over_websocket], ids=["rest", "websocket"])


async def read_standings(user: User) -> dict[str, int]:
    return {room["room_id"]: room["last_ack"] for room in (await user.get("/rooms")).data["rooms"]}


@BOTH
async def test_each_room_is_judged_on_its_own(server: Server, acknowledge: Acknowledge) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    good, ahead, behind, negative, text, truth, fraction, nothing = await make_rooms(alice, 8, "bob")
    [closed] = await make_rooms(alice, 1)
    other = await server.make_tenant("other")
    [foreign] = await make_rooms(server.user("bob", other["api_key"]), 1)
    for _ in range(3):
        await alice.say(good)
        await alice.say(behind)
    await bob.post("/acks", {"room_id": behind, "seq": 3})
    wrong: dict[str, Any] = {negative: -1, text: "1", truth: True, fraction: 0.0, nothing: None}
    outcome = await acknowledge(
        bob, {ahead: 1, **wrong, closed: 0, foreign: 0, "room_of_nobody": 0, "": 0, good: 2, behind: 1}
    )
    assert outcome.rooms == {good: 2, behind: 3}
    codes = {room_id: error["code"] for room_id, error in outcome.errors.items()}
    refused = {foreign: "NOT_FOUND", "room_of_nobody": "NOT_FOUND", "": "NOT_FOUND", closed: "AUTHORIZATION_ERROR"}
    assert codes == {**dict.fromkeys([ahead, *wrong], "VALIDATION_ERROR"), **refused}
    assert all(error["field"] == f"rooms.{room_id}" for room_id, error in outcome.errors.items())
    standings = await read_standings(bob)
    assert standings == {good: 2, behind: 3, **dict.fromkeys([ahead, *wrong], 0)}


FORMS: list[tuple[dict[str, Any], str]] = [
    ({}, "room_id"),
    ({"seq": 0}, "room_id"),
    ({"room_id": "ROOM"}, "seq"),
    ({"room_id": "ROOM", "seq": 0, "rooms": {"ROOM": 0}}, "rooms"),
    ({"seq": 0, "rooms": {"ROOM": 0}}, "rooms"),
    ({"room_id": "ROOM", "rooms": {}}, "rooms"),
    ({"rooms": ["ROOM"]}, "rooms"),
    ({"rooms": None}, "rooms"),
    ({"rooms": {f"room_{number}": 0 for number in range(MAX_ACKED_ROOMS + 1)}}, "rooms"),
]


async def test_it_has_exactly_one_of_two_forms(server: Server) -> None:
    bob = server.user("bob")
    [room_id] = await make_rooms(bob, 1)
    socket = await bob.connect()
    for form, field in FORMS:
        body = {name: room_id if value == "ROOM" else value for name, value in form.items()}
        reply = await bob.post("/acks", body)
        assert (reply.status, reply.error["code"], reply.error["field"]) == (400, "VALIDATION_ERROR", field), form
        await socket.send("ack", **body, request_id="r")
        frame = await socket.next()
        assert (frame["type"], frame["field"], frame["request_id"]) == ("error", field, "r"), form
    assert (await bob.post("/acks", {"rooms": {}})).data == {"rooms": {}, "errors": {}}
    await socket.websocket.send_json({"type": "ack", "data": {"rooms": {room_id: 0}}})
    await socket.expect("ack.received", room_id=room_id, seq=0)


async def test_others_are_told_as_of_single_ones(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when there are more to tell than in one turn of the loop."""
    monkeypatch.setattr(receipts, "TOLD_AT_A_STRETCH", 2)
    alice, bob = server.user("alice"), server.user("bob")
    rooms = await make_rooms(alice, 7, "bob", "carol")
    for room_id in rooms:
        await alice.say(room_id)
    witness, unconcerned = await alice.connect(), await server.user("dave").connect()
    requester, device = await bob.connect(), await bob.connect()
    # One who merely reads is told nothing, and no member of what it has turned away from.
    await witness.send("unsubscribe", room_id=rooms[0])
    await witness.expect("unsubscribed")
    await requester.send("ack", rooms=dict.fromkeys(rooms, 1))
    for socket, concerned in ((requester, rooms), (device, rooms), (witness, rooms[1:])):
        told = [(await socket.expect("ack.received", user_id="bob", seq=1))["room_id"] for _ in concerned]
        assert sorted(told) == sorted(concerned)
        await socket.expect_nothing("ack.received")
    await unconcerned.expect_nothing("ack.received")


async def test_it_is_durable_and_takes_one_token(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server({"limits.rate_limit": 100}, clock=clock)
    bob = server.user("bob")
    rooms = await make_rooms(bob, 50)
    for room_id in rooms:
        await bob.say(room_id)
    clock.advance(60)
    reply = await bob.post("/acks", {"rooms": dict.fromkeys(rooms, 1)})
    assert reply.headers["X-RateLimit-Remaining"] == "99"
    socket = await bob.connect(sync="none", ready=False)
    await socket.expect("ready")
    await socket.send("ack", rooms=dict.fromkeys(rooms, 1))
    for _ in rooms:
        await socket.expect("ack.received", seq=1)
    [connection] = server.connections_of("bob")
    assert connection.light_bucket is not None
    assert connection.light_bucket.level().remaining == LIGHT_BURST - 1
    await socket.close()
    await server.app.close()
    server = await start_server({"limits.rate_limit": 100}, clock=clock)
    assert await read_standings(server.user("bob")) == dict.fromkeys(rooms, 1)


@pytest.mark.slow
async def test_a_thousand_rooms_that_nobody_had_loaded_are_a_few_queries(start_server: StartServer) -> None:
    server = await start_server()
    rooms = await make_rooms(server.user("bob"), MAX_ACKED_ROOMS)
    await server.app.close()
    server = await start_server()
    readers, queries = server.services.store.readers, 0
    fetch = readers.fetch

    async def count(*arguments: Any) -> Any:
        nonlocal queries
        queries += 1
        return await fetch(*arguments)

    readers.fetch = count  # type: ignore[method-assign]
    outcome = await ack_over_rest(server.user("bob"), dict.fromkeys(rooms, 0))
    assert (outcome.rooms, outcome.errors) == (dict.fromkeys(rooms, 0), {})
    assert queries <= 40


async def test_rooms_that_are_left_or_deleted_meanwhile_are_refused_alone(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    left, deleted, kept = await make_rooms(alice, 3, "bob")
    socket: Socket = await bob.connect()
    services = server.services
    await socket.send("ack", rooms=dict.fromkeys([left, deleted, kept], 0), request_id="all")
    tenant_key = server.connections_of("bob")[0].tenant.tenant_key
    async with asyncio.timeout(20):
        while services.receipts._batch is None:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0)
    # As their removal and deletion do, within the few milliseconds that are left.
    for room_id in (left, deleted):
        room = services.rooms.find_loaded(tenant_key, room_id)  # type: ignore[arg-type]
        assert room is not None
        if room_id == left:
            del room.members["bob"]  # type: ignore[arg-type]
        else:
            services.membership.discard(room)
    frames = {}
    while len(frames) < 3:
        frame = await socket.next()
        if "request_id" in frame:
            frames[frame.get("room_id") or frame["field"]] = frame.get("code")
    assert frames == {kept: None, f"rooms.{left}": "AUTHORIZATION_ERROR", f"rooms.{deleted}": "NOT_FOUND"}
