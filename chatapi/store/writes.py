"""The writes that the writer is given."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from chatapi.errors import ChatError
from chatapi.models import OptionalFields
from chatapi.protocol.answers import Message
from chatapi.protocol.json import dumps_text
from chatapi.store.transaction import Row, Transaction

if TYPE_CHECKING:
    from chatapi.room import RoomState

T = TypeVar("T")


class MessageWrite:
    """One message on its way to disk, from any transport; `confirm` is called by the committer with the outcome.

    After the commit `message_key`, `seq` and `created_at_us` are set. For a `client_message_id` that was seen before,
    `stored` is the first one's row instead, or `repeats` the first one when that came in the same batch. `error` says
    that nothing was stored. `refusal` was found before: the message may not be stored, unless it repeats one.
    """

    __slots__ = (
        "body_digest",
        "characters",
        "client_message_id",
        "confirm",
        "content",
        "counter",
        "created_at_us",
        "error",
        "mentioned",
        "message",
        "message_key",
        "meta_text",
        "optional",
        "refusal",
        "repeats",
        "reply_to",
        "room",
        "root_seq",
        "sender_id",
        "seq",
        "stored",
        "told_at_us",
    )

    def __init__(
        self,
        *,
        room: "RoomState",
        sender_id: str,
        content: str,
        meta: dict[str, object] | None,
        reply_to: str | None,
        client_message_id: str | None,
        body_digest: int | None,
        confirm: Callable[["MessageWrite"], None],
        optional: OptionalFields | None = None,
        mentioned: Sequence[str] = (),
        refusal: ChatError | None = None,
        root_seq: int = 0,
    ) -> None:
        self.room = room
        self.counter = room.counter  # all that the writer knows of the room
        self.sender_id = sender_id
        self.content = content
        self.meta_text = None if meta is None else dumps_text(meta)
        self.characters = len(content) if self.meta_text is None else len(content) + len(self.meta_text)
        self.reply_to = reply_to
        self.client_message_id = client_message_id
        self.body_digest = body_digest
        self.optional = optional
        self.mentioned = mentioned  # as the sender wrote them
        self.refusal = refusal
        self.root_seq = root_seq  # of a reply
        self.confirm = confirm
        self.message_key = 0
        self.seq = 0
        self.created_at_us = 0
        self.told_at_us: int | None = None  # when to tell the tenant's backend, if it wants that; set by the committer
        self.stored: Row | None = None
        self.repeats: MessageWrite | None = None
        self.error: ChatError | None = None
        self.message: Message | None = None  # set by the committer

    @property
    def identity(self) -> tuple[int, str, str | None]:
        """The unique key of a message: the room, the sender and the client's own id."""
        return self.counter.room_key, self.sender_id, self.client_message_id


class Change(Generic[T]):
    """Any other write. `apply` may refuse by raising ChatError, before its first statement that writes.

    A barrier ends its batch, and is published before anything else is taken, since later writes may
    be refused because of it. `characters` is the size of what it writes, as far as a client chose that.
    """

    __slots__ = ("apply", "barrier", "characters", "error", "future", "publish", "result", "stored_us")

    def __init__(
        self,
        apply: Callable[[Transaction], Awaitable[T]],
        publish: Callable[[T], None] | None,
        barrier: bool,
        future: asyncio.Future[T],
        characters: int = 0,
    ) -> None:
        self.apply = apply
        self.publish = publish
        self.barrier = barrier
        self.characters = characters
        self.future = future
        self.result: T | None = None
        self.error: ChatError | None = None
        self.stored_us = 0  # the time of the transaction, in microseconds since the Unix epoch

    def finish(self) -> None:
        """Publishes what was committed and wakes the request, or tells it why there was nothing."""
        if self.error is None and self.publish is not None:
            self.publish(self.result)  # type: ignore[arg-type]  # set by apply
        if self.future.done():  # the request was cancelled
            return
        if self.error is None:
            self.future.set_result(self.result)  # type: ignore[arg-type]
        else:
            self.future.set_exception(self.error)


Write = MessageWrite | Change[Any]
Statement = tuple[str, Mapping[str, object]]


def resolve(batch: Sequence[Write]) -> None:
    """Tells each write what became of it, without the committer."""
    for write in batch:
        if isinstance(write, Change):
            write.finish()
        else:
            write.confirm(write)


class AnyCommitter(Protocol):
    """The type of the committer that `Writer.run` is given; see `chatapi.committer`."""

    def check_sender(self, write: MessageWrite) -> None:
        """Raises ChatError when the message may not be stored any more."""

    def judge(self, write: MessageWrite) -> None:
        """Raises ChatError when the message, which `check_sender` lets pass, may not be stored unless it repeats one
        that is."""

    def list_counted(self, messages: Sequence[MessageWrite]) -> Sequence[MessageWrite]:
        """Those that count when `judge` looks at others, unless they repeat one that is stored: that has to be known
        before."""
        ...

    def list_statements(self, messages: Sequence[MessageWrite]) -> Sequence[Statement]:
        """Statements, with their parameters, to run in the transaction that is about to store these messages."""
        ...

    def publish(self, batch: Sequence[Write]) -> None:
        """Tells each write of the batch, which was committed or refused, what became of it."""
