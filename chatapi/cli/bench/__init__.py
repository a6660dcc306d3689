"""`chatapi bench`: load from this machine, figures of both sides, and whether everything arrived as promised."""

import argparse
import dataclasses
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.report import Series, format_json, format_table
from chatapi.cli.bench.result import MEGABYTE, Outcome
from chatapi.cli.bench.scenarios import SCENARIOS, Scenario
from chatapi.cli.bench.target import Launcher, ThrowAwayServer, Variant
from chatapi.cli.bench.tenant import BenchOptions, BenchTenant
from chatapi.cli.output import Progress

COMPARING_ROUNDS = 3

# Option → its type and what it means; a scenario takes those among its defaults.
_SCENARIO_OPTIONS = {
    "clients": (int, "N", "number of users who send or read"),
    "members": (int, "N", "members of each room"),
    "streams": (int, "N", "number of open streams; in ws-send beside the messages"),
    "append_rate": (float, "N", "appends per second to each stream beside the messages"),
    "appends": (int, "N", "number of appends to each stream"),
    "servers": (int, "N", "number of servers behind HAProxy; 0 = one without it"),
    "events": (int, "0|1", "1 = a prompt endpoint is told of every message (webhook_events)"),
    "window": (int, "N", "messages of each sender, operations or handshakes under way at once"),
    "rate": (
        float,
        "N",
        "messages (operations in lively, each one's appends in streams) per second; 0 = as many as go",
    ),
    "connections": (int, "N", "number of connections"),
    "messages": (int, "N", "messages of the tenant that is imported and exported"),
    "missed": (int, "N", "number of messages that each client has missed"),
    "stall": (float, "SECONDS", "time for which the slow readers stop"),
    "size": (int, "BYTES", "size of each message's content"),
    "seconds": (float, "N", "seconds of the measurement"),
    "warmup": (float, "N", "seconds of load before the measurement"),
}
TRANSPORTS = ("websocket", "sse")
# Unless a scenario needs more.
_MAY_BE_ZERO = frozenset({"rate", "warmup", "busy_poll", "streams", "servers", "events"})
_CORES = os.cpu_count() or 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measures a throw-away server, or the one at --url, and checks that nothing was lost, doubled or out of order."
        " A wrong result exits with 1, however fast it was."
    )
    parser.epilog = "scenarios: " + "; ".join(f"{scenario.name}: {scenario.does}" for scenario in SCENARIOS.values())
    parser.add_argument("scenario", choices=SCENARIOS, metavar="SCENARIO", help=", ".join(SCENARIOS))
    _add_load_options(parser)
    _add_server_options(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def _add_load_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("load")
    for name, (kind, metavar, text) in _SCENARIO_OPTIONS.items():
        group.add_argument(
            f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=f"{text} ({_format_defaults(name)})"
        )
    group.add_argument(
        "--pauses", action="store_true", help="also find the server's longest pause; it costs about 1%% of its time"
    )
    group.add_argument(
        "--transport",
        choices=TRANSPORTS,
        help="what carries the connections of idle: WebSockets, or Server-Sent Events (default: websocket)",
    )
    processes = max(1, _CORES - 1)
    group.add_argument(
        "--processes",
        type=int,
        default=processes,
        metavar="N",
        help=f"number of processes of the load generator (default: {processes})",
    )
    group.add_argument(
        "--busy-poll",
        action=argparse.BooleanOptionalAction,
        help="never let the generator sleep, so that the server does not have to wake it; this takes a core for each"
        " process (default: with --rate, if there is a core for it)",
    )


def _format_defaults(name: str) -> str:
    known = [
        f"{scenario.name}: {scenario.defaults[name]:g}" for scenario in SCENARIOS.values() if name in scenario.defaults
    ]
    if len(set(texts := [text.partition(": ")[2] for text in known])) == 1:
        return f"default: {texts[0]}"
    return "default: " + ", ".join(known)


def _add_server_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    group.add_argument("--url", help="measure this server instead of a throw-away one")
    group.add_argument(
        "--master-key",
        metavar="KEY",
        help="master key of the servers of --url and --against (default: $CHATAPI_AUTH_MASTER_KEY)",
    )
    group.add_argument("--tree", default="", metavar="DIR", help="source tree of the throw-away server")
    group.add_argument("--python", default=sys.executable, help="interpreter of the throw-away server")
    group.add_argument(
        "--loop", choices=("asyncio", "uvloop"), default="asyncio", help="event loop of the throw-away servers"
    )
    group.add_argument(
        "--prefill", type=int, default=0, metavar="ROWS", help="messages to store in the throw-away database before"
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="a setting of the throw-away servers (may be repeated)",
    )
    group = parser.add_argument_group("comparison", "rounds alternate between the servers: A B A B A B")
    group.add_argument("--against", nargs="+", default=[], metavar="URL", help="compare with servers that run already")
    group.add_argument("--against-tree", metavar="DIR", help="compare with a throw-away server of this source tree")
    group.add_argument(
        "--against-python", metavar="PYTHON", help="compare with a throw-away server of this interpreter"
    )
    group.add_argument(
        "--against-loop", choices=("asyncio", "uvloop"), help="compare with a throw-away server on this loop"
    )
    group.add_argument(
        "--against-prefill", type=int, metavar="ROWS", help="compare with a throw-away server with so many messages"
    )
    group.add_argument(
        "--against-streams", type=int, metavar="N", help="compare with a throw-away server beside so many open streams"
    )
    group.add_argument(
        "--against-servers", type=int, metavar="N", help="compare with so many throw-away servers behind HAProxy"
    )
    group.add_argument(
        "--against-events",
        type=int,
        metavar="0|1",
        help="compare with a throw-away server that tells (or does not)",
    )
    group.add_argument(
        "--rounds", type=int, metavar="N", help=f"default: 1, and {COMPARING_ROUNDS} when servers are compared"
    )


def run(args: argparse.Namespace) -> int:
    """Raises CliError."""
    scenario = SCENARIOS[args.scenario]
    options = _read_options(args, scenario)
    variants = _read_variants(args)
    rounds = args.rounds or (COMPARING_ROUNDS if len(variants) > 1 else 1)
    progress = Progress()
    outcomes: dict[Variant, list[Outcome]] = {variant: [] for variant in variants}
    launcher = Launcher()
    # However it is stopped, the server and its files go too.
    on_terminate = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for number in range(1, rounds + 1):
            for variant in variants if number % 2 else reversed(variants):  # so that neither is always the second
                if rounds > 1 or len(variants) > 1:
                    progress.step(f"round {number} of {rounds}: {variant.name}")
                outcomes[variant].append(_run_once(launcher, variant, scenario, options, progress))
    except KeyboardInterrupt:
        raise BenchError("interrupted") from None
    finally:
        signal.signal(signal.SIGTERM, on_terminate)
        launcher.close()
        progress.end()
    series = [Series(variant.name, outcomes[variant]) for variant in variants]
    used = _used_options(scenario, options)
    if args.json:
        print(format_json(scenario.name, used, series))
    else:
        settings = ", ".join(f"{name} {value:g}" for name, value in used.items())
        print(format_table(f"{scenario.name}: {settings}", series))
    return 0 if all(one.is_ok for one in series) else 1


def _run_once(
    launcher: Launcher, variant: Variant, scenario: Scenario, options: BenchOptions, progress: Progress
) -> Outcome:
    progress.step("starting the server" + (f" with {variant.prefill:,} messages" if variant.prefill else ""))
    target = launcher.start(variant)
    if variant.streams is not None:
        options = dataclasses.replace(options, streams=variant.streams)
    if variant.servers is not None:
        options = dataclasses.replace(options, servers=variant.servers)
    if variant.events is not None:
        options = dataclasses.replace(options, events=variant.events)
    try:
        usage = target.usage()
        tenant = BenchTenant(target, options, progress)
        try:
            outcome = scenario.run(tenant)
        finally:
            if variant.url:
                tenant.close()
        outcome.add_cost()
        if isinstance(target, ThrowAwayServer):
            outcome.check.problems += target.complaints()
            assert usage is not None
            outcome.figures["server_rss_start_mb"] = usage.rss_bytes / MEGABYTE
        return outcome
    finally:
        target.close()


def _read_options(args: argparse.Namespace, scenario: Scenario) -> BenchOptions:
    chosen = dict(scenario.defaults)
    for name in [*_SCENARIO_OPTIONS, "busy_poll"]:
        if (value := getattr(args, name)) is not None:
            if name not in scenario.defaults:
                raise BenchError(f"{scenario.name} takes no --{name.replace('_', '-')}")
            chosen[name] = value
    for name, value in chosen.items():
        if value < scenario.at_least.get(name, 0) or (value == 0 and name not in _MAY_BE_ZERO):
            raise BenchError(f"--{name.replace('_', '-')} {value:g}: too small")
    if args.against_streams is not None and scenario.name != "ws-send":
        raise BenchError(f"{scenario.name} takes no --against-streams")
    if args.against_events is not None and "events" not in scenario.defaults:
        raise BenchError(f"{scenario.name} takes no --against-events")
    if args.against_servers is not None and scenario.name != "shards":
        raise BenchError(f"{scenario.name} takes no --against-servers")
    if args.processes < 1:
        raise BenchError("--processes: at least 1")
    if args.busy_poll is None and "busy_poll" in chosen and chosen.get("rate"):
        chosen["busy_poll"] = args.processes < _CORES
    if args.transport is not None and scenario.name != "idle":
        raise BenchError(f"{scenario.name} takes no --transport")
    transport = args.transport or TRANSPORTS[0]
    return BenchOptions(processes=args.processes, pauses=args.pauses, transport=transport, **chosen)  # type: ignore[arg-type]  # each option's own type


def _used_options(scenario: Scenario, options: BenchOptions) -> dict[str, float]:
    return {name: getattr(options, name) for name in [*scenario.defaults, "processes"]}


def _read_variants(args: argparse.Namespace) -> list[Variant]:
    """The server that is measured, and those that it is compared with."""
    master_key = args.master_key or os.environ.get("CHATAPI_AUTH_MASTER_KEY", "")
    if (args.url or args.against) and not master_key:
        raise BenchError("--url and --against need --master-key, or CHATAPI_AUTH_MASTER_KEY")
    settings = tuple(_read_setting(text) for text in args.set)
    first = Variant(
        args.url or args.tree or "server",
        args.url or "",
        master_key,
        python=args.python,
        tree=args.tree,
        loop=args.loop,
        prefill=args.prefill,
        streams=args.streams,
        servers=args.servers,
        events=args.events,
        settings=settings,
    )
    variants = [first, *(Variant(url, url, master_key) for url in args.against)]
    changes = {
        "python": args.against_python,
        "tree": args.against_tree,
        "loop": args.against_loop,
        "prefill": args.against_prefill,
        "streams": args.against_streams,
        "servers": args.against_servers,
        "events": args.against_events,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    if given:
        if not args.url:
            variants[0] = dataclasses.replace(
                first, name=_format_differences({name: getattr(first, name) for name in given})
            )
        variants.append(dataclasses.replace(first, name=_format_differences(given), url="", **given))
    if len({variant.name for variant in variants}) < len(variants):
        raise BenchError("a server cannot be compared with itself")
    return variants


def _format_differences(differences: Mapping[str, Any]) -> str:
    """Names a throw-away server by what tells it from the other one."""
    units = {"prefill": "rows", "streams": "streams", "servers": "servers", "events": "events"}
    return " ".join(
        f"{value or 0:,} {units[name]}" if name in units else str(value or "this tree")
        for name, value in differences.items()
    )


def _read_setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or "." not in name:
        raise BenchError(f"--set {text}: expected SECTION.KEY=VALUE")
    return f"CHATAPI_{name.replace('.', '_').upper()}", value
