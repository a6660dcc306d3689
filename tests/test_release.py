"""What `.ci/release` makes, each in an environment that holds nothing else and far from the checkout."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from dockerfile import list_build_context, read_steps
from examples import example
from server_process import ServerProcess

from chatapi import __version__

ROOT = Path(__file__).parent.parent
SDIST = f"chatapi_server-{__version__}.tar.gz"
SERVER_WHEEL = f"chatapi_server-{__version__}-py3-none-any.whl"
SDK_WHEEL = f"chatapi_python-{__version__}-py3-none-any.whl"
PYZ = "chatapi.pyz"
TARBALL = f"chatapi-js-{__version__}.tgz"
TEST_SERVER = f"chatapi-testing-{__version__}.tgz"
OLDEST_NODE = 20

INSTALL_SERVER = example("README.md", "sh", "pipx install")
INSTALL_SDK = example("packaging/chatapi-python/README.md", "sh", "pip install")
TOOLS = ["build>=1.3", "hatchling>=1.27", "pip", "pipx", "setuptools>=77", "shiv>=1.0.8", "uv"]
SOME_TESTS = [
    "tests/test_docs.py",
    "tests/test_config.py",
    "tests/test_packaging.py",
    "tests/cli/test_operations_doc.py",
]

WHERE = "import chatapi.client; print(chatapi.client.__file__)"
SEND_AND_RECEIVE = """
import asyncio, sys
from chatapi.client import ChatAPI

async def main(url, key):
    async with ChatAPI(url, api_key=key, user_id="alice") as alice:
        room = await alice.create_room("group", ["bob"])
        await alice.send_message(room["room_id"], "Hello, Bob")
        async with alice.as_user("bob").connect() as connection:
            async for event in connection:
                if event["type"] == "message":
                    return print(event["sender_id"], event["content"])

asyncio.run(main(*sys.argv[1:]))
"""
START_FROM_NODE = """
import { start } from "chatapi-testing";

const server = await start();
await server.reset();
console.log(server.tenantId);
await server.stop();
"""
SEND_FROM_NODE = """
import { ChatAPI } from "chatapi-js";

const [url, apiKey] = process.argv.slice(2);
const alice = new ChatAPI({ url, apiKey, userId: "alice" });
const { room_id } = await alice.createRoom({ type: "group", members: ["bob"] });
await alice.sendMessage(room_id, { content: "Hello, Bob" });
const { messages } = await alice.asUser("bob").listMessages(room_id);
console.log(messages[0].sender_id, messages[0].content);
"""

pytestmark = [pytest.mark.release, pytest.mark.timeout(900)]


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """What it prints. Nothing of the checkout, or of the environment that runs the tests, is in its way."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CHATAPI_", "COV", "PYTEST")) and name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", **variables}
    result = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, f"{command}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result.stdout


@dataclass
class Environment:
    """A bare virtual environment; commands run beside it."""

    folder: Path

    def __post_init__(self) -> None:
        self.bin = self.folder / "venv" / "bin"
        run(sys.executable, "-m", "venv", "--without-pip", self.folder / "venv", cwd=self.folder)

    def pip(self, *arguments: str | Path) -> str:
        return run(sys.executable, "-m", "pip", "--python", self.bin / "python", *arguments, cwd=self.folder)

    def install(self, wheel: Path, *options: str) -> None:
        self.pip("install", "--quiet", "--no-compile", *options, wheel)

    def python(self, code: str, *arguments: str) -> str:
        return run(self.bin / "python", "-c", code, *arguments, cwd=self.folder).strip()

    def packages(self) -> set[str]:
        listed = "from importlib.metadata import distributions; print(*(each.name for each in distributions()))"
        return {name.lower().replace("_", "-") for name in self.python(listed).split()}


@pytest.fixture(scope="module", autouse=True)
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is installed below, fetched once: each of the many installations then takes a second or two."""
    folder = tmp_path_factory.mktemp("fetched")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["uvloop"], *TOOLS]
    run(sys.executable, "-m", "pip", "download", "--quiet", "--dest", folder, *wanted, cwd=folder)
    with pytest.MonkeyPatch.context() as patch:
        for tool in ("PIP", "UV"):
            patch.setenv(f"{tool}_NO_INDEX", "1")
            patch.setenv(f"{tool}_FIND_LINKS", str(folder))
        yield


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    run(ROOT / ".ci" / "release", folder, cwd=folder, PYTHON=sys.executable)
    return folder


@pytest.fixture(scope="module")
def environment(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    made = Environment(tmp_path_factory.mktemp("server"))
    made.install(release / SERVER_WHEEL)
    return made


@pytest.fixture(scope="module")
def server(environment: Environment) -> Iterator[ServerProcess]:
    """The server of the wheel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONPATH", raising=False)
        with ServerProcess(environment.folder, dev=False, command=[str(environment.bin / "chatapi")]) as process:
            yield process


@pytest.fixture(scope="module")
def key(server: ServerProcess) -> str:
    return server.create_tenant("release")


def chat(server: ServerProcess) -> None:
    key = server.create_tenant("chat")
    room = server.call("POST", "/rooms", {"type": "group", "members": ["bob"]}, key=key, user="alice")
    path = f"/rooms/{room['room_id']}/messages"
    server.call("POST", path, {"content": "Hello, Bob"}, key=key, user="alice")
    [message] = server.call("GET", path, key=key, user="bob")["messages"]
    assert (message["sender_id"], message["content"]) == ("alice", "Hello, Bob")


def test_it_is_six_files(release: Path) -> None:
    assert {file.name for file in release.iterdir()} == {SDIST, SERVER_WHEEL, SDK_WHEEL, PYZ, TARBALL, TEST_SERVER}


def test_the_sdist_is_the_whole_tree(release: Path) -> None:
    with tarfile.open(release / SDIST) as archive:
        held = {member.name.split("/", 1)[1] for member in archive.getmembers() if member.isfile()}
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    tracked = {name for name in listed if (ROOT / name).exists()}
    assert tracked <= held
    assert {name for name in held - tracked if not name.startswith("chatapi_server.egg-info/")} == {"PKG-INFO"}


def test_files_made_in_a_checkout_are_ignored_by_git() -> None:
    database = [f"chatapi.db{suffix}" for suffix in ("", "-wal", "-shm", ".lock")]
    made = [*database, "master.key", ".venv/bin/chatapi", "build/lib", f"dist/{SDIST}", PYZ, TARBALL]
    assert run("git", "check-ignore", *made, cwd=ROOT).split() == made


def test_the_tests_run_in_the_unpacked_sdist(release: Path, tmp_path: Path) -> None:
    with tarfile.open(release / SDIST) as archive:
        archive.extractall(tmp_path, filter="data")
    source = tmp_path / SDIST.removesuffix(".tar.gz")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SOME_TESTS]
    assert " passed" in run(*command, cwd=source, PYTHONPATH=str(source))


def test_wheels_hold_files_that_are_not_python_too(release: Path) -> None:
    with zipfile.ZipFile(release / SERVER_WHEEL) as wheel:
        held = set(wheel.namelist())
        metadata = wheel.read(f"chatapi_server-{__version__}.dist-info/METADATA").decode()
    package = ROOT / "chatapi"
    files = {str(file.relative_to(ROOT)) for file in package.rglob("*") if file.is_file() and file.suffix != ".pyc"}
    assert files == {name for name in held if name.startswith("chatapi/")}
    assert {"chatapi/py.typed", "chatapi/store/migrations/0001_create_core.sql", "chatapi/web/sdk/chatapi.js"} <= files
    licences = {name.split("/licenses/")[1] for name in held if "/licenses/" in name}
    swagger = "chatapi/web/swagger"
    assert {"LICENSE", f"{swagger}/LICENSE", f"{swagger}/NOTICE"} <= licences
    assert f"{swagger}/swagger-ui-bundle.js.LICENSE.txt" in licences
    assert "License-Expression: MIT AND Apache-2.0" in metadata
    with zipfile.ZipFile(release / SDK_WHEEL) as wheel:
        held = set(wheel.namelist())
    assert {"chatapi_python.pth", "chatapi_python/chatapi/py.typed"} <= held
    assert f"chatapi_python-{__version__}.dist-info/licenses/LICENSE" in held
    assert not [name for name in held if name.startswith("chatapi/")]  # the server's


def test_the_wheel_serves(environment: Environment, server: ServerProcess) -> None:
    assert not {"beautifulsoup4", "mkdocs-swagger-ui-tag", "pytest", "chatapi"} & environment.packages()
    assert run(environment.bin / "chatapi", "--version", cwd=environment.folder) == f"chatapi {__version__}\n"
    chat(server)
    created = run(
        *(environment.bin / "chatapi", "tenant", "create", "My app", "--url", server.url, "--json"),
        cwd=environment.folder,
        CHATAPI_AUTH_MASTER_KEY=server.master_key,
    )
    assert re.search(r'"api_key": ?"sk_', created)
    files = ["/playground", "/playground/swagger/swagger-ui.css", "/sdk/chatapi.js", "/openapi.json"]
    fetch = "import sys, urllib.request as r; print(*(r.urlopen(url).status for url in sys.argv[1:]))"
    assert environment.python(fetch, *(server.url + path for path in files)) == "200 200 200 200"


def test_the_pyz_serves(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("SHIV_ROOT", str(tmp_path / "unpacked"))
    pyz = str(shutil.copy(release / PYZ, tmp_path))
    bare = [sys.executable, "-I", pyz]  # -I: nothing of the environment that runs the tests
    with ServerProcess(tmp_path, dev=False, command=bare) as server:
        chat(server)
        server.stop()
    measured = run(*bare, "bench", "rest-send", "--seconds", "0.2", "--warmup", "0", cwd=tmp_path)
    assert "rest-send" in measured  # which starts a server of its own, from the same file


def test_the_sdk_needs_nothing_of_the_server(release: Path, server: ServerProcess, key: str, tmp_path: Path) -> None:
    sdk = Environment(tmp_path)
    sdk.install(release / SDK_WHEEL)
    assert not {"chatapi-server", "aiosqlite", "pyjwt", "prometheus-client"} & sdk.packages()
    assert "/chatapi_python/chatapi/" in sdk.python(WHERE)
    assert sdk.python(SEND_AND_RECEIVE, server.url, key) == "alice Hello, Bob"


def test_the_sdk_and_the_server_share_no_file(
    release: Path, environment: Environment, server: ServerProcess, key: str
) -> None:
    environment.install(release / SDK_WHEEL, "--no-deps")
    owned = "from importlib.metadata import files; import sys; print(*files(sys.argv[1]), sep='\\n')"
    of_server, of_sdk = (
        set(environment.python(owned, name).splitlines()) for name in ("chatapi-server", "chatapi-python")
    )
    assert "chatapi/client/api.py" in of_server
    assert not of_server & of_sdk
    assert "/chatapi_python/" not in environment.python(WHERE)  # the server's own comes first
    environment.pip("uninstall", "--yes", "chatapi-python")
    assert environment.python(SEND_AND_RECEIVE, server.url, key) == "alice Hello, Bob"


def test_the_tarball_sends_from_node(release: Path, server: ServerProcess, key: str, tmp_path: Path) -> None:
    version = run("node", "--version", cwd=tmp_path)
    assert int(version.split(".")[0][1:]) >= OLDEST_NODE, f"the SDK needs Node {OLDEST_NODE}, this is {version}"
    (tmp_path / "package.json").write_text('{"private": true, "type": "module"}')
    npm = shutil.which("npm") or "npm"
    run(npm, "install", "--no-audit", "--no-fund", "--offline", release / TARBALL, cwd=tmp_path)
    (tmp_path / "send.mjs").write_text(SEND_FROM_NODE)
    assert run("node", "send.mjs", server.url, key, cwd=tmp_path) == "alice Hello, Bob\n"


def test_the_test_server_starts_from_node(release: Path, tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"private": true, "type": "module"}')
    npm = shutil.which("npm") or "npm"
    run(npm, "install", "--no-audit", "--no-fund", "--offline", release / TEST_SERVER, cwd=tmp_path)
    (tmp_path / "start.mjs").write_text(START_FROM_NODE)
    said = run("node", "start.mjs", cwd=tmp_path, CHATAPI_COMMAND=f"{sys.executable} -m chatapi")
    assert said == "tenant_dev\n"


def test_the_install_lines_work(release: Path, tmp_path: Path) -> None:
    """Each for somebody who has installed nothing yet, in a checkout with `dist/`."""
    with tarfile.open(release / SDIST) as archive:
        archive.extractall(tmp_path, filter="data")
    checkout = tmp_path / SDIST.removesuffix(".tar.gz")
    (checkout / "dist").symlink_to(release)
    shutil.copy(release / SDK_WHEEL, checkout)
    tools = Environment(tmp_path)
    tools.pip("install", "--quiet", "--no-compile", "pip", "pipx", "uv")
    for number, line in enumerate((INSTALL_SERVER + INSTALL_SDK).splitlines()):
        home = tmp_path / f"home-{number}"
        path = f"{tools.bin}:{home}/.local/bin:/usr/bin:/bin"
        command = line.replace("https://git.example.com/chatapi.git", f"file://{ROOT}")
        run("sh", "-euc", command, cwd=checkout, HOME=str(home), PATH=path, PIP_NO_COMPILE="1")
        if line in INSTALL_SERVER:
            assert run("chatapi", "--version", cwd=tmp_path, PATH=path) == f"chatapi {__version__}\n", line
        for name in {"chatapi-server", "chatapi-python"} & tools.packages():
            assert line.startswith("pip ")
            tools.pip("uninstall", "--quiet", "--yes", name)
    assert not (tools.bin / "chatapi").exists()


def test_the_steps_of_the_image_install_the_server(tmp_path: Path) -> None:
    """Docker runs them as root in a directory of its own; here they run in a virtual environment."""
    source = tmp_path / "src"
    source.mkdir()
    image = Environment(tmp_path)
    for name in list_build_context():
        shutil.copytree(ROOT / name, source / name) if (ROOT / name).is_dir() else shutil.copy(ROOT / name, source)
    pip = f"{sys.executable} -m pip --python {image.bin / 'python'}"
    steps = [step for step in read_steps("RUN") if "pip install" in step]
    for step in steps:
        here = step.replace("/src", str(source)).replace("pip install", f"{pip} install --quiet --no-compile")
        run("sh", "-euc", here.replace("RUN python ", f"{image.bin / 'python'} ").removeprefix("RUN "), cwd=tmp_path)
        assert ("chatapi-server" in image.packages()) == (step == steps[-1])
    assert {"aiohttp", "uvloop"} <= image.packages()
    assert not source.exists()
    [check] = read_steps("HEALTHCHECK")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONPATH", raising=False)
        with ServerProcess(tmp_path, dev=False, command=[str(image.bin / "chatapi")]) as server:
            chat(server)
            code = json.loads(check[check.index("[") :])[2].replace("http://127.0.0.1:8080", server.url)
            image.python(code)
