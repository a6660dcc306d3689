"""CONTRIBUTING.md is held to the tree: every module has its row in the layout, every test file is found there, and
what it names exists."""

import ast
import re
from pathlib import Path

from sources import ROOT, STRING_OR_COMMENT, find_comments, list_sources, read_modules, read_text

TESTS = ROOT / "tests"
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def read_layout() -> list[tuple[str, str]]:
    """The first and the last column of each row."""
    table = TEXT[TEXT.index("## Layout") : TEXT.index("Imports go downward only.")]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| `")]
    return [(row[0], row[-1]) for row in rows]


def list_test_files() -> list[Path]:
    return [path for path in list_sources("tests", ".py") if path.name.startswith("test_")]


def find_names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_module_has_one_row() -> None:
    listed = [name.removeprefix("chatapi/").rstrip("/") for paths, _ in read_layout() for name in find_names(paths)]
    assert len(listed) == len(set(listed))
    modules = {path.name for path in (ROOT / "chatapi").iterdir() if path.suffix == ".py" or any(path.glob("*"))}
    assert modules - {"__init__.py", "__pycache__"} - set(listed) == set()


def test_every_test_file_is_found_by_the_layout() -> None:
    found: set[Path] = set()
    for _, tests in read_layout():
        for name in find_names(tests):
            paths = [TESTS / name] if name.endswith("/") else list(TESTS.glob(name))
            assert paths, name
            assert all(path.exists() for path in paths), name
            found.update(paths)
    own = Path(__file__)
    assert sorted(path.name for path in TESTS.glob("test_*.py") if path not in found and path != own) == []


def test_files_named_in_contributing_exist() -> None:
    text = TEXT[TEXT.index("Imports go downward only.") :]
    names = set(re.findall(r"`([\w./-]+/[\w./-]+|\w+\.(?:py|md|toml|cfg|js|json))`", text))
    for name in names - {"chatapi/store/migrations/NNNN_verb_noun.sql"}:
        assert any((ROOT / folder / name).exists() for folder in ("", "chatapi", "tests")), name


def test_no_test_module_imports_another() -> None:
    """What they share has a module of its own. Two of one name could not be collected in one run."""
    names = [path.stem for path in list_test_files()]
    assert len(names) == len(set(names))
    imports = re.compile(r"^ *(?:from|import) (test_\w+)", re.MULTILINE)
    assert [path.name for path in list_sources("tests", ".py") if imports.search(read_text(path))] == []


def test_test_files_have_less_than_600_lines() -> None:
    assert [path.name for path in list_sources("tests", ".py") if read_text(path).count("\n") >= 600] == []


def test_names_of_tests_have_a_subject() -> None:
    """`test_member_readded_after_hearing_of_the_removal_gets_no_gap`, not `test_who_is_told_…` or `test_what_is_…`."""
    names = [name for path in list_test_files() for name in re.findall(r"def (test_\w+)", read_text(path))]
    headless = re.compile(r"_(?:what|whatever|whoever|whom)(?:_|$)|(?:test|is|are|and|of|to|by|than|for|from)_who_")
    assert [name for name in names if headless.search(name)] == []


def test_packages_that_list_their_modules_list_them_all() -> None:
    listing = 0
    for package in (ROOT / "chatapi").rglob("__init__.py"):
        modules = {path.stem for path in package.parent.glob("*.py")} - {"__init__"}
        named = set(re.findall(r"`([a-z_]+)`", ast.get_docstring(ast.parse(package.read_text())) or "")) & modules
        listing += len(named) > 1
        assert len(named) <= 1 or named == modules, package
    assert listing >= 3


def test_modules_and_functions_stay_short() -> None:
    modules = read_modules()
    assert [path.name for path, module in modules.items() if module.source.count("\n") > 500] == []
    functions = [
        node
        for module in modules.values()
        for node in module.nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(functions) > 1_000
    assert [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= 59] == []


DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
REFERENCE = re.compile(r"`([A-Za-z]\w*(?:[._]\w+)+|[A-Z]\w+)(?:\(.*?\))?`")
# Of other programs, and examples.
FOREIGN = {"tcpi_bytes_acked", "ipaddress.is_global", "PATH.lock", "message_sent"}


def test_names_in_docstrings_and_comments_exist() -> None:
    """A rename leaves none of them behind. Single lowercase words are left out: they may be anything."""
    known = {name for path in (ROOT / "chatapi").rglob("*.sql") for name in re.findall(r"\w+", read_text(path))}
    named: set[str] = set()
    for path, module in read_modules().items():
        known.update(path.relative_to(ROOT).with_suffix("").parts)
        lines = module.source.split("\n")
        prose = [comment.text for comment in find_comments(module.source)]
        for node in module.nodes:
            if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)) is not None:
                prose.append(text)
                docstring = node.body[0]
                lines[docstring.lineno - 1 : docstring.end_lineno] = [""] * (
                    docstring.end_lineno - docstring.lineno + 1
                )
        named.update(name for text in prose for name in REFERENCE.findall(text))
        code = STRING_OR_COMMENT.sub(lambda found: "" if found["comment"] else found[0], "\n".join(lines))
        known.update(re.findall(r"\w+", code))
    assert len(named) > 200
    assert sorted(name for name in named - FOREIGN if not known.issuperset(name.split("."))) == []
