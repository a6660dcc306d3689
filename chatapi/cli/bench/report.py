"""The table at the end, and the same as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from chatapi.cli.bench.result import OPERATIONS, Outcome
from chatapi.protocol.json import dumps_text

ROUNDS_WITH_QUARTILES = 3

# Key → what it is called, and how it is written. In this order they are shown.
FIGURES: Mapping[str, tuple[str, str]] = {
    "messages_per_s": ("messages/s, confirmed", "{:,.0f}"),
    "appends_per_s": ("appends/s, confirmed", "{:,.0f}"),
    "events_per_s": ("events/s, told", "{:,.0f}"),
    "deltas_per_s": ("deltas/s, delivered", "{:,.0f}"),
    "deliveries_per_s": ("deliveries/s", "{:,.0f}"),
    "requests_per_s": ("requests/s", "{:,.0f}"),
    "operations_per_s": ("operations/s", "{:,.0f}"),
    "handshakes_per_s": ("handshakes/s, to ready", "{:,.0f}"),
    "caught_up_s": ("all caught up after", "{:.2f} s"),
    "p50_ms": ("latency p50", "{:.2f} ms"),
    "p95_ms": ("latency p95", "{:.2f} ms"),
    "p99_ms": ("latency p99", "{:.2f} ms"),
    "max_ms": ("latency max", "{:.2f} ms"),
    **{
        f"{kind}_{percent}_ms": (f"latency {percent} of {kind}", "{:.2f} ms")
        for kind in OPERATIONS
        for percent in ("p50", "p99")
    },
    "import_s": ("import", "{:.1f} s"),
    "export_s": ("export", "{:.1f} s"),
    **{
        f"{phase}_{key}": (f"{label} {when}", form)
        for phase, when in (("alone", "before"), ("import", "in the import"), ("export", "in the export"))
        for key, label, form in (
            ("sent_per_s", "messages/s", "{:,.0f}"),
            ("p99_ms", "latency p99", "{:.2f} ms"),
            ("max_ms", "latency max", "{:.2f} ms"),
        )
    },
    **{
        f"wear_{rate}_{key}": (f"{label} at {'--rate' if rate == 'own' else f'{rate}/s'}", form)
        for rate in ("1", "10", "100", "1000", "own")
        for key, label, form in (
            ("kb_each", "to the disk for each", "{:,.1f} KB"),
            ("growth_each", "growth of the database", "{:,.0f} bytes"),
            ("commits_each", "commits for each", "{:.2f}"),
            ("mb_day", "to the disk in a day", "{:,.0f} MB"),
            ("p50_ms", "latency p50", "{:.2f} ms"),
            ("p99_ms", "latency p99", "{:.2f} ms"),
        )
    },
    "longest_pause_ms": ("longest pause", "{:.2f} ms"),
    "bytes_per_connection": ("bytes per connection", "{:,.0f}"),
    "bytes_per_stream": ("bytes per open stream", "{:,.0f}"),
    "server_cores": ("server CPU", "{:.2f} cores"),
    "server_us_each": ("server CPU for each of them", "{:.1f} us"),
    "server_rss_start_mb": ("server RSS at start", "{:.1f} MB"),
    "server_rss_before_mb": ("server RSS before", "{:.1f} MB"),
    "server_rss_peak_mb": ("server RSS at its peak", "{:.1f} MB"),
    "server_rss_mb": ("server RSS at the end", "{:.1f} MB"),
    "proxy_cores": ("proxy CPU", "{:.2f} cores"),
    "proxy_us_each": ("proxy CPU for each of them", "{:.1f} us"),
    "proxy_rss_mb": ("proxy RSS at the end", "{:.1f} MB"),
    "generator_cores": ("generator CPU", "{:.2f} cores"),
    "generator_busiest": ("its busiest process", "{:.2f} cores"),
    "server_limit_percent": ("the server was the limit", "{:.0f} % of time"),
    "generator_limit_percent": ("the generator was the limit", "{:.0f} % of time"),
    "other_cores": ("the rest of the machine", "{:.2f} cores"),
}

WITHOUT_RATIO = frozenset({"other_cores", "server_limit_percent", "generator_limit_percent"})


@dataclass(frozen=True, slots=True)
class Series:
    """One server's rounds."""

    name: str
    outcomes: Sequence[Outcome]

    def median_figures(self) -> dict[str, float]:
        """Only those figures that every round has."""
        keys = [key for key in FIGURES if all(key in outcome.figures for outcome in self.outcomes)]
        return {key: median(outcome.figures[key] for outcome in self.outcomes) for key in keys}

    @property
    def is_ok(self) -> bool:
        return all(outcome.check.is_ok for outcome in self.outcomes)


def format_table(title: str, series: Sequence[Series]) -> str:
    """One column per server; with several, also the ratios of the first one's figures to each other one's."""
    figures = [one.median_figures() for one in series]
    rounds = len(series[0].outcomes)
    rows = [["" if rounds == 1 else f"medians of {rounds} rounds", *(one.name for one in series)]]
    rows[0] += ["ratio" if len(series) == 2 else f"ratio to {other.name}" for other in series[1:]]
    for key, (label, form) in FIGURES.items():
        if any(key in column for column in figures):
            row = [label, *(form.format(column[key]) if key in column else "-" for column in figures)]
            rows.append(row + [_format_ratio(list_ratios(key, series[0], other)) for other in series[1:]])
    lines = [title, *_align(rows)]
    for one in series:
        for number, outcome in enumerate(one.outcomes, start=1):
            which = f"{one.name}, round {number}" if rounds > 1 else one.name
            lines.append(f"{which}: {outcome.check.describe()}")
    return "\n".join(lines)


def format_json(scenario: str, options: Mapping[str, object], series: Sequence[Series]) -> str:
    """One object with the medians, each round, and the medians of the rounds' ratios (`list_ratios`)."""
    figures = [one.median_figures() for one in series]
    document = {
        "scenario": scenario,
        "options": options,
        "ok": all(one.is_ok for one in series),
        "servers": [
            {
                "name": one.name,
                "figures": medians,
                "rounds": [
                    {"figures": outcome.figures, "ok": outcome.check.is_ok, "check": outcome.check.describe()}
                    for outcome in one.outcomes
                ],
            }
            for one, medians in zip(series, figures, strict=True)
        ],
        "ratios": {
            other.name: {key: median(ratios) for key in FIGURES if (ratios := list_ratios(key, series[0], other))}
            for other in series[1:]
        },
    }
    return dumps_text(document)


def list_ratios(key: str, first: Series, other: Series) -> list[float]:
    """Of each round, the first server's figure divided by the other's: a machine that is slower for a while is so for
    both. Empty if a round has no such figure, or 0."""
    pairs = [
        (one.figures.get(key), another.figures.get(key))
        for one, another in zip(first.outcomes, other.outcomes, strict=True)
    ]
    ratios = [one / another for one, another in pairs if one is not None and another]
    return ratios if key not in WITHOUT_RATIO and len(ratios) == len(pairs) else []


def _format_ratio(ratios: Sequence[float]) -> str:
    """The median, and between which the middle half of the rounds is, if there are enough of them."""
    if not ratios:
        return ""
    text = f"{median(ratios):.2f} x"
    if len(ratios) < ROUNDS_WITH_QUARTILES:
        return text
    low, _, high = quantiles(ratios, method="inclusive")
    return f"{text} ({low:.2f}-{high:.2f})"


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
