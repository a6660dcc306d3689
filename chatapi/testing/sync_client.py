"""The Python SDK for tests without an event loop: the same calls, without `await`."""

import asyncio
import functools
import inspect
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from chatapi.client import ChatAPI, Connection
from chatapi.testing.incoming import Incoming

CALL_S = 60.0  # a restart of the server included
T = TypeVar("T")


class LoopThread:
    """An event loop in a thread of its own, beside any loop that a test may have."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chatapi.testing", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float = CALL_S) -> T:
        """Its result. Raises what it raises, and TimeoutError."""
        running = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return running.result(timeout_s)
        finally:
            running.cancel()  # which does nothing to one that is done

    def start(self, coroutine: Coroutine[Any, Any, None]) -> "Future[None]":
        """Leaves it running until it ends by itself."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


class SyncUser:
    """A user of a tenant: `chatapi.user("alice")`. It has every call of the SDK's `ChatAPI`, under the same name and
    with the same arguments, which returns when it is done: `alice.send_message(room_id, "Hello")`."""

    def __init__(self, client: ChatAPI, loop: LoopThread) -> None:
        self._client = client
        self._loop = loop
        self._inboxes: list[SyncInbox] = []

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        if not inspect.iscoroutinefunction(value):
            return value

        @functools.wraps(value)
        def call(*args: Any, **options: Any) -> Any:
            return self._loop.run(value(*args, **options))

        return call

    def connect(self, **options: Any) -> "SyncInbox":
        """A connection that is up to date, and gathers what it is told from then on. `options`: as the SDK has them."""
        inbox = SyncInbox(self._client, self._loop, options)
        self._inboxes.append(inbox)
        return inbox

    def close(self) -> None:
        """Its connections too. Done for you at the end of the test."""
        for inbox in self._inboxes:
            inbox.close()
        self._loop.run(self._client.close())


class SyncInbox(Incoming[dict[str, Any]]):
    """The events of a connection: `events`, and `wait_for("message", content="Hello")`. It reconnects by itself."""

    def __init__(self, client: ChatAPI, loop: LoopThread, options: dict[str, Any]) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []
        self._loop = loop
        self._connection: Connection = loop.run(self._open(client, options))
        self._gathering = loop.start(self._gather())
        self.wait_for("sync.complete", timeout_s=CALL_S)

    async def _open(self, client: ChatAPI, options: dict[str, Any]) -> Connection:
        return await client.connect(**options).open()

    async def _gather(self) -> None:
        async for event in self._connection:
            self.events.append(dict(event))

    def look(self) -> Sequence[dict[str, Any]]:
        return tuple(self.events)

    def check(self) -> None:
        """Raises ApiError if the server has ended the connection for good."""
        if self._gathering.done():
            self._gathering.result()

    def read_type(self, item: dict[str, Any]) -> str:
        return str(item["type"])

    def has(self, item: dict[str, Any], fields: dict[str, object]) -> bool:
        return all(name in item and item[name] == value for name, value in fields.items())

    def close(self) -> None:
        self._loop.run(self._connection.close())
