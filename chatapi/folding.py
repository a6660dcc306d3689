"""Text as a search compares it: without case and diacritics."""

import unicodedata

LAST = "\U0010ffff"
"""Comes after every folded text: no text has this code point, which is not a character."""

PLAIN_LETTERS = {
    "ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ŧ": "t", "ɨ": "i", "\u0131": "i",
    "æ": "ae", "œ": "oe", "þ": "th",
}  # fmt: skip
"""Letters that Unicode does not take apart, with a stroke, without a dot, or joined, and the plain ones for them."""
_PLAIN = str.maketrans(PLAIN_LETTERS)


def fold(text: str) -> str:
    """The text in Unicode's compatibility form, without case and diacritics. It may be longer than the text, or
    empty."""
    if text.isascii():
        return text.lower()
    taken_apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    kept = "".join(
        letter for letter in taken_apart if not is_diacritic(unicodedata.combining(letter)) and letter != LAST
    )
    return unicodedata.normalize("NFC", kept.translate(_PLAIN))


def is_diacritic(combining_class: int) -> bool:
    """Accents, strokes, and the points of Hebrew and Arabic. The signs of Indic scripts and Thai, and the voicing of
    kana, make other letters."""
    return combining_class == 1 or 10 <= combining_class <= 36 or combining_class >= 200


def end_prefix(prefix: str) -> str:
    """The first text after all those that begin with a folded text, which is not empty."""
    following = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(0xE000 if following == 0xD800 else following)  # texts have no surrogates
