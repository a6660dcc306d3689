"""`client_message_id`: a message that is sent again is stored once."""

import asyncio

import pytest
from conftest import StartServer
from driver import HandClock, Reply, Server, User

from chatapi.housekeeping import apply_retention

TEXT = {"content": "once", "meta": {"k": 1}, "client_message_id": "m-1"}


async def test_a_retry_gets_the_first_message_unchanged(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room("bob")
    watcher = await shared_server.user("bob").connect()
    path = f"/rooms/{room_id}/messages"
    first = await alice.post(path, TEXT)
    again = await alice.post(path, TEXT)
    assert (first.status, again.status) == (201, 200)
    assert again.data == first.data
    await alice.post(path, {"content": "next"})
    await watcher.expect("message", seq=1)
    assert (await watcher.next())["seq"] == 2  # the retry was delivered to nobody
    assert (await alice.get(f"/rooms/{room_id}")).data["last_seq"] == 2


async def test_it_holds_across_a_restart(start_server: StartServer) -> None:
    server = await start_server()
    room_id = await server.user("alice").make_room()
    path = f"/rooms/{room_id}/messages"
    first = await server.user("alice").post(path, TEXT)
    await server.app.close()
    alice = (await start_server()).user("alice")
    again = await alice.post(path, TEXT)
    assert (again.status, again.data) == (200, first.data)
    assert (await alice.post(path, {**TEXT, "content": "other"})).status == 409
    assert (await alice.say(room_id))["seq"] == 2


async def test_it_is_unique_per_sender_and_room(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    rooms = [await alice.make_room("bob"), await alice.make_room("bob")]
    replies = [await user.post(f"/rooms/{room_id}/messages", TEXT) for user in (alice, bob) for room_id in rooms]
    assert [reply.status for reply in replies] == [201] * 4


@pytest.mark.parametrize(
    "other", [{"content": "twice"}, {"meta": None}, {"meta": {"k": 2}}, {"reply_to": "the first message"}]
)
async def test_another_body_is_a_conflict(shared_server: Server, other: dict[str, object]) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    path = f"/rooms/{room_id}/messages"
    first = (await alice.post(path, TEXT)).data
    if "reply_to" in other:
        other = {"reply_to": first["message_id"]}
    reply = await alice.post(path, {**TEXT, **other})
    assert (reply.status, reply.error["code"]) == (409, "CONFLICT")
    assert (await alice.get(path)).data["messages"] == [first]


# Pairs that Python takes for equal, or that differ in nothing but the order of keys.
DIFFERENT = [
    (1, True),
    (0, False),
    (1, 1.0),
    (True, 1.0),
    (0, -0.0),
    ([1], [True]),
    ({"a": {"b": [0]}}, {"a": {"b": [False]}}),
    ([1, 2], [2, 1]),
    ("1", 1),
    (None, False),
    ({}, []),
]
SAME = [
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ({"a": [{"x": 1, "y": {"p": 1, "q": 2}}]}, {"a": [{"y": {"q": 2, "p": 1}, "x": 1}]}),
    ({"é": 1, "z": 2, "\U0001f642": 3}, {"\U0001f642": 3, "z": 2, "é": 1}),
    (100.0, 1e2),
]


async def test_retry_with_its_keys_in_another_order_is_the_same(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    path = f"/rooms/{await alice.make_room()}/messages"
    for number, (first, second) in enumerate(SAME):
        draft = {"content": "x", "client_message_id": f"same-{number}"}
        stored = await alice.post(path, {**draft, "meta": {"value": first}})
        again = await alice.post(path, {"meta": {"value": second}, **draft})
        assert (again.status, again.data) == (200, stored.data), (first, second)


async def test_a_retry_with_a_value_of_another_type_is_a_conflict(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    path = f"/rooms/{await alice.make_room()}/messages"
    for number, (first, second) in enumerate(DIFFERENT):
        draft = {"content": "x", "client_message_id": f"different-{number}"}
        assert (await alice.post(path, {**draft, "meta": {"value": first}})).status == 201
        assert (await alice.post(path, {**draft, "meta": {"value": second}})).status == 409, (first, second)
        assert (await alice.post(path, {**draft, "meta": {"value": first}})).status == 200


async def test_a_change_of_type_alone_changes_a_room_and_an_order_of_keys_does_not(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    last_seq = 0
    for before, after in DIFFERENT:
        await alice.patch(f"/rooms/{room_id}", {"metadata": {"value": before}})
        reply = await alice.patch(f"/rooms/{room_id}", {"metadata": {"value": after}})
        assert repr(reply.data["metadata"]) == repr({"value": after})
        assert reply.data["last_seq"] == last_seq + 2, (before, after)
        last_seq = reply.data["last_seq"]
        assert repr((await alice.get(f"/rooms/{room_id}")).data["metadata"]) == repr({"value": after})
    for before, after in SAME:
        last_seq = (await alice.patch(f"/rooms/{room_id}", {"metadata": {"value": before}})).data["last_seq"]
        assert (await alice.patch(f"/rooms/{room_id}", {"metadata": {"value": after}})).data["last_seq"] == last_seq


async def test_retry_is_compared_with_the_first_body_and_shows_the_message_as_it_now_stands(
    shared_server: Server,
) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    path = f"/rooms/{room_id}/messages"
    message = (await alice.post(path, TEXT)).data
    edited = (await alice.put(f"{path}/{message['message_id']}", {"content": "edited"})).data
    again = await alice.post(path, TEXT)
    assert (again.status, again.data) == (200, edited)
    assert (await alice.post(path, {**TEXT, "content": "edited"})).status == 409
    await alice.delete(f"{path}/{message['message_id']}")
    again = await alice.post(path, TEXT)
    assert (again.status, again.data["content"], again.data["deleted_at"] is None) == (200, None, False)


def statuses(replies: list[Reply]) -> list[int]:
    return [reply.status for reply in replies]


def send(user: User, room_id: str, **other: object):
    return user.post(f"/rooms/{room_id}/messages", {**TEXT, **other})


async def test_retries_in_one_batch_with_the_first_one_are_one_message(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    replies = await server.together(
        send(alice, room_id),
        send(alice, room_id),
        send(alice, room_id, content="other"),
        alice.post(f"/rooms/{room_id}/messages", {"content": "between"}),
        send(alice, room_id),
    )
    assert statuses(replies) == [201, 200, 409, 201, 200]
    assert replies[1].data == replies[4].data == replies[0].data
    assert replies[3].data["seq"] == 2  # retries take no seq


async def test_retries_in_one_batch_after_the_first_one_was_stored(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    first = (await send(alice, room_id)).data
    replies = await server.together(
        alice.post(f"/rooms/{room_id}/messages", {"content": "before"}),
        send(alice, room_id, content="other"),
        send(alice, room_id),
        send(alice, room_id, content="other"),
        alice.post(f"/rooms/{room_id}/messages", {"content": "after", "client_message_id": "m-2"}),
    )
    assert statuses(replies) == [201, 409, 200, 409, 201]
    assert replies[2].data == first
    assert (replies[0].data["seq"], replies[4].data["seq"]) == (2, 3)


async def test_a_retry_beside_another_change_in_its_batch(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    first = (await send(alice, room_id)).data
    path = f"/rooms/{room_id}/messages/{first['message_id']}"
    replies = await server.together(
        send(alice, room_id, client_message_id="m-2"),
        alice.put(path, {"content": "edited"}),
        send(alice, room_id),
        send(alice, room_id, client_message_id="m-2"),
        send(alice, room_id, client_message_id="m-3"),
    )
    assert statuses(replies) == [201, 200, 200, 200, 201]
    assert replies[2].data["message_id"] == first["message_id"]
    assert replies[3].data == replies[0].data
    events = (await alice.get(f"/rooms/{room_id}/events")).data["events"]
    assert [event["seq"] for event in events] == [1, 2, 3, 4]


async def test_a_retry_is_answered_under_lower_bounds(start_server: StartServer) -> None:
    server = await start_server(clock=(clock := HandClock()))
    tenant = await server.make_tenant("other")
    alice = server.user("alice", tenant["api_key"])
    room_id = await alice.make_room()
    target = (await alice.say(room_id))["message_id"]
    clock.advance(3600)
    drafts = [{"client_message_id": "m-2", "reply_to": target}, {"client_message_id": "m-3", "content": "x" * 50}]
    firsts = [await send(alice, room_id, **draft) for draft in drafts]
    await server.admin(
        "PATCH", f"/tenants/{tenant['tenant_id']}", {"config": {"max_message_bytes": 40, "retention_days": 1}}
    )
    clock.advance(86_400 - 1800)  # past the end of the message that was replied to
    await apply_retention(server.services, server.services.tenants.find(tenant["tenant_id"]))
    assert (await alice.get(f"/rooms/{room_id}/messages/{target}")).status == 404
    for first, draft in zip(firsts, drafts, strict=True):
        again = await send(alice, room_id, **draft)
        assert (again.status, again.data) == (200, first.data)
        refused = await send(alice, room_id, **{**draft, "client_message_id": "new"})
        assert (refused.status, refused.error["field"]) == (400, "reply_to" if "reply_to" in draft else "content")


async def test_two_transports_share_it(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    socket = await alice.connect()
    first = (await send(alice, room_id)).data
    await socket.send("send_message", room_id=room_id, **TEXT)
    sent = await socket.expect("message.sent")
    assert (sent["message_id"], sent["seq"]) == (first["message_id"], 1)
    await socket.send("send_message", room_id=room_id, **{**TEXT, "content": "other"}, request_id="r")
    assert await socket.expect("error", request_id="r", code="CONFLICT")


async def test_a_storm_of_retries_is_one_message_each(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    replies = await asyncio.gather(
        *(send(alice, room_id, client_message_id=f"m-{n % 10}", content=f"{n % 10}") for n in range(100))
    )
    assert sorted(statuses(replies)) == [200] * 90 + [201] * 10
    assert len({reply.data["message_id"] for reply in replies}) == 10
    assert (await alice.get(f"/rooms/{room_id}")).data["last_seq"] == 10


async def test_a_message_refused_for_its_bounds_does_not_use_up_its_id(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    assert (await send(alice, room_id, content="")).status == 400
    assert (await send(alice, room_id)).status == 201
