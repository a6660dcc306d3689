"""Pins: messages that a room's admins, in a dm both, have marked for its readers."""

from typing import Any

from conftest import StartServer
from driver import Server, User, restart, say_many

from chatapi.housekeeping import purge_deleted


def pin_of(message: dict[str, Any]) -> str:
    return f"/rooms/{message['room_id']}/pins/{message['message_id']}"


def path_of(message: dict[str, Any]) -> str:
    return f"/rooms/{message['room_id']}/messages/{message['message_id']}"


async def list_pinned(user: User, room_id: str, **query: object) -> list[str]:
    return [found["message_id"] for found in (await user.get(f"/rooms/{room_id}/pins", **query)).data["messages"]]


async def last_seq(user: User, room_id: str) -> int:
    return int((await user.get(f"/rooms/{room_id}")).data["last_seq"])


async def test_an_admin_pins_and_unpins_a_message(start_server: StartServer) -> None:
    server = await start_server()
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    message = await bob.say(room_id)
    socket = await bob.connect()
    reply = await alice.request("PUT", pin_of(message))
    pinned = await socket.expect("message.pinned")
    assert pinned == {
        "type": "message.pinned",
        "room_id": room_id,
        "message_id": message["message_id"],
        "target_seq": 1,
        "user_id": "alice",
        "pinned_at": reply.data["pinned_at"],
        "seq": 2,
    }
    shown = {**message, "pinned_at": pinned["pinned_at"]}
    assert (reply.status, reply.data) == (200, shown)
    for reader in (alice, bob):
        assert (await reader.get(path_of(message))).data == shown
        assert (await reader.get(f"/rooms/{room_id}/messages")).data["messages"] == [shown]
        assert (await reader.get(f"/rooms/{room_id}/pins")).data == {"messages": [shown], "has_more": False}
    assert (await alice.delete(pin_of(message))).status == 204
    unpinned = await socket.expect("message.unpinned")
    assert unpinned == {
        "type": "message.unpinned",
        "room_id": room_id,
        "message_id": message["message_id"],
        "target_seq": 1,
        "user_id": "alice",
        "seq": 3,
    }
    assert (await bob.get(path_of(message))).data == message
    assert (await bob.get(f"/rooms/{room_id}/events")).data["events"] == [
        {"type": "message", **message},
        pinned,
        unpinned,
    ]
    await alice.request("PUT", pin_of(message))
    await socket.close()
    server = await restart(start_server, server)
    assert await list_pinned(server.user("bob"), room_id) == [message["message_id"]]


async def test_a_repetition_changes_nothing(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room("bob")
    message = await alice.say(room_id)
    assert (await alice.delete(pin_of(message))).status == 204  # it is not pinned
    first = (await alice.request("PUT", pin_of(message))).data
    assert (await alice.request("PUT", pin_of(message))).data == first
    assert await last_seq(alice, room_id) == 2
    edited = (await alice.put(path_of(message), {"content": "edited"})).data
    assert edited["pinned_at"] == first["pinned_at"]


async def test_both_members_of_a_dm_pin_and_readers_of_a_channel_see(shared_server: Server) -> None:
    alice, bob, reader = (shared_server.user(name) for name in ("alice", "bob", "reader"))
    dm = str((await alice.post("/rooms", {"type": "dm", "members": ["bob"]})).data["room_id"])
    message = await alice.say(dm)
    assert (await bob.request("PUT", pin_of(message))).status == 200
    assert (await alice.delete(pin_of(message))).status == 204
    channel = await alice.make_room(room_type="channel")
    message = await alice.say(channel)
    socket = await reader.connect()
    await socket.send("subscribe", room_id=channel)
    await socket.expect("subscribed")
    await alice.request("PUT", pin_of(message))
    await socket.expect("message.pinned", message_id=message["message_id"])
    assert await list_pinned(reader, channel) == [message["message_id"]]
    assert (await reader.request("PUT", pin_of(message))).status == 403


async def test_the_newest_pin_comes_first(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room("bob")
    messages = [await alice.say(room_id, f"{number}") for number in range(5)]
    ids = [messages[number]["message_id"] for number in (3, 0, 4, 1)]
    for message_id in reversed(ids):
        await alice.request("PUT", f"/rooms/{room_id}/pins/{message_id}")
    assert await list_pinned(alice, room_id) == ids
    assert await list_pinned(alice, room_id, limit=2, offset=1) == ids[1:3]
    page = (await alice.get(f"/rooms/{room_id}/pins", limit=2)).data
    await alice.delete(f"/rooms/{room_id}/pins/{ids[0]}")  # the list changes while it is read
    await alice.request("PUT", f"/rooms/{room_id}/pins/{messages[2]['message_id']}")
    assert await list_pinned(alice, room_id, cursor=page["next_cursor"]) == ids[2:]


async def test_a_room_has_a_hundred_pins_at_most(start_server: StartServer) -> None:
    server = await start_server({"limits.rate_limit": 10_000})
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    ids = await say_many(alice, room_id, 102)
    for message_id in ids[:99]:
        assert (await alice.request("PUT", f"/rooms/{room_id}/pins/{message_id}")).status == 200
    # Of two that come together one finds room.
    replies = await server.together(
        *(alice.request("PUT", f"/rooms/{room_id}/pins/{message_id}") for message_id in ids[99:101])
    )
    assert [reply.status for reply in replies] == [200, 409]
    assert replies[1].error["code"] == "CONFLICT"
    assert (await alice.request("PUT", f"/rooms/{room_id}/pins/{ids[5]}")).status == 200  # pinned already
    await alice.delete(f"/rooms/{room_id}/messages/{ids[7]}")  # which unpins it
    assert (await alice.request("PUT", f"/rooms/{room_id}/pins/{ids[100]}")).status == 200
    assert len(await list_pinned(alice, room_id, limit=100)) == 100


async def test_a_deletion_unpins_without_an_event(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room("bob")
    message = await alice.say(room_id)
    await alice.request("PUT", pin_of(message))
    await alice.delete(path_of(message))
    assert await list_pinned(alice, room_id) == []
    assert "pinned_at" not in (await alice.get(path_of(message))).data
    for method in ("PUT", "DELETE"):
        assert (await alice.request(method, pin_of(message))).status == 404
        assert (await alice.request(method, f"/rooms/{room_id}/pins/msg_unknown")).status == 404
    kinds = [event["type"] for event in (await alice.get(f"/rooms/{room_id}/events")).data["events"]]
    assert kinds == ["message", "message.pinned", "message.deleted"]


async def test_a_deleted_rooms_pins_are_removed(server: Server) -> None:
    alice = server.user("alice")
    message = await alice.say(await alice.make_room("bob"))
    await alice.request("PUT", pin_of(message))
    await alice.delete(f"/rooms/{message['room_id']}")
    await purge_deleted(server.services)
    assert await server.services.store.readers.fetch("SELECT count(*) FROM pins", {}) == [(0,)]
