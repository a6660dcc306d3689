"""`POST /sync`: events after the client's cursors, at once or as soon as there is one."""

import asyncio
import json
from typing import Any, cast

import pytest
from conftest import StartServer
from driver import HandClock, Server, eventually, say_many
from polls import EMPTY_ANSWER, polls_of, shown, sync, waiting

from chatapi import polling
from chatapi.doorbell import Doorbell
from chatapi.protocol.wire import encode_text

# What is there already


async def test_it_begins_at_last_ack_and_goes_on_from_its_own_answer(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id, quiet = await alice.make_room("bob"), await alice.make_room("bob")
    for _ in range(4):
        await alice.say(room_id)
    await bob.post("/acks", {"room_id": room_id, "seq": 1})
    answer = await sync(bob)
    assert shown(answer) == [(room_id, 2), (room_id, 3), (room_id, 4)]
    log = (await bob.get(f"/rooms/{room_id}/events", after_seq=1)).data["events"]
    assert answer["events"] == log
    assert answer["rooms"] == {room_id: 4}  # and not the quiet one
    again = await sync(bob, epoch=answer["epoch"], rooms={**answer["rooms"], quiet: 0})
    assert again == {**EMPTY_ANSWER, "epoch": answer["epoch"], "rooms": {room_id: 4, quiet: 0}}
    await alice.say(quiet)
    await alice.say(room_id)
    assert sorted(shown(await sync(bob, rooms={room_id: 4, quiet: 0}))) == sorted([(room_id, 5), (quiet, 1)])
    assert (await bob.request("POST", "/sync")).data["rooms"] == {room_id: 5, quiet: 1}  # without a body, too
    assert not server.services.hub.connections  # none of them may wait


async def test_pages_go_through_everything_the_least_behind_first(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    rooms = [await alice.make_room("bob") for _ in range(3)]
    for room_id, count in zip(rooms, (300, 7, 2), strict=True):
        await say_many(alice, room_id, count)
    cursors: dict[str, int] = {}
    found: list[tuple[str, int]] = []
    pages = 0
    while True:
        answer = await sync(bob, rooms=cursors, limit=25)
        assert len(answer["events"]) <= 25
        found += shown(answer)
        cursors |= answer["rooms"]
        pages += 1
        if not answer["has_more"]:
            break
    assert pages == -(-309 // 25)
    assert found[:9] == [*((rooms[2], seq) for seq in (1, 2)), *((rooms[1], seq) for seq in range(1, 8))]
    for room_id, count in zip(rooms, (300, 7, 2), strict=True):
        assert [seq for room, seq in found if room == room_id] == list(range(1, count + 1))
    assert cursors == dict(zip(rooms, (300, 7, 2), strict=True))


async def test_an_answer_has_about_one_mebibyte(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    for _ in range(40):
        await alice.say(room_id, "x" * 60_000)
    seqs: list[int] = []
    while len(seqs) < 40:
        answer = await sync(alice, rooms={room_id: len(seqs)}, limit=1000)
        assert 0 < len(json.dumps(answer["events"])) <= 1024 * 1024 + 61_000
        seqs += [seq for _, seq in shown(answer)]
        assert answer["has_more"] == (len(seqs) < 40)
    assert seqs == list(range(1, 41))


async def test_the_cursors_and_errors_of_an_answer_count_to_its_bytes(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "ROOM_BYTES", 500_000)
    alice = server.user("alice")
    room_id = await alice.make_room()
    for _ in range(3):
        await alice.say(room_id, "x" * 60_000)
    answer = await sync(alice, rooms={room_id: 0, "room_0": 0})
    assert (shown(answer), answer["has_more"]) == ([(room_id, 1)], True)


async def test_it_reads_no_more_rooms_than_it_answers_with(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = server.user("alice")
    rooms = [await alice.make_room() for _ in range(30)]
    for room_id in rooms:
        await alice.say(room_id)
    read: list[object] = []
    read_frames = server.services.recovery.read_frames

    def note(room: Any, cursor: int) -> Any:
        read.append(room)
        return read_frames(room, cursor)

    monkeypatch.setattr(server.services.recovery, "read_frames", note)
    answer = await sync(alice, limit=4)
    assert (len(answer["events"]), len(read), answer["has_more"]) == (4, 4, True)
    await say_many(alice, rooms[0], 300)  # more than a ring holds
    monkeypatch.setattr(polling, "MAX_ANSWER_BYTES", 1)
    monkeypatch.setattr(polling, "ROOM_BYTES", 0)
    cursors: dict[str, int] = {}
    for _ in range(2):  # of many rooms one is read, of the many pages of a room one
        read.clear()
        answer = await sync(alice, limit=1000, rooms=cursors)
        assert (len(answer["events"]), len(read), answer["has_more"]) == (1, 1, True)
        cursors = {**dict.fromkeys(rooms, 1), rooms[0]: 0}
    await alice.post("/notify", {"topic": "t", "payload": 1, "targets": {"user_ids": ["alice"]}})
    answer = await sync(alice)
    assert (len(answer["notifications"]), answer["events"], answer["has_more"]) == (1, [], True)


async def test_events_that_retention_removes_meanwhile_hold_nobody_up(server: Server) -> None:
    """The next poll names it as a gap."""
    alice = server.user("alice")
    room_id = await alice.make_room()
    await alice.say(room_id)

    async def find_none(*_: object) -> list[bytes]:
        return []

    server.services.recovery.read_frames = find_none  # type: ignore[method-assign]
    answer = await sync(alice, rooms={room_id: 0})
    assert (answer["events"], answer["rooms"], answer["has_more"]) == ([], {room_id: 0}, True)


async def test_more_than_sync_limit_is_paged(start_server: StartServer) -> None:
    server = await start_server({"limits.sync_limit": 2})
    alice = server.user("alice")
    room_id = await alice.make_room()
    await say_many(alice, room_id, 150)
    answer = await sync(alice, limit=1000)
    assert shown(answer) == [(room_id, seq) for seq in range(1, 151)]
    assert answer["gaps"] == []


async def test_rooms_that_cannot_be_read_stand_in_errors(server: Server) -> None:
    alice, bob, carol = (server.user(name) for name in ("alice", "bob", "carol"))
    room_id, foreign, gone = await bob.make_room("alice"), await bob.make_room(), await bob.make_room("alice")
    await bob.delete(f"/rooms/{gone}/members/alice")
    other = server.user("alice", (await server.make_tenant("other"))["api_key"])
    answer = await sync(alice, rooms={room_id: 0, foreign: 0, gone: 0, "room_0": 0}, wait=60)
    assert answer["rooms"] == {room_id: 0}
    codes = {room: error["code"] for room, error in answer["errors"].items()}
    assert codes == {foreign: "AUTHORIZATION_ERROR", gone: "AUTHORIZATION_ERROR", "room_0": "NOT_FOUND"}
    assert (await sync(other, rooms={room_id: 0}))["errors"][room_id]["code"] == "NOT_FOUND"
    assert (await sync(carol))["events"] == []


async def test_a_channel_that_it_names_is_read_by_nobody_afterwards(server: Server) -> None:
    alice, reader = server.user("alice"), server.user("reader")
    channel = await alice.make_room(room_type="channel")
    await alice.say(channel)
    assert shown(await sync(reader, rooms={channel: 0})) == [(channel, 1)]
    async with waiting(server, reader, rooms={channel: 1}) as task:
        await alice.say(channel)
        answer = (await task).data
    assert (shown(answer), answer["rooms"]) == ([(channel, 2)], {channel: 2})
    assert shown(await sync(reader)) == []
    [connection] = server.connections_of("reader")
    assert not connection.rooms


async def test_wrong_cursors_are_reset(server: Server) -> None:
    alice = server.user("alice")
    room_id, other = await alice.make_room(), await alice.make_room()
    for _ in range(3):
        await alice.say(room_id)
    await alice.post("/acks", {"room_id": room_id, "seq": 2})
    for body in ({"rooms": {room_id: 9, other: 0}}, {"rooms": {room_id: 3}, "epoch": "of another time"}):
        answer = await sync(alice, wait=60, **body)
        assert answer["reset"] == {room_id: 2}
        assert shown(answer) == [(room_id, 3)]
        assert answer["rooms"][room_id] == 3
    answer = await sync(alice, wait=60, rooms={room_id: 3, other: 1})  # that alone ends a wait
    assert (answer["reset"], shown(answer)) == ({other: 0}, [])


async def test_retention_leaves_a_gap(start_server: StartServer) -> None:
    server = await start_server()
    alice = server.user("alice")
    room_id = await alice.make_room()
    await say_many(alice, room_id, 5)
    room = await server.services.rooms.get(server.services.tenants.all()[0], room_id)
    room.pruned_seq = 3
    answer = await sync(alice)
    assert answer["gaps"] == [{"room_id": room_id, "from_seq": 1, "to_seq": 3}]
    assert shown(answer) == [(room_id, 4), (room_id, 5)]
    room.pruned_seq = 5
    answer = await sync(alice, rooms={room_id: 2}, wait=60)  # a gap ends the wait, too
    assert (answer["gaps"], answer["rooms"]) == ([{"room_id": room_id, "from_seq": 3, "to_seq": 5}], {room_id: 5})


async def test_notifications_come_after_the_one_that_it_names(server: Server) -> None:
    alice = server.user("alice")

    async def notify(number: int) -> str:
        body = {"topic": "t", "payload": number, "targets": {"user_ids": ["alice"]}}
        return str((await alice.post("/notify", body)).data["notification_id"])

    ids = [await notify(number) for number in range(27)]
    answer = await sync(alice, wait=60)
    assert [one["notification_id"] for one in answer["notifications"]] == ids[:25]
    assert answer["has_more"]
    assert answer["notifications"][0].keys() == {"type", "notification_id", "topic", "payload", "created_at"}
    answer = await sync(alice, after_notification=ids[24])
    assert [one["payload"] for one in answer["notifications"]] == [25, 26]
    assert not answer["has_more"]
    async with waiting(server, alice, after_notification=ids[26]) as task:
        last = await notify(27)
        assert [one["notification_id"] for one in (await task).data["notifications"]] == [last]
    await alice.post(f"/notifications/{last}/ack")
    assert (await sync(alice, after_notification=ids[26]))["notifications"] == []


async def test_a_notification_that_comes_while_others_are_read_ends_the_wait(server: Server) -> None:
    alice, recovery = server.user("alice"), server.services.recovery
    read, has_read, go_on = recovery.read_notifications, asyncio.Event(), asyncio.Event()

    async def hold(*given: Any) -> Any:
        page = await read(*given)
        has_read.set()
        await go_on.wait()
        return page

    recovery.read_notifications = hold  # type: ignore[method-assign]
    task = asyncio.ensure_future(alice.post("/sync", {"wait": 60}))
    await has_read.wait()
    await alice.post("/notify", {"topic": "t", "payload": 1, "targets": {"user_ids": ["alice"]}})
    go_on.set()
    assert [one["payload"] for one in (await task).data["notifications"]] == [1]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"wait": 61}, "wait"),
        ({"wait": -1}, "wait"),
        ({"wait": 1.5}, "wait"),
        ({"wait": "1"}, "wait"),
        ({"wait": True}, "wait"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"rooms": {"a": -1}}, "rooms.a"),
        ({"rooms": {"a": "1"}}, "rooms.a"),
        ({"rooms": []}, "rooms"),
        ({"epoch": "e" * 65}, "epoch"),
        ({"after_notification": "notif_x"}, "after_notification"),
    ],
)
async def test_a_wrong_body_is_refused(shared_server: Server, body: dict[str, object], field: str) -> None:
    reply = await shared_server.user("alice").post("/sync", body)
    assert (reply.status, reply.error["code"], reply.error["field"]) == (400, "VALIDATION_ERROR", field)
    assert not shared_server.connections_of("alice")


# Waiting


async def test_a_wait_ends_with_the_first_event_and_not_before(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id, other = await alice.make_room("bob"), await alice.make_room()
    watching = await alice.connect()
    async with waiting(server, bob) as task:
        await watching.send("typing.start", room_id=room_id)  # no frame outside the log ends it
        await alice.post(f"/rooms/{room_id}/read", {"seq": 0})
        await alice.say(other)
        await watching.expect_nothing("error")
        assert not task.done()
        await alice.say(room_id)
        answer = (await task).data
    assert (shown(answer), answer["rooms"]) == ([(room_id, 1)], {room_id: 1})
    async with waiting(server, bob, rooms=answer["rooms"]) as task:
        new = await alice.make_room("bob")
        await alice.say(new)
        assert shown((await task).data) == [(new, 1)]


async def test_every_kind_of_event_ends_it_and_none_is_missed_between_two(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    message_id = (await alice.say(room_id))["message_id"]
    path = f"/rooms/{room_id}/messages/{message_id}"
    cursors = {room_id: 1}
    found: list[str] = []

    async def listen() -> None:
        while len(found) < 5:
            answer = await sync(bob, rooms=cursors, wait=60)
            assert [seq for _, seq in shown(answer)] == list(
                range(cursors[room_id] + 1, cursors[room_id] + 1 + len(answer["events"]))
            )
            cursors.update(answer["rooms"])
            found.extend(event["type"] for event in answer["events"])

    async with asyncio.TaskGroup() as group:
        group.create_task(listen())
        await alice.put(path, {"content": "better"})
        await alice.request("PUT", f"{path}/reactions/:ship:")
        await alice.patch(f"/rooms/{room_id}", {"name": "named"})
        await alice.post(f"/rooms/{room_id}/members", {"user_id": "carol"})
        await alice.delete(path)
    assert found == ["message.edited", "reaction.added", "room.updated", "member.joined", "message.deleted"]
    assert polls_of(server, "bob") == 1


async def test_only_events_of_the_log_and_notifications_ring() -> None:
    """All else would let a poll look at its rooms again, for nothing: an answer that is written bit by bit, 20 times a
    second."""
    doorbell = Doorbell(lambda: None)
    for frame_type, rings in (
        *((kind, False) for kind in ("message.delta", "message.state", "typing", "presence.update", "read.updated")),
        ("message.finished", True),
        ("notification", True),
    ):
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        doorbell.wait_with(waiter)
        doorbell.write(encode_text(b'{"type":"%s","room_id":"room_1"}' % frame_type.encode()))
        assert (waiter.done(), len(doorbell.disarm())) == (rings, rings), frame_type


async def test_a_member_who_is_removed_while_waiting_hears_of_it(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    async with waiting(server, bob, rooms={room_id: 0}) as task:
        await alice.delete(f"/rooms/{room_id}/members/bob")
        answer = (await task).data
    assert [event["type"] for event in answer["events"]] == ["member.left"]
    assert (answer["rooms"], answer["errors"][room_id]["code"]) == ({}, "AUTHORIZATION_ERROR")
    await alice.say(room_id, "not for bob")
    assert shown(await sync(bob, wait=0)) == []


async def test_nothing_comes_of_a_room_that_was_left_between_two_polls(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    assert shown(await sync(bob, wait=60, rooms={"room_0": 0})) == []
    await alice.say(room_id)
    await alice.delete(f"/rooms/{room_id}/members/bob")
    [connection] = server.connections_of("bob")
    assert shown(await sync(bob, wait=60, rooms={"room_0": 0})) == []
    assert (server.connections_of("bob"), list(connection.rooms)) == ([connection], [])


async def test_a_wait_goes_on_in_a_channel_that_the_user_has_left(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob", room_type="channel")
    async with waiting(server, bob, rooms={room_id: 0}) as task:
        await bob.delete(f"/rooms/{room_id}/members/bob")
        answer = (await task).data
    assert ([event["type"] for event in answer["events"]], answer["rooms"]) == (["member.left"], {room_id: 1})
    await alice.say(room_id)
    assert shown(await sync(bob, rooms=answer["rooms"])) == [(room_id, 2)]


async def test_the_last_events_of_rooms_that_were_left_count_to_the_limit(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    left, other = await alice.make_room("bob"), await alice.make_room("bob")
    async with waiting(server, bob, rooms={left: 0, other: 0}, limit=2) as task:
        await server.together(
            *(alice.post(f"/rooms/{room_id}/messages", {"content": "hello"}) for room_id in (left, other)),
            alice.delete(f"/rooms/{left}/members/bob"),
        )
        answer = (await task).data
    assert (shown(answer), answer["has_more"]) == ([(left, 1), (left, 2)], True)
    assert shown(await sync(bob, rooms=answer["rooms"])) == [(other, 1)]
    async with waiting(server, bob, rooms={other: 1}, limit=1) as task:
        await server.together(alice.say(other), alice.delete(f"/rooms/{other}/members/bob"))
        assert shown((await task).data) == [(other, 2)]


async def test_a_wait_ends_when_a_room_that_it_names_is_deleted(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_ids = [await alice.make_room("bob") for _ in range(2)]
    async with waiting(server, bob, rooms={room_ids[0]: 0}) as task:
        await alice.delete(f"/rooms/{room_ids[1]}")
        await alice.delete(f"/rooms/{room_ids[0]}")
        answer = (await task).data
    assert (answer["events"], answer["rooms"]) == ([], {})
    assert {room_id: error["code"] for room_id, error in answer["errors"].items()} == {room_ids[0]: "NOT_FOUND"}


@pytest.mark.slow
async def test_a_wait_ends_empty_when_its_time_is_over(server: Server) -> None:
    room_id = await server.user("alice").make_room()
    answer = await sync(server.user("alice"), rooms={room_id: 0}, wait=1)
    assert answer == {**EMPTY_ANSWER, "epoch": answer["epoch"], "rooms": {room_id: 0}}


async def test_waits_have_each_their_own_cursors_up_to_the_limit_of_connections(server: Server) -> None:
    made = await server.make_tenant("small", connections_per_user=2)
    alice, bob = (server.user(name, made["api_key"]) for name in ("alice", "bob"))
    room_id = await alice.make_room("bob")
    await alice.say(room_id)
    async with waiting(server, bob, rooms={room_id: 1}) as first, waiting(server, bob, rooms={room_id: 1}) as second:
        reply = await bob.post("/sync", {"wait": 1})
        assert (reply.status, reply.error["code"], reply.headers["Retry-After"]) == (429, "RATE_LIMIT_EXCEEDED", "1")
        assert shown(await sync(bob)) == [(room_id, 1)]  # one that does not wait is no connection
        await alice.say(room_id)
        assert shown((await first).data) == shown((await second).data) == [(room_id, 2)]
    assert polls_of(server, "bob") == 2


async def test_one_that_polls_on_purpose_holds_one_connection(start_server: StartServer) -> None:
    server = await start_server({"websocket.presence_grace_seconds": 300})
    made = await server.make_tenant("small", connections_per_user=1)
    alice = server.user("alice", made["api_key"])
    room_id = await alice.make_room()
    await alice.say(room_id)
    for _ in range(30):
        assert shown(await sync(alice, wait=60)) == [(room_id, 1)]
        assert polls_of(server, "alice") == 1
    [connection] = server.connections_of("alice")
    for _ in range(5):  # nor does one that goes away hold what it had
        async with waiting(server, alice, rooms={room_id: 1}) as task:
            task.cancel()
        await eventually(lambda: not cast(Doorbell, connection.transport).is_taken)
    assert server.connections_of("alice") == [connection]


async def test_it_takes_one_token(start_server: StartServer) -> None:
    server = await start_server({"limits.rate_limit": 2}, clock=HandClock())
    alice = server.user("alice")
    assert (await alice.post("/sync", {})).headers["X-RateLimit-Remaining"] == "1"
    await alice.post("/sync", {})
    assert (await alice.post("/sync", {})).status == 429
