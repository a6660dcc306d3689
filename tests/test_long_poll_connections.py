"""Long polls as connections: presence, limits, credentials, stops, and users who go and come back while one is read."""

import asyncio
import json

import pytest
from conftest import StartServer
from driver import Gate, Server, eventually
from polls import EMPTY_ANSWER, polls_of, shown, sync, waiting
from receiver import Receiver

from chatapi.errors import forbidden
from chatapi.models import Principal, UserId
from chatapi.room import RoomState

# As a connection


@pytest.mark.slow
async def test_its_user_is_online_for_the_grace_longer(start_server: StartServer, receiver: Receiver) -> None:
    server = await start_server({"webhooks.allow_private_addresses": True, "websocket.presence_grace_seconds": 2.0})
    made = await server.make_tenant("hooked", webhook_url=receiver.url)
    alice, bob = (server.user(name, made["api_key"]) for name in ("alice", "bob"))
    room_id = await alice.make_room("bob", "carol")
    watching = await alice.connect()
    async with waiting(server, bob) as task:
        await watching.expect("presence.update", user_id="bob", status="online")
        assert (await alice.get(f"/rooms/{room_id}/presence")).data["online"] == ["alice", "bob"]
        await alice.say(room_id)
        assert len((await task).data["events"]) == 1
    assert server.services.hub.is_connected(server.services.tenants.all()[1].tenant_key, "bob")
    [call] = await receiver.wait_for(1)
    assert json.loads(call.body)["data"]["user_id"] == "carol"
    await watching.expect("presence.update", user_id="bob", status="offline")
    assert not server.connections_of("bob")


async def test_its_grace_begins_anew_with_each_poll_and_is_not_given_twice(start_server: StartServer) -> None:
    server = await start_server({"websocket.presence_grace_seconds": 0.1})
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    await sync(bob, wait=1, rooms={"room_0": 0})
    async with waiting(server, bob, rooms={room_id: 0}) as task:
        await asyncio.sleep(0.12)
        await alice.say(room_id)
        assert shown((await task).data) == [(room_id, 1)]
    await eventually(lambda: not server.connections_of("bob"))
    await asyncio.sleep(0.02)
    assert server.services.hub.find_online(server.services.tenants.all()[0].tenant_key, UserId("bob")) is None


async def test_during_a_stop_none_waits(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    server.services.health.is_draining = True
    assert (await sync(alice, wait=60, rooms={room_id: 0}))["rooms"] == {room_id: 0}
    assert not server.connections_of("alice")
    server.services.health.is_draining = False


async def test_a_stop_answers_those_who_wait_with_nothing(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    await sync(bob, wait=1, rooms={"room_0": 0})  # and leaves a connection behind
    async with waiting(server, alice, rooms={room_id: 0}) as task:
        await server.app.close()
        answer = (await task).data
    assert answer == {**EMPTY_ANSWER, "epoch": answer["epoch"], "rooms": {room_id: 0}}


async def test_a_stop_answers_those_who_have_not_begun_to_wait(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    gate = server.services.access.access_reader = Gate(server.services.access.access_reader)  # type: ignore[method-assign]
    task = asyncio.ensure_future(alice.post("/sync", {"wait": 60, "rooms": {room_id: 0}}))
    async with asyncio.timeout(20):
        await gate.arrived.wait()
    server.services.hub.close(server.connections_of("alice")[0], 1001)
    gate.open()
    assert (await task).data["rooms"] == {room_id: 0}


async def test_a_revocation_ends_those_who_wait(server: Server) -> None:
    made = await server.make_tenant("shop")
    key = (await server.admin("POST", f"/tenants/{made['tenant_id']}/keys", {})).data
    alice = server.user("alice", key["api_key"])
    async with waiting(server, alice) as task:
        await server.admin("DELETE", f"/tenants/{made['tenant_id']}/keys/{key['key_id']}")
        reply = await task
    assert (reply.status, reply.error["code"]) == (401, "AUTHENTICATION_ERROR")
    await eventually(lambda: not server.connections_of("alice"))
    backend, bob = (server.user(name, made["api_key"]) for name in ("backend", "bob"))
    async with waiting(server, bob) as task:
        await backend.put("/users/bob/ban", {})
        reply = await task
    assert (reply.status, reply.error["code"]) == (403, "AUTHORIZATION_ERROR")
    assert reply.error["details"] == {"banned_until": None}
    await backend.delete("/users/bob/ban")
    await sync(bob, wait=60, rooms={"room_0": 0})
    assert polls_of(server, "bob") == 1
    await backend.put("/users/bob/ban", {})  # between two polls
    await eventually(lambda: not server.connections_of("bob"))


async def test_the_next_poll_brings_its_own_credential(server: Server) -> None:
    made = await server.make_tenant("shop")
    keys = f"/tenants/{made['tenant_id']}/keys"
    added = [(await server.admin("POST", keys, {})).data for _ in range(2)]
    first, second = (server.user("alice", key["api_key"]) for key in added)
    await sync(first, wait=1, rooms={"room_0": 0})
    async with waiting(server, second) as task:
        assert polls_of(server, "alice") == 1
        await server.admin("DELETE", f"{keys}/{added[0]['key_id']}")
        await second.get("/rooms")
        assert not task.done()
        await server.admin("DELETE", f"{keys}/{added[1]['key_id']}")
        assert (await task).status == 401


async def test_the_reason_for_its_end_is_told_at_once(server: Server) -> None:
    """It comes in the same turn of the loop in which the rest of the answer has been read."""
    alice = server.user("alice")
    room_id = await alice.make_room()
    await alice.say(room_id)
    recovery = server.services.recovery
    gate = recovery.read_frames = Gate(recovery.read_frames)  # type: ignore[method-assign]
    task = asyncio.ensure_future(alice.post("/sync", {"wait": 60}))
    await gate.arrived.wait()
    gate.open()
    server.services.hub.close(server.connections_of("alice")[0], 4003, forbidden("You are banned"))
    reply = await task
    assert (reply.status, reply.error["message"]) == (403, "You are banned")


async def test_metrics_count_it(server: Server) -> None:
    async with waiting(server, server.user("alice")):
        text = (await server.request("GET", "/metrics")).body
    assert 'chatapi_connections_by_transport{transport="poll"} 1.0' in text


# Users who go and come back while it is read


async def test_a_user_who_is_banned_meanwhile_is_refused(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    await alice.say(room_id)
    access = server.services.access
    for wait in (0, 60):
        gate = access.access_reader = Gate(access.access_reader)  # type: ignore[method-assign]
        task = asyncio.ensure_future(bob.post("/sync", {"wait": wait, "rooms": {room_id: 1}}))
        await gate.arrived.wait()
        await alice.put("/users/bob/ban", {})
        gate.open()
        reply = await task
        assert (reply.status, reply.error["details"]) == (403, {"banned_until": None})
        await alice.delete("/users/bob/ban")


async def test_a_user_who_is_banned_before_the_body_has_come_does_not_wait(server: Server) -> None:
    alice, body = server.user("alice"), b'{"wait": 60}'
    lines = ["POST /sync HTTP/1.1", "Host: chat", "Connection: close", f"X-API-Key: {server.api_key}", "X-User-Id: bob"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    reader, writer = await server.open()
    writer.write("\r\n".join(lines).encode() + body[:5])
    await alice.get("/rooms")  # it waits for the rest meanwhile
    await alice.put("/users/bob/ban", {})
    writer.write(body[5:])
    assert b" 403 " in await reader.readline()


async def test_a_room_stands_in_its_errors_or_is_answered(server: Server) -> None:
    """Not both, if the ban ends while the rest is read: its events would come from `last_ack`."""
    alice, bob = server.user("alice"), server.user("bob")
    room_id, other = await alice.make_room("bob"), await alice.make_room("bob")
    for one in (room_id, other):
        await alice.say(one)
    recovery = server.services.recovery
    for wait in (0, 60):
        await alice.put("/users/bob/ban", {})
        server.services.tenants.all()[0].bans, bans = None, server.services.tenants.all()[0].bans
        gate = recovery.enter_rooms = Gate(recovery.enter_rooms)  # type: ignore[method-assign]
        task = asyncio.ensure_future(bob.post("/sync", {"wait": wait, "rooms": {room_id: 1}}))
        await gate.arrived.wait()
        server.services.tenants.all()[0].bans = bans
        reading = recovery.read_notifications = Gate(recovery.read_notifications)  # type: ignore[method-assign]
        gate.open()
        await reading.arrived.wait()
        await alice.delete("/users/bob/ban")
        reading.open()
        answer = (await task).data
        assert (list(answer["errors"]), answer["rooms"], shown(answer)) == ([room_id], {other: 1}, [(other, 1)])


async def test_a_member_who_is_removed_meanwhile_gets_nothing_more(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id, quiet = await alice.make_room("bob"), await alice.make_room("bob")
    await alice.say(room_id)
    recovery = server.services.recovery
    gate = recovery.read_notifications = Gate(recovery.read_notifications)  # type: ignore[method-assign]
    task = asyncio.ensure_future(bob.post("/sync", {"rooms": {quiet: 0}}))
    await gate.arrived.wait()
    await alice.delete(f"/rooms/{room_id}/members/bob")
    await alice.say(room_id, "not for bob")
    gate.open()
    answer = (await task).data
    assert (answer["events"], answer["rooms"], answer["has_more"]) == ([], {quiet: 0}, False)


@pytest.mark.parametrize("wait", [0, 60])
async def test_a_room_that_is_lost_while_it_is_read_is_refused(server: Server, wait: int) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    left, deleted = await alice.make_room("bob"), await alice.make_room("bob")
    for room_id in (left, deleted):
        await alice.say(room_id)
    recovery = server.services.recovery
    gate = recovery.read_frames = Gate(recovery.read_frames)  # type: ignore[method-assign]
    task = asyncio.ensure_future(bob.post("/sync", {"wait": wait, "rooms": {deleted: 0, left: 0}}))
    await gate.arrived.wait()
    await alice.delete(f"/rooms/{left}/members/bob")
    await alice.say(left, "not for bob")
    await alice.delete(f"/rooms/{deleted}")
    gate.open()
    answer = (await task).data
    # One that may wait is told of the removal, and has the room's events up to its own.
    assert shown(answer) == ([(left, 1)] if wait else [])
    assert (answer["rooms"], answer["errors"][deleted]["code"]) == ({left: 1} if wait else {}, "NOT_FOUND")


@pytest.mark.parametrize("wait", [0, 60])
async def test_a_room_that_is_lost_after_it_was_read_is_refused_behind_its_events(server: Server, wait: int) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    left, other = await alice.make_room("bob"), await alice.make_room("bob")
    for room_id in (left, other, other):  # the one that is least behind is read first
        await alice.say(room_id)
    recovery, read_frames = server.services.recovery, server.services.recovery.read_frames
    gate = Gate(read_frames)

    async def hold(room: RoomState, after_seq: int) -> object:
        return await (gate if room.room_id == other else read_frames)(room, after_seq)

    recovery.read_frames = hold  # type: ignore[method-assign, assignment]
    task = asyncio.ensure_future(bob.post("/sync", {"wait": wait}))
    await gate.arrived.wait()
    await alice.delete(f"/rooms/{left}/members/bob")
    gate.open()
    answer = (await task).data
    assert shown(answer) == [(left, 1), (other, 1), (other, 2)]
    # One that may wait is told of the removal, which is to come.
    assert (answer["rooms"], list(answer["errors"])) == (({left: 1, other: 2}, []) if wait else ({other: 2}, [left]))


async def test_a_waiting_member_who_is_removed_meanwhile_has_it_all_up_to_that(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    recovery = server.services.recovery
    gate = recovery.read_notifications = Gate(recovery.read_notifications)  # type: ignore[method-assign]
    task = asyncio.ensure_future(bob.post("/sync", {"wait": 60, "rooms": {room_id: 0}}))
    await gate.arrived.wait()
    await alice.delete(f"/rooms/{room_id}/members/bob")
    await alice.say(room_id, "not for bob")
    gate.open()
    assert [event["type"] for event in (await task).data["events"]] == ["member.left"]


async def test_a_room_that_is_left_while_another_one_is_loaded_is_refused(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    left, other = await alice.make_room("bob"), await alice.make_room("bob")
    access, access_reader = server.services.access, server.services.access.access_reader
    gate = Gate(access_reader)

    async def hold(principal: Principal, room_id: str) -> RoomState:
        return await (gate if room_id == other else access_reader)(principal, room_id)

    access.access_reader = hold  # type: ignore[method-assign]
    task = asyncio.ensure_future(bob.post("/sync", {"wait": 60, "rooms": {left: 0, other: 0}}))
    await gate.arrived.wait()
    await alice.delete(f"/rooms/{left}/members/bob")
    gate.open()
    answer = (await task).data
    assert (list(answer["errors"]), answer["rooms"], answer["events"]) == ([left], {other: 0}, [])


@pytest.mark.parametrize("step", ["read_notifications", "read_frames"])
async def test_a_member_who_comes_back_meanwhile_misses_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    for _ in range(2):
        await alice.say(room_id)
    gate = Gate(getattr(server.services.recovery, step))
    monkeypatch.setattr(server.services.recovery, step, gate)
    task = asyncio.ensure_future(bob.post("/sync", {"wait": 60, "rooms": {room_id: 1}}))
    await gate.arrived.wait()
    await alice.delete(f"/rooms/{room_id}/members/bob")
    await alice.post(f"/rooms/{room_id}/members", {"user_id": "bob"})
    await alice.say(room_id)
    gate.open()
    answer = (await task).data
    assert (shown(answer), answer["rooms"]) == ([(room_id, seq) for seq in (2, 3, 4, 5)], {room_id: 5})
