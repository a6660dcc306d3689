"""The OpenAPI document against a running server, with requests that Schemathesis makes up from it: no 5xx, and no
answer that the document does not describe."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from server_process import ServerProcess

from chatapi.rest import ROUTES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RUN_SECONDS = 550  # far longer than one takes on a quiet machine
PARTS = {  # of the users' routes; that of a room itself is in both that need one
    "messages": r"^/rooms$|^/rooms/\{room_id\}/(messages|pins)",
    "rooms": r"^/rooms(?!/\{room_id\}/(messages|pins))",
    "users": r"^/(?!rooms|admin)",
}
NOT_CHECKED = (
    "ignored_auth",  # it guesses keys until the address gets 429 instead of 401, as it should
    # What a schema cannot state is refused, too: U+0000 and great integers also in unknown fields, a dm of three.
    "positive_data_acceptance",
    "use_after_free",  # a deleted message stays as a tombstone (docs/contract.md, section 8)
)
WAITING = "^/events/stream$|^/sync$"  # these answer late, or without an end; their own tests try what they refuse


def run_schemathesis(server: ServerProcess, directory: Path, *options: str, examples: int) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", *options]
    command += ["--checks", "all", "--exclude-checks", ",".join(NOT_CHECKED), "--max-examples", str(examples)]
    # Up to Python 3.11.7 two threads cannot parse at the same time (github.com/python/cpython/issues/106905).
    command += ["--seed", "1", "--workers", "1", "--no-color"]
    # Nothing of ours runs in it: it need not be measured.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    run = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS)
    assert run.returncode == 0, f"{run.stdout[-12_000:]}\n{run.stderr}"
    generated = re.search(r"(\d+) generated", run.stdout)
    assert generated is not None
    assert int(generated[1]) >= 500, run.stdout
    assert "failed" not in server.log.read_text()


@pytest.fixture
def server(tmp_path: Path) -> ServerProcess:
    return ServerProcess(tmp_path, {"limits.rate_limit": "1000000"})


def test_each_route_is_in_a_part() -> None:
    paths = {route.path for route in ROUTES}
    assert {path for path in paths if not any(re.search(part, path) for part in (*PARTS.values(), "^/admin"))} == set()


@pytest.mark.parametrize("part", PARTS)
def test_users_routes_answer_as_the_document_says(server: ServerProcess, tmp_path: Path, part: str) -> None:
    with server:
        # Users of the examples are banned on the way, after which all of their calls are 403.
        headers = ["-H", f"X-API-Key: {server.create_tenant('fuzzed')}", "-H", "X-User-Id: keeper"]
        paths = ["--include-path-regex", PARTS[part], "--exclude-path-regex", WAITING]
        run_schemathesis(server, tmp_path, *paths, *headers, examples=15)


def test_operators_routes_answer_as_the_document_says(server: ServerProcess, tmp_path: Path) -> None:
    with server:
        header = ["-H", f"X-Master-Key: {server.master_key}"]
        # A move asks the server of the document's example, which is not there: 503.
        run_schemathesis(server, tmp_path, "--include-path-regex", "^/admin(?!.*/move$)", *header, examples=40)
