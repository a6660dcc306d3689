"""Members: joining, leaving, roles, and who may decide about them."""

import asyncio
from urllib.parse import quote

import pytest
import yarl
from driver import Reply, Server, User


async def roles(user: User, room_id: str) -> dict[str, str]:
    members = (await user.get(f"/rooms/{room_id}/members")).data["members"]
    return {member["user_id"]: member["role"] for member in members}


def refused(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.error["code"]


async def test_an_admin_adds_a_member_who_has_the_room_at_once(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room(name="Team")
    await alice.say(room_id, "before")
    socket, watcher = await bob.connect(), await alice.connect()
    reply = await alice.post(f"/rooms/{room_id}/members", {"user_id": "bob"})
    assert (reply.status, reply.data["user_id"], reply.data["role"]) == (201, "bob", "member")
    assert reply.data["joined_at"].endswith("Z")
    joined = {"type": "member.joined", "room_id": room_id, "user_id": "bob", "role": "member", "seq": 2}
    assert await watcher.expect("member.joined") == joined
    created = await socket.expect("room.created", room_id=room_id, name="Team", member_count=2)
    assert "seq" not in created
    await alice.say(room_id, "welcome")
    assert (await socket.expect("message"))["content"] == "welcome"  # what was before is not live
    [room] = (await bob.get("/rooms")).data["rooms"]
    assert (room["last_ack"], room["last_read"], room["unread_count"]) == (2, 2, 1)
    history = (await bob.get(f"/rooms/{room_id}/messages")).data["messages"]
    assert [message["content"] for message in history] == ["before", "welcome"]


async def test_a_member_may_be_added_as_admin(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    assert (await alice.post(f"/rooms/{room_id}/members", {"user_id": "bob", "role": "admin"})).data["role"] == "admin"
    assert await roles(shared_server.user("bob"), room_id) == {"alice": "admin", "bob": "admin"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "user_id"),
        ({"user_id": "a b"}, "user_id"),
        ({"user_id": 4}, "user_id"),
        ({"user_id": "b", "role": "king"}, "role"),
    ],
)
async def test_a_bad_member_is_refused(shared_server: Server, body: dict[str, object], field: str) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    reply = await alice.post(f"/rooms/{room_id}/members", body)
    assert (reply.status, reply.error["code"], reply.error["field"]) == (400, "VALIDATION_ERROR", field)


async def test_adding_a_member_again_is_a_conflict(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    for room_type in ("group", "channel"):
        room_id = await alice.make_room("bob", room_type=room_type)
        assert refused(await alice.post(f"/rooms/{room_id}/members", {"user_id": "bob"})) == (409, "CONFLICT")
        assert refused(await alice.post(f"/rooms/{room_id}/members", {"user_id": "alice"})) == (409, "CONFLICT")
    assert refused(await bob.post(f"/rooms/{room_id}/members", {"user_id": "bob"})) == (409, "CONFLICT")
    assert (await alice.get(f"/rooms/{room_id}")).data["last_seq"] == 0


async def test_many_joins_at_once_add_a_user_once(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room(room_type="channel")
    replies = await asyncio.gather(*(bob.post(f"/rooms/{room_id}/members", {"user_id": "bob"}) for _ in range(10)))
    assert sorted(reply.status for reply in replies) == [201] + [409] * 9
    assert (await bob.get(f"/rooms/{room_id}")).data["last_seq"] == 1


async def test_members_that_are_no_admins_decide_about_nobody_else(shared_server: Server) -> None:
    alice, bob, eve = (shared_server.user(name) for name in ("alice", "bob", "eve"))
    for room_type in ("group", "channel"):
        path = f"/rooms/{await alice.make_room('bob', 'carol', room_type=room_type)}/members"
        for user in (bob, eve):
            assert refused(await user.post(path, {"user_id": "dave"})) == (403, "AUTHORIZATION_ERROR")
            assert refused(await user.delete(f"{path}/carol")) == (403, "AUTHORIZATION_ERROR")
            assert refused(await user.patch(f"{path}/carol", {"role": "admin"})) == (403, "AUTHORIZATION_ERROR")
        assert refused(await bob.patch(f"{path}/bob", {"role": "admin"})) == (403, "AUTHORIZATION_ERROR")


async def test_a_user_joins_a_channel_by_itself_but_no_group(shared_server: Server) -> None:
    alice, eve = shared_server.user("alice"), shared_server.user("eve")
    channel = await alice.make_room(room_type="channel")
    group = await alice.make_room()
    assert refused(await eve.post(f"/rooms/{group}/members", {"user_id": "eve"})) == (403, "AUTHORIZATION_ERROR")
    reply = await eve.post(f"/rooms/{channel}/members", {"user_id": "eve", "role": "admin"})
    assert refused(reply) == (403, "AUTHORIZATION_ERROR")
    assert (await eve.post(f"/rooms/{channel}/messages", {"content": "x"})).status == 403
    assert (await eve.post(f"/rooms/{channel}/members", {"user_id": "eve"})).status == 201
    assert (await eve.post(f"/rooms/{channel}/messages", {"content": "x"})).status == 201


async def test_the_members_of_a_dm_are_fixed(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    path = f"/rooms/{await alice.make_room('bob', room_type='dm')}/members"
    for reply in (
        await alice.post(path, {"user_id": "carol"}),
        await alice.delete(f"{path}/bob"),
        await alice.delete(f"{path}/alice"),
        await alice.patch(f"{path}/bob", {"role": "admin"}),
    ):
        assert refused(reply) == (409, "CONFLICT")
    assert await roles(alice, path.split("/")[2]) == {"alice": "member", "bob": "member"}


async def test_stranger_learns_no_more_of_a_dm_than_of_a_group(shared_server: Server) -> None:
    eve = shared_server.user("eve")
    path = f"/rooms/{await shared_server.user('alice').make_room('bob', room_type='dm')}/members"
    for reply in (
        await eve.post(path, {"user_id": "eve"}),
        await eve.delete(f"{path}/bob"),
        await eve.delete(f"{path}/eve"),
        await eve.patch(f"{path}/bob", {"role": "admin"}),
    ):
        assert refused(reply) == (403, "AUTHORIZATION_ERROR")


async def test_roles_change_and_the_last_admin_stays_one(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")
    socket = await bob.connect()
    path = f"/rooms/{room_id}/members"
    assert refused(await alice.patch(f"{path}/alice", {"role": "member"})) == (409, "CONFLICT")
    reply = await alice.patch(f"{path}/bob", {"role": "admin"})
    assert (reply.status, reply.data["role"]) == (200, "admin")
    updated = {
        "type": "member.updated",
        "room_id": room_id,
        "user_id": "bob",
        "role": "admin",
        "muted_until": None,
        "seq": 1,
    }
    assert await socket.expect("member.updated") == updated
    assert (await alice.patch(f"{path}/bob", {"role": "admin"})).status == 200  # nothing new is no event
    assert (await bob.patch(f"{path}/alice", {"role": "member"})).data["role"] == "member"
    assert await roles(alice, room_id) == {"alice": "member", "bob": "admin"}
    assert (await alice.get(f"/rooms/{room_id}")).data["last_seq"] == 2
    assert refused(await bob.patch(f"{path}/carol", {"role": "admin"})) == (404, "NOT_FOUND")
    assert (await bob.patch(f"{path}/alice", {})).error["field"] == "role"


async def test_two_admins_who_demote_each_other_at_once_leave_one(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    path = f"/rooms/{room_id}/members"
    await alice.patch(f"{path}/bob", {"role": "admin"})
    replies = await server.together(
        alice.patch(f"{path}/bob", {"role": "member"}),
        bob.patch(f"{path}/alice", {"role": "member"}),
    )
    assert [reply.status for reply in replies] == [200, 403]
    assert sorted((await roles(alice, room_id)).values()) == ["admin", "member"]


async def test_a_removed_member_is_told_and_then_gets_nothing_more(shared_server: Server) -> None:
    alice, bob, carol = (shared_server.user(name) for name in ("alice", "bob", "carol"))
    room_id = await alice.make_room("bob", "carol")
    socket, watcher = await bob.connect(), await carol.connect()
    assert (await alice.delete(f"/rooms/{room_id}/members/bob")).status == 204
    left = {"type": "member.left", "room_id": room_id, "user_id": "bob", "seq": 1}
    assert await watcher.expect("member.left") == left
    assert await socket.expect("member.left") == left
    await alice.say(room_id, "without bob")
    await alice.patch(f"/rooms/{room_id}", {"name": "x"})
    await watcher.expect("room.updated")
    await socket.expect_nothing("message", "room.updated")
    assert refused(await bob.get(f"/rooms/{room_id}")) == (403, "AUTHORIZATION_ERROR")
    assert refused(await bob.post(f"/rooms/{room_id}/messages", {"content": "x"})) == (403, "AUTHORIZATION_ERROR")
    assert (await bob.get("/rooms")).data["rooms"] == []
    assert refused(await alice.delete(f"/rooms/{room_id}/members/bob")) == (404, "NOT_FOUND")
    assert refused(await bob.delete(f"/rooms/{room_id}/members/bob")) == (403, "AUTHORIZATION_ERROR")


async def test_a_role_that_is_changed_while_its_member_is_removed_breaks_nothing(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    replies = await server.together(
        alice.patch(f"/rooms/{room_id}/members/bob", {"role": "admin"}),
        alice.delete(f"/rooms/{room_id}/members/bob"),
        alice.patch(f"/rooms/{room_id}/members/bob", {"role": "member"}),
    )
    assert [reply.status for reply in replies] == [200, 204, 404]
    assert await roles(alice, room_id) == {"alice": "admin"}


async def test_member_who_comes_back_has_read_everything_before(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")
    await alice.say(room_id)
    await bob.delete(f"/rooms/{room_id}/members/bob")
    await alice.say(room_id)
    await alice.post(f"/rooms/{room_id}/members", {"user_id": "bob"})
    [room] = (await bob.get("/rooms")).data["rooms"]
    assert (room["last_seq"], room["last_ack"], room["last_read"], room["unread_count"]) == (4, 4, 4, 0)


async def test_when_the_last_admin_leaves_the_longest_standing_member_becomes_one(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room()
    for name in ("zoe", "bob", "carol"):
        await alice.post(f"/rooms/{room_id}/members", {"user_id": name})
    socket = await bob.connect()
    assert (await alice.delete(f"/rooms/{room_id}/members/alice")).status == 204
    assert (await socket.expect("member.left"))["seq"] == 4
    assert await socket.next() == {
        "type": "member.updated",
        "room_id": room_id,
        "user_id": "zoe",
        "role": "admin",
        "muted_until": None,
        "seq": 5,
    }
    assert await roles(bob, room_id) == {"zoe": "admin", "bob": "member", "carol": "member"}
    await bob.delete(f"/rooms/{room_id}/members/bob")  # no admin leaves: nobody is promoted
    assert await roles(shared_server.user("zoe"), room_id) == {"zoe": "admin", "carol": "member"}


async def test_an_empty_room_stays_and_its_first_new_member_is_admin(start_server) -> None:
    server = await start_server()
    alice = server.user("alice")
    room_id = await alice.make_room(name="kept")
    await alice.say(room_id, "remember me")
    await alice.delete(f"/rooms/{room_id}/members/alice")
    await server.app.close()
    server = await start_server()
    backend, bob = server.user("backend"), server.user("bob")
    token = (await server.user("eve").post("/tokens")).data["token"]
    reply = await server.bearer("eve", token).post(f"/rooms/{room_id}/members", {"user_id": "eve"})
    assert refused(reply) == (403, "AUTHORIZATION_ERROR")
    assert (await backend.post(f"/rooms/{room_id}/members", {"user_id": "bob"})).data["role"] == "admin"
    assert refused(await backend.post(f"/rooms/{room_id}/members", {"user_id": "eve"})) == (403, "AUTHORIZATION_ERROR")
    assert (await bob.get(f"/rooms/{room_id}/messages")).data["messages"][0]["content"] == "remember me"


async def test_first_user_to_join_an_empty_channel_becomes_its_admin(shared_server: Server) -> None:
    """With a token of its own as well: else nobody could ever change the channel again."""
    alice = shared_server.user("alice")
    tokens = {name: (await shared_server.user(name).post("/tokens")).data["token"] for name in ("eve", "bob")}
    eve, bob = (shared_server.bearer(name, token) for name, token in tokens.items())
    for asked in ({}, {"role": "member"}, {"role": "admin"}):
        room_id = await alice.make_room(room_type="channel")
        await alice.delete(f"/rooms/{room_id}/members/alice")
        # Nobody else can be put in there with a token.
        assert refused(await eve.post(f"/rooms/{room_id}/members", {"user_id": "bob"})) == (403, "AUTHORIZATION_ERROR")
        reply = await eve.post(f"/rooms/{room_id}/members", {"user_id": "eve", **asked})
        assert (reply.status, reply.data["role"]) == (201, "admin")
        assert (await bob.post(f"/rooms/{room_id}/members", {"user_id": "bob"})).data["role"] == "member"
        assert (await eve.patch(f"/rooms/{room_id}", {"name": "ours"})).status == 200
        events = (await eve.get(f"/rooms/{room_id}/events")).data["events"]
        assert [event.get("role") for event in events] == [None, "admin", "member", None]


async def test_two_users_that_join_an_empty_channel_at_once_are_admin_and_member(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room(room_type="channel")
    await alice.delete(f"/rooms/{room_id}/members/alice")
    path = f"/rooms/{room_id}/members"
    replies = await server.together(*(server.user(name).post(path, {"user_id": name}) for name in ("bob", "carol")))
    assert [reply.data["role"] for reply in replies] == ["admin", "member"]


async def test_ids_with_reserved_characters_work_in_paths(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    for user_id, in_path in [
        ("a/b", "a%2Fb"),
        ("a|b@c:d", "a%7Cb%40c%3Ad"),
        ("50%25", "50%2525"),
        ("a?b#c", "a%3Fb%23c"),
    ]:
        await alice.post(f"/rooms/{room_id}/members", {"user_id": user_id})
        path = f"/rooms/{room_id}/members/{in_path}"
        request = (
            f"PATCH {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {shared_server.api_key}\r\nX-User-Id: alice\r\n"
            'Content-Type: application/json\r\nContent-Length: 16\r\nConnection: close\r\n\r\n{"role":"admin"}'
        )
        answer = await shared_server.exchange(request.encode())
        assert answer.startswith(b"HTTP/1.1 200"), (user_id, answer)
        assert (await roles(alice, room_id))[user_id] == "admin"


async def test_users_that_leave_together_leave_no_gap_in_the_log(shared_server: Server) -> None:
    names = [f"user-{n}" for n in range(10)]
    alice = shared_server.user("alice")
    room_id = await alice.make_room(*names, room_type="channel")
    await asyncio.gather(
        *(shared_server.user(name).delete(f"/rooms/{room_id}/members/{name}") for name in [*names, "alice"]),
        *(shared_server.user(name).post(f"/rooms/{room_id}/messages", {"content": "x"}) for name in names),
    )
    events = (await alice.get(f"/rooms/{room_id}/events", limit=100)).data["events"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert sum(event["type"] == "member.left" for event in events) == 11


@pytest.mark.parametrize("user_id", ["{", "}", "{x}", "a/b", "100%", "a+b?c#d"])
async def test_every_user_id_fits_into_a_path(shared_server: Server, user_id: str) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room(user_id)
    path = yarl.URL(f"{shared_server.url}/rooms/{room_id}/members/{quote(user_id, safe='')}", encoded=True)
    async with shared_server.session.delete(path, headers=alice.headers) as response:
        assert response.status == 204
