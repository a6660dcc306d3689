"""How fast the server of a test is there and forgets: contract, section 14. On a quiet machine."""

import time

import pytest

from chatapi.testing.server import Server

pytestmark = pytest.mark.bench

START_SECONDS = 0.5
RESET_SECONDS = 0.02
RESETS = 20


def test_it_starts_and_forgets_fast() -> None:
    begun_s = time.monotonic()
    server = Server({})
    server.start()
    started_s = time.monotonic() - begun_s
    try:
        resets_s = []
        for _ in range(RESETS):
            server.user("alice").create_room("group", ["bob"])
            begun_s = time.monotonic()
            server.reset()
            resets_s.append(time.monotonic() - begun_s)
    finally:
        server.close()
    median_s = sorted(resets_s)[RESETS // 2]
    print(f"start {started_s:.3f} s, reset {median_s * 1000:.1f} ms")
    assert started_s <= START_SECONDS
    assert median_s <= RESET_SECONDS
