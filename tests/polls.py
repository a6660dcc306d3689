"""Long polls, as tests make them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from driver import Reply, Server, User, eventually

from chatapi.connection import ConnectionState, TransportKind

EMPTY_ANSWER = {
    "events": [],
    "rooms": {},
    "reset": {},
    "gaps": [],
    "notifications": [],
    "errors": {},
    "has_more": False,
}


def shown(answer: Any) -> list[tuple[str, int]]:
    return [(event["room_id"], event["seq"]) for event in answer["events"]]


async def sync(user: User, **body: object) -> Any:
    return (await user.post("/sync", body)).data


def polls_of(server: Server, user_id: str, state: ConnectionState | None = None) -> int:
    return sum(
        one.kind is TransportKind.LONG_POLL and state in (None, one.state) for one in server.connections_of(user_id)
    )


@contextlib.asynccontextmanager
async def waiting(server: Server, user: User, **body: object) -> AsyncIterator["asyncio.Task[Reply]"]:
    """A poll that waits by now."""
    before = polls_of(server, user.user_id, ConnectionState.LIVE)
    task = asyncio.ensure_future(user.post("/sync", {"wait": 60, **body}))
    await eventually(lambda: task.done() or polls_of(server, user.user_id, ConnectionState.LIVE) > before)
    yield task
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
