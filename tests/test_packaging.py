"""What is packed: one version, one licence, and nothing that is not needed."""

import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from dockerfile import list_build_context, read_steps

from chatapi import __version__

ROOT = Path(__file__).parent.parent
SDK = ROOT / "packaging" / "chatapi-python"
JAVASCRIPT = ROOT / "chatapi" / "web" / "sdk"
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Dockerfile")),
    *sorted((ROOT / "docs").glob("*.md")),
    *(folder / "README.md" for folder in (SDK, JAVASCRIPT)),
]


def read_project(folder: Path) -> dict[str, object]:
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert isinstance(project, dict)
    return project


def find_versions(text: str) -> set[str]:
    """Those of ChatAPI: of a file's name, or an image's tag."""
    return set(re.findall(r"\bchatapi(?:[-_](?:server|python|js))?[-:@](\d+\.\d+(?:\.\d+)?\w*)", text))


def test_all_versions_are_the_one_of_the_package() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)  # the one spelling that pip and npm share
    assert json.loads((JAVASCRIPT / "package.json").read_text())["version"] == __version__
    assert re.findall(r'^export const VERSION = "(.+)";', (JAVASCRIPT / "chatapi.js").read_text(), re.MULTILINE) == [
        __version__
    ]
    for folder in (ROOT, SDK):
        assert read_project(folder)["dynamic"] == ["version"]
    found = {file.name: find_versions(file.read_text()) for file in DOCUMENTS}
    assert "operations.md" in {name for name, versions in found.items() if versions}
    assert {name: versions - {__version__} for name, versions in found.items() if versions - {__version__}} == {}


def test_the_changelog_ends_with_this_version() -> None:
    newest = re.search(
        r"^Will be released as (\S+)\.$|^## \[(\d\S+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert newest is not None
    assert __version__ in newest.groups()


@pytest.mark.parametrize("folder", [SDK, JAVASCRIPT])
def test_each_package_says_which_server_it_knows(folder: Path) -> None:
    newest = re.search(r"^## (\S+)$", (folder / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == __version__
    series = __version__.rpartition(".")[0]
    assert f"\n| {series}.x | knows all of {series}.x, " in (folder / "README.md").read_text()


@pytest.mark.parametrize("folder", [SDK, JAVASCRIPT])
def test_each_package_holds_the_licence(folder: Path) -> None:
    assert (folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_sdk_requires_the_servers_python_and_versions_of_libraries() -> None:
    server, sdk = read_project(ROOT), read_project(SDK)
    assert isinstance(sdk["dependencies"], list)
    assert {re.split("[<>=]", line)[0] for line in sdk["dependencies"]} == {"aiohttp", "msgspec", "orjson"}
    assert isinstance(server["dependencies"], list)
    # The server needs more, and has bounds above some of them, which would be in the way of an application's others.
    assert set(sdk["dependencies"]) < {line.split(",")[0] for line in server["dependencies"]}
    assert sdk["requires-python"] == server["requires-python"]


@pytest.mark.slow
def test_the_sdk_holds_all_that_it_imports() -> None:
    config = tomllib.loads((SDK / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    held = [(SDK / source).resolve() for source in config["force-include"]]
    assert all(path.exists() for path in held)
    code = (
        "import sys, chatapi.client;"
        "print(*(m.__file__ for name, m in sys.modules.items() if name.split('.')[0] == 'chatapi'), sep='\\n')"
    )
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [Path(line) for line in loaded.split()]
    assert ROOT / "chatapi" / "client" / "api.py" in files
    assert [file for file in files if not any(file.is_relative_to(path) for path in held)] == []


def test_a_pyz_for_another_python_says_so(tmp_path: Path) -> None:
    preamble = str(ROOT / "packaging" / "pyz_preamble.py")
    packed = tmp_path / "orjson"
    packed.mkdir()
    (packed / "orjson.abi3.so").touch()
    runpy.run_path(preamble, {"site_packages": tmp_path})
    (packed / "orjson.cpython-399-riscv64-linux-gnu.so").touch()
    with pytest.raises(SystemExit, match=r"made for Pythons that load `\.cpython-399-riscv64-linux-gnu\.so`"):
        runpy.run_path(preamble, {"site_packages": tmp_path})


def test_the_image_runs_as_a_number_that_is_not_root() -> None:
    user, group = read_steps("USER")[-1].removeprefix("USER ").split(":")
    assert int(user) > 0
    assert int(group) > 0
    [made] = [step for step in read_steps("RUN") if "useradd" in step]
    assert f"--uid {user} --gid {group} " in made
    assert f"install -d -o {user} -g {group} /data" in made


def test_image_installs_dependencies_in_a_layer_before_the_sources() -> None:
    steps = read_steps("COPY", "RUN", "USER")
    order = [next(i for i, step in enumerate(steps) if mark in step) for mark in ("-r /src/", "COPY . ", "--no-deps")]
    assert order == sorted(order)
    assert steps[order[0] - 1] == "COPY pyproject.toml /src/"
    assert "rm -rf /src" in steps[order[2]]


def test_image_has_the_bytecode_that_a_start_loads() -> None:
    steps = read_steps("COPY", "RUN", "USER")
    [compiled] = [i for i, step in enumerate(steps) if step == "RUN chatapi serve --help > /dev/null"]
    assert "--no-deps" in steps[compiled - 1]
    assert any(step.startswith("USER") for step in steps[compiled:])  # root did it


def test_image_is_built_from_needed_files_only() -> None:
    context = list_build_context()
    assert {"chatapi", "pyproject.toml", "README.md", "LICENSE"} == context
