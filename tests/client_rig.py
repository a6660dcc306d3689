"""What tests of the Python SDK share: a tenant of their own, its users' connections, and events to wait for."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from chatapi.client import AdminAPI, ApiError, ChatAPI, Connection, Event
from chatapi.client.operator_records import NewTenant

PATIENCE_S = 60.0  # restarts of the server and dozens of tries included, on a machine that does much else
POLL_S = 0.02

Handler = Callable[[Event], Awaitable[None]]

CASES = json.loads((Path(__file__).parent / "sdk_cases.json").read_text())["cases"]
TRANSPORTS = ("sse", "poll")  # beside WebSockets


def parametrize_way(metafunc: pytest.Metafunc, *others: str) -> None:
    """`way` of a case: to this server over WebSockets, over each other transport that the case holds over, and
    `others`."""
    name = metafunc.function.__name__.removeprefix("test_")
    [case] = [case for case in CASES if case["name"] == name] or [{}]
    held = [transport for transport in TRANSPORTS if transport in case.get("over", TRANSPORTS)]
    slow = [pytest.param(way, marks=pytest.mark.slow) for way in (*others, *held)]
    if "way" in metafunc.fixturenames:
        metafunc.parametrize("way", ["this server", *slow])


class Inbox:
    """Gathers what a connection hands over, in one loop over its events."""

    def __init__(self, connection: Connection, handler: Handler | None) -> None:
        self.connection = connection
        self.events: list[Any] = []
        self.error: ApiError | None = None
        self._handler = handler
        self._came = asyncio.Condition()

    async def run(self) -> None:
        try:
            async for event in self.connection:
                if self._handler is not None:
                    await self._handler(event)
                await self._note(event)
        except ApiError as error:
            self.error = error
            await self._note({"type": "ended"})

    async def _note(self, event: object) -> None:
        async with self._came:
            self.events.append(event)
            self._came.notify_all()

    async def until(self, event_type: str, count: int = 1, **fields: object) -> list[Any]:
        """The events of this type with these fields, past or future, as soon as there are `count` of them."""

        def found() -> list[Any]:
            return [
                event
                for event in self.events
                if event["type"] == event_type and all(event[name] == value for name, value in fields.items())
            ]

        try:
            async with asyncio.timeout(PATIENCE_S), self._came:
                await self._came.wait_for(lambda: len(found()) >= count)
        except TimeoutError:
            last = self.events[-5:]
            raise AssertionError(f"{len(found())} of {count} {event_type} came; the last events: {last}") from None
        return found()

    async def messages(self, room_id: str, count: int) -> list[Any]:
        return await self.until("message", count, room_id=room_id)


class Rig:
    """Clients and connections of one tenant, all closed at the end."""

    def __init__(self, url: str, tenant: NewTenant, stack: AsyncExitStack, tasks: asyncio.TaskGroup) -> None:
        self.url = url
        self.tenant_id = tenant["tenant_id"]
        self.api_key = api_key = tenant["api_key"]
        self.backend = ChatAPI(url, api_key=api_key, user_id="backend")
        self.options: dict[str, Any] = {}  # of its connections
        self._stack = stack
        self._tasks = tasks

    def client(self, user_id: str) -> ChatAPI:
        return self.backend.as_user(user_id)

    async def connect(self, user_id: str, handler: Handler | None = None, **options: Any) -> Inbox:
        return await self.attach(self.client(user_id), handler, **options)

    async def attach(self, client: ChatAPI, handler: Handler | None = None, **options: Any) -> Inbox:
        """Returns when the connection is up to date for the first time."""
        connection = client.connect(**{"min_delay_s": 0.05, "max_delay_s": 0.5, **self.options, **options})
        async with asyncio.timeout(PATIENCE_S):
            await self._stack.enter_async_context(connection)
        inbox = Inbox(connection, handler)
        self._tasks.create_task(inbox.run())
        await inbox.until("sync.complete")
        return inbox

    async def group(self, *members: str) -> str:
        """A room; the first member creates it."""
        return (await self.client(members[0]).create_room("group", list(members)))["room_id"]


R = TypeVar("R", bound=Rig)


@asynccontextmanager
async def make_rig(url: str, master_key: str, *, kind: type[R] = Rig, **config: object) -> AsyncIterator[R]:
    async with AdminAPI(url, master_key) as admin:
        tenant = await admin.create_tenant("sdk", {"rate_limit": 100_000, "user_rate_limit": 100_000, **config})
    async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
        rig = kind(url, tenant, stack, tasks)
        await stack.enter_async_context(rig.backend)
        yield rig


async def stored_messages(client: ChatAPI, room_id: str) -> list[Any]:
    """Everything in a room, over REST."""
    messages: list[Any] = []
    has_more = True
    while has_more:
        after_seq = messages[-1]["seq"] if messages else 0
        page = await client.list_messages(room_id, after_seq=after_seq, limit=100)
        messages += page["messages"]
        has_more = page["has_more"]
    return messages


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """What no event tells is asked for again and again."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - it is asked of a server
            await asyncio.sleep(POLL_S)


def numbered(prefix: str, count: int) -> list[str]:
    """`prefix 1` to `prefix n`."""
    return [f"{prefix} {number}" for number in range(1, count + 1)]


def contents(messages: list[Any]) -> list[Any]:
    return [message["content"] for message in messages]


def seqs(events: list[Any]) -> list[Any]:
    return [event["seq"] for event in events]


async def acknowledged(client: ChatAPI, room: str, user_id: str) -> int:
    receipts = (await client.list_receipts(room))["receipts"]
    return next(receipt["last_ack"] for receipt in receipts if receipt["user_id"] == user_id)


async def until_acknowledged(client: ChatAPI, room: str, user_id: str, seq: int) -> None:
    async def is_acknowledged() -> bool:
        return await acknowledged(client, room, user_id) == seq

    await eventually(is_acknowledged)
