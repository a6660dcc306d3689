"""Pipes: a body becomes a message while it arrives, as a stream that its own request opens, writes and ends.

Nothing is read from the body while an append waits for its commit, so that a fast client waits, too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from chatapi.access import Access, check_may_post
from chatapi.appends import Appends
from chatapi.chat import Chat
from chatapi.clock import Clock
from chatapi.errors import ChatError, Code, conflict, invalid
from chatapi.models import Principal, TenantKey
from chatapi.open_streams import OpenStream
from chatapi.protocol.answers import Message
from chatapi.protocol.piped_text import PipedText
from chatapi.protocol.requests import MessageDraft
from chatapi.protocol.stream_requests import MAX_APPEND_BYTES, EndState, StreamEnding
from chatapi.room import RoomState
from chatapi.rooms import Rooms
from chatapi.streams import Streams

FEED_BYTES = 4 * 1024  # looked at in one step of the loop: up to 10 ms, for the shortest of lines
END_SECONDS = 1.0  # for the pipes of a tenant to end that is about to move: each has one write to make
REST_SECONDS = 1.0  # for the body to end after its text has ended: an endpoint that has said `[DONE]` closes

Read = Callable[[], Awaitable[bytes]]
"""The next bytes of the body, none at its end. Raises ConnectionError once the client has gone, and ChatError."""


class Pipes:
    def __init__(
        self,
        rooms: Rooms,
        access: Access,
        chat: Chat,
        appends: Appends,
        streams: Streams,
        clock: Clock,
        idle_seconds: float,
    ) -> None:
        self._open = rooms.streams
        self._access = access
        self._chat = chat
        self.appends = appends
        self.streams = streams
        self.clock = clock
        self.idle_seconds = idle_seconds
        self._refusals: dict[TenantKey, ChatError] = {}  # of tenants that are about to move
        self._under_way: dict[TenantKey, set[_Writing]] = {}

    async def access_room(self, principal: Principal, room_id: str, client_message_id: str | None) -> RoomState:
        """The room. Raises ChatError if the user may not post there now; where there is a `client_message_id` only
        `write` does, since it may be known: then the answer is that, whatever holds now."""
        room = await self._access.access_member(principal, room_id)
        if client_message_id is None:
            check_may_post(room, principal.user_id)
        return room

    async def write(
        self, principal: Principal, room: RoomState, draft: MessageDraft, text: PipedText, read: Read
    ) -> Message:
        """The message, once it has ended. Raises ChatError, with `details.message_id` if there is a message; it has
        failed then. Without a first byte there is none. Raises ConnectionError if the client has gone."""
        try:
            async with self.clock.timeout(self.idle_seconds):
                data = await read()
        except TimeoutError:
            raise refuse_idle() from None
        if not data:
            raise invalid("The body is empty")
        with self._watch(principal.tenant.tenant_key) as writing:
            pipe = await self._open_pipe(principal, room, draft, text, read, writing)
            message = await pipe.run(data)
        await pipe.pass_over_rest()
        return message

    async def _open_pipe(
        self,
        principal: Principal,
        room: RoomState,
        draft: MessageDraft,
        text: PipedText,
        read: Read,
        writing: "_Writing",
    ) -> "_Pipe":
        if writing.refusal is not None:
            raise writing.refusal
        message, is_new = await self._chat.send_and_wait(principal, room.room_id, draft)
        if not is_new:
            raise conflict("client_message_id was used for another message", {"message_id": message.message_id})
        stream = self._open.find(room.room_key, message.message_id)
        if stream is None:
            raise conflict("The stream has ended", {"message_id": message.message_id})
        return _Pipe(self, principal, stream, text, read, writing)

    # A tenant that is about to move

    async def end_all(self, tenant_key: TenantKey, refusal: ChatError) -> None:
        """All pipes of the tenant fail with this error, while that can still be stored, and no new one is taken until
        `take_again`. On return they have ended, or their time is over."""
        self._refusals[tenant_key] = refusal
        under_way = self._under_way.get(tenant_key, set())
        for one in under_way:
            one.end(refusal)
        if under_way:
            await asyncio.wait([one.ended for one in under_way], timeout=END_SECONDS)

    def take_again(self, tenant_key: TenantKey) -> None:
        self._refusals.pop(tenant_key, None)

    @contextmanager
    def _watch(self, tenant_key: TenantKey) -> Iterator["_Writing"]:
        writing = _Writing(self._refusals.get(tenant_key))
        self._under_way.setdefault(tenant_key, set()).add(writing)
        try:
            yield writing
        finally:
            writing.ended.set_result(None)
            self._under_way[tenant_key].remove(writing)
            if not self._under_way[tenant_key]:
                del self._under_way[tenant_key]


class _Writing:
    """The work of a pipe, from its first byte to its end."""

    def __init__(self, refusal: ChatError | None) -> None:
        self.refusal = refusal  # why it may not go on
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.interrupt: Callable[[], None] = lambda: None

    def end(self, refusal: ChatError) -> None:
        self.refusal = refusal
        self.interrupt()


class _Pipe:
    def __init__(
        self, pipes: Pipes, principal: Principal, stream: OpenStream, text: PipedText, read: Read, writing: _Writing
    ) -> None:
        self._appends = pipes.appends
        self._streams = pipes.streams
        self._clock = pipes.clock
        self._idle_seconds = pipes.idle_seconds
        self._principal = principal
        self._stream = stream
        self._text = text
        self._read_body = read
        self._writing = writing
        self._room_id = stream.message.room_id
        self._message_id = stream.message.message_id
        self._index = 0
        self._size_bytes = 0
        self._reading: asyncio.Timeout | None = None

    async def run(self, data: bytes) -> Message:
        """`data` is the beginning of the body."""
        self._stream.watcher = self._writing.interrupt = self._interrupt
        try:
            state = await self._copy(data)
            return await self._finish(state)
        except ChatError as error:
            await self._fail()
            raise self._name_message(error) from None
        except ConnectionError:
            await self._fail()
            raise
        finally:
            self._stream.watcher = None

    async def _copy(self, data: bytes) -> EndState:
        """Appends what comes, and returns how the text has ended. Raises ChatError if it has failed."""
        while data:
            await self._append(await self._parse(data))
            data = b"" if self._is_over() else await self._read()
        if self._stream.cancel_requested:
            return "cancelled"
        if not self._is_over():
            await self._append(self._text.close())
        if self._text.error is not None:
            raise self._text.error
        return self._text.end

    def _is_over(self) -> bool:
        """Nothing that comes now counts."""
        return self._stream.cancel_requested or self._text.is_over or self._text.error is not None

    async def _parse(self, data: bytes) -> str:
        parts = []
        for start in range(0, len(data), FEED_BYTES):
            if start:
                await asyncio.sleep(0)  # for everything else
            parts.append(self._text.feed(data[start : start + FEED_BYTES]))
        return "".join(parts)

    async def _append(self, text: str) -> None:
        """Returns once it is committed. Bytes without text are a sign of life. Raises ChatError 413 when the message is
        full, after what fits."""
        data = text.encode()
        max_bytes = self._principal.tenant.settings.max_message_bytes
        fitting = _cut(data, max_bytes - self._size_bytes)
        start = 0
        while True:
            piece = fitting[start : start + len(_cut(fitting[start:], MAX_APPEND_BYTES))]
            start += len(piece)
            self._index += bool(piece)
            await self._appends.append(self._principal, self._room_id, self._message_id, self._index, piece.decode())
            self._size_bytes += len(piece)
            if start == len(fitting) or self._stream.cancel_requested:
                break
        if len(fitting) < len(data):
            message = f"The message would be longer than {max_bytes} bytes of UTF-8"
            raise ChatError(Code.VALIDATION_ERROR, message, status=413)

    async def _read(self) -> bytes:
        """The next bytes of the body; none at its end, or if somebody has asked for the stream's end. Raises ChatError
        if they are waited for no more."""
        try:
            async with self._clock.timeout(self._idle_seconds) as self._reading:
                if not self._is_stopped():
                    return await self._read_body()
        except TimeoutError:
            pass  # or it was interrupted
        finally:
            self._reading = None
        if self._stream.ended is not None:
            raise refuse_idle() if self._is_idle() else self._stream.ended
        if self._writing.refusal is not None:
            raise self._writing.refusal
        if not self._stream.cancel_requested:
            raise refuse_idle()
        return b""

    def _is_stopped(self) -> bool:
        return self._stream.ended is not None or self._stream.cancel_requested or self._writing.refusal is not None

    def _interrupt(self) -> None:
        """The stream has ended, or somebody has asked for its end, or the tenant is about to move."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.reschedule(asyncio.get_running_loop().time())

    def _is_idle(self) -> bool:
        """Whether the stream has ended because nothing came."""
        return self._clock.monotonic_s() - self._stream.heard_at_s >= self._idle_seconds

    async def _finish(self, state: EndState) -> Message:
        end = StreamEnding(state=state)
        return await self._streams.finish(self._principal, self._room_id, self._message_id, end)

    async def _fail(self) -> None:
        """If that is refused as well, nothing is appended any more, and the stream ends after its idle time."""
        if self._stream.ended is None:
            with suppress(ChatError):
                await self._finish("failed")

    async def pass_over_rest(self) -> None:
        """Of a body whose text has ended: nothing of it counts."""
        if not self._text.is_over:
            return
        with suppress(TimeoutError, ChatError, ConnectionError):
            async with asyncio.timeout(REST_SECONDS):
                while await self._read_body():
                    pass

    def _name_message(self, error: ChatError) -> ChatError:
        details = {**(error.details or {}), "message_id": self._message_id}
        return ChatError(
            error.code,
            error.message,
            field=error.field,
            status=error.status,
            details=details,
            retry_after_s=error.retry_after_s,
            headers=error.headers,
        )


def refuse_idle() -> ChatError:
    return ChatError(Code.VALIDATION_ERROR, "No byte of the body has come for too long", status=408)


def _cut(data: bytes, max_bytes: int) -> bytes:
    """The beginning that fits, to the end of a code point."""
    if len(data) <= max_bytes:
        return data
    end = max(max_bytes, 0)
    while end and data[end] & 0xC0 == 0x80:
        end -= 1
    return data[:end]
