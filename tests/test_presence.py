"""Who is online and who is typing: told to those concerned, once, and never stored."""

import asyncio
from typing import Any

import aiohttp
import pytest
from conftest import StartServer
from driver import Server, Socket, User, eventually

from chatapi import presence
from chatapi.models import UserId
from chatapi.presence import MAX_PRESENCE_MEMBERS

GRACE: dict[str, object] = {"websocket.presence_grace_seconds": 0.2}
TYPING: dict[str, object] = {"websocket.typing_seconds": 0.2}


async def online(user: User, room_id: str) -> list[str]:
    return list((await user.get(f"/rooms/{room_id}/presence")).data["online"])


async def heard(socket: Socket, frame_type: str) -> list[dict[str, Any]]:
    """All frames of this type that have come so far."""
    await socket.send("ping", request_id="so-far")
    frames = []
    while (frame := await socket.next_of_any_type()).get("request_id") != "so-far":
        frames += [frame] if frame["type"] == frame_type else []
    return frames


async def hear(socket: Socket, user_id: str, status: str) -> None:
    while (frame := await socket.expect("presence.update"))["user_id"] != user_id or frame["status"] != status:
        pass


# Presence


async def test_online_at_the_first_connection_and_offline_after_the_last(start_server: StartServer) -> None:
    server = await start_server(GRACE)
    alice, bob = server.user("alice"), server.user("bob")
    await alice.make_room("bob")
    watcher = await alice.connect()
    first = await bob.connect()
    await watcher.expect("presence.update", user_id="bob", status="online")
    second = await bob.connect()
    await first.close()
    await eventually(lambda: len(server.connections_of("bob")) == 1)
    assert await heard(watcher, "presence.update") == []
    await second.close()
    await watcher.expect("presence.update", user_id="bob", status="offline")


async def test_a_reconnect_within_the_grace_is_no_event(start_server: StartServer) -> None:
    server = await start_server({"websocket.presence_grace_seconds": 300})
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    watcher = await alice.connect()
    socket = await bob.connect()
    await watcher.expect("presence.update", user_id="bob", status="online")
    for _ in range(3):
        await socket.close()
        await eventually(lambda: not server.connections_of("bob"))
        assert await online(alice, room_id) == ["alice", "bob"]
        socket = await bob.connect()
    assert await heard(watcher, "presence.update") == []
    await socket.close()
    await eventually(lambda: not server.connections_of("bob"))
    end_grace(server, "bob")
    await watcher.expect("presence.update", user_id="bob", status="offline")
    assert await online(alice, room_id) == ["alice"]


def end_grace(server: Server, user_id: str) -> None:
    """Now, not after it: it is long enough for a busy machine."""
    user = server.services.hub.find_online(server.services.tenants.all()[0].tenant_key, UserId(user_id))
    assert user is not None
    assert user.offline_timer is not None
    user.offline_timer.cancel()
    server.services.presence._leave(user)


async def unsubscribe(socket: Socket, room_id: str) -> None:
    await socket.send("unsubscribe", room_id=room_id)
    await socket.expect("unsubscribed", room_id=room_id)


@pytest.mark.slow
@pytest.mark.parametrize("who", ["both", "an earlier device"])
async def test_unsubscribed_member_still_shares_presence(start_server: StartServer, who: str) -> None:
    server = await start_server(GRACE)
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    watcher, socket = await alice.connect(), await bob.connect()
    await watcher.expect("presence.update", user_id="bob", status="online")
    if who == "both":
        await unsubscribe(watcher, room_id)
        await unsubscribe(socket, room_id)
    else:
        second = await bob.connect()
        await unsubscribe(second, room_id)
        await socket.close()
        await eventually(lambda: len(server.connections_of("bob")) == 1)
        socket = second
    await socket.close()
    await watcher.expect("presence.update", user_id="bob", status="offline")


async def test_unsubscribed_member_hears_nothing_after_removal(start_server: StartServer) -> None:
    server = await start_server(GRACE)
    alice, bob, carol = server.user("alice"), server.user("bob"), server.user("carol")
    room_id = await alice.make_room("bob", "carol")
    removed, witness, socket = await carol.connect(), await alice.connect(), await bob.connect()
    await hear(witness, "bob", "online")
    await unsubscribe(removed, room_id)
    await alice.delete(f"/rooms/{room_id}/members/carol")
    [room] = server.services.rooms.of_tenant(server.connections_of("bob")[0].tenant.tenant_key)
    assert not room.unsubscribed
    await heard(removed, "presence.update")
    await socket.close()
    await hear(witness, "bob", "offline")
    assert await heard(removed, "presence.update") == []
    await removed.close()
    await witness.send("subscribe", room_id=room_id)
    await unsubscribe(witness, room_id)
    await witness.send("subscribe", room_id=room_id)
    await witness.expect("subscribed")
    assert (len(room.subscribers), len(room.unsubscribed)) == (1, 0)
    await unsubscribe(witness, room_id)
    await witness.close()
    await eventually(lambda: not server.connections_of("alice"))
    assert (len(room.subscribers), len(room.unsubscribed)) == (0, 0)


async def test_user_added_to_a_room_within_the_grace_goes_offline_there_too(start_server: StartServer) -> None:
    """To the members of that room it was online: that is what they were told when they asked."""
    server = await start_server({"websocket.presence_grace_seconds": 300})
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room()
    watcher, socket = await alice.connect(), await bob.connect()
    await eventually(lambda: not server.services.presence._arrivals)
    await socket.close()
    await eventually(lambda: not server.connections_of("bob"))
    await alice.post(f"/rooms/{room_id}/members", {"user_id": "bob"})
    assert await online(alice, room_id) == ["alice", "bob"]
    end_grace(server, "bob")
    await watcher.expect("presence.update", user_id="bob", status="offline")


async def test_it_is_told_once_however_many_rooms_are_shared(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    for _ in range(3):
        await alice.make_room("bob")
    watcher = await alice.connect()
    await bob.connect()
    await watcher.expect("presence.update", user_id="bob", status="online")
    assert await heard(watcher, "presence.update") == []


async def test_it_is_never_told_to_oneself_nor_to_strangers(server: Server) -> None:
    alice, bob, carol = (server.user(name) for name in ("alice", "bob", "carol"))
    await alice.make_room("bob")
    await carol.make_room()
    stranger, own_device, friend = await carol.connect(), await bob.connect(), await alice.connect()
    await friend.expect_nothing("presence.update")  # bob and alice have come together: told in one turn
    await bob.connect()
    await own_device.expect("presence.update", user_id="alice", status="online")
    assert await heard(own_device, "presence.update") == []
    assert await heard(stranger, "presence.update") == []


@pytest.mark.parametrize(("members", "is_told"), [(MAX_PRESENCE_MEMBERS, True), (MAX_PRESENCE_MEMBERS + 1, False)])
async def test_only_rooms_of_up_to_200_members_are_told(server: Server, members: int, is_told: bool) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob", *(f"user{number}" for number in range(members - 2)))
    small_room = await server.user("carol").make_room("alice")
    watcher = await alice.connect()
    await bob.connect()
    await server.user("carol").connect()
    # Carol is told of after bob, in the same turn.
    await watcher.expect("presence.update", **({"user_id": "bob"} if is_told else {"user_id": "carol"}))
    assert await online(alice, room_id) == ["alice", "bob"]
    assert await online(alice, small_room) == ["alice", "carol"]


async def test_presence_route_lists_online_members(server: Server) -> None:
    alice, bob, carol = (server.user(name) for name in ("alice", "bob", "carol"))
    room_id = await alice.make_room("bob", "carol")
    await bob.connect()
    assert await online(carol, room_id) == ["bob"]
    assert (await server.user("mallory").get(f"/rooms/{room_id}/presence")).status == 403


@pytest.mark.slow
async def test_a_crowd_that_reconnects_makes_few_frames(start_server: StartServer) -> None:
    """1,000 users of rooms of 50 come back after a restart: each is told to those who are there, once, and the frames
    that are due go out in a few writes. Told one by one to a room of 1,000 it would be a million."""
    server = await start_server()
    names = [f"user{number}" for number in range(1000)]
    owner = server.user("owner")
    for first in range(0, 1000, 50):
        await owner.make_room(*names[first : first + 50])
    await owner.make_room(*names[:999])  # too large for presence
    frames = 0
    send_ephemeral = server.services.hub.send_ephemeral

    def count(connection: Any, frame: bytes) -> None:
        nonlocal frames
        frames += b"presence.update" in frame
        send_ephemeral(connection, frame)

    server.services.hub.send_ephemeral = count  # type: ignore[method-assign]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as server.session:
        await connect_all(server, names)
        await eventually(lambda: not server.services.presence._arrivals)
        assert 0 < frames <= 1000 * 49
        # An absence of everybody, as the restart of a proxy makes, is no event at all when it is short.
        frames = 0
        server.services.presence._grace_seconds = 300
        for connection in list(server.services.hub.connections.values()):
            connection.transport.abort()
        await eventually(lambda: not server.services.hub.connections)
        await connect_all(server, names)
        assert len(server.services.hub.connections) == 1000
        assert not server.services.presence._arrivals
        assert frames == 0
        server.services.presence._grace_seconds = 0


async def test_a_crowd_is_told_of_bit_by_bit(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "TOLD_AT_A_STRETCH", 4)
    server = await start_server()
    names = [f"user{number}" for number in range(10)]
    await server.user("owner").make_room(*names)
    watcher = await server.user("owner").connect()
    stretches: list[int] = []
    announce = server.services.presence._announce

    def count_left() -> int:
        return len(server.services.presence._arrivals) + len(server.services.presence._due_arrivals)

    def count() -> None:
        before = count_left()
        announce()
        stretches.append(before - count_left())

    server.services.presence._announce = count  # type: ignore[method-assign]
    await connect_all(server, names)
    told = [(await watcher.expect("presence.update", status="online"))["user_id"] for _ in names]
    assert sorted(told) == names
    # Each tells at least the watcher, so that no stretch has more than four.
    assert len(stretches) >= 3
    assert max(stretches) <= 4


async def test_a_crowd_is_told_of_room_by_room(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener gets all that a stretch has for it in one write."""
    monkeypatch.setattr(presence, "ANNOUNCE_SECONDS", 3600)
    names = [f"{room}{number}" for number in range(3) for room in "ab"]
    for room in "ab":
        await server.user("owner").make_room(*[name for name in names if name.startswith(room)])
    told: list[str] = []
    monkeypatch.setattr(
        server.services.presence, "tell_backend", lambda _tenant, user_id, _status: told.append(user_id)
    )
    for name in names:
        await server.user(name).connect()
    server.services.presence._announce()
    assert len(told) == len(names)
    assert told == sorted(told, key=lambda name: name[0])


async def test_one_who_leaves_before_the_crowd_is_told_of_is_told_of_to_nobody(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "TOLD_AT_A_STRETCH", 1)
    monkeypatch.setattr(presence, "STRETCH_SECONDS", 3600)
    monkeypatch.setattr(presence, "ANNOUNCE_SECONDS", 3600)
    server = await start_server({"websocket.presence_grace_seconds": 0})
    told: list[tuple[str, str]] = []
    service = server.services.presence
    monkeypatch.setattr(service, "tell_backend", lambda _tenant, user_id, status: told.append((user_id, status)))
    await connect_all(server, ["alice", "bob"])
    service._announce()
    [last] = service._due_arrivals  # they wait for the next stretch
    await server.leave()
    await eventually(lambda: not server.services.hub.list_online())
    service._announce()
    service._announce()
    assert (last.user_id, "online") not in told
    assert (last.user_id, "offline") not in told
    assert len(told) == 2


async def connect_all(server: Server, names: list[str]) -> None:
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(server.user(name).connect())


# Typing


async def room_of_two(server: Server) -> tuple[str, Socket, Socket]:
    """The room, the typist's connection and the other member's."""
    room_id = await server.user("alice").make_room("bob")
    return room_id, await server.user("alice").connect(), await server.user("bob").connect()


async def test_typing_goes_to_the_others_and_never_to_the_typist(server: Server) -> None:
    room_id, typist, other = await room_of_two(server)
    device = await server.user("alice").connect()
    await typist.send("typing.start", room_id=room_id)
    frame = await other.expect("typing")
    assert frame == {"type": "typing", "room_id": room_id, "user_id": "alice", "action": "start"}
    await typist.send("typing.stop", room_id=room_id)
    await other.expect("typing", action="stop")
    await typist.expect_nothing("typing")
    await device.expect_nothing("typing")


async def test_a_start_that_is_repeated_is_told_once(server: Server) -> None:
    room_id, typist, other = await room_of_two(server)
    for _ in range(3):
        await typist.send("typing.start", room_id=room_id)
    await typist.expect_nothing("error")
    assert len(await heard(other, "typing")) == 1
    await typist.send("typing.stop", room_id=room_id)
    await typist.send("typing.stop", room_id=room_id)
    await typist.expect_nothing("error")
    assert len(await heard(other, "typing")) == 1


async def test_the_server_stops_it(start_server: StartServer) -> None:
    server = await start_server(TYPING)
    room_id, typist, other = await room_of_two(server)
    await typist.send("typing.start", room_id=room_id)
    await other.expect("typing", action="start")
    await other.expect("typing", action="stop", user_id="alice")


@pytest.mark.parametrize("ending", ["message", "rest message", "leave", "removal", "disconnect"])
async def test_it_ends_with(server: Server, ending: str) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await bob.make_room("alice")
    typist, other = await alice.connect(), await bob.connect()
    await typist.send("typing.start", room_id=room_id)
    await other.expect("typing", action="start")
    if ending == "message":
        await typist.send("send_message", room_id=room_id, content="done")
    elif ending == "rest message":
        await alice.say(room_id, "done")
    elif ending == "disconnect":
        await typist.close()
    else:
        await (alice if ending == "leave" else bob).delete(f"/rooms/{room_id}/members/alice")
    await other.expect("typing", action="stop", user_id="alice")
    assert await heard(other, "typing") == []


@pytest.mark.parametrize("rule", ["mute", "ban", "ban of the tenant", "posting", "demotion", "block"])
async def test_it_ends_at_once_with(server: Server, rule: str) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await bob.make_room("alice", room_type="dm" if rule == "block" else "group")
    path = f"/rooms/{room_id}"
    if rule == "demotion":
        await bob.patch(f"{path}/members/alice", {"role": "admin"})
        await bob.patch(path, {"posting": "admins"})
    other = await bob.connect()
    typist = await alice.connect_raw(ready=True)  # it reads nothing, and answers no close frame
    typist.send_frame("typing.start", room_id=room_id)
    await other.expect("typing", action="start")
    method, target, body = {
        "mute": ("PATCH", f"{path}/members/alice", {"muted_for": 60}),
        "ban": ("PUT", f"{path}/bans/alice", {}),
        "ban of the tenant": ("PUT", "/users/alice/ban", {}),
        "posting": ("PATCH", path, {"posting": "admins"}),
        "demotion": ("PATCH", f"{path}/members/alice", {"role": "member"}),
        "block": ("PUT", "/blocks/alice", None),
    }[rule]
    assert (await bob.request(method, target, body)).status == 200
    assert [frame["action"] for frame in await heard(other, "typing")] == ["stop"]
    assert server.services.presence._typists == {}


async def test_admins_type_on_where_only_they_may_post(server: Server) -> None:
    room_id, typist, other = await room_of_two(server)
    await typist.send("typing.start", room_id=room_id)
    await other.expect("typing", action="start")
    await server.user("alice").patch(f"/rooms/{room_id}", {"posting": "admins"})
    assert await heard(other, "typing") == []


async def test_many_are_stopped_bit_by_bit(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "TOLD_AT_A_STRETCH", 4)
    alice, names = server.user("alice"), ["bob", "carol", "dave"]
    room_id = await alice.make_room(*names)
    watcher = await alice.connect()
    for name in names:
        await (await server.user(name).connect()).send("typing.start", room_id=room_id)
        await watcher.expect("typing", action="start")
    await alice.patch(f"/rooms/{room_id}", {"posting": "admins"})
    first = [frame["user_id"] for frame in await heard(watcher, "typing")]
    assert len(first) == 1  # told to three
    rest = [(await watcher.expect("typing", action="stop"))["user_id"] for _ in range(2)]
    assert sorted([*first, *rest]) == names


async def test_it_is_not_stored(server: Server) -> None:
    room_id, typist, other = await room_of_two(server)
    await typist.send("typing.start", room_id=room_id)
    await other.expect("typing", action="start")
    assert (await server.user("bob").get(f"/rooms/{room_id}/events")).data["events"] == []
    late = await server.user("bob").connect(ready=False)
    assert [frame["type"] for frame in await late.collect("sync.complete")] == ["ready"]


async def test_strangers_may_not_type(server: Server) -> None:
    room_id = await server.user("alice").make_room()
    socket = await server.user("mallory").connect()
    await socket.send("typing.start", room_id=room_id, request_id="r-1")
    await socket.expect("error", code="AUTHORIZATION_ERROR", request_id="r-1")


async def test_channel_reader_gets_no_typing_and_no_presence(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob", room_type="channel")
    reader = await server.user("mallory").connect()
    await reader.send("subscribe", room_id=room_id)
    await reader.expect("subscribed")
    typist, member = await alice.connect(), await bob.connect()
    await typist.send("typing.start", room_id=room_id)
    await member.expect("typing", action="start")
    await reader.expect_nothing("typing", "presence.update")


@pytest.mark.slow
async def test_user_whose_reconnect_fails_goes_offline_once(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that ends before its `ready` left two graces running; the second one forgot a newer session."""
    server = await start_server({"websocket.presence_grace_seconds": 1.5})
    alice, bob = server.user("alice"), server.user("bob")
    await bob.make_room("alice")
    watcher = await bob.connect()
    socket = await alice.connect()
    await watcher.expect("presence.update", status="online")
    await socket.close()
    await eventually(lambda: not server.connections_of("alice"))
    await asyncio.sleep(0.1)

    async def fail(_connection: object) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr(server.services.recovery, "enter_rooms", fail)
        await (await alice.connect(ready=False)).close_code()
    await watcher.expect("presence.update", status="offline")
    socket = await alice.connect()
    await watcher.expect("presence.update", status="online")
    await asyncio.sleep(1.5)
    await watcher.expect_nothing("presence.update")
    await socket.close()
