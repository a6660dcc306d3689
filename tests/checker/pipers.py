"""Devices that also write through pipes, which they break off at times, as kills of the server do."""

import asyncio
import codecs
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

from checker.authors import Author
from checker.clients import WORDS, World
from checker.journal import Attempt, Frame, Outcome, Pipe
from checker.wire import Reply, Unreachable

MAX_PIECES = 8
MAX_PIECE_SECONDS = 0.12  # between two of them
BREAKS = 0.25  # of the pipes
EXPECTED = (201, 400, 403, 404, 429, 503)  # statuses of a pipe
TAIL = b"data: [DONE]\n\n"
BROKEN_OFF = b""  # the stream of events ends without a reason
FAULT = b'data: {"error": {"message": "Overloaded"}}\n\n'
FINISHED = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
ENDS = ((TAIL, "done"), (FINISHED, "done"), (FINISHED + TAIL, "done"), (BROKEN_OFF, "failed"), (FAULT, "failed"))

Piece = tuple[bytes, str]
"""A part of a body, and the text that is complete with it."""


class Piper(Author):
    def __init__(self, world: World, user_id: str, number: int) -> None:
        super().__init__(world, user_id, number)
        self._piping: tuple[Pipe, Attempt] | None = None
        self._actions += [(8, self._pipe), (2, self._cancel_pipe)]

    def _take(self, frame: Frame) -> None:
        super()._take(frame)
        if self._piping is not None and frame["type"] == "message":
            pipe, attempt = self._piping
            if frame["client_message_id"] == pipe.client_message_id:
                pipe.message_id = attempt.message_id = frame["message_id"]

    # Actions

    async def _pipe(self) -> None:
        room_id = self._pick_room()
        if room_id is None:
            return
        attempt = self._write_message(room_id)
        self._unanswered.remove(attempt)  # it is not sent again, but asked for
        attempt.state, attempt.mentions, attempt.mention_room = "open", (), False
        attempt.content = ""
        pieces = [f"{attempt.client_message_id} {WORDS[0]}"]
        pieces += [
            f" {number}{'.' * self.random.randrange(60)}é" for number in range(self.random.randrange(MAX_PIECES))
        ]
        headers = {"X-Client-Message-Id": attempt.client_message_id or "", "Content-Type": "text/plain"}
        whole_state = "done"
        if self.random.random() < 0.5:
            body = self._cut("".join(pieces).encode())
        else:
            headers["Content-Type"] = "text/event-stream"
            end, whole_state = self.random.choice(ENDS)
            body = [*(make_event(piece) for piece in pieces), (end, "")]
        pipe = Pipe(room_id, attempt.client_message_id or "", whole_state)
        self.journal.pipes[pipe.client_message_id] = pipe
        self._piping = pipe, attempt
        try:
            reply = await self._write_pipe(pipe, attempt, body, headers)
        except Unreachable:
            self.journal.settle(attempt, Outcome.UNKNOWN)
            if self.random.random() < 0.5:
                await self._ask_for(pipe, attempt)
            return
        finally:
            self._piping = None
        self._take_reply(pipe, attempt, reply)

    def _cut(self, data: bytes) -> list[Piece]:
        """Anywhere, also within a code point."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        cuts = sorted({0, len(data), *(self.random.randrange(1, len(data)) for _ in range(MAX_PIECES))})
        parts = [data[start:end] for start, end in pairwise(cuts)]
        return [(part, decoder.decode(part)) for part in parts]

    async def _write_pipe(self, pipe: Pipe, attempt: Attempt, body: list[Piece], headers: dict[str, str]) -> Reply:
        """Raises Unreachable, also if it was broken off."""
        broken = asyncio.Event()
        break_at = self.random.randrange(len(body)) if self.random.random() < BREAKS else None

        async def write() -> AsyncIterator[bytes]:
            for number, (data, text) in enumerate(body):
                if number == break_at:
                    broken.set()
                    await asyncio.Event().wait()
                pipe.text += text
                pipe.is_whole = number == len(body) - 1
                yield data
                await asyncio.sleep(self.random.uniform(0, MAX_PIECE_SECONDS))

        query = "" if attempt.thread_id is None else f"?thread_id={attempt.thread_id}"
        path = f"/rooms/{pipe.room_id}/messages/stream{query}"
        asking = asyncio.create_task(self.world.wire.pipe(self.user_id, path, write(), headers))
        breaking = asyncio.create_task(broken.wait())
        await asyncio.wait([asking, breaking], return_when=asyncio.FIRST_COMPLETED)
        breaking.cancel()
        if not asking.done():
            self.journal.counts["pipes broken off"] += 1
            asking.cancel()
            await asyncio.wait([asking])
        if asking.cancelled():
            raise Unreachable
        return asking.result()

    def _take_reply(self, pipe: Pipe, attempt: Attempt, reply: Reply) -> None:
        self.journal.counts[f"pipes answered {reply.status}"] += 1
        message_id = (reply.details or {}).get("message_id")
        if reply.status == 201:
            self._take_end(pipe, attempt, reply.data)
        elif message_id is not None:  # of a message that has failed
            pipe.message_id = attempt.message_id = message_id
            self.journal.settle(attempt, Outcome.UNKNOWN)
            if reply.status == 400 and not (pipe.is_whole and pipe.whole_state == "failed"):
                self.journal.fault(f"{self.name}: {pipe} was answered {reply}")
        else:
            self.journal.settle(attempt, Outcome.UNKNOWN if reply.status == 503 else Outcome.REFUSED)
        if reply.status not in EXPECTED or (reply.status == 400 and message_id is None):
            self.journal.fault(f"{self.name}: {pipe} was answered {reply}")

    def _take_end(self, pipe: Pipe, attempt: Attempt, message: Any) -> None:
        pipe.answer, pipe.message_id = message, message["message_id"]
        self.journal.settle(attempt, Outcome.CONFIRMED, message_id=message["message_id"], seq=message["seq"])
        self._sent.append(attempt)
        state = message["stream"]["state"]
        self.journal.counts[f"pipes {state}"] += 1
        is_right = pipe.is_cancel_asked if state == "cancelled" else pipe.is_whole and state == pipe.whole_state
        if not is_right or (state != "cancelled" and message["content"] != pipe.text):
            self.journal.fault(f"{self.name}: {pipe} was answered {message}")

    async def _ask_for(self, pipe: Pipe, attempt: Attempt) -> None:
        """By a draft of the same name, which opens an empty message if there is none."""
        reply = await self._call("POST", f"/rooms/{pipe.room_id}/messages", attempt.draft)
        self.journal.counts[f"pipes asked for, answered {reply.status}"] += 1
        if reply.status in (200, 201):
            fields = {"message_id": reply.data["message_id"], "seq": reply.data["seq"]}
            self.journal.settle(attempt, Outcome.CONFIRMED, **fields)
            pipe.message_id = fields["message_id"]
            if not pipe.text.startswith(reply.data["content"] or ""):
                self.journal.fault(f"{self.name}: {pipe} is {reply.data}")
        elif reply.status == 409:
            self.journal.fault(f"{self.name}: {pipe} met a message with another body: {reply}")

    async def _cancel_pipe(self) -> None:
        """Anybody's, if one is being written."""
        piping = [pipe for pipe in list(self.journal.pipes.values())[-10:] if pipe.message_id and not pipe.answer]
        if not piping:
            return
        pipe = self.random.choice(piping)
        pipe.is_cancel_asked = True
        reply = await self._call("POST", f"/rooms/{pipe.room_id}/messages/{pipe.message_id}/cancel")
        self.journal.counts[f"cancels of pipes answered {reply.status}"] += 1


def make_event(text: str) -> Piece:
    """As OpenAI has it, with what others add to it."""
    data = json.dumps({"choices": [{"index": 0, "delta": {"content": text}}, {"index": 1, "delta": {"content": "!"}}]})
    return f": a comment\ndata: {data}\n\n".encode(), text
