"""Mentions in messages and edits: who may be mentioned, and what is stored, sent and compared."""

from typing import Any

import pytest
from conftest import StartServer
from driver import HandClock, Reply, Server, User, restart

from chatapi.housekeeping import apply_retention, purge_deleted
from chatapi.models import RoomId, UserId

DAY_SECONDS = 86_400.0


async def rows(server: Server) -> list[tuple[Any, ...]]:
    found = await server.services.store.readers.fetch(
        "SELECT user_id, seq, sender_id FROM mentions ORDER BY seq, user_id", {}
    )
    return [tuple(row) for row in found]


async def send(user: User, room_id: str, transport: str, **fields: object) -> dict[str, Any]:
    """The message, or the error."""
    draft = {"content": "hi", **fields}
    if transport == "rest":
        reply = await user.post(f"/rooms/{room_id}/messages", draft)
        return dict(reply.data if reply.status < 400 else reply.error)
    socket = await user.connect()
    await socket.send("send_message", room_id=room_id, request_id="sent", **draft)
    while (frame := await socket.next()).get("request_id") != "sent":
        pass
    await socket.close()
    if frame["type"] == "error":
        return frame
    return dict((await user.get(f"/rooms/{room_id}/messages/{frame['message_id']}")).data)


@pytest.mark.parametrize("transport", ["rest", "websocket"])
async def test_mentions_are_folded_and_shown_everywhere(server: Server, transport: str) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob", 'c"\\|d')
    listening = await bob.connect()
    message = await send(alice, room_id, transport, mentions=["bob", 'c"\\|d', "bob"], mention_room=True)
    expected = {"mentions": ["bob", 'c"\\|d'], "mention_room": True}
    fields = dict.fromkeys(("mentions", "mention_room"))
    frame = await listening.expect("message")
    [event] = (await bob.get(f"/rooms/{room_id}/events")).data["events"]
    [listed] = (await bob.get(f"/rooms/{room_id}/messages")).data["messages"]
    [read] = (await bob.get(f"/rooms/{room_id}/messages", before_seq=100)).data["messages"]
    [room] = (await bob.get("/rooms")).data["rooms"]
    for shown in (message, frame, event, listed, read, room["last_message"]):
        assert {name: shown[name] for name in fields} == expected
    assert await rows(server) == [("", 1, "alice"), ("bob", 1, "alice"), ('c"\\|d', 1, "alice")]


@pytest.mark.parametrize("fields", [{}, {"mentions": None}, {"mentions": [], "mention_room": False}])
async def test_a_message_that_mentions_nobody_has_no_such_fields(server: Server, fields: dict[str, object]) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    message = await alice.say(room_id, **fields)
    assert not {"mentions", "mention_room"} & message.keys()
    assert await rows(server) == []


BAD: list[tuple[dict[str, object], int, str | None]] = [
    ({"mentions": ["bob", "bob", "stranger"]}, 400, "mentions[2]"),
    ({"mentions": ["with space"]}, 400, "mentions[0]"),
    ({"mentions": "bob"}, 400, "mentions"),
    ({"mentions": ["bob"] * 51}, 400, "mentions"),
    ({"mention_room": "yes"}, 400, "mention_room"),
    ({"mention_room": True}, 403, None),
]


@pytest.mark.parametrize("transport", ["rest", "websocket"])
@pytest.mark.parametrize(("fields", "status", "field"), BAD)
async def test_bad_mention_is_refused_and_stores_nothing(
    shared_server: Server, transport: str, fields: dict[str, object], status: int, field: str | None
) -> None:
    bob = shared_server.user("bob")
    room_id = await shared_server.user("alice").make_room("bob")
    error = await send(bob, room_id, transport, **fields)
    code = {400: "VALIDATION_ERROR", 403: "AUTHORIZATION_ERROR"}[status]
    assert (error["code"], error.get("field")) == (code, field)
    message = await bob.say(room_id)
    assert message["seq"] == 1
    refused = await bob.put(f"/rooms/{room_id}/messages/{message['message_id']}", {"content": "x", **fields})
    assert (refused.status, refused.error.get("field")) == (status, field)


async def test_fifty_users_may_be_mentioned(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    names = [f"u{number}" for number in range(50)]
    room_id = await alice.make_room(*names)
    assert (await alice.say(room_id, mentions=names))["mentions"] == names


async def test_both_users_of_a_dm_may_mention_the_room(shared_server: Server) -> None:
    bob = shared_server.user("bob")
    room_id = await shared_server.user("alice").make_room("bob", room_type="dm")
    assert (await bob.say(room_id, mention_room=True))["mention_room"] is True


async def test_an_edit_changes_or_keeps_or_clears_them(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob", "carol")
    message = await alice.say(room_id, mentions=["bob"])
    path = f"/rooms/{room_id}/messages/{message['message_id']}"
    listening = await bob.connect()
    steps: list[tuple[dict[str, object], dict[str, object], list[str]]] = [
        ({}, {"mentions": ["bob"]}, ["bob"]),
        (
            {"mentions": ["carol", "carol", "alice"], "mention_room": True},
            {"mentions": ["carol", "alice"], "mention_room": True},
            ["", "alice", "carol"],
        ),
        ({"mention_room": False}, {"mentions": ["carol", "alice"]}, ["alice", "carol"]),
        ({"mentions": None}, {}, []),
        ({"mentions": ["bob"], "mention_room": None}, {"mentions": ["bob"]}, ["bob"]),
        ({"mentions": []}, {}, []),
    ]
    for body, expected, user_ids in steps:
        edited = (await alice.put(path, {"content": "new", **body})).data
        event = await listening.expect("message.edited")
        for shown in (edited, event, (await bob.get(path)).data):
            assert {name: shown[name] for name in ("mentions", "mention_room") if name in shown} == expected
        assert await rows(server) == [(user_id, 1, "alice") for user_id in user_ids]


async def test_membership_is_judged_when_the_mention_is_written(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room("bob", "carol")
    message = await alice.say(room_id, mentions=["bob"])
    await alice.delete(f"/rooms/{room_id}/members/bob")
    path = f"/rooms/{room_id}/messages/{message['message_id']}"
    kept = await alice.put(path, {"content": "x", "mentions": ["carol", "bob"]})
    assert kept.data["mentions"] == ["carol", "bob"]
    assert (await alice.put(path, {"content": "x", "mentions": []})).status == 200
    refused = await alice.put(path, {"content": "x", "mentions": ["carol", "bob"]})
    assert refused.error["field"] == "mentions[1]"
    left = await alice.post(f"/rooms/{room_id}/messages", {"content": "x", "mentions": ["bob"]})
    assert left.error["field"] == "mentions[0]"


async def test_a_member_who_leaves_while_the_message_waits_is_not_mentioned(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room("bob")

    async def say() -> Reply:
        return await alice.post(f"/rooms/{room_id}/messages", {"content": "x", "mentions": ["bob"]})

    removed, refused = await server.together(alice.delete(f"/rooms/{room_id}/members/bob"), say())
    assert removed.status == 204
    assert refused.error["field"] == "mentions[0]"


async def test_a_deletion_takes_them(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    message = await alice.say(room_id, mentions=["bob"], mention_room=True)
    await alice.delete(f"/rooms/{room_id}/messages/{message['message_id']}")
    for shown in (
        (await bob.get(f"/rooms/{room_id}/messages/{message['message_id']}")).data,
        (await bob.get(f"/rooms/{room_id}/messages")).data["messages"][0],
        (await bob.get(f"/rooms/{room_id}/messages", before_seq=50)).data["messages"][0],
    ):
        assert not {"mentions", "mention_room"} & shown.keys()
    assert await rows(server) == []


# Retries


async def test_a_retry_compares_folded_mentions(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room("bob", "carol")
    draft = {"content": "x", "client_message_id": "m"}
    path = f"/rooms/{room_id}/messages"
    assert (await alice.post(path, {**draft, "mentions": ["bob", "carol", "bob"]})).status == 201
    for mentions, status in ((["bob", "carol"], 200), (["bob"], 409), ([], 409), (None, 409)):
        assert (await alice.post(path, {**draft, "mentions": mentions})).status == status
    whole = {**draft, "mentions": ["bob", "carol"], "mention_room": True}
    assert (await alice.post(path, whole)).status == 409


async def test_a_plain_message_is_compared_as_before_there_were_mentions(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room("bob")
    draft = {"content": "x", "client_message_id": "m"}
    path = f"/rooms/{room_id}/messages"
    assert (await alice.post(path, draft)).status == 201
    assert (await alice.post(path, {**draft, "mentions": [], "mention_room": False})).status == 200
    assert (await alice.post(path, {**draft, "mentions": ["bob"]})).status == 409


@pytest.mark.parametrize("transport", ["rest", "websocket"])
async def test_a_retry_is_answered_before_its_mentions_are_judged(shared_server: Server, transport: str) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob", "carol")
    await alice.patch(f"/rooms/{room_id}/members/bob", {"role": "admin"})
    draft = {"mentions": ["carol"], "mention_room": True, "client_message_id": "m"}
    first = await send(bob, room_id, transport, **draft)
    await alice.patch(f"/rooms/{room_id}/members/bob", {"role": "member"})
    await alice.delete(f"/rooms/{room_id}/members/carol")
    assert (await send(bob, room_id, transport, **draft))["message_id"] == first["message_id"]
    assert (await send(bob, room_id, transport, **{**draft, "content": "other"}))["code"] == "CONFLICT"
    assert (await send(bob, room_id, transport, **{**draft, "client_message_id": "n"}))["field"] == "mentions[0]"
    await alice.delete(f"/rooms/{room_id}/members/bob")
    assert (await send(bob, room_id, transport, **draft))["code"] == "AUTHORIZATION_ERROR"


async def test_a_refused_message_and_its_retry_in_one_batch_are_both_refused(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    draft = {"content": "x", "mentions": ["bob"], "client_message_id": "m"}
    path = f"/rooms/{room_id}/messages"
    good = {**draft, "mentions": []}
    replies = await server.together(
        alice.post(path, draft), alice.post(path, draft), alice.post(path, good), alice.post(path, good)
    )
    assert [reply.status for reply in replies] == [400, 400, 201, 200]


# What is kept


async def test_mentions_outlive_a_restart(server: Server, start_server: StartServer) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room("bob", "carol")
    first = await alice.say(room_id, mentions=["bob"])
    second = await alice.say(room_id, mentions=["carol"], mention_room=True)
    server = await restart(start_server, server)
    bob = server.user("bob", alice.headers["X-API-Key"])
    listed = (await bob.get(f"/rooms/{room_id}/messages")).data["messages"]
    assert listed == [first, second]
    tenant = server.services.tenants.all()[0]
    room = await server.services.rooms.get(tenant, RoomId(room_id))
    assert room.last_mention_seq == 2
    marks = {user_id: member.last_mention_seq for user_id, member in room.members.items()}
    assert marks == {"alice": 0, UserId("bob"): 1, "carol": 2}


async def test_a_deleted_room_leaves_no_row(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    await alice.say(room_id, mentions=["bob"], mention_room=True)
    kept = await alice.make_room("bob")
    await alice.say(kept, mentions=["bob"])
    await alice.delete(f"/rooms/{room_id}")
    await purge_deleted(server.services)
    assert await rows(server) == [("bob", 1, "alice")]


async def test_retention_takes_the_mentions_of_old_messages(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    tenant = await server.make_tenant(retention_days=2)
    alice = server.user("alice", tenant["api_key"])
    room_id = await alice.make_room("bob", "carol")
    await alice.say(room_id, mentions=["bob"], mention_room=True)
    clock.advance(DAY_SECONDS * 1.5)
    await alice.say(room_id, mentions=["bob", "carol"])
    clock.advance(DAY_SECONDS)
    await apply_retention(
        server.services,
        next(found for found in server.services.tenants.all() if found.tenant_id == tenant["tenant_id"]),
    )
    assert await rows(server) == [("bob", 2, "alice"), ("carol", 2, "alice")]
