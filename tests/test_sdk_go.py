"""The Go SDK: its own tests, with the race detector, against a server that they may kill and restart."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from examples import ROOT, example
from go_toolchain import LIBRARY, MODULE, SDK, Toolchain
from sdk_stage import open_stage
from server_process import ServerProcess

import chatapi

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # with an empty build cache, Go's own library is built first


PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # with the command `chatapi`
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
    assert not subprocess.run(
        [go.directory / "gofmt", "-l", "."], cwd=SDK, check=True, capture_output=True, text=True
    ).stdout
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


def test_first_chat_of_the_readme(go: Toolchain, tmp_path: Path) -> None:
    """As a new user makes it, from an empty directory, the test of their own included."""
    shell = {**go.environment, "CHATAPI": str(ROOT), "GOFLAGS": "", "PATH": f"{go.directory}{os.pathsep}{PATH}"}

    def run(script: str, directory: Path, **environment: str) -> str:
        command = ["sh", "-ec", script]
        run = subprocess.run(command, cwd=directory, env={**shell, **environment}, capture_output=True, text=True)
        assert run.returncode == 0, f"{script}\n{run.stdout}\n{run.stderr}"
        return run.stdout

    run(example("sdk/go/README.md", "sh", "mod init"), tmp_path)
    hello = tmp_path / "hello"
    (hello / "main.go").write_text(example("sdk/go/README.md", "go", "func main"))
    run(example("sdk/go/README.md", "sh", "gocode"), hello)
    with ServerProcess(tmp_path) as server:
        key = server.create_tenant("hello")
        said = run(example("sdk/go/README.md", "sh", "go run"), hello, URL=server.url, KEY=key)
    assert said == "alice Hello, Bob\n"
    (hello / "chat_test.go").write_text(example("sdk/go/README.md", "go", "startServer"))
    assert run("go test .", hello).startswith("ok")


def test_go_sdk_has_the_version_of_the_server() -> None:
    assert f'const Version = "{chatapi.__version__}"' in (SDK / "doc.go").read_text()
    assert f"\n## {chatapi.__version__}\n" in (SDK / "CHANGELOG.md").read_text()
