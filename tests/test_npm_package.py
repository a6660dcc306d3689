"""The packed `chatapi-js`: its types, its ECMAScript modules and CommonJS, and a chat in Node, Deno and Bun."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples import ROOT, example
from npm import install_packages
from server_process import ServerProcess

from chatapi import __version__

pytestmark = [pytest.mark.release, pytest.mark.timeout(900)]

HERE = Path(__file__).parent / "package"
PACKAGES = HERE / "node_modules"
SDK = ROOT / "chatapi" / "web" / "sdk"
TESTING = ROOT / "sdk" / "testing-js"
TARBALL = f"chatapi-js-{__version__}.tgz"
CHAT = example("chatapi/web/sdk/README.md", "js", "createRoom")
RUN = example("chatapi/web/sdk/README.md", "sh", "deno run")
NEW_PROJECT = example("docs/react.md", "sh", "npm create")
APP = example("docs/react.md", "jsx", "useMessages")
ADD_VITEST = example("docs/react.md", "sh", "--save-dev")
RUN_VITEST = example("docs/react.md", "sh", "npx vitest run")
FILES_OF_TESTS = [
    example("docs/react.md", "js", "defineConfig"),
    example("docs/react.md", "jsx", "src/App.test.jsx"),
]
REQUIRE = """
const { VERSION, ChatAPIError, ...names } = require("chatapi-js");
const error = new ChatAPIError("NOT_FOUND", "no");
const kind = require.resolve("chatapi-js").split(".").pop();
const exported = (one) => Object.keys(one).sort();
console.log(JSON.stringify([VERSION, error.status, error instanceof Error, kind]));
(async () => {
  for (const name of ["chatapi-js", "chatapi-js/ai", "chatapi-js/react"]) {
    console.log(JSON.stringify([exported(require(name)), exported(await import(name))]));
  }
  require(process.argv[2])({ ...names, VERSION });
})();
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the packed package is installed, beside those that it is used with."""
    install_packages(HERE)
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(SDK, folder / "sdk")  # which packing changes for a moment
    run("npm", "pack", "--silent", "--pack-destination", folder, cwd=folder / "sdk")
    assert {file.name for file in (folder / "sdk").iterdir()} == {file.name for file in SDK.iterdir()}
    modules = folder / "node_modules"
    modules.mkdir()
    for package in PACKAGES.iterdir():
        if not package.name.startswith("."):
            (modules / package.name).symlink_to(package)
    with tarfile.open(folder / TARBALL) as archive:
        archive.extractall(folder, filter="data")
    (folder / "package").rename(modules / "chatapi-js")
    installed = {"dependencies": {"chatapi-js": f"file:{TARBALL}"}}
    (folder / "package.json").write_text(json.dumps(installed))  # Deno finds no other packages
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server")) as server:
        yield server


def run(*command: str | Path, cwd: Path, **names: str) -> str:
    result = subprocess.run(command, cwd=cwd, env={**os.environ, **names}, capture_output=True, text=True)
    assert result.returncode == 0, f"{command}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result.stdout


def test_it_holds_every_module_in_four_forms(project: Path) -> None:
    with tarfile.open(project / TARBALL) as archive:
        held = {name.removeprefix("package/") for name in archive.getnames()}
    modules = {f"{name}{kind}" for name in ("chatapi", "ai", "react") for kind in (".js", ".cjs", ".d.ts", ".d.cts")}
    parts = {f"room/{file.name}" for file in (SDK / "room").iterdir()}
    element = {"room.js", "room.d.ts", *parts}  # for browsers, which take no CommonJS
    assert held == modules | element | {"LICENSE", "README.md", "CHANGELOG.md", "package.json"}


def test_types_of_the_test_server(project: Path, tmp_path: Path) -> None:
    """Of `chatapi-testing`, packed: its modules and its types are found in every way, and are strict."""
    run("npm", "pack", "--silent", "--pack-destination", tmp_path, cwd=TESTING)
    tarball = tmp_path / f"chatapi-testing-{__version__}.tgz"
    assert "No problems found" in run(PACKAGES / ".bin" / "attw", tarball, "--no-emoji", "--no-color", cwd=tmp_path)
    modules = tmp_path / "node_modules"
    modules.mkdir()
    with tarfile.open(tarball) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "package").rename(modules / "chatapi-testing")
    shutil.copy(HERE / "server.mts", tmp_path)
    shutil.copy(HERE / "server.mts", tmp_path / "server.ts")
    for files, module, resolution in (("server.mts", "nodenext", "nodenext"), ("server.ts", "esnext", "bundler")):
        options = ["--noEmit", "--strict", "--exactOptionalPropertyTypes", "--ignoreConfig", "--target", "es2022"]
        run(
            PACKAGES / ".bin" / "tsc",
            *options,
            "--module",
            module,
            "--moduleResolution",
            resolution,
            files,
            cwd=tmp_path,
        )


def test_every_way_to_resolve_it_finds_the_right_types(project: Path) -> None:
    options = ["--no-emoji", "--no-color", "--exclude-entrypoints", "room"]  # which is for browsers, without CommonJS
    judged = run(PACKAGES / ".bin" / "attw", project / TARBALL, *options, cwd=project)
    assert "No problems found" in judged


@pytest.mark.parametrize(
    ("module", "resolution", "kind"),
    [
        ("node16", "node16", "module"),
        ("node16", "node16", "commonjs"),
        ("nodenext", "nodenext", "module"),
        ("nodenext", "nodenext", "commonjs"),
        ("esnext", "bundler", "module"),
    ],
)
def test_its_types_are_strict(project: Path, tmp_path: Path, module: str, resolution: str, kind: str) -> None:
    """The types of other packages are read too, and not all of those are this strict."""
    (tmp_path / "node_modules").symlink_to(project / "node_modules")
    (tmp_path / "package.json").write_text(json.dumps({"type": kind}))
    shutil.copy(HERE / "chat.tsx", tmp_path)
    options = ["--noEmit", "--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess", "--ignoreConfig"]
    libraries = ["--target", "es2022", "--lib", "es2022,dom,dom.iterable", "--jsx", "react-jsx"]
    command = ["tsc", *options, *libraries, "--module", module, "--moduleResolution", resolution, "chat.tsx"]
    judged = subprocess.run(
        [PACKAGES / ".bin" / command[0], *command[1:]], cwd=tmp_path, capture_output=True, text=True
    )
    complaints = re.findall(r"^\S.*error TS\d+.*", judged.stdout, re.MULTILINE)
    assert [line for line in complaints if "chat.tsx" in line or "chatapi-js" in line] == []
    assert judged.returncode == 0 or complaints


@pytest.mark.parametrize("command", [line.split() for line in RUN.splitlines() if "chat.mjs" in line])
def test_a_first_chat(project: Path, server: ServerProcess, command: list[str]) -> None:
    (project / "chat.mjs").write_text(CHAT)
    key = server.create_tenant(command[0])
    programs = {
        "node": Path(shutil.which("node") or "node"),
        "deno": PACKAGES / ".bin" / "deno",
        "bun": next(PACKAGES.glob("@oven/*/bin/bun")),
    }
    said = run(programs[command[0]], *command[1:], cwd=project, CHATAPI_URL=server.url, CHATAPI_KEY=key)
    assert said == "alice: Hello, Bob\n"


def test_required_it_is_the_same(project: Path, server: ServerProcess) -> None:
    body = CHAT.partition("\n\n")[2].replace('(await import("ws")).default', 'require("ws")')
    talk = f"module.exports = async ({{ ChatAPI }}) => {{\n{body}\n}};"
    (project / "talk.cjs").write_text(talk)
    (project / "use.cjs").write_text(REQUIRE)
    names = {"CHATAPI_URL": server.url, "CHATAPI_KEY": server.create_tenant("cjs")}
    first, *exported, said = run("node", "use.cjs", "./talk.cjs", cwd=project, **names).splitlines()
    assert json.loads(first) == [__version__, 404, True, "cjs"]
    for required, imported in map(json.loads, exported):
        assert required == [name for name in imported if name not in ("default", "module.exports")]
        assert len(required) > 1
    assert len(exported) == 3
    assert said == "alice: Hello, Bob"


def test_a_new_project_builds_the_example_and_tests_it(tmp_path: Path) -> None:
    """docs/react.md from its first line to its last."""
    checkout = tmp_path / "chatapi" / "chatapi" / "web"
    checkout.mkdir(parents=True)
    shutil.copytree(SDK, checkout / "sdk")
    shutil.copytree(TESTING, tmp_path / "chatapi" / "sdk" / "testing-js")
    run("sh", "-euc", NEW_PROJECT, cwd=tmp_path)
    project = tmp_path / "my-chat"
    (project / "src" / "App.jsx").write_text(APP)
    run("npm", "run", "build", cwd=project)
    assert list((project / "dist" / "assets").glob("*.js"))

    for text in FILES_OF_TESTS:
        name = text.splitlines()[0].removeprefix("// ")
        (project / name).write_text(text)
    command = tmp_path / "bin" / "chatapi"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m chatapi "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}:{os.environ['PATH']}"
    run("sh", "-euc", ADD_VITEST, cwd=project)
    assert "1 passed" in run("sh", "-euc", RUN_VITEST, cwd=project, PATH=path, NO_COLOR="1", PYTHONPATH=str(ROOT))
