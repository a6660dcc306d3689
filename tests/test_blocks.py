"""Blocks: users who want no dm from somebody."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from conftest import StartServer
from driver import Gate, HandClock, Server, User, restart

from chatapi.housekeeping import purge_deleted


async def block(user: User, other: str) -> None:
    assert (await user.request("PUT", f"/blocks/{other}")).status == 200


async def make_dm(server: Server) -> str:
    return await server.user("alice").make_room("bob", room_type="dm")


async def test_blocks_are_listed_the_latest_first(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    alice = server.user("alice")
    made = []
    for user_id in ("bob", "carol", "dave"):
        made.insert(0, (await alice.request("PUT", f"/blocks/{user_id}")).data)
        clock.advance(int(user_id == "bob"))  # the other two at the same moment
    assert [one["user_id"] for one in made] == ["dave", "carol", "bob"]
    assert (await alice.request("PUT", "/blocks/bob")).data == made[-1]
    assert (await alice.get("/blocks")).data == {"blocks": made, "has_more": False}
    page = (await alice.get("/blocks", limit=1)).data
    assert (page["blocks"], page["has_more"]) == (made[:1], True)
    assert (await alice.get("/blocks", cursor=page["next_cursor"])).data["blocks"] == made[1:]
    assert (await alice.get("/blocks", offset=1, limit=1)).data["blocks"] == made[1:2]
    assert (await server.user("bob").get("/blocks")).data["blocks"] == []
    assert [(await alice.delete("/blocks/carol")).status for _ in range(2)] == [204, 204]
    assert [one["user_id"] for one in (await alice.get("/blocks")).data["blocks"]] == ["dave", "bob"]


async def test_nobody_blocks_themselves_or_an_impossible_user(shared_server: Server) -> None:
    for path in ("/blocks/alice", "/blocks/a%20b", "/blocks/" + "x" * 129):
        reply = await shared_server.user("alice").request("PUT", path)
        assert (reply.status, reply.error["field"]) == (400, "user_id"), path
    assert (await shared_server.user("alice").get("/blocks")).data["blocks"] == []
    assert (await shared_server.user("alice").delete("/blocks/alice")).status == 204


@pytest.mark.parametrize("is_loaded", [True, False])
@pytest.mark.parametrize("blocker", ["alice", "bob"])
async def test_both_may_only_read_and_delete(
    start_server: StartServer, server: Server, blocker: str, is_loaded: bool
) -> None:
    room_id = await make_dm(server)
    messages = {name: (await server.user(name).say(room_id))["message_id"] for name in ("alice", "bob")}
    await server.user("bob").request("PUT", f"/rooms/{room_id}/messages/{messages['alice']}/reactions/x")
    await block(server.user(blocker), "bob" if blocker == "alice" else "alice")
    if not is_loaded:
        server = await restart(start_server, server)
    for name in ("alice", "bob"):
        user = server.user(name)
        own = f"/rooms/{room_id}/messages/{messages[name]}"
        for method, path, body in (
            ("POST", f"/rooms/{room_id}/messages", {"content": "x"}),
            ("PUT", own, {"content": "x"}),
            ("PUT", f"{own}/reactions/y", None),
            ("PUT", f"/rooms/{room_id}/pins/{messages[name]}", None),
        ):
            reply = await user.request(method, path, body)
            assert (reply.status, reply.error["code"]) == (403, "AUTHORIZATION_ERROR"), path
        socket = await user.connect()
        for frame_type in ("send_message", "message.edit", "typing.start", "reaction.add"):
            await socket.send(
                frame_type, room_id=room_id, message_id=messages[name], content="x", emoji="x", request_id=frame_type
            )
            await socket.expect("error", request_id=frame_type, code="AUTHORIZATION_ERROR")
        await socket.send("typing.stop", room_id=room_id)
        await socket.send("read", room_id=room_id, seq=1, request_id="read")
        # Others hear of a read a moment later, so the other user's may come now.
        assert (await socket.answer_to("read"))["type"] == "read.updated"
        await socket.close()
        assert (await user.get(f"/rooms/{room_id}/messages")).status == 200
        assert (await user.delete(own)).status == 204
    assert (await server.user("bob").delete(f"/rooms/{room_id}/messages/{messages['alice']}/reactions/x")).status != 403


async def test_neither_may_open_a_dm(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    await block(alice, "bob")
    token = (await bob.post("/tokens")).data["token"]
    for user, members in (
        (alice, ["bob"]),
        (bob, ["alice"]),
        (shared_server.bearer("bob", token), ["alice"]),
        (shared_server.user("backend"), ["alice", "bob"]),
    ):
        reply = await user.post("/rooms", {"type": "dm", "members": members})
        assert (reply.status, reply.error["code"]) == (403, "AUTHORIZATION_ERROR")
    assert (await alice.post("/rooms", {"type": "dm", "members": ["carol"]})).status == 201
    await alice.delete("/blocks/bob")
    room_id = await make_dm(shared_server)
    assert (await bob.say(room_id))["seq"] == 1
    await block(bob, "alice")
    reply = await alice.post("/rooms", {"type": "dm", "members": ["bob"]})
    assert (reply.status, reply.error["details"]["room_id"]) == (409, room_id)


async def test_a_block_holds_until_both_have_ended_theirs(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await make_dm(shared_server)
    path = f"/rooms/{room_id}/messages"
    await block(alice, "bob")
    await block(bob, "alice")
    await alice.delete("/blocks/bob")
    assert (await alice.post(path, {"content": "x"})).status == 403
    await bob.delete("/blocks/alice")
    assert (await alice.post(path, {"content": "x"})).status == 201


async def test_writes_that_wait_are_refused(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await make_dm(server)
    message = (await bob.say(room_id))["message_id"]
    path = f"/rooms/{room_id}/messages"
    replies = await server.together(
        alice.request("PUT", "/blocks/bob"),
        bob.post(path, {"content": "late"}),
        bob.put(f"{path}/{message}", {"content": "late"}),
        bob.request("PUT", f"{path}/{message}/reactions/x"),
        bob.request("PUT", f"/rooms/{room_id}/pins/{message}"),
        bob.delete(f"{path}/{message}"),
    )
    assert [reply.status for reply in replies] == [200, 403, 403, 403, 403, 204]
    await alice.delete("/blocks/bob")
    carol = server.user("carol")
    replies = await server.together(
        carol.request("PUT", "/blocks/bob"), bob.post("/rooms", {"type": "dm", "members": ["carol"]})
    )
    assert [reply.status for reply in replies] == [200, 403]
    replies = await server.together(
        bob.post("/rooms", {"type": "dm", "members": ["dave"]}), server.user("dave").request("PUT", "/blocks/bob")
    )
    assert [reply.status for reply in replies] == [201, 200]
    assert (await bob.post(f"/rooms/{replies[0].data['room_id']}/messages", {"content": "x"})).status == 403


async def test_a_known_message_is_answered_before_the_block(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await make_dm(shared_server)
    body = {"content": "x", "client_message_id": "c-1"}
    first = await alice.post(f"/rooms/{room_id}/messages", body)
    await block(shared_server.user("bob"), "alice")
    again = await alice.post(f"/rooms/{room_id}/messages", body)
    assert (again.status, again.data) == (200, first.data)
    assert (await alice.post(f"/rooms/{room_id}/messages", {**body, "client_message_id": "c-2"})).status == 403


async def test_groups_and_other_dms_stay_as_they_are(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    group, dm = await alice.make_room("bob"), await bob.make_room("carol", room_type="dm")
    await block(alice, "bob")
    assert (await bob.post(f"/rooms/{group}/messages", {"content": "x"})).status == 201
    assert (await bob.post(f"/rooms/{dm}/messages", {"content": "x"})).status == 201


async def test_a_dm_without_a_block_has_no_rules(start_server: StartServer, server: Server) -> None:
    room_id = await make_dm(server)
    await server.user("carol").request("PUT", "/blocks/bob")
    server = await restart(start_server, server)
    await server.user("alice").delete("/blocks/bob")
    await server.user("alice").say(room_id)
    [tenant] = server.services.tenants.all()
    room = server.services.rooms.find_loaded(tenant.tenant_key, room_id)
    assert room is not None
    assert room.rules is None


async def test_a_dm_that_is_being_loaded_knows_of_the_block(start_server: StartServer, server: Server) -> None:
    room_id = await make_dm(server)
    server = await restart(start_server, server)
    alice, bob, rooms = server.user("alice"), server.user("bob"), server.services.rooms
    gate = Gate(rooms._load_members)
    rooms._load_members = gate  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as together:
        together.create_task(bob.get(f"/rooms/{room_id}"))
        await gate.arrived.wait()
        together.create_task(block(alice, "bob"))
        for _ in range(5):  # the block has come by then
            await alice.get("/blocks")
        gate.open()
    assert (await bob.post(f"/rooms/{room_id}/messages", {"content": "x"})).status == 403


async def test_tenants_have_their_own_blocks_which_end_with_them(server: Server, database: Path) -> None:
    tenant = await server.make_tenant("other")
    await block(server.user("alice"), "bob")
    theirs = server.user("alice", tenant["api_key"])
    assert (await theirs.get("/blocks")).data["blocks"] == []
    assert (await theirs.post("/rooms", {"type": "dm", "members": ["bob"]})).status == 201
    await block(theirs, "carol")
    await server.admin("DELETE", f"/tenants/{tenant['tenant_id']}")
    await purge_deleted(server.services)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT user_id, blocked_id FROM blocks").fetchall() == [("alice", "bob")]
