"""Reactions: what users add to messages, over both transports, in the log, and wherever a message is read."""

import asyncio
import itertools
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from conftest import StartServer
from driver import Server, User, restart, say_many

from chatapi.housekeeping import apply_retention, purge_deleted
from chatapi.ring import RING_BYTES
from chatapi.store import reactions as store_reactions

THUMB, SHIP, HEART = "👍🏽", ":ship:", "❤️"
LONGEST = "e" * 64


def path_of(message: dict[str, Any], emoji: str | None = None) -> str:
    path = f"/rooms/{message['room_id']}/messages/{message['message_id']}"
    return path if emoji is None else f"{path}/reactions/{quote(emoji, safe='')}"


async def react(user: User, message: dict[str, Any], *emoji: str) -> list[dict[str, Any]]:
    """The message's reactions after the last of these."""
    shown: list[dict[str, Any]] = []
    for one in emoji:
        reply = await user.request("PUT", path_of(message, one))
        assert reply.status == 200, reply
        shown = reply.data["reactions"]
    return shown


async def last_seq(user: User, message: dict[str, Any]) -> int:
    return int((await user.get(f"/rooms/{message['room_id']}")).data["last_seq"])


async def read_everywhere(user: User, message: dict[str, Any]) -> list[dict[str, Any]]:
    """The message from each place where it is read: by itself, from three pages of history, and from its room."""
    room = f"/rooms/{message['room_id']}"
    found = [(await user.get(path_of(message))).data]
    for page in ({}, {"before_seq": message["seq"] + 1}, {"after_seq": message["seq"] - 1}):
        found += [
            one
            for one in (await user.get(f"{room}/messages", **page)).data["messages"]
            if one["message_id"] == message["message_id"]
        ]
    rooms = (await user.get("/rooms")).data["rooms"]
    found += [one["last_message"] for one in rooms if one["room_id"] == message["room_id"]]
    assert len(found) == 5
    return found


async def test_a_message_shows_its_reactions_wherever_it_is_read(start_server: StartServer) -> None:
    server = await start_server()
    alice, bob = server.user("alice"), server.user("bob")
    message = await alice.say(await alice.make_room("bob"))
    for found in await read_everywhere(bob, message):
        assert found == message  # with no field more
    await react(alice, message, THUMB)
    await react(bob, message, SHIP)
    shown = await react(bob, message, THUMB)
    assert shown == [
        {"emoji": THUMB, "count": 2, "user_ids": ["alice", "bob"]},
        {"emoji": SHIP, "count": 1, "user_ids": ["bob"]},
    ]
    for found in await read_everywhere(bob, message):
        assert found == {**message, "reactions": shown}
    edited = (await alice.put(path_of(message), {"content": "edited"})).data
    assert edited["reactions"] == shown
    assert all(found == edited for found in await read_everywhere(bob, message))
    server = await restart(start_server, server)
    assert all(found == edited for found in await read_everywhere(server.user("bob"), message))


async def test_history_in_memory_shows_reactions(start_server: StartServer) -> None:
    """A block of it is kept once it was read, and read again after a reaction."""
    server = await start_server()
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    ids = await say_many(alice, room_id, 200)
    message = {"room_id": room_id, "message_id": ids[9]}
    await react(alice, message, THUMB)
    server = await restart(start_server, server)
    alice = server.user("alice")
    for emoji in (SHIP, HEART):
        for _ in range(2):
            page = (await alice.get(f"/rooms/{room_id}/messages", before_seq=21, limit=15)).data["messages"]
            assert server.services.chat._history._blocks
            assert page[4] == (await alice.get(path_of(message))).data
            assert [found["seq"] for found in page if "reactions" in found] == [10]
        await react(alice, message, emoji)


async def test_a_retry_is_answered_with_the_reactions(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room("bob")
    draft = {"content": "once", "client_message_id": "m-1"}
    message = await alice.say(room_id, **draft)
    shown = await react(alice, message, THUMB)
    assert await alice.say(room_id, **draft) == {**message, "reactions": shown}


async def test_reactions_in_memory_count_to_its_bound(server: Server) -> None:
    """Else a tenant could make the server hold 128 KB for each message of a room."""
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    messages = [await alice.say(room_id) for _ in range(4)]
    room = server.services.rooms.find_loaded(server.services.tenants.all()[0].tenant_key, room_id)
    assert room is not None
    before = server.services.rooms._ring_bytes
    for message in messages[:3]:
        server.services.rooms.annotate(room, message["seq"], b"x" * (RING_BYTES * 3 // 4))
    assert server.services.rooms._ring_bytes < before + 2 * RING_BYTES
    assert room.ring.first_seq > 1
    assert [len(frame) for frame in room.ring.messages(range(4, 5), 1)] == [len(room.ring.after(3)[0])]  # type: ignore[index]


async def test_events_of_a_message_carry_no_reactions(start_server: StartServer) -> None:
    """Else a replay would count them twice."""
    server = await start_server()
    alice = server.user("alice")
    message = await alice.say(await alice.make_room("bob"))
    await react(alice, message, THUMB)
    socket = await alice.connect()
    await alice.put(path_of(message), {"content": "edited"})
    assert "reactions" not in await socket.expect("message.edited")
    await socket.close()
    server = await restart(start_server, server)
    for _ in range(2):  # from the store, and from what is in memory then
        again = await server.user("alice").connect(sync="none", ready=False)
        await again.send("sync", rooms={message["room_id"]: 0})
        shown, added, edit = [
            frame for frame in await again.collect("sync.complete") if frame.get("room_id") and frame["type"] != "ready"
        ]
        assert [shown["type"], added["type"], edit["type"]] == ["message", "reaction.added", "message.edited"]
        assert not {"reactions"} & {*shown, *added, *edit}
        page = (await server.user("alice").get(f"/rooms/{message['room_id']}/messages")).data["messages"]
        assert page[0]["reactions"] == [{"emoji": THUMB, "count": 1, "user_ids": ["alice"]}]


async def test_reactions_are_events_of_the_log(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    message = await alice.say(await alice.make_room("bob"))
    socket = await alice.connect()
    await react(bob, message, THUMB)
    await react(alice, message, THUMB)
    await bob.delete(path_of(message, THUMB))
    ids = {"room_id": message["room_id"], "message_id": message["message_id"], "target_seq": 1, "emoji": THUMB}
    added, again, removed = [await socket.next() for _ in range(3)]
    assert added == {
        "type": "reaction.added",
        **ids,
        "user_id": "bob",
        "count": 1,
        "created_at": added["created_at"],
        "seq": 2,
    }
    assert (again["user_id"], again["count"], again["seq"]) == ("alice", 2, 3)
    assert removed == {"type": "reaction.removed", **ids, "user_id": "bob", "count": 1, "seq": 4}
    events = (await alice.get(f"/rooms/{message['room_id']}/events")).data["events"]
    assert events[1:] == [added, again, removed]
    listed = (await alice.get(f"{path_of(message)}/reactions")).data
    assert listed == {
        "reactions": [{"emoji": THUMB, "user_id": "alice", "created_at": again["created_at"]}],
        "has_more": False,
    }


async def test_a_frame_and_the_route_do_the_same(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    message = await alice.say(await alice.make_room("bob"))
    socket, watcher = await bob.connect(), await alice.connect()
    ids = {"room_id": message["room_id"], "message_id": message["message_id"], "emoji": SHIP}
    await socket.send("reaction.add", **ids, request_id="add")
    added = await socket.expect("reaction.added")
    assert added == {**await watcher.expect("reaction.added"), "request_id": "add"}
    assert (added["seq"], added["count"]) == (2, 1)
    assert (await alice.get(path_of(message))).data["reactions"] == [{"emoji": SHIP, "count": 1, "user_ids": ["bob"]}]
    await socket.send("reaction.remove", **ids, request_id="remove")
    removed = await socket.expect("reaction.removed")
    assert removed == {**await watcher.expect("reaction.removed"), "request_id": "remove"}
    assert (removed["seq"], removed["count"]) == (3, 0)
    assert (await alice.get(path_of(message))).data == message
    assert not [
        event for event in (await bob.get(f"/rooms/{ids['room_id']}/events")).data["events"] if "request_id" in event
    ]


async def test_a_repetition_changes_nothing_and_is_answered_to_the_asker_alone(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    message = await alice.say(await alice.make_room("bob"))
    socket, other, watcher = await bob.connect(), await bob.connect(), await alice.connect()
    ids = {"room_id": message["room_id"], "message_id": message["message_id"], "emoji": THUMB}
    await socket.send("reaction.remove", **ids, request_id="none")
    none = await socket.expect("reaction.removed", request_id="none", user_id="bob", count=0)
    assert "seq" not in none
    assert (await bob.delete(path_of(message, THUMB))).status == 204
    await react(bob, message, THUMB)
    first = await socket.expect("reaction.added", seq=2)
    assert await react(bob, message, THUMB) == [{"emoji": THUMB, "count": 1, "user_ids": ["bob"]}]
    await socket.send("reaction.add", **ids, request_id="again")
    again = await socket.expect("reaction.added", request_id="again")
    assert again == {**{name: value for name, value in first.items() if name != "seq"}, "request_id": "again"}
    await socket.send("reaction.add", **ids)
    assert await socket.next() == {name: value for name, value in again.items() if name != "request_id"}
    await other.expect("reaction.added", seq=2)
    await watcher.expect("reaction.added", seq=2)
    for listener in (other, watcher):
        await listener.expect_nothing("reaction.added", "reaction.removed")
    assert await last_seq(alice, message) == 2


async def test_an_emoji_keeps_its_place_until_its_last_user_takes_it_away(shared_server: Server) -> None:
    alice, bob, carol = (shared_server.user(name) for name in ("alice", "bob", "carol"))
    message = await alice.say(await alice.make_room("bob", "carol"))
    await react(alice, message, THUMB, SHIP)
    await react(bob, message, SHIP, THUMB)
    await alice.delete(path_of(message, THUMB))
    shown = await react(carol, message, THUMB)
    assert [(one["emoji"], one["user_ids"]) for one in shown] == [(THUMB, ["bob", "carol"]), (SHIP, ["alice", "bob"])]
    shown = await react(alice, message, THUMB)  # again, and now as the last one
    assert shown[0] == {"emoji": THUMB, "count": 3, "user_ids": ["bob", "carol", "alice"]}
    for user in (alice, bob, carol):
        await user.delete(path_of(message, THUMB))
    shown = await react(carol, message, THUMB)
    assert [one["emoji"] for one in shown] == [SHIP, THUMB]


@pytest.mark.parametrize(
    "emoji",
    [
        LONGEST,
        "€" * 21,
        "%",
        "%2F",
        "a/b",
        "?&#",
        "❤",
        HEART,
        "\u200d",
        "...",
        '"\\',
        "é",
        "e\u0301",
        "👩‍👩‍👧‍👦",
        "\ufffd",
    ],
)
async def test_an_emoji_is_kept_byte_for_byte(shared_server: Server, emoji: str) -> None:
    alice = shared_server.user("alice")
    message = await alice.say(await alice.make_room("bob"))
    socket = await alice.connect()
    assert await react(alice, message, emoji) == [{"emoji": emoji, "count": 1, "user_ids": ["alice"]}]
    assert (await socket.expect("reaction.added"))["emoji"] == emoji
    await socket.send("reaction.add", room_id=message["room_id"], message_id=message["message_id"], emoji=emoji)
    assert "seq" not in await socket.expect("reaction.added")
    page = (await alice.get(f"{path_of(message)}/reactions", emoji=emoji)).data["reactions"]
    assert [one["emoji"] for one in page] == [emoji]
    assert (await alice.delete(path_of(message, emoji))).status == 204
    assert (await alice.get(path_of(message))).data == message


WHITE_SPACE = (0x20, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
CONTROLS = (*range(0x01, 0x20), *range(0x7F, 0xA0))  # some of which are white space as well
NO_EMOJI = ["x" * 65, "€" * 22, *(f"a{chr(code)}" for code in (*WHITE_SPACE, *CONTROLS))]


async def test_texts_that_are_not_emoji_are_refused_over_both_transports(start_server: StartServer) -> None:
    server = await start_server({"limits.rate_limit": 10_000})
    alice = server.user("alice")
    message = await alice.say(await alice.make_room("bob"))
    for emoji in NO_EMOJI:
        for method, path, query in (
            ("PUT", path_of(message, emoji), {}),
            ("DELETE", path_of(message, emoji), {}),
            ("GET", f"{path_of(message)}/reactions", {"emoji": emoji}),
        ):
            reply = await alice.request(method, path, params=query)
            assert (reply.status, reply.error["field"]) == (400, "emoji"), (method, emoji)
    socket = await alice.connect()
    for emoji in (*NO_EMOJI[:-10], ".", "..", "", 1, None, ["👍"]):  # less than a hundred
        await socket.send("reaction.add", room_id=message["room_id"], message_id=message["message_id"], emoji=emoji)
        await socket.expect("error", code="VALIDATION_ERROR", field="emoji")
    assert await last_seq(alice, message) == 1


@pytest.mark.parametrize("escaped", ["%FF", ".", "..", "%F0%9F%91", "%ED%A0%80", "%C0%AE", "a%00", "%2E", "%2E%2E"])
async def test_escapes_that_are_not_emoji_are_refused(shared_server: Server, escaped: str) -> None:
    alice = shared_server.user("alice")
    message = await alice.say(await alice.make_room("bob"))
    head = "".join(f"{name}: {value}\r\n" for name, value in alice.headers.items())
    for method, path in (
        ("PUT", f"{path_of(message)}/reactions/{escaped}"),
        ("DELETE", f"{path_of(message)}/reactions/{escaped}"),
        ("GET", f"{path_of(message)}/reactions?emoji={escaped}"),
    ):
        answer = await shared_server.exchange(
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n{head}\r\n".encode()
        )
        assert answer.startswith(b"HTTP/1.1 400 "), (method, answer)
        assert b'"VALIDATION_ERROR"' in answer
        assert b'"field":"emoji"' in answer
    assert await last_seq(alice, message) == 1


async def test_the_bounds_are_exact_at_the_commit(server: Server) -> None:
    users = [server.user(f"user-{number}") for number in range(4)]
    message = await users[0].say(await users[0].make_room(*(user.user_id for user in users[1:])))
    for user, first in zip(users, (0, 20, 40, 0), strict=True):
        await react(user, message, *(f"e{number}" for number in range(first, min(first + 20, 49))))
    # 49 are there. Of two new ones that come together one finds a place.
    replies = await server.together(
        users[2].request("PUT", path_of(message, "x")), users[2].request("PUT", path_of(message, "y"))
    )
    assert [reply.status for reply in replies] == [200, 409]
    assert replies[1].error["code"] == "CONFLICT"
    shown = await react(users[2], message, "e0")  # which needs no place
    assert len(shown) == 50
    assert (await users[0].request("PUT", path_of(message, "e40"))).status == 409  # it has its 20
    assert (await users[0].delete(path_of(message, "e19"))).status == 204
    await react(users[0], message, "e40")
    assert (await users[0].request("PUT", path_of(message, "e41"))).status == 409
    before = await last_seq(users[0], message)
    assert (await users[0].request("PUT", path_of(message, "e40"))).status == 200  # a repetition is none too many
    assert await last_seq(users[0], message) == before


async def test_the_first_twenty_users_are_named(shared_server: Server) -> None:
    names = [f"user-{number:02}" for number in range(23)]
    users = [shared_server.user(name) for name in names]
    message = await users[0].say(await users[0].make_room(*names[1:]))
    for user in users:
        await react(user, message, THUMB)
    [shown] = (await users[0].get(path_of(message))).data["reactions"]
    assert shown == {"emoji": THUMB, "count": 23, "user_ids": names[:20]}
    await users[4].delete(path_of(message, THUMB))
    [shown] = (await users[0].get(path_of(message))).data["reactions"]
    assert (shown["count"], shown["user_ids"]) == (22, [*names[:4], *names[5:21]])


async def test_reactions_at_the_same_moment_end_in_one_state_everywhere(shared_server: Server) -> None:
    names = [f"user-{number:02}" for number in range(50)]
    users = [shared_server.user(name) for name in names]
    message = await users[0].say(await users[0].make_room(*names[1:], room_type="channel"))
    sockets = [await users[0].connect(), await users[1].connect(), await shared_server.user("spectator").connect()]
    await sockets[2].send("subscribe", room_id=message["room_id"])
    await sockets[2].expect("subscribed")
    replies = await asyncio.gather(*(user.request("PUT", path_of(message, THUMB)) for user in users))
    assert {reply.status for reply in replies} == {200}
    told = [[await socket.expect("reaction.added") for _ in users] for socket in sockets]
    assert told[0] == told[1] == told[2]
    assert [event["count"] for event in told[0]] == list(range(1, 51))
    order = [event["user_id"] for event in told[0]]
    assert sorted(order) == names
    for found in (await users[3].get(path_of(message))).data, (await read_everywhere(users[0], message))[1]:
        assert found["reactions"] == [{"emoji": THUMB, "count": 50, "user_ids": order[:20]}]
    listed = (await users[3].get(f"{path_of(message)}/reactions", limit=100)).data["reactions"]
    assert [one["user_id"] for one in listed] == order


@pytest.mark.slow
async def test_reactions_added_and_taken_back_at_once_leave_one_state(
    start_server: StartServer, server: Server
) -> None:
    names = [f"user-{number:02}" for number in range(50)]
    users = [server.user(name) for name in names]
    message = await users[0].say(await users[0].make_room(*names[1:]))
    room = f"/rooms/{message['room_id']}"
    watching = await users[0].connect()
    for user in users[::2]:
        await react(user, message, SHIP)
    requests = [
        user.request("DELETE" if number % 2 == 0 else "PUT", path_of(message, SHIP if number % 4 < 2 else THUMB))
        for number, user in enumerate(users)
    ]
    assert {reply.status for reply in await asyncio.gather(*requests)} <= {200, 204}
    await users[1].delete(path_of(message, SHIP))  # an emoji that is there afterwards
    [shown] = {json.dumps(found["reactions"]) for found in await read_everywhere(users[1], message)}
    events = (await users[2].get(f"{room}/events", limit=100)).data["events"]
    heard = [await watching.next() for _ in events[1:]]
    assert heard == events[1:]
    listed = (await users[3].get(f"{path_of(message)}/reactions", limit=100)).data["reactions"]
    derived: dict[str, list[str]] = {}
    for event in events[1:]:
        reacted = derived.setdefault(event["emoji"], [])
        reacted.append(event["user_id"]) if event["type"] == "reaction.added" else reacted.remove(event["user_id"])
        assert event["count"] == len(reacted)
        if not reacted:
            del derived[event["emoji"]]
    expected = [{"emoji": one, "count": len(by), "user_ids": by[:20]} for one, by in derived.items()]
    assert json.loads(shown) == expected
    server = await restart(start_server, server)
    for found in await read_everywhere(server.user("user-01"), message):
        assert found["reactions"] == expected
    assert (await server.user("user-02").get(f"{room}/events", limit=100)).data["events"] == events
    again = await server.user("user-03").get(f"{path_of(message)}/reactions", limit=100)
    assert again.data["reactions"] == listed
    assert sorted((one["emoji"], one["user_id"]) for one in listed) == sorted(
        (emoji, user_id) for emoji, by in derived.items() for user_id in by
    )


async def test_the_list_has_the_first_first_and_pages(shared_server: Server) -> None:
    names = ["alice", "bob", "carol", "dave"]
    users = [shared_server.user(name) for name in names]
    message = await users[0].say(await users[0].make_room(*names[1:], room_type="channel"))
    for emoji in (THUMB, SHIP):
        for user in users:
            await react(user, message, emoji)
    path = f"{path_of(message)}/reactions"
    reader = shared_server.user("reader")  # no member
    seen: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    for _ in range(3):
        page = (await reader.get(path, limit=3, **cursor)).data
        seen += page["reactions"]
        cursor = {"cursor": page.get("next_cursor", "")}
        await users[len(seen) // 3].delete(path_of(message, THUMB))  # the list changes while it is read
    assert [(one["emoji"], one["user_id"]) for one in seen] == [
        *((THUMB, name) for name in ("alice", "bob", "carol", "dave")),
        *((SHIP, name) for name in names),
    ]
    of_one = (await reader.get(path, emoji=SHIP, limit=2, offset=1)).data
    assert [one["user_id"] for one in of_one["reactions"]] == ["bob", "carol"]
    assert of_one["has_more"]
    rest = (await reader.get(path, emoji=SHIP, cursor=of_one["next_cursor"])).data
    assert ([one["user_id"] for one in rest["reactions"]], rest["has_more"]) == (["dave"], False)
    assert (await reader.get(path, emoji=HEART)).data == {"reactions": [], "has_more": False}
    for query in ({"limit": 101}, {"cursor": of_one["next_cursor"]}, {"cursor": of_one["next_cursor"], "offset": 1}):
        assert (await reader.get(path, **query)).status == 400


async def test_an_offset_gives_the_same_page_from_either_end(shared_server: Server) -> None:
    names = ["alice", "bob", "carol", "dave"]
    users = [shared_server.user(name) for name in names]
    message = await users[0].say(await users[0].make_room(*names[1:]))
    for user in users:
        await react(user, message, THUMB, SHIP)
    await users[1].delete(path_of(message, THUMB))
    path = f"{path_of(message)}/reactions"
    whole = (await users[0].get(path)).data["reactions"]
    for emoji, there in ((None, whole), (SHIP, [one for one in whole if one["emoji"] == SHIP])):
        query = {} if emoji is None else {"emoji": emoji}
        for offset, limit in itertools.product(range(len(there) + 3), (1, 2, 5, 100)):
            page = (await users[0].get(path, offset=offset, limit=limit, **query)).data
            assert page["reactions"] == there[offset : offset + limit], (offset, limit)
            assert page["has_more"] is (len(there) > offset + limit)
            if page["has_more"]:
                rest = (await users[0].get(path, cursor=page["next_cursor"], **query)).data["reactions"]
                assert rest == there[offset + limit :]


@pytest.mark.parametrize("emoji", [None, "x"])
def test_a_page_near_the_end_passes_over_few_reactions(
    migrated_database: Path, tmp_path: Path, emoji: str | None
) -> None:
    count, steps = 5_000, []
    path = tmp_path / "large.db"
    shutil.copy(migrated_database, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(
            "INSERT INTO rooms (room_key, tenant_key, room_id, type, created_by, created_at_us, updated_at_us)"
            " VALUES (1, 1, 'room_1', 'group', 'u', 1, 1)"
        )
        connection.executemany(
            "INSERT INTO reactions (room_key, target_seq, emoji, created_at_us, seq, user_id)"
            " VALUES (1, 1, 'x', 1, ?, ?)",
            ((number, f"u{number}") for number in range(count)),
        )
        connection.execute("INSERT INTO reaction_counts VALUES (1, 1, 0, 'x', ?, '[]')", (count,))
        sql = store_reactions._LIST_FROM_END if emoji is None else store_reactions._LIST_OF_EMOJI_FROM_END
        connection.set_progress_handler(lambda: steps.append(1), 10)
        scope = {"tenant_key": 1, "room_key": 1, "target_seq": 1, "emoji": emoji, "limit": 50, "offset": count - 100}
        rows = connection.execute(sql, scope).fetchall()
    assert [row[0] for row in rows] == list(range(count - 50, count - 101, -1))
    assert 10 * len(steps) < 4_000  # every reaction before them would be some 20,000


async def test_a_deleted_message_has_no_reactions(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    message, other = await alice.say(room_id), await alice.say(room_id)
    await react(bob, message, THUMB, SHIP)
    await react(bob, other, THUMB)
    await alice.delete(path_of(message))
    tombstone = (await alice.get(path_of(message))).data
    assert tombstone == {**message, "content": None, "deleted_at": tombstone["deleted_at"]}
    page = (await alice.get(f"/rooms/{room_id}/messages")).data["messages"]
    assert page[0] == tombstone
    assert page[1]["reactions"] == [{"emoji": THUMB, "count": 1, "user_ids": ["bob"]}]
    socket = await bob.connect()
    for method, path in (("PUT", path_of(message, THUMB)), ("DELETE", path_of(message, THUMB))):
        assert (await bob.request(method, path)).status == 404
    assert (await bob.get(f"{path_of(message)}/reactions")).status == 404
    for kind in ("reaction.add", "reaction.remove"):
        await socket.send(kind, room_id=room_id, message_id=message["message_id"], emoji=THUMB)
        assert (await socket.expect("error"))["code"] == "NOT_FOUND"
    assert await count_rows(server, f"target_seq = {message['seq']}") == [0, 0, 0]
    assert await count_rows(server, "1") == [1, 1, 0]


async def test_a_deleted_rooms_reactions_are_removed(server: Server) -> None:
    alice = server.user("alice")
    message = await alice.say(await alice.make_room("bob"))
    kept = await alice.say(await alice.make_room("bob"))
    await react(alice, message, THUMB, SHIP)
    await react(alice, kept, THUMB)
    await alice.delete(f"/rooms/{message['room_id']}")
    assert await count_rows(server, "1") == [1, 1, 0]


async def test_retention_takes_reactions_and_pins_with_their_message(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    old, young = await alice.say(room_id), await alice.say(room_id)
    for message in (old, young):
        await react(bob, message, THUMB, SHIP)
        await alice.request("PUT", f"/rooms/{room_id}/pins/{message['message_id']}")
    [tenant] = server.services.tenants.all()
    await server.admin("PATCH", f"/tenants/{tenant.tenant_id}", {"config": {"retention_days": 30}})
    age = "UPDATE messages SET created_at_us = created_at_us - 90 * 86400000000 WHERE seq = 1"
    await server.services.store.writer.change(lambda transaction: transaction.execute(age, {}))
    await apply_retention(server.services, tenant)
    assert await count_rows(server, "target_seq = 1") == [0, 0, 0]
    assert await count_rows(server, "1") == [2, 2, 0]
    assert await server.services.store.readers.fetch("SELECT target_seq FROM pins", {}) == [(young["seq"],)]
    assert [pin["message_id"] for pin in (await alice.get(f"/rooms/{room_id}/pins")).data["messages"]] == [
        young["message_id"]
    ]
    for path in (path_of(old, THUMB), f"/rooms/{room_id}/pins/{old['message_id']}"):
        assert (await alice.request("PUT", path)).status == 404


@pytest.mark.parametrize("way", ["left", "removed", "banned", "banned from the tenant"])
async def test_users_who_are_gone_keep_their_reactions(shared_server: Server, way: str) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    message = await alice.say(await alice.make_room("bob"))
    await react(bob, message, THUMB)
    shown = await react(alice, message, THUMB)
    room = f"/rooms/{message['room_id']}"
    gone = await {
        "left": lambda: bob.delete(f"{room}/members/bob"),
        "removed": lambda: alice.delete(f"{room}/members/bob"),
        "banned": lambda: alice.put(f"{room}/bans/bob", {}),
        "banned from the tenant": lambda: shared_server.user("backend").put("/users/bob/ban", {}),
    }[way]()
    assert gone.status in (200, 204)
    assert shown == [{"emoji": THUMB, "count": 2, "user_ids": ["bob", "alice"]}]
    assert (await alice.get(path_of(message))).data["reactions"] == shown
    assert len((await alice.get(f"{path_of(message)}/reactions")).data["reactions"]) == 2
    assert (await bob.delete(path_of(message, THUMB))).status == 403


async def count_rows(server: Server, where: str) -> list[int]:
    """Of all tables, once housekeeping has come to them."""
    await purge_deleted(server.services)
    counts = []
    for table in ("reactions", "reaction_counts", "emptied_messages"):
        counts += await server.services.store.readers.fetch(f"SELECT count(*) FROM {table} WHERE {where}", {})
    return [count for (count,) in counts]
