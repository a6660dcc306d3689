"""The source tree as it is written, without what tools have put into it."""

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
MADE = {
    "__pycache__",
    "node_modules",
}  # where tests have run, node_modules holds thirty times as many files as we wrote


def list_sources(folder: str, *suffixes: str) -> Iterator[Path]:
    """All files below the folder, or those that end so."""
    for parent, folders, names in os.walk(ROOT / folder):
        folders[:] = sorted(set(folders) - MADE)
        yield from (Path(parent, name) for name in sorted(names) if not suffixes or name.endswith(suffixes))
