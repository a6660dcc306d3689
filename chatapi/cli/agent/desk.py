"""One room: the questions that wait there, and up to where everything is done."""

import asyncio
from collections import deque
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
        self._waiting: deque[Question] = deque()
        self._changed = asyncio.Event()

    @property
    def done_seq(self) -> int:
        """Everything up to here is answered, or needs no answer."""
        return self._waiting[0].seq - 1 if self._waiting else self._seen_seq

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def see(self, seq: int) -> None:
        self._seen_seq = seq

    def put(self, question: Question) -> None:
        self._waiting.append(question)
        self._changed.set()

    async def first(self) -> Question:
        """The question that has waited longest, once there is one. It stays until `remove`."""
        while not self._waiting:
            self._changed.clear()
            await self._changed.wait()
        return self._waiting[0]

    def remove(self, question: Question) -> None:
        """It is answered, or wants no answer any more. Does nothing after a `reset`."""
        if self._waiting and self._waiting[0] is question:
            self._waiting.popleft()

    def reset(self, seq: int) -> None:
        """The server has another log, in which everything up to `seq` is acknowledged."""
        self._waiting.clear()
        self._seen_seq = self.acked_seq = seq
