"""`chatapi bench wear`: bytes written to the disk for each message."""

import json
from pathlib import Path

import pytest
from server_process import ServerProcess

from chatapi.cli import main


@pytest.mark.slow
def test_commits_that_wait_wear_the_disk_less(capsys: pytest.CaptureFixture[str]) -> None:
    load = ["--clients", "4", "--rate", "20", "--seconds", "2"]
    wear = ["bench", "wear", *load, "--json"]
    found = []
    for interval_ms in (0, 1000):
        assert main([*wear, "--set", f"database.commit_interval_ms={interval_ms}"]) == 0
        found.append(json.loads(capsys.readouterr().out)["servers"][0]["figures"])
    at_once, gathered = found
    assert at_once["wear_own_kb_each"] > 4.096
    assert gathered["wear_own_kb_each"] < at_once["wear_own_kb_each"] / 2
    assert gathered["wear_own_mb_day"] == pytest.approx(gathered["wear_own_kb_each"] * 20 * 86.4)
    assert gathered["wear_own_p50_ms"] > at_once["wear_own_p50_ms"]


@pytest.mark.slow
def test_wear_is_measured_of_a_throw_away_server_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ServerProcess(tmp_path) as server:
        assert main(["bench", "wear", "--url", server.url, "--master-key", server.master_key]) == 1
    assert "needs a throw-away one" in capsys.readouterr().err
