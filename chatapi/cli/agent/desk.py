"""One room: the questions that wait there, and up to where everything is done."""

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """A message that wants an answer, without its text: a thousand may wait."""

    room_id: str
    message_id: str
    seq: int
    thread_id: str | None
    created_at: str


class Desk:
    """Questions are answered one after the other, in the order of the room."""

    def __init__(self, room_id: str, *, is_dm: bool) -> None:
        self.room_id = room_id
        self.is_dm = is_dm
        self.acked_seq = 0
        self._seen_seq = 0
        self._waiting: dict[str, Question] = {}  # by message, in their order
        self._changed = asyncio.Event()

    @property
    def done_seq(self) -> int:
        """Everything up to here is answered, or needs no answer."""
        first = next(iter(self._waiting.values()), None)
        return self._seen_seq if first is None else first.seq - 1

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def see(self, seq: int) -> None:
        self._seen_seq = seq

    def put(self, question: Question) -> None:
        self._waiting[question.message_id] = question
        self._changed.set()

    async def first(self) -> Question:
        """The question that has waited longest, once there is one. It stays until `remove`."""
        while not self._waiting:
            self._changed.clear()
            await self._changed.wait()
        return next(iter(self._waiting.values()))

    def remove(self, message_id: str) -> None:
        """It is answered, or was deleted."""
        self._waiting.pop(message_id, None)

    def reset(self, seq: int) -> None:
        """The server has another log, in which everything up to `seq` is acknowledged."""
        self._waiting.clear()
        self._seen_seq = self.acked_seq = seq
