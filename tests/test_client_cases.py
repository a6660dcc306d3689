"""The cases of sdk_cases.json, as the Python SDK shows them. Others are in test_client_conversations.py,
test_client_streams.py, test_client_moves.py, test_client_foreign_answers.py and test_client_newer.py."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from client_rig import (
    CASES,
    Inbox,
    Rig,
    acknowledged,
    contents,
    eventually,
    make_rig,
    numbered,
    parametrize_way,
    seqs,
    stored_messages,
    until_acknowledged,
)
from newer import open_newer
from server_process import ServerProcess

from chatapi.client import ApiError, ChatAPI, Event, is_log_event
from chatapi.errors import Code


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server"), {"limits.sync_limit": "20"}) as process:
        yield process


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each case holds over every transport, and also where a newer server adds fields and frames of its own."""
    parametrize_way(metafunc, "one that adds to it")


@pytest.fixture
async def url(process: ServerProcess, way: str) -> AsyncIterator[str]:
    if way != "one that adds to it":
        yield process.url
        return
    async with open_newer(process.url, renames=False) as (_, url):
        yield url


@pytest.fixture
async def rig(process: ServerProcess, url: str, way: str) -> AsyncIterator[Rig]:
    async with make_rig(url, process.master_key) as rig:
        if way in ("sse", "poll"):
            rig.options["transports"] = (way,)
        yield rig


def test_every_shared_case_is_here() -> None:
    """Those of a newer server are in test_client_newer.py."""
    subjects = ("conversations", "streams", "moves", "foreign_answers")
    files = ("test_client_cases.py", *(f"test_client_{subject}.py" for subject in subjects))
    texts = [(Path(__file__).parent / file).read_text() for file in files]
    here = {name for text in texts for name in re.findall(r"^async def test_(\w+)", text, re.MULTILINE)}
    assert {case["name"] for case in CASES if case.get("needs") != "newer"} == here


async def restart(process: ServerProcess) -> None:
    await asyncio.to_thread(process.kill)
    await asyncio.to_thread(process.start)


async def test_send_and_receive(rig: Rig) -> None:
    room = await rig.group("alice", "bob")
    alice, bob = await rig.connect("alice"), await rig.connect("bob")
    sent = await alice.connection.send(room, "Hello")
    assert sent["seq"] == 1
    for inbox in (alice, bob):
        [message] = await inbox.messages(room, 1)
        assert message["message_id"] == sent["message_id"]
        assert (message["seq"], message["content"], message["sender_id"]) == (1, "Hello", "alice")
    await alice.connection.ping()
    assert len(await bob.messages(room, 1)) == 1


async def test_order_is_kept(rig: Rig) -> None:
    rooms = [await rig.group("alice", "bob") for _ in range(2)]
    alice, bob = await rig.connect("alice"), await rig.connect("bob")
    texts = numbered("message", 60)
    async with asyncio.TaskGroup() as sending:
        for text in texts:
            for room in rooms:
                sending.create_task(alice.connection.send(room, text))
    for room in rooms:
        messages = await bob.messages(room, 60)
        assert contents(messages) == texts
        assert seqs(messages) == list(range(1, 61))


async def test_every_kind_of_event_once(rig: Rig) -> None:
    room = await rig.group("alice", "bob")
    alice, bob = rig.client("alice"), await rig.connect("bob")
    message_id = (await alice.send_message(room, "first"))["message_id"]
    await alice.edit_message(room, message_id, "second")
    await alice.delete_message(room, message_id)
    await alice.update_room(room, name="renamed")
    await alice.add_member(room, "carol")
    await alice.update_member(room, "carol", "admin")
    await alice.remove_member(room, "carol")
    await bob.until("member.left")
    log = [event for event in bob.events if is_log_event(event)]
    assert [event["type"] for event in log] == [
        "message",
        "message.edited",
        "message.deleted",
        "room.updated",
        "member.joined",
        "member.updated",
        "member.left",
    ]
    assert seqs(log) == list(range(1, 8))
    assert (log[1]["target_seq"], log[1]["content"]) == (1, "second")
    assert log[2]["target_seq"] == 1
    assert log[3]["name"] == "renamed"


async def test_errors_are_told(rig: Rig) -> None:
    alice = await rig.connect("alice")
    client, connection = rig.client("alice"), alice.connection
    theirs, ours = await rig.group("bob", "carol"), await rig.group("alice", "bob")
    async with ChatAPI(rig.url, api_key="sk_wrong", user_id="alice") as wrong:
        await refuses(wrong.list_rooms(), Code.AUTHENTICATION_ERROR, 401)
        ended = wrong.connect()
        await refuses(ended.open(), Code.AUTHENTICATION_ERROR, 401)
        assert ended.state == "closed"
    await refuses(client.get_room("room_unknown"), Code.NOT_FOUND, 404)
    await refuses(client.send_message(theirs, "x"), Code.AUTHORIZATION_ERROR, 403)
    await refuses(connection.send(theirs, "x"), Code.AUTHORIZATION_ERROR, 403)
    assert (await refuses(client.send_message(ours, ""), Code.VALIDATION_ERROR, 400)).field == "content"
    assert (await refuses(connection.send(ours, ""), Code.VALIDATION_ERROR, 400)).field == "content"
    dm = (await client.create_room("dm", ["alice", "bob"]))["room_id"]
    error = await refuses(client.create_room("dm", ["bob", "alice"]), Code.CONFLICT, 409)
    assert error.details == {"room_id": dm}


async def refuses(call: Any, code: Code, status: int) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await call
    assert (caught.value.code, caught.value.status) == (code, status)
    return caught.value


async def test_same_client_message_id_once(rig: Rig) -> None:
    room = await rig.group("alice", "bob")
    client, alice = rig.client("alice"), await rig.connect("alice")
    answers: list[Any] = [await client.send_message(room, "once", client_message_id="mine-1") for _ in range(2)]
    answers.append(await alice.connection.send(room, "once", client_message_id="mine-1"))
    assert len({answer["message_id"] for answer in answers}) == 1
    assert contents(await stored_messages(client, room)) == ["once"]


@pytest.mark.slow
async def test_killed_server_loses_nothing(rig: Rig, process: ServerProcess) -> None:
    room = await rig.group("alice", "bob")
    alice, bob = rig.client("alice"), await rig.connect("bob")
    for text in numbered("before", 20):
        await alice.send_message(room, text)
    await restart(process)
    for text in numbered("after", 20):
        await alice.send_message(room, text)
    messages = await bob.messages(room, 40)
    assert contents(messages) == numbered("before", 20) + numbered("after", 20)
    assert seqs(messages) == list(range(1, 41))


@pytest.mark.slow
async def test_send_outlasts_a_restart(rig: Rig, process: ServerProcess) -> None:
    room = await rig.group("alice", "bob")
    alice = await rig.connect("alice")
    await asyncio.to_thread(process.kill)
    texts = numbered("offline", 10)
    async with asyncio.TaskGroup() as sending:
        sends = [sending.create_task(alice.connection.send(room, text)) for text in texts]
        await asyncio.sleep(0)
        assert alice.connection.unconfirmed == 10
        await asyncio.to_thread(process.start)
    assert [send.result()["seq"] for send in sends] == list(range(1, 11))
    assert contents(await stored_messages(rig.client("alice"), room)) == texts
    assert alice.connection.unconfirmed == 0


@pytest.mark.slow
async def test_kill_in_the_middle_of_sending(rig: Rig, process: ServerProcess) -> None:
    room = await rig.group("alice", "bob")
    alice, bob = await rig.connect("alice"), await rig.connect("bob")
    texts = numbered("message", 200)
    async with asyncio.TaskGroup() as sending:
        sends = [sending.create_task(alice.connection.send(room, text)) for text in texts]
        await sends[100]
        await restart(process)
    assert contents(await stored_messages(rig.client("alice"), room)) == texts
    messages = await bob.messages(room, 200)
    assert contents(messages) == texts
    assert seqs(messages) == list(range(1, 201))


@pytest.mark.slow
async def test_graceful_restart(rig: Rig, process: ServerProcess) -> None:
    room = await rig.group("alice", "bob")
    bob = await rig.connect("bob")
    await asyncio.to_thread(process.stop)
    await bob.until("server.shutdown")
    await asyncio.to_thread(process.start)
    await rig.client("alice").send_message(room, "after")
    assert contents(await bob.messages(room, 1)) == ["after"]


async def test_resume_from_own_cursors(rig: Rig) -> None:
    room = await rig.group("alice", "bob")
    alice, first = rig.client("alice"), await rig.connect("bob")
    for text in numbered("early", 3):
        await alice.send_message(room, text)
    await first.messages(room, 3)
    await first.connection.ping()  # the loop has asked for what follows the third
    kept = json.loads(json.dumps(first.connection.cursors))
    assert kept["rooms"] == {room: 3}
    await first.connection.close()

    other = await rig.connect("bob")
    for text in numbered("late", 4):
        await alice.send_message(room, text)
    await other.messages(room, 4)
    await until_acknowledged(alice, room, "bob", 7)

    second = await rig.connect("bob", cursors=kept)
    await second.connection.ping()
    assert contents(await second.messages(room, 4)) == numbered("late", 4)


async def test_gap_is_filled(rig: Rig) -> None:
    room = await rig.group("alice", "bob")
    alice, bob = rig.client("alice"), await rig.connect("bob")
    for text in numbered("seen", 5):
        await alice.send_message(room, text)
    await bob.messages(room, 5)
    await bob.connection.pause()
    for text in numbered("missed", 150):
        await alice.send_message(room, text)
    bob.events.clear()
    await bob.connection.resume()
    await bob.until("sync.complete")
    came = [event for event in bob.events if event["type"] in ("message", "sync.complete")]
    assert contents(came[:-1]) == numbered("missed", 150)
    assert came[-1]["type"] == "sync.complete"


async def test_handled_is_acknowledged(rig: Rig) -> None:
    room = await rig.group("alice", "bob")
    alice = rig.client("alice")
    begun, finish = asyncio.Event(), asyncio.Event()

    async def handler(event: Event) -> None:
        if event["type"] == "message":
            begun.set()
            await finish.wait()

    await rig.connect("bob", handler)
    seq = (await alice.send_message(room, "look at this"))["seq"]
    await begun.wait()
    assert await acknowledged(alice, room, "bob") == 0
    finish.set()
    await until_acknowledged(alice, room, "bob", seq)


async def test_notification_until_handled(rig: Rig) -> None:
    bob = rig.client("bob")
    notified = await rig.client("alice").notify("news", {"n": 1}, {"user_ids": ["bob"]})
    assert notified["recipients"] == 1
    first = await rig.connect("bob")
    [notification] = await first.until("notification")
    assert notification["notification_id"] == notified["notification_id"]
    assert (notification["topic"], notification["payload"]) == ("news", {"n": 1})

    async def nothing_pending() -> bool:
        return not (await bob.list_notifications("pending"))["notifications"]

    await eventually(nothing_pending)
    await first.connection.close()
    second = await rig.connect("bob")
    await second.connection.ping()
    assert not [event for event in second.events if event["type"] == "notification"]


async def test_typing_and_presence(rig: Rig) -> None:
    room = await rig.group("alice", "bob")
    bob = await rig.connect("bob")
    alice = await rig.connect("alice")
    await bob.until("presence.update", user_id="alice", status="online")
    await alice.connection.typing(room)
    await alice.connection.typing(room)  # the next key: not told again
    await alice.connection.typing(room, False)
    typing = await bob.until("typing", 2)
    assert [(event["room_id"], event["user_id"], event["action"]) for event in typing] == [
        (room, "alice", "start"),
        (room, "alice", "stop"),
    ]


async def test_channel_is_followed(rig: Rig) -> None:
    alice = rig.client("alice")
    room = (await alice.create_room("channel", name="news"))["room_id"]
    await alice.send_message(room, "before")
    carol: Inbox = await rig.connect("carol")
    assert (await carol.connection.subscribe(room))["last_seq"] == 1
    await alice.send_message(room, "live")
    await carol.messages(room, 1)
    await carol.connection.pause()
    for text in numbered("missed", 2):
        await alice.send_message(room, text)
    await carol.connection.resume()
    assert contents(await carol.messages(room, 3)) == ["live", *numbered("missed", 2)]


@pytest.mark.slow
async def test_user_token_is_renewed(rig: Rig) -> None:
    room = await rig.group("alice", "bob")
    backend = rig.client("bob")
    asked = 0

    async def get_token() -> str:
        nonlocal asked
        asked += 1
        return (await backend.create_token(expires_in_s=1 if asked == 1 else 3600))["token"]

    async def has_renewed() -> bool:
        return asked > 1

    async with ChatAPI(rig.url, get_token=get_token) as client:
        bob = await rig.attach(client)
        await eventually(has_renewed)
        await rig.client("alice").send_message(room, "still there?")
        assert contents(await bob.messages(room, 1)) == ["still there?"]
        assert [one["room_id"] for one in (await client.list_rooms())["rooms"]] == [room]
        await bob.connection.close()


@pytest.mark.slow
async def test_rate_limit_is_waited_out(process: ServerProcess, url: str) -> None:
    async with make_rig(url, process.master_key, rate_limit=20, rate_burst=20) as rig:
        room = await rig.group("alice", "bob")
        alice = await rig.connect("alice")
        live = numbered("live", 60)
        patient = ChatAPI(rig.url, api_key=rig.api_key, user_id="alice", retries=50)
        async with patient, asyncio.TaskGroup() as sending:
            for text in live:
                sending.create_task(alice.connection.send(room, text))
            for text in numbered("rest", 40):
                sending.create_task(patient.send_message(room, text))
        stored = contents(await stored_messages(rig.client("alice"), room))
        assert sorted(stored) == sorted(live + numbered("rest", 40))
        assert [text for text in stored if text.startswith("live")] == live


@pytest.mark.slow
async def test_slow_consumer_misses_nothing(rig: Rig) -> None:
    async def dawdle(event: Event) -> None:
        await asyncio.sleep(0.005)

    room = await rig.group("alice", "bob")
    alice, bob = await rig.connect("alice"), await rig.connect("bob", dawdle, max_pending=10)
    texts = numbered("message", 80)
    async with asyncio.TaskGroup() as sending:
        for text in texts:
            sending.create_task(alice.connection.send(room, text))
    assert contents(await bob.messages(room, 80)) == texts
