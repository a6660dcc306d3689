"""The body of a request that its handler reads as it arrives: text, or a stream of events."""

from aiohttp import HttpVersion11, web

from chatapi.callers import read_header
from chatapi.errors import ChatError, Code
from chatapi.protocol.piped_text import EventStreamText, PipedText, PlainText

PLAIN = "text/plain"
EVENT_STREAM = "text/event-stream"


class IncomingText:
    """Raises ChatError 415 if the body is neither, or is encoded. A client that waits for a go-ahead sends
    nothing of it before the first `read`."""

    def __init__(self, request: web.BaseRequest) -> None:
        self.text: PipedText = _choose_text(request)
        self._request = request
        self._is_asked_for = False

    def read_header(self, name: str) -> str | None:
        """A header of the request. Raises ChatError if it is there several times with different values."""
        return read_header(self._request, name)

    def check_length(self, max_bytes: int) -> None:
        """Raises ChatError 413 for a body that is too large, if its client waits to hear whether to send it at all."""
        length = self._request.content_length
        if length is not None and length > max_bytes and _awaits_go_ahead(self._request) and self.text.is_verbatim:
            message = f"The message would be longer than {max_bytes} bytes of UTF-8"
            raise ChatError(Code.VALIDATION_ERROR, message, status=413)

    async def read(self) -> bytes:
        """The next bytes; none at the end. Not more than a few hundred KiB wait here: then the client has to wait.

        Raises ConnectionError if the client has gone, and ChatError if the server stops: both after all that has come
        before.
        """
        content = self._request.content
        if not self._is_asked_for:
            self._is_asked_for = True
            await ask_for_body(self._request)
        try:
            return await content.readany()
        except Exception as error:
            if content.exception() is not error:
                raise
            rest = content._read_nowait(-1)  # `readany` passes over what came before the error
            if rest:
                return rest
            raise


async def ask_for_body(request: web.BaseRequest) -> None:
    """A client may send its head alone, and wait a second or more to be told to go on (RFC 9110, section 10.1.1)."""
    if _awaits_go_ahead(request):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the response itself has not begun


def _awaits_go_ahead(request: web.BaseRequest) -> bool:
    return request.headers.get("Expect", "").lower() == "100-continue" and request.version == HttpVersion11


def _choose_text(request: web.BaseRequest) -> PipedText:
    if "Content-Encoding" in request.headers:
        message = "Send the body as it is, without Content-Encoding: compressed bodies are not accepted"
    elif (request.charset or "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
        message = f"Send the body in UTF-8, not in {request.charset}"
    elif "Content-Type" not in request.headers or request.content_type == PLAIN:
        return PlainText()
    elif request.content_type == EVENT_STREAM:
        return EventStreamText()
    else:
        message = f"Send the body as {PLAIN} or {EVENT_STREAM}, not {request.content_type}"
    raise ChatError(Code.VALIDATION_ERROR, message, status=415)
