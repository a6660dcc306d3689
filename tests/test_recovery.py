"""What a client gets that was away: the backlog, `sync`, gaps and resets, and what it was entitled to."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from conftest import StartServer
from driver import Gate, Server, Socket, User, eventually, restart, say_many, seqs

from chatapi import recovery
from chatapi.connection import Connection, ConnectionState
from chatapi.housekeeping import apply_retention
from chatapi.models import TenantState
from chatapi.recovery import ConnectData
from chatapi.room import RoomState
from chatapi.store import mentions, notifications

Frame = dict[str, Any]

RING_IS_LEFT = 400  # events: more than a room's ring holds, so that some have to be read from the store


async def resume(user: User, cursors: dict[str, int], **fields: object) -> tuple[Socket, list[Frame]]:
    """A connection with its own cursors, and what came up to `sync.complete`."""
    socket = await user.connect(sync="none", ready=False)
    await socket.expect("ready")
    await socket.send("sync", rooms=cursors, **fields)
    return socket, await socket.collect("sync.complete")


async def read_epoch(user: User) -> str:
    """As `ready` says it."""
    socket = await user.connect(sync="none", ready=False)
    return str((await socket.expect("ready"))["epoch"])


# The backlog at a connect


async def test_the_backlog_begins_after_last_ack_and_is_in_order_per_room(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    rooms = [await alice.make_room("bob") for _ in range(3)]
    for room_id in rooms * 4:
        await alice.say(room_id)
    await bob.post("/acks", {"room_id": rooms[1], "seq": 3})
    socket = await bob.connect(ready=False)
    ready = await socket.next()
    assert {room["room_id"]: (room["last_seq"], room["last_ack"]) for room in ready["rooms"]} == {
        rooms[0]: (4, 0),
        rooms[1]: (4, 3),
        rooms[2]: (4, 0),
    }
    backlog = await socket.collect("sync.complete")
    assert [seqs(backlog, room_id) for room_id in rooms] == [[1, 2, 3, 4], [4], [1, 2, 3, 4]]


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_long_backlog_comes_from_memory_and_store_alike(start_server: StartServer, is_restarted: bool) -> None:
    server = await start_server()
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    await say_many(alice, room_id, RING_IS_LEFT)
    message = await alice.say(room_id, "changes")
    await alice.put(f"/rooms/{room_id}/messages/{message['message_id']}", {"content": "changed"})
    await alice.delete(f"/rooms/{room_id}/messages/{message['message_id']}")
    if is_restarted:
        bob = (await restart(start_server, server)).user("bob")
    socket = await bob.connect(ready=False)
    await socket.expect("ready")
    backlog = await socket.collect("sync.complete")
    assert seqs(backlog, room_id) == list(range(1, RING_IS_LEFT + 4))
    assert [frame["type"] for frame in backlog[-3:]] == ["message", "message.edited", "message.deleted"]
    # A message is shown as it now stands.
    assert [frame.get("content") for frame in backlog[-3:]] == [None, None, None]
    assert backlog == (await read_events(bob, room_id))


async def read_events(user: User, room_id: str) -> list[Frame]:
    events: list[Frame] = []
    has_more = True
    while has_more:
        after_seq = events[-1]["seq"] if events else 0
        page = (await user.get(f"/rooms/{room_id}/events", after_seq=after_seq, limit=100)).data
        events += page["events"]
        has_more = page["has_more"]
    return events


async def test_live_events_never_overtake_the_backlog(start_server: StartServer) -> None:
    server = await start_server()
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    await say_many(alice, room_id, RING_IS_LEFT)
    server = await restart(start_server, server)
    alice, bob = server.user("alice"), server.user("bob")
    pages = server.services.recovery._pages
    gate = Gate(pages.get)
    server.services.recovery._pages.get = gate  # type: ignore[method-assign]
    socket = await bob.connect(ready=False)
    await gate.arrived.wait()
    await alice.say(room_id, "live, while the backlog is read")
    gate.open()
    backlog = await socket.collect("sync.complete")
    await alice.say(room_id, "live")
    assert seqs([*backlog, await socket.next()], room_id) == list(range(1, RING_IS_LEFT + 3))


async def test_nobody_gets_anything_twice_when_nothing_is_missing(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    socket = await bob.connect()
    await alice.say(room_id)
    await socket.expect("message", seq=1)
    await socket.send("sync", rooms={room_id: 1})
    assert (await socket.next()) == {"type": "sync.complete", "rooms": {room_id: 1}}
    await alice.say(room_id)
    await socket.expect("message", seq=2)


async def test_a_member_who_connects_while_it_is_added_gets_the_room(server: Server) -> None:
    """The look-up of bob's rooms for his first connection has begun before he is added, the second one comes after."""
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room()
    connects = server.services.recovery._connects
    release = asyncio.Event()
    load_many = connects._load_many

    async def load_slowly(keys: Sequence[Any]) -> Sequence[ConnectData]:
        values = await load_many(keys)
        await release.wait()
        return values

    connects._load_many = load_slowly
    first = await bob.connect(ready=False)
    await eventually(lambda: connects._is_loading)
    await alice.post(f"/rooms/{room_id}/members", {"user_id": "bob"})
    second = await bob.connect(ready=False)
    await eventually(lambda: len(server.connections_of("bob")) == 2)
    release.set()
    for socket in (first, second):
        assert [room["room_id"] for room in (await socket.expect("ready"))["rooms"]] == [room_id]
        await socket.expect("sync.complete", rooms={room_id: 1})


async def test_an_answer_never_runs_ahead_of_the_backlog(start_server: StartServer) -> None:
    """Deleting again what was deleted is answered with that event, which this connection is still to get."""
    server = await start_server()
    alice = server.user("alice")
    room_id = await alice.make_room()
    message = await alice.say(room_id)
    await alice.delete(f"/rooms/{room_id}/messages/{message['message_id']}")
    server = await restart(start_server, server)
    gate = Gate(server.services.rooms.fill_ring)
    server.services.rooms.fill_ring = gate  # type: ignore[method-assign]
    socket = await server.user("alice").connect(ready=False)
    await socket.expect("ready")
    await gate.arrived.wait()
    delete = {"room_id": room_id, "message_id": message["message_id"], "request_id": "d-1"}
    await socket.send("message.delete", **delete)
    await socket.expect_nothing("message.deleted")
    gate.open()
    backlog = await socket.collect("sync.complete")
    assert [(frame["type"], frame["seq"]) for frame in backlog] == [("message", 1), ("message.deleted", 2)]
    assert backlog[1]["request_id"] == "d-1"
    await socket.send("message.delete", **delete)
    await socket.expect("message.deleted", seq=2, target_seq=1, request_id="d-1")


# `sync` with the client's own cursors


async def test_a_connection_without_sync_gets_nothing_until_it_asks(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    named, unnamed = await alice.make_room("bob"), await alice.make_room("bob")
    for room_id in (named, unnamed) * 3:
        await alice.say(room_id)
    await bob.post("/acks", {"room_id": unnamed, "seq": 2})
    socket = await bob.connect(sync="none", ready=False)
    await socket.expect("ready")
    await alice.say(named)
    await socket.expect_nothing("message", "sync.complete")
    await socket.send("sync", rooms={named: 1}, request_id="s-1")
    backlog = await socket.collect("sync.complete")
    assert (seqs(backlog, named), seqs(backlog, unnamed)) == ([2, 3, 4], [3])
    await alice.say(unnamed)
    await socket.expect("message", room_id=unnamed, seq=4)


async def test_every_sync_is_answered_with_its_request_id(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    await alice.say(room_id)
    socket = await alice.connect()
    await socket.send("sync", rooms={room_id: 0}, request_id="s-1")
    await socket.send("sync", rooms={room_id: 0}, request_id="s-2")
    for request_id in ("s-1", "s-2"):
        await socket.expect("sync.complete", request_id=request_id, rooms={room_id: 1})


async def test_impossible_cursors_are_reset_and_served_from_last_ack(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    possible, impossible = await alice.make_room("bob"), await alice.make_room("bob")
    for room_id in (possible, impossible) * 3:
        await alice.say(room_id)
    await bob.post("/acks", {"room_id": impossible, "seq": 1})
    _, backlog = await resume(bob, {possible: 2, impossible: 99})
    assert backlog[0] == {"type": "sync.reset", "epoch": await read_epoch(bob), "rooms": {impossible: 1}}
    assert (seqs(backlog, possible), seqs(backlog, impossible)) == ([3], [2, 3])


async def test_another_epoch_resets_every_room_that_is_named(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    named, unnamed = await alice.make_room("bob"), await alice.make_room("bob")
    for room_id in (named, unnamed) * 2:
        await alice.say(room_id)
    _, backlog = await resume(bob, {named: 2}, epoch="of another database")
    epoch = await read_epoch(bob)
    assert backlog[0] == {"type": "sync.reset", "epoch": epoch, "rooms": {named: 0}}
    assert (seqs(backlog, named), seqs(backlog, unnamed)) == ([1, 2], [1, 2])
    _, backlog = await resume(bob, {named: 2}, epoch=epoch)
    assert (backlog[0]["type"], seqs(backlog, named)) == ("message", [])


async def test_rooms_that_cannot_be_read_get_an_error_and_the_others_are_served(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id, foreign = await alice.make_room("bob"), await alice.make_room("carol")
    await alice.say(room_id)
    _, backlog = await resume(bob, {foreign: 0, "room_of_nobody": 0, room_id: 0}, request_id="s-1")
    errors = [(frame["field"], frame["code"], frame["request_id"]) for frame in backlog if frame["type"] == "error"]
    assert errors == [
        (f"rooms.{foreign}", "AUTHORIZATION_ERROR", "s-1"),
        ("rooms.room_of_nobody", "NOT_FOUND", "s-1"),
    ]
    assert seqs(backlog, room_id) == [1]


async def test_a_long_backlog_is_named_and_only_its_newest_events_come(start_server: StartServer) -> None:
    server = await start_server({"limits.sync_limit": 3})
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    for _ in range(8):
        await alice.say(room_id)
    await bob.post("/acks", {"room_id": room_id, "seq": 2})
    socket = await bob.connect(ready=False)
    await socket.expect("ready")
    backlog = await socket.collect("sync.complete")
    assert backlog[0] == {"type": "sync.gap", "room_id": room_id, "from_seq": 3, "to_seq": 5}
    assert seqs(backlog, room_id) == [6, 7, 8]
    skipped = (await bob.get(f"/rooms/{room_id}/events", after_seq=2, limit=3)).data["events"]
    assert seqs(skipped, room_id) == [3, 4, 5]
    await socket.send("sync", rooms={room_id: 5})
    assert seqs(await socket.collect("sync.complete"), room_id) == [6, 7, 8]  # exactly the limit: no gap


async def test_sync_gap_names_events_removed_by_retention(start_server: StartServer) -> None:
    server = await start_server()
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    for _ in range(4):
        await alice.say(room_id)
    tenant = server.services.tenants.all()[0]
    tenant.settings = replace(tenant.settings, retention_days=1e-12)
    await apply_retention(server.services, tenant)
    tenant.settings = replace(tenant.settings, retention_days=0.0)
    await alice.say(room_id)
    socket = await bob.connect(ready=False)
    await socket.expect("ready")
    backlog = await socket.collect("sync.complete")
    assert backlog[0] == {"type": "sync.gap", "room_id": room_id, "from_seq": 1, "to_seq": 4}
    assert seqs(backlog, room_id) == [5]


async def test_after_unsubscribe_a_subscribe_continues_from_the_present(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    socket = await bob.connect()
    await socket.send("unsubscribe", room_id=room_id)
    await socket.expect("unsubscribed", room_id=room_id)
    await alice.say(room_id)
    await socket.expect_nothing("message")
    await socket.send("subscribe", room_id=room_id)
    await socket.expect("subscribed", room_id=room_id, last_seq=1)
    await alice.say(room_id)
    assert (await socket.next())["seq"] == 2


# Membership that changes


async def test_member_added_while_away_gets_later_events(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room()
    await alice.say(room_id)
    await alice.post(f"/rooms/{room_id}/members", {"user_id": "bob"})
    await alice.say(room_id)
    socket = await bob.connect(ready=False)
    await socket.expect("ready")
    assert seqs(await socket.collect("sync.complete"), room_id) == [3]


async def test_member_removed_while_away_gets_no_later_events(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    await alice.say(room_id)
    await alice.delete(f"/rooms/{room_id}/members/bob")
    socket = await bob.connect(ready=False)
    assert (await socket.expect("ready"))["rooms"] == []
    assert await socket.collect("sync.complete") == []
    _, backlog = await resume(bob, {room_id: 0})
    assert [(frame["type"], frame["field"]) for frame in backlog] == [("error", f"rooms.{room_id}")]


async def test_member_removed_and_readded_while_away_begins_after_the_return(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    await alice.delete(f"/rooms/{room_id}/members/bob")
    await alice.say(room_id, "not for bob")
    await alice.post(f"/rooms/{room_id}/members", {"user_id": "bob"})
    await alice.say(room_id, "for bob")
    socket = await bob.connect(ready=False)
    await socket.expect("ready")
    assert seqs(await socket.collect("sync.complete"), room_id) == [4]


async def test_a_live_connection_follows_its_membership(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room()
    socket = await bob.connect()
    await alice.say(room_id)
    await alice.post(f"/rooms/{room_id}/members", {"user_id": "bob"})
    await alice.say(room_id)
    assert (await socket.expect("room.created"))["last_seq"] == 2
    await socket.expect("message", seq=3)
    await alice.delete(f"/rooms/{room_id}/members/bob")
    await alice.say(room_id)
    assert (await socket.next())["type"] == "member.left"
    await socket.expect_nothing("message")


async def test_a_connection_that_is_behind_gets_all_up_to_its_own_leaving(start_server: StartServer) -> None:
    server = await start_server()
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    await alice.say(room_id)
    socket = await bob.connect(sync="none", ready=False)
    await socket.expect("ready")
    await alice.delete(f"/rooms/{room_id}/members/bob")
    await alice.say(room_id)
    await socket.send("sync", rooms={})
    backlog = await socket.collect("sync.complete")
    assert [(frame["type"], frame["seq"]) for frame in backlog] == [("message", 1), ("member.left", 2)]
    await alice.say(room_id)
    await socket.expect_nothing("message")


async def test_its_own_leaving_comes_though_more_than_the_limit_went_on_since(start_server: StartServer) -> None:
    server = await start_server({"limits.sync_limit": 2})
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    for _ in range(3):
        await alice.say(room_id)
    socket = await bob.connect(sync="none", ready=False)
    await socket.expect("ready")
    await alice.delete(f"/rooms/{room_id}/members/bob")
    for _ in range(5):
        await alice.say(room_id)
    await socket.send("sync", rooms={})
    frames = await socket.collect("sync.complete")
    assert frames[0] == {"type": "sync.gap", "room_id": room_id, "from_seq": 1, "to_seq": 2}
    assert [(frame["type"], frame["seq"]) for frame in frames[1:]] == [("message", 3), ("member.left", 4)]


async def test_member_readded_before_hearing_of_the_removal_goes_on_after_the_return(
    start_server: StartServer,
) -> None:
    server = await start_server()
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    await alice.say(room_id)
    server = await restart(start_server, server)
    alice, bob = server.user("alice"), server.user("bob")
    gate = Gate(server.services.rooms.fill_ring)
    server.services.rooms.fill_ring = gate  # type: ignore[method-assign]
    socket = await bob.connect(ready=False)
    await socket.expect("ready")
    await gate.arrived.wait()
    await alice.delete(f"/rooms/{room_id}/members/bob")
    await alice.say(room_id, "not for bob")
    await alice.post(f"/rooms/{room_id}/members", {"user_id": "bob"})
    gate.open()
    frames = await socket.collect("sync.complete")
    await alice.say(room_id, "for bob")
    assert [frame["type"] for frame in frames] == ["room.created", "sync.gap"]
    assert (frames[1]["from_seq"], frames[1]["to_seq"]) == (1, 4)
    await socket.expect("message", seq=5)


async def test_member_readded_after_hearing_of_the_removal_gets_no_gap(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it still waits for something else: what went on in between is nothing that it missed."""
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    await alice.post("/notify", {"topic": "t", "payload": 1, "targets": {"user_ids": ["bob"]}})
    socket = await bob.connect(sync="none", ready=False)
    await socket.expect("ready")
    gate = Gate(notifications.read_pending)
    monkeypatch.setattr(notifications, "read_pending", gate)
    await alice.delete(f"/rooms/{room_id}/members/bob")
    await socket.send("sync", rooms={})
    await socket.expect("member.left", seq=1)
    await gate.arrived.wait()
    await alice.say(room_id, "not for bob")
    await alice.post(f"/rooms/{room_id}/members", {"user_id": "bob"})
    await alice.say(room_id, "for bob")
    gate.open()
    frames = await socket.collect("sync.complete")
    assert [(frame["type"], frame.get("seq")) for frame in frames if frame["type"] != "notification"] == [
        ("room.created", None),
        ("message", 4),
    ]


async def test_a_ban_from_a_room_while_a_sync_loads_another_one_is_told(start_server: StartServer) -> None:
    server = await start_server()
    alice, bob = server.user("alice"), server.user("bob")
    left, other = await alice.make_room("bob"), await alice.make_room(room_type="channel")
    server = await restart(start_server, server)
    alice, bob = server.user("alice"), server.user("bob")
    socket = await bob.connect(sync="none", ready=False)
    await socket.expect("ready")
    get = server.services.rooms.get
    gate = Gate(get)

    async def get_one_later(tenant: TenantState, room_id: str) -> RoomState:
        found: RoomState = await (gate if room_id == other else get)(tenant, room_id)
        return found

    server.services.rooms.get = get_one_later  # type: ignore[method-assign]
    await socket.send("sync", rooms={left: 0, other: 0}, request_id="s-1")
    await gate.arrived.wait()
    room = server.services.rooms.find_loaded(server.connections_of("bob")[0].tenant.tenant_key, left)
    assert room is not None
    room.remove_member("bob")  # type: ignore[arg-type]  # as a ban does
    server.services.rooms.rules_of(room).ban("bob", None)  # type: ignore[arg-type]
    gate.open()
    refusal = {"code": "AUTHORIZATION_ERROR", "details": {"banned_until": None}, "field": f"rooms.{left}"}
    await socket.expect("error", **refusal, request_id="s-1")


async def test_a_room_that_is_deleted_while_it_is_served_holds_nobody_up(start_server: StartServer) -> None:
    server = await start_server()
    alice, bob = server.user("alice"), server.user("bob")
    rooms = [await alice.make_room("bob") for _ in range(2)]
    for room_id in rooms:
        await alice.say(room_id)
    server = await restart(start_server, server)
    alice, bob = server.user("alice"), server.user("bob")
    gate = Gate(server.services.rooms.fill_ring)
    server.services.rooms.fill_ring = gate  # type: ignore[method-assign]
    socket = await bob.connect(ready=False)
    ready = await socket.expect("ready")
    await gate.arrived.wait()
    served, waiting = (room["room_id"] for room in ready["rooms"])
    await alice.delete(f"/rooms/{waiting}")
    gate.open()
    await socket.expect("room.deleted", room_id=waiting)
    assert seqs(await socket.collect("sync.complete"), served) == [1]


@pytest.mark.parametrize("transport", ["websocket", "events"])
@pytest.mark.parametrize("step", ["rooms", "mentions"])
async def test_nothing_comes_of_rooms_that_go_while_a_user_connects(
    server: Server, monkeypatch: pytest.MonkeyPatch, transport: str, step: str
) -> None:
    """While its rooms are loaded, and while the mentions in them are counted for `ready`."""
    alice, bob = server.user("alice"), server.user("bob")
    kept, deleted, left, banned = [await alice.make_room("bob") for _ in range(4)]
    for room_id in (kept, deleted, left, banned):
        await alice.say(room_id, mention_room=True)
        await alice.say(room_id, "", stream=True)
    at_rooms = step == "rooms"
    owner, name = (server.services.rooms, "load_many") if at_rooms else (mentions, "count_unread")
    gate = Gate(getattr(owner, name))
    monkeypatch.setattr(owner, name, gate)
    connecting = asyncio.ensure_future(
        bob.connect(ready=False) if transport == "websocket" else bob.stream(ready=False)
    )
    await gate.arrived.wait()
    await alice.delete(f"/rooms/{deleted}")
    await alice.delete(f"/rooms/{left}/members/bob")
    await alice.put(f"/rooms/{banned}/bans/bob", {})
    await alice.say(left)
    gate.open()
    socket = await connecting
    ready = await socket.next()
    assert (ready["type"], [room["room_id"] for room in ready["rooms"]]) == ("ready", [kept])
    frames = await socket.collect("sync.complete")
    assert [(frame["type"], frame["room_id"]) for frame in frames] == [
        ("message", kept),
        ("message", kept),
        ("message.state", kept),
    ]
    await alice.say(left)
    await alice.say(kept, "the next")
    assert (await socket.next())["content"] == "the next"


async def test_a_connection_whose_log_cannot_be_read_is_ended(start_server: StartServer) -> None:
    """It reconnects and is served then; otherwise it would wait forever."""
    server = await start_server()
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    await alice.say(room_id)
    server = await restart(start_server, server)
    bob = server.user("bob")

    async def fail(_room: object) -> None:
        raise OSError("the disk is gone")

    server.services.rooms.fill_ring = fail  # type: ignore[method-assign, assignment]
    socket = await bob.connect(ready=False)
    assert await socket.close_code() == 1006
    await eventually(lambda: not server.connections_of("bob"))


# Storms


async def test_a_storm_of_connects_is_served_with_few_queries(start_server: StartServer) -> None:
    server = await start_server()
    alice = server.user("alice")
    users = [server.user(f"user{number}") for number in range(60)]
    room_id = await alice.make_room(*(user.user_id for user in users))
    for _ in range(5):
        await alice.say(room_id)
    server = await restart(start_server, server)
    fetches = 0
    fetch = server.services.store.readers.fetch

    async def count(sql: str, parameters: Any) -> Any:
        nonlocal fetches
        fetches += 1
        return await fetch(sql, parameters)

    server.services.store.readers.fetch = count  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as group:
        connecting = [group.create_task(server.user(user.user_id).connect(ready=False)) for user in users]
    for task in connecting:
        await task.result().expect("ready")
        assert seqs(await task.result().collect("sync.complete"), room_id) == [1, 2, 3, 4, 5]
    assert fetches < len(users)  # for rooms, members, events and notifications together
    assert all(connection.state is ConnectionState.LIVE for connection in server.services.hub.connections.values())


async def test_a_step_looks_at_the_rooms_that_it_serves(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at all those that its user has: they may be 10,000, and as many steps."""
    looked_at = [0]
    is_behind = Connection.is_behind

    def count(connection: Connection, room: RoomState) -> bool:
        looked_at[0] += 1
        return is_behind(connection, room)

    alice, bob = server.user("alice"), server.user("bob")
    rooms = [await alice.make_room("bob") for _ in range(40)]
    for room_id in rooms:
        for _ in range(2):
            await alice.say(room_id)
    monkeypatch.setattr(recovery, "STEP_BYTES", 1)  # a step for each room
    monkeypatch.setattr(Connection, "is_behind", count)
    socket = await bob.connect(ready=False)
    frames = await socket.collect("sync.complete")
    assert all(seqs(frames, room_id) == [1, 2] for room_id in rooms)
    assert looked_at[0] <= 6 * len(rooms)
