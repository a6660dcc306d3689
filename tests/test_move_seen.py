"""What others see of a move: a pipe, an agent, and those who follow their streams. Both servers are real."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from agent_rig import open_agents
from client_rig import PATIENCE_S, Rig, eventually, make_rig
from client_streams import follow, grown_to
from fake_endpoint import FakeEndpoint, open_endpoint
from piper import AS_EVENTS, CHUNK, Piper
from server_process import Mover, ServerProcess

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    one, two = (ServerProcess(tmp_path_factory.mktemp(name), dev=False) for name in ("one", "two"))
    with one, two:
        yield one, two


@pytest.fixture(scope="module")
def mover(servers: tuple[ServerProcess, ServerProcess]) -> Mover:
    return Mover(*servers)


@pytest.fixture
async def rig(servers: tuple[ServerProcess, ServerProcess]) -> AsyncIterator[Rig]:
    async with make_rig(servers[0].url, servers[0].master_key) as rig:
        yield rig


class PipeUser:
    """As `driver.User` for a piper."""

    def __init__(self, rig: Rig, port: int) -> None:
        self.headers = {"X-API-Key": rig.api_key, "X-User-Id": "alice"}
        self._port = port

    async def pipe(self, room_id: str, **head: str) -> Piper:
        piper = Piper(*await asyncio.open_connection("127.0.0.1", self._port))
        piper.send_head(self, f"/rooms/{room_id}/messages/stream", **head)  # type: ignore[arg-type]
        return piper


async def write_on(pipe: Piper) -> None:
    with suppress(ConnectionError):
        while True:
            pipe.write("x")
            await pipe.writer.drain()
            await asyncio.sleep(0.002)


async def test_a_pipe_fails_at_once_and_says_where_its_message_is(
    rig: Rig, servers: tuple[ServerProcess, ServerProcess], mover: Mover
) -> None:
    room = await rig.group("alice", "bob")
    bob = await rig.connect("bob")
    alice = PipeUser(rig, servers[0].port)
    quiet, busy, silent = [await alice.pipe(room) for _ in range(3)]
    events = await alice.pipe(room, **AS_EVENTS)
    quiet.write("quiet")
    await grown_to(await follow(bob, room, 1), "quiet")
    events.write(CHUNK % "event")
    await grown_to(await follow(bob, room, 2), "event")
    busy.write("x")
    await follow(bob, room, 3)
    writing = asyncio.create_task(write_on(busy))
    await asyncio.to_thread(mover.move, rig.tenant_id)
    failed = []
    for pipe in (quiet, events, busy):
        reply = await pipe.read_reply()
        assert (reply.status, reply.body["error"]["code"]) == (503, "INTERNAL_ERROR")
        assert reply.headers["retry-after"] == "1"
        failed.append(reply.body["error"]["details"]["message_id"])
    writing.cancel()
    silent.write("never")
    error = (await silent.read_reply()).body["error"]
    assert (error["code"], error["details"]) == ("TENANT_MOVED", {"url": servers[1].url})
    # Each has ended before the move, and once.
    ends = await bob.until("message.finished", 3)
    assert sorted(end["message_id"] for end in ends) == sorted(failed)
    for message_id, text in zip(failed, ("quiet", "event", "x"), strict=True):
        message = await rig.client("bob").get_message(room, message_id)
        assert (message["stream"]["state"], message["content"][: len(text)]) == ("failed", text)
    there = PipeUser(rig, servers[1].port)
    whole = await there.pipe(room)
    whole.write("whole")
    whole.end()
    assert (await whole.read_reply()).status == 201
    for pipe in (quiet, events, busy, silent, whole):
        pipe.leave()
        with suppress(ConnectionError):
            await pipe.writer.wait_closed()


async def test_lists_go_on_where_their_pages_ended(
    rig: Rig, servers: tuple[ServerProcess, ServerProcess], mover: Mover
) -> None:
    """The other server has other keys for the same rooms: cursors may not hold them."""
    async with make_rig(servers[1].url, servers[1].master_key) as other:
        for _ in range(3):
            await other.group("alice")
    alice, names = rig.client("alice"), [f"channel {number}" for number in range(6)]
    for name in names:
        await alice.create_room("channel", name=name)
    for name in names:
        await alice.put_user(name[-1], name=name)
    channels, users = await alice.list_channels(limit=2), await alice.list_users(q="channel", limit=2)
    await asyncio.to_thread(mover.move, rig.tenant_id)
    rest = await alice.list_channels(limit=100, cursor=channels["next_cursor"])
    assert [room["name"] for room in channels["rooms"] + rest["rooms"]] == names[::-1]
    rest_of_users = await alice.list_users(q="channel", limit=100, cursor=users["next_cursor"])
    assert [user["name"] for user in users["users"] + rest_of_users["users"]] == names


async def page_and_move(rig: Rig, mover: Mover, before: dict[str, Any], limit: int) -> tuple[list[str], list[str]]:
    """The names of the next page of alice's rooms, and those of the rest, which the other server answers."""
    alice = rig.client("alice")
    page = await alice.list_rooms(limit=limit, cursor=before["next_cursor"])
    await asyncio.to_thread(mover.move, rig.tenant_id)
    rest = await alice.list_rooms(limit=100, cursor=page["next_cursor"])
    return [room["name"] for room in page["rooms"]], [room["name"] for room in rest["rooms"]]


@pytest.mark.parametrize("limit", [1, 3, 5])
async def test_own_rooms_go_on_where_their_pages_ended(
    rig: Rig, servers: tuple[ServerProcess, ServerProcess], mover: Mover, limit: int
) -> None:
    """Also those that were active in the same microsecond, or since the paging began: the other server has other keys
    for the same rooms, and no more than their rows to order them by."""
    async with make_rig(servers[1].url, servers[1].master_key) as other:
        await other.group("alice")
    alice = rig.client("alice")
    await alice.list_rooms()  # from here on the first server keeps the order in memory
    names = [f"room {number}" for number in range(12)]
    made = await asyncio.gather(*(alice.create_room("group", name=name) for name in names))  # some in one commit
    ids = {room["name"]: room["room_id"] for room in made}
    for name in names[:2]:
        await alice.update_room(ids[name], metadata={"of": name})
    await alice.send_message(ids[names[2]], "hello")
    whole = [room["name"] for room in (await alice.list_rooms())["rooms"]]
    assert whole[:3] == [names[2], names[1], names[0]]
    start = await alice.list_rooms(limit=1)
    first, rest = await page_and_move(rig, mover, start, limit)
    assert whole[:1] + first + rest == whole
    # On the other server by now, where all but one become active once the paging has begun.
    start = await alice.list_rooms(limit=1)
    quiet = rest[-1]
    await asyncio.gather(*(alice.update_room(ids[name], metadata={"to": name}) for name in names if name != quiet))
    start = await alice.list_rooms(limit=1, cursor=start["next_cursor"])
    assert [room["name"] for room in start["rooms"]] == [quiet]
    first, rest = await page_and_move(rig, mover, start, limit)
    assert sorted(first + rest) == sorted(set(names) - {quiet})


async def test_a_ticket_of_before_is_sent_on(
    rig: Rig, servers: tuple[ServerProcess, ServerProcess], mover: Mover
) -> None:
    ticket = (await rig.client("alice").create_ticket())["token"]
    await asyncio.to_thread(mover.move, rig.tenant_id)
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{rig.url}/ws?token={ticket}") as socket:
        frame = await socket.receive_json(timeout=PATIENCE_S)
        assert frame == {"type": "server.shutdown", "reconnect_after_ms": 0, "url": servers[1].url}
        await socket.receive(timeout=PATIENCE_S)
        assert socket.close_code == 1001


@pytest.fixture
async def endpoint() -> AsyncIterator[FakeEndpoint]:
    async with open_endpoint() as endpoint:
        yield endpoint


async def test_an_agent_goes_on_with_its_answer(
    rig: Rig,
    servers: tuple[ServerProcess, ServerProcess],
    mover: Mover,
    endpoint: FakeEndpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the middle of an answer, and with a question that is asked while the tenant is away from the first server."""
    room = await rig.group("alice", "bob", "agent")
    bob = await rig.connect("bob")
    at: Any = SimpleNamespace(url=servers[0].url, api_key=rig.api_key)

    async def ask(text: str) -> Any:
        return await rig.client("alice").send_message(room, text, mentions=["agent"])

    async with open_agents(at, endpoint, monkeypatch) as agents:
        agent = agents.start(room)
        question = await ask("What is it?")
        exchange = await endpoint.asked()
        await exchange.say("It is ")
        [opened] = await bob.until("message", sender_id="agent")
        growing = bob.connection.follow(opened)
        await grown_to(growing, "It is ")
        for text in ("there ", "and back"):
            moving = asyncio.create_task(asyncio.to_thread(mover.move, rig.tenant_id))
            await exchange.say(text)
            await moving
        await exchange.end(".")
        async with asyncio.timeout(PATIENCE_S):
            answer = await growing.finished()
        assert (answer["content"], answer["stream"]["state"]) == ("It is there and back.", "done")
        assert answer["reply_to"] == question["message_id"]
        await asyncio.to_thread(mover.move, rig.tenant_id)
        again = await ask("And now?")
        await (await endpoint.asked()).end("Here.")
        ended = await bob.until("message.finished", reply_to=again["message_id"])
        assert [event["content"] for event in ended] == ["Here."]

        async def is_acknowledged() -> bool:
            receipts = (await rig.client("alice").list_receipts(room))["receipts"]
            return next(one["last_ack"] for one in receipts if one["user_id"] == "agent") >= again["seq"]

        await eventually(is_acknowledged)
        assert not agent.done()
    texts = [event["content"] for event in bob.events if event["type"] == "message.finished"]
    assert texts == ["It is there and back.", "Here."]
