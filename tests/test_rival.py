"""tests/bench/rival.py: that the server of Node's which it compares with stores what it confirms, and the table."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

RIVAL = Path(__file__).parent / "bench/rival.py"


@pytest.mark.slow
@pytest.mark.timeout(600)  # better-sqlite3 may have to be compiled, which takes a minute
def test_rival_stores_all_that_it_confirms_and_gets_its_column() -> None:
    """`chatapi bench` reads back what either server has confirmed, and the command fails if any of it is not there."""
    options = ["--rounds", "1", "--seconds", "0.5"]
    ran = subprocess.run([sys.executable, RIVAL, *options], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    head, *rows = ran.stdout.splitlines()[-5:]  # npm may have said something before
    assert re.fullmatch(r"medians of 1 rounds +chatapi +node +ratio", head)
    labels = ["REST, one client, p50", "WebSocket, one client, p50", "REST, 64 clients", "WebSocket, 64 clients"]
    for row, label in zip(rows, labels, strict=True):
        assert re.fullmatch(
            label + r" +[\d.,]*[1-9][\d.,]* +[\d.,]*[1-9][\d.,]* (?:ms|messages/s) +\d+\.\d\d x", row
        ), row
