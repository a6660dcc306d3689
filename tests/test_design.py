"""The modules, functions and tests that docs/design.md names exist, as does each section that the code refers to."""

import re
from functools import cache
from pathlib import Path

import pytest
from sources import ROOT, list_sources, read_text

DESIGN = (ROOT / "docs/design.md").read_text(encoding="utf-8")
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
METHOD = re.compile(r"`_?([A-Z]\w+)\.(\w+)`")
MODULE = re.compile(r"`((?:\w+/)*\w+\.(?:py|sql|cfg))`")
REFERENCE = re.compile(r"(?:docs/)?(contract|design)\.md,? sections? (\d+)(?: and (\d+))?")


@cache
def list_texts() -> list[Path]:
    """All text of ours that may refer to a document."""
    found = [ROOT / "setup.cfg", ROOT / "pyproject.toml", ROOT / "chatapi.toml", *ROOT.glob("*.md")]
    for folder in ("chatapi", "docs", "packaging", "tests"):
        found += list_sources(folder, ".py", ".md", ".js", ".mjs", ".toml", ".sql", ".json")
    return found


@cache
def read_source() -> str:
    return "\n".join(read_text(path) for path in sorted((ROOT / "chatapi").rglob("*.py")))


@pytest.mark.parametrize(("file", "name"), sorted(set(TEST.findall(DESIGN))))
def test_each_test_that_the_design_names_exists(file: str, name: str) -> None:
    assert not name or re.search(rf"^(async )?def {name}\(", read_text(ROOT / file), re.MULTILINE)


def test_each_module_and_function_that_the_design_names_exists() -> None:
    modules = {name for name in MODULE.findall(DESIGN) if not name.startswith("tests/")}
    assert [name for name in modules if not any((ROOT / folder / name).is_file() for folder in (".", "chatapi"))] == []
    methods = set(METHOD.findall(DESIGN))
    assert len(methods) > 20
    classes = re.split(r"^class ", read_source(), flags=re.MULTILINE)
    for owner, name in methods:
        bodies = [part for part in classes if re.match(rf"{owner}\b", part)]
        define = re.compile(rf"^    (async )?def {name}\(", re.MULTILINE)
        assert any(define.search(body) for body in bodies), f"{owner}.{name}"


@pytest.mark.slow
def test_each_section_that_is_referred_to_exists() -> None:
    headings = {
        name: set(re.findall(r"^## (\d+)\.", (ROOT / f"docs/{name}.md").read_text(encoding="utf-8"), re.MULTILINE))
        for name in ("contract", "design")
    }
    found = [
        (path, document, section)
        for path in list_texts()
        for document, *sections in REFERENCE.findall(read_text(path))
        for section in filter(None, sections)
    ]
    assert len(found) > 20
    assert [item for item in found if item[2] not in headings[item[1]]] == []


def test_nothing_refers_to_a_document_that_is_not_here() -> None:
    for path in list_texts():
        if path != Path(__file__):
            assert not re.search(r"\b(?:CONTRACT|DESIGN) (?:sections? )?\d", read_text(path)), path
