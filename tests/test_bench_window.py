"""How many messages the senders of `chatapi bench` keep under way."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from time import monotonic
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chatapi.cli import bench, main
from chatapi.cli.bench.crew import CommandPipe, Measurement, Schedule
from chatapi.cli.bench.reactor import Reactor, find_address
from chatapi.cli.bench.result import Outcome
from chatapi.cli.bench.scenarios.send import SendJob, SendTally, SocketSender, send_over_rest
from chatapi.cli.bench.tenant import BenchOptions, BenchRoom, TenantLogin
from chatapi.protocol import wire

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        yield server


@pytest.fixture
def login(listening: socket.socket) -> TenantLogin:
    return TenantLogin(find_address(*listening.getsockname()), "localhost", "sk_test")


class Sender(SocketSender):
    """Notes its writes, of which none leaves."""

    __slots__ = ("writes",)

    def send(self, data: bytes) -> None:
        self.writes = [*getattr(self, "writes", []), data]


def confirmed(*numbers: int) -> bytes:
    frames = [
        {"type": "message.sent", "client_message_id": f"u1.{number:08}", "message_id": "msg_1", "seq": number + 1}
        for number in numbers
    ]
    return b"".join(wire.encode_text(json.dumps(frame, separators=(",", ":")).encode()) for frame in frames)


@pytest.fixture
def sender(login: TenantLogin) -> Iterator[Sender]:
    with closing(Reactor()) as reactor:
        sender = Sender(reactor, SendTally(), login, "room_1", "u1", BenchOptions())
        sender.on_data(SWITCHED)
        sender.writes.clear()  # the handshake
        yield sender


def test_each_confirmation_makes_room_for_one_more(sender: Sender) -> None:
    sender.send_messages(4)
    sender.on_data(confirmed(0, 1, 2))
    sender.on_data(confirmed(3))
    # What is due together leaves together.
    assert [write.count(b'"client_message_id"') for write in sender.writes] == [4, 3, 1]
    assert b'"u1.00000007"' in sender.writes[-1]
    assert (sender._tally.in_flight, sender._tally.count()) == (4, 4)
    sender._tally.is_over = True
    sender.on_data(confirmed(4, 5, 6, 7))
    assert (sender._tally.in_flight, len(sender.writes)) == (0, 3)
    assert not sender.problems


def test_a_latency_is_that_of_its_message(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("chatapi.cli.bench.scenarios.send.monotonic", lambda: now_s)
    sender.send_messages(2)
    now_s = 101.0
    sender.on_data(confirmed(0))  # the third is sent at 101
    now_s = 104.0
    sender.on_data(confirmed(1, 2))
    assert list(sender._tally.latencies) == [1.0, 4.0, 3.0]


def test_a_confirmation_out_of_turn_is_a_problem(sender: Sender) -> None:
    sender.send_messages(2)
    sender.on_data(confirmed(1))
    assert "confirmed out of turn" in sender.problems[0]


def test_a_client_over_rest_has_a_connection_for_each(listening: socket.socket, login: TenantLogin) -> None:
    room = BenchRoom("room_1", ("u1", "u2"))
    with ExitStack() as stack:

        def answer_all(reactor: Reactor, _schedule: Schedule, _count: object) -> Measurement:
            """Nothing is answered before all requests are there."""
            stack.callback(reactor.close)
            peers = [stack.enter_context(listening.accept()[0]) for _ in range(6)]
            reactor.run(lambda: all(has_request(peer) for peer in peers), monotonic() + 5)
            for seq, peer in enumerate(peers, start=1):
                body = b'{"seq":%d}' % seq
                peer.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            return Measurement()

        pipe = SimpleNamespace(wait_for_start=lambda: Schedule(0.0, 0.0), measure=answer_all)
        result = send_over_rest(SendJob(login, [room], BenchOptions(window=3)), cast("CommandPipe", pipe))
    assert not result.problems
    ids = set(result.confirmed["room_1"].values())
    assert ids == {f"{user}.{number}.00000000" for user in room.users for number in range(3)}


def has_request(peer: socket.socket) -> bool:
    peer.setblocking(False)
    try:
        return peer.recv(4096, socket.MSG_PEEK).endswith(b"}")
    except BlockingIOError:
        return False
    finally:
        peer.settimeout(5)


@pytest.mark.parametrize("scenario", ["rest-send", "ws-send", "fanout", "shards"])
@pytest.mark.parametrize(("arguments", "window"), [([], 8), (["--window", "3"], 3)])
def test_both_servers_of_a_comparison_get_the_same_window(
    scenario: str,
    arguments: list[str],
    window: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    windows = []

    def run_once(_launcher: object, _variant: object, _scenario: object, options: BenchOptions, _: object) -> Outcome:
        windows.append(options.window)
        return Outcome({"messages_per_s": 1.0})

    monkeypatch.setattr(bench, "_run_once", run_once)
    assert main(["bench", scenario, *arguments, "--against-tree", "elsewhere", "--rounds", "1", "--json"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert windows == [window, window]
    assert report["options"]["window"] == window
