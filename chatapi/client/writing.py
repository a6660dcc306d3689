"""Writes a message in pieces, as an application makes them, until the server has all of it."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from chatapi.client.errors import ApiError, Closed, StreamFailed
from chatapi.client.records import AppendAnswer, Json, Message, StreamStatus
from chatapi.protocol.stream_requests import MAX_APPEND_BYTES

SIGN_OF_LIFE_S = 5.0  # without text; the server gives a stream up after 60 s, if it is not set otherwise
MAX_WAITING = 64 * 1024  # characters that the server does not have yet: beyond it the source is not asked for more
MAX_REASON_CHARACTERS = 1_000  # of a failure: `meta` has 16 KiB
FAREWELL_S = 5.0  # for telling the server of an end, once the application has been cancelled


@dataclass(frozen=True)
class StreamTransport:
    """How one stream's requests reach the server. Each is tried until the server has done or refused it."""

    open: Callable[[], Awaitable[Json]]  # returns at least `message_id` and `stream`
    append: Callable[[str, int, str], Awaitable[AppendAnswer]]
    finish: Callable[[str, Json], Awaitable[Message]]


class StreamWriter:
    """One stream. Appends are made of the text that has come while the one before was on its way."""

    def __init__(self, transport: StreamTransport, chunks: AsyncIterable[str], meta: Json | None) -> None:
        """`meta` is what it is opened with."""
        self._transport = transport
        self._chunks = chunks
        self._meta = meta
        self._waiting = ""
        self._changed = asyncio.Event()
        self._has_space = asyncio.Event()
        self._is_cancelled = False
        self._is_cut_off = False
        self._was_stopped = False  # for that, before the source has ended by itself
        self._message_id = ""
        self._base = 0  # the index when it was opened, or opened again
        self._texts: list[str] = []  # of the appends after it

    @property
    def message_id(self) -> str:
        return self._message_id

    def cancel(self) -> None:
        """Somebody wants it to end."""
        self._is_cancelled = True
        self._changed.set()

    def cut_off(self) -> None:
        """The transport is closed: its next answer says so."""
        self._is_cut_off = True
        self._changed.set()

    async def run(self, opened: Callable[[], None]) -> Message:
        """The message, once it has ended: `done`, or `cancelled` if somebody asked for that. `opened` is called when
        the message is there.

        Raises ApiError when the server refuses, and what the source raises: then the stream has failed. A task that is
        cancelled, and a connection that is closed, leave the stream `cancelled`.
        """
        try:
            sent = await self._transport.open()
        except BaseException:
            await close_source(self._chunks)
            raise
        self._message_id = sent["message_id"]
        stream = cast(StreamStatus, sent.get("stream", {"state": "cancelled"}))  # one that was deleted has none
        if stream["state"] != "open":
            await close_source(self._chunks)
            return await self._finish(stream["state"], index=None)  # as it has ended before, or 404 if it was deleted
        self._base = stream.get("index", 0)
        self._is_cancelled |= stream.get("cancel_requested", False)
        opened()
        source = asyncio.create_task(self._pull(), name="chatapi stream")
        try:
            await self._write(source)
            return await self._finish("cancelled" if self._was_stopped else "done", index=self._last_index)
        except BaseException as error:
            await self._give_up(source, self._describe_end(error))
            raise

    async def _pull(self) -> None:
        """The source's own task, also for its end: many cannot be asked from several."""
        try:
            async for chunk in self._chunks:
                self._waiting += chunk
                self._changed.set()
                if len(self._waiting) >= MAX_WAITING:
                    self._has_space.clear()
                    await self._has_space.wait()
        finally:
            self._changed.set()
            await close_source(self._chunks)

    async def _write(self, source: asyncio.Task[None]) -> None:
        while True:
            if self._is_cancelled and not source.done():
                self._was_stopped = True
                await _end(source)
            if self._waiting:
                await self._append(self._take())
            elif source.done():
                if not self._was_stopped:
                    source.result()  # which raises what the source has raised
                return
            else:
                await self._wait()

    def _take(self) -> str:
        text = self._waiting.encode()[:MAX_APPEND_BYTES].decode(errors="ignore")  # whole code points
        self._waiting = self._waiting[len(text) :]
        self._has_space.set()
        return text

    async def _wait(self) -> None:
        """For text, or the end. A source that takes its time is alive all the same."""
        self._changed.clear()
        try:
            async with asyncio.timeout(0.0 if self._is_cut_off else SIGN_OF_LIFE_S):
                await self._changed.wait()
        except TimeoutError:
            await self._tell(self._last_index, "")

    @property
    def _last_index(self) -> int:
        return self._base + len(self._texts)

    async def _append(self, text: str) -> None:
        self._texts.append(text)
        index = self._last_index
        while index <= self._last_index:
            try:
                await self._tell(index, self._texts[index - self._base - 1])
                index += 1
            except ApiError as error:
                index = self._find_next(error, index)

    def _find_next(self, error: ApiError, index: int) -> int:
        """Where to go on: a server that was set back may lack appends that it had confirmed."""
        details = error.details or {}
        stored = details.get("index")
        is_behind = isinstance(stored, int) and self._base <= stored < index - 1
        if error.status != 409 or details.get("state") != "open" or not is_behind:
            raise error
        return cast(int, stored) + 1

    async def _tell(self, index: int, text: str) -> None:
        answer = await self._transport.append(self._message_id, index, text)
        if answer.get("cancel_requested"):
            self._is_cancelled = True

    async def _finish(self, state: str, *, index: int | None) -> Message:
        fields: Json = {"state": state} if index is None else {"state": state, "index": index}
        return await self._transport.finish(self._message_id, fields)

    def _describe_end(self, error: BaseException) -> Json:
        if isinstance(error, asyncio.CancelledError | Closed):
            return {"state": "cancelled"}
        if isinstance(error, StreamFailed):
            reason = error.reason[:MAX_REASON_CHARACTERS].encode(errors="replace").decode().replace("\0", "?")
            return {"state": "failed", "meta": {**(self._meta or {}), "error": reason}}
        return {"state": "failed"}

    async def _give_up(self, source: asyncio.Task[None], end: Json) -> None:
        """Within a moment: a stream that hears nothing more fails by itself."""
        await _end(source)
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._say_end(end)
        except (ApiError, OSError):
            pass  # it has ended already, or nobody can be told; why is being raised

    async def _say_end(self, end: Json) -> None:
        try:
            await self._transport.finish(self._message_id, end)
        except ApiError as error:
            if error.status != 400 or "meta" not in end:
                raise
            await self._transport.finish(self._message_id, {"state": end["state"]})  # with the reason it is too long


async def close_source(chunks: Any) -> None:
    """Ends what makes the text: a generator, or the answer of a client for language models."""
    close = getattr(chunks, "aclose", None) or getattr(chunks, "close", None)
    if close is not None:
        closing = close()
        if closing is not None:
            await closing


async def _end(source: asyncio.Task[None]) -> None:
    source.cancel()
    await asyncio.wait([source])
    if not source.cancelled():
        source.exception()  # seen
