"""The JavaScript SDK: its own tests, under Node, against a server that they may kill and restart."""

import os
import subprocess
from pathlib import Path

import pytest
from sdk_stage import open_stage

HERE = Path(__file__).parent / "js"
OVER_HTTP = [
    ("sdk.test.mjs", "sse"),
    ("sdk.test.mjs", "poll"),
    ("streams.test.mjs", "sse"),
    ("moves.test.mjs", "sse"),
    ("moves.test.mjs", "poll"),
    ("newer.test.mjs", "sse"),
]


def run_node(file: str, directory: Path, *, adds: bool = False, transport: str = "", faults: bool = False) -> None:
    """`adds`: the server that is tested is a newer one, with fields and frames of its own. `transport` carries the
    connections of the cases. `faults`: the server makes faults when it is told to."""
    with open_stage(directory, adds=adds, transport=transport, faults=faults) as stage:
        run = subprocess.run(
            ["node", "--test", file], cwd=HERE, env={**os.environ, **stage}, capture_output=True, text=True
        )
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}\n{(directory / 'server.log').read_text()[-4000:]}"
    assert "# skipped 0" in run.stdout or "skipped 0" in run.stdout, run.stdout


@pytest.mark.browser
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "file",
    [
        "sdk.test.mjs",
        "conversations.test.mjs",
        "streams.test.mjs",
        "ai.test.mjs",
        "newer.test.mjs",
        "routes.test.mjs",
        "connection.test.mjs",
        "trouble.test.mjs",
        "moves.test.mjs",
        "following.test.mjs",
        "transports.test.mjs",
        "package.test.mjs",
    ],
)
def test_javascript_sdk(file: str, node_packages: None, tmp_path: Path) -> None:
    run_node(file, tmp_path)


@pytest.mark.browser
@pytest.mark.timeout(600)
@pytest.mark.parametrize("file", ["sdk.test.mjs", "conversations.test.mjs", "streams.test.mjs", "moves.test.mjs"])
def test_the_cases_hold_where_a_newer_server_adds_to_them(file: str, node_packages: None, tmp_path: Path) -> None:
    run_node(file, tmp_path, adds=True)


@pytest.mark.browser
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("file", "transport"), OVER_HTTP)
def test_the_cases_hold_over_http_alone(file: str, transport: str, node_packages: None, tmp_path: Path) -> None:
    run_node(file, tmp_path, transport=transport)


@pytest.mark.browser
@pytest.mark.timeout(600)
def test_javascript_sdk_recovers_from_faults(node_packages: None, tmp_path: Path) -> None:
    run_node("faults.test.mjs", tmp_path, faults=True)
