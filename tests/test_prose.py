"""Documents and error texts are plain sentences: a few turns that need a second reading are refused."""

import ast
import re
from pathlib import Path

import pytest
from examples import FENCE, list_documents

ROOT = Path(__file__).parent.parent
ARCHAIC = re.compile(
    r"\b(?:shall|whereby|thereof|hereby|lest|thence|merely|mend the|is to be|are to be|as one who|but for)\b"
)
# A statement that begins with a bare "who" or "what", as in "What is not read by then costs the connection."
HEADLESS = re.compile(r"(?:^|[.;] )(?:Who|What|Whoever|Whatever) [^.?|:]*[^.?|:\s](?:[.]|$)")
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
    return [found[0] for pattern in (ARCHAIC, HEADLESS) for found in pattern.finditer(" ".join(text.split()))]


@pytest.mark.parametrize("document", [name for name in list_documents() if name != "CHANGELOG.md"])
def test_documents_are_plain(document: str) -> None:
    text = FENCE.sub("", (ROOT / document).read_text(encoding="utf-8"))
    parts = re.split(r"\n\s*\n|\n(?=[#|*-])|(?<=\|)", text)
    assert [turn for part in parts if not part.startswith("#") for turn in find_turns(part.strip(" |\n"))] == []


def list_refusals() -> list[str]:
    """The texts, without what is put into them."""
    texts = []
    for source in (ROOT / "chatapi").rglob("*.py"):
        for call in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
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
    ],
)
def test_such_sentences_are_found(sentence: str) -> None:
    assert find_turns(sentence)


@pytest.mark.parametrize("sentence", ["What to watch:", "What does it cost?", "It says what it holds.", "Who? Alice."])
def test_others_are_not(sentence: str) -> None:
    assert not find_turns(sentence)
