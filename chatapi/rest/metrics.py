"""`GET /metrics`: every counter is read where it is kept."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import chatapi
from chatapi.connection import ConnectionState, TransportKind
from chatapi.metrics import Sample, Total
from chatapi.models import TenantKey
from chatapi.rest.call import OpenCall, Response
from chatapi.services import Services
from chatapi.store.webhooks import count_waiting

OTHER = "other"  # where there was no route for the request
MAX_WAITING = 10_000  # counted; 0.2 ms of a reader's time


async def metrics(call: OpenCall[None, None]) -> Response[None]:
    """Get metrics for Prometheus."""
    services = call.services
    waiting = await count_waiting(services.store.readers, MAX_WAITING)
    samples = [
        *read_samples(services),
        ("chatapi_webhook_calls_waiting", (), waiting),
        ("chatapi_search_lag", (), await services.search.count_lag()),
    ]
    return await asyncio.to_thread(_expose, samples, with_tenants=services.config.metrics.tenant_label)


def _expose(samples: Sequence[Sample], *, with_tenants: bool) -> Response[None]:
    from chatapi.rest.exposition import CONTENT_TYPE, Exposition  # by the first call alone, outside the loop

    return Response(200, Exposition(samples, with_tenants=with_tenants).encode(), CONTENT_TYPE)


def read_samples(services: Services) -> Iterator[Sample]:
    """All that is counted in memory, as it now stands."""
    yield "chatapi_info", (chatapi.__version__,), 1
    yield "chatapi_tenants", (), len(services.tenants.all())
    yield from _read_connections(services)
    yield from _read_store(services)
    yield from _read_edges(services)
    yield from _read_webhooks(services)
    yield from _read_moves(services)


def _read_connections(services: Services) -> Iterator[Sample]:
    hub, rooms = services.hub, services.rooms
    yield from _per_tenant(services, "chatapi_connections", hub.count_connections())
    yield from _per_tenant(services, "chatapi_users_online", hub.count_users())
    kinds = Counter(connection.kind for connection in hub.connections.values())
    for kind in TransportKind:
        yield "chatapi_connections_by_transport", (kind.value,), kinds[kind]
    recovering = sum(connection.state is ConnectionState.RECOVERING for connection in hub.connections.values())
    yield "chatapi_connections_recovering", (), recovering
    yield "chatapi_connections_opened_total", (), hub.opened
    yield "chatapi_connections_lagged_total", (), hub.lagged
    yield "chatapi_connections_shed_total", (), services.admission.shed
    yield "chatapi_memory_refusals_total", (), services.admission.memory.refused
    yield "chatapi_memory_low", (), int(services.admission.memory.is_low)
    yield "chatapi_deliveries_total", (), hub.deliveries
    yield from _per_tenant(services, "chatapi_open_streams", rooms.streams.count_per_tenant())
    if services.config.metrics.tenant_label:
        yield from _per_tenant(services, "chatapi_rooms_loaded", rooms.count_per_tenant())
    else:
        yield "chatapi_rooms_loaded", (), len(rooms)


def _read_store(services: Services) -> Iterator[Sample]:
    writer = services.store.writer
    yield from _per_tenant(services, "chatapi_messages_total", services.committer.committed)
    yield "chatapi_commit_writes", (), writer.commit_writes
    yield "chatapi_commit_seconds", (), writer.commit_seconds
    yield "chatapi_write_queue_length", (), len(writer)
    yield "chatapi_database_writable", (), int(writer.writable)


def _read_edges(services: Services) -> Iterator[Sample]:
    counters = services.counters
    totals: defaultdict[tuple[str, str, str], Total] = defaultdict(Total)
    for (method, route, status), total in counters.requests.items():
        folded = totals[method or OTHER, route.removeprefix("/v1") or OTHER, str(status)]
        folded.count += total.count
        folded.sum += total.sum
    for labels, total in totals.items():
        yield "chatapi_http_request_seconds", labels, total
    yield "chatapi_websocket_frames_total", (), counters.frames
    yield "chatapi_websocket_bad_frames_total", (), counters.bad_frames
    yield "chatapi_rate_limited_total", ("http",), counters.limited_requests
    yield "chatapi_rate_limited_total", ("websocket",), counters.limited_frames
    yield "chatapi_wrong_credentials_total", (), services.auth.wrong_credentials


def _read_webhooks(services: Services) -> Iterator[Sample]:
    webhooks = services.webhooks
    for outcome in ("delivered", "failed", "delayed", "dropped"):
        yield "chatapi_webhook_calls_total", (outcome,), getattr(webhooks, outcome)
    yield "chatapi_webhook_calls_running", (), webhooks.running
    yield "chatapi_webhook_events_given_up_total", (), webhooks.given_up
    yield "chatapi_dead_letters_total", (), webhooks.dead


def _read_moves(services: Services) -> Iterator[Sample]:
    departures, arrivals = services.departures, services.arrivals
    under_way = Counter(departures.states)
    for state in ("copying", "held", "moved"):
        yield "chatapi_tenants_moving", (state,), under_way[state]
    yield "chatapi_tenants_moving", ("arriving",), arrivals.count()
    yield "chatapi_tenant_moves_total", ("departed",), departures.moved
    yield "chatapi_tenant_moves_total", ("given_up",), departures.given_up
    yield "chatapi_tenant_moves_total", ("arrived",), arrivals.arrived


def _per_tenant(services: Services, name: str, counts: Mapping[TenantKey, int]) -> Iterator[Sample]:
    """A sample for each tenant under `metrics.tenant_label`, else their sum, of tenants gone by too."""
    if not services.config.metrics.tenant_label:
        yield name, (), sum(counts.values())
        return
    for tenant in services.tenants.all():
        yield name, (tenant.tenant_id,), counts.get(tenant.tenant_key, 0)
