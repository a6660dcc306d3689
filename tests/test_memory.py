"""What was freed goes back to the system."""

import re
from pathlib import Path

import pytest

from chatapi import memory


def resident_mb() -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


async def test_memory_that_is_free_is_given_back() -> None:
    freed = bytes(16 << 20)  # as at the start of the server: from here on large blocks come from the heap
    del freed
    blocks: list[bytearray] = []
    kept: list[bytes] = []
    for _ in range(100):
        block = bytearray()
        for _ in range(16):
            block.extend(b"x" * 65_536)
        blocks.append(block)
        kept.append(bytes(2_000))  # in between, so that the heap cannot just be cut off
    full = resident_mb()
    blocks.clear()
    await memory.give_back_memory()
    assert resident_mb() < full - 70
    assert len(kept) == 100


async def test_without_the_function_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_trim", None)
    await memory.give_back_memory()
