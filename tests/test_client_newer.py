"""A 1.0 SDK before a server of a later 1.x: the cases of sdk_cases.json that need a newer server."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from client_rig import (
    TRANSPORTS,
    Inbox,
    Rig,
    contents,
    eventually,
    make_rig,
    numbered,
    parametrize_way,
    seqs,
    stored_messages,
)
from newer import CASES, NEWS, NewerServer, open_newer
from server_process import ServerProcess

from chatapi.client import ApiError, ChatAPI, is_log_event
from chatapi.errors import Code


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server"), {"limits.sync_limit": "20"}) as process:
        yield process


@pytest.fixture
async def newer_and_url(process: ServerProcess) -> AsyncIterator[tuple[NewerServer, str]]:
    async with open_newer(process.url) as newer_and_url:
        yield newer_and_url


@pytest.fixture
def newer(newer_and_url: tuple[NewerServer, str]) -> NewerServer:
    return newer_and_url[0]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize_way(metafunc)


@pytest.fixture
async def rig(newer_and_url: tuple[NewerServer, str], process: ServerProcess, way: str) -> AsyncIterator[Rig]:
    async with make_rig(newer_and_url[1], process.master_key) as rig:
        if way in TRANSPORTS:
            rig.options["transports"] = (way,)
        yield rig


def test_every_case_of_a_newer_server_is_here() -> None:
    here = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    cases = {case["name"] for case in CASES["cases"] if case.get("needs") == "newer"}
    assert cases == here - {"every_case_of_a_newer_server_is_here"}


async def make_history(alice: ChatAPI, room: str) -> None:
    """Six events, of which four are of kinds that a newer server has for them."""
    message_id = (await alice.send_message(room, "first"))["message_id"]
    await alice.edit_message(room, message_id, "second")
    await alice.update_room(room, name="renamed")
    await alice.add_member(room, "carol")
    await alice.update_member(room, "carol", "admin")
    await alice.send_message(room, "last")


async def rename(alice: ChatAPI, room: str, first: int, last: int) -> None:
    """Every other event is a message, and those between are of a kind that is not known."""
    for number in range(first, last + 1):
        if number % 2:
            await alice.send_message(room, f"message {number}")
        else:
            await alice.update_room(room, name=f"name {number}")


async def log_of(inbox: Inbox, room: str, last_seq: int) -> list[Any]:
    """What came of the room's log, once `last_seq` is there."""

    async def has_come() -> bool:
        return any(is_log_event(event) and event["seq"] == last_seq for event in inbox.events)

    await eventually(has_come)
    await inbox.connection.ping()
    return [event for event in inbox.events if is_log_event(event) and event["room_id"] == room]


async def until_acknowledged(client: ChatAPI, room: str, user_id: str, seq: int) -> None:
    async def is_acknowledged() -> bool:
        receipts = (await client.list_receipts(room))["receipts"]
        return any((receipt["user_id"], receipt["last_ack"]) == (user_id, seq) for receipt in receipts)

    await eventually(is_acknowledged)


async def test_new_kinds_of_events_are_of_the_log(rig: Rig, newer: NewerServer) -> None:
    room = await rig.group("alice", "bob")
    alice, bob = rig.client("alice"), await rig.connect("bob")
    await make_history(alice, room)
    log = await log_of(bob, room, 6)
    kinds = NEWS["values"]["type"]
    told = ["message.edited", "room.updated", "member.joined", "member.updated"]
    assert [event["type"] for event in log] == ["message", *(kinds[kind] for kind in told), "message"]
    assert seqs(log) == [1, 2, 3, 4, 5, 6]
    assert newer.reads == 0
    await until_acknowledged(alice, room, "bob", 6)


async def test_new_kinds_of_events_are_caught_up(rig: Rig, newer: NewerServer) -> None:
    room = await rig.group("alice", "bob")
    alice, bob = rig.client("alice"), await rig.connect("bob")
    await rename(alice, room, 1, 1)
    await bob.messages(room, 1)
    await bob.connection.pause()
    await rename(alice, room, 2, 11)
    await bob.connection.resume()
    assert seqs(await log_of(bob, room, 11)) == list(range(1, 12))
    assert newer.reads == 0  # the server streamed them
    kept = json.loads(json.dumps(bob.connection.cursors))
    assert kept["rooms"][room] == 11

    await bob.connection.pause()
    await rename(alice, room, 12, 51)
    await bob.connection.resume()
    log = await log_of(bob, room, 51)
    assert seqs(log) == list(range(1, 52))
    assert [event["type"] for event in log] == ["message", "poll.closed"] * 25 + ["message"]
    assert newer.reads > 0
    other = await rig.connect("bob", cursors=kept)
    assert seqs(await log_of(other, room, 51)) == list(range(12, 52))


async def test_new_fields_and_values_are_passed_on(rig: Rig) -> None:
    room = await rig.group("alice", "bob")
    bob = await rig.connect("bob")
    alice = rig.client("alice")
    await make_history(alice, room)
    shown: list[Any] = [
        await alice.get_room(room),
        *(await alice.list_rooms())["rooms"],
        *(await alice.list_members(room))["members"],
        *(await alice.list_messages(room))["messages"],
        *(await alice.list_events(room))["events"],
        *await log_of(bob, room, 6),
        bob.connection.ready,
        bob.connection.ready["rooms"][0],
    ]
    [field] = NEWS["fields"]
    assert all(one[field] == NEWS["fields"][field] for one in shown)
    assert shown[0]["type"] == bob.connection.ready["rooms"][0]["type"] == "huddle"
    assert {member["role"] for member in (await alice.list_members(room))["members"]} == {"owner", "member"}
    [renamed] = [event for event in shown if event.get("type") == "poll.closed" and "name" in event][:1]
    assert (renamed["room_type"], renamed["metadata"]) == ("huddle", None)
    await rig.connect("alice")
    await bob.until("presence.update", user_id="alice", status="away")


async def test_new_frames_disturb_nothing(rig: Rig) -> None:
    room = await rig.group("alice", "bob")
    alice, bob = await rig.connect("alice"), await rig.connect("bob")
    texts = numbered("message", 10)
    sent = [await alice.connection.send(room, text) for text in texts]
    edited = await alice.connection.edit(room, sent[-1]["message_id"], "edited")
    assert (edited["seq"], edited["content"]) == (11, "edited")
    messages = await bob.messages(room, 10)
    assert (contents(messages), seqs(messages)) == (texts, list(range(1, 11)))
    await bob.connection.ping()
    come = bob.events[bob.events.index(messages[0]) :]
    between = [event for event in come if event in NEWS["frames"]]
    assert between[: 9 * len(NEWS["frames"])] == NEWS["frames"] * 9
    assert contents(await stored_messages(rig.client("alice"), room)) == [*texts[:-1], "edited"]


@pytest.mark.slow
async def test_new_error_codes_are_told(
    rig: Rig, newer_and_url: tuple[NewerServer, str], process: ServerProcess
) -> None:
    room = await rig.group("alice", "bob")
    alice = await rig.connect("alice")
    await rig.client("alice").create_room("dm", ["bob"])
    with pytest.raises(ApiError) as caught:
        await rig.client("alice").create_room("dm", ["bob"])
    assert (caught.value.raw_code, caught.value.code, caught.value.status) == ("ROOM_EXISTS", Code.CONFLICT, 409)
    with pytest.raises(ApiError) as caught:
        await alice.connection.send(room, "")
    assert (caught.value.raw_code, caught.value.status, caught.value.field) == ("UNACCEPTABLE", 400, "content")
    assert str(caught.value).startswith("UNACCEPTABLE: ")
    assert (await alice.connection.send(room, "and on"))["seq"] == 1

    async with make_rig(rig.url, process.master_key, rate_limit=5, rate_burst=3) as hasty:
        room = await hasty.group("alice", "bob")
        slowed = await hasty.connect("alice")
        for text in numbered("message", 4):
            await slowed.connection.send(room, text)
        assert contents(await stored_messages(hasty.client("alice"), room)) == numbered("message", 4)


async def test_new_close_codes_end_no_connection(rig: Rig, newer: NewerServer) -> None:
    room = await rig.group("alice", "bob")
    told: list[Exception] = []
    bob = await rig.connect("bob", max_delay_s=0.1, on_error=told.append)
    for count, code in enumerate(NEWS["close_codes"], start=1):
        await newer.close(code)
        await rig.client("alice").send_message(room, f"after {code}")
        await bob.until("ready", count + 1)
        await bob.messages(room, count)
    await bob.connection.ping()
    log = await log_of(bob, room, len(NEWS["close_codes"]))
    assert contents(log) == [f"after {code}" for code in NEWS["close_codes"]]
    assert told == []
