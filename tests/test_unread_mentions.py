"""A user's mentions: their list, and how many are unread, in `GET /rooms` and in `ready`."""

import asyncio
from typing import Any

import pytest
from conftest import StartServer
from driver import Gate, HandClock, Server, User, restart

from chatapi import mentions, room_lists
from chatapi.housekeeping import apply_retention
from chatapi.store import mentions as store_mentions


async def unread(user: User) -> dict[str, int]:
    """Of each room, by its id, which `GET /rooms` and `ready` agree upon."""
    rooms = (await user.get("/rooms", limit=100)).data["rooms"]
    socket = await user.connect(ready=False)
    ready = (await socket.expect("ready"))["rooms"]
    await socket.close()
    listed = {room["room_id"]: room["unread_mentions"] for room in rooms}
    assert listed == {room["room_id"]: room["unread_mentions"] for room in ready}
    return listed


async def listed(user: User, **query: object) -> list[str]:
    """The contents of one page of the user's mentions."""
    return [message["content"] for message in (await user.get("/mentions", **query)).data["messages"]]


async def test_mentions_are_unread_until_the_message_is_read(server: Server, start_server: StartServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob", "carol")
    other_id = await alice.make_room("bob")
    assert await unread(bob) == {room_id: 0, other_id: 0}
    await alice.say(room_id, "1", mentions=["bob"])
    await alice.say(room_id, "2", mentions=["carol"])
    await alice.say(room_id, "3", mention_room=True)
    await alice.say(room_id, "4", mentions=["bob"], mention_room=True)
    await alice.say(other_id, "5")
    assert await unread(bob) == {room_id: 3, other_id: 0}
    assert await unread(server.user("carol")) == {room_id: 3}
    server = await restart(start_server, server)
    alice, bob = server.user("alice"), server.user("bob")
    assert await unread(bob) == {room_id: 3, other_id: 0}
    await bob.post(f"/rooms/{room_id}/read", {"seq": 3})
    assert await unread(bob) == {room_id: 1, other_id: 0}
    await bob.post("/acks", {"room_id": room_id, "seq": 4})
    assert await unread(bob) == {room_id: 1, other_id: 0}
    await bob.post(f"/rooms/{room_id}/read", {"seq": 4})
    assert await unread(bob) == {room_id: 0, other_id: 0}
    await alice.say(room_id, "6", mentions=["bob"])
    assert await unread(bob) == {room_id: 1, other_id: 0}


async def test_reading_on_one_device_counts_for_the_others(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")
    first = await bob.connect()
    await alice.say(room_id, mentions=["bob"])
    await first.send("read", room_id=room_id, seq=1)
    await first.expect("read.updated")
    assert await unread(bob) == {room_id: 0}


async def test_one_does_not_mention_oneself(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room("bob")
    await alice.say(room_id, "self", mentions=["alice"])
    await alice.say(room_id, "all", mention_room=True)
    assert await unread(alice) == {room_id: 0}
    assert await listed(alice) == ["self"]
    assert await listed(shared_server.user("bob")) == ["all"]


async def test_deletions_and_edits_change_the_count_by_the_message_itself(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")
    messages = [await alice.say(room_id, str(number), mentions=["bob"]) for number in range(4)]
    paths = [f"/rooms/{room_id}/messages/{message['message_id']}" for message in messages]
    assert await unread(bob) == {room_id: 4}
    await alice.delete(paths[3])
    assert await unread(bob) == {room_id: 3}
    await alice.put(paths[2], {"content": "2", "mentions": []})
    assert await unread(bob) == {room_id: 2}
    await alice.put(paths[2], {"content": "2", "mention_room": True})
    assert await unread(bob) == {room_id: 3}
    await bob.post(f"/rooms/{room_id}/read", {"seq": 3})
    assert await unread(bob) == {room_id: 0}
    await alice.put(paths[2], {"content": "2", "mentions": ["bob"]})  # the edit's own seq is above last_read
    assert await unread(bob) == {room_id: 0}
    assert await listed(bob) == ["2", "1", "0"]


async def test_a_member_who_joined_later_is_not_mentioned_with_the_room(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("carol", room_type="channel")
    before = await alice.say(room_id, "before")
    await alice.say(room_id, "missed", mention_room=True)
    await bob.post(f"/rooms/{room_id}/members", {"user_id": "bob"})
    await alice.put(f"/rooms/{room_id}/messages/{before['message_id']}", {"content": "edited", "mention_room": True})
    assert await unread(bob) == {room_id: 0}
    assert await listed(bob) == []
    await alice.say(room_id, "seen", mention_room=True)
    assert await unread(bob) == {room_id: 1}
    assert await listed(bob) == ["seen"]
    await bob.delete(f"/rooms/{room_id}/members/bob")
    assert await listed(bob) == []
    await bob.post(f"/rooms/{room_id}/members", {"user_id": "bob"})
    assert await listed(bob) == []
    assert await listed(shared_server.user("carol")) == ["seen", "missed", "edited"]


async def test_join_and_mention_in_one_batch_are_judged_in_their_order(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room(room_type="channel")

    def say(content: str) -> Any:
        return alice.post(f"/rooms/{room_id}/messages", {"content": content, "mention_room": True})

    await server.together(say("before"), bob.post(f"/rooms/{room_id}/members", {"user_id": "bob"}), say("after"))
    assert await listed(bob) == ["after"]
    assert await unread(bob) == {room_id: 1}


@pytest.mark.parametrize("examined", [3, 10_000])
async def test_unread_mentions_are_counted_to_a_thousand(
    server: Server, monkeypatch: pytest.MonkeyPatch, examined: int
) -> None:
    assert store_mentions.MAX_UNREAD == room_lists.MAX_UNREAD == 1_000
    monkeypatch.setattr(store_mentions, "EXAMINED_MENTIONS", examined)
    monkeypatch.setattr(store_mentions, "MAX_UNREAD", 5)
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob", "carol")
    await alice.patch(f"/rooms/{room_id}/members/bob", {"role": "admin"})
    for _ in range(4):
        await bob.say(room_id, mention_room=True)  # one's own, which are passed over
    for count in range(1, 8):
        await alice.say(room_id, mention_room=count % 2 == 0, mentions=["bob"])
        assert await unread(bob) == {room_id: min(count, 5)}
    assert await unread(server.user("carol")) == {room_id: 5}


async def test_ready_counts_again_after_changes_meanwhile(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    first = await alice.say(room_id, mentions=["bob"])
    gate = Gate(store_mentions.count_unread)
    monkeypatch.setattr(store_mentions, "count_unread", gate)
    socket = await bob.connect(ready=False)
    await gate.arrived.wait()
    await alice.say(room_id, mentions=["bob"])
    await alice.say(room_id, mentions=["bob"])
    await alice.delete(f"/rooms/{room_id}/messages/{first['message_id']}")
    gate.open()
    [room] = (await socket.expect("ready"))["rooms"]
    assert (room["last_seq"], room["unread_mentions"]) == (4, 2)


async def test_ready_counts_mentions_that_come_all_the_while(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """New ones come around each count, so that another count would know no more."""
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob", "carol")
    await alice.patch(f"/rooms/{room_id}/members/bob", {"role": "admin"})
    await alice.say(room_id, mentions=["bob"])
    count_unread, counts = store_mentions.count_unread, 0

    async def talk() -> None:
        await alice.say(room_id, mentions=["bob"])
        await alice.say(room_id, mentions=["bob"], mention_room=True)
        await bob.say(room_id, mentions=["bob"], mention_room=True)
        await alice.say(room_id, mentions=["carol"])
        await alice.say(room_id)

    async def count(*args: Any) -> Any:
        nonlocal counts
        counts += 1
        await talk()
        found = await count_unread(*args)
        await talk()
        return found

    monkeypatch.setattr(store_mentions, "count_unread", count)
    socket = await bob.connect(ready=False)
    [room] = (await socket.expect("ready"))["rooms"]
    assert (room["last_seq"], room["unread_mentions"], counts) == (12, 5, 1)


# The list


async def make_mentions(server: Server) -> tuple[User, list[str]]:
    """Bob's, in several rooms, the newest first."""
    alice, bob = server.user("alice"), server.user("bob")
    room_ids = [await alice.make_room("bob") for _ in range(3)]
    contents = []
    for number in range(12):
        how: dict[str, object] = {"mentions": ["bob"]} if number % 3 else {"mention_room": True}
        await alice.say(room_ids[number % 2 if number < 10 else 2], str(number), **how)
        contents.insert(0, str(number))
    return bob, contents


@pytest.mark.parametrize("by", ["cursor", "before"])
@pytest.mark.parametrize("limit", [1, 3, 5, 12, 100])
async def test_mentions_are_listed_in_pages(
    server: Server, monkeypatch: pytest.MonkeyPatch, by: str, limit: int
) -> None:
    monkeypatch.setattr(mentions, "ROOMS_PER_STEP", 2)
    bob, contents = await make_mentions(server)
    found: list[str] = []
    query: dict[str, object] = {}
    while True:
        page = (await bob.get("/mentions", limit=limit, **query)).data
        found += [message["content"] for message in page["messages"]]
        assert page["has_more"] is ("next_cursor" in page)
        if not page["has_more"]:
            break
        assert len(page["messages"]) == limit
        query = {by: page["next_cursor"] if by == "cursor" else page["messages"][-1]["message_id"]}
    assert found == contents


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 4, 100])
@pytest.mark.parametrize("is_tiny", [False, True], ids=["usual bounds", "tiny bounds"])
async def test_own_mentions_of_the_room_are_passed_over(
    server: Server, monkeypatch: pytest.MonkeyPatch, limit: int, is_tiny: bool
) -> None:
    if is_tiny:
        monkeypatch.setattr(store_mentions, "EXAMINED_MENTIONS", 2)
        monkeypatch.setattr(store_mentions, "EXAMINED_TIMES", 1)
    alice, bob = server.user("alice"), server.user("bob")
    room_ids = [await alice.make_room("bob") for _ in range(2)]
    contents: list[str] = []
    for number, of_others in enumerate([0, 3, 1, 0, 0, 2]):
        room_id = room_ids[number % 2]
        await alice.patch(f"/rooms/{room_id}/members/bob", {"role": "admin"})
        for _ in range(9):
            await alice.say(room_id, "own", mention_room=True)
        for _ in range(of_others):
            contents.insert(0, f"{len(contents)}")
            await bob.say(room_id, contents[0], mention_room=True)
        if number == 4:
            contents.insert(0, f"{len(contents)}")
            await alice.say(room_id, contents[0], mentions=["alice"], mention_room=True)
    found, query = [], {}
    for _ in range(100):
        page = (await alice.get("/mentions", limit=limit, **query)).data
        assert page["messages"] or found == contents
        found += [message["content"] for message in page["messages"]]
        if not page["has_more"]:
            break
        query = {"cursor": page["next_cursor"]}
    assert found == contents


async def test_a_page_of_mentions_shows_messages_as_they_now_stand(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")
    message = await alice.say(room_id, "old", mentions=["bob"])
    edited = (await alice.put(f"/rooms/{room_id}/messages/{message['message_id']}", {"content": "new"})).data
    assert (await bob.get("/mentions")).data["messages"] == [edited]


async def test_before_may_be_a_deleted_message_but_none_that_cannot_be_read(shared_server: Server) -> None:
    alice, bob, carol = shared_server.user("alice"), shared_server.user("bob"), shared_server.user("carol")
    room_id, foreign_id, gone_id = await alice.make_room("bob"), await alice.make_room(), await alice.make_room("bob")
    await alice.say(room_id, "first", mentions=["bob"])
    deleted = await alice.say(room_id, "second", mentions=["bob"])
    await alice.delete(f"/rooms/{room_id}/messages/{deleted['message_id']}")
    await alice.say(room_id, "third", mentions=["bob"])
    assert await listed(bob, before=deleted["message_id"]) == ["first"]
    foreign = (await alice.say(foreign_id))["message_id"]
    gone = (await alice.say(gone_id))["message_id"]
    await alice.delete(f"/rooms/{gone_id}")
    for before in (foreign, gone, "msg_0000000000000001", "no id", "msg_x"):
        refused = await bob.get("/mentions", before=before)
        assert (refused.status, refused.error["field"]) == (400, "before")
    assert (await carol.get("/mentions", before=deleted["message_id"])).status == 400
    cursor = (await bob.get("/mentions", limit=1)).data["next_cursor"]
    both = await bob.get("/mentions", before=deleted["message_id"], cursor=cursor)
    assert (both.status, both.error["field"]) == (400, "cursor")
    assert (await alice.get("/mentions", cursor=cursor)).status == 400


async def test_before_may_be_of_a_channel_that_the_user_may_read(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    channel_id = await alice.make_room(room_type="channel")
    message_id = (await alice.say(channel_id))["message_id"]
    assert await listed(bob, before=message_id) == []
    await alice.put(f"/rooms/{channel_id}/bans/bob", {})
    refused = await bob.get("/mentions", before=message_id)
    assert (refused.status, refused.error["field"]) == (400, "before")
    await alice.delete(f"/rooms/{channel_id}/bans/bob")
    assert await listed(bob, before=message_id) == []


async def test_before_may_be_gone_by_retention(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    tenant = await server.make_tenant(retention_days=2)
    alice = server.user("alice", tenant["api_key"])
    room_id = await alice.make_room()
    message = await alice.say(room_id, mentions=["alice"])
    clock.advance(3 * 86_400.0)
    [state] = [found for found in server.services.tenants.all() if found.tenant_id == tenant["tenant_id"]]
    await apply_retention(server.services, state)
    assert await listed(alice, before=message["message_id"]) == []


async def test_many_counts_at_once_are_right(shared_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connects while mentions come: the count of each is that of its own `last_seq`."""
    monkeypatch.setattr("chatapi.mentions.RECOUNTS", 500)  # a quick Python sends oftener than the usual number
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")

    async def connect() -> tuple[int, int]:
        socket = await bob.connect(ready=False, sync="none")
        [room] = (await socket.expect("ready"))["rooms"]
        await socket.close()
        return room["last_seq"], room["unread_mentions"]

    async def talk() -> None:
        for _ in range(30):
            await alice.say(room_id, mentions=["bob"])

    talking = asyncio.ensure_future(talk())
    counts = [await connect() for _ in range(15)]
    await talking
    assert [pair for pair in counts if pair[0] != pair[1]] == []
