"""The kinds of values that settings accept. Each has a check, and a sentence for errors and for chatapi.toml."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from chatapi.address import read_network
from chatapi.origin import ANY, OPAQUE, parse_origin

MAX_URL_CHARS = 2048  # the limit that proxies and HTTP servers commonly have


class ValueKind(Protocol):
    @property
    def expected(self) -> str:
        """Completes "expected …", in an error and in chatapi.toml."""

    def accepts(self, value: object) -> bool: ...


@dataclass(frozen=True, slots=True)
class Whole:
    low: int
    high: int

    @property
    def expected(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def accepts(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Number:
    low: float
    high: float

    @property
    def expected(self) -> str:
        return f"a number from {self.low} to {self.high}"

    def accepts(self, value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Flag:
    expected: str = "true or false"

    def accepts(self, value: object) -> bool:
        return isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class OneOf:
    options: tuple[str, ...]

    @property
    def expected(self) -> str:
        return "one of " + ", ".join(self.options)

    def accepts(self, value: object) -> bool:
        return value in self.options


@dataclass(frozen=True, slots=True)
class Text:
    what: str
    is_valid: Callable[[str], bool]
    optional: bool = False  # the empty string is accepted and means that it is not set
    secret: bool = False

    @property
    def expected(self) -> str:
        return f"{self.what}, or empty" if self.optional else self.what

    def accepts(self, value: object) -> bool:
        return isinstance(value, str) and ((self.optional and not value) or self.is_valid(value))


@dataclass(frozen=True, slots=True)
class ListOf:
    item: ValueKind
    low: int
    high: int

    @property
    def expected(self) -> str:
        return f"a list of {self.low} to {self.high} items, each {self.item.expected}"

    def accepts(self, value: object) -> bool:
        return (
            isinstance(value, list | tuple) and self.low <= len(value) <= self.high and self.find_culprit(value) is None
        )

    def find_culprit(self, value: object) -> tuple[int, object] | None:
        """The first item that is not accepted, with its index."""
        items = value if isinstance(value, list | tuple) else ()
        return next(((index, item) for index, item in enumerate(items) if not self.item.accepts(item)), None)


def is_web_url(text: str) -> bool:
    """Syntax only: whether the address behind it may be called is asked when connecting."""
    if len(text) > MAX_URL_CHARS or not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and "@" not in parts.netloc


def is_base_url(text: str) -> bool:
    """Paths are appended to it."""
    return is_web_url(text) and "?" not in text and "#" not in text


def is_host(text: str) -> bool:
    return re.fullmatch(r"[^\s\[\]/]{1,255}", text) is not None


def is_origin(text: str) -> bool:
    return text in (ANY, OPAQUE) or parse_origin(text) is not None


def is_network(text: str) -> bool:
    try:
        read_network(text)
    except ValueError:
        return False
    return True


def is_path(text: str) -> bool:
    return 0 < len(text) <= 4096 and "\0" not in text


def is_key(text: str) -> bool:
    return re.fullmatch(r"[!-~]{16,512}", text) is not None


# sun_path holds 108 bytes on Linux, 104 on macOS, the closing zero included.
def is_socket_path(text: str) -> bool:
    return is_path(text) and len(os.fsencode(text)) <= 103
