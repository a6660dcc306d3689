"""A language model as a user of rooms: it answers the messages that mention it, and in a dm all of them.

It acknowledges a message once that is answered or needs no answer, and the `client_message_id` of an answer is made of
the question's id. So after a restart it goes on where it stopped, and answers nothing twice.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from chatapi.cli.agent.context import Prompt, read_prompt
from chatapi.cli.agent.desk import Desk, Question
from chatapi.cli.agent.endpoint import Endpoint, EndpointFailed
from chatapi.client import ApiError, ChatAPI, Connection, Event, NoAnswer, is_log_event

logger = logging.getLogger(__name__)

RETRY_S = 1.0  # while the server cannot be reached
TYPING_S = 1.0  # how often to say so; the connection passes on what is needed
ACK_S = 0.5  # between two acknowledgements of a busy room
TRIES = 3  # answers to one question, each of which an agent that was killed has left for the server to fail
MAX_WAITING = 10_000  # questions: beyond it the connection is not read, and the server keeps the rest


@dataclass(frozen=True, kw_only=True)
class AgentOptions:
    system_prompt: str
    context: int  # messages that the model is told
    max_bytes: int  # of an answer
    max_age_s: float  # of a question


class Agent:
    def __init__(
        self, client: ChatAPI, connection: Connection, endpoint: Endpoint, desks: list[Desk], options: AgentOptions
    ) -> None:
        """`connection` must not acknowledge by itself."""
        self._client = client
        self._connection = connection
        self._endpoint = endpoint
        self._desks = {desk.room_id: desk for desk in desks}
        self._options = options
        self._user_id = connection.ready["user_id"]
        self._thinking: set[str] = set()  # rooms in which the model has not begun to answer
        self._moved = asyncio.Event()  # there is something to acknowledge
        self._answered = asyncio.Event()

    async def run(self) -> None:
        """Until it is cancelled: then the answers that are being written end `cancelled`. Raises an ExceptionGroup of
        ApiError if the server refuses the credential."""
        async with asyncio.TaskGroup() as group:
            for desk in self._desks.values():
                group.create_task(self._serve(desk))
            group.create_task(self._acknowledge())
            group.create_task(self._tell_typing())
            async for event in self._connection:
                self._take(event)
                while sum(desk.waiting for desk in self._desks.values()) >= MAX_WAITING:
                    self._answered.clear()
                    await self._answered.wait()

    # Questions

    def _take(self, event: Event) -> None:
        if event["type"] == "sync.reset":
            for room_id, seq in event["rooms"].items():
                if room_id in self._desks:
                    self._desks[room_id].reset(seq)
        elif is_log_event(event) and (desk := self._desks.get(event["room_id"])) is not None:
            if event["type"] == "message" and self._is_question(event, desk):
                desk.put(
                    Question(
                        desk.room_id, event["message_id"], event["seq"], event.get("thread_id"), event["created_at"]
                    )
                )
            desk.see(event["seq"])
            self._moved.set()

    def _is_question(self, message: Any, desk: Desk) -> bool:
        """A message with `stream` is none: two agents would talk to each other forever."""
        is_addressed = desk.is_dm or self._user_id in message.get("mentions", ())
        return is_addressed and message["sender_id"] != self._user_id and "stream" not in message

    # Answers

    async def _serve(self, desk: Desk) -> None:
        while True:
            question = await desk.first()
            try:
                if self._is_recent(question):
                    await self._answer(question)
                else:
                    self._log("too old to be answered", question)
            except NoAnswer:
                await asyncio.sleep(RETRY_S)
                continue
            except EndpointFailed as error:
                self._log("the answer failed", question, reason=str(error))
            except ApiError as error:
                if error.status == 429 or error.status >= 500:  # slow mode, or a server that stops
                    await asyncio.sleep(error.retry_after_s or RETRY_S)
                    continue
                self._log("the server refused the answer", question, reason=str(error))
            finally:
                await self._stop_typing(desk.room_id)
            desk.remove(question)
            self._moved.set()
            self._answered.set()

    def _is_recent(self, question: Question) -> bool:
        asked_at = datetime.fromisoformat(question.created_at)
        return (datetime.now(UTC) - asked_at).total_seconds() <= self._options.max_age_s

    async def _answer(self, question: Question) -> None:
        """Returns once there is an answer, or the question was deleted. Raises ApiError, NoAnswer, EndpointFailed."""
        self._thinking.add(question.room_id)
        await self._connection.typing(question.room_id)
        limit, system_prompt = self._options.context, self._options.system_prompt
        prompt = await read_prompt(self._client, self._user_id, question, limit=limit, system_prompt=system_prompt)
        for number in range(1, TRIES + 1):
            if prompt is None or await self._write(question, prompt, f"answer-{question.message_id}-{number}"):
                return

    async def _write(self, question: Question, prompt: Prompt, client_message_id: str) -> bool:
        """False if an answer with this id has failed before, or fails since the server hears nothing of it."""
        fields: Any = {"client_message_id": client_message_id, "reply_to": question.message_id}
        if question.thread_id is not None:
            fields["thread_id"] = question.thread_id
        path = f"/rooms/{question.room_id}/messages"
        answer = await self._client.call(
            "POST", path, body={"content": "", "stream": True, **fields}, is_idempotent=True
        )
        if "stream" not in answer:
            return True  # it was deleted
        chunks = self._read_chunks(question.room_id, prompt)
        if answer["content"]:  # a part, which this agent wrote before it was killed
            chunks = self._replace(answer, chunks)
        try:
            answer = await self._connection.stream(question.room_id, chunks, **fields)
        except ApiError as error:
            if (error.details or {}).get("state") != "failed":
                raise
            return False
        return bool(answer["stream"]["state"] != "failed")

    async def _read_chunks(self, room_id: str, prompt: Prompt) -> AsyncGenerator[str, None]:
        """As much of the answer as a message may hold. Raises EndpointFailed."""
        left_bytes = self._options.max_bytes
        text = ""
        async with aclosing(self._endpoint.answer(prompt)) as pieces:
            async for text in pieces:
                await self._stop_typing(room_id)
                data = text.encode()
                yield data[:left_bytes].decode(errors="ignore")
                left_bytes -= len(data)
                if left_bytes < 0:
                    raise EndpointFailed("the answer is too long for a message")
        if not text:
            raise EndpointFailed("the model answered without text")

    async def _replace(self, answer: Any, chunks: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
        """Shows the part that is there until the whole text can take its place. If that fails, the part stays."""
        text = ""
        async with aclosing(chunks):
            async for chunk in chunks:
                text += chunk
        await self._client.finish_message(answer["room_id"], answer["message_id"], "done", content=text)
        yield ""

    # Beside it

    async def _stop_typing(self, room_id: str) -> None:
        if room_id in self._thinking:
            self._thinking.discard(room_id)
            await self._connection.typing(room_id, False)

    async def _tell_typing(self) -> None:
        while True:
            await asyncio.sleep(TYPING_S)
            for room_id in tuple(self._thinking):
                await self._connection.typing(room_id)

    async def _acknowledge(self) -> None:
        while True:
            await self._moved.wait()
            self._moved.clear()
            for desk in self._desks.values():
                if (seq := desk.done_seq) > desk.acked_seq:
                    desk.acked_seq = seq
                    with suppress(ApiError):  # the agent was removed from the room
                        await self._connection.ack(desk.room_id, seq)
            await asyncio.sleep(ACK_S)

    def _log(self, event: str, question: Question, **fields: object) -> None:
        logger.warning(event, extra={"room_id": question.room_id, "message_id": question.message_id, **fields})
