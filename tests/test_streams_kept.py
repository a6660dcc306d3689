"""Streams in the server's memory and on disk: what is read while they grow, and how they end without their sender."""

import asyncio
import sqlite3
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import StartServer
from driver import HandClock, Server, User, eventually, restart, say_many
from hooked import QUICK, hook
from receiver import Call, Receiver, answer
from stream_writers import Writer, make_writer

from chatapi import housekeeping
from chatapi.errors import ChatError, held
from chatapi.housekeeping import apply_retention, purge_deleted
from chatapi.open_streams import AppendResult
from chatapi.protocol.stream_requests import MAX_APPEND_BYTES
from chatapi.store import check, purge
from chatapi.store.check import check_database

IDLE_SECONDS = 60.0
DAY_SECONDS = 86_400.0
REPEATED = 200


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Appends do not wait to share a commit."""
    monkeypatch.setattr("chatapi.appends.JOIN_SECONDS", 0.0)


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """No job runs by itself."""
    monkeypatch.setattr(housekeeping, "list_jobs", lambda _services: [])


async def end_idle(server: Server) -> None:
    await server.services.streams.end_idle()


# What is read while they grow


async def list_reads(user: User, room_id: str, message: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The message, everywhere where it is shown."""
    message_id, seq, room = message["message_id"], message["seq"], f"/rooms/{room_id}"
    lists = {
        "newest": await user.get(f"{room}/messages"),
        "before": await user.get(f"{room}/messages", before_seq=seq + 1),
        "after": await user.get(f"{room}/messages", after_seq=seq - 1),
        "top level": await user.get(f"{room}/messages", before_seq=seq + 1, top_level="true"),
        "events": await user.get(f"{room}/events", after_seq=seq - 1),
        "pins": await user.get(f"{room}/pins"),
    }
    found = {"one": (await user.get(f"{room}/messages/{message_id}")).data}
    for name, reply in lists.items():
        for item in reply.data.get("messages", reply.data.get("events")):
            if item["message_id"] == message_id:
                found.setdefault(name, item)
    for own in (await user.get("/rooms")).data["rooms"]:
        if own["last_message"] and own["last_message"]["message_id"] == message_id:
            found["last message"] = own["last_message"]
    socket = await user.connect(sync="none", ready=False)
    await socket.send("sync", rooms={room_id: seq - 1})
    for frame in await socket.collect("sync.complete"):
        if frame["type"] == "message" and frame["message_id"] == message_id:
            found["backlog"] = frame
    await socket.close()
    return found


async def grow_and_read(writer: Writer, message: dict[str, Any], expected: set[str]) -> None:
    message_id, bob = message["message_id"], writer.user.server.user("bob")
    await writer.user.put(f"/rooms/{writer.room_id}/pins/{message_id}", None)
    content = ""
    for index in (1, 2):
        assert (await writer.append(message_id, index, f"word {index} ")).code == "ok"
        content += f"word {index} "
        found = await list_reads(bob, writer.room_id, message)
        assert set(found) == expected
        shown = {name: (item["content"], item["stream"]) for name, item in found.items()}
        assert shown == dict.fromkeys(found, (content, {"state": "open", "index": index}))
    await writer.finish(message_id)
    found = await list_reads(bob, writer.room_id, message)
    assert {(item["content"], item["stream"]["state"]) for item in found.values()} == {(content, "done")}


async def test_every_read_shows_all_confirmed_appends(server: Server) -> None:
    writer = await make_writer(server, "websocket")
    everywhere = {"one", "newest", "before", "after", "top level", "events", "pins", "last message", "backlog"}
    await grow_and_read(writer, await writer.open(), everywhere)


async def test_older_history_shows_it_too(start_server: StartServer) -> None:
    """From blocks of history, and from the database once nothing of the room is in memory."""
    server = await start_server({"limits.rate_limit": 10_000})
    writer = await make_writer(server, "rest")
    await say_many(writer.user, writer.room_id, 70)
    message = await writer.open()
    await say_many(writer.user, writer.room_id, 300)
    await list_reads(server.user("bob"), writer.room_id, message)  # what was read before must not be kept
    everywhere = {"one", "before", "after", "top level", "events", "pins", "backlog"}
    server.services.rooms.empty_rings()
    await grow_and_read(writer, message, everywhere)


async def test_a_ring_that_is_filled_again_shows_it(start_server: StartServer) -> None:
    server = await start_server()
    writer = await make_writer(server, "rest")
    message = await writer.open(content="a")
    await writer.append_all(message["message_id"], "b")
    server = await restart(start_server, server)
    bob = server.user("bob")
    writer = Writer(server.user("alice"), writer.room_id, is_rest=True)
    path = f"/rooms/{writer.room_id}/messages"
    assert (await bob.get(path)).data["messages"][0]["content"] == "ab"
    await writer.append(message["message_id"], 2, "c")
    assert (await bob.get(path)).data["messages"][0]["content"] == "abc"


# Appends in a row


async def test_appends_of_one_connection_do_not_wait_for_each_other(server: Server) -> None:
    writer = await make_writer(server, "rest")
    message_id = (await writer.open())["message_id"]
    socket = await writer.user.connect()
    fields = {"room_id": writer.room_id, "message_id": message_id}
    for index in (1, 2, 3, 5, 4, 2):
        await socket.send("message.append", **fields, index=index, text=str(index), request_id=str(index))
    answers = [await socket.next() for _ in range(6)]
    refused = [answer for answer in answers if answer["type"] == "error"]
    assert [(answer["request_id"], answer["details"]) for answer in refused] == [("5", {"index": 3, "state": "open"})]
    confirmed = [answer for answer in answers if answer["type"] == "message.appended"]
    assert [answer["index"] for answer in confirmed] == [1, 2, 3, 4, 2]
    assert (await writer.read(message_id))["content"] == "1234"


async def test_a_refusal_names_no_index_before_it_is_stored(server: Server) -> None:
    """A writer that goes on from there keeps no text before it, and the server may be killed until then."""
    writer = await make_writer(server, "rest")
    message_id = (await writer.open())["message_id"]
    [stream] = server.services.rooms.streams.list_all()
    async with server.hold_writer():
        accepted = asyncio.ensure_future(writer.append(message_id, 1, "a"))
        await eventually(lambda: stream.accepted_index == 1)
        misfits = ((3, "c"), (1, "b"), (0, ""))
        refused = [asyncio.ensure_future(writer.append(message_id, index, text)) for index, text in misfits]
        await eventually(lambda: len(stream._waiting) == 4)
        assert not any(outcome.done() for outcome in (accepted, *refused))
    assert (await accepted).code == "ok"
    for outcome in await asyncio.gather(*refused):
        assert (outcome.code, outcome.details) == ("CONFLICT", {"index": 1, "state": "open"})


async def test_an_end_takes_the_appends_that_still_wait(server: Server) -> None:
    writer = await make_writer(server, "rest")
    message_id = (await writer.open())["message_id"]
    socket = await writer.user.connect()
    fields = {"room_id": writer.room_id, "message_id": message_id}
    for index in range(1, 21):
        await socket.send("message.append", **fields, index=index, text=f"{index} ")
    await socket.send("message.finish", **fields, state="done", index=20, request_id="end")
    frames = await socket.collect("message.finished")
    assert [frame["index"] for frame in frames if frame["type"] == "message.appended"] == list(range(1, 21))
    assert (await writer.read(message_id))["content"] == "".join(f"{index} " for index in range(1, 21))


async def test_an_append_is_read_and_confirmed_from_its_own_commit_on(server: Server) -> None:
    writer = await make_writer(server, "rest")
    message_id = (await writer.open())["message_id"]
    [stream] = server.services.rooms.streams.list_all()
    appends, confirmed = server.services.appends, []

    def confirm(outcome: AppendResult | ChatError) -> None:
        assert isinstance(outcome, AppendResult)
        confirmed.append((outcome.index, stream.stored_index))

    principal = server.services.auth.authenticate_key(writer.user.headers["X-API-Key"], "alice", "")
    async with server.hold_writer():
        for index in (1, 2):
            await appends.submit(principal, writer.room_id, message_id, index, "a", confirm)
            await eventually(lambda: appends._is_committing)  # so that the second one comes too late for this commit
        [event] = (await writer.user.get(f"/rooms/{writer.room_id}/events")).data["events"]
        assert (event["content"], event["stream"]["index"], stream.read().content, confirmed) == ("", 0, "", [])
    await eventually(lambda: len(confirmed) == 2)
    assert confirmed == [(1, 1), (2, 2)]


async def test_an_end_waits_for_no_others_to_share_its_commit(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the commits after it are not hurried."""
    monkeypatch.setattr("chatapi.appends.JOIN_SECONDS", 1e9)
    writer = await make_writer(server, "rest")
    first, second = [(await writer.open())["message_id"] for _ in range(2)]
    socket = await writer.user.connect()
    for message_id in (first, second):
        fields = {"room_id": writer.room_id, "message_id": message_id}
        await socket.send("message.append", **fields, index=1, text="a")
        await socket.send("message.finish", **fields, state="done", index=1)
        await socket.expect("message.finished")
    third = (await writer.open())["message_id"]
    await socket.send("message.append", room_id=writer.room_id, message_id=third, index=1, text="a")
    await writer.user.say(writer.room_id)
    await socket.expect_nothing("message.appended")


async def test_any_connection_of_the_sender_may_go_on(server: Server) -> None:
    over_rest = await make_writer(server, "rest")
    sockets = [Writer(over_rest.user, over_rest.room_id, is_rest=False) for _ in range(2)]
    message_id = (await over_rest.open())["message_id"]
    for index, writer in enumerate((*sockets, over_rest, sockets[0]), start=1):
        assert (await writer.append(message_id, index, str(index))).code == "ok"
    assert (await sockets[1].finish(message_id, index=4)).data["content"] == "1234"


async def test_a_stream_that_ends_while_appends_wait_refuses_them(server: Server, database: Path) -> None:
    writer = await make_writer(server, "rest")
    gone, kept = [(await writer.open())["message_id"] for _ in range(2)]
    async with server.hold_writer():
        deletion = asyncio.ensure_future(writer.user.delete(f"/rooms/{writer.room_id}/messages/{gone}"))
        await eventually(lambda: len(server.services.store.writer) == 1)
        appends = [asyncio.ensure_future(writer.append(message_id, 1, "late")) for message_id in (gone, kept)]
        await eventually(lambda: len(server.services.store.writer) == 2)
    outcomes = [await append for append in appends]
    assert (await deletion).status == 204
    assert [outcome.code for outcome in outcomes] == ["NOT_FOUND", "ok"]
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT target_seq, text FROM stream_chunks").fetchall() == [(2, "late")]


# The end of those that nobody goes on with


@pytest.mark.parametrize("restarts", [False, True])
async def test_an_idle_stream_fails(start_server: StartServer, by_hand: None, restarts: bool) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    writer = await make_writer(server, "rest")
    message_id = (await writer.open())["message_id"]
    await writer.append_all(message_id, "half of ")
    clock.advance(IDLE_SECONDS - 1)
    if restarts:  # each stream has its whole time again
        await server.app.close()
        server = await start_server(clock=clock)
        writer = Writer(server.user("alice"), writer.room_id, is_rest=True)
        clock.advance(IDLE_SECONDS - 1)
    await end_idle(server)
    assert (await writer.append(message_id, 1, "")).code == "ok"  # a sign of life
    clock.advance(IDLE_SECONDS - 1)
    await end_idle(server)
    assert (await writer.append(message_id, 2, "it")).code == "ok"
    socket = await server.user("bob").connect()
    clock.advance(IDLE_SECONDS)
    await end_idle(server)
    event = await socket.expect("message.finished", content="half of it")
    assert event["stream"] == {"state": "failed"}
    assert (await writer.append(message_id, 3, "late")).details == {"index": 2, "state": "failed"}
    assert (await writer.finish(message_id, "failed")).data["content"] == "half of it"


async def test_the_idle_time_is_a_setting(start_server: StartServer, by_hand: None) -> None:
    clock = HandClock()
    server = await start_server({"streams.idle_seconds": 5}, clock=clock)
    writer = await make_writer(server, "rest")
    message_id = (await writer.open())["message_id"]
    clock.advance(5)
    await end_idle(server)
    assert (await writer.read(message_id))["stream"] == {"state": "failed"}


async def test_an_idle_stream_of_a_held_tenant_keeps_no_other_one(start_server: StartServer, by_hand: None) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    made = await server.make_tenant("moving")
    moving = server.user("alice", made["api_key"])
    await moving.say(await moving.make_room("bob"), "", stream=True)
    writer = await make_writer(server, "rest")
    message_id = (await writer.open())["message_id"]
    tenant = server.services.tenants.get(made["tenant_id"])
    tenant.hold = held("The tenant is on its way to another server")
    clock.advance(IDLE_SECONDS)
    await end_idle(server)
    assert (await writer.read(message_id))["stream"] == {"state": "failed"}
    tenant.hold = None
    await end_idle(server)
    assert list(server.services.streams._open.list_all()) == []


async def mute(server: Server, room_id: str) -> None:
    await server.user("alice").patch(f"/rooms/{room_id}/members/bob", {"muted_for": 3600})


async def remove(server: Server, room_id: str) -> None:
    await server.user("alice").delete(f"/rooms/{room_id}/members/bob")


async def ban(server: Server, _room_id: str) -> None:
    await server.user("backend").put("/users/bob/ban", {})


@pytest.mark.parametrize("forbid", [mute, remove, ban])
async def test_the_stream_of_a_sender_without_the_right_to_post_fails(
    start_server: StartServer, by_hand: None, forbid: Callable[..., Any]
) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    alice = await make_writer(server, "rest")
    bob = Writer(server.user("bob"), alice.room_id, is_rest=True)
    message_id = (await bob.open(content="a"))["message_id"]
    await forbid(server, alice.room_id)
    clock.advance(IDLE_SECONDS / 2)
    assert (await bob.append(message_id, 1, "b")).code == "AUTHORIZATION_ERROR"
    clock.advance(IDLE_SECONDS / 2)
    await end_idle(server)
    message = await alice.read(message_id)
    assert (message["content"], message["stream"]) == ("a", {"state": "failed"})


async def test_a_stop_leaves_streams_open(start_server: StartServer) -> None:
    server = await start_server()
    writer = await make_writer(server, "rest")
    message_id = (await writer.open(meta={"a": 1}))["message_id"]
    await writer.append_all(message_id, "a", "b")
    await Writer(server.user("bob"), writer.room_id, is_rest=True).cancel(message_id)
    server = await restart(start_server, server)
    writer = Writer(server.user("alice"), writer.room_id, is_rest=True)
    assert (await writer.append(message_id, 2, "")).data == {"index": 2, "cancel_requested": True}
    socket = await writer.user.connect()
    await Writer(server.user("bob"), writer.room_id, is_rest=True).cancel(message_id)
    await socket.expect_nothing("message.cancel_requested")
    assert (await writer.append(message_id, 3, "c")).data == {"index": 3, "cancel_requested": True}
    assert (await writer.finish(message_id, index=3)).data["content"] == "abc"


async def test_a_restart_knows_each_append(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatapi.store.streams.STREAMS_PER_QUERY", 2)
    server = await start_server()
    writer = await make_writer(server, "rest")
    texts = ["a", "é🚢", "\\n", '"],[1', ",", *(f"{number} " for number in range(10))]
    message_ids = [(await writer.open(content=content))["message_id"] for content in ("", "x", "", "y", "")]
    await writer.append_all(message_ids[0], *texts)  # each a chunk
    socket = await writer.user.connect()
    for number, message_id in enumerate(message_ids[1:4], start=1):
        for index, text in enumerate(texts[number:], start=1):  # some share one
            fields = {"room_id": writer.room_id, "message_id": message_id, "index": index, "text": text}
            await socket.send("message.append", **fields)
        for _ in texts[number:]:
            await socket.expect("message.appended", message_id=message_id)
    await socket.close()
    server = await restart(start_server, server)
    writer = Writer(server.user("alice"), writer.room_id, is_rest=True)
    assert (await writer.append(message_ids[4], 0, "")).data == {"index": 0}
    for number, (message_id, content) in enumerate(zip(message_ids[:4], ("", "x", "", "y"), strict=True)):
        await writer.append_all(message_id, *texts[number:])  # as they were
        assert (await writer.append(message_id, 1, "another")).code == "CONFLICT"
        assert (await writer.finish(message_id)).data["content"] == content + "".join(texts[number:])


async def test_a_stop_stores_the_appends_that_wait(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatapi.appends.JOIN_SECONDS", 1e9)
    server = await start_server()
    writer = await make_writer(server, "rest")
    message_id = (await writer.open())["message_id"]
    socket = await writer.user.connect()
    await socket.send("message.append", room_id=writer.room_id, message_id=message_id, index=1, text="a")
    await socket.expect_nothing("message.appended")
    await socket.close()
    server = await restart(start_server, server)
    writer = Writer(server.user("alice"), writer.room_id, is_rest=True)
    assert (await writer.read(message_id))["content"] == "a"


# What takes a stream along


def step_once(
    purge_some: Callable[[sqlite3.Connection, Callable[[], bool]], bool],
    connection: sqlite3.Connection,
    _is_over: Callable[[], bool],
) -> bool:
    """A step whose time is over at once."""
    return purge_some(connection, lambda: True)


async def test_a_deleted_room_takes_it_along(server: Server) -> None:
    writer = await make_writer(server, "rest")
    message_id = (await writer.open())["message_id"]
    await writer.append_all(message_id, "a")
    await writer.user.delete(f"/rooms/{writer.room_id}")
    assert (await writer.append(message_id, 2, "b")).code == "NOT_FOUND"
    assert len(server.services.rooms.streams) == 0
    await purge_deleted(server.services)


async def test_a_deleted_tenant_takes_it_along(server: Server) -> None:
    tenant = await server.make_tenant("other")
    user = server.user("alice", tenant["api_key"])
    writer = Writer(user, await user.make_room(), is_rest=True)
    await writer.open()
    assert len(server.services.rooms.streams) == 1
    await server.admin("DELETE", f"/tenants/{tenant['tenant_id']}")
    assert len(server.services.rooms.streams) == 0


async def test_retention_goes_by_its_opening(start_server: StartServer, by_hand: None, database: Path) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    tenant = await server.make_tenant("other", retention_days=1)
    user = server.user("alice", tenant["api_key"])
    writer = Writer(user, await user.make_room(), is_rest=True)
    ended = (await writer.open())["message_id"]
    await writer.append((await writer.open())["message_id"], 1, "nobody reacts to it")
    message_id = (await writer.open())["message_id"]  # the last one that goes
    texts = [str(number) for number in range(60)]  # more chunks than one statement removes
    await writer.append_all(message_id, *texts)
    await user.put(f"/rooms/{writer.room_id}/messages/{message_id}/reactions/x", None)
    clock.advance(DAY_SECONDS / 2)
    await writer.finish(ended)
    clock.advance(DAY_SECONDS / 2 + 1)
    await apply_retention(server.services, server.services.tenants.get(tenant["tenant_id"]))
    assert len(server.services.rooms.streams) == 0
    assert (await writer.append(message_id, 61, "b")).code == "NOT_FOUND"
    assert (await asyncio.to_thread(check_database, str(database))).findings == []
    with closing(sqlite3.connect(database)) as connection:
        for left in (61, 12, 0):  # the reaction is one of the first fifty rows
            assert connection.execute("SELECT count(*) FROM stream_chunks").fetchone() == (left,)
            await server.services.store.writer.step(partial(step_once, purge.purge_deleted))
        assert connection.execute("SELECT count(*) FROM emptied_messages").fetchone() == (0,)
    [event] = (await user.get(f"/rooms/{writer.room_id}/events")).data["events"]
    assert (event["type"], event["content"]) == ("message.finished", None)


# Bounds


async def test_an_append_that_waits_is_held_once(server: Server) -> None:
    """However often it is repeated before its commit."""
    writer = await make_writer(server, "rest")
    message_id = (await writer.open())["message_id"]
    socket = await writer.user.connect()
    fields = {"room_id": writer.room_id, "message_id": message_id, "index": 1, "text": "x" * MAX_APPEND_BYTES}

    async def append(count: int) -> None:
        for _ in range(count):
            await socket.send("message.append", **fields)
        await socket.send("ping", request_id="taken")
        await socket.answer_to("taken")

    async with server.hold_writer():
        await append(1)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            await append(REPEATED)
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
    assert grown < REPEATED * MAX_APPEND_BYTES / 4


async def test_a_tenant_has_so_many_open_streams(server: Server) -> None:
    tenant = await server.make_tenant("other", open_streams=2)
    user = server.user("alice", tenant["api_key"])
    writer = Writer(user, await user.make_room(), is_rest=True)
    first = (await writer.open(client_message_id="first"))["message_id"]
    await writer.open()
    path = f"/rooms/{writer.room_id}/messages"
    refused = await user.post(path, {"stream": True})
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
    assert (await user.post(path, {"stream": True, "content": "", "client_message_id": "first"})).status == 200
    assert (await user.post(path, {"content": "plain"})).status == 201
    await writer.finish(first)
    replies = await server.together(*(user.post(path, {"stream": True}) for _ in range(3)))
    assert sorted(reply.status for reply in replies) == [201, 429, 429]


# At its end


async def test_search_finds_it_when_it_has_ended(server: Server) -> None:
    writer = await make_writer(server, "rest")

    async def find(word: str) -> list[str]:
        await server.services.indexer.update()
        results = (await writer.user.get("/search", q=word)).data["results"]
        return [found["message"]["message_id"] for found in results]

    for is_indexed in (False, True):
        message_id = (await writer.open(content="early "))["message_id"]
        await writer.append_all(message_id, "late")
        if is_indexed:
            assert await find("early") == []
        assert message_id not in await find("early")
        assert message_id not in await find("late")
        await writer.finish(message_id)
        assert message_id in await find("early")
        assert message_id in await find("late")
        await writer.user.delete(f"/rooms/{writer.room_id}/messages/{message_id}")


async def test_webhooks_tell_of_its_end(start_server: StartServer, receiver: Receiver) -> None:
    server = await start_server(QUICK)
    hooked = await hook(server, receiver.url)
    alice = hooked.user("alice")
    writer = Writer(alice, await alice.make_room("bob"), is_rest=True)
    empty, told = [(await writer.open())["message_id"] for _ in range(2)]
    await writer.append_all(told, "hello")
    await hooked.is_settled()
    assert receiver.calls == []
    await writer.finish(empty)
    await writer.finish(told)
    await hooked.is_settled()
    [call] = receiver.calls
    assert (call.event["type"], call.event["data"]["message"]) == ("message.offline", await writer.read(told))


@pytest.mark.parametrize("members", [3, 30])  # their calls are stored at once, or in steps
async def test_an_ack_of_its_end_drops_the_call(start_server: StartServer, receiver: Receiver, members: int) -> None:
    server = await start_server({**QUICK, "webhooks.concurrency": 1})
    hooked = await hook(server, receiver.url)
    alice = hooked.user("alice")
    users = [f"m{number:02}" for number in range(members)]
    writer = Writer(alice, await alice.make_room(*users), is_rest=True)
    is_free = asyncio.Event()

    async def wait(call: Call, request: Any) -> Any:
        await is_free.wait()
        return await answer(204)(call, request)

    receiver.behave = wait
    await alice.say(await alice.make_room("zed"))
    await receiver.wait_for(1)  # the only call that may be under way
    message_id = (await writer.open())["message_id"]
    await writer.finish(message_id, content="hello")
    for user_id, seq in (("m00", 1), ("m01", 2)):
        await hooked.user(user_id).post("/acks", {"room_id": writer.room_id, "seq": seq})
    is_free.set()
    await hooked.is_settled()
    got = {call.user_id for call in receiver.calls if call.event["data"]["room"]["room_id"] == writer.room_id}
    assert got == set(users) - {"m01"}


@pytest.mark.parametrize("members", [3, 30])  # their calls are stored at once, or in steps
async def test_the_views_at_its_end_count(start_server: StartServer, receiver: Receiver, members: int) -> None:
    server = await start_server(QUICK)
    hooked = await hook(server, receiver.url)
    alice = hooked.user("alice")
    users = [f"m{number:02}" for number in range(members)]
    writer = Writer(alice, await alice.make_room(*users), is_rest=True)
    path = f"/rooms/{writer.room_id}/me"
    for user_id in ("m01", "m02"):
        await hooked.user(user_id).patch(path, {"notify": "none"})
    message_id = (await writer.open())["message_id"]
    await hooked.user("m00").patch(path, {"notify": "none"})
    await hooked.user("m01").patch(path, {"notify": "all"})
    await alice.post(f"/rooms/{writer.room_id}/members", {"user_id": "new"})
    await writer.finish(message_id, content="hello")
    await hooked.is_settled()
    assert {call.user_id for call in receiver.calls} == {*users, "new"} - {"m00", "m02"}


async def test_a_database_with_streams_is_sound(start_server: StartServer, database: Path) -> None:
    server = await start_server()
    writer = await make_writer(server, "rest")
    first = (await writer.open(mentions=["bob"]))["message_id"]
    await writer.append_all(first, "a", "b")
    ended = (await writer.open(mentions=["bob"]))["message_id"]
    await writer.finish(ended, content="x")
    await server.services.indexer.update()
    assert (await asyncio.to_thread(check_database, str(database))).findings == []
    await server.app.close()  # else its jobs write as well
    with closing(sqlite3.connect(database)) as connection:
        for view in check._KEEP:
            connection.execute(view)
        for sql, finding in (
            ("DELETE FROM open_streams", "message 1 is a stream that never ends"),
            ("UPDATE messages SET stream = 'done' WHERE seq = 1", "message 1 counts as an open stream, but is none"),
            ("DELETE FROM open_streams", "message 1 is no open stream, but has text of one"),
            ("DELETE FROM stream_chunks WHERE last_index = 1", "message 1 has 1 appends up to index 2"),
        ):
            connection.execute("SAVEPOINT tried")
            connection.execute(sql)
            found = [line for (line,) in connection.execute(check._WRONG_STREAMS)]
            assert f"{writer.room_id}: {finding}" in found
            connection.execute("ROLLBACK TO tried")
