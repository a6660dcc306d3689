"""The user `echo` of `chatapi serve --dev`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from conftest import StartServer
from driver import eventually

from chatapi.cli.echo import HELLO, NOTHING, run_echo
from chatapi.client import ChatAPI, Connection
from chatapi.connection import ConnectionState

LONG = "word " * 2000


class Alice:
    """Her connection to a developer's server on which echo lives."""

    def __init__(self, client: ChatAPI, connection: Connection, echo: asyncio.Task[None]) -> None:
        self.client = client
        self.connection = connection
        self.echo = echo

    async def until(self, kind: str, **fields: object) -> Any:
        async for event in self.connection:
            if event["type"] == kind and fields.items() <= event.items():
                return event
        raise AssertionError("the connection has ended")

    async def hear(self) -> Any:
        """The next message of echo that has ended."""
        return await self.until("message.finished", sender_id="echo")

    async def meet(self, kind: str = "group") -> str:
        """A room with echo, who has said hello."""
        room = await self.client.create_room(kind, members=["echo"])
        assert (await self.hear())["content"] == HELLO
        return room["room_id"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatapi.cli.echo.WORDS_PER_S", 10_000)


@pytest.fixture
async def alice(start_server: StartServer) -> AsyncIterator[Alice]:
    server = await start_server(dev=True)
    key = server.app.services.tenants.dev_key
    echo = asyncio.create_task(run_echo(server.app.addresses[0], key))
    hub = server.app.services.hub
    await eventually(lambda: [one.state for one in hub.connections.values()] == [ConnectionState.LIVE])
    client = ChatAPI(server.app.addresses[0], api_key=key, user_id="alice")
    async with client, client.connect() as connection:
        yield Alice(client, connection, echo)
    echo.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await echo


async def test_echo_says_its_mentions_back(alice: Alice) -> None:
    room_id = await alice.meet()
    await alice.connection.send(room_id, "not for echo")
    asked = await alice.connection.send(room_id, "@echo, one  two\nthree", mentions=["echo"])
    said = await alice.hear()
    assert (said["content"], said["reply_to"]) == ("one  two\nthree", asked["message_id"])
    assert said["stream"] == {"state": "done"}
    await alice.connection.send(room_id, "@Echo", mentions=["echo"])
    assert (await alice.hear())["content"] == NOTHING


async def test_echo_answers_in_a_dm_without_a_mention_and_in_threads(alice: Alice) -> None:
    room_id = await alice.meet("dm")
    root = await alice.connection.send(room_id, "a question")
    assert (await alice.hear())["content"] == "a question"
    await alice.connection.send(room_id, "a reply", thread_id=root["message_id"])
    said = await alice.hear()
    assert (said["content"], said["thread_id"]) == ("a reply", root["message_id"])


async def test_echo_answers_neither_itself_nor_streams(alice: Alice) -> None:
    room_id = await alice.meet("dm")
    opened = {"content": "@echo from an agent", "mentions": ["echo"], "stream": True}
    await alice.client.call("POST", f"/rooms/{room_id}/messages", body=opened)
    await alice.client.as_user("echo").send_message(room_id, "in its own name")
    await alice.connection.send(room_id, "the last")
    assert (await alice.hear())["content"] == "the last"
    senders = [message["sender_id"] for message in (await alice.client.list_messages(room_id))["messages"]]
    assert senders == ["echo", "alice", "echo", "alice", "echo"]


async def test_echo_stops_when_it_is_asked_to(alice: Alice, monkeypatch: pytest.MonkeyPatch) -> None:
    room_id = await alice.meet("dm")
    monkeypatch.setattr("chatapi.cli.echo.WORDS_PER_S", 0.001)
    monkeypatch.setattr("chatapi.cli.echo.LONGEST_S", 1e6)
    await alice.connection.send(room_id, LONG)
    message_id = (await alice.until("message", sender_id="echo"))["message_id"]
    await alice.until("message.delta", message_id=message_id)
    await alice.connection.cancel(room_id, message_id)
    said = await alice.hear()
    assert (said["content"], said["stream"]) == ("word ", {"state": "cancelled"})


async def test_echo_ends_its_streams_when_the_server_stops(alice: Alice, monkeypatch: pytest.MonkeyPatch) -> None:
    room_id = await alice.meet("dm")
    monkeypatch.setattr("chatapi.cli.echo.WORDS_PER_S", 0.001)
    monkeypatch.setattr("chatapi.cli.echo.LONGEST_S", 1e6)
    await alice.connection.send(room_id, LONG)
    message_id = (await alice.until("message", sender_id="echo"))["message_id"]
    await alice.until("message.delta", message_id=message_id)
    alice.echo.cancel()
    assert (await alice.hear())["stream"] == {"state": "cancelled"}
    await asyncio.wait([alice.echo])
    assert alice.echo.cancelled()
