"""Every metric, declared once; and what counts them. `rest/exposition.py` shows them.

Counters are plain numbers, kept where things happen and read only when Prometheus asks: the hot path pays an addition.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple


class MetricKind(StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"
    SUMMARY = "summary"  # a sum and a count, with no quantiles
    HISTOGRAM = "histogram"


class Declared(NamedTuple):
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()


TENANT = "tenant"
"""The label that metrics get only under `metrics.tenant_label`; its value is the tenant's id."""

METRICS: Mapping[str, Declared] = {
    "chatapi_info": Declared(MetricKind.GAUGE, "Always 1; the version is a label.", ("version",)),
    "chatapi_tenants": Declared(MetricKind.GAUGE, "Tenants."),
    "chatapi_connections": Declared(
        MetricKind.GAUGE, "Open connections: WebSockets, event streams and long polls.", (TENANT,)
    ),
    "chatapi_users_online": Declared(MetricKind.GAUGE, "Users with at least one open connection.", (TENANT,)),
    "chatapi_connections_by_transport": Declared(
        MetricKind.GAUGE, "Open connections, by what carries them: websocket, sse or poll.", ("transport",)
    ),
    "chatapi_connections_recovering": Declared(
        MetricKind.GAUGE, "Connections that are served from the log: just opened, or too slow for live delivery."
    ),
    "chatapi_connections_opened_total": Declared(MetricKind.COUNTER, "Connections accepted, whatever carries them."),
    "chatapi_connections_lagged_total": Declared(
        MetricKind.COUNTER, "Times that a connection left live delivery, most often because its client was too slow."
    ),
    "chatapi_connections_shed_total": Declared(
        MetricKind.COUNTER, "Connections of any kind that were closed to make room for others, idle ones first."
    ),
    "chatapi_memory_refusals_total": Declared(
        MetricKind.COUNTER, "Connections, large bodies, exports and imports refused because memory was low."
    ),
    "chatapi_memory_low": Declared(MetricKind.GAUGE, "1 while memory is low, and new connections are refused, else 0."),
    "chatapi_rooms_loaded": Declared(MetricKind.GAUGE, "Rooms in memory.", (TENANT,)),
    "chatapi_open_streams": Declared(MetricKind.GAUGE, "Messages that are still being written.", (TENANT,)),
    "chatapi_messages_total": Declared(MetricKind.COUNTER, "Messages committed.", (TENANT,)),
    "chatapi_deliveries_total": Declared(
        MetricKind.COUNTER, "Durable events handed to connections, one for each recipient."
    ),
    "chatapi_commit_writes": Declared(
        MetricKind.HISTOGRAM, "Writes (messages and other changes) in one commit; its count is the number of commits."
    ),
    "chatapi_commit_seconds": Declared(MetricKind.SUMMARY, "Time that commits took, the disk's included."),
    "chatapi_write_queue_length": Declared(MetricKind.GAUGE, "Writes that wait for a commit."),
    "chatapi_database_writable": Declared(MetricKind.GAUGE, "1 while the database accepts writes, else 0."),
    "chatapi_http_request_seconds": Declared(
        MetricKind.SUMMARY,
        "Time from a request's head to its answer; its count is the number of requests. WebSockets and"
        " event streams are not in it, the waiting of `POST /sync` is.",
        ("method", "route", "status"),
    ),
    "chatapi_websocket_frames_total": Declared(MetricKind.COUNTER, "Frames received from clients."),
    "chatapi_websocket_bad_frames_total": Declared(MetricKind.COUNTER, "Frames received that could not be parsed."),
    "chatapi_rate_limited_total": Declared(
        MetricKind.COUNTER, "Requests and frames refused by the rate limit of a tenant or a user.", ("transport",)
    ),
    "chatapi_wrong_credentials_total": Declared(MetricKind.COUNTER, "Wrong keys, tokens and tickets presented."),
    "chatapi_webhook_calls_total": Declared(
        MetricKind.COUNTER,
        "Webhook calls by outcome: delivered, failed (tried again, unless it was the last try), delayed (the user was"
        " connected), dropped (pointless by then).",
        ("outcome",),
    ),
    "chatapi_webhook_calls_running": Declared(MetricKind.GAUGE, "Webhook calls under way."),
    "chatapi_webhook_calls_waiting": Declared(
        MetricKind.GAUGE, "Webhook calls still to be made, now or at a later try, counted to 10,000."
    ),
    "chatapi_search_lag": Declared(
        MetricKind.GAUGE,
        "Messages and edits that are not in the index of search yet, counted to 10,000; 0 while search is off.",
    ),
    "chatapi_webhook_events_given_up_total": Declared(
        MetricKind.COUNTER,
        "Events for the backends that became dead letters because more than 100,000 of a tenant were waiting.",
    ),
    "chatapi_dead_letters_total": Declared(MetricKind.COUNTER, "Webhook calls that failed for good."),
    "chatapi_tenants_moving": Declared(
        MetricKind.GAUGE,
        "Tenants that are on their way to another server: copying, held, or moved and not confirmed; or arriving.",
        ("state",),
    ),
    "chatapi_tenant_moves_total": Declared(
        MetricKind.COUNTER, "Moves of tenants that have ended: departed, given_up or arrived.", ("outcome",)
    ),
}

PROCESS_METRICS = (
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
)
"""The metrics that prometheus-client reads from the operating system, on Linux."""


class Total:
    """A count and a sum."""

    __slots__ = ("count", "sum")

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0.0

    def add(self, amount: float) -> None:
        self.count += 1
        self.sum += amount


class Histogram:
    """How often each size; `bounds` are the greatest sizes of the buckets, ascending, but the last one's."""

    __slots__ = ("_counts", "bounds", "sum")

    def __init__(self, bounds: Sequence[int]) -> None:
        self.bounds = bounds
        self.sum = 0
        self._counts = [0] * (len(bounds) + 1)

    def add(self, size: int) -> None:
        self._counts[bisect_left(self.bounds, size)] += 1
        self.sum += size

    def cumulate(self) -> list[tuple[str, float]]:
        """As Prometheus wants it: how many were at most this."""
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*self.bounds, "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((str(bound), total))
        return buckets


class Counters:
    """The counters of the edges."""

    __slots__ = ("bad_frames", "frames", "limited_frames", "limited_requests", "requests")

    def __init__(self) -> None:
        self.frames = 0
        self.bad_frames = 0
        self.limited_frames = 0
        self.limited_requests = 0
        self.requests: dict[tuple[str, str, int], Total] = {}  # by method, route and status

    def add_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """`route` is the route's path, or nothing for a request that found none."""
        total = self.requests.get((method, route, status))
        if total is None:
            total = self.requests[method, route, status] = Total()
        total.count += 1
        total.sum += seconds


Value = float | Total | Histogram
Sample = tuple[str, tuple[str, ...], Value]
"""A metric's name, the values of its labels, and its value."""
