"""What was freed goes back to the system, and nothing is loaded that a server may never need."""

import re
import sys
from pathlib import Path

import pytest
from server_process import ServerProcess

from chatapi import memory

SHOW_LOADED = """
import atexit, sys
from chatapi.cli import main
atexit.register(lambda: print("\\nloaded:", *sys.modules))
sys.exit(main())
"""


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


@pytest.mark.slow
def test_a_server_loads_nothing_that_it_may_never_need(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, command=(sys.executable, "-c", SHOW_LOADED)) as server:
        server.stop()
    loaded = set(server.log.read_text().partition("\nloaded: ")[2].split())
    assert {"chatapi.cli.serve", "jwt", "aiohttp"} <= loaded
    # Those of public-key signatures, of `/metrics`, and of packages in archives.
    assert not {"cryptography", "prometheus_client", "zipfile"} & loaded
