"""Agents in this process, and what tests of them share."""

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from driver import Server, Socket, User
from fake_endpoint import FakeEndpoint

from chatapi.cli.agent import add_arguments, agent, serve_rooms
from chatapi.cli.errors import CliError

ENDPOINT_KEY = "sk-of-the-tests-0123456789"


def list_arguments(
    server_url: str, endpoint: FakeEndpoint, *rooms: str, user: str = "agent", **options: object
) -> list[str]:
    """`max_age=0` stands for `--max-age 0`."""
    given = {"url": server_url, "base_url": endpoint.url, "model": "fake", "user": user, **options}
    arguments = [word for room in rooms for word in ("--room", room)]
    for name, value in given.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    return arguments


class Agents:
    """Starts agents, and ends them with the test."""

    def __init__(self, server: Server, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
        self._server = server
        self._endpoint = endpoint
        self._tasks: list[asyncio.Task[None]] = []
        for name in ("TYPING_S", "ACK_S", "RETRY_S"):
            monkeypatch.setattr(agent, name, 0.02)
        monkeypatch.setenv("CHATAPI_API_KEY", server.api_key)
        monkeypatch.setenv("OPENAI_API_KEY", ENDPOINT_KEY)

    def start(self, *rooms: str, **options: object) -> asyncio.Task[None]:
        """Cancelled, it ends as with SIGTERM."""
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        args = parser.parse_args(list_arguments(self._server.url, self._endpoint, *rooms, **options))
        task = asyncio.ensure_future(serve_rooms(args))
        self._tasks.append(task)
        return task

    async def stop(self) -> None:
        """Raises what an agent has raised, unless it is for the operator."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError, CliError):
                await task


@asynccontextmanager
async def open_agents(server: Server, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Agents]:
    agents = Agents(server, endpoint, monkeypatch)
    yield agents
    await agents.stop()


async def ask(user: User, room_id: str, content: str = "What is it?", **fields: object) -> dict[str, Any]:
    """The question, which mentions the agent."""
    return await user.say(room_id, content, mentions=["agent"], **fields)


async def answered(socket: Socket, question: dict[str, Any]) -> dict[str, Any]:
    """The end of the answer; other frames before it are passed over."""
    while True:
        event = await socket.next_of_any_type()
        if event["type"] == "message.finished" and event["reply_to"] == question["message_id"]:
            return event


async def until(socket: Socket, frame_type: str, **fields: object) -> dict[str, Any]:
    """The first frame of this type with these fields; others before it are passed over."""
    while (frame := await socket.next_of_any_type())["type"] != frame_type or not all(
        frame[name] == value for name, value in fields.items()
    ):
        pass
    return frame


def show(event: dict[str, Any]) -> tuple[str, str]:
    return event["content"], event["stream"]["state"]


def show_failure(event: dict[str, Any]) -> tuple[str, str]:
    """The text that stayed, and the reason."""
    assert event["stream"]["state"] == "failed"
    return event["content"], event["meta"]["error"]


async def acked_up_to(user: User, room_id: str, seq: int, agent_id: str = "agent") -> None:
    """Returns once the agent has acknowledged this event, or a later one."""
    while True:
        receipts = (await user.get(f"/rooms/{room_id}/receipts")).data["receipts"]
        if next(receipt["last_ack"] for receipt in receipts if receipt["user_id"] == agent_id) >= seq:
            return
        await asyncio.sleep(0.02)  # no event tells those who only read
