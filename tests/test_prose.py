"""Documents and error texts are plain sentences: a few turns that need a second reading are refused."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples import FENCE, list_documents
from sources import ROOT, Module, find_comments, list_sources, read_modules

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
ARCHAIC = re.compile(
    r"\b(?:shall|whereby|thereof|hereby|lest|thence|merely|anew|for ever|in vain|mend the|as one who|but for"
    r"|(?:is|are|was|were) to be)\b"
)
# "It is no credential": in plain words it is not a credential. "There is no room" and "no longer" are plain.
NO_NOUN = re.compile(r"(?<![Tt]here )\b(?:is|are|was|were) no (?!longer\b)\w+")
# A statement that begins with a bare "who" or "what", as in "What is not read by then costs the connection."
HEADLESS = re.compile(r"(?:^|[.;] )(?:Who|What|Whoever|Whatever) [^.?|:]*[^.?|:\s](?:[.]|$)")
# In code, also a clause or a phrase that begins so: "What the server said: what follows is newer."
HEADLESS_IN_CODE = re.compile(r"(?:^|[.;:] )(?:[Ww]ho|[Ww]hat)(?:ever)? [^.?;:]*(?:[.;:]|$)")
AMBIGUOUS = {"asker", "place", "places", "Place", "spell", "caller", "company", "accompany", "Return"}
AMBIGUOUS |= {"owner", "Owner", "lane", "Lane", "turns", "Turns", "revise", "revision", "Revision", "sparse", "SPARSE"}
AMBIGUOUS |= {"settle", "settled", "admit", "link", "Link", "sessions", "Sessions", "Reply"}
STANDARD = {"connector_owner", "link"}  # aiohttp's parameter, and the hard link of `os`
CODE_TURNS = re.compile(f"{HEADLESS_IN_CODE.pattern}|{ARCHAIC.pattern}|{NO_NOUN.pattern}")
REFUSALS = {
    "invalid",
    "forbidden",
    "conflict",
    "unauthenticated",
    "rate_limited",
    "unavailable",
    "ChatError",
    "CliError",
}


def find_turns(text: str) -> list[str]:
    return [found[0] for pattern in (ARCHAIC, NO_NOUN, HEADLESS) for found in pattern.finditer(" ".join(text.split()))]


@pytest.mark.parametrize("document", [name for name in list_documents() if name != "CHANGELOG.md"])
def test_documents_are_plain(document: str) -> None:
    text = FENCE.sub("", (ROOT / document).read_text(encoding="utf-8"))
    parts = re.split(r"\n\s*\n|\n(?=[#|*-])|(?<=\|)", text)
    assert [turn for part in parts if not part.startswith("#") for turn in find_turns(part.strip(" |\n"))] == []


def list_docstrings(module: Module) -> Iterator[str]:
    """Those of attributes and constants included."""
    for node in module.nodes:
        for statement in getattr(node, "body", ()) if isinstance(node, DOCUMENTED) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                yield str(statement.value.value)


def list_comments(source: str) -> Iterator[str]:
    """Each as one text, however many lines it takes."""
    last_row, text = -1, ""
    for comment in find_comments(source):
        if text and not (comment.is_alone and comment.row == last_row + 1):
            yield text
            text = ""
        text += f" {comment.text.lstrip('# ')}"
        last_row = comment.row if comment.is_alone else -1
    yield text


@pytest.mark.parametrize(
    "package", sorted({path.parent for path in list_sources("chatapi", ".py")}), ids=lambda path: path.name
)
def test_docstrings_and_comments_are_plain(package: Path) -> None:
    found = []
    for path, module in read_modules().items():
        texts = (*list_docstrings(module), *list_comments(module.source)) if path.parent == package else ()
        for text in texts:
            found += [(path.name, turn[0]) for turn in CODE_TURNS.finditer(" ".join(text.split()))]
    assert found == []


@pytest.mark.parametrize("script", sorted((ROOT / "chatapi/web").glob("[sp][dl]*/**/*.js")), ids=lambda path: path.stem)
def test_comments_of_scripts_are_plain(script: Path) -> None:
    source = re.sub(r"https?://", "", script.read_text(encoding="utf-8"))
    comments = [found[1] or found[2] for found in re.finditer(r"/\*+((?s:.*?))\*/|// (.*)", source)]
    texts = [" ".join(re.sub(r"^\s*\*", "", comment, flags=re.MULTILINE).split()) for comment in comments]
    assert [turn[0] for text in texts for turn in CODE_TURNS.finditer(text)] == []


def list_classes() -> Counter[str]:
    """In how many modules each name is. What clients see, the SDK and the answers both have."""
    names: Counter[str] = Counter()
    for path, module in read_modules().items():
        if path.parent.name != "client" or not path.name.endswith(("records.py", "events.py")):
            names.update({node.name for node in module.nodes if isinstance(node, ast.ClassDef)})
    return names


def test_each_class_has_a_name_of_its_own() -> None:
    """Except for `Connection`: the server and the SDK each have one end of it."""
    doubled = {name for name, count in list_classes().items() if count > 1}
    assert doubled <= {"Connection"}


def test_no_name_is_a_word_of_several_meanings() -> None:
    found = set()
    for path, module in read_modules().items():
        for node in module.nodes:
            name = getattr(node, "name", None) or getattr(node, "attr", None) or getattr(node, "id", None)
            name = name or getattr(node, "arg", None)
            words = set(re.findall(r"[A-Z]?[a-z]+|[A-Z]{2,}", name)) if isinstance(name, str) else set()
            if name not in STANDARD and AMBIGUOUS & words:
                found.add((path.name, name))
    assert found == set()


def list_refusals() -> list[str]:
    """The texts, without what is put into them."""
    texts = []
    for module in read_modules().values():
        for call in module.nodes:
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") in REFUSALS:
                parts = [
                    part for argument in call.args for part in ast.walk(argument) if isinstance(part, ast.Constant)
                ]
                texts += [part.value for part in parts if isinstance(part.value, str)]
    return texts


def test_error_texts_are_plain() -> None:
    texts = list_refusals()
    assert len(texts) > 60
    assert [turn for text in texts for turn in find_turns(text)] == []


@pytest.mark.parametrize(
    "sentence",
    [
        "What is not read by then costs the connection.",
        "It ends. Who joins a channel joins as a member",
        "The rest is to be read over REST.",
        "The cursor is no credential.",
    ],
)
def test_such_sentences_are_found(sentence: str) -> None:
    assert find_turns(sentence)


@pytest.mark.parametrize(
    "text", ["What a handler returns", "It waits; whoever comes is served.", "of a page: what fits"]
)
def test_such_docstrings_and_comments_are_found(text: str) -> None:
    assert CODE_TURNS.search(text)


@pytest.mark.parametrize(
    "sentence",
    ["What to watch:", "What does it cost?", "It says what it holds.", "Who? Alice.", "There is no such room."],
)
def test_others_are_not(sentence: str) -> None:
    assert not find_turns(sentence)
