"""No example in a document without a test that runs it."""

import ast
from functools import cache
from pathlib import Path

import pytest
from examples import Block, find_blocks, list_documents, read_blocks
from sources import list_sources

TESTS = Path(__file__).parent
TAKERS = ("example", "examples")
DRAWING = "text"  # what nobody pastes or writes into a file


def find_claims(source: Path) -> list[tuple[str, ...]]:
    """The arguments of each `example(…)` and `examples(…)` of a module."""
    text = source.read_text()
    claims = []
    for node in ast.walk(ast.parse(text if "from examples import" in text else "")):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in TAKERS:
            claims.append(tuple(ast.literal_eval(argument) for argument in node.args))
    return claims


@cache
def list_claimed() -> set[Block]:
    """The other module that calls them, `examples.py`, does so for nobody in particular."""
    modules = [path for path in list_sources("tests", ".py") if path.name != "examples.py"]
    return {block for module in modules for claim in find_claims(module) for block in find_blocks(*claim)}


@pytest.mark.parametrize("document", list_documents())
def test_every_example_is_run_by_a_test(document: str) -> None:
    left = [block for block in read_blocks(document) if block.language != DRAWING and block not in list_claimed()]
    assert [f"{document}:{block.line} ({block.language}): {block.text[:60]!r}" for block in left] == []


@pytest.mark.parametrize("document", list_documents())
def test_examples_are_fenced_with_their_language(document: str) -> None:
    """An indented block would be passed over here."""
    lines = (TESTS.parent / document).read_text().splitlines()
    fences = [line for line in lines if line.lstrip().startswith("```")]
    assert len(fences) == 2 * len(read_blocks(document))
    assert all(block.language for block in read_blocks(document))
    fenced = False
    for before, line in zip(["", *lines], lines, strict=False):
        fenced ^= line.lstrip().startswith("```")
        assert fenced or not (before == "" and line.startswith("    ")), line
