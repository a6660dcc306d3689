"""The types of `chatapi-python`, as mypy and pyright judge them: its names, and the examples of the documents."""

import json
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import tomllib
from pathlib import Path

import pytest
from examples import ROOT, examples
from npm import install_packages

pytestmark = [pytest.mark.release, pytest.mark.timeout(900)]

PACKAGES = Path(__file__).parent / "package"
SDK = ROOT / "packaging" / "chatapi-python"
EXAMPLES = [
    *examples("docs/python-sdk.md", "python"),
    *examples("packaging/chatapi-python/README.md", "python"),
]
HEAD = "from chatapi.client import ChatAPI\nfrom chatapi.client.records import Message, Room"
GIVEN = "alice: ChatAPI, bob: ChatAPI, room: Room, message: Message, url: str, api_key: str, KEY: str, room_id: str"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One in which the SDK's modules are installed, and no part of the server; programs are beside it."""
    install_packages(PACKAGES)
    folder = tmp_path_factory.mktemp("types")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    [installed] = (folder / "venv").glob("lib/python*/site-packages")
    (installed / "others.pth").write_text(sysconfig.get_path("purelib"))
    wheel = tomllib.loads((SDK / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for source, name in wheel["force-include"].items():
        if name.startswith("chatapi_python/"):
            target = installed / name.removeprefix("chatapi_python/")
            target.parent.mkdir(exist_ok=True)
            found = (SDK / source).resolve()
            shutil.copytree(found, target) if found.is_dir() else shutil.copy(found, target)
    (folder / "programs").mkdir()
    (folder / "programs" / "examples.py").write_text(write_program())
    return folder


def write_program() -> str:
    """Each example as the body of a function, to which the names are given that the document has explained before."""
    functions = [f"async def example_{n}({GIVEN}):\n{textwrap.indent(text, '    ')}" for n, text in enumerate(EXAMPLES)]
    return "\n\n".join([HEAD, *functions])


def run_pyright(environment: Path, *arguments: str) -> str:
    path = f"{environment / 'venv' / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    command = [shutil.which("node") or "node", PACKAGES / "node_modules" / "pyright" / "index.js", *arguments]
    names = {"PATH": path, "HOME": str(environment)}
    return subprocess.run(command, cwd=environment / "programs", env=names, capture_output=True, text=True).stdout


def test_every_name_of_the_sdk_has_a_type(environment: Path) -> None:
    judged = json.loads(run_pyright(environment, "--verifytypes", "chatapi.client", "--ignoreexternal", "--outputjson"))
    symbols = judged["typeCompleteness"]["symbols"]
    assert len(symbols) > 1_000
    doubtful = [one["name"] for one in symbols if not one["isTypeKnown"] or one["isTypeAmbiguous"]]
    assert doubtful == []


def test_pyright_takes_the_examples(environment: Path) -> None:
    judged = json.loads(run_pyright(environment, "--outputjson", "examples.py"))
    found = [f"{one['range']['start']['line'] + 1}: {one['message']}" for one in judged["generalDiagnostics"]]
    assert found == []
    assert judged["summary"]["filesAnalyzed"] == 1


def test_mypy_takes_the_examples(environment: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--config-file", "", "--check-untyped-defs", "--cache-dir", "cache"]
    interpreter = ["--python-executable", str(environment / "venv" / "bin" / "python")]
    judged = subprocess.run(
        [*command, *interpreter, "--warn-unused-ignores", "programs/examples.py"],
        cwd=environment,
        env={"PATH": "/usr/bin:/bin", "HOME": str(environment)},
        capture_output=True,
        text=True,
    )
    assert judged.returncode == 0, judged.stdout + judged.stderr
