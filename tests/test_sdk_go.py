"""The Go SDK: its own tests, with the race detector, against a server that they may kill and restart."""

import re
import subprocess
from pathlib import Path

import pytest
from go_toolchain import LIBRARY, MODULE, SDK, Toolchain
from newer import NewerServerThread
from proxy import Proxy
from server_process import Control, ServerProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # with an empty build cache, Go's own library is built first


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Toolchain:
    return Toolchain(tmp_path_factory.mktemp("go"))


@pytest.fixture(scope="module")
def tests(go: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests as a program."""
    program = tmp_path_factory.mktemp("tests") / "chatapi.test"
    go.run("test", "-race", "-c", "-o", str(program), ".")
    return program


def run_tests(tests: Path, directory: Path, *options: str, adds: bool = False, transport: str = "") -> str:
    """`adds`: the server that is tested is a newer one, with fields and frames of its own. `transport` carries the
    connections of the cases."""
    server = ServerProcess(directory, {"limits.sync_limit": "20"}, dev=False)
    with (
        server,
        Proxy(server.port) as proxy,
        NewerServerThread(server.url) as newer,
        NewerServerThread(server.url, renames=False) as adding,
        Control(server, proxy) as control,
    ):
        environment = {
            "CHATAPI_TEST_URL": adding.url if adds else server.url,
            "CHATAPI_TEST_MASTER_KEY": server.master_key,
            "CHATAPI_TEST_CONTROL": control.url,
            "CHATAPI_TEST_PROXY": proxy.url,
            "CHATAPI_TEST_NEWER": newer.url,
            "CHATAPI_TEST_TRANSPORT": transport,
        }
        run = subprocess.run([tests, "-test.v", *options], cwd=SDK, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}\n{server.log.read_text()[-4000:]}"
    assert "--- SKIP" not in run.stdout, run.stdout
    return run.stdout


def test_go_is_formatted_and_vetted(go: Toolchain) -> None:
    assert not subprocess.run([go.gofmt, "-l", "."], cwd=SDK, check=True, capture_output=True, text=True).stdout
    go.run("vet", "./...")


def test_go_sdk(tests: Path, tmp_path: Path) -> None:
    run_tests(tests, tmp_path)


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
