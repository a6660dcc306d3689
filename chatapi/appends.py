"""Appends to messages that are still being written.

An append is accepted at once, which its index decides, and confirmed once it is on disk. All appends that wait, of
whatever stream, share a commit, at most one every `JOIN_SECONDS`; then those who listen get what has been added to each
message (docs/design.md, section 4).
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec import UNSET

from chatapi.access import Access, check_alive, check_may_edit
from chatapi.clock import Clock
from chatapi.errors import ChatError, forbidden, invalid, not_found
from chatapi.log_lines import Seldom
from chatapi.models import Principal, UserId
from chatapi.open_streams import AppendResult, Confirm, OpenStream, refuse
from chatapi.protocol.answers import Message
from chatapi.room import RoomState
from chatapi.rooms import Rooms
from chatapi.store import Change, Readers, Store, Transaction, log, streams

logger = logging.getLogger(__name__)

JOIN_SECONDS = 0.05  # between two commits of appends: those that come in between share the next one
MERGED_CHUNKS = 64  # 64 KiB in single bytes, each on its own, is then 1,024 rows at most, and not 65,536
COMMIT_CHARACTERS = 1_000_000  # of one commit: a longer one would keep messages waiting

Deliver = Callable[[RoomState, OpenStream, int, int, str], None]
"""Called with the appends that were committed: those after the one index, up to the other, and their text."""


@dataclass(slots=True)
class _Extension:
    """The appends of one stream that wait for their commit together: those after `after`, up to `index`."""

    stream: OpenStream
    room: RoomState
    after: int
    index: int
    text: str  # of all of them: decoded once, for the chunk and the delta
    error: ChatError | None = None


class Appends:
    """`deliver` is called with what has been added to a stream, once that is committed."""

    def __init__(self, store: Store, rooms: Rooms, access: Access, clock: Clock) -> None:
        self._store = store
        self._open = rooms.streams
        self._access = access
        self._clock = clock
        self._waiting: dict[OpenStream, RoomState] = {}  # those that have appends to commit
        self._timer: asyncio.TimerHandle | None = None
        self._committed_s = 0.0  # of the loop's clock: when appends were last committed
        self._is_committing = False
        self._is_urgent = False  # somebody waits for the end of a commit, and does not want to wait for the next one
        self._seldom = Seldom(logger)
        self.deliver: Deliver = _deliver_nothing

    async def append(self, principal: Principal, room_id: str, message_id: str, index: int, text: str) -> AppendResult:
        """Returns once the append is committed, and those before it."""
        future: asyncio.Future[AppendResult | ChatError] = asyncio.get_running_loop().create_future()
        await self.submit(principal, room_id, message_id, index, text, _resolver(future))
        return _unwrap(await future)

    async def submit(
        self, principal: Principal, room_id: str, message_id: str, index: int, text: str, confirm: Confirm
    ) -> None:
        """Takes an append. Once it is committed, or cannot be, `confirm` is called: perhaps before this returns.

        Raises ChatError, and never calls `confirm`, if the message would be too long, or the user may not append.
        """
        room = await self._access.access_member(principal, room_id)
        stream = self._open.find(room.room_key, message_id)
        if stream is None:
            raise await _explain(self._store.readers, room, principal.user_id, message_id)
        check_sender(stream.message, principal.user_id)
        check_may_edit(room, principal.user_id)
        data = _encode(text)
        misfit = _find_misfit(stream, index, data)
        if misfit is not None:
            # The refusal names an index that is stored: a writer keeps no text up to there.
            stream.wait(stream.accepted_index, lambda outcome: confirm(_refuse_after(outcome, misfit)))
            return
        if data and index > stream.accepted_index:
            max_bytes = principal.tenant.settings.max_message_bytes
            if stream.size_bytes + len(data) > max_bytes:
                raise invalid(f"The message would be longer than {max_bytes} bytes of UTF-8", "text")
            stream.accept(data)
            self._waiting[stream] = room
            self._schedule()
        stream.heard_at_s = self._clock.monotonic_s()
        stream.wait(index, confirm)

    def _schedule(self) -> None:
        """The next commit, when it is due: at once if somebody waits for all that was accepted so far."""
        if self._is_committing or not self._waiting:
            return
        if self._timer is not None:
            if not self._is_urgent:
                return
            self._timer.cancel()
        due_s = 0.0 if self._is_urgent else self._committed_s + JOIN_SECONDS
        self._timer = asyncio.get_running_loop().call_at(due_s, self._commit)

    def _commit(self) -> None:
        """Gives the writer all that waits."""
        self._timer = None
        self._is_urgent = False
        extensions, characters = self._take_waiting()
        if not extensions:
            return
        self._is_committing = True
        loop = asyncio.get_running_loop()
        self._committed_s = loop.time()
        future: asyncio.Future[None] = loop.create_future()
        future.add_done_callback(lambda done: self._note_committed(done, extensions))
        change = Change(
            lambda transaction: self._write(transaction, extensions),
            lambda _: self._publish(extensions),
            False,
            future,
            characters,
        )
        try:
            self._store.writer.submit(change)
        except ChatError as error:
            future.set_exception(error)

    def _take_waiting(self) -> tuple[list[_Extension], int]:
        """As much as one commit takes, at least one stream's; and how many characters that are."""
        extensions: list[_Extension] = []
        characters = 0
        while self._waiting and characters < COMMIT_CHARACTERS:
            stream = next(iter(self._waiting))  # the one that has waited for longest
            room = self._waiting.pop(stream)
            if stream.stored_index < stream.accepted_index:  # else it has ended meanwhile
                after, index = stream.stored_index, stream.accepted_index
                text = stream.get_text(after, index)
                extensions.append(_Extension(stream, room, after, index, text))
                characters += len(text)
        return extensions, characters

    async def _write(self, transaction: Transaction, extensions: Sequence[_Extension]) -> None:
        """In the writer's own turn. A stream may have ended, or its sender been muted, while the appends waited."""
        last_indexes = await streams.find_open(transaction, [extension.stream.key for extension in extensions])
        for extension in extensions:
            extension.error = await self._judge(transaction, extension, last_indexes.get(extension.stream.key))
        chunks = [_make_chunk(extension) for extension in extensions if extension.error is None]
        await streams.insert_chunks(transaction, chunks)

    async def _judge(self, transaction: Transaction, extension: _Extension, last_index: int | None) -> ChatError | None:
        stream, room = extension.stream, extension.room
        sender_id = UserId(stream.message.sender_id)
        try:
            check_alive(room)
            check_may_edit(room, sender_id)
        except ChatError as refusal:
            return refusal
        if last_index is None:
            return await _explain(transaction, room, sender_id, stream.message.message_id)
        assert last_index == extension.after  # one is committed at a time
        return None

    def _publish(self, extensions: Sequence[_Extension]) -> None:
        """The sender hears of it first, as of a message."""
        for extension in extensions:
            stream = extension.stream
            if extension.error is not None:
                self.fail(stream, extension.error)
                continue
            stream.count_chunk(extension.index, MERGED_CHUNKS)
            stream.note_stored(extension.index)
            self.deliver(extension.room, stream, extension.after, extension.index, extension.text)

    def _note_committed(self, future: asyncio.Future[None], extensions: Sequence[_Extension]) -> None:
        self._is_committing = False
        error = future.exception()
        if isinstance(error, ChatError):
            for extension in extensions:
                self.fail(extension.stream, error)
        self._schedule()

    def fail(self, stream: OpenStream, error: ChatError) -> None:
        """Also appends that came after those that could not be stored."""
        self._waiting.pop(stream, None)
        stream.fail(error)

    async def wait_for_all(self, stream: OpenStream) -> None:
        """Returns once all that was accepted so far is committed. Raises ChatError if it is not."""
        if stream.stored_index == stream.accepted_index:
            return
        future: asyncio.Future[AppendResult | ChatError] = asyncio.get_running_loop().create_future()
        stream.wait(stream.accepted_index, _resolver(future))
        self._is_urgent = True
        self._schedule()
        _unwrap(await future)

    async def close(self) -> None:
        """Commits what waits. Streams stay open."""
        for stream in list(self._waiting):
            try:
                await self.wait_for_all(stream)
            except ChatError as error:
                self._seldom.error("appends are not stored: %s", error.message)


def _make_chunk(extension: _Extension) -> streams.Chunk:
    """Each append of a slow writer is a chunk. Many chunks are stored again as one, once, so that a long message stays
    quick to read and to end."""
    stream, after, index, text = extension.stream, extension.after, extension.index, extension.text
    merged_after = stream.merged_index if stream.loose_chunks >= MERGED_CHUNKS - 1 else None
    if merged_after is not None:
        after, text = merged_after, stream.get_text(merged_after, index)
    return streams.Chunk(stream.key, index, text, stream.list_sizes(after, index), merged_after)


def _deliver_nothing(_room: RoomState, _stream: OpenStream, _after: int, _index: int, _text: str) -> None:
    return


def _find_misfit(stream: OpenStream, index: int, data: bytes) -> str | None:
    """Why the append neither is the next one nor repeats what was accepted; None if it fits."""
    last_index = stream.accepted_index
    if not data:
        return None if index == last_index else "An append without text repeats the last index"
    if index > last_index:
        return None if index == last_index + 1 else "There are appends missing before this one"
    is_repeated = index >= 1 and stream.get_append(index) == data
    return None if is_repeated else "The index was used for another text"


def _refuse_after(outcome: AppendResult | ChatError, misfit: str) -> ChatError:
    """The refusal of an append, after what became of the last one before it."""
    return outcome if isinstance(outcome, ChatError) else refuse(misfit, outcome.index, "open")


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise invalid("Must be valid Unicode", "text") from None


def check_sender(message: Message, user_id: UserId) -> None:
    """Raises ChatError for all others."""
    if message.sender_id != user_id:
        raise forbidden("Only the sender may write on")


async def _explain(source: Readers | Transaction, room: RoomState, user_id: UserId, message_id: str) -> ChatError:
    """Why nothing can be appended to a message that is not an open stream."""
    found = await log.find_message(source, room.tenant.tenant_key, room.room_key, room.room_id, message_id)
    if found is None or found.message.deleted_at is not None:
        return not_found("Message")
    try:
        check_sender(found.message, user_id)
        check_may_edit(room, user_id)
    except ChatError as refusal:
        return refusal
    return await refuse_ended(source, room, found)


async def refuse_ended(source: Readers | Transaction, room: RoomState, found: log.StoredMessage) -> ChatError:
    """The error of what only an open stream takes."""
    stream = found.message.stream
    if stream is UNSET:
        return refuse("The message is no stream", None, None)
    ending = await streams.find_ending(source, room.tenant.tenant_key, room.room_key, found.message_key)
    return refuse("The stream has ended", None if ending is None else ending.last_index, stream.state)


def _resolver(future: "asyncio.Future[AppendResult | ChatError]") -> Confirm:
    def confirm(outcome: AppendResult | ChatError) -> None:
        if not future.done():  # the request may have been cancelled
            future.set_result(outcome)

    return confirm


def _unwrap(outcome: AppendResult | ChatError) -> AppendResult:
    if isinstance(outcome, ChatError):
        raise outcome
    return outcome
