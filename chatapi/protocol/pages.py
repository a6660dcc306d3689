"""Pages of lists, and the cursors with which the next one goes on.

A cursor holds the sort key of the last item, so that what has come or gone before it moves nothing. It is opaque to
clients. A digest ties it to its list: one that was altered, or is another list's, is refused. It is not a credential:
each statement gets its tenant and user from the credential.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from msgspec import UNSET, UnsetType

from chatapi.errors import ChatError, invalid
from chatapi.protocol.encoders import join_json
from chatapi.protocol.json import MAX_KEY, Encoded, dumps, loads_stored
from chatapi.protocol.queries import PageQuery

DIGEST_BYTES = 8

Value = int | str
SortKey = tuple[Value, ...]
"""The values of one item by which the list is ordered."""


class Window(NamedTuple):
    """The part of a list that is asked for."""

    limit: int
    offset: int = 0
    after: SortKey | None = None  # with no offset then


class Page(NamedTuple):
    """Items as JSON. If there are more, `last` is the sort key after which they come."""

    items: list[bytes]
    last: SortKey | None

    @property
    def has_more(self) -> bool:
        return self.last is not None

    def join(self) -> Encoded[list[Any]]:
        return join_json(self.items)

    def next_cursor(self, scope: Sequence[Value]) -> str | UnsetType:
        """`scope` says which list it is, and of whom."""
        return UNSET if self.last is None else encode_cursor(self.last, scope)


def read_window(query: PageQuery, scope: Sequence[Value], start: Iterable[Value]) -> Window:
    """`scope` says which list it is, and of whom; sort keys look like `start`. Raises ChatError for a cursor of
    another list."""
    if isinstance(query.offset, int):
        return Window(query.limit, query.offset)
    return read_keyed_window(query.limit, query.cursor, scope, start)


def read_keyed_window(limit: int, cursor: str | UnsetType, scope: Sequence[Value], start: Iterable[Value]) -> Window:
    """As `read_window`, of a list that has no offsets."""
    if not isinstance(cursor, str):
        return Window(limit)
    return Window(limit, after=_decode_cursor(cursor, scope, [type(value) for value in start]))


def encode_cursor(sort_key: SortKey, scope: Sequence[Value]) -> str:
    """`scope` as in `read_window`, which refuses the cursor for any other list."""
    text = dumps(sort_key)
    return base64.urlsafe_b64encode(_digest(text, scope) + text).rstrip(b"=").decode()


def _decode_cursor(cursor: str, scope: Sequence[Value], types: Sequence[type[Value]]) -> SortKey:
    try:
        data = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise _refusal() from None
    digest, text = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
    if digest != _digest(text, scope):
        raise _refusal()
    # A client that computes the digest can put anything in.
    try:
        sort_key = tuple(loads_stored(text))
    except (TypeError, ValueError):
        raise _refusal() from None
    is_alike = [type(value) for value in sort_key] == list(types)
    if not is_alike or any(isinstance(value, int) and value > MAX_KEY for value in sort_key):
        raise _refusal()
    if encode_cursor(sort_key, scope) != cursor:
        raise _refusal()
    return sort_key


def _digest(text: bytes, scope: Sequence[Value]) -> bytes:
    return hashlib.blake2b(dumps(scope) + text, digest_size=DIGEST_BYTES).digest()


def _refusal() -> ChatError:
    return invalid("Must be a next_cursor of this list", "cursor")
