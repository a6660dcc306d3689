"""What 10, 100 and 1,000 servers take: tenants drawn by chance, and costs that were measured on one machine.

`python tests/simulate_shards.py` prints the table of docs/scale.md. Nothing of it was run with so many servers.
"""

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass

SEED = 15
TENANTS_PER_SERVER = 100
TAIL = 1.2  # the exponent of a Pareto distribution: a few tenants have most of the load
FULL = 0.7  # of what a server can do: the rest is for peaks


@dataclass(frozen=True)
class Costs:
    """Each was measured with the command that docs/scale.md names."""

    server_messages_per_s: float = 20_000.0  # a core, at 50 us each
    server_bytes_per_connection: float = 5_100.0
    proxy_s_per_message: float = 20e-6  # in, and out to a room of two
    proxy_bytes_per_connection: float = 6_200.0
    proxy_bytes_per_tenant: float = 340.0
    proxy_bytes_per_server: float = 17_000.0
    connections_per_message_per_s: float = 20.0  # assumed: everybody writes three messages a minute


@dataclass(frozen=True)
class Fleet:
    servers: int
    tenants: int
    messages_per_s: float
    connections: float
    fullest: float  # the load of the fullest server, before the rebalance, where 1 is all that it can do
    too_large: int  # tenants that fill more than a server alone
    moves: int
    moved_share: float  # of all load
    fullest_after: float
    proxy_cores: float
    proxy_gigabytes: float
    checks_per_s: int


def draw_loads(servers: int, costs: Costs, seed: int = SEED) -> list[float]:
    """Each tenant's messages per second. Together they fill half of what the servers can do."""
    chance = random.Random(seed)
    shares = [chance.paretovariate(TAIL) for _ in range(servers * TENANTS_PER_SERVER)]
    scale = servers * costs.server_messages_per_s / 2 / sum(shares)
    return [share * scale for share in shares]


def rebalance(placed: list[list[float]], limit: float) -> tuple[int, float]:
    """Moves tenants from the fullest server to the emptiest, until none is above the limit or no move helps. The number
    of moves, and their load. A tenant that is alone on its server stays."""
    loads = [sum(tenants) for tenants in placed]
    emptiest = [(load, server) for server, load in enumerate(loads)]  # heaps; what is out of date is passed over
    fullest = [(-load, server) for load, server in emptiest]
    heapq.heapify(emptiest)
    heapq.heapify(fullest)
    moves, moved = 0, 0.0
    while fullest:
        negative, source = heapq.heappop(fullest)
        if -negative != loads[source] or loads[source] <= limit or len(placed[source]) == 1:
            continue
        while emptiest[0][0] != loads[emptiest[0][1]]:
            heapq.heappop(emptiest)
        target = emptiest[0][1]
        load = choose(placed[source], loads[source], loads[target], limit)
        if load is None:
            break
        placed[source].remove(load)
        placed[target].append(load)
        for server, change in ((source, -load), (target, load)):
            loads[server] += change
            heapq.heappush(emptiest, (loads[server], server))
            heapq.heappush(fullest, (-loads[server], server))
        moves, moved = moves + 1, moved + load
    return moves, moved


def choose(tenants: list[float], source: float, target: float, limit: float) -> float | None:
    """The smallest tenant whose move is enough, else the largest that fits, else the largest that is better there."""
    fitting = sorted(load for load in tenants if target + load <= limit)
    enough = [load for load in fitting if source - load <= limit]
    better = [load for load in tenants if target + load < source]
    return min(enough, default=None) or max(fitting, default=None) or max(better, default=None)


def simulate(servers: int, costs: Costs | None = None) -> Fleet:
    costs = costs or Costs()
    tenants = draw_loads(servers, costs)
    # Nobody knows how large a new tenant will be: in turn.
    placed = [tenants[number::servers] for number in range(servers)]
    fullest = max(map(sum, placed)) / costs.server_messages_per_s
    moves, moved = rebalance(placed, FULL * costs.server_messages_per_s)
    total = sum(tenants)
    connections = total * costs.connections_per_message_per_s
    proxy_bytes = (
        connections * costs.proxy_bytes_per_connection
        + len(tenants) * costs.proxy_bytes_per_tenant
        + servers * costs.proxy_bytes_per_server
    )
    return Fleet(
        servers,
        len(tenants),
        total,
        connections,
        fullest,
        sum(load > costs.server_messages_per_s for load in tenants),
        moves,
        moved / total,
        max(map(sum, placed)) / costs.server_messages_per_s,
        total * costs.proxy_s_per_message,
        proxy_bytes / 1e9,
        servers,
    )


def format_table(fleets: Sequence[Fleet]) -> str:
    rows = (
        ("tenants", [f"{fleet.tenants:,}" for fleet in fleets]),
        ("messages/s", [f"{fleet.messages_per_s:,.0f}" for fleet in fleets]),
        ("connections", [f"{fleet.connections:,.0f}" for fleet in fleets]),
        ("the fullest server, tenants placed in turn", [f"{fleet.fullest:.0%}" for fleet in fleets]),
        ("tenants larger than a server", [f"{fleet.too_large}" for fleet in fleets]),
        (f"moves until no server is above {FULL:.0%}", [f"{fleet.moves}" for fleet in fleets]),
        ("their share of all load", [f"{fleet.moved_share:.1%}" for fleet in fleets]),
        ("the fullest server then", [f"{fleet.fullest_after:.0%}" for fleet in fleets]),
        ("HAProxy: cores", [f"{fleet.proxy_cores:.1f}" for fleet in fleets]),
        ("HAProxy: memory", [f"{fleet.proxy_gigabytes:.1f} GB" for fleet in fleets]),
        ("health checks/s, of each HAProxy", [f"{fleet.checks_per_s:,}" for fleet in fleets]),
    )
    head = ["", *(f"{fleet.servers:,} servers" for fleet in fleets)]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {label} | {' | '.join(cells)} |" for label, cells in rows)])


if __name__ == "__main__":
    print(format_table([simulate(servers) for servers in (10, 100, 1000)]))
