"""The result of a run: figures, and whether the server kept its promises."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from chatapi.cli.bench.crew import Measurement, percentile
from chatapi.cli.bench.target import Usage

MAX_PROBLEMS_SHOWN = 5
MEGABYTE = 1_000_000

OPERATIONS = ("message", "reaction", "edit", "reply", "search", "append", "event")
"""Kinds of operations whose latencies are shown apart too."""


class Delivered(Protocol):
    """The deliveries that one process has seen: part of the results of several scenarios."""

    delivered: int
    missing: int
    doubled: int
    problems: list[str]


@dataclass(slots=True)
class Check:
    """Confirmed against stored, and what was delivered. `problems` says what is wrong; none is a correct run."""

    confirmed: int = 0
    stored: int = 0
    delivered: int = 0
    missing: int = 0
    doubled: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, result: Delivered) -> None:
        self.delivered += result.delivered
        self.missing += result.missing
        self.doubled += result.doubled
        self.problems += result.problems

    def join(self, other: "Check") -> None:
        """Counts also what another one has found."""
        self.confirmed += other.confirmed
        self.stored += other.stored
        self.delivered += other.delivered
        self.missing += other.missing
        self.doubled += other.doubled
        self.problems += other.problems
        self.notes += other.notes

    @property
    def is_ok(self) -> bool:
        return not (self.problems or self.missing or self.doubled) and self.confirmed == self.stored

    def describe(self) -> str:
        """One line, with at most `MAX_PROBLEMS_SHOWN` problems."""
        parts = list(self.notes)
        if self.confirmed or self.stored:
            parts.append(f"{self.confirmed:,} confirmed, {self.stored:,} stored")
        if self.delivered or self.missing:
            parts.append(f"{self.delivered:,} delivered in order, {self.missing:,} missing, {self.doubled:,} doubled")
        more = len(self.problems) - MAX_PROBLEMS_SHOWN
        parts += self.problems[:MAX_PROBLEMS_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        return f"{'ok' if self.is_ok else 'WRONG'}: " + "; ".join(parts)


@dataclass(slots=True)
class Outcome:
    """`figures` are in the order and units of `report.FIGURES`; a figure that could not be measured is absent."""

    figures: dict[str, float] = field(default_factory=dict)
    check: Check = field(default_factory=Check)

    def add_latencies(self, seconds: Sequence[float]) -> None:
        """The order of `seconds` does not matter; the figures are in milliseconds."""
        ordered = sorted(seconds)
        for name, percent in (("p50_ms", 50.0), ("p95_ms", 95.0), ("p99_ms", 99.0), ("max_ms", 100.0)):
            self.figures[name] = percentile(ordered, percent) * 1000

    def add_operations(self, seconds: Mapping[str, Sequence[float]]) -> None:
        """The latencies of each kind among `OPERATIONS`, in any order. A kind without any is left out."""
        for kind, latencies in seconds.items():
            ordered = sorted(latencies)
            for name, percent in (("p50_ms", 50.0), ("p99_ms", 99.0)) if ordered else ():
                self.figures[f"{kind}_{name}"] = percentile(ordered, percent) * 1000

    def add_server(self, before: Usage | None, after: Usage | None, seconds: float) -> None:
        """`seconds` lie between the two. Adds nothing where one of them is unknown."""
        if before is None or after is None:
            return
        self.figures["server_cores"] = (after.cpu_s - before.cpu_s) / seconds
        self.figures["other_cores"] = (after.machine_s - before.machine_s) / seconds - self.figures["server_cores"]
        self.figures["server_rss_mb"] = after.rss_bytes / MEGABYTE

    def add_limits(self, shares: tuple[float, float] | None) -> None:
        """How often the server was the limit, and how often the generator; see `LimitProbe`."""
        if shares is not None:
            self.figures["server_limit_percent"], self.figures["generator_limit_percent"] = (
                100 * one for one in shares
            )

    def add_cost(self) -> None:
        """Called when the other figures are there."""
        rate = next((self.figures[name] for name in RATES if self.figures.get(name)), 0.0)
        if rate and "server_cores" in self.figures:
            self.figures["server_us_each"] = self.figures["server_cores"] / rate * 1e6

    def add_generator(self, measurements: Sequence[Measurement]) -> None:
        """The busiest process is the one that may have been the limit. Called after `add_server`: the time that neither
        side took belongs to the rest of the machine."""
        self.figures["generator_cores"] = sum(measurement.cpu_s / measurement.seconds for measurement in measurements)
        self.figures["generator_busiest"] = max(measurement.cpu_s / measurement.seconds for measurement in measurements)
        if "other_cores" in self.figures:
            self.figures["other_cores"] = max(0.0, self.figures["other_cores"] - self.figures["generator_cores"])


# The things that a scenario counts. The server's processor time for each one is reported: it depends less than the rate
# on the machine's other load.
RATES = (
    "messages_per_s",
    "appends_per_s",
    "deliveries_per_s",
    "requests_per_s",
    "operations_per_s",
    "handshakes_per_s",
)


def check_stored(
    check: Check, confirmed: Mapping[str, Mapping[int, str]], stored: Mapping[str, Sequence[Mapping[str, object]]]
) -> None:
    """Both by room id: the confirmed messages as seq → client_message_id, and the room's messages as read back."""
    for room_id, ids in confirmed.items():
        messages = stored[room_id]
        seqs = [message["seq"] for message in messages]
        check.confirmed += len(ids)
        check.stored += len(messages)
        if seqs != list(range(1, len(seqs) + 1)):
            check.problems.append(f"{room_id}: the stored seqs are not 1 to {len(seqs)}")
        elif {message["seq"]: message["client_message_id"] for message in messages} != dict(ids):
            check.problems.append(f"{room_id}: the stored messages are not the confirmed ones")
