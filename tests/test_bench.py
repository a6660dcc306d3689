"""`chatapi bench`: that it tells a right result from a wrong one; small forms of all scenarios. None asserts a time."""

import copy
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from server_process import ServerProcess

from chatapi.cli import bench, main
from chatapi.cli.bench.conversation import ConversationRecord, Replica, check_room, name_event
from chatapi.cli.bench.crew import percentile, share
from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.http import HttpPeer, encode_request
from chatapi.cli.bench.reactor import Reactor, find_address
from chatapi.cli.bench.report import Series, format_json, format_table, list_ratios
from chatapi.cli.bench.result import Check, Outcome, check_stored
from chatapi.cli.bench.scenarios import SCENARIOS, mixed
from chatapi.cli.bench.scenarios.fanout import Audience, Recipient
from chatapi.cli.bench.stream import CONNECTING, READY, SYNCED, MemberSocket
from chatapi.cli.bench.target import Target, find_listener, read_usage
from chatapi.cli.bench.tenant import TenantLogin
from chatapi.cli.bench.websocket import encode_text, find_seq
from chatapi.clock import Clock
from chatapi.protocol import wire
from chatapi.store.prefill import prefill

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"

# Each scenario in its smallest useful form.
SMALL_FORMS = {
    "rest-send": ["--clients", "4", "--window", "3"],
    "ws-send": ["--clients", "4", "--window", "2", "--events", "1"],
    "fanout": ["--members", "20", "--window", "2"],
    "idle": ["--connections", "40"],
    "connect": ["--connections", "40", "--window", "10"],
    "recovery": ["--connections", "40", "--missed", "5"],
    "history": ["--clients", "2"],
    "slow": ["--connections", "5", "--stall", "1", "--rate", "200"],
    "mixed": ["--clients", "6", "--members", "3"],
    "lively": ["--clients", "6", "--members", "3", "--window", "2"],
    "streams": ["--clients", "4", "--members", "3", "--rate", "20"],
    "wear": ["--clients", "4", "--rate", "50"],
    "shards": ["--clients", "8", "--servers", "2", "--window", "2"],
    "transfer": ["--messages", "1500", "--clients", "4", "--rate", "50"],
    "open-streams": ["--clients", "3", "--streams", "12", "--appends", "5"],
}


def run_bench(arguments: Sequence[str]) -> int:
    return main(["bench", *arguments])


def read_report(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    with closing(Reactor()) as reactor:
        yield reactor


@pytest.fixture
def login(listening: socket.socket) -> TenantLogin:
    return TenantLogin(find_address(*listening.getsockname()), "localhost", "sk_test")


def frame(kind: str, **fields: object) -> bytes:
    return wire.encode_text(json.dumps({"type": kind, **fields}, separators=(",", ":")).encode())


def message(seq: int) -> bytes:
    return frame("message", message_id="msg_1", seq=seq, sender_id="u1", content="hello")


def feed(member: MemberSocket, *seqs: int) -> None:
    member.on_data(SWITCHED + b"".join(map(message, seqs)))


def outcome(**figures: float) -> Outcome:
    return Outcome(dict(figures))


# What it reads


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 7, 64, 100_000])
def test_frames_may_be_cut_anywhere(reactor: Reactor, login: TenantLogin, piece_bytes: int) -> None:
    member = MemberSocket(reactor, login, "room_1", "u1")
    long = frame("message", seq=2, content="x" * 70_000)
    data = SWITCHED + frame("ready", user_id="u1") + message(1) + long + frame("sync.complete") + message(3)
    for start in range(0, len(data), piece_bytes):
        member.on_data(data[start : start + piece_bytes])
    assert (member.next_seq, member.missing, member.doubled, member.phase) == (4, 0, 0, SYNCED)


def test_frames_with_other_spacing_are_understood(reactor: Reactor, login: TenantLogin) -> None:
    member = MemberSocket(reactor, login, "room_1", "u1")
    member.on_data(SWITCHED + wire.encode_text(b'{"seq": 1, "type": "message"}'))
    assert member.next_seq == 2


def test_seq_is_found_at_the_end_of_an_object() -> None:
    data = b'{"type":"x","content":"\\"seq\\":7,","seq":12}'
    assert find_seq(data, 0, len(data)) == 12


@pytest.mark.parametrize("size", [1, 125, 126, 65_535, 65_536])
def test_client_frames_carry_a_mask_that_changes_nothing(size: int) -> None:
    encoded = encode_text(b"x" * size)
    header, key, payload = encoded[: -size - 4], encoded[-size - 4 : -size], encoded[-size:]
    assert (header[0], key, payload) == (0x81, b"\0" * 4, b"x" * size)
    assert header[1] & 0x80
    length = header[1] & 0x7F
    assert size == (length if length < 126 else int.from_bytes(header[2:]))


def test_ping_is_answered(reactor: Reactor, login: TenantLogin, listening: socket.socket) -> None:
    member = MemberSocket(reactor, login, "room_1", "u1")
    with listening.accept()[0] as server:
        reactor.run_until(0.0)
        member.on_data(SWITCHED + b"\x89\x02ab")
        server.settimeout(5)
        received = b""
        while not received.endswith(b"\x8a\x82\0\0\0\0ab"):
            received += server.recv(1000)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "401"),
        (SWITCHED + frame("error", code="RATE_LIMIT_EXCEEDED", message="Too fast"), "RATE_LIMIT_EXCEEDED"),
        (SWITCHED + wire.encode_close(4009, "slow"), "4009"),
        (SWITCHED + b"\x82\x01a", "0x82"),
    ],
)
def test_invalid_data_ends_the_run(reactor: Reactor, login: TenantLogin, data: bytes, complaint: str) -> None:
    member = MemberSocket(reactor, login, "room_1", "u1")
    with pytest.raises(BenchError, match=complaint):
        member.on_data(data)


@pytest.mark.parametrize("header", ["Content-Length", "content-length"])
def test_http_replies_may_be_cut_anywhere(reactor: Reactor, login: TenantLogin, header: str) -> None:
    replies: list[tuple[int, bytes]] = []
    peer = HttpPeer(reactor, login.address, lambda status, body: replies.append((status, body)))
    for byte in f"HTTP/1.1 201 Created\r\n{header}: 2\r\n\r\n{{}}".encode():
        peer.on_data(bytes((byte,)))
    peer.on_data(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert replies == [(201, b"{}"), (204, b"")]


def test_a_request_says_how_long_its_body_is() -> None:
    assert encode_request("POST", "/acks", "h", "A: b\r\n", b"{}").endswith(b"Content-Length: 2\r\n\r\n{}")
    assert b"Content-" not in encode_request("GET", "/rooms", "h", "")


# What it calls wrong


@pytest.mark.parametrize(
    ("seqs", "missing", "doubled"),
    [((1, 2, 3), 0, 0), ((1, 3), 1, 0), ((1, 2, 2, 3), 0, 1), ((1, 3, 2), 1, 1), ((1, 2), 1, 0), ((), 3, 0)],
)
def test_a_stream_is_judged(
    reactor: Reactor, login: TenantLogin, seqs: tuple[int, ...], missing: int, doubled: int
) -> None:
    member = MemberSocket(reactor, login, "room_1", "u1")
    feed(member, *seqs)
    check = Check()
    member.add_to(check, 3)
    assert (check.missing, check.doubled, check.is_ok) == (missing, doubled, not missing + doubled)


def test_more_than_was_sent_is_wrong(reactor: Reactor, login: TenantLogin) -> None:
    member = MemberSocket(reactor, login, "room_1", "u1")
    feed(member, 1, 2, 3)
    check = Check()
    member.add_to(check, 2)
    assert not check.is_ok


@pytest.mark.parametrize(
    "frames",
    [
        [frame("ready", user_id="another")],
        [frame("ready", user_id="u1")] * 2,
        [frame("sync.complete")],
        [frame("sync.gap", room_id="room_1", from_seq=1, to_seq=2)],
    ],
)
def test_frames_out_of_place_are_problems(reactor: Reactor, login: TenantLogin, frames: list[bytes]) -> None:
    member = MemberSocket(reactor, login, "room_1", "u1")
    assert member.phase is CONNECTING
    member.on_data(SWITCHED + b"".join(frames))
    assert member.phase in (CONNECTING, READY, SYNCED)
    assert member.problems


def test_audience_counts_messages_that_all_have(reactor: Reactor, login: TenantLogin) -> None:
    audience = Audience()
    recipients = [Recipient(reactor, login, "room_1", f"u{number}", audience) for number in range(3)]
    for recipient in recipients:
        recipient.on_data(SWITCHED + frame("ready", user_id=recipient.user) + frame("sync.complete"))
    for recipient in recipients:
        recipient.on_data(message(1) + message(2))
    recipients[0].on_data(message(3))
    recipients[1].on_data(message(4))  # the same bytes would have been a message of its own for the others
    assert audience.complete == 2
    assert [recipient.next_seq for recipient in recipients] == [4, 5, 3]
    assert [recipient.missing for recipient in recipients] == [0, 1, 0]


STORED = [{"seq": 1, "client_message_id": "a"}, {"seq": 2, "client_message_id": "b"}]


@pytest.mark.parametrize(
    ("stored", "is_ok"),
    [
        (STORED, True),
        (STORED[:1], False),
        (STORED[::-1], False),
        ([*STORED, {"seq": 3, "client_message_id": "c"}], False),
        ([STORED[0], {"seq": 2, "client_message_id": "x"}], False),
        ([STORED[0], {"seq": 3, "client_message_id": "b"}], False),
    ],
)
def test_stored_messages_are_compared_with_confirmed_ones(stored: list[dict[str, object]], is_ok: bool) -> None:
    check = Check()
    check_stored(check, {"room_1": {1: "a", 2: "b"}}, {"room_1": stored})
    assert check.is_ok is is_ok
    assert check.describe().startswith("ok" if is_ok else "WRONG")


LOG: list[dict[str, Any]] = [
    {"type": "message", "seq": 1, "message_id": "msg_1", "client_message_id": "a", "content": "new"},
    {"type": "message.edited", "seq": 2, "message_id": "msg_1", "client_message_id": "a", "content": "new"},
]


@pytest.mark.parametrize(
    ("events", "is_ok"),
    [
        (LOG, True),
        (LOG[:1], False),
        ([{**LOG[0], "content": "old"}, LOG[1]], False),
        ([LOG[0], {**LOG[1], "message_id": "msg_2"}], False),
        ([LOG[0], {**LOG[1], "seq": 3}], False),
    ],
)
def test_log_is_compared_with_confirmed_messages(events: list[dict[str, Any]], is_ok: bool) -> None:
    check = Check()
    mixed._check_log(check, "room_1", mixed.RoomRecord({1: "a"}, {2: ("msg_1", "new")}), events)
    assert check.is_ok is is_ok


# A room of `lively`: a message, its edit, two reactions of which one is taken back, and an answer in a thread.
CONVERSATION: list[dict[str, Any]] = [
    LOG[0],
    LOG[1],
    {"type": "reaction.added", "seq": 3, "message_id": "msg_1", "user_id": "u1", "emoji": "👍"},
    {"type": "reaction.added", "seq": 4, "message_id": "msg_1", "user_id": "u2", "emoji": "👍"},
    {"type": "reaction.removed", "seq": 5, "message_id": "msg_1", "user_id": "u1", "emoji": "👍"},
    {"type": "message", "seq": 6, "message_id": "msg_6", "client_message_id": "b", "thread_id": "msg_1"},
]
READ: list[dict[str, Any]] = [
    {
        "message_id": "msg_1",
        "content": "new",
        "edited_at": "then",
        "reactions": [{"emoji": "👍", "count": 1, "user_ids": ["u2"]}],
        "thread": {"reply_count": 1, "last_reply_seq": 6, "last_reply_at": "then"},
    },
    {"message_id": "msg_6", "content": "an answer", "edited_at": None, "thread_id": "msg_1"},
]


@dataclasses.dataclass
class Conversation:
    confirmed: list[dict[str, Any]] = dataclasses.field(default_factory=lambda: copy.deepcopy(CONVERSATION))
    seen: list[dict[str, Any]] = dataclasses.field(default_factory=lambda: copy.deepcopy(CONVERSATION))
    log: list[dict[str, Any]] = dataclasses.field(default_factory=lambda: copy.deepcopy(CONVERSATION))
    messages: list[dict[str, Any]] = dataclasses.field(default_factory=lambda: copy.deepcopy(READ))

    def check(self) -> Check:
        check, replica = Check(), Replica()
        for event in self.seen:
            replica.take(event)
        confirmed, seen = ({event["seq"]: name_event(event) for event in one} for one in (self.confirmed, self.seen))
        check_room(check, "room_1", ConversationRecord(confirmed, seen, replica.show()), self.log, self.messages)
        return check


def test_a_conversation_without_a_fault_is_right() -> None:
    assert Conversation().check().is_ok


@pytest.mark.parametrize(
    "fault",
    [
        lambda room: room.seen.pop(3),
        lambda room: room.seen.pop(2),  # what was taken back was never seen
        lambda room: room.seen[3].update(emoji="👀"),
        lambda room: room.seen[5].pop("thread_id"),
        lambda room: room.seen[1].update(content="old"),
        lambda room: room.log.pop(),
        lambda room: room.log.append({**CONVERSATION[1], "seq": 7}),
        lambda room: room.log[4].update(user_id="u2"),
        lambda room: room.confirmed.append({**CONVERSATION[2], "seq": 7}),
        lambda room: room.messages[0].update(content="old"),
        lambda room: room.messages[0].pop("reactions"),
        lambda room: room.messages[0]["reactions"][0].update(count=2),
        lambda room: room.messages[0]["thread"].update(reply_count=2),
        lambda room: room.messages[1].update(reactions=[{"emoji": "👍", "count": 1, "user_ids": ["u1"]}]),
    ],
)
def test_a_wrong_conversation_is_found_out(fault: Callable[[Conversation], object]) -> None:
    room = Conversation()
    fault(room)
    assert not room.check().is_ok


def test_a_wrong_result_is_a_failed_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = outcome(messages_per_s=1_000_000.0)
    wrong.check.missing = 1
    monkeypatch.setattr(bench, "_run_once", lambda *_arguments: wrong)
    assert run_bench(["ws-send"]) == 1
    assert "WRONG" in capsys.readouterr().out
    assert run_bench(["ws-send", "--json"]) == 1
    assert read_report(capsys)["ok"] is False


@pytest.mark.parametrize(("polls", "is_asleep"), [(False, True), (True, False)])
def test_one_that_polls_never_sleeps(polls: bool, is_asleep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Reactor(polls=polls)) as reactor:
        waits: list[float] = []
        monkeypatch.setattr(reactor, "_epoll", SimpleNamespace(poll=lambda wait_s, _most: waits.append(wait_s) or []))
        reactor.run(lambda: len(waits) == 3, monotonic() + 60)
        assert [wait_s > 0 for wait_s in waits] == [is_asleep] * 3
        monkeypatch.undo()


# What it reports


def test_percentiles_are_by_nearest_rank() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, percent) for percent in (50, 99, 99.5, 100)] == [50, 99, 100, 100]
    assert percentile([], 50) == 0.0
    assert percentile([7.0], 1) == 7.0


def test_clients_are_shared_among_processes() -> None:
    assert share([1, 2, 3, 4, 5], 2) == [[1, 3, 5], [2, 4]]
    assert share([1], 4) == [[1]]


def test_a_comparison_shows_medians_and_ratios() -> None:
    series = [
        Series("a", [outcome(messages_per_s=value, p99_ms=2.0) for value in (10.0, 30.0, 20.0)]),
        Series("b", [outcome(messages_per_s=value) for value in (5.0, 40.0, 10.0)]),
    ]
    lines = format_table("title", series).splitlines()
    assert lines[1].split() == ["medians", "of", "3", "rounds", "a", "b", "ratio"]
    assert lines[2].split()[-5:] == ["20", "10", "2.00", "x", "(1.38-2.00)"]
    assert lines[3].split() == ["latency", "p99", "2.00", "ms", "-"]
    assert len(lines) == 4 + 6  # a line on each round
    document = json.loads(format_json("ws-send", {}, series))
    assert document["ratios"] == {"b": {"messages_per_s": 2.0}}


def test_the_ratio_is_the_median_of_the_rounds_own() -> None:
    series = [
        Series("a", [outcome(messages_per_s=value) for value in (100.0, 50.0, 10.0)]),
        Series("b", [outcome(messages_per_s=value) for value in (200.0, 100.0, 10.0)]),
    ]
    assert list_ratios("messages_per_s", *series) == [0.5, 0.5, 1.0]
    assert json.loads(format_json("ws-send", {}, series))["ratios"] == {"b": {"messages_per_s": 0.5}}
    two_rounds = [Series(one.name, one.outcomes[:2]) for one in series]
    assert format_table("title", two_rounds).splitlines()[2].endswith("0.50 x")


def test_the_server_of_a_port_is_found(listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    assert find_listener(port) == os.getpid()
    target = Target(f"http://127.0.0.1:{port}", "")
    usage = target.usage()
    assert usage is not None
    assert usage.rss_bytes > 1_000_000
    assert read_usage(2**30) is None
    listening.close()
    assert find_listener(port) is None


# What it is told


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["idle", "--rate", "5"], "idle takes no --rate"),
        (["rest-send", "--against-events", "1"], "rest-send takes no --against-events"),
        (["idle", "--busy-poll"], "idle takes no --busy-poll"),
        (["connect", "--transport", "sse"], "connect takes no --transport"),
        (["ws-send", "--clients", "0"], "--clients 0: too small"),
        (["ws-send", "--processes", "0"], "--processes"),
        (["ws-send", "--url", "http://127.0.0.1:1"], "--master-key"),
        (["ws-send", "--url", "ftp://127.0.0.1:1", "--master-key", "mk"], "expected http"),
        (["ws-send", "--url", "http://127.0.0.1:1", "--master-key", "mk"], "a connection ended"),
        (["ws-send", "--url", "http://a", "--against", "http://a", "--master-key", "mk"], "with itself"),
        (["ws-send", "--set", "limits=3"], "SECTION.KEY=VALUE"),
        pytest.param(["ws-send", "--set", "limits.nonsense=3"], "an unknown key", marks=pytest.mark.slow),
        (["ws-send", "--prefill", "10", "--python", "/bin/false"], "cannot prefill"),
    ],
)
def test_impossible_request_is_refused_in_one_line(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHATAPI_AUTH_MASTER_KEY", raising=False)
    assert run_bench(arguments) == 1
    assert complaint in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "cores", "polls"),
    [
        (["fanout"], 2, False),
        (["fanout", "--rate", "10"], 2, True),
        (["fanout", "--rate", "10"], 1, False),
        (["fanout", "--rate", "10", "--processes", "2"], 2, False),
        (["fanout", "--rate", "10", "--no-busy-poll"], 2, False),
        (["fanout", "--busy-poll"], 2, True),
        (["rest-send"], 2, False),
    ],
)
def test_it_polls_where_the_load_leaves_it_a_core(
    arguments: list[str], cores: int, polls: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "_CORES", cores)
    monkeypatch.setattr(bench, "_run_once", lambda *_arguments: outcome(messages_per_s=1.0))
    processes = [] if "--processes" in arguments else ["--processes", "1"]
    assert run_bench([*arguments, *processes, "--json"]) == 0
    assert read_report(capsys)["options"]["busy_poll"] is polls


def test_a_prefilled_database_is_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "chatapi.db")
    prefill(path, 2_500, Clock())
    assert main(["check", path]) == 0
    prefill(path, 3, Clock(), has_words=True)
    assert main(["check", path]) == 0


# The scenarios


def test_every_scenario_has_a_small_form() -> None:
    assert set(SMALL_FORMS) == set(SCENARIOS)


def form(scenario: str, seconds: float) -> list[str]:
    timed = [] if "seconds" not in SCENARIOS[scenario].defaults else ["--seconds", str(seconds), "--warmup", "0.2"]
    return [scenario, *SMALL_FORMS[scenario], *timed]


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario_finds_a_sound_server(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = run_bench([*form(scenario, 0.3), "--processes", "2", "--pauses", "--json"])
    report = read_report(capsys)
    assert report["ok"], report["servers"]
    assert status == 0


@pytest.mark.slow
def test_two_servers_in_turn(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_bench([*form("ws-send", 0.3), "--prefill", "500", "--against-prefill", "0", "--rounds", "2"]) == 0
    output = capsys.readouterr()
    assert "500 rows" in output.out
    steps = [line for line in output.err.splitlines() if line.startswith("round")]
    assert [step.partition(": ")[2] for step in steps] == ["500 rows", "0 rows", "0 rows", "500 rows"]


# Python imports a `sitecustomize` by itself: here it makes a server that breaks its word once.
LOSE = "room.published_seq += len(frames)"
DOUBLE = "publish(hub, room, frames); publish(hub, room, frames); room.published_seq -= len(frames)"
BROKEN_SERVERS = {
    "a lost message": ("ws-send", "room.published_seq > 8", LOSE, "1 missing"),
    "a doubled message": ("ws-send", "room.published_seq > 8", DOUBLE, "1 doubled"),
    "a lost reaction": ("lively", "room.subscribers and b'reaction.added' in frames[0]", LOSE, "1 missing"),
    "a doubled edit": ("lively", "b'message.edited' in frames[0]", DOUBLE, "1 doubled"),
    "another reaction than was asked for": (
        "lively",
        "room.subscribers and b'reaction.added' in frames[0]",
        'publish(hub, room, [frames[0].replace(b\'"user_id":"u\', b\'"user_id":"v\')])',
        "knows other edits, reactions or threads",
    ),
}
SABOTAGE = """
from chatapi.hub import Hub
publish, done = Hub.publish, []
def publish_badly(hub, room, frames):
    if not done and {when}:
        done.append(1)
        {how}
    else:
        publish(hub, room, frames)
Hub.publish = publish_badly
"""


@pytest.mark.slow
@pytest.mark.parametrize(("scenario", "when", "how", "found"), BROKEN_SERVERS.values(), ids=BROKEN_SERVERS)
def test_a_broken_server_is_found_out(
    scenario: str, when: str, how: str, found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SABOTAGE.format(when=when, how=how))
    clients = ["--clients", "1" if scenario == "ws-send" else "2", "--members", "2"]
    # With one message under way each is published by itself.
    arguments = [scenario, *clients, "--window", "1", "--seconds", "0.5", "--warmup", "0.2", "--tree", str(tmp_path)]
    assert run_bench(arguments) == 1
    assert found in capsys.readouterr().out


@pytest.mark.slow
def test_a_server_that_cannot_do_it_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_bench([*form("lively", 0.3), "--set", "search.enabled=false"]) == 1
    assert "lively needs a server with reactions, threads and search" in capsys.readouterr().err


@pytest.mark.slow
def test_a_rate_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """No more than that many operations begin, however fast the server is."""
    assert run_bench([*form("lively", 0.5), "--rate", "50", "--json"]) == 0
    assert 0 < read_report(capsys)["servers"][0]["figures"]["operations_per_s"] < 80


@pytest.mark.slow
def test_a_running_server_is_left_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ServerProcess(tmp_path, dev=False) as server:
        other_name = server.url.replace("127.0.0.1", "localhost")
        arguments = ["--url", server.url, "--against", other_name, "--master-key", server.master_key, "--rounds", "1"]
        assert run_bench([*form("rest-send", 0.3), *arguments, "--json"]) == 0
        report = read_report(capsys)
        assert [one["name"] for one in report["servers"]] == [server.url, other_name]
        assert report["servers"][0]["figures"]["server_rss_mb"] > 1
        connection = ["--url", server.url, "--master-key", server.master_key, "--json"]
        assert main(["tenant", "list", *connection]) == 0
        assert "bench" not in capsys.readouterr().out
        assert run_bench([*form("recovery", 0.3), *arguments]) == 1
        assert "throw-away" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_early_it_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "chatapi", "bench", *form("ws-send", 60.0)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("measuring"):
                process.send_signal(number)
        assert process.wait(150) == 1
    assert said[-1] == "chatapi: interrupted\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.bench
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_measure(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = run_bench(form(scenario, 1.0))
    with capsys.disabled():
        print(f"\n{capsys.readouterr().out}")
    assert status == 0
