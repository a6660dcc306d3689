"""`chatapi bench streams`: that it tells a text that has arrived from one that has not. None asserts a time."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from chatapi.cli import main
from chatapi.cli.bench.growing import LAST, GrowingReader, GrowthTally, Seat
from chatapi.cli.bench.reactor import Reactor, find_address
from chatapi.cli.bench.tenant import BenchRoom, TenantLogin
from chatapi.protocol import wire

SIZE = 20
APPENDS = [f"{number:017.6f}..." for number in range(1, 6)]  # sent at these seconds
TEXT = "".join(APPENDS)


@pytest.fixture
def reader() -> Iterator[GrowingReader]:
    with socket.create_server(("127.0.0.1", 0)) as listening, closing(Reactor()) as reactor:
        login = TenantLogin(find_address(*listening.getsockname()), "localhost", "sk_test")
        seat = Seat(BenchRoom("room_1", ("u1", "u2")), "u2")
        reader = GrowingReader(reactor, login, seat, GrowthTally(SIZE))
        reader.on_data(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        take(reader, "message", seq=1, message_id="msg_1", content="", stream={"state": "open", "index": 0})
        yield reader


def take(reader: GrowingReader, kind: str, **fields: object) -> None:
    payload = json.dumps({"type": kind, **fields}, separators=(",", ":")).encode()
    reader.on_data(wire.encode_text(payload))


def grow(reader: GrowingReader, after: int, index: int) -> None:
    take(reader, "message.delta", message_id="msg_1", after=after, index=index, text="".join(APPENDS[after:index]))


def finish(reader: GrowingReader, content: str = TEXT, meta: Any = None) -> None:
    take(reader, "message.finished", seq=2, message_id="msg_1", content=content, meta=meta)


def test_a_text_that_has_grown_is_taken(reader: GrowingReader) -> None:
    grow(reader, 0, 2)
    grow(reader, 2, 5)
    finish(reader)
    assert (reader.texts, reader.problems, reader.is_done) == ({"msg_1": TEXT}, [], False)


def test_the_last_message_says_so(reader: GrowingReader) -> None:
    finish(reader, "", LAST)
    assert reader.is_done


def test_a_reader_who_was_too_slow_has_the_whole_and_it_is_counted(reader: GrowingReader) -> None:
    grow(reader, 0, 1)
    shown = {"message_id": "msg_1", "content": TEXT[: 3 * SIZE], "stream": {"state": "open", "index": 3}}
    take(reader, "message.state", message=shown)
    grow(reader, 3, 4)
    finish(reader)  # the fifth append has come with the end alone
    assert (reader.texts, reader.problems) == ({"msg_1": TEXT}, [])
    assert reader._tally.texts.shown_again == 2


@pytest.mark.parametrize(("after", "index"), [(0, 1), (2, 3)])
def test_a_delta_that_does_not_go_on_is_wrong(reader: GrowingReader, after: int, index: int) -> None:
    grow(reader, 0, 1)
    grow(reader, after, index)
    assert len(reader.problems) == 1
    assert "a delta after" in reader.problems[0]


def test_an_end_with_another_text_is_wrong(reader: GrowingReader) -> None:
    grow(reader, 0, 2)
    finish(reader, TEXT.replace("2", "3"))
    assert reader.problems == ["u2: msg_1 grew to another text than it ends with"]


def test_latencies_are_those_of_the_appends_that_were_sent_in_time(reader: GrowingReader) -> None:
    reader._tally.schedule = type(reader._tally.schedule)(2.0, 4.0)
    grow(reader, 0, 5)
    assert len(reader._tally.texts.delta_latencies) == 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["streams", "--size", "16"], "--size 16"),
        (["streams", "--rate", "0"], "--rate 0"),
        (["open-streams", "--streams", "0"], "--streams 0"),
        (["ws-send", "--append-rate", "0"], "--append-rate 0"),
        (["streams", "--append-rate", "5"], "streams takes no --append-rate"),
        (["fanout", "--against-streams", "3"], "fanout takes no --against-streams"),
    ],
)
def test_an_impossible_request_is_refused(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["bench", *arguments]) == 1
    assert complaint in capsys.readouterr().err.splitlines()[-1]


# Python imports a `sitecustomize` by itself: here it makes a server that breaks its word once.
BROKEN_SERVERS = {
    "a lost delta": (
        "from chatapi.hub import Hub as owner; name, args = 'publish_delta', lambda hub, room, stream, frame: None",
        "a delta after",
    ),
    "a delta with another text": (
        "from chatapi.hub import Hub as owner; name, args = 'publish_delta', "
        "lambda hub, room, stream, frame: right(hub, room, stream, frame.replace(b'..', b',,', 1))",
        "grew to another text",
    ),
    "another text than was sent": (
        "from chatapi.open_streams import OpenStream as owner; name, args = 'accept', "
        "lambda stream, text: right(stream, text[:-1] + b'?')",
        "texts are not those that were confirmed",
    ),
}
SABOTAGE = """
{what}
right, done = getattr(owner, name), []
def once(*given):
    done.append(1)
    return args(*given) if len(done) == 5 else right(*given)
setattr(owner, name, once)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("what", "found"), BROKEN_SERVERS.values(), ids=BROKEN_SERVERS)
def test_a_broken_server_is_found_out(
    what: str, found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SABOTAGE.format(what=what))
    arguments = ["streams", "--clients", "2", "--seconds", "0.5", "--warmup", "0.2", "--tree", str(tmp_path)]
    assert main(["bench", *arguments]) == 1
    assert found in capsys.readouterr().out


@pytest.mark.slow
def test_sends_beside_streams_are_compared_with_sends_alone(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["ws-send", "--clients", "4", "--streams", "2", "--against-streams", "0", "--rounds", "1"]
    assert main(["bench", *arguments, "--seconds", "0.3", "--warmup", "0.2", "--processes", "2"]) == 0
    output = capsys.readouterr().out
    assert "2 streams, round" not in output
    assert "2 streams with" in output
