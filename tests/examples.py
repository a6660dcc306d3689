"""The fenced blocks of the documents, for the tests that run them.

`example("docs/guide.md", "sh", "/tokens")` is how a test takes one of them, `examples("docs/python-sdk.md", "python")`
all of a kind. tests/test_examples.py reads these calls, and fails for a block that none of them takes.
"""

import asyncio
import json
import os
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\S*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    document: str
    line: int
    language: str
    text: str


def list_documents() -> list[str]:
    """All that is Markdown and ours."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "chatapi").rglob("*.md")]
    found += [*(ROOT / "packaging").rglob("*.md"), *(ROOT / "sdk").rglob("*.md")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


@cache
def read_blocks(document: str) -> list[Block]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return [
        Block(document, text.count("\n", 0, found.start()) + 1, found["language"], found["text"])
        for found in FENCE.finditer(text)
    ]


def find_blocks(document: str, language: str, holding: str = "") -> list[Block]:
    return [block for block in read_blocks(document) if block.language == language and holding in block.text]


def example(document: str, language: str, holding: str = "") -> str:
    """The one block of this language that holds this text."""
    [block] = find_blocks(document, language, holding)
    return block.text


def examples(document: str, language: str) -> list[str]:
    blocks = [block.text for block in find_blocks(document, language)]
    assert blocks, f"{document} has no {language}"
    return blocks


async def run_calls(script: str, **names: str) -> list[Any]:
    """The `data` of each answer that it prints."""
    run = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-euo", "pipefail", "-c", script],
        env={"PATH": os.environ["PATH"], **names},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line)["data"] for line in run.stdout.replace("}{", "}\n{").splitlines()]
