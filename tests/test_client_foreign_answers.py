"""The cases of sdk_cases.json in which something between the SDK and the server answers in its place."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from client_rig import Rig, contents, make_rig, numbered, seqs, stored_messages, until_acknowledged
from proxy import FOREIGN_ANSWERS, Proxy
from server_process import ServerProcess

from chatapi.client import ChatAPI, NoAnswer, NotChatAPI, outgoing
from chatapi.client import http as client_http


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server"), {"limits.sync_limit": "20"}) as process:
        yield process


@pytest.fixture
async def rig(process: ServerProcess) -> AsyncIterator[Rig]:
    async with make_rig(process.url, process.master_key) as rig:
        yield rig


@pytest.fixture
def proxy(process: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(client_http, "RETRY_CAP_S", 0.001)
    with Proxy(process.port) as proxy:
        yield proxy


@pytest.fixture
async def through(proxy: Proxy, rig: Rig) -> AsyncIterator[Callable[..., ChatAPI]]:
    """`through("bob", retries=0)`: a client of that user behind the proxy."""
    async with AsyncExitStack() as stack:

        def make(user_id: str, **options: Any) -> ChatAPI:
            client = ChatAPI(proxy.url, api_key=rig.api_key, user_id=user_id, **options)
            stack.push_async_callback(client.close)
            return client

        yield make


@pytest.mark.slow
async def test_foreign_answers_are_no_word_on_a_call(rig: Rig, proxy: Proxy, through: Callable[..., ChatAPI]) -> None:
    room = await rig.group("alice", "bob")
    message_id = (await rig.client("alice").send_message(room, "once", client_message_id="mine"))["message_id"]
    impatient, patient = through("alice", retries=0), through("alice", retries=len(FOREIGN_ANSWERS))
    calls: list[tuple[str, Callable[[ChatAPI], Any]]] = [
        ("GET", lambda client: client.list_events(room)),
        ("POST", lambda client: client.send_message(room, "once", client_message_id="mine")),
        ("PUT", lambda client: client.edit_message(room, message_id, "twice")),
        ("DELETE", lambda client: client.delete_message(room, message_id)),
    ]
    for method, call in calls:
        answers = {name: raw for name, raw in FOREIGN_ANSWERS.items() if (method, name) != ("DELETE", "empty_204")}
        for answer in answers.values():
            proxy.answer(method, "/v1/rooms/", [answer])
            with pytest.raises(NoAnswer):
                await call(impatient)
        proxy.answer(method, "/v1/rooms/", list(answers.values()))
        await call(patient)
        assert proxy.left == 0
    for answer in FOREIGN_ANSWERS.values():
        proxy.answer("POST", "/v1/rooms", [answer])
        with pytest.raises(NoAnswer):
            await patient.create_room("group")
    assert contents(await stored_messages(rig.client("alice"), room)) == [None]
    assert [one["room_id"] for one in (await rig.client("alice").list_rooms())["rooms"]] == [room]


@pytest.mark.slow
async def test_foreign_answers_lose_no_room(rig: Rig, proxy: Proxy, through: Callable[..., ChatAPI]) -> None:
    room = await rig.group("alice", "bob")
    alice, bob = rig.client("alice"), await rig.attach(through("bob", retries=0), max_delay_s=0.05)
    for text in numbered("seen", 5):
        await alice.send_message(room, text)
    await bob.messages(room, 5)
    await bob.connection.pause()
    async with asyncio.TaskGroup() as sending:
        for text in numbered("missed", 150):
            sending.create_task(alice.send_message(room, text))
    bob.events.clear()
    proxy.answer("GET", "/events", list(FOREIGN_ANSWERS.values()))
    await bob.connection.resume()
    await bob.until("sync.complete")
    assert proxy.left == 0
    came = [event for event in bob.events if event["type"] in ("message", "sync.complete")]
    assert seqs(came[:-1]) == list(range(6, 156))
    assert came[-1]["type"] == "sync.complete"
    await until_acknowledged(alice, room, "bob", 155)
    await alice.send_message(room, "and on")
    assert (await bob.messages(room, 151))[-1]["content"] == "and on"
    await until_acknowledged(alice, room, "bob", 156)
    await bob.connection.close()


@pytest.mark.slow
async def test_foreign_answers_end_no_connection(rig: Rig, proxy: Proxy, through: Callable[..., ChatAPI]) -> None:
    room = await rig.group("alice", "bob")
    told: list[Exception] = []
    bob = await rig.attach(through("bob"), max_delay_s=0.05, on_error=told.append, transports=["websocket"])
    await bob.connection.pause()
    await rig.client("alice").send_message(room, "meanwhile")
    proxy.answer("GET", "/ws", list(FOREIGN_ANSWERS.values()))
    await bob.connection.resume()
    assert contents(await bob.messages(room, 1)) == ["meanwhile"]
    assert proxy.left == 0
    assert {type(error) for error in told} == {NotChatAPI}
    assert bob.connection.error is None
    await bob.connection.close()


@pytest.mark.slow
async def test_a_send_outlasts_foreign_answers(
    rig: Rig, proxy: Proxy, through: Callable[..., ChatAPI], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "RETRY_CAP_S", 0.01)
    room = await rig.group("alice", "bob")
    alice = await rig.attach(through("alice", retries=0))
    bob = await rig.connect("bob")
    long = '"' * 65_536
    error = '{"success":false,"data":null,"error":{"code":"INTERNAL_ERROR","message":"The disk is full"}}'
    full = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(error)}\r\n\r\n{error}"
    proxy.answer("POST", "/messages", [*FOREIGN_ANSWERS.values(), full])
    proxy.answer("PUT", "/messages", [FOREIGN_ANSWERS["html_502"], full])
    async with asyncio.TaskGroup() as tasks:
        sends = [tasks.create_task(alice.connection.send(room, text)) for text in ("first", long, "third")]
        message_id = (await bob.messages(room, 2))[1]["message_id"]
        edited = tasks.create_task(alice.connection.edit(room, message_id, f"{long[1:]}!"))
        deleted = tasks.create_task(alice.connection.delete(room, message_id))
        last = tasks.create_task(alice.connection.send(room, "last"))
    assert [send.result()["seq"] for send in sends] == [1, 2, 3]
    assert edited.result()["content"] == f"{long[1:]}!"
    assert (deleted.result()["seq"], last.result()["seq"]) == (5, 6)
    assert proxy.left == 0
    assert contents(await stored_messages(rig.client("alice"), room)) == ["first", None, "third", "last"]
    await alice.connection.close()
