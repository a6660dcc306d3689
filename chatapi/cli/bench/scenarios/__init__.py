"""Every scenario, with what it does when it is told nothing else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from chatapi.cli.bench.growing import TIME_BYTES
from chatapi.cli.bench.result import Outcome
from chatapi.cli.bench.scenarios.arrive import run_connect, run_idle, run_recovery
from chatapi.cli.bench.scenarios.fanout import run_fanout
from chatapi.cli.bench.scenarios.history import run_history
from chatapi.cli.bench.scenarios.lively import run_lively
from chatapi.cli.bench.scenarios.mixed import run_mixed
from chatapi.cli.bench.scenarios.send import run_rest_send, run_ws_send
from chatapi.cli.bench.scenarios.shards import run_shards
from chatapi.cli.bench.scenarios.slow import run_slow
from chatapi.cli.bench.scenarios.streams import run_open_streams, run_streams
from chatapi.cli.bench.scenarios.transfer import run_transfer
from chatapi.cli.bench.scenarios.wear import run_wear
from chatapi.cli.bench.tenant import BenchTenant


@dataclass(frozen=True, slots=True)
class Scenario:
    """`defaults` are the options that it takes; the command refuses all others, and values below `at_least`."""

    name: str
    does: str
    run: Callable[[BenchTenant], Outcome]
    defaults: Mapping[str, float]
    at_least: Mapping[str, float] = field(default_factory=dict)


_LOAD = {"size": 100, "seconds": 5.0, "warmup": 1.0}
_SENT_LOAD = {**_LOAD, "busy_poll": False}
# Messages that a sender has under way. With one the generator's turns, and not the server, are what is measured.
_WINDOW = 8
# To each stream beside the messages: the SDKs send an append with all the text that has come since the last one, once
# that is confirmed, and appends are committed every 50 ms (`appends.JOIN_SECONDS`).
_APPENDS_PER_S = 20.0

SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "rest-send",
            "clients send over REST, with 8 messages under way each (--window)",
            run_rest_send,
            {"clients": 64, "members": 2, "window": _WINDOW, **_SENT_LOAD},
        ),
        Scenario(
            "ws-send",
            "clients send over WebSocket, with 8 messages under way each, in rooms of 2, and get what is sent there",
            run_ws_send,
            {
                "clients": 50,
                "members": 2,
                "window": _WINDOW,
                "rate": 0.0,
                "streams": 0,
                "append_rate": _APPENDS_PER_S,
                "events": 0,
                **_SENT_LOAD,
            },
            at_least={"append_rate": 0.1},
        ),
        Scenario(
            "fanout",
            "one sender in a room of 1,000 connected members; a latency ends at the last member",
            run_fanout,
            {"members": 1000, "window": _WINDOW, "rate": 0.0, **_SENT_LOAD},
        ),
        Scenario(
            "idle",
            "users connect and do nothing: what each connection costs in memory",
            run_idle,
            {"connections": 10_000, "members": 10, "window": 500},
        ),
        Scenario(
            "connect",
            "a storm of handshakes, each until it is ready",
            run_connect,
            {"connections": 5_000, "members": 10, "window": 500},
        ),
        Scenario(
            "recovery",
            "users who have missed messages return, all at once, to a server that has just started",
            run_recovery,
            {"connections": 5_000, "members": 10, "missed": 20, "window": 500, "size": 100},
        ),
        Scenario(
            "history",
            "clients read pages of 50 messages over REST, at random places of rooms of 1,000",
            run_history,
            {"clients": 16, **_LOAD},
        ),
        Scenario(
            "slow",
            "readers stop reading in a busy room, and read again; latencies are those of the others",
            run_slow,
            {"connections": 100, "rate": 500.0, "stall": 20.0, **_LOAD},
        ),
        Scenario(
            "mixed",
            "people send, edit, read history, acknowledge, type and reconnect, in rooms of 10",
            run_mixed,
            {"clients": 50, "members": 10, **_SENT_LOAD},
        ),
        Scenario(
            "lively",
            "200 people in rooms of 10 send, react, edit, answer in threads and search; what each has seen is compared"
            " with what is read",
            run_lively,
            {"clients": 200, "members": 10, "window": 1, "rate": 0.0, **_SENT_LOAD},
        ),
        Scenario(
            "streams",
            "clients write messages bit by bit, which all members see grow; a latency ends at each reader",
            run_streams,
            {"clients": 100, "members": 2, "rate": 50.0, **_SENT_LOAD, "size": 20},
            at_least={"size": TIME_BYTES, "rate": 0.1},
        ),
        Scenario(
            "open-streams",
            "streams are opened and left open: what each costs in memory, beside its text",
            run_open_streams,
            {"clients": 10, "streams": 4_000, "appends": 50, "window": 10, "size": 20},
            at_least={"streams": 2},
        ),
        Scenario(
            "wear",
            "clients send over WebSocket, 1, 10, 100 and 1,000 messages a second: what is written to the disk for each",
            run_wear,
            {"clients": 10, "members": 2, "rate": 0.0, **_LOAD, "seconds": 60.0, "warmup": 0.0},
        ),
        Scenario(
            "shards",
            "ws-send to servers behind HAProxy, each with a tenant of its own; --servers 0 is one without HAProxy",
            run_shards,
            {"servers": 2, "clients": 100, "members": 2, "window": _WINDOW, **_SENT_LOAD},
        ),
        Scenario(
            "transfer",
            "a tenant of 100,000 messages is imported and exported as a file, while clients of another one send",
            run_transfer,
            {"messages": 100_000, "clients": 20, "members": 2, "rate": 300.0, **_LOAD},
            at_least={"rate": 1.0},
        ),
    )
}
