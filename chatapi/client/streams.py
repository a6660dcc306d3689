"""Streams over REST alone: messages that are still being written."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import TypeVar, cast

from chatapi.client.backoff import full_jitter
from chatapi.client.conversations import ConversationCalls
from chatapi.client.drafts import draft
from chatapi.client.envelope import Shape
from chatapi.client.errors import NoAnswer
from chatapi.client.paths import room_path
from chatapi.client.records import AppendAnswer, Json, Message
from chatapi.client.writing import StreamTransport, StreamWriter

PATIENCE_S = 60.0  # without an answer: by then the server has given the stream up
RETRY_BASE_S = 0.1
RETRY_CAP_S = 5.0

_MESSAGE: Shape = {"message_id": str}

T = TypeVar("T")


class StreamCalls(ConversationCalls):
    """Writing a message in pieces: a part of `ChatAPI`."""

    async def stream(
        self,
        room_id: str,
        chunks: AsyncIterable[str],
        *,
        meta: Json | None = None,
        reply_to: str | None = None,
        client_message_id: str | None = None,
        mentions: list[str] | None = None,
        mention_room: bool = False,
        thread_id: str | None = None,
    ) -> Message:
        """Writes a message with the text that `chunks` gives, while everybody in the room sees it grow, and returns the
        message once it has ended: `stream["state"]` is `done`, or `cancelled` if another member has asked for that;
        then `chunks` is closed at once.

        Requests without an answer are tried again for a minute, as while the server restarts; nothing is stored twice.
        If `chunks` raises, the stream ends `failed`, and that is raised; a StreamFailed also tells the room why. A task
        that is cancelled leaves it `cancelled`. The other fields are those of `send_message`; with the
        `client_message_id` of an open stream this goes on where that stopped. Raises ApiError: 400 (`text`) beyond the
        bound of a message, 409 when the stream has ended meanwhile, 429 for too many open streams, 403, 404.
        """
        optional: Json = {"meta": meta, "reply_to": reply_to, "mentions": mentions, "mention_room": mention_room}
        fields = draft("", client_message_id=client_message_id, thread_id=thread_id, stream=True, **optional)
        path = f"{room_path(room_id)}/messages"

        async def open_stream() -> Json:
            return cast(Json, await self.call("POST", path, body=fields, is_idempotent=True, shape=_MESSAGE))

        async def append(message_id: str, index: int, text: str) -> AppendAnswer:
            return await _insist(lambda: self.append_to_message(room_id, message_id, index, text))

        async def finish(message_id: str, end: Json) -> Message:
            return await _insist(lambda: self.finish_message(room_id, message_id, **end))

        return await StreamWriter(StreamTransport(open_stream, append, finish), chunks, meta).run(lambda: None)


async def _insist(call: Callable[[], Awaitable[T]]) -> T:
    """Tries for as long as the stream may live without a word of its sender."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + PATIENCE_S
    attempt = 0
    while True:
        try:
            return await call()
        except NoAnswer as error:
            if loop.time() >= until_s:
                raise
            await asyncio.sleep(
                max(min(error.retry_after_s, RETRY_CAP_S), full_jitter(attempt, RETRY_BASE_S, RETRY_CAP_S))
            )
            attempt += 1
