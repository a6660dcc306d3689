"""The npm package `chatapi-testing` (sdk/testing-js)."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from browser_rig import FLAGS
from examples import ROOT, example
from npm import install_packages

from chatapi import __version__

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

PACKAGE = ROOT / "sdk/testing-js"
RUNNERS = Path(__file__).parent / "testing_js"
COMMONJS = """
const { start } = require("chatapi-testing");
start().then(async (server) => {
  await server.faults({ delay_ms: 1 });
  await server.faults({});
  const before = new Date();
  if ((await server.advance(3600)) - before < 3600_000) throw new Error("the clock stands");
  await server.stop();
  await start({ command: ["false"] }).catch((error) => console.log(error.message));
});
"""


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "CHATAPI_COMMAND": f"{sys.executable} -m chatapi", "CI": "1", "NO_COLOR": "1"}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder in which both packages and the test runners are installed."""
    install_packages(RUNNERS)
    modules = tmp_path / "node_modules"
    modules.mkdir()
    for package in (RUNNERS / "node_modules").iterdir():
        (modules / package.name).symlink_to(package)
    (modules / "chatapi-testing").symlink_to(PACKAGE)
    (modules / "chatapi-js").symlink_to(ROOT / "chatapi/web/sdk")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    return tmp_path


def test_the_examples_of_its_readme(project: Path) -> None:
    (project / "node.test.mjs").write_text(example("sdk/testing-js/README.md", "js", "node:test"))
    assert "# pass 1" in run(project, "node", "--test", "--test-reporter=tap", "node.test.mjs")
    (project / "chat.test.js").write_text(example("sdk/testing-js/README.md", "js", 'from "vitest"'))
    assert "1 passed" in run(project, "node_modules/.bin/vitest", "run", "chat.test.js")
    (project / "chat.spec.js").write_text(example("sdk/testing-js/README.md", "js", "@playwright/test"))
    launch = {"executablePath": shutil.which("chromium") or shutil.which("google-chrome"), "args": FLAGS}
    settings = json.dumps({"use": {"launchOptions": launch}, "reporter": "line"})
    (project / "playwright.config.js").write_text(f"export default {settings};")
    assert "1 passed" in run(project, "node_modules/.bin/playwright", "test", "chat.spec.js")


def test_from_commonjs(project: Path) -> None:
    (project / "try.cjs").write_text(COMMONJS)
    assert "it ended with status 1" in run(project, "node", "try.cjs")


def test_its_version_is_that_of_the_server() -> None:
    assert json.loads((PACKAGE / "package.json").read_text())["version"] == __version__
