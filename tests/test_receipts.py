"""Acknowledged and read: monotonic, durable, told to those concerned, and counted in `unread_count`."""

import asyncio
import time
from typing import Any

import pytest
from conftest import StartServer
from driver import Reply, Server, User, eventually

from chatapi import receipts

KINDS = pytest.mark.parametrize("kind", ["ack", "read"])
ANSWERS = {"ack": "ack.received", "read": "read.updated"}


async def note(user: User, kind: str, room_id: str, seq: int) -> Reply:
    if kind == "ack":
        return await user.post("/acks", {"room_id": room_id, "seq": seq})
    return await user.post(f"/rooms/{room_id}/read", {"seq": seq})


async def standing(user: User, room_id: str) -> tuple[int, int]:
    receipts = (await user.get(f"/rooms/{room_id}/receipts")).data["receipts"]
    [found] = [receipt for receipt in receipts if receipt["user_id"] == user.user_id]
    return found["last_ack"], found["last_read"]


async def unread(user: User) -> int:
    [room] = (await user.get("/rooms")).data["rooms"]
    return int(room["unread_count"])


async def make_room_of(server: Server, count: int, *members: str) -> str:
    """A room with that many messages of alice."""
    alice = server.user("alice")
    room_id = await alice.make_room(*members)
    for _ in range(count):
        await alice.say(room_id)
    return room_id


@KINDS
async def test_it_only_grows_over_rest(shared_server: Server, kind: str) -> None:
    room_id = await make_room_of(shared_server, 3, "bob")
    bob = shared_server.user("bob")
    answers = [(await note(bob, kind, room_id, seq)).data for seq in (2, 1, 0, 3)]
    assert [answer["seq"] for answer in answers] == [2, 2, 2, 3]
    assert answers[0] == {"room_id": room_id, "seq": 2}
    assert await standing(bob, room_id) == ((3, 0) if kind == "ack" else (3, 3))


@KINDS
async def test_it_only_grows_over_websocket(shared_server: Server, kind: str) -> None:
    room_id = await make_room_of(shared_server, 3, "bob")
    socket = await shared_server.user("bob").connect()
    for seq, then in ((2, 2), (1, 2), (3, 3)):
        await socket.send(kind, room_id=room_id, seq=seq, request_id=f"to-{seq}")
        frame = await socket.next()
        assert frame == {
            "type": ANSWERS[kind],
            "room_id": room_id,
            "seq": then,
            "user_id": "bob",
            "request_id": f"to-{seq}",
        }


@KINDS
async def test_ack_or_read_beyond_the_last_seq_is_refused(shared_server: Server, kind: str) -> None:
    room_id = await make_room_of(shared_server, 2, "bob")
    bob, stranger = shared_server.user("bob"), shared_server.user("mallory")
    reply = await note(bob, kind, room_id, 3)
    assert (reply.status, reply.error["code"], reply.error["field"]) == (400, "VALIDATION_ERROR", "seq")
    assert (await note(stranger, kind, room_id, 1)).status == 403
    assert (await note(bob, kind, "room_of_nobody", 1)).status == 404
    socket = await bob.connect()
    await socket.send(kind, room_id=room_id, seq=3, request_id="r-1")
    await socket.expect("error", code="VALIDATION_ERROR", field="seq", request_id="r-1")
    assert await standing(bob, room_id) == (0, 0)


async def test_sending_acknowledges_nothing(shared_server: Server) -> None:
    room_id = await make_room_of(shared_server, 2)
    assert await standing(shared_server.user("alice"), room_id) == (0, 0)


async def test_all_that_was_confirmed_is_there_after_a_restart(start_server: StartServer) -> None:
    """An `ack` and a lower `read` of the same member share a transaction: neither may take the other's place."""
    server = await start_server()
    room_id = await make_room_of(server, 5, "bob", "carol")
    for name, first, second in (("bob", "ack", "read"), ("carol", "read", "ack")):
        socket = await server.user(name).connect()
        await socket.send(first, room_id=room_id, seq=5 if first == "ack" else 2)
        await socket.send(second, room_id=room_id, seq=5 if second == "ack" else 2)
        await socket.expect(ANSWERS[first])
        await socket.expect(ANSWERS[second])
        await socket.close()
    await server.app.close()
    server = await start_server()
    for name in ("bob", "carol"):
        assert await standing(server.user(name), room_id) == (5, 2)


@KINDS
async def test_ack_of_a_member_removed_before_the_write_gets_an_error(
    server: Server, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "FLUSH_SECONDS", 0.5)  # time enough for the removal
    room_id = await make_room_of(server, 1, "bob")
    bob = server.user("bob")
    socket = await bob.connect()
    await socket.send(kind, room_id=room_id, seq=1, request_id="r-1")
    await eventually(lambda: server.services.receipts._batch)
    room = server.services.rooms.find_loaded(server.connections_of("bob")[0].tenant.tenant_key, room_id)
    assert room is not None
    del room.members["bob"]  # type: ignore[arg-type]  # as its removal does, before the flush
    await socket.expect("error", code="AUTHORIZATION_ERROR", request_id="r-1")


async def test_many_share_a_transaction(server: Server) -> None:
    names = [f"user{number}" for number in range(20)]
    room_id = await make_room_of(server, 1, *names)
    batches = 0
    update = server.services.store.writer._commit

    async def count(batch: Any) -> None:
        nonlocal batches
        batches += 1
        await update(batch)

    server.services.store.writer._commit = count  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(note(server.user(name), "ack", room_id, 1))
    assert batches < len(names) / 2


# Who is told


@KINDS
async def test_the_users_other_devices_and_the_other_members_are_told(shared_server: Server, kind: str) -> None:
    room_id = await make_room_of(shared_server, 1, "bob")
    bob = shared_server.user("bob")
    requester, other_device = await bob.connect(), await bob.connect()
    other_member = await shared_server.user("alice").connect()
    await requester.send(kind, room_id=room_id, seq=1)
    told = {"room_id": room_id, "seq": 1, "user_id": "bob"}
    for socket in (requester, other_device, other_member):
        await socket.expect(ANSWERS[kind], **told)
    for socket in (requester, other_device, other_member):
        await socket.expect_nothing("ack.received", "read.updated")


async def test_rest_tells_them_as_well(shared_server: Server) -> None:
    room_id = await make_room_of(shared_server, 1, "bob")
    bob = shared_server.user("bob")
    device, other_member = await bob.connect(), await shared_server.user("alice").connect()
    await note(bob, "read", room_id, 1)
    await device.expect("read.updated", seq=1, user_id="bob")
    await other_member.expect("read.updated", seq=1, user_id="bob")


@pytest.mark.slow
async def test_others_hear_of_the_latest_only(server: Server) -> None:
    room_id = await make_room_of(server, 30, "bob")
    other_member = await server.user("alice").connect()
    socket = await server.user("bob").connect()
    begun_s = time.monotonic()
    for seq in range(1, 31):
        await socket.send("ack", room_id=room_id, seq=seq)
        await socket.expect("ack.received", seq=seq)
    heard: list[int] = []
    while not heard or heard[-1] < 30:
        heard.append((await other_member.expect("ack.received", user_id="bob"))["seq"])
    assert heard == sorted(set(heard))
    assert len(heard) <= 5 * (time.monotonic() - begun_s) + 1


async def test_members_of_large_rooms_are_not_told(shared_server: Server) -> None:
    room_id = await make_room_of(shared_server, 1, *(f"user{number}" for number in range(100)))
    small = await make_room_of(shared_server, 1, "user0")
    witness = await shared_server.user("alice").connect()
    socket = await shared_server.user("user0").connect()
    await socket.send("read", room_id=room_id, seq=1)
    await socket.expect("read.updated", room_id=room_id)
    await socket.send("read", room_id=small, seq=1)
    # They would be told in the same turn.
    frames = [await witness.expect("read.updated")]
    await witness.expect_nothing("read.updated")
    assert [frame["room_id"] for frame in frames] == [small]


async def test_a_device_that_still_gets_its_backlog_hears_of_a_read(shared_server: Server) -> None:
    """It was told how far its user has read before: that has to stay right."""
    room_id = await make_room_of(shared_server, 1, "bob")
    bob = shared_server.user("bob")
    socket = await bob.connect(sync="none", ready=False)
    [room] = (await socket.expect("ready"))["rooms"]
    assert room["last_read"] == 0
    await note(bob, "read", room_id, 1)
    await socket.expect("read.updated", seq=1, user_id="bob")


# Unread


async def test_unread_counts_are_right_on_every_device(shared_server: Server) -> None:
    room_id = await make_room_of(shared_server, 4, "bob")
    bob = shared_server.user("bob")
    first, second = await bob.connect(), await bob.connect()
    assert await unread(bob) == 4
    await first.send("ack", room_id=room_id, seq=4)
    await first.expect("ack.received")
    assert await unread(bob) == 4  # delivered is not read
    await first.send("read", room_id=room_id, seq=3)
    await second.expect("read.updated", seq=3)
    assert await unread(bob) == 1
    await second.send("read", room_id=room_id, seq=2)
    await second.expect("read.updated", seq=3)
    assert await unread(bob) == 1


async def test_own_and_deleted_messages_and_other_events_are_not_unread(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")
    await bob.say(room_id)
    kept, gone = await alice.say(room_id), await alice.say(room_id)
    assert await unread(bob) == 2
    await alice.delete(f"/rooms/{room_id}/messages/{gone['message_id']}")
    await alice.put(f"/rooms/{room_id}/messages/{kept['message_id']}", {"content": "edited"})
    await alice.patch(f"/rooms/{room_id}", {"name": "named"})
    assert await unread(bob) == 1
    assert await unread(alice) == 1


async def test_receipts_are_paged(shared_server: Server) -> None:
    room_id = await make_room_of(shared_server, 1, "bob", "carol")
    await note(shared_server.user("bob"), "ack", room_id, 1)
    first = (await shared_server.user("alice").get(f"/rooms/{room_id}/receipts", limit=2)).data
    second = (await shared_server.user("alice").get(f"/rooms/{room_id}/receipts", limit=2, offset=2)).data
    assert (len(first["receipts"]), first["has_more"]) == (2, True)
    assert (len(second["receipts"]), second["has_more"]) == (1, False)
    assert {"user_id": "bob", "last_ack": 1, "last_read": 0} in first["receipts"] + second["receipts"]
