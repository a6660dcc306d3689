"""The cases of sdk_cases.json in which a tenant moves to another server, as the Python SDK shows them."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from client_rig import (
    PATIENCE_S,
    Inbox,
    Rig,
    contents,
    eventually,
    make_rig,
    numbered,
    parametrize_way,
    seqs,
    stored_messages,
)
from client_streams import Stream, follow, grown_to, show
from newer import open_newer
from proxy import Proxy
from server_process import Mover, ServerProcess

from chatapi.client import ApiError, ChatAPI
from chatapi.client.http import MAX_HOPS, Http
from chatapi.protocol.json import dumps

pytestmark = [pytest.mark.slow]

ADDRESSES = json.loads((Path(__file__).parent / "sdk_cases.json").read_text())["moves"]
SETTINGS = {"limits.sync_limit": "20"}
OPENS = {
    "this server": ("GET", "/v1/ws"),
    "one that adds to it": ("GET", "/v1/ws"),
    "sse": ("GET", "/v1/events/stream"),
    "poll": ("POST", "/v1/sync"),
}
"""The first request of a connection."""


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server"), SETTINGS, dev=False) as process:
        yield process


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("other"), SETTINGS, dev=False) as process:
        yield process


@pytest.fixture(scope="module")
def mover(process: ServerProcess, other: ServerProcess) -> Mover:
    return Mover(process, other)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize_way(metafunc, "one that adds to it")


@pytest.fixture
async def url(process: ServerProcess, way: str) -> AsyncIterator[str]:
    if way != "one that adds to it":
        yield process.url
        return
    async with open_newer(process.url, renames=False) as (_, url):
        yield url


class MovingRig(Rig):
    """`move` moves the tenant to the other server, or back."""

    mover: Mover

    async def move(self) -> None:
        await asyncio.to_thread(self.mover.move, self.tenant_id)

    async def client_of(self, user_id: str) -> ChatAPI:
        """Another one, which begins at the first address."""
        return await self._stack.enter_async_context(ChatAPI(self.url, api_key=self.api_key, user_id=user_id))

    async def token_client(self, token: str) -> ChatAPI:
        return await self._stack.enter_async_context(ChatAPI(self.url, token=token))


@pytest.fixture
async def rig(process: ServerProcess, url: str, way: str, mover: Mover) -> AsyncIterator[MovingRig]:
    async with make_rig(url, process.master_key, kind=MovingRig) as rig:
        rig.mover = mover
        if way in ("sse", "poll"):
            rig.options["transports"] = (way,)
        yield rig


async def test_calls_follow_the_tenant(rig: MovingRig, other: ServerProcess) -> None:
    before, alice = await rig.client_of("alice"), await rig.client_of("alice")
    room = await rig.group("alice", "bob")
    first = await alice.send_message(room, "one", client_message_id="mine")
    await alice.send_message(room, "two")
    page = await alice.list_messages(room, limit=1)
    await rig.move()
    again = await alice.send_message(room, "one", client_message_id="mine")
    assert (again["message_id"], again["seq"]) == (first["message_id"], 1)
    made = (await alice.create_room("group", ["alice"]))["room_id"]
    rooms = [one["room_id"] for one in (await alice.list_rooms())["rooms"]]
    assert (sorted(rooms), alice.url) == (sorted([room, made]), other.url)
    older = await alice.list_messages(room, before_seq=page["messages"][0]["seq"])
    assert contents(older["messages"] + page["messages"]) == ["one", "two"]
    await rig.move()
    for number, client in enumerate((alice, before, await rig.client_of("alice")), start=3):
        assert (await client.send_message(room, f"{number}"))["seq"] == number
    assert contents(await stored_messages(alice, room)) == ["one", "two", "3", "4", "5"]


async def until_live(inbox: Inbox) -> None:
    async def is_live() -> bool:
        return inbox.connection.state == "live"

    await eventually(is_live)


async def test_connections_follow_the_tenant(rig: MovingRig) -> None:
    room = await rig.group("alice", "bob")
    alice, bob = await rig.connect("alice"), await rig.connect("bob")
    texts = numbered("message", 60)
    sending = [asyncio.create_task(alice.connection.send(room, text)) for text in texts]
    for last in (20, 40, 60):
        async with asyncio.timeout(PATIENCE_S):
            await sending[last - 1]
        await rig.move()
    got = await bob.messages(room, 60)
    assert (contents(got), seqs(got)) == (texts, list(range(1, 61)))
    assert contents(await stored_messages(rig.client("alice"), room)) == texts
    assert (await bob.connection.send(room, "back"))["seq"] == 61
    await alice.until("message", content="back")
    for inbox in (alice, bob):
        assert seqs(await inbox.messages(room, 61)) == list(range(1, 62))
        await until_live(inbox)
        assert inbox.error is None


async def test_move_is_told_with_its_address(rig: MovingRig, other: ServerProcess) -> None:
    await rig.group("alice", "bob")
    client = await rig.client_of("bob")
    bob = await rig.attach(client)
    await rig.move()
    await bob.until("server.shutdown", url=other.url)
    await bob.until("sync.complete", 2)
    assert client.url == other.url
    assert [event for event in bob.events if event["type"] == "sync.reset"] == []


async def test_those_who_were_away_find_the_tenant(rig: MovingRig) -> None:
    room = await rig.group("alice", "bob")
    bob, device = await rig.connect("bob"), await rig.connect("bob", auto_ack=False)
    for text in numbered("before", 3):
        await rig.client("alice").send_message(room, text)
    await device.messages(room, 3)
    await bob.messages(room, 3)
    await device.connection.ping()  # the loop has asked for what follows the third
    await bob.connection.pause()
    await device.connection.close()
    cursors = device.connection.cursors
    await rig.move()
    for text in numbered("meanwhile", 4):
        await rig.client("alice").send_message(room, text)
    await bob.connection.resume()
    back = await rig.attach(await rig.client_of("bob"), cursors=cursors)
    assert seqs(await bob.messages(room, 7)) == list(range(1, 8))
    assert seqs(await back.messages(room, 4)) == list(range(4, 8))
    for inbox in (bob, back):
        assert [event for event in inbox.events if event["type"] == "sync.reset"] == []


async def test_stream_outlasts_a_move(rig: MovingRig) -> None:
    room, written = await rig.group("alice", "bob"), await rig.group("carol", "bob")
    alice, bob = await rig.connect("alice"), await rig.connect("bob")
    streams = [Stream(alice.connection, room), Stream(rig.client("carol"), written)]
    growing = [await follow(bob, room), await follow(bob, written)]
    text = ""
    for piece in ("before ", "away "):
        text += piece
        for stream, followed in zip(streams, growing, strict=True):
            stream.source.put(piece)
            await grown_to(followed, text)
        text += "during "
        moving = asyncio.create_task(rig.move())
        for stream in streams:
            stream.source.put("during ")
        await moving
    text += "after"
    for stream, followed in zip(streams, growing, strict=True):
        stream.source.put("after", None)
        assert show(await stream.done()) == (text, "done")
        async with asyncio.timeout(PATIENCE_S):
            assert show(await followed.finished()) == (text, "done")


async def test_user_token_outlasts_a_move(rig: MovingRig) -> None:
    room = await rig.group("alice", "bob")
    tokens = [(await rig.client("alice").create_token())["token"] for _ in range(2)]
    connected, waiting = [await rig.token_client(token) for token in tokens]
    alice = await rig.attach(connected)
    await rig.move()
    assert (await alice.connection.send(room, "over the connection"))["seq"] == 1
    assert (await waiting.send_message(room, "over REST"))["seq"] == 2
    inbox = await rig.attach(waiting)
    assert (await inbox.connection.send(room, "over another connection"))["seq"] == 3
    assert seqs(await alice.messages(room, 3)) == [1, 2, 3]


# Where a server is named that may not be called, or has no tenant either


@pytest.fixture
def proxy(process: ServerProcess) -> Iterator[Proxy]:
    with Proxy(process.port) as proxy:
        yield proxy


def moved(url: object) -> str:
    error = {"code": "TENANT_MOVED", "message": "moved", "details": {"url": url}}
    body = dumps({"success": False, "data": None, "error": error}).decode()
    head = f"HTTP/1.1 421 Misdirected Request\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n{body}"


def is_move(error: object) -> bool:
    return isinstance(error, ApiError) and (error.raw_code, error.status) == ("TENANT_MOVED", 421)


async def come_back(inbox: Inbox) -> object:
    """Opens the connection once more. Returns the error with which it ends."""
    await inbox.connection.pause()
    await inbox.connection.resume()
    await inbox.until("ended")
    assert inbox.connection.error is inbox.error
    return inbox.error


async def test_wrong_addresses_are_not_followed(rig: MovingRig, proxy: Proxy, way: str) -> None:
    for case in ADDRESSES:
        http = Http(case["from"], timeout_s=1, retries=0)
        assert http.move_to(case["url"]) == (case["goes_on_at"] is not None), case["about"]
        assert http.base == (case["goes_on_at"] or case["from"]), case["about"]
    rig.url = proxy.url
    alice = await rig.client_of("alice")
    inbox = await rig.attach(alice)
    for url in [case["url"] for case in ADDRESSES if case["goes_on_at"] is None and case["from"].startswith("http:")]:
        proxy.answer("GET", "/v1/rooms", [moved(url)])
        with pytest.raises(ApiError) as raised:
            await alice.list_rooms()
        assert is_move(raised.value)
        assert (raised.value.details, alice.url, proxy.left) == ({"url": url}, proxy.url, 0)
        await alice.list_rooms()
    proxy.answer(*OPENS[way], [moved("ftp://two.example")])
    assert is_move(await come_back(inbox))
    assert proxy.left == 0


async def test_servers_that_name_each_other_are_given_up(rig: MovingRig, proxy: Proxy, way: str) -> None:
    rig.url = proxy.url
    alice = await rig.client_of("alice")
    inbox = await rig.attach(alice)

    async def call() -> object:
        with pytest.raises(ApiError) as raised:
            await alice.get_room("room_a")
        return raised.value

    for (method, path), ask in ((("GET", "/v1/rooms/"), call), (OPENS[way], lambda: come_back(inbox))):
        proxy.answer(method, f"^{path}", [moved(f"{proxy.url}/b")] * 20)
        proxy.answer(method, f"^/b{path}", [moved(proxy.url)] * 20)
        before = proxy.left
        assert is_move(await ask())
        assert before - proxy.left == MAX_HOPS + 1
