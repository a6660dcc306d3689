"""The source tree as it is written, without what tools have put into it."""

import ast
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
MADE = {
    "__pycache__",
    "node_modules",
}  # where tests have run, node_modules holds thirty times as many files as we wrote

# Strings are matched too, since a # in one begins no comment. Python's tokenizer finds the same, but takes ten times as
# long.
STRING_OR_COMMENT = re.compile(
    r""""{3}(?:[^\\]|\\.)*?"{3}|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|(?P<comment>#[^\n]*)""", re.DOTALL
)


def list_sources(folder: str, *suffixes: str) -> Iterator[Path]:
    """All files below the folder, or those that end so."""
    for parent, folders, names in os.walk(ROOT / folder):
        folders[:] = sorted(set(folders) - MADE)
        yield from (Path(parent, name) for name in sorted(names) if not suffixes or name.endswith(suffixes))


class Module(NamedTuple):
    source: str
    tree: ast.Module
    nodes: list[ast.AST]
    """All of the tree, in no particular order."""


@cache
def read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


class Comment(NamedTuple):
    row: int
    text: str
    is_alone: bool
    """Nothing else is on its line."""


def find_comments(source: str) -> Iterator[Comment]:
    for found in STRING_OR_COMMENT.finditer(source):
        if found["comment"]:
            before = source[source.rfind("\n", 0, found.start()) + 1 : found.start()]
            yield Comment(source.count("\n", 0, found.start()), found["comment"], not before.strip())


@cache
def read_modules() -> dict[Path, Module]:
    """The package's modules. To parse them takes longer than most tests that look at them."""
    modules = {}
    for path in sorted((ROOT / "chatapi").rglob("*.py")):
        source = read_text(path)
        tree = ast.parse(source)
        modules[path] = Module(source, tree, list(ast.walk(tree)))
    return modules
