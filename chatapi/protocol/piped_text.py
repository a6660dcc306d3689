"""Bytes of a pipe to text: as they are, or the text of an OpenAI-compatible stream of events.

Both take the body in pieces that may end anywhere. Bytes that are not UTF-8, and U+0000, become U+FFFD.
"""

import codecs
import re
from collections.abc import Iterator
from typing import Any, Literal

from chatapi.errors import ChatError, Code, invalid
from chatapi.protocol.json import loads_stored

MAX_LINE_BYTES = 1024 * 1024  # of a stream of events, and of the data of one event
MAX_DATA_LINES = 1_000  # of one event; nearly all have one
MAX_SHOWN_CHARACTERS = 200  # of another server's error

REPLACEMENT = "\ufffd"

EndOfText = Literal["done", "failed"]

# A pair of surrogates, one alone, or any other escape.
_ESCAPE = re.compile(r"(?i)\\(?:ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|(ud[89a-f][0-9a-f]{2})|.)")


class PlainText:
    """The body is the text."""

    is_verbatim = True  # it has as many bytes as the body, as far as they are UTF-8
    error: ChatError | None = None
    is_over = False

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> str:
        """The text that is complete now: a code point whose bytes have not all come waits for the rest."""
        return _clean(self._decoder.decode(data))

    def close(self) -> str:
        """The rest, at the end of the body."""
        return _clean(self._decoder.decode(b"", final=True))

    @property
    def end(self) -> EndOfText:
        return "done"


class EventStreamText:
    """The body is a `text/event-stream` as OpenAI's: the text is the content of each `delta` of choice 0.

    `error` is set by an error object, by JSON that is broken and by a line that is too long, `is_over` by `[DONE]`.
    All that follows either is passed over. `end` says how the text has ended, once the body has.
    """

    is_verbatim = False

    def __init__(self) -> None:
        self.error: ChatError | None = None
        self.is_over = False
        self._has_finish_reason = False
        self._is_first_line = True
        self._may_skip_newline = False  # the last byte was a carriage return
        self._line = bytearray()
        self._event = ""
        self._data: list[str] = []  # of an event whose first line is not JSON by itself
        self._data_characters = 0
        self._texts: list[str] = []

    @property
    def end(self) -> EndOfText:
        return "done" if self.error is None and (self.is_over or self._has_finish_reason) else "failed"

    def feed(self, data: bytes) -> str:
        """The text of the events that are complete now."""
        for line in self._split(data):
            self._take_line(line)
            if self.error is not None or self.is_over:
                self._line.clear()
                break
        return self._take_texts()

    def close(self) -> str:
        """The text of a last event that lacks its newlines. After a `finish_reason` its JSON may be broken off."""
        if self.error is None and not self.is_over:
            if self._line:
                self._take_line(self._line.decode(errors="replace"))
            self._dispatch(may_be_broken=self._has_finish_reason)
        return self._take_texts()

    def _take_texts(self) -> str:
        text = _clean("".join(self._texts))
        self._texts.clear()
        return text

    def _split(self, data: bytes) -> Iterator[str]:
        """The lines that this piece completes. They end with a newline, a carriage return, or both."""
        if self.error is not None or self.is_over:
            return
        if self._may_skip_newline and data:
            data = data.removeprefix(b"\n")
            self._may_skip_newline = False
        for line in data.splitlines(keepends=True):  # of bytes: these three ends alone
            self._line += line
            if len(self._line) > MAX_LINE_BYTES:
                self.error = _refuse_long()
                return
            self._may_skip_newline = line.endswith(b"\r")
            if line.endswith((b"\n", b"\r")):
                whole = self._line.rstrip(b"\r\n").decode(errors="replace")
                self._line.clear()
                yield whole

    def _take_line(self, line: str) -> None:
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix("\ufeff")
        if not line:
            self._dispatch()
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._take_data(value)

    def _take_data(self, value: str) -> None:
        """Nearly always a whole event. Some servers leave out the empty lines between events."""
        if not self._data and self._take_chunk(value):
            return
        self._data.append(value)
        self._data_characters += len(value)
        if self._data_characters > MAX_LINE_BYTES or len(self._data) > MAX_DATA_LINES:
            self.error = _refuse_long()

    def _dispatch(self, *, may_be_broken: bool = False) -> None:
        data = "\n".join(self._data)
        self._data.clear()
        self._data_characters = 0
        if data.strip() and not self._take_chunk(data) and not may_be_broken:
            self.error = invalid("An event of the stream is not valid JSON")
        self._event = ""

    def _take_chunk(self, data: str) -> bool:
        """Whether it is one."""
        if data.strip() == "[DONE]":
            self.is_over = True
            return True
        try:
            chunk = _loads(data)
        except ValueError:
            return False
        if isinstance(chunk, dict):
            self._read_chunk(chunk)
        return True

    def _read_chunk(self, chunk: dict[str, Any]) -> None:
        error = chunk.get("error")
        if error is None and (self._event == "error" or chunk.get("object") == "error"):
            error = chunk
        if error is not None:
            self.error = invalid(f"The stream ended with an error{_show_error(error)}")
            return
        choices = chunk.get("choices")
        for position, choice in enumerate(choices if isinstance(choices, list) else ()):
            if not isinstance(choice, dict):
                continue
            index = choice.get("index")
            if (position if index is None else index) != 0:
                continue
            self._has_finish_reason |= choice.get("finish_reason") is not None
            delta = choice.get("delta")
            content = delta.get("content") if isinstance(delta, dict) else None
            if isinstance(content, str):
                self._texts.append(content)


PipedText = PlainText | EventStreamText


def _clean(text: str) -> str:
    return text.replace("\0", REPLACEMENT) if "\0" in text else text


def _loads(data: str) -> Any:
    """Raises ValueError. Half a pair of surrogates becomes U+FFFD: some servers cut text anywhere."""
    if "\0" in data:
        data = _clean(data)
    try:
        return loads_stored(data)
    except ValueError:
        if "\\u" not in data:
            raise
        return loads_stored(_ESCAPE.sub(lambda found: "\\ufffd" if found[1] else found[0], data))


def _show_error(error: object) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return f": {_clean(message)[:MAX_SHOWN_CHARACTERS]}" if isinstance(message, str) and message else ""


def _refuse_long() -> ChatError:
    message = f"A line of the stream, or an event, is longer than {MAX_LINE_BYTES} bytes"
    return ChatError(Code.VALIDATION_ERROR, message, status=413)
