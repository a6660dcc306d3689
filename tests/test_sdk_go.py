"""The Go SDK: its own tests, with the race detector, against a server that they may kill and restart."""

import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from go_toolchain import LIBRARY, MODULE, SDK, Toolchain
from sdk_stage import open_stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # with an empty build cache, Go's own library is built first


NO_CONNECTION = "/foreign_answers_are_no_word_on_a_call"
NEEDS_A_PROXY = "/(foreign|new_|a_send)"  # of its own, in place of the one that adds


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Toolchain:
    return Toolchain(tmp_path_factory.mktemp("go"))


@pytest.fixture(scope="module")
def tests(go: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests as a program."""
    program = tmp_path_factory.mktemp("tests") / "chatapi.test"
    go.run("test", "-race", "-c", "-o", str(program), ".")
    return program


def run_tests(
    tests: Path, directory: Path, *options: str, adds: bool = False, transport: str = "", faults: bool = False
) -> None:
    """`adds`: the server that is tested is a newer one, with fields and frames of its own. `transport` carries the
    connections of the cases. `faults`: the server makes faults when it is told to."""
    with open_stage(directory, adds=adds, transport=transport, faults=faults) as stage:
        run = subprocess.run([tests, "-test.v", *options], cwd=SDK, env=stage, capture_output=True, text=True)
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}\n{(directory / 'server.log').read_text()[-4000:]}"
    assert "=== RUN" in run.stdout, run.stdout
    assert "--- SKIP" not in run.stdout, run.stdout


def test_go_is_formatted_and_vetted(go: Toolchain) -> None:
    assert not subprocess.run([go.gofmt, "-l", "."], cwd=SDK, check=True, capture_output=True, text=True).stdout
    go.run("vet", "./...")


def test_go_sdk(tests: Path, tmp_path: Path) -> None:
    """Each run has a server of its own, and mostly waits for it: side by side they take as long as the longest."""
    cases = ("-test.run", "TestSharedCases")
    runs: dict[str, Callable[[Path], None]] = {
        "faults": lambda path: run_tests(tests, path, "-test.run", "TestFaults", faults=True),
        "sse": lambda path: run_tests(tests, path, *cases, "-test.skip", NO_CONNECTION, transport="sse"),
        "poll": lambda path: run_tests(tests, path, *cases, "-test.skip", NO_CONNECTION, transport="poll"),
        "all": lambda path: run_tests(tests, path, "-test.skip", "TestFaults"),
        "newer": lambda path: run_tests(tests, path, *cases, "-test.skip", NEEDS_A_PROXY, adds=True),
    }
    with ThreadPoolExecutor(len(runs)) as pool:
        going = []
        for name, run in runs.items():
            (tmp_path / name).mkdir()
            going.append(pool.submit(run, tmp_path / name))
    for done in going:
        done.result()


def test_go_sdk_names_one_module_and_one_library() -> None:
    """The module's path is the same wherever it is named, and the standard library and one other are all it imports."""
    mod = (SDK / "go.mod").read_text()
    assert mod.startswith(f"module {MODULE}\n")
    assert re.findall(r"require (\S+)", mod) == [LIBRARY]
    for path in [*SDK.glob("*.go"), SDK / "README.md"]:
        text = path.read_text()
        assert set(re.findall(r"[\w.]+\.invalid/[\w-]+", text)) <= {MODULE}, path
        imported = set(re.findall(r'^\s*(?:\w+ )?"([\w.-]+\.[\w.-]+/[^"]+)"$', text, re.MULTILINE))
        assert imported <= {MODULE, LIBRARY}, path
