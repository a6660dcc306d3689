"""Rooms of very many members: what a request looks at is bounded by its answer, not by the room."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import StartServer
from driver import Server, eventually

from chatapi import hub, presence, recovery, rooms
from chatapi.room import RoomState

MEMBERS = 3_000


class Watched(dict[Any, Any]):
    """Counts how many of its entries are looked at."""

    looked_at = 0

    def __iter__(self) -> Iterator[Any]:
        for key in super().__iter__():
            self.looked_at += 1
            yield key

    def __contains__(self, key: object) -> bool:
        self.looked_at += 1
        return super().__contains__(key)

    def values(self) -> Any:
        return (self[key] for key in self)

    def items(self) -> Any:
        return ((key, self[key]) for key in self)


async def make_large_room(start_server: StartServer, database: Path, room_type: str = "group") -> tuple[Server, str]:
    """A room of alice's with `MEMBERS` others in it, who were never there."""
    server = await start_server()
    room_id = await server.user("alice").make_room("bob", "carol", room_type=room_type)
    await server.app.close()
    with sqlite3.connect(database) as connection:
        connection.execute(
            """INSERT INTO members (room_key, user_id, tenant_key, role, joined_at_us)
               WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
               SELECT room_key, printf('user%06d', n), tenant_key, 'member', created_at_us + n
               FROM rooms CROSS JOIN numbers WHERE room_id = ?""",
            (MEMBERS, room_id),
        )
    connection.close()
    return await start_server(), room_id


async def watch(server: Server, room_id: str) -> Watched:
    """The room's members, loaded and watched."""
    [tenant] = server.services.tenants.all()
    room: RoomState = await server.services.rooms.get(tenant, room_id)
    room.members = watched = Watched(room.members)
    return watched


async def test_presence_route_looks_only_at_connected_users(start_server: StartServer, database: Path) -> None:
    server, room_id = await make_large_room(start_server, database)
    for name in ("user000007", "carol", "stranger", "user000003"):
        await server.user(name).connect()
    members = await watch(server, room_id)
    online = (await server.user("alice").get(f"/rooms/{room_id}/presence")).data["online"]
    assert online == ["carol", "user000003", "user000007"]  # the longest-standing first
    assert members.looked_at < 20


async def test_a_crowd_is_looked_at_bit_by_bit(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "LOOKED_AT_A_STRETCH", 2)
    alice = server.user("alice")
    room_id = await alice.make_room("bob", "carol", "dave", "erin")
    for name in ("dave", "bob", "erin", "alice", "carol"):
        await server.user(name).connect()
    assert (await alice.get(f"/rooms/{room_id}/presence")).data["online"] == ["alice", "bob", "carol", "dave", "erin"]
    small = await alice.make_room("dave")
    assert (await alice.get(f"/rooms/{small}/presence")).data["online"] == ["alice", "dave"]


async def test_roles_change_without_a_look_at_every_member(start_server: StartServer, database: Path) -> None:
    server, room_id = await make_large_room(start_server, database)
    alice = server.user("alice")
    members = await watch(server, room_id)
    path = f"/rooms/{room_id}/members"
    assert (await alice.patch(f"{path}/alice", {"role": "member"})).status == 409
    assert (await alice.patch(f"{path}/user002999", {"role": "admin"})).status == 200
    assert (await alice.patch(f"{path}/alice", {"role": "member"})).status == 200
    assert (await server.user("user002999").delete(f"{path}/user002999")).status == 204
    assert members.looked_at < 100
    assert (await alice.delete(f"{path}/user000001")).status == 204  # as the longest-standing, she is the admin again


async def test_few_members_among_many_listeners_are_found_by_user_id(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob", room_type="channel")
    [tenant] = server.services.tenants.all()
    room = await server.services.rooms.get(tenant, room_id)
    other = await bob.connect()
    for number in range(5):
        listener = await server.user(f"listener{number}").connect()
        await listener.send("subscribe", room_id=room_id)
        await listener.expect("subscribed")
    typist = await alice.connect()
    await other.expect("presence.update", user_id="alice")
    assert len(room.subscribers) > len(room.members)
    room.subscribers = subscribers = Watched(room.subscribers)
    await typist.send("typing.start", room_id=room_id)
    await other.expect("typing", user_id="alice")
    assert subscribers.looked_at <= len(room.members)
    await listener.expect_nothing("typing", "presence.update")


@pytest.mark.slow
async def test_a_user_of_many_rooms_is_told_of_bit_by_bit(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "TOLD_AT_A_STRETCH", 4)
    server = await start_server({"websocket.presence_grace_seconds": 0})
    alice = server.user("alice")
    others = [f"user{number}" for number in range(12)]
    for name in others:
        await alice.make_room(name)
    watchers = [await server.user(name).connect() for name in others]
    stretches = []
    tell = server.services.presence._tell

    def count(news: Any, most: int) -> int:
        stretches.append(tell(news, most))
        return stretches[-1]

    server.services.presence._tell = count  # type: ignore[method-assign]
    for _ in range(2):
        socket = await alice.connect()
        for watcher in watchers:
            await watcher.expect("presence.update", user_id="alice", status="online")
        await socket.close()
        for watcher in watchers:
            await watcher.expect("presence.update", user_id="alice", status="offline")
        await eventually(lambda: not server.services.presence._news)
    assert max(stretches) <= 6
    assert sum(stretches) >= 4 * 2 * len(others)


async def test_a_large_room_is_loaded_bit_by_bit_and_in_order(
    start_server: StartServer, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "MEMBERS_PER_STEP", 700)
    server, room_id = await make_large_room(start_server, database)
    alice = server.user("alice")
    small = [await alice.make_room("bob") for _ in range(3)]
    await server.stop()
    server = await start_server()
    fetch, sizes = server.services.store.readers.fetch, []

    async def count(sql: str, parameters: Any) -> Any:
        rows = await fetch(sql, parameters)
        sizes.append(len(rows))
        return rows

    monkeypatch.setattr(server.services.store.readers, "fetch", count)
    socket = await server.user("alice").connect(ready=False)
    ready = await socket.expect("ready")
    assert {room["room_id"] for room in ready["rooms"]} == {room_id, *small}
    assert max(sizes) == 700
    [tenant] = server.services.tenants.all()
    room = await server.services.rooms.get(tenant, room_id)
    standing = [(member.joined_at_us, member.user_id) for member in room.members.values()]
    assert len(standing) == MEMBERS + 3
    assert standing == sorted(standing)
    assert room.admins == {"alice"}


async def test_a_user_of_many_rooms_connects_in_few_look_ups(
    start_server: StartServer, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "ROOMS_OF_USER", 200)
    server = await start_server()
    await server.user("alice").make_room("bob")
    await server.app.close()
    with sqlite3.connect(database) as connection:
        for statement in (
            """INSERT INTO rooms (tenant_key, room_id, type, created_by, created_at_us, updated_at_us, deleted_at_us)
               WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1000)
               SELECT tenant_key, printf('room_%04d', n), 'group', 'bob', n, n, iif(n % 10 = 0, n, NULL)
               FROM rooms CROSS JOIN numbers""",
            """INSERT INTO members (room_key, user_id, tenant_key, role, joined_at_us)
               SELECT room_key, 'bob', tenant_key, 'member', 1 FROM rooms WHERE created_by = 'bob'""",
        ):
            connection.execute(statement)
    connection.close()
    server = await start_server()
    fetch, fetches = server.services.store.readers.fetch, 0

    async def count(sql: str, parameters: Any) -> Any:
        nonlocal fetches
        fetches += 1
        return await fetch(sql, parameters)

    monkeypatch.setattr(server.services.store.readers, "fetch", count)
    socket = await server.user("bob").connect(ready=False)
    assert len((await socket.expect("ready"))["rooms"]) == 901
    assert fetches <= 2 * 6 + 2 * 12  # the rooms' ids and what is pending, and the rooms with their members


async def test_many_listeners_are_told_of_a_rooms_end_bit_by_bit(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "DISCARDED_AT_A_STRETCH", 2)
    alice = server.user("alice")
    others = [f"user{number}" for number in range(7)]
    room_id = await alice.make_room(*others)
    sockets = [await server.user(name).connect() for name in others]
    await sockets[0].send("unsubscribe", room_id=room_id)
    await sockets[0].expect("unsubscribed")
    told: list[int] = []
    discard_some = server.services.hub._discard_some

    def count(room: RoomState, frame: bytes, left: Any) -> None:
        before = len(left)
        discard_some(room, frame, left)
        told.append(before - len(left))

    server.services.hub._discard_some = count  # type: ignore[method-assign]
    await alice.say(room_id, "before")
    assert (await alice.delete(f"/rooms/{room_id}")).status == 204
    successor = await alice.make_room(*others)
    await sockets[2].close()
    for number, socket in enumerate(sockets):
        if number == 2:
            continue
        if number:
            await socket.expect("message", content="before")
        assert (await socket.next())["type"] == "room.deleted"
        assert (await socket.next())["room_id"] == successor
        await socket.send("send_message", room_id=room_id, content="late")
        await socket.expect("error", code="NOT_FOUND")
    assert told == [2, 2, 2, 1]
    assert all(len(connection.rooms) == 1 for connection in server.services.hub.connections.values())


async def test_deleting_a_tenant_looks_at_its_own_keys_and_connections_only(server: Server) -> None:
    doomed = await server.make_tenant("doomed")
    gone = await server.user("alice", doomed["api_key"]).connect()
    for number in range(20):
        await server.admin("POST", f"/tenants/{server.services.tenants.all()[0].tenant_id}/keys")
        await server.user(f"user{number}").connect()
    tenants, connected = server.services.tenants, server.services.hub
    tenants._keys = keys = Watched(tenants._keys)
    connected.connections = connections = Watched(connected.connections)
    assert (await server.admin("DELETE", f"/tenants/{doomed['tenant_id']}")).status == 204
    assert await gone.close_code() == 4001
    assert keys.looked_at == connections.looked_at == 0
    assert (await server.user("alice", doomed["api_key"]).get("/rooms")).status == 401
    assert (await server.user("alice").get("/rooms")).status == 200
