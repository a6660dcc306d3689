"""No line of the project installs ChatAPI from a package registry: its names are not published, so anybody could take
them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources import ROOT, list_sources

TEXTS = {"", ".cjs", ".css", ".html", ".js", ".json", ".md", ".mjs", ".py", ".toml", ".ts", ".txt", ".yaml", ".yml"}
FOLDERS = [".ci", "chatapi", "docs", "packaging", "tests"]
FILES = [file for file in ROOT.iterdir() if file.is_file() and not file.name.startswith(".")]

INSTALLERS = re.compile(
    r"\b(?:pip3?|uv|pdm|poetry|conda|npm|yarn|pnpm|bun|deno)\b(?: +pip| +tool)?(?: +-\S+)*"
    r" +(?:install|download|wheel|add|run|exec|x|i|dlx|global +add)\b"
    r"|\bpipx +(?:install|run|inject)\b|\b(?:uvx|npx|bunx)\b"
)
OURS = r"chatapi(?:[-_.](?:server|python)|-js)?"
# Not a path, an address or a longer name, and with no address behind it.
FROM_REGISTRY = re.compile(
    rf"(?<![\w./:@-]){OURS}(?![\w/-]|\.\w)(?!(?:\[[\w,-]*\])? *@ *(?:git\+|https?:|file:))", re.IGNORECASE
)
CDN = re.compile(
    rf"(?:unpkg\.com|cdn\.jsdelivr\.net/npm|esm\.sh|esm\.run|(?:cdn\.)?skypack\.dev|jspm\.(?:dev|io)(?:/npm:)?)/?{OURS}\b"
    rf"|\bnpm:{OURS}\b",
    re.IGNORECASE,
)
DEPENDENCY = re.compile(rf"^\s*[\"']?{OURS}(?:\[[\w,-]*\])?[\"']?\s*(?:[=~<>!]=|:\s*[\"'][\^~*\d])", re.IGNORECASE)


def find_registry_installs(text: str) -> Iterator[str]:
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in [line for line in joined.splitlines() if "chatapi" in line.lower()]:
        for installer in INSTALLERS.finditer(line):
            command = re.split(r"`|&&|\|\||;| #", line[installer.end() :])[0]
            if FROM_REGISTRY.search(command):
                yield line.strip()
        for pattern in (CDN, DEPENDENCY):
            yield from (found[0].strip() for found in pattern.finditer(line))


def list_texts() -> list[Path]:
    files = [file for folder in FOLDERS for file in list_sources(folder)]
    return sorted(
        file
        for file in [*files, *FILES]
        if file.suffix in TEXTS and "swagger" not in file.parts and file != Path(__file__)
    )


def test_no_line_installs_from_a_registry() -> None:
    texts = list_texts()
    assert {ROOT / "README.md", ROOT / "Dockerfile", ROOT / "chatapi/cli/serve.py", ROOT / ".ci/run"} <= set(texts)
    found = {str(file.relative_to(ROOT)): list(find_registry_installs(file.read_text())) for file in texts}
    assert {file: lines for file, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        "pip install chatapi",
        "pip install 'chatapi[uvloop]'",
        "/opt/chatapi/bin/pip install --upgrade 'chatapi[uvloop]'",
        "python -m pip install -U chatapi-server",
        "pip install chatapi_python==1.0.0",
        "Run `pip install chatapi-python` first.",
        "pip install \\\n    chatapi-server",
        "uv pip install chatapi-server",
        "uv add chatapi-python",
        "uv tool install chatapi-server",
        "uvx chatapi serve",
        "pipx run chatapi-server",
        'error = "uvloop is missing: pip install chatapi-server[uvloop]"',
        "npm install chatapi-js",
        "npm i --save chatapi-js@^1.0.0",
        "npx chatapi-js",
        "yarn add chatapi-js",
        "pnpm add ws chatapi-js",
        'import { ChatAPI } from "https://unpkg.com/chatapi-js@1/chatapi.js";',
        "https://cdn.jsdelivr.net/npm/chatapi-js/chatapi.js",
        'import { ChatAPI } from "https://esm.sh/chatapi-js";',
        'import { ChatAPI } from "npm:chatapi-js";',
        '    "chatapi-js": "^1.0.0"',
        "chatapi-python>=1.0",
    ],
)
def test_install_lines_from_a_registry_are_found(line: str) -> None:
    assert list(find_registry_installs(f"Before.\n{line}\nAfter."))


@pytest.mark.parametrize(
    "line",
    [
        "pip install .",
        "pip install '.[uvloop]'",
        "pip install ./packaging/chatapi-python",
        "pip install dist/chatapi_server-1.0.0-py3-none-any.whl",
        "pip install './chatapi_server-1.0.0-py3-none-any.whl[uvloop]'",
        "pip install 'chatapi-server @ git+https://git.example.com/chatapi.git'",
        "pip install 'chatapi-server[uvloop]@git+https://git.example.com/chatapi.git'",
        "pip install . && chatapi serve",
        "pip install standardwebhooks  # and chatapi",
        "pipx install dist/chatapi_server-1.0.0-py3-none-any.whl",
        "uv tool install .",
        "npm install ./chatapi-js-1.0.0.tgz",
        "docker run --name chatapi",
        "`pip install .` makes the command chatapi",
        '  "name": "chatapi-js",',
        "https://chat.example.com/sdk/chatapi.js",
    ],
)
def test_install_lines_from_this_repository_are_left_alone(line: str) -> None:
    assert not list(find_registry_installs(f"Before.\n{line}\nAfter."))
