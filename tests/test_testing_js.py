"""The npm package `chatapi-testing` (sdk/testing-js)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from examples import ROOT, example

pytestmark = pytest.mark.browser

PACKAGE = ROOT / "sdk/testing-js"
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


def run_node(folder: Path, name: str, text: str, *flags: str) -> str:
    (folder / "node_modules").mkdir()
    (folder / "node_modules/chatapi-testing").symlink_to(PACKAGE)
    (folder / name).write_text(text)
    environment = {**os.environ, "CHATAPI_COMMAND": f"{sys.executable} -m chatapi"}
    command = ["node", *flags, name]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_example_of_its_readme(tmp_path: Path) -> None:
    text = example("sdk/testing-js/README.md", "js", "chatapi-testing")
    assert "# pass 1" in run_node(tmp_path, "chat.test.mjs", text, "--test", "--test-reporter=tap")


def test_from_commonjs(tmp_path: Path) -> None:
    assert "it ended with status 1" in run_node(tmp_path, "try.cjs", COMMONJS)
