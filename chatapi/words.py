"""Text as search sees it: without case and diacritics, in words, and what a query looks for in it.

One function folds messages for the index, queries, and messages in which hits are looked for, so that the three agree.
Chinese, Japanese, Korean, Thai and the like have no spaces between words: there any two neighbours are a word of the
index, and a query is found as a part of the text.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise, takewhile
from typing import NamedTuple

from chatapi.folding import PLAIN_LETTERS, is_diacritic

MAX_TERMS = 16
SNIPPET_CHARACTERS = 240
LEAD_CHARACTERS = 60  # of a snippet, before its first hit

# Scripts that are written without spaces, and Korean, whose words are found by their parts too.
_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u1100-\u11ff\ua960-\ua97f\uac00-\ud7ff"  # Korean
    "\u2e80-\u312f\u3190-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uffdc"  # Chinese, Japanese
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_is_unspaced = re.compile(f"[{_UNSPACED}]").match
_RUN = re.compile(f"[{_UNSPACED}]+")
_PIECE = re.compile(f"[{_UNSPACED}]+|[^ {_UNSPACED}]+")
_IN_WORD = f"[^ {_UNSPACED}]"

# Characters that are one although they are written as several: kana with a mark, syllables in letters.
_COMPOSED = re.compile(
    "[\u3040-\u30ff][\u3099\u309a]|[\uff66-\uff9d][\uff9e\uff9f]|[\u1100-\u1112][\u1161-\u1175][\u11a8-\u11c2]?"
)
_UNIT = re.compile(f"{_COMPOSED.pattern}|.", re.DOTALL)


class _Table(dict[int, str]):
    """Maps each character: letters and digits stay, others become a space, marks and signs for layout vanish."""

    def __missing__(self, code: int) -> str:
        if unicodedata.category(chr(code)) in _NO_CHARACTERS:
            return " "  # and is not kept: these are a million, and a user could send them all
        folded = self[code] = _fold_character(chr(code))
        if len(folded) != 1:
            _uneven.add(chr(code))
        return folded


_NO_CHARACTERS = ("Cn", "Co")  # code points that are not assigned, or mean what somebody likes
_uneven: set[str] = set()  # characters seen so far that do not become exactly one
_TABLE = _Table()


def _fold_character(character: str) -> str:
    if _is_unspaced(character):
        folded = unicodedata.normalize("NFKC", character)
    else:
        folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    return "".join(map(_simplify, folded))


def _simplify(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] in "LN":
        return PLAIN_LETTERS.get(character, character)
    if category[0] == "M":
        return "" if is_diacritic(unicodedata.combining(character)) else character
    return "" if category == "Cf" else " "


for _code in range(128):
    _TABLE[_code]


def fold(text: str) -> str:
    """Words and runs of unspaced characters, with spaces between."""
    if not text.isascii():
        text = _COMPOSED.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    return text.translate(_TABLE)


def list_words(text: str) -> str:
    """The words of the index, with spaces between. Of a text in ASCII they are its runs of letters and digits."""
    return _RUN.sub(lambda found: f" {' '.join(_pair(found[0]))} ", fold(text))


def _pair(run: str) -> list[str]:
    return [first + second for first, second in pairwise(run)]


class _Folded:
    """A folded text, and the position of each of its characters in the source."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.text = fold(source)
        if not source.isascii() and not (_uneven.isdisjoint(source) and _COMPOSED.search(source) is None):
            self._align()

    def _align(self) -> None:
        for unit in _UNIT.finditer(self.source):
            folded = fold(unit[0])
            if not folded and self._ends:
                self._ends[-1] = unit.end()  # an accent belongs to what it stands on
            self._starts += [unit.start()] * len(folded)
            self._ends += [unit.end()] * len(folded)

    def locate(self, start: int, end: int) -> tuple[int, int]:
        return (self._starts[start], self._ends[end - 1]) if self._starts else (start, end)


class Term(NamedTuple):
    """A word, a phrase, a prefix or a part of an unspaced text. A message that has it has all `words` in the index, and
    a word that begins with `prefix`; whether it has the term is for `pattern` to say."""

    words: tuple[str, ...]
    prefix: str | None
    pattern: re.Pattern[str]


class Excerpt(NamedTuple):
    text: str
    hits: list[tuple[int, int]]


def parse_terms(query: str) -> list[Term]:
    """Quotes make phrases, and a final `*` prefixes; nothing else means anything. Empty for a query without a word."""
    return [term for text, is_prefix in _split(query) if (term := _make_term(fold(text), is_prefix)) is not None]


def _split(query: str) -> Iterator[tuple[str, bool]]:
    """Each term's text, and whether it is a prefix. A quote that is not closed ends with the query."""
    for found in re.finditer(r'"([^"]*)"?(\*?)|([^\s"]+)', query):
        phrase, star, bare = found.groups()
        if bare is None:
            yield phrase, bool(star)
        else:
            yield bare, bare.endswith("*")


def _make_term(folded: str, is_prefix: bool) -> Term | None:
    pieces = _PIECE.findall(folded)
    if not pieces:
        return None
    words: list[str] = []
    pattern = ""
    prefix = None
    for number, piece in enumerate(pieces, start=1):
        if number > 1:
            # Two neighbouring pieces are two words, unless one of them needs no space.
            pattern += " +" if bool(_is_unspaced(piece)) == bool(_is_unspaced(pieces[number - 2])) else " *"
        if _is_unspaced(piece):
            words += _pair(piece)
            pattern += re.escape(piece)
        elif is_prefix and number == len(pieces):
            prefix = piece
            pattern += f"{_begin(piece)}{_IN_WORD}*"
        else:
            words.append(piece)
            pattern += f"{_begin(piece)}(?!{_IN_WORD})"
    return Term(tuple(dict.fromkeys(words)), prefix, re.compile(pattern))


def _begin(word: str) -> str:
    """A look back after the word is quicker than one before it, since it leaves `re` a literal to look for."""
    return f"{re.escape(word)}(?<!{_IN_WORD}{re.escape(word)})"


def has_all(content: str, terms: Sequence[Term]) -> bool:
    text = fold(content)
    return all(term.pattern.search(text) for term in terms)


def make_excerpt(content: str, terms: Sequence[Term]) -> Excerpt | None:
    """The piece of the content that has most terms, and where they are; None unless the content has all of them."""
    folded = _Folded(content)
    firsts = [found.span() for term in terms if (found := term.pattern.search(folded.text))]
    if len(firsts) < len(terms):
        return None
    start, end = max(firsts, key=lambda span: (_count_around(span[0], folded.text, terms), -span[0]))
    low, high = _choose_piece(content, *folded.locate(start, end))
    spans: list[tuple[int, int]] = []
    for term in terms:
        found_spans = (folded.locate(*found.span()) for found in term.pattern.finditer(folded.text))
        spans += [span for span in takewhile(lambda span: span[0] < high, found_spans) if span[1] > low]
    hits = [(max(low, first) - low, min(high, last) - low) for first, last in sorted(spans)]
    return Excerpt(content[low:high], _merge(hits))


def _count_around(start: int, text: str, terms: Sequence[Term]) -> int:
    """How many terms a piece around there would have, or nearly so."""
    low, high = max(0, start - LEAD_CHARACTERS), start + SNIPPET_CHARACTERS - LEAD_CHARACTERS
    return sum(term.pattern.search(text, low, high) is not None for term in terms)


def _choose_piece(content: str, start: int, end: int) -> tuple[int, int]:
    """Bounds of a piece with this hit, at spaces if there are any nearby."""
    if len(content) <= SNIPPET_CHARACTERS:
        return 0, len(content)
    low = max(0, min(start - LEAD_CHARACTERS, len(content) - SNIPPET_CHARACTERS))
    if low:
        low = next((index + 1 for index in range(low, start) if content[index].isspace()), low)
    high = min(len(content), low + SNIPPET_CHARACTERS)
    if high < len(content):
        nearest = max(end, high - LEAD_CHARACTERS)
        high = next((index for index in range(high, nearest, -1) if content[index].isspace()), high)
    return low, high


def _merge(hits: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Hits that overlap are one."""
    merged: list[tuple[int, int]] = []
    for start, end in hits:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
