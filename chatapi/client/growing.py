"""Messages that grow while they are read."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, cast

from chatapi.client.errors import ApiError, NoAnswer
from chatapi.client.records import Message
from chatapi.client.replay import apply_event

REMEMBERED_STREAMS = 1_000  # that have ended

ReadMessage = Callable[[str, str], Awaitable[Message]]
"""A message of a room, as it stands. Raises ApiError, NoAnswer."""
RunTask = Callable[[Coroutine[Any, Any, None]], bool]
"""Runs it as long as the socket lives. False if there is none."""


class GrowingMessage:
    """A message that may still be being written, kept up to date by its connection."""

    def __init__(self, message: Message) -> None:
        self._message = message
        self._changed = asyncio.Event()
        self._is_lost = False
        self._held: list[Mapping[str, Any]] | None = None  # deltas that came while it is being read again

    @property
    def message(self) -> Message:
        """The message as it now stands."""
        return self._message

    @property
    def is_open(self) -> bool:
        """Whether it is still being written, and the connection hears of it."""
        stream = self._message.get("stream")
        return not self._is_lost and stream is not None and stream["state"] == "open"

    async def text(self) -> AsyncIterator[str]:
        """The whole text so far, at once and each time that it has grown or was replaced; ends with the stream."""
        shown: str | None = None
        while True:
            changed, content = self._changed, self._message["content"] or ""
            if content != shown:
                shown = content
                yield content
            elif not self.is_open:
                return
            else:
                await changed.wait()

    async def finished(self) -> Message:
        """The message, once it has ended: `stream["state"]` says how. Also when the connection was closed, or has lost
        the room: then it is still `open`."""
        while self.is_open:
            await self._changed.wait()
        return self._message

    def _set(self, message: Message) -> None:
        if message is not self._message:
            self._message = message
            self._tell()

    def _lose(self) -> None:
        self._is_lost = True
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Growth:
    """The growing messages of a connection: those that the application follows, and how far each one has come."""

    def __init__(self, read: ReadMessage, run: RunTask) -> None:
        self._read = read
        self._run = run
        self._followed: dict[str, list[GrowingMessage]] = {}
        self._indexes: dict[str, int] = {}  # of the newest delta, by message
        self._ended: dict[str, None] = {}  # messages that may have been read before that, the newest last

    def follow(self, message: Message) -> GrowingMessage:
        """From now on it grows."""
        growing = GrowingMessage(message)
        if growing.is_open:
            message_id = message["message_id"]
            self._followed.setdefault(message_id, []).append(growing)
            if message_id in self._ended or self._indexes.get(message_id, 0) > message["stream"].get("index", 0):
                self._read_again(growing)
        return growing

    def receive(self, event: Mapping[str, Any]) -> None:
        kind = event["type"]
        if kind == "message.delta":
            self._indexes[event["message_id"]] = event["index"]
        elif kind == "message.state":
            state = event["message"]
            self._indexes[state["message_id"]] = state["stream"]["index"]
        elif kind in ("message.finished", "message.deleted"):
            self._remember_end(event["message_id"])
        elif kind == "ready":
            self._indexes.clear()
        elif kind == "room.deleted":
            self._lose(lambda message: message["room_id"] == event["room_id"])
        shown = event.get("message") if kind == "message.state" else event
        message_id = shown.get("message_id") if isinstance(shown, Mapping) else None
        if not isinstance(message_id, str):
            return
        for growing in self._followed.get(message_id, []):
            self._apply(growing, event)
        self._forget_ended(message_id)

    def lose_room(self, room_id: str) -> None:
        """The connection hears no more of it."""
        self._lose(lambda message: message["room_id"] == room_id)

    def end(self) -> None:
        """The connection is closed."""
        self._lose(lambda _message: True)

    def _remember_end(self, message_id: str) -> None:
        self._indexes.pop(message_id, None)
        self._ended[message_id] = None
        if len(self._ended) > REMEMBERED_STREAMS:
            del self._ended[next(iter(self._ended))]

    def _lose(self, is_lost: Callable[[Message], bool]) -> None:
        for message_id, followed in list(self._followed.items()):
            if is_lost(followed[0].message):
                del self._followed[message_id]
                for growing in followed:
                    growing._lose()

    def _apply(self, growing: GrowingMessage, event: Mapping[str, Any]) -> None:
        if event["type"] == "message.delta":
            if growing._held is not None:
                growing._held.append(event)
                return
            stream = growing.message.get("stream")
            if stream is not None and stream.get("index", 0) < event["index"] and stream.get("index") != event["after"]:
                self._read_again(growing)
                return
        growing._set(apply_event(growing.message, event))

    def _forget_ended(self, message_id: str) -> None:
        followed = [growing for growing in self._followed.get(message_id, ()) if growing.is_open]
        if followed:
            self._followed[message_id] = followed
        else:
            self._followed.pop(message_id, None)

    def _read_again(self, growing: GrowingMessage) -> None:
        work = self._refresh(growing)
        if self._run(work):
            growing._held = []
        else:
            work.close()  # the next socket brings its state

    async def _refresh(self, growing: GrowingMessage) -> None:
        try:
            message = await self._read(growing.message["room_id"], growing.message["message_id"])
        except (ApiError, NoAnswer):
            return  # the next delta asks again
        finally:
            held, growing._held = growing._held or [], None
        state = cast(Mapping[str, Any], {"type": "message.state", "message": message})
        growing._set(apply_event(growing.message, state))
        for event in held:
            growing._set(apply_event(growing.message, event))
        self._forget_ended(message["message_id"])
