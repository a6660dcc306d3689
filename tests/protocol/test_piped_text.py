"""The text of a pipe, however its bytes are cut."""

import json
import random
from collections.abc import Sequence

import pytest

from chatapi.protocol.piped_text import MAX_LINE_BYTES, EventStreamText, PipedText, PlainText


def run(text: PipedText, *pieces: bytes) -> str:
    return "".join([*map(text.feed, pieces), text.close()])


def cut(data: bytes, seed: int) -> Sequence[bytes]:
    """The same bytes in pieces of 0 to 5."""
    rng, pieces, start = random.Random(seed), [], 0
    while start < len(data):
        size = rng.randrange(6)
        pieces.append(data[start : start + size])
        start += size
    return pieces


def chunk(content: object = None, finish_reason: str | None = None, **fields: object) -> str:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return json.dumps({"object": "chat.completion.chunk", "choices": [choice], **fields}, ensure_ascii=False)


def events(*datas: str, newline: str = "\n") -> bytes:
    return "".join(f"data: {data}{newline}{newline}" for data in datas).encode()


SAID = "Grüße, 世界 👩‍🚀!\r\n\tEnde"


@pytest.mark.parametrize("seed", range(20))
def test_plain_text_is_whole_however_it_is_cut(seed: int) -> None:
    assert run(PlainText(), *cut(SAID.encode(), seed)) == SAID


def test_a_code_point_waits_for_its_last_byte() -> None:
    text = PlainText()
    assert [text.feed(bytes([byte])) for byte in "é👍".encode()] == ["", "é", "", "", "", "👍"]


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"a\xffb", "a\ufffdb"),
        (b"a\x00b", "a\ufffdb"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),  # a surrogate
        (b"\xc0\xaf", "\ufffd\ufffd"),  # too long a form
        ("x👍".encode()[:-1], "x\ufffd"),
        (b"\xe4\xb8", "\ufffd"),
    ],
)
def test_bytes_that_are_not_text_become_replacement_characters(data: bytes, shown: str) -> None:
    for pieces in ([data], [data[index : index + 1] for index in range(len(data))]):
        assert run(PlainText(), *pieces) == shown


STREAM = events(
    chunk(role="x"), chunk("Grüße, "), chunk("世界 "), chunk("👩‍🚀!\r\n\tEnde"), chunk(None, "stop"), "[DONE]"
)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_event_stream_is_whole_however_it_is_cut(seed: int, newline: bytes) -> None:
    text = EventStreamText()
    assert run(text, *cut(STREAM.replace(b"\n", newline), seed)) == SAID
    assert (text.error, text.is_over, text.end) == (None, True, "done")


def test_text_comes_with_the_event_that_holds_it() -> None:
    text = EventStreamText()
    data = events(chunk("one"))
    assert [text.feed(data[:-3]), text.feed(data[-3:])] == ["", "one"]
    assert text.feed(events(chunk(" two"), chunk(" three"))) == " two three"


PASSED_OVER = {
    "role": '{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}',
    "null content": '{"choices": [{"index": 0, "delta": {"content": null}}]}',
    "null delta": '{"choices": [{"index": 0, "delta": null}]}',
    "no delta": '{"choices": [{"index": 0}]}',
    "null choices": '{"choices": null}',
    "no choices": '{"choices": [], "usage": {"total_tokens": 9}}',
    "usage alone": '{"usage": {"total_tokens": 9}}',
    "another choice": '{"choices": [{"index": 1, "delta": {"content": "no"}}]}',
    "a second choice without an index": '{"choices": [{"index": 0, "delta": {}}, {"delta": {"content": "no"}}]}',
    "tool calls": '{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{}"}}]}}]}',
    "reasoning": '{"choices": [{"delta": {"reasoning_content": "hm", "reasoning": "hm"}}]}',
    "parts": '{"choices": [{"delta": {"content": [{"type": "text", "text": "no"}]}}]}',
    "null error": '{"error": null, "choices": []}',
    "not an object": "17",
    "a choice that is none": '{"choices": [7, null]}',
    "huge number": '{"id": 123456789012345678901234567890}',
}


@pytest.mark.parametrize("data", PASSED_OVER.values(), ids=PASSED_OVER)
def test_events_without_text_are_passed_over(data: str) -> None:
    text = EventStreamText()
    assert run(text, events(chunk("a"), data, chunk("b"), "[DONE]")) == "ab"
    assert text.error is None


@pytest.mark.parametrize(
    "line", [b": keep-alive", b":", b"id: 7", b"retry: 2000", b"event: message", b"data", b"data:"]
)
def test_other_lines_are_passed_over(line: bytes) -> None:
    for end in (b"\n", b"\n\n"):
        text = EventStreamText()
        assert run(text, events(chunk("a")) + line + end + events(chunk("b"), "[DONE]")) == "ab"
        assert text.end == "done"


QUIRKS = {
    "no space after the colon": f"data:{chunk('a')}\n\ndata:{chunk('b')}\n\ndata:[DONE]\n\n",
    "no empty lines": f"data: {chunk('a')}\ndata: {chunk('b')}\ndata: [DONE]\n",
    "no final newline": f"data: {chunk('a')}\n\ndata: {chunk('b')}\n\ndata: [DONE]",
    "a byte order mark": f"\ufeffdata: {chunk('a')}\n\ndata: {chunk('b')}\n\ndata: [DONE]\n\n",
    "data of several lines": 'data: {"choices": [{"delta":\ndata: {"content": "ab"}}]}\n\ndata: [DONE]\n\n',
    "spaces around DONE": f"data: {chunk('ab')}\n\ndata:  [DONE] \n\n",
    "more after DONE": f"data: {chunk('ab')}\n\ndata: [DONE]\n\ndata: {chunk('c')}\n\ndata: {{broken\n\n",
    "index as null": 'data: {"choices": [{"index": null, "delta": {"content": "ab"}}]}\n\ndata: [DONE]\n\n',
    "fields before data": f"id: 1\nevent: message\ndata: {chunk('ab')}\n\ndata: [DONE]\n\n",
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stream", QUIRKS.values(), ids=QUIRKS)
def test_quirks_are_taken(stream: str, seed: int) -> None:
    text = EventStreamText()
    assert run(text, *cut(stream.encode(), seed)) == "ab"
    assert (text.error, text.end) == (None, "done")


@pytest.mark.parametrize(
    ("last", "end"),
    [
        (events(chunk(None, "stop")), "done"),
        (events(chunk(None, "length"), '{"choices": [], "usage": {}}'), "done"),
        (events(chunk(None, "stop")) + b'data: {"choices": [], "usa', "done"),
        (events(chunk("b"))[:-2], "failed"),
        (b"", "failed"),
        (b": bye\n\n", "failed"),
    ],
)
def test_end_without_done_depends_on_the_finish_reason(last: bytes, end: str) -> None:
    text = EventStreamText()
    assert run(text, events(chunk("a")), last) in ("a", "ab")
    assert (text.error, text.end) == (None, end)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('{"error": {"message": "out of\\u0000 memory", "code": 500}}', "ended with an error: out of\ufffd memory"),
        ('{"error": "overloaded"}', "ended with an error: overloaded"),
        ('{"error": {"code": 500}}', "ended with an error"),
        ('{"object": "error", "message": "no such model"}', "ended with an error: no such model"),
        ('{"error": {"message": "' + "x" * 5000 + '"}}', "x" * 200),
        ('{"choices": [', "not valid JSON"),
        ("oops", "not valid JSON"),
    ],
)
def test_an_error_object_and_broken_json_fail(data: str, message: str) -> None:
    text = EventStreamText()
    assert run(text, events(chunk("a"), data, chunk("b", "stop"), "[DONE]")) == "a"
    assert text.error is not None
    assert text.error.status == 400
    assert text.error.message.endswith(message)
    assert text.end == "failed"


def test_an_event_of_the_type_error_fails() -> None:
    text = EventStreamText()
    assert run(text, b'event: error\ndata: {"message": "overloaded"}\n\n') == ""
    assert text.error is not None
    assert text.error.message.endswith(": overloaded")


def test_json_that_is_broken_off_fails() -> None:
    text = EventStreamText()
    assert run(text, events(chunk("a")), b'data: {"choices": [{"del') == "a"
    assert text.error is not None
    assert text.end == "failed"


@pytest.mark.parametrize(
    ("escaped", "shown"),
    [
        ("\\ud83d\\ude00", "😀"),
        ("\\ud83d", "\ufffd"),
        ("\\uDE00x\\ud83d", "\ufffdx\ufffd"),
        ("\\\\ud83d", "\\ud83d"),
        ("\\u0000", "\ufffd"),
        ("\x00", "\ufffd"),
    ],
)
def test_escapes_that_are_not_text_become_replacement_characters(escaped: str, shown: str) -> None:
    data = f'{{"choices": [{{"delta": {{"content": "{escaped}"}}}}]}}'
    text = EventStreamText()
    assert run(text, events(data, "[DONE]")) == shown
    assert text.error is None


def test_bytes_of_an_event_that_are_not_utf8_become_replacement_characters() -> None:
    data = events(chunk("a?b"), "[DONE]").replace(b"?", b"\xff")
    assert run(EventStreamText(), data) == "a\ufffdb"


@pytest.mark.parametrize(
    "line",
    [b"x" * 16, b"data: x\n", b"data: " + b"x" * 5000 + b"\n", b": " + b"x" * 64 + b"\n"],
    ids=["one line", "many lines", "one event", "comments"],
)
def test_lines_and_events_are_bounded(line: bytes) -> None:
    """Comments are not kept, so they may be as many as they like."""
    text = EventStreamText()
    text.feed(events(chunk("a")))
    piece, fed = line * 1024, 0
    while text.error is None and fed < 5 * MAX_LINE_BYTES:
        text.feed(piece)
        fed += len(piece)
    if line.startswith(b":"):
        assert text.error is None
        return
    assert text.error is not None
    assert text.error.status == 413
    assert text.end == "failed"
