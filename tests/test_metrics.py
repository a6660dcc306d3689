"""`/metrics`: what it counts, who may see it, and that docs/metrics.md says so."""

import re
import time
import timeit
from pathlib import Path

import pytest
from conftest import StartServer
from driver import Server, eventually
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from receiver import Receiver

from chatapi.metrics import METRICS, PROCESS_METRICS, TENANT, Counters, Histogram, MetricKind
from chatapi.rest.exposition import Exposition

DOCS = Path(__file__).parent.parent / "docs" / "metrics.md"


async def scrape(server: Server, **headers: str) -> dict[tuple[str, ...], float]:
    """By the sample's name and its labels' values."""
    reply = await server.request("GET", "/metrics", headers=headers)
    assert reply.status == 200, reply
    families = text_string_to_metric_families(reply.body)
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


async def test_metrics_count_connections_rooms_messages_and_requests(server: Server) -> None:
    before = await scrape(server)
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    socket = await bob.connect()
    second = await bob.connect()
    await alice.say(room_id, "one")
    await alice.say(room_id, "two")
    streams = [await alice.post(f"/rooms/{room_id}/messages", {"content": "", "stream": True}) for _ in range(2)]
    await alice.post(f"/rooms/{room_id}/messages/{streams[0].data['message_id']}/finish", {"state": "done"})
    await socket.send("nonsense")
    await socket.expect("error")
    await alice.get("/rooms/room_0")
    await server.request("GET", "/nowhere")
    await server.request("PUT", "/rooms")
    await server.request("GET", "/rooms", headers={"X-API-Key": "sk_wrong"})
    after = await scrape(server)

    def grown(*sample: str) -> float:
        return after[sample] - before.get(sample, 0)

    assert after["chatapi_connections",] == 2
    assert after["chatapi_users_online",] == 1
    assert after["chatapi_rooms_loaded",] == 1
    assert after["chatapi_tenants",] == 1
    assert after["chatapi_database_writable",] == 1
    assert after["chatapi_write_queue_length",] == 0
    assert after["chatapi_open_streams",] == 1
    assert grown("chatapi_messages_total") == 4
    assert grown("chatapi_deliveries_total") == 10
    assert grown("chatapi_connections_opened_total") == 2
    assert grown("chatapi_commit_writes_count") == grown("chatapi_commit_seconds_count") >= 3
    assert grown("chatapi_commit_writes_sum") >= 3
    assert after["chatapi_commit_writes_bucket", "+Inf"] == after["chatapi_commit_writes_count",]
    assert grown("chatapi_websocket_frames_total") == 1
    assert grown("chatapi_websocket_bad_frames_total") == 1
    assert grown("chatapi_wrong_credentials_total") == 1
    assert grown("chatapi_http_request_seconds_count", "POST", "/rooms/{room_id}/messages", "201") == 4
    assert grown("chatapi_http_request_seconds_sum", "POST", "/rooms/{room_id}/messages", "201") > 0
    assert grown("chatapi_http_request_seconds_count", "GET", "/rooms/{room_id}", "404") == 1
    assert grown("chatapi_http_request_seconds_count", "GET", "/rooms", "401") == 1
    assert grown("chatapi_http_request_seconds_count", "other", "other", "404") == 1
    assert grown("chatapi_http_request_seconds_count", "other", "other", "405") == 1
    assert after["process_resident_memory_bytes",] > 1_000_000
    await socket.close()
    await second.close()
    await eventually(lambda: not server.services.hub.connections)
    assert (await scrape(server))["chatapi_connections",] == 0


async def test_both_prefixes_are_one_route(server: Server) -> None:
    await server.user("alice").get("/rooms")
    await server.user("alice").get("/v1/rooms")
    assert (await scrape(server))["chatapi_http_request_seconds_count", "GET", "/rooms", "200"] == 2


async def test_requests_refused_by_the_rate_limit_are_counted(start_server: StartServer) -> None:
    server = await start_server({"limits.rate_limit": 0.001, "limits.rate_burst": 2})
    alice = server.user("alice")
    socket = await alice.connect()
    await alice.get("/rooms")
    assert (await alice.get("/rooms")).status == 429
    await socket.send("subscribe", room_id="room_0")
    await socket.expect("error", code="RATE_LIMIT_EXCEEDED")
    samples = await scrape(server)
    assert samples["chatapi_rate_limited_total", "http"] == 1
    assert samples["chatapi_rate_limited_total", "websocket"] == 1


async def test_tenants_are_told_apart_on_demand(start_server: StartServer) -> None:
    server = await start_server({"metrics.tenant_label": True})
    other = await server.make_tenant("other")
    alice = server.user("alice", other["api_key"])
    await alice.say(await alice.make_room())
    socket = await alice.connect()
    samples = await scrape(server)
    for name in ("chatapi_messages_total", "chatapi_connections", "chatapi_users_online", "chatapi_rooms_loaded"):
        found = {sample[1]: value for sample, value in samples.items() if sample[0] == name}
        assert found.pop(other["tenant_id"]) == 1
        assert list(found.values()) == [0]
    await socket.close()


async def test_webhook_calls_are_counted(start_server: StartServer, receiver: Receiver) -> None:
    server = await start_server({"webhooks.allow_private_addresses": True})
    hooked = await server.make_tenant("hooked", webhook_url=receiver.url)
    alice = server.user("alice", hooked["api_key"])
    await alice.say(await alice.make_room("bob"))
    webhooks = server.services.webhooks
    await eventually(lambda: webhooks.delivered and not webhooks.running)  # a call runs until its outcome is stored
    samples = await scrape(server)
    assert samples["chatapi_webhook_calls_total", "delivered"] == 1
    assert samples["chatapi_webhook_calls_total", "failed"] == 0
    assert samples["chatapi_webhook_calls_running",] == 0
    assert samples["chatapi_dead_letters_total",] == 0


async def test_webhook_calls_that_wait_are_counted(start_server: StartServer) -> None:
    schedule = {"webhooks.retry_schedule_seconds": [3600], "webhooks.allow_private_addresses": True}
    server = await start_server(schedule)
    hooked = await server.make_tenant("hooked", webhook_url="http://127.0.0.1:9/")
    alice = server.user("alice", hooked["api_key"])
    await alice.say(await alice.make_room("bob", "carol"))
    assert (await scrape(server))["chatapi_webhook_calls_waiting",] == 2


async def test_keys_and_content_are_in_no_metric(server: Server) -> None:
    alice = server.user("alice-in-no-metric")
    await alice.say(await alice.make_room(), "content-in-no-metric")
    await server.request("GET", "/rooms/secret-in-no-metric?token=secret-in-no-metric")
    await server.request("GET", "/nowhere/secret-in-no-metric")
    text = (await server.request("GET", "/metrics")).body
    assert "in-no-metric" not in text
    assert server.api_key not in text


async def test_it_can_be_switched_off(start_server: StartServer) -> None:
    server = await start_server({"metrics.enabled": False})
    assert (await server.request("GET", "/metrics")).status == 404
    assert "/metrics" not in (await server.request("GET", "/openapi.json")).body["paths"]


async def test_it_can_ask_for_the_master_key(start_server: StartServer) -> None:
    server = await start_server({"metrics.require_master_key": True})
    reply = await server.request("GET", "/metrics")
    assert (reply.status, reply.error["code"]) == (401, "AUTHENTICATION_ERROR")
    assert (await server.request("GET", "/metrics", headers={"X-Master-Key": "wrong"})).status == 401
    assert await scrape(server, **{"X-Master-Key": server.master_key})
    document = (await server.request("GET", "/openapi.json")).body
    assert document["paths"]["/metrics"]["get"]["security"] == [{"masterKey": []}]


async def test_it_is_prometheus_text(server: Server) -> None:
    await server.user("alice").make_room()
    reply = await server.request("GET", "/v1/metrics")
    assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "X-Request-Id" in reply.headers
    families = {family.name: family for family in text_string_to_metric_families(reply.body)}
    for name, declared in METRICS.items():
        family = families[name.removesuffix("_total")]
        assert (family.type, family.documentation) == (declared.kind, declared.help)
        assert family.samples, name


def test_names_follow_the_custom() -> None:
    for name, declared in METRICS.items():
        assert name.startswith("chatapi_")
        assert name.endswith("_total") is (declared.kind is MetricKind.COUNTER)
        assert declared.help.endswith(".")
        assert declared.labels == (TENANT,) or TENANT not in declared.labels


def test_docs_list_every_declared_metric() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| *(.*?) *\| (.*?) \|$", DOCS.read_text(), re.MULTILINE)
    documented = {name: (kind, labels, text) for name, kind, labels, text in rows}
    assert set(documented) == {*METRICS, *PROCESS_METRICS}
    for name, declared in METRICS.items():
        labels = ", ".join(f"`{label}`" for label in declared.labels)
        assert documented[name] == (declared.kind, labels, declared.help), name


def test_process_metrics_are_the_declared_ones() -> None:
    exposition = Exposition([], with_tenants=False)
    found = {sample.name for family in exposition.collect() for sample in family.samples}
    assert found == set(PROCESS_METRICS)


@given(st.lists(st.integers(0, 600)))
def test_histogram_counts_each_size_once(sizes: list[int]) -> None:
    histogram = Histogram((1, 2, 4, 512))
    for size in sizes:
        histogram.add(size)
    expected = [(str(bound), sum(size <= bound for size in sizes)) for bound in histogram.bounds]
    assert histogram.cumulate() == [*expected, ("+Inf", len(sizes))]
    assert histogram.sum == sum(sizes)


@pytest.mark.bench
def test_counting_a_request_costs_less_than_a_microsecond() -> None:
    counters = Counters()
    runs = 100_000
    count = timeit.Timer(lambda: counters.add_request("GET", "/rooms", 200, 0.001), timer=time.thread_time)
    seconds = min(count.repeat(number=runs, repeat=5))
    print(f"{seconds / runs * 1e9:.0f} ns")
    assert seconds / runs < 1e-6
