"""Frames whose answers somebody waits for, and the order of messages to one room."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from chatapi.client.errors import ApiError, Closed


def new_id() -> str:
    """128 random bits, for a `request_id` or a `client_message_id`."""
    return secrets.token_hex(16)


class Pending:
    def __init__(self) -> None:
        self._waiting: dict[str, tuple[dict[str, Any], asyncio.Future[Any]]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, frame: dict[str, Any]) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[frame["request_id"]] = (frame, answer)
        return answer

    def remove(self, request_id: str) -> None:
        self._waiting.pop(request_id, None)

    def expects(self, request_id: object) -> bool:
        return isinstance(request_id, str) and request_id in self._waiting

    def frames(self) -> list[dict[str, Any]]:
        """In the order in which they were first sent."""
        return [frame for frame, _ in self._waiting.values()]

    def resolve(self, answer: dict[str, Any]) -> None:
        """Gives a frame to who waits for it, if anybody does."""
        request_id = answer.get("request_id")
        waiting = self._waiting.get(request_id) if isinstance(request_id, str) else None
        if waiting is not None and not waiting[1].done():
            waiting[1].set_result(answer)

    def refuse(self, request_id: object, error: ApiError) -> bool:
        """False when nobody waits."""
        waiting = self._waiting.get(request_id) if isinstance(request_id, str) else None
        if waiting is not None and not waiting[1].done():
            waiting[1].set_exception(error)
        return waiting is not None

    def end(self, error: BaseException | None) -> None:
        for frame, answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(error or Closed(client_message_id=frame.get("client_message_id")))


class RoomLocks:
    """One message, edit or deletion in a room at a time, in the order of the calls, so that a refusal does not change
    their order."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, room_id: str) -> AsyncIterator[None]:
        lock, users = self._locks.get(room_id, (None, 0))
        lock = lock or asyncio.Lock()
        self._locks[room_id] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            users = self._locks[room_id][1] - 1
            if users:
                self._locks[room_id] = (lock, users)
            else:
                del self._locks[room_id]
