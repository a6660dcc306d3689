"""The endpoint of `chatapi bench ws-send --events 1`: that it tells right calls from wrong ones."""

import json

from chatapi.cli.bench.endpoint import ToldEvents


def test_events_that_come_again_or_out_of_order_are_counted() -> None:
    arrivals = ToldEvents()
    for room_id, seq in [("a", 1), ("b", 1), ("a", 2), ("a", 2), ("a", 4), ("b", 2)]:
        data = {"event": {"room_id": room_id, "seq": seq}}
        arrivals.take(json.dumps({"timestamp": "2026-01-01T00:00:00.000000Z", "data": data}).encode())
    assert (arrivals.count, arrivals.repeated, arrivals.out_of_order) == (5, 1, 1)
