"""The Dockerfile and its .dockerignore, as far as tests ask."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def read_steps(*instructions: str) -> list[str]:
    """The steps of these kinds in their order, each in one line."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [line for line in text.splitlines() if line.split(" ", 1)[0] in instructions]


def list_build_context() -> set[str]:
    """What Docker gets to see: `*` keeps all out, and each `!` lets one name in."""
    first, *rest = (ROOT / ".dockerignore").read_text().split()
    assert first == "*"
    return {line[1:] for line in rest if line.startswith("!")}
