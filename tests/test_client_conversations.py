"""The cases of sdk_cases.json on conversations, as the Python SDK shows them."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from client_rig import Rig, contents, eventually, make_rig, numbered, parametrize_way, seqs
from newer import open_newer
from server_process import ServerProcess

from chatapi.client import ApiError, ChatAPI, apply_event, is_log_event
from chatapi.errors import Code

KEPT_MESSAGES = json.loads((Path(__file__).parent / "sdk_cases.json").read_text())["kept_messages"]


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


async def restart(process: ServerProcess) -> None:
    await asyncio.to_thread(process.kill)
    await asyncio.to_thread(process.start)


async def test_moderation_is_told_at_once(rig: Rig) -> None:
    room = await rig.group("alice", "bob")
    alice, bob = rig.client("alice"), await rig.connect("bob")
    await alice.update_room(room, slow_mode_seconds=50)
    await bob.connection.send(room, "one")
    for sending in (bob.connection.send(room, "two"), rig.client("bob").send_message(room, "two")):
        with pytest.raises(ApiError) as slowed:
            await sending
        assert (slowed.value.status, list(slowed.value.details)) == (429, ["slow_mode_until"])
    until = (await alice.update_member(room, "bob", muted_for=600))["muted_until"]
    with pytest.raises(ApiError, match=f"until {until}"):
        await bob.connection.send(room, "three")
    await alice.ban_member(room, "bob", reason="spam")
    [banned] = await bob.until("member.banned")
    await alice.send_message(room, "without bob")
    assert contents(await bob.messages(room, 1)) == ["one"]
    assert room not in bob.connection.cursors["rooms"]
    await alice.unban_member(room, "bob")
    await alice.add_member(room, "bob")
    await alice.send_message(room, "welcome back")
    [back] = await bob.until("message", content="welcome back")
    assert back["seq"] == banned["seq"] + 4


@pytest.mark.slow
async def test_kept_messages_show_their_reactions_and_pins(process: ServerProcess, rig: Rig) -> None:
    for case in KEPT_MESSAGES:
        for times in (1, 2):
            assert apply_all(case["reactions"], case["events"] * times) == case["shows"], case["about"]
    room = await rig.group("alice", "bob", "carol")
    alice, bob, carol = await rig.connect("alice"), await rig.connect("bob"), rig.client("carol")
    sent = await alice.connection.send(room, "Shall we?")
    ids = (room, sent["message_id"])
    reader = rig.client("bob")
    kept = await reader.get_message(*ids)
    assert (await alice.connection.react(*ids, "👍"))["seq"] == 2
    assert "seq" not in await alice.connection.react(*ids, "👍")
    await alice.connection.ping()
    assert len(await alice.until("reaction.added")) == 1
    assert (await carol.add_reaction(*ids, "👍"))["reactions"][0]["count"] == 2
    await carol.add_reaction(*ids, ":ship:")
    admin = rig.client("alice")
    await admin.pin_message(*ids)
    await admin.unpin_message(*ids)
    pinned = await admin.pin_message(*ids)
    await restart(process)
    assert (await alice.connection.unreact(*ids, "👍"))["count"] == 1
    await alice.connection.edit(*ids, "We shall")
    await carol.remove_reaction(*ids, "👍")
    await carol.add_reaction(*ids, "👍")
    await bob.until("reaction.added", 4)
    for event in [event for event in bob.events if is_log_event(event)]:
        kept = apply_event(kept, event)
    assert show(kept) == show(await reader.get_message(*ids))
    assert show(kept)["reactions"] == [(":ship:", 1, ["carol"]), ("👍", 1, ["carol"])]
    assert kept["pinned_at"] == pinned["pinned_at"]
    assert [show(found) for found in (await reader.list_pins(room))["messages"]] == [show(kept)]
    page = await reader.list_reactions(*ids, "👍", limit=1)
    assert [reaction["user_id"] for reaction in page["reactions"]] == ["carol"]
    await alice.connection.delete(*ids)
    [deleted] = await bob.until("message.deleted")
    kept = apply_event(kept, deleted)
    assert apply_event(kept, bob.events[-1]) == kept
    assert show(kept) == show(await reader.get_message(*ids))
    assert kept["deleted_at"]
    assert not {"reactions", "pinned_at"} & kept.keys()
    assert (await reader.list_pins(room))["messages"] == []


async def test_profiles_blocks_and_bans(rig: Rig) -> None:
    odd = "x,y/z"
    room = await rig.group("alice", "bob", odd)
    alice, bob = await rig.connect("alice"), await rig.connect("bob")
    writer, reader = rig.client("alice"), rig.client("bob")
    made = await writer.put_user("alice", name="Ålice", avatar_url="https://a.example/a.png", metadata={"a": 1})
    for connected in (alice, bob):
        [event] = await connected.until("user.updated")
        assert event["user"] == made
    changed = await rig.backend.put_user("alice", avatar_url=None)
    assert (changed["name"], changed["avatar_url"], changed["metadata"]) == ("Ålice", None, {"a": 1})
    oddly = await rig.backend.put_user(odd, name="Odd")
    assert (await reader.list_users(["nobody", odd, "alice"]))["users"] == [oddly, changed]
    assert await reader.get_user(odd) == oddly
    [member] = (await reader.list_members(room, q="al"))["members"]
    assert (member["user_id"], member["name"]) == ("alice", "Ålice")
    assert [user["user_id"] for user in (await rig.backend.list_users(q="O"))["users"]] == [odd]

    dm = (await writer.create_room("dm", ["bob"]))["room_id"]
    blocked = await reader.block_user("alice")
    assert (await reader.list_blocks())["blocks"] == [blocked]
    for one in (writer, reader):
        with pytest.raises(ApiError) as refusal:
            await one.send_message(dm, "x")
        assert refusal.value.code is Code.AUTHORIZATION_ERROR
    await reader.unblock_user("alice")
    await writer.send_message(dm, "y")

    ban = await rig.backend.ban_user("bob", reason="spam", expires_in_s=1000)
    assert await rig.backend.get_ban("bob") == ban
    with pytest.raises(ApiError) as refusal:
        await reader.list_rooms()
    assert refusal.value.details == {"banned_until": ban["banned_until"]}
    await bob.until("ended")
    assert bob.error is not None
    assert bob.error.details == {"banned_until": ban["banned_until"]}
    await rig.backend.unban_user("bob")
    again = await rig.connect("bob")
    sent = await alice.connection.send(room, "welcome back")
    await again.until("message", message_id=sent["message_id"])


@pytest.mark.slow
async def test_kept_root_shows_its_thread(process: ServerProcess, rig: Rig) -> None:
    room = await rig.group("alice", "bob")
    alice, bob = await rig.connect("alice"), await rig.connect("bob")
    writer, reader = rig.client("alice"), rig.client("bob")
    root = await alice.connection.send(room, "Shall we?")
    ids = (room, root["message_id"])
    start = await reader.get_message(*ids)
    first = await alice.connection.send(room, "Bob?", thread_id=ids[1], mentions=["bob"])
    second = await writer.send_message(room, "Or not?", thread_id=ids[1])
    await restart(process)
    third = await alice.connection.send(room, "Well?", thread_id=ids[1])
    [mention] = (await reader.list_mentions())["messages"]
    assert mention["message_id"] == first["message_id"]
    assert (await reader.list_rooms())["rooms"][0]["unread_mentions"] == 1
    for gone, left in ((second, 2), (third, 1), (first, 0)):
        await alice.connection.delete(room, gone["message_id"])
        await bob.until("message.deleted", 3 - left)
        kept = start
        for event in [event for event in bob.events if is_log_event(event)]:
            kept = apply_event(apply_event(kept, event), event)
        read = await reader.get_message(*ids)
        assert (show(kept), kept.get("thread")) == (show(read), read.get("thread"))
        assert (kept["thread"]["reply_count"] if "thread" in kept else 0) == left
    await alice.connection.send(room, "Again", thread_id=ids[1])
    page = await reader.list_messages(room, thread_id=ids[1])
    assert [message["content"] for message in page["messages"]] == [None, None, None, "Again"]
    page = await reader.list_messages(room, top_level=True)
    assert [message["content"] for message in page["messages"]] == ["Shall we?"]
    view = await reader.update_view(room, notify="mentions")
    assert (view["notify"], view["hidden"]) == ("mentions", False)
    [told] = await bob.until("room.me")
    assert told["notify"] == "mentions"


@pytest.mark.slow
async def test_conversation_is_caught_up(process: ServerProcess, rig: Rig) -> None:
    room = await rig.group("alice", "bob")
    alice, reader, first = rig.client("alice"), rig.client("bob"), await rig.connect("bob")
    ids = [(await alice.send_message(room, text))["message_id"] for text in numbered("message", 3)]
    await first.messages(room, 3)
    await first.connection.ping()
    await first.connection.read(room, 3)
    messages = {message_id: await reader.get_message(room, message_id) for message_id in ids}
    cursors = first.connection.cursors
    await first.connection.close()

    await alice.edit_message(room, ids[0], "message 1, bob", mentions=["bob"])
    for emoji in ("👍", ":ship:"):
        await alice.add_reaction(room, ids[0], emoji)
    await alice.pin_message(room, ids[0])
    replies = [
        (await alice.send_message(room, text, thread_id=ids[0], mentions=["bob"]))["message_id"]
        for text in numbered("reply", 2)
    ]
    for gone in (replies[1], ids[1]):
        await alice.delete_message(room, gone)
    await restart(process)
    for seconds in (600, 0):
        await alice.update_member(room, "bob", muted_for=seconds)
    await alice.remove_reaction(room, ids[0], "👍")
    await alice.unpin_message(room, ids[0])
    for text in numbered("later", 25):
        await alice.send_message(room, text)
    standing = (await reader.list_rooms())["rooms"][0]
    last_seq = standing["last_seq"]
    assert (standing["unread_count"], standing["unread_mentions"], last_seq) == (26, 1, 40)

    bob = await rig.connect("bob", cursors=cursors)
    log = [event for event in bob.events if is_log_event(event)]
    assert seqs(log) == list(range(4, last_seq + 1))
    for message_id, kept in messages.items():
        for event in log:
            kept = apply_event(apply_event(kept, event), event)
        read = await reader.get_message(room, message_id)
        assert (show(kept), kept.get("thread")) == (show(read), read.get("thread"))
    await bob.connection.read(room, last_seq)
    standing = (await reader.list_rooms())["rooms"][0]
    assert (standing["unread_count"], standing["unread_mentions"]) == (0, 0)
    assert contents((await reader.list_mentions())["messages"]) == ["reply 1", "message 1, bob"]


@pytest.mark.slow
async def test_rules_outlast_a_kill(process: ServerProcess, rig: Rig) -> None:
    alice = rig.client("alice")
    room = await rig.group("alice", "bob", "carol", "frank")
    slow, closed = [await rig.group("alice", "bob") for _ in range(2)]
    dm = (await alice.create_room("dm", ["erin"]))["room_id"]
    bob = await rig.connect("bob")
    await bob.connection.send(slow, "one")
    await alice.update_room(slow, slow_mode_seconds=600)
    await alice.update_room(closed, posting="admins")
    with pytest.raises(ApiError) as slowed:
        await rig.client("bob").send_message(slow, "two")
    muted = {"muted_until": (await alice.update_member(room, "bob", muted_for=600))["muted_until"]}
    barred = {"banned_until": (await alice.ban_member(room, "carol", expires_in_s=600))["until"]}
    await rig.client("erin").block_user("alice")
    banned = {"banned_until": (await rig.backend.ban_user("frank", expires_in_s=600))["banned_until"]}
    await restart(process)

    of_bob = {room: muted, slow: slowed.value.details, closed: None}
    for where, details in of_bob.items():
        assert await refusal(bob.connection.send(where, "x")) == details
    refused = [("carol", room, barred), ("erin", dm, None), ("alice", dm, None), ("frank", room, banned)]
    for user_id, where, details in [*(("bob", *one) for one in of_bob.items()), *refused]:
        assert await refusal(rig.client(user_id).send_message(where, "x")) == details

    await alice.update_member(room, "bob", muted_for=0)
    await alice.update_room(slow, slow_mode_seconds=0)
    await alice.update_room(closed, posting="members")
    await alice.unban_member(room, "carol")
    await alice.add_member(room, "carol")
    await rig.client("erin").unblock_user("alice")
    await rig.backend.unban_user("frank")
    for where in of_bob:
        await bob.connection.send(where, "again")
    for user_id, where, _ in refused:
        await rig.client(user_id).send_message(where, "again")


async def refusal(sending: Any) -> Any:
    """The details of the error with which it is refused."""
    with pytest.raises(ApiError) as refused:
        await sending
    return refused.value.details


@pytest.mark.slow
async def test_hidden_room_comes_back(process: ServerProcess, rig: Rig) -> None:
    room = await rig.group("alice", "bob")
    alice, reader = rig.client("alice"), rig.client("bob")
    devices = [await rig.connect("bob") for _ in range(2)]
    await reader.update_view(room, notify="none", hidden=True)
    for device in devices:
        await device.until("room.me", room_id=room, notify="none", hidden=True)
    await restart(process)
    await reader.send_message(room, "to myself")
    for device in devices:
        await device.messages(room, 1)
    assert (await reader.list_rooms())["rooms"] == []
    [listed] = (await reader.list_rooms(hidden=True))["rooms"]
    assert (listed["room_id"], listed["hidden"], listed["notify"]) == (room, True, "none")
    third = await rig.connect("bob")
    assert [(known["room_id"], known["hidden"]) for known in third.connection.ready["rooms"]] == [(room, True)]
    await alice.send_message(room, "bob?")
    for device in (*devices, third):
        await device.until("room.me", room_id=room, notify="none", hidden=False)
    [listed] = (await reader.list_rooms())["rooms"]
    assert (listed["room_id"], listed["hidden"], listed["notify"]) == (room, False, "none")


@pytest.mark.slow
async def test_reported_messages_and_search(process: ServerProcess, rig: Rig) -> None:
    room = await rig.group("alice", "bob")
    alice, bob = rig.client("alice"), rig.client("bob")
    message_id = (await alice.send_message(room, "The harbour is closed"))["message_id"]
    report_ids = {(await bob.report_message(room, message_id, reason))["report_id"] for reason in ("wrong", "still")}
    [report_id] = report_ids
    await alice.edit_message(room, message_id, "The Café is open")

    async def found(q: str) -> list[Any]:
        return (await bob.search(q, room_id=room))["results"]

    async def is_found() -> bool:
        return bool(await found("CAFE"))

    await eventually(is_found)
    [result] = await found("open cafe")
    snippet = result["snippet"]
    assert [snippet["text"][start:end] for start, end in snippet["hits"]] == ["Café", "open"]
    assert await found("harbour") == []
    [report] = (await rig.backend.list_reports())["reports"]
    shown = (report["report_id"], report["user_id"], report["reason"], report["message"]["content"])
    assert shown == (report_id, "bob", "wrong", "The harbour is closed")

    await restart(process)
    await eventually(is_found)
    await alice.delete_message(room, message_id)
    assert await found("cafe") == []
    assert (await rig.backend.list_reports())["reports"] == [report]
    resolved = await rig.backend.resolve_report(report_id)
    assert (resolved["status"], resolved["resolved_by"]) == ("resolved", "backend")
    assert await rig.backend.resolve_report(report_id) == resolved
    assert (await rig.backend.list_reports())["reports"] == []
    assert (await rig.backend.list_reports("resolved"))["reports"] == [resolved]
    async with ChatAPI(rig.url, token=(await rig.backend.create_token("bob"))["token"]) as page:
        for call in (page.list_reports(), page.resolve_report(report_id)):
            with pytest.raises(ApiError) as refused:
                await call
            assert refused.value.code is Code.AUTHORIZATION_ERROR


def show(message: Any) -> dict[str, Any]:
    """What this version knows of it, except for the time of its deletion, which the event does not tell."""
    names = ("message_id", "seq", "content", "meta", "created_at", "edited_at")
    reactions = [(found["emoji"], found["count"], found["user_ids"]) for found in message.get("reactions", ())]
    return {**{name: message[name] for name in names}, "reactions": reactions, "pinned_at": message.get("pinned_at")}


def apply_all(reactions: list[Any], events: list[tuple[str, str, str, int]]) -> list[Any]:
    """The reactions of a message that had these, after these events."""
    message: Any = {"message_id": "msg_1", "deleted_at": None, **({"reactions": reactions} if reactions else {})}
    for kind, user_id, emoji, count in events:
        fields = {"user_id": user_id, "emoji": emoji, "count": count}
        message = apply_event(message, {"type": f"reaction.{kind}", "message_id": "msg_1", **fields})
    return list(message.pop("reactions", []))
