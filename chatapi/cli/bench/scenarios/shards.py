"""shards: ws-send to several servers at once, each with a tenant of its own, through HAProxy."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from time import monotonic

from chatapi.cli.bench.crew import CommandPipe, share
from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.proxy import BenchProxy
from chatapi.cli.bench.reactor import Reactor
from chatapi.cli.bench.result import MEGABYTE, Outcome, check_stored
from chatapi.cli.bench.run import measure
from chatapi.cli.bench.scenarios.send import SendJob, SendResult, SendTally, finish_sockets, measure_sends, open_sockets
from chatapi.cli.bench.stream import all_ready
from chatapi.cli.bench.target import Target, ThrowAwayServer, Usage
from chatapi.cli.bench.tenant import BenchRoom, BenchTenant, TenantLogin


@dataclass(frozen=True, slots=True)
class Shard:
    tenant: BenchTenant
    login: TenantLogin
    rooms: Sequence[BenchRoom]


class Fleet(Target):
    """All servers as one, with the sum of their usages. The proxy's is kept apart."""

    def __init__(self, servers: Sequence[Target], proxy: BenchProxy | None) -> None:
        self.address, self.host = servers[0].address, servers[0].host
        self._servers = servers
        self._proxy = proxy
        self.proxy_usages: list[tuple[float, Usage]] = []  # with when it was asked

    def usage(self) -> Usage | None:
        used = [usage for server in self._servers if (usage := server.usage()) is not None]
        if self._proxy is not None and (proxys := self._proxy.usage()) is not None:
            self.proxy_usages.append((monotonic(), proxys))
        if len(used) < len(self._servers):
            return None
        return Usage(sum(one.cpu_s for one in used), sum(one.rss_bytes for one in used), used[-1].machine_s)

    def find_pids(self) -> list[int]:
        return [pid for server in self._servers for pid in server.find_pids()]

    def add_proxy(self, outcome: Outcome) -> None:
        """Of the measurement, at whose beginning and end `usage` was asked."""
        if len(self.proxy_usages) >= 2:
            (began_s, before), (ended_s, after) = self.proxy_usages[-2:]
            cores = (after.cpu_s - before.cpu_s) / (ended_s - began_s)
            outcome.figures["proxy_cores"] = cores
            outcome.figures["proxy_us_each"] = cores / max(1.0, outcome.figures["messages_per_s"]) * 1e6
            outcome.figures["proxy_rss_mb"] = after.rss_bytes / MEGABYTE
            outcome.figures["other_cores"] = max(0.0, outcome.figures.get("other_cores", 0.0) - cores)


def run_shards(tenant: BenchTenant) -> Outcome:
    """`options.servers` 0 is one server without the proxy."""
    first, options = tenant.target, tenant.options
    if not isinstance(first, ThrowAwayServer):
        raise BenchError("shards starts its servers itself: it takes no --url")
    with ExitStack() as stack:
        tenants = [tenant]
        for number in range(2, options.servers + 1):
            tenant.progress.step(f"starting server {number}")
            target = ThrowAwayServer(first.variant, None)
            stack.callback(target.close)
            tenants.append(BenchTenant(target, options, tenant.progress))
        proxy = None
        if options.servers:
            proxy = BenchProxy({one.tenant_id: one.target for one in tenants})
            stack.callback(proxy.close)
        shards = [_make_shard(one, proxy, len(tenants)) for one in tenants]
        tenant.target = fleet = Fleet([one.target for one in tenants], proxy)
        try:
            outcome = _measure(tenant, shards)
        finally:
            tenant.target = first
        fleet.add_proxy(outcome)
        beside = "HAProxy and the generator" if proxy else "the generator"
        outcome.check.notes.append(f"servers: {len(tenants)}, on {os.cpu_count()} cores together with {beside}")
        for one in tenants[1:]:
            if isinstance(one.target, ThrowAwayServer):
                outcome.check.problems += one.target.complaints()
    return outcome


def _make_shard(tenant: BenchTenant, proxy: BenchProxy | None, shards: int) -> Shard:
    options, login = tenant.options, tenant.login
    if proxy is not None:
        login = replace(login, address=proxy.address, host=proxy.host)
    clients = max(options.members, options.clients // shards)
    return Shard(tenant, login, tenant.make_rooms(-(-clients // options.members), options.members))


def _measure(tenant: BenchTenant, shards: Sequence[Shard]) -> Outcome:
    options = tenant.options
    # In turn, so that each process has clients of all servers.
    rooms = [seat for of_all in zip(*(_pair(shard) for shard in shards), strict=True) for seat in of_all]
    jobs = [[SendJob(shard.login, [room], options) for shard, room in part] for part in share(rooms, options.processes)]
    outcome, results = measure(tenant, send_to_shards, jobs, "messages")
    measurements = [result.measurement for result in results]
    outcome.figures["messages_per_s"] = sum(measurement.count / measurement.seconds for measurement in measurements)
    outcome.add_latencies([latency for result in results for latency in result.latencies])
    outcome.add_generator(measurements)
    confirmed: dict[str, dict[int, str]] = {}
    for result in results:
        confirmed |= result.confirmed
        outcome.check.add(result)
    for shard in shards:
        last_seqs = {room: len(confirmed[room.room_id]) for room in shard.rooms}
        of_shard = {room.room_id: confirmed[room.room_id] for room in shard.rooms}
        check_stored(outcome.check, of_shard, shard.tenant.read_messages(last_seqs))
    return outcome


def _pair(shard: Shard) -> list[tuple[Shard, BenchRoom]]:
    return [(shard, room) for room in shard.rooms]


def send_to_shards(jobs: Sequence[SendJob], pipe: CommandPipe) -> SendResult:
    reactor, tally = Reactor(polls=jobs[0].options.busy_poll), SendTally()
    rooms = [room for job in jobs for room in open_sockets(reactor, tally, job)]
    all_ready(reactor, [sender for room in rooms for sender in room])
    schedule = pipe.wait_for_start()
    for room in rooms:
        for sender in room:
            sender.send_messages(jobs[0].options.window)
    measurement = measure_sends(reactor, tally, pipe, schedule)
    return finish_sockets(reactor, tally, rooms, measurement)
