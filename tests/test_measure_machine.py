"""`measure_machine.py` fills a small cgroup, asks too much of the server in it, and the kernel kills nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(__file__).parent / "measure_machine.py"
NO_CGROUP = 2


@pytest.mark.slow
def test_a_server_in_a_small_cgroup_refuses_before_it_is_killed() -> None:
    options = ["--memory", "64", "--cores", "1", "--connections", "3000", "--rate", "500", "--seconds", "0.5"]
    ran = subprocess.run([sys.executable, COMMAND, *options], capture_output=True, text=True, check=False)
    if ran.returncode == NO_CGROUP:
        pytest.skip(ran.stderr.strip())
    [row] = [line for line in ran.stdout.splitlines() if line.startswith("| 64 MB | 1 |")]
    _, _, _, connections, limit, _, refused, _, kills, _ = (column.strip() for column in row.split("|"))
    assert (limit, kills) == ("memory", "0"), ran.stderr
    assert int(connections.replace(",", "")) > 500
    more_refused, _, more = refused.partition(" of ")
    assert int(more_refused.replace(",", "")) > 0.5 * int(more.replace(",", "")) > 0
