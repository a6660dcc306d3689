"""Rooms of all three types: creating, reading, listing, changing and deleting them."""

import asyncio
from collections.abc import Sequence

import pytest
from conftest import StartServer
from driver import Gate, Server, User, restart, say_many

from chatapi import rooms
from chatapi.store import Write


async def token_user(server: Server, user_id: str) -> User:
    return server.bearer(user_id, (await server.user(user_id).post("/tokens")).data["token"])


def ids(reply) -> list[str]:
    return [room["room_id"] for room in reply.data["rooms"]]


def room_frame(frame_type: str, room: dict[str, object]) -> dict[str, object]:
    """A frame has a type of its own: the room's is called `room_type` there."""
    return {**room, "room_type": room["type"], "type": frame_type}


async def test_a_new_group_is_answered_with_all_its_fields(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    reply = await alice.post(
        "/rooms", {"type": "group", "members": ["bob", "carol"], "name": "Team", "metadata": {"a": [1, {"b": None}]}}
    )
    assert reply.status == 201
    room = reply.data
    assert room.pop("room_id").startswith("room_")
    assert room.pop("created_at") == room.pop("updated_at")
    assert room == {
        "type": "group",
        "unique_key": None,
        "name": "Team",
        "metadata": {"a": [1, {"b": None}]},
        "posting": "members",
        "slow_mode_seconds": 0,
        "last_seq": 0,
        "member_count": 3,
        "created_by": "alice",
    }


async def test_a_room_reads_the_same_from_memory_and_from_disk(start_server) -> None:
    server = await start_server()
    alice = server.user("alice")
    room_ids = [
        await alice.make_room("bob", room_type="dm"),
        await alice.make_room("bob", name="Ünï 🙂", metadata={"π": 3.5, "deep": {"x": [True]}}),
        await alice.make_room(room_type="channel"),
    ]
    await alice.say(room_ids[1])
    before = [(await alice.get(f"/rooms/{room_id}")).data for room_id in room_ids]
    listed = {room["room_id"]: room for room in (await alice.get("/rooms")).data["rooms"]}
    assert [{key: listed[room["room_id"]][key] for key in room} for room in before] == before
    await server.stop()
    again = (await start_server()).user("alice")
    assert [(await again.get(f"/rooms/{room_id}")).data for room_id in room_ids] == before


async def test_the_creator_is_the_admin_and_duplicates_are_folded(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    for room_type in ("group", "channel"):
        room_id = await alice.make_room("bob", "alice", "bob", room_type=room_type)
        members = (await alice.get(f"/rooms/{room_id}/members")).data
        assert [(member["user_id"], member["role"]) for member in members["members"]] == [
            ("alice", "admin"),
            ("bob", "member"),
        ]
        assert members["has_more"] is False


@pytest.mark.parametrize("body", [{"type": "group"}, {"type": "group", "members": None}, {"type": "channel"}])
async def test_members_name_and_metadata_may_be_absent_or_null(shared_server: Server, body: dict[str, object]) -> None:
    room = (await shared_server.user("alice").post("/rooms", {**body, "name": None})).data
    assert (room["member_count"], room["name"], room["metadata"]) == (1, None, None)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "type"),
        ({"type": "party"}, "type"),
        ({"type": 1}, "type"),
        ({"type": "group", "members": "bob"}, "members"),
        ({"type": "group", "members": ["bob", 7]}, "members[1]"),
        ({"type": "group", "members": ["bob", "c d"]}, "members[1]"),
        ({"type": "group", "members": ["bob\n"]}, "members[0]"),
        ({"type": "group", "members": [""]}, "members[0]"),
        ({"type": "group", "members": ["b" * 129]}, "members[0]"),
        ({"type": "group", "members": ["zoë"]}, "members[0]"),
        ({"type": "group", "members": [f"user-{n}" for n in range(1001)]}, "members"),
        ({"type": "group", "name": ""}, "name"),
        ({"type": "group", "name": "n" * 201}, "name"),
        ({"type": "group", "name": 5}, "name"),
        ({"type": "group", "metadata": []}, "metadata"),
        ({"type": "group", "metadata": {"k": "v" * 16384}}, "metadata"),
        ({"type": "dm"}, "members"),
        ({"type": "dm", "members": []}, "members"),
        ({"type": "dm", "members": ["alice"]}, "members"),
        ({"type": "dm", "members": ["bob", "bob", "bob", "carol", "dave"]}, "members"),
    ],
)
async def test_a_bad_room_is_refused_with_the_culprit_named(
    shared_server: Server, body: dict[str, object], field: str
) -> None:
    reply = await shared_server.user("alice").post("/rooms", body)
    assert (reply.status, reply.error["code"], reply.error["field"]) == (400, "VALIDATION_ERROR", field)
    assert (await shared_server.user("alice").get("/rooms")).data == {"rooms": [], "has_more": False}


async def test_bounds_themselves_are_allowed(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room = (
        await alice.post(
            "/rooms",
            {
                "type": "group",
                "members": [f"user-{n}" for n in range(999)] + ["u" * 128],
                "name": "ü" * 200,
                "metadata": {"k": "v" * (16384 - len('{"k":""}'))},
            },
        )
    ).data
    assert room["member_count"] == 1001


# Direct messages


async def test_a_dm_has_one_key_for_both_orders_and_exists_once(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room = (await alice.post("/rooms", {"type": "dm", "members": ["bob"]})).data
    assert room["unique_key"] is not None
    assert room["member_count"] == 2
    for reply in (
        await alice.post("/rooms", {"type": "dm", "members": ["bob"]}),
        await bob.post("/rooms", {"type": "dm", "members": ["alice"]}),
        await shared_server.user("backend").post("/rooms", {"type": "dm", "members": ["bob", "alice", "bob"]}),
    ):
        assert (reply.status, reply.error["code"]) == (409, "CONFLICT")
        assert reply.error["details"] == {"room_id": room["room_id"]}


async def test_a_dm_that_is_created_many_times_at_once_is_one(shared_server: Server) -> None:
    users = [shared_server.user("alice"), shared_server.user("bob")] * 8
    replies = await asyncio.gather(
        *(user.post("/rooms", {"type": "dm", "members": ["alice", "bob"]}) for user in users)
    )
    assert sorted(reply.status for reply in replies) == [201] + [409] * 15
    [room_id] = {reply.data["room_id"] for reply in replies if reply.status == 201}
    assert {reply.error["details"]["room_id"] for reply in replies if reply.status == 409} == {room_id}


async def test_dms_of_ids_with_separators_are_never_taken_for_each_other(shared_server: Server) -> None:
    pairs = [("a:b", "c"), ("a", "b:c"), ("a|b", "c"), ("a", "b|c"), ("1:a", "b"), ("1", "a:b"), ("a@x/y", "z")]
    keys = set()
    for first, second in pairs:
        reply = await shared_server.user("backend").post("/rooms", {"type": "dm", "members": [first, second]})
        assert reply.status == 201, (first, second)
        keys.add(reply.data["unique_key"])
    assert len(keys) == len(pairs)


async def test_in_a_dm_both_are_members_so_nobody_renames_or_deletes_it(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room("bob", room_type="dm")
    members = (await alice.get(f"/rooms/{room_id}/members")).data["members"]
    assert {member["user_id"]: member["role"] for member in members} == {"alice": "member", "bob": "member"}
    assert (await alice.patch(f"/rooms/{room_id}", {"name": "us"})).status == 403
    assert (await alice.delete(f"/rooms/{room_id}")).status == 403


async def test_the_tenants_key_may_make_a_dm_of_two_others_but_a_user_token_may_not(shared_server: Server) -> None:
    room = (await shared_server.user("backend").post("/rooms", {"type": "dm", "members": ["alice", "bob"]})).data
    assert room["created_by"] == "backend"
    assert (await shared_server.user("backend").get(f"/rooms/{room['room_id']}")).status == 403
    carol = await token_user(shared_server, "carol")
    reply = await carol.post("/rooms", {"type": "dm", "members": ["alice", "dave"]})
    assert (reply.status, reply.error["code"]) == (403, "AUTHORIZATION_ERROR")
    assert (await carol.post("/rooms", {"type": "dm", "members": ["carol", "dave"]})).status == 201
    assert (await carol.post("/rooms", {"type": "dm", "members": ["erin"]})).status == 201
    group = (await carol.post("/rooms", {"type": "group", "members": ["alice"]})).data
    assert group["member_count"] == 2


# Who may read


async def test_a_group_is_private_and_a_channel_is_open_to_the_tenant(shared_server: Server) -> None:
    alice, bob, eve = (shared_server.user(name) for name in ("alice", "bob", "eve"))
    group = await alice.make_room("bob")
    channel = await alice.make_room("bob", room_type="channel")
    message = {room_id: await alice.say(room_id) for room_id in (group, channel)}
    for path in ("", "/members", "/messages", "/events", f"/messages/{message[group]['message_id']}"):
        assert (await bob.get(f"/rooms/{group}{path}")).status == 200
        reply = await eve.get(f"/rooms/{group}{path}")
        assert (reply.status, reply.error["code"]) == (403, "AUTHORIZATION_ERROR"), path
    for path in ("", "/members", "/messages", "/events", f"/messages/{message[channel]['message_id']}"):
        assert (await eve.get(f"/rooms/{channel}{path}")).status == 200
    for path in ("/receipts", "/presence"):
        assert (await eve.get(f"/rooms/{channel}{path}")).status == 403
        assert (await bob.get(f"/rooms/{channel}{path}")).status == 200
    message_path = f"/rooms/{channel}/messages/{message[channel]['message_id']}"
    for reply in (
        await eve.post(f"/rooms/{channel}/messages", {"content": "let me"}),
        await eve.put(message_path, {"content": "other"}),
        await eve.delete(message_path),
        await eve.post(f"/rooms/{channel}/read", {"seq": 0}),
        await eve.post("/acks", {"room_id": channel, "seq": 0}),
        await eve.patch(f"/rooms/{channel}", {"name": "mine"}),
        await eve.delete(f"/rooms/{channel}"),
    ):
        assert (reply.status, reply.error["code"]) == (403, "AUTHORIZATION_ERROR")


async def test_rooms_that_do_not_exist_are_not_found(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    for room_id in ("room_" + "0" * 24, "x", "%00", "%ff", "room_%2Fetc", "ü"):
        reply = await alice.get(f"/rooms/{room_id}")
        assert (reply.status, reply.error["code"]) == (404, "NOT_FOUND"), room_id


# Lists


async def test_the_list_holds_the_callers_rooms_the_most_recently_active_first(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    first = await alice.make_room("bob")
    second = await alice.make_room("bob", room_type="channel")
    third = await alice.make_room()
    assert ids(await alice.get("/rooms")) == [third, second, first]
    assert ids(await bob.get("/rooms")) == [second, first]
    await bob.say(first)
    assert ids(await alice.get("/rooms")) == [first, third, second]
    await alice.patch(f"/rooms/{second}", {"name": "busy"})  # any event of the log is activity
    assert ids(await alice.get("/rooms")) == [second, first, third]
    assert ids(await shared_server.user("eve").get("/rooms")) == []


async def test_the_list_tells_role_cursors_unread_and_last_message(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")
    [fresh] = (await bob.get("/rooms")).data["rooms"]
    assert (fresh["role"], fresh["last_ack"], fresh["last_read"], fresh["unread_count"], fresh["last_message"]) == (
        "member",
        0,
        0,
        0,
        None,
    )
    messages = [await alice.say(room_id, f"{n}") for n in range(4)]
    await bob.say(room_id, "my own")
    await alice.delete(f"/rooms/{room_id}/messages/{messages[3]['message_id']}")
    await bob.post(f"/rooms/{room_id}/read", {"seq": 1})
    await bob.post("/acks", {"room_id": room_id, "seq": 2})
    [room] = (await bob.get("/rooms")).data["rooms"]
    assert (room["last_seq"], room["last_ack"], room["last_read"]) == (6, 2, 1)
    assert room["unread_count"] == 2  # neither the deleted one nor one's own
    assert room["last_message"]["content"] == "my own"
    [mine] = (await alice.get("/rooms")).data["rooms"]
    assert (mine["role"], mine["unread_count"]) == ("admin", 1)


async def test_a_deleted_last_message_is_shown_as_its_tombstone(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    message = await alice.say(room_id, "secret", meta={"k": 1})
    await alice.delete(f"/rooms/{room_id}/messages/{message['message_id']}")
    [room] = (await alice.get("/rooms")).data["rooms"]
    shown = room["last_message"]
    assert (shown["message_id"], shown["content"], shown["meta"]) == (message["message_id"], None, None)
    assert shown["deleted_at"] is not None


async def test_unread_is_counted_to_a_thousand(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")
    await say_many(alice, room_id, 1010)
    [room] = (await bob.get("/rooms")).data["rooms"]
    assert (room["last_seq"], room["unread_count"]) == (1010, 1000)


async def test_lists_are_paged(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    rooms = [await alice.make_room(room_type="channel", name=f"{n}") for n in range(5)]
    for path in ("/rooms", "/channels"):
        first = await alice.get(path, limit=2)
        assert ids(first) == [rooms[4], rooms[3]]
        assert first.data["has_more"] is True
        last = await alice.get(path, limit=3, offset=2)
        assert ids(last) == [rooms[2], rooms[1], rooms[0]]
        assert last.data["has_more"] is False
        assert ids(await alice.get(path, offset=9)) == []
    room_id = await alice.make_room(*"bcde")
    page = (await alice.get(f"/rooms/{room_id}/members", limit=2, offset=1)).data
    assert ([member["user_id"] for member in page["members"]], page["has_more"]) == (["b", "c"], True)
    receipts = (await alice.get(f"/rooms/{room_id}/receipts", limit=2, offset=3)).data
    assert [receipt["user_id"] for receipt in receipts["receipts"]] == ["d", "e"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=1.5", "limit"),
        ("offset=-1", "offset"),
        ("offset=9007199254740992", "offset"),
    ],
)
async def test_a_bad_page_is_refused(shared_server: Server, query: str, field: str) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    for path in ("/rooms", "/channels", f"/rooms/{room_id}/members", f"/rooms/{room_id}/receipts"):
        reply = await alice.request("GET", f"{path}?{query}")
        assert (reply.status, reply.error["code"], reply.error["field"]) == (400, "VALIDATION_ERROR", field)


async def test_every_user_of_the_tenant_discovers_its_channels_only(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    channel = await alice.make_room(room_type="channel", name="news")
    await alice.make_room("eve")
    await alice.make_room("eve", room_type="dm")
    found = (await shared_server.user("eve").get("/channels")).data["rooms"]
    assert [room["room_id"] for room in found] == [channel]
    assert found[0] == (await alice.get(f"/rooms/{channel}")).data


# Changing and deleting


async def test_an_admin_changes_name_and_metadata_each_alone(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room(name="old", metadata={"a": 1})
    path = f"/rooms/{room_id}"
    room = (await alice.patch(path, {"name": "new"})).data
    assert (room["name"], room["metadata"], room["last_seq"]) == ("new", {"a": 1}, 1)
    assert room["updated_at"] > room["created_at"]
    room = (await alice.patch(path, {"metadata": None})).data
    assert (room["name"], room["metadata"], room["last_seq"]) == ("new", None, 2)
    room = (await alice.patch(path, {"name": None, "metadata": {"b": 2}})).data
    assert (room["name"], room["metadata"], room["last_seq"]) == (None, {"b": 2}, 3)
    assert (await alice.get(path)).data == room


async def test_changes_that_arrive_together_do_not_undo_each_other(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room(name="old", metadata={"old": True})
    await server.together(
        alice.patch(f"/rooms/{room_id}", {"name": "new"}),
        alice.patch(f"/rooms/{room_id}", {"metadata": {"new": True}}),
    )
    room = (await alice.get(f"/rooms/{room_id}")).data
    assert (room["name"], room["metadata"], room["last_seq"]) == ("new", {"new": True}, 2)
    *_, last = (await alice.get(f"/rooms/{room_id}/events")).data["events"]
    assert (last["name"], last["metadata"]) == ("new", {"new": True})


@pytest.mark.parametrize(
    ("body", "field"),
    [({"name": ""}, "name"), ({"name": ["x"]}, "name"), ({"metadata": {"k": "v" * 16384}}, "metadata")],
)
async def test_a_bad_change_is_refused(shared_server: Server, body: dict[str, object], field: str) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room(name="old")
    reply = await alice.patch(f"/rooms/{room_id}", body)
    assert (reply.status, reply.error["field"]) == (400, field)
    assert (await alice.get(f"/rooms/{room_id}")).data["name"] == "old"


async def test_only_admins_change_and_delete_a_room(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")
    for reply in (await bob.patch(f"/rooms/{room_id}", {"name": "mine"}), await bob.delete(f"/rooms/{room_id}")):
        assert (reply.status, reply.error["code"]) == (403, "AUTHORIZATION_ERROR")
    await alice.patch(f"/rooms/{room_id}/members/bob", {"role": "admin"})
    assert (await bob.patch(f"/rooms/{room_id}", {"name": "ours"})).status == 200


async def test_a_deleted_room_is_gone_with_everything_in_it(start_server) -> None:
    server = await start_server()
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    message = await alice.say(room_id)
    socket = await bob.connect()
    room = (await alice.get(f"/rooms/{room_id}")).data
    assert (await alice.delete(f"/rooms/{room_id}")).status == 204
    assert await socket.expect("room.deleted") == room_frame("room.deleted", room)

    async def check(user: User) -> None:
        for path in ("", "/members", "/messages", "/events", f"/messages/{message['message_id']}"):
            assert (await user.get(f"/rooms/{room_id}{path}")).status == 404
        assert (await user.post(f"/rooms/{room_id}/messages", {"content": "x"})).status == 404
        assert (await user.delete(f"/rooms/{room_id}")).status == 404
        assert ids(await user.get("/rooms")) == []

    await check(alice)
    await check(bob)
    await server.stop()
    await check((await start_server()).user("alice"))


async def test_a_room_that_is_deleted_under_waiting_sends_takes_none_of_them(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")
    replies = await asyncio.gather(
        alice.delete(f"/rooms/{room_id}"),
        *(bob.post(f"/rooms/{room_id}/messages", {"content": "x"}) for _ in range(20)),
        alice.delete(f"/rooms/{room_id}"),
        alice.patch(f"/rooms/{room_id}", {"name": "x"}),
        alice.post(f"/rooms/{room_id}/members", {"user_id": "carol"}),
    )
    assert {reply.status for reply in replies} <= {200, 201, 204, 404}
    assert sum(reply.status == 204 for reply in replies) == 1
    assert (await bob.get(f"/rooms/{room_id}")).status == 404


async def test_after_the_deletion_of_a_channel_its_name_in_the_lists_is_free(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    channel = await alice.make_room(room_type="channel", name="news")
    await alice.delete(f"/rooms/{channel}")
    assert ids(await alice.get("/channels")) == []
    again = await alice.make_room(room_type="channel", name="news")
    assert again != channel
    assert ids(await alice.get("/channels")) == [again]


async def test_room_events_reach_the_members(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    socket = await bob.connect()
    room_id = await alice.make_room("bob", name="old")
    created = await socket.expect("room.created", room_id=room_id)
    assert created == room_frame("room.created", (await alice.get(f"/rooms/{room_id}")).data)
    room = (await alice.patch(f"/rooms/{room_id}", {"name": "new"})).data
    assert await socket.expect("room.updated") == {**room_frame("room.updated", room), "seq": 1}
    await alice.patch(f"/rooms/{room_id}", {"name": "new"})  # nothing new is no event
    await alice.say(room_id)
    await socket.expect("message", seq=2)


async def test_memory_for_rooms_that_a_reconnect_loads_is_bounded(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "ALL_RINGS_BYTES", 200_000)
    server = await start_server()
    alice = server.user("alice")
    for _ in range(10):
        room_id = await alice.make_room("bob")
        for _ in range(8):
            await alice.say(room_id, "x" * 10_000)
    server = await restart(start_server, server)
    await server.user("bob").connect()
    loaded = server.services.rooms.of_tenant(server.services.tenants.all()[0].tenant_key)
    assert sum(room.ring.size_bytes for room in loaded) <= 200_000


async def test_a_room_that_is_deleted_while_it_is_read_takes_no_memory(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server()
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    await alice.say(room_id)
    server = await restart(start_server, server)
    gate = Gate(rooms.log.read_newest_events)
    monkeypatch.setattr(rooms.log, "read_newest_events", gate)
    connecting = asyncio.ensure_future(server.user("bob").connect())
    await gate.arrived.wait()
    assert (await server.user("alice").delete(f"/rooms/{room_id}")).status == 204
    gate.open()
    await connecting
    assert server.services.rooms._ring_bytes == 0


async def test_room_that_is_read_before_its_creation_is_published_is_one_object(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two objects of one room would each give its next `seq`."""
    alice, bob = server.user("alice"), server.user("bob")
    writer = server.services.store.writer
    gate, commit = asyncio.Event(), writer._commit
    committed = asyncio.Event()

    async def commit_and_wait(batch: Sequence[Write]) -> None:
        await commit(batch)
        committed.set()
        await gate.wait()

    monkeypatch.setattr(writer, "_commit", commit_and_wait)
    creating = asyncio.ensure_future(alice.make_room("bob"))
    await committed.wait()
    listener = await bob.connect()
    gate.set()
    room_id = await creating
    [connection] = server.connections_of("bob")
    assert len(connection.rooms) == 1
    await alice.say(room_id)
    await listener.expect("message", seq=1)
