"""An endpoint that speaks as OpenAI's chat completions do, and as Anthropic's messages do. It answers all alike."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from fake_endpoint import FIRST, LAST, write_chunk

Json = dict[str, Any]

EMPTY = b'data: {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "fake", "choices": []}\n\n'


class Refuse(Exception):
    """The answer is an error, with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Fault(Exception):
    """An error stands in the stream."""


class Cut(Exception):
    """The connection breaks."""


class Stop(Exception):
    """The stream ends, but nothing says that the answer does."""


Speak = Callable[[Json], AsyncIterator[str]]
"""The answer to a request's body, piece by piece. It may raise one of those above, before its first piece or later."""


@dataclass
class Model:
    speak: Speak
    url: str = ""
    requests: list[Json] = field(default_factory=list)
    left: int = 0  # requests whose client went away before their end

    async def complete(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, _Completion())

    async def message(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, _Message())

    async def _answer(self, request: web.Request, form: "_Completion | _Message") -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        try:
            async with aclosing(self.speak(body)) as pieces:  # type: ignore[type-var]
                return await self._copy(request, response, pieces, form)
        except Refuse as refusal:
            return web.json_response(form.refuse(refusal.status), status=refusal.status)
        except asyncio.CancelledError:
            self.left += 1
            raise

    async def _copy(
        self,
        request: web.Request,
        response: web.StreamResponse,
        pieces: AsyncIterator[str],
        form: "_Completion | _Message",
    ) -> web.StreamResponse:
        first = await anext(pieces, "")
        await response.prepare(request)
        await response.write(form.begin() + form.say(first))
        try:
            async for piece in pieces:
                await response.write(form.say(piece))
        except Fault:
            await response.write(form.fail())
        except Stop:
            pass
        except Cut:
            assert request.transport is not None
            request.transport.close()
        else:
            await response.write(form.end())
        return response


class _Completion:
    """As OpenAI has it, with what others add to it: comments, and chunks without choices."""

    def begin(self) -> bytes:
        return b": PROCESSING\n\n" + EMPTY + FIRST

    def say(self, text: str) -> bytes:
        return write_chunk({"content": text})

    def end(self) -> bytes:
        return LAST

    def fail(self) -> bytes:
        return b'data: {"error": {"message": "Overloaded", "type": "server_error", "code": null}}\n\n'

    def refuse(self, status: int) -> Json:
        return {"error": {"message": "No such model", "type": "invalid_request_error", "code": str(status)}}


class _Message:
    """As Anthropic has it: named events, and a thought before the text."""

    def begin(self) -> bytes:
        usage = {"input_tokens": 1, "output_tokens": 1}
        message = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "fake",
            "content": [],
            "usage": usage,
        }
        message |= {"stop_reason": None, "stop_sequence": None}
        thought = {"type": "thinking", "thinking": "", "signature": ""}
        return b"".join(
            (
                self._event("message_start", message=message),
                self._event("content_block_start", index=0, content_block=thought),
                self._event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "Well."}),
                self._event("content_block_stop", index=0),
                self._event("content_block_start", index=1, content_block={"type": "text", "text": ""}),
                self._event("ping"),
            )
        )

    def say(self, text: str) -> bytes:
        return self._event("content_block_delta", index=1, delta={"type": "text_delta", "text": text})

    def end(self) -> bytes:
        stopped = {"stop_reason": "end_turn", "stop_sequence": None}
        return b"".join(
            (
                self._event("content_block_stop", index=1),
                self._event("message_delta", delta=stopped, usage={"output_tokens": 2}),
                self._event("message_stop"),
            )
        )

    def fail(self) -> bytes:
        return self._event("error", error={"type": "overloaded_error", "message": "Overloaded"})

    def refuse(self, status: int) -> Json:
        return {"type": "error", "error": {"type": "not_found_error", "message": f"No such model: {status}"}}

    def _event(self, name: str, **fields: Any) -> bytes:
        return f"event: {name}\ndata: {json.dumps({'type': name, **fields})}\n\n".encode()


@asynccontextmanager
async def open_model(speak: Speak) -> AsyncIterator[Model]:
    """`url` is without the `/v1` of OpenAI's base URLs."""
    model = Model(speak)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", model.complete)
    app.router.add_post("/v1/messages", model.message)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    model.url = "http://{}:{}".format(*runner.addresses[0][:2])
    yield model
    await runner.cleanup()
