"""Threads: replies, what their root shows of them, and the lists of them."""

from typing import Any

import pytest
from conftest import StartServer
from driver import HandClock, Reply, Server, User, restart

from chatapi.housekeeping import apply_retention, purge_deleted
from chatapi.store import threads

DAY_SECONDS = 86_400.0


async def start_thread(user: User, replies: int = 2) -> tuple[str, str, list[dict[str, Any]]]:
    """A room, the id of a root in it, and the replies."""
    room_id = await user.make_room("bob")
    root = await user.say(room_id, "root")
    made = [await user.say(room_id, f"reply {n}", thread_id=root["message_id"]) for n in range(replies)]
    return room_id, root["message_id"], made


async def read_root(user: User, room_id: str, message_id: str) -> dict[str, Any]:
    """The root as all reads of it agree upon."""
    path = f"/rooms/{room_id}/messages"
    root = dict((await user.get(f"{path}/{message_id}")).data)
    seq = root["seq"]
    pages = [
        (await user.get(path)).data,
        (await user.get(path, after_seq=seq - 1, limit=1)).data,
        (await user.get(path, before_seq=seq + 1, limit=1)).data,
        (await user.get(path, top_level="true")).data,
    ]
    for page in pages:
        assert [message for message in page["messages"] if message["seq"] == seq] == [root]
    events = (await user.get(f"/rooms/{room_id}/events", after_seq=seq - 1, limit=1)).data["events"]
    assert "thread" not in events[0]
    return root


def summary(*replies: dict[str, Any]) -> dict[str, Any]:
    last = replies[-1]
    return {"reply_count": len(replies), "last_reply_seq": last["seq"], "last_reply_at": last["created_at"]}


async def contents(user: User, room_id: str, **query: object) -> list[str]:
    page = (await user.get(f"/rooms/{room_id}/messages", **query)).data
    return [message["content"] for message in page["messages"]]


async def test_a_reply_is_a_message_and_its_root_shows_the_thread(server: Server, start_server: StartServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    listening = await bob.connect()
    root = await alice.say(room_id, "root")
    assert "thread" not in root
    socket = await alice.connect()
    await socket.send("send_message", room_id=room_id, content="first", thread_id=root["message_id"])
    sent = await socket.expect("message.sent")
    first = (await alice.get(f"/rooms/{room_id}/messages/{sent['message_id']}")).data
    assert (await read_root(bob, room_id, root["message_id"]))["thread"] == summary(first)
    await listening.expect("message", seq=root["seq"])
    second = await alice.say(room_id, "second", thread_id=root["message_id"], mentions=["bob"])
    for reply in (first, second):
        assert reply["thread_id"] == root["message_id"]
        frame = await listening.expect("message", seq=reply["seq"])
        assert (frame["thread_id"], "thread" in frame) == (root["message_id"], False)
    assert (await read_root(bob, room_id, root["message_id"]))["thread"] == summary(first, second)
    [room] = (await bob.get("/rooms")).data["rooms"]
    assert (room["unread_count"], room["unread_mentions"], room["last_message"]) == (3, 1, second)
    for open_socket in (socket, listening):
        await open_socket.close()
    server = await restart(start_server, server)
    assert (await read_root(server.user("bob"), room_id, root["message_id"]))["thread"] == summary(first, second)


async def test_a_reply_shows_a_hidden_room_again_and_makes_it_the_latest(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id, root_id, _ = await start_thread(alice, 0)
    await bob.post(f"/rooms/{room_id}/read", {"seq": 1})
    later = await alice.make_room("bob")
    await alice.say(later)
    await bob.patch(f"/rooms/{room_id}/me", {"hidden": True})
    assert [room["room_id"] for room in (await bob.get("/rooms")).data["rooms"]] == [later]
    socket = await bob.connect()
    reply = await alice.say(room_id, "reply", thread_id=root_id)
    await socket.expect("room.me", room_id=room_id, hidden=False)
    first, second = (await bob.get("/rooms")).data["rooms"]
    assert (first["room_id"], second["room_id"]) == (room_id, later)
    assert (first["unread_count"], first["last_message"]) == (1, reply)


async def test_replies_in_one_batch_are_all_counted(server: Server) -> None:
    alice = server.user("alice")
    room_id, root_id, _ = await start_thread(alice, 0)

    def reply() -> Any:
        return alice.post(f"/rooms/{room_id}/messages", {"content": "x", "thread_id": root_id})

    replies = [reply.data for reply in await server.together(reply(), reply(), reply())]
    assert (await read_root(alice, room_id, root_id))["thread"] == summary(*replies)


BAD = {
    "unknown": "msg_0000000000000001",
    "no id": "x",
    "of another room": "elsewhere",
    "of a reply": "reply",
}


@pytest.mark.parametrize("case", BAD)
async def test_only_a_message_of_the_room_that_is_no_reply_can_be_answered(shared_server: Server, case: str) -> None:
    alice = shared_server.user("alice")
    room_id, _, [reply] = await start_thread(alice, 1)
    elsewhere = await alice.say(await alice.make_room())
    ids = {"elsewhere": elsewhere["message_id"], "reply": reply["message_id"]}
    thread_id = ids.get(BAD[case], BAD[case])
    refused = await alice.post(f"/rooms/{room_id}/messages", {"content": "x", "thread_id": thread_id})
    assert (refused.status, refused.error["field"]) == (400, "thread_id")
    socket = await alice.connect()
    await socket.send("send_message", room_id=room_id, content="x", thread_id=thread_id)
    await socket.expect("error", field="thread_id")
    retried = {"content": "x", "thread_id": thread_id, "client_message_id": "m"}
    assert (await alice.post(f"/rooms/{room_id}/messages", retried)).status == 400
    assert (await alice.get(f"/rooms/{room_id}")).data["last_seq"] == 2


async def test_no_thread_id_is_null(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    message = await alice.say(await alice.make_room(), thread_id=None)
    assert "thread_id" not in message


# Deletions and edits


async def test_deleted_replies_are_not_counted(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id, root_id, replies = await start_thread(alice, 3)
    listening = await bob.connect()

    async def delete(reply: dict[str, Any]) -> dict[str, Any]:
        path = f"/rooms/{room_id}/messages/{reply['message_id']}"
        assert (await alice.delete(path)).status == 204
        event = await listening.expect("message.deleted", target_seq=reply["seq"], thread_id=root_id)
        tombstone = (await alice.get(path)).data
        assert tombstone["thread_id"] == root_id
        return event

    for gone, left in ((1, [0, 2]), (2, [0])):
        thread = summary(*(replies[index] for index in left))
        assert (await delete(replies[gone]))["thread"] == thread
        assert (await read_root(bob, room_id, root_id))["thread"] == thread
    assert (await delete(replies[0]))["thread"] is None
    assert "thread" not in await read_root(bob, room_id, root_id)
    assert len((await bob.get(f"/rooms/{room_id}/messages", thread_id=root_id)).data["messages"]) == 3
    later = await alice.say(room_id, thread_id=root_id)
    assert (await read_root(bob, room_id, root_id))["thread"] == summary(later)


async def test_other_deletions_carry_no_thread(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id, root_id, replies = await start_thread(alice)
    socket = await alice.connect()
    await alice.delete(f"/rooms/{room_id}/messages/{root_id}")
    event = await socket.expect("message.deleted")
    assert not {"thread", "thread_id"} & event.keys()
    tombstone = await read_root(alice, room_id, root_id)
    assert (tombstone["content"], tombstone["thread"]) == (None, summary(*replies))


async def test_a_deleted_root_keeps_its_replies_and_may_be_answered(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id, root_id, replies = await start_thread(alice)
    await alice.delete(f"/rooms/{room_id}/messages/{root_id}")
    replies.append(await alice.say(room_id, "later", thread_id=root_id))
    assert (await read_root(alice, room_id, root_id))["thread"] == summary(*replies)
    assert await contents(alice, room_id, thread_id=root_id) == ["reply 0", "reply 1", "later"]


async def test_an_edited_reply_stays_in_its_thread(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id, root_id, [reply] = await start_thread(alice, 1)
    socket = await alice.connect()
    edited = (await alice.put(f"/rooms/{room_id}/messages/{reply['message_id']}", {"content": "new"})).data
    assert (await socket.expect("message.edited"))["thread_id"] == edited["thread_id"] == root_id
    await alice.put(f"/rooms/{room_id}/messages/{root_id}", {"content": "new"})
    assert "thread" not in await socket.expect("message.edited")
    assert (await read_root(alice, room_id, root_id))["thread"] == summary(reply)


async def test_deleting_a_reply_again_answers_with_its_event(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id, root_id, [reply] = await start_thread(alice, 1)
    socket = await alice.connect()
    for request_id in ("1", "2"):
        await socket.send("message.delete", room_id=room_id, message_id=reply["message_id"], request_id=request_id)
        await socket.expect("message.deleted", request_id=request_id, thread_id=root_id, thread=None)
    assert (await alice.get(f"/rooms/{room_id}")).data["last_seq"] == 3


async def test_a_thread_and_reactions_stand_beside_each_other(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id, root_id, replies = await start_thread(alice, 1)
    await bob.put(f"/rooms/{room_id}/messages/{root_id}/reactions/x", {})
    replies.append(await bob.say(room_id, thread_id=root_id))
    root = await read_root(alice, room_id, root_id)
    assert (root["thread"], root["reactions"][0]["count"]) == (summary(*replies), 1)
    await bob.delete(f"/rooms/{room_id}/messages/{replies[0]['message_id']}")
    await alice.delete(f"/rooms/{room_id}/messages/{replies[0]['message_id']}")
    root = await read_root(alice, room_id, root_id)
    assert (root["thread"], root["reactions"][0]["count"]) == (summary(replies[1]), 1)


# Retries


async def test_a_retry_compares_the_thread(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id, root_id, _ = await start_thread(alice, 0)
    other_id = (await alice.say(room_id))["message_id"]
    path = f"/rooms/{room_id}/messages"
    draft = {"content": "x", "client_message_id": "m"}
    assert (await alice.post(path, {**draft, "thread_id": root_id})).status == 201
    for thread_id, status in ((root_id, 200), (other_id, 409), (None, 409), ("msg_x", 409)):
        assert (await alice.post(path, {**draft, "thread_id": thread_id})).status == status
    assert (await read_root(alice, room_id, root_id))["thread"]["reply_count"] == 1


# Lists


async def make_mixed_room(user: User) -> tuple[str, str]:
    """Plain messages 0, 3, 6, …; between them two replies to the first one."""
    room_id = await user.make_room("bob")
    root_id = (await user.say(room_id, "0"))["message_id"]
    for number in range(1, 20):
        await user.say(room_id, str(number), **({"thread_id": root_id} if number % 3 else {}))
    await user.patch(f"/rooms/{room_id}", {"name": "an event that is no message"})
    return room_id, root_id


@pytest.mark.parametrize("part", ["thread", "top level"])
@pytest.mark.parametrize("examined", [1, 3, 2_000])
async def test_a_part_of_the_room_pages_as_history_does(
    server: Server, monkeypatch: pytest.MonkeyPatch, part: str, examined: int
) -> None:
    monkeypatch.setattr(threads, "EXAMINED_MESSAGES", examined)
    alice = server.user("alice")
    room_id, root_id = await make_mixed_room(alice)
    chosen: dict[str, object] = {"thread_id": root_id} if part == "thread" else {"top_level": "true"}
    expected = [str(number) for number in range(20) if bool(number % 3) is (part == "thread")]
    path = f"/rooms/{room_id}/messages"
    assert await contents(alice, room_id, **chosen) == expected
    assert await contents(alice, room_id, limit=3, **chosen) == expected[-3:]
    for limit in (1, 2, 3, len(expected), 100):
        forward: list[str] = []
        seq, has_more = 0, True
        while has_more:
            page = (await alice.get(path, after_seq=seq, limit=limit, **chosen)).data
            forward += [message["content"] for message in page["messages"]]
            seq, has_more = page["messages"][-1]["seq"], page["has_more"]
        backward: list[str] = []
        seq, has_more = 10_000, True
        while has_more:
            page = (await alice.get(path, before_seq=seq, limit=limit, **chosen)).data
            backward = [message["content"] for message in page["messages"]] + backward
            seq, has_more = page["messages"][0]["seq"], page["has_more"]
        assert (forward, backward) == (expected, expected)


async def test_a_part_of_the_room_is_asked_for_in_one_way(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id, root_id, [reply] = await start_thread(alice, 1)
    path = f"/rooms/{room_id}/messages"
    elsewhere = (await alice.say(await alice.make_room()))["message_id"]
    for unknown in ("msg_0000000000000001", "x", elsewhere):
        assert (await alice.get(path, thread_id=unknown)).status == 404
    assert (await alice.get(path, thread_id=reply["message_id"])).data == {"messages": [], "has_more": False}
    for top_level in ("true", "false"):
        refused = await alice.get(path, thread_id=root_id, top_level=top_level)
        assert (refused.status, refused.error["field"]) == (400, "top_level")
    for bad in ("yes", "1", "True", ""):
        assert (await alice.get(path, top_level=bad)).error["field"] == "top_level"
    assert await contents(alice, room_id, top_level="false") == ["root", "reply 0"]
    assert (await shared_server.user("eve").get(path, thread_id=root_id)).status == 403


# What is kept


async def test_replies_outlive_a_root_that_retention_takes(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    tenant = await server.make_tenant(retention_days=2)
    alice = server.user("alice", tenant["api_key"])
    room_id, root_id, _ = await start_thread(alice, 1)
    draft = {"content": "late", "thread_id": root_id, "client_message_id": "m"}
    clock.advance(DAY_SECONDS * 1.5)
    late = (await alice.post(f"/rooms/{room_id}/messages", draft)).data
    clock.advance(DAY_SECONDS)
    [state] = [found for found in server.services.tenants.all() if found.tenant_id == tenant["tenant_id"]]
    await apply_retention(server.services, state)
    path = f"/rooms/{room_id}/messages"
    assert (await alice.get(f"{path}/{root_id}")).status == 404
    assert (await alice.get(path, thread_id=root_id)).data["messages"] == [late]
    assert (await alice.get(path, top_level="true")).data["messages"] == []
    assert (await alice.post(path, draft)).status == 200
    assert (await alice.post(path, {"content": "x", "thread_id": root_id})).error["field"] == "thread_id"
    socket = await alice.connect()
    await alice.delete(f"{path}/{late['message_id']}")
    assert (await socket.expect("message.deleted"))["thread"] is None
    assert await rows(server) == []


async def test_a_reply_whose_root_goes_while_it_waits_is_stored_without_a_thread(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    tenant = await server.make_tenant(retention_days=2)
    alice = server.user("alice", tenant["api_key"])
    room_id, root_id, _ = await start_thread(alice, 0)
    clock.advance(DAY_SECONDS * 3)
    [state] = [found for found in server.services.tenants.all() if found.tenant_id == tenant["tenant_id"]]
    find = server.services.chat._find_message

    async def find_and_lose(*args: Any) -> Any:
        found = await find(*args)
        await apply_retention(server.services, state)
        return found

    server.services.chat._find_message = find_and_lose  # type: ignore[method-assign]
    reply: Reply = await alice.post(f"/rooms/{room_id}/messages", {"content": "x", "thread_id": root_id})
    assert (reply.status, reply.data["thread_id"]) == (201, root_id)
    assert await rows(server) == []


async def test_a_deleted_room_leaves_no_thread(server: Server) -> None:
    alice = server.user("alice")
    room_id, _, _ = await start_thread(alice)
    await start_thread(alice)
    await alice.delete(f"/rooms/{room_id}")
    await purge_deleted(server.services)
    assert len(await rows(server)) == 1


async def rows(server: Server) -> list[Any]:
    return await server.services.store.readers.fetch("SELECT * FROM threads", {})
