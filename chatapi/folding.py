"""Text as a search compares it: without case and diacritics."""

import unicodedata

LAST = "\U0010ffff"
"""Comes after every folded text: no text has this code point, which is not a character."""

# Letters with a stroke, or without a dot, which Unicode does not take apart.
_PLAIN = str.maketrans("øłđħŧıɨ", "oldhtii")


def fold(text: str) -> str:
    """The text in Unicode's compatibility form, without case and diacritics. It may be longer than the text, or
    empty."""
    if text.isascii():
        return text.lower()
    taken_apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    kept = "".join(letter for letter in taken_apart if not _is_diacritic(letter) and letter != LAST)
    return unicodedata.normalize("NFC", kept.translate(_PLAIN))


def _is_diacritic(letter: str) -> bool:
    """By its combining class: accents, and the points of Hebrew and Arabic. The signs of Indic scripts and Thai, and
    the voicing of kana, make other letters."""
    combining = unicodedata.combining(letter)
    return combining >= 200 or 10 <= combining <= 36


def end_prefix(prefix: str) -> str:
    """The first text after all those that begin with a folded text, which is not empty."""
    following = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(0xE000 if following == 0xD800 else following)  # texts have no surrogates
