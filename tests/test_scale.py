"""docs/scale.md: its table is what the simulation computes, and the simulation adds up."""

import re

import pytest
from simulate_shards import Costs, choose, draw_loads, format_table, rebalance, simulate
from sources import ROOT, read_text


def test_the_documents_table_is_the_simulations() -> None:
    table = format_table([simulate(servers) for servers in (10, 100, 1000)])
    assert table in read_text(ROOT / "docs/scale.md")


def test_the_documents_costs_are_the_simulations() -> None:
    text, costs = read_text(ROOT / "docs/scale.md"), Costs()
    for figure in (
        f"{1e6 / costs.server_messages_per_s:.0f} µs",
        f"{costs.server_bytes_per_connection / 1000:.1f} KB",
        f"{costs.proxy_s_per_message * 1e6:.0f} µs",
        f"{costs.proxy_bytes_per_connection / 1000:.1f} KB",
        f"{costs.proxy_bytes_per_tenant:.0f} bytes",
        f"{costs.proxy_bytes_per_server / 1000:.0f} KB",
    ):
        assert re.search(rf"\| {re.escape(figure)} \|", text), figure


def test_a_rebalance_loses_no_tenant_and_ends_below_the_limit() -> None:
    placed = [[5.0, 3.0, 3.0], [1.0], [2.0, 1.0]]
    moves, moved = rebalance(placed, 6.0)
    assert sorted(load for server in placed for load in server) == [1.0, 1.0, 2.0, 3.0, 3.0, 5.0]
    assert max(map(sum, placed)) <= 6.0
    assert moved >= 5.0
    assert moves >= 1
    assert rebalance([[9.0], [1.0, 1.0]], 6.0) == (0, 0.0), "one that is too large for any server stays where it is"


def test_a_move_is_the_smallest_that_is_enough() -> None:
    assert choose([4.0, 2.0, 1.0], 7.0, 0.0, 5.0) == 2.0
    assert choose([4.0, 0.5], 9.0, 0.0, 5.0) == 4.0
    assert choose([8.0, 1.5], 9.5, 4.0, 5.0) == 1.5
    assert choose([8.0, 6.0], 14.0, 8.0, 5.0) is None, "either would be no better off there"


def test_tenants_fill_half_of_the_servers() -> None:
    costs = Costs()
    assert sum(draw_loads(10, costs)) == pytest.approx(10 * costs.server_messages_per_s / 2)
    fleet = simulate(10)
    assert fleet.proxy_cores == pytest.approx(fleet.messages_per_s * costs.proxy_s_per_message)
    assert fleet.fullest_after <= fleet.fullest
