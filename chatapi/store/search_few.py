"""The candidates of a search that few messages may answer, as the index tells them.

It is asked for the caller's rooms, many at once: SQLite passes over what is between them, so that neither what others
have written nor how common a word is elsewhere costs much. Where the caller's rooms are many, it is asked for their
tenant first.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from chatapi.models import RoomKey, TenantKey, UserId
from chatapi.protocol.json import dumps_text
from chatapi.store.search_index import MARK
from chatapi.words import Term

FEW = 1_000  # messages of a tenant: fewer are all looked at, about 8 us each
FEW_IN_ROOMS = 1_000  # messages of the caller's rooms, about 4 us each
ROOMS_TOGETHER, MOST_ROOMS = 256, 4_096  # rooms that the index is asked for at once, about 10 us each, and in all
MANY_ROOMS = 512  # where there are more, it is asked for the tenant first
ROOMS_TRIED = 8  # of them at first: these tell whether the others are worth asking
FEW_ENTRIES = 150_000  # of a prefix in the index, which SQLite merges: some 10 ms
FEW_WORDS, WORDS_COUNTED = 5_000, 50  # that begin with a prefix, and are counted at once
FEW_ROOMS = 250  # for each so many rooms as many messages as `FEW` are looked at sooner than the rooms

# As bytes: FTS5 has cut long words, and not between characters.
_COUNT_WORDS = """
    SELECT CAST(term AS BLOB), doc FROM search_vocabulary
    WHERE term >= CAST(:first AS TEXT) AND term < :end LIMIT :limit
"""
_FIND_ROWS = """
    SELECT rowid FROM search_index WHERE search_index MATCH :match AND rowid > :after ORDER BY rowid LIMIT :limit
"""

SEQ = "b.number << 10 | 1023 - ({row} & 1023)"  # of a row of the index
OF_ROWS = f"""
    json_each(:row_keys) AS w CROSS JOIN search_blocks AS b ON b.block_key = w.value >> 10
    CROSS JOIN messages AS m ON m.room_key = b.room_key AND m.seq = ({SEQ.format(row="w.value")})
"""
# Each row takes a look at two indexes, and at no message.
_LIST_KEYS = f"SELECT m.message_key, b.room_key FROM {OF_ROWS} WHERE m.message_key < :before_key"
_LIST_FEW = f"""
    {_LIST_KEYS} AND (b.room_key = :room_key OR :room_key IS NULL AND EXISTS (
        SELECT 1 FROM members WHERE room_key = b.room_key AND user_id = :user_id AND tenant_key = :tenant_key))
"""
_LIST_ROOM_KEYS = """
    SELECT room_key FROM members WHERE tenant_key = :tenant_key AND user_id = :user_id ORDER BY room_key LIMIT :limit
"""


class SearchWant(NamedTuple):
    """The terms, and the scope: the rooms that the user is a member of, or one room, which they may read. Only messages
    with keys below `before_key` are found."""

    tenant_key: TenantKey
    user_id: UserId
    terms: Sequence[Term]
    room_key: RoomKey | None
    sender_id: str | None
    after_us: int
    before_us: int
    before_key: int
    offset: int
    limit: int


class FewCandidates:
    """Of one search."""

    def __init__(
        self,
        want: SearchWant,
        scope: Mapping[str, object],
        execute: Callable[[str, dict[str, object]], list[Any]],
    ) -> None:
        """`execute` runs a statement on the connection that the search has at that time."""
        self._want = want
        self._scope = scope
        self._execute = execute
        self._words = list_words(want)
        self._tenant = quote(f"{MARK}t{want.tenant_key}")

    def find(self) -> Generator[None, None, list[int] | None]:
        """The keys of all candidates; None if they are many."""
        prefixes = [term.prefix for term in self._want.terms if term.prefix is not None]
        narrow = [f"{quote(prefix)} *" for prefix in prefixes if self._is_narrow(prefix)]
        yield
        if not self._words and not narrow:
            return None
        match = " AND ".join([*self._words, *narrow])
        rooms = self._list_rooms()
        if len(rooms) > MANY_ROOMS:
            row_keys = self._find_rows(f"{self._tenant} AND {match}", FEW + 1)
            yield
            if len(row_keys) <= FEW:
                return self._list_keys(row_keys)
        # For a second question SQLite would merge a prefix again.
        if len(rooms) > MOST_ROOMS or (not narrow and self._are_many(match, rooms)):
            return None
        row_keys = []
        for start in range(0, len(rooms), ROOMS_TOGETHER):
            some = _match_any(rooms[start : start + ROOMS_TOGETHER])
            row_keys += self._find_rows(f"{match} AND {some}", FEW_IN_ROOMS + 1 - len(row_keys))
            yield
            if len(row_keys) > FEW_IN_ROOMS:
                return None
        allowed = set(rooms)  # the words of a row give no right
        rows = self._execute(_LIST_KEYS, {**self._scope, "row_keys": dumps_text(row_keys)})
        return [key for key, room_key in rows if room_key in allowed]

    def find_older(self, room_count: int, newest_key: int) -> Generator[None, None, list[int] | None]:
        """Of a search in so many rooms, when there turned out to be few: the keys of all candidates from there on; None
        if they are more than is worth while, or `find` has asked for the same."""
        if room_count <= MOST_ROOMS:
            return None
        match = " AND ".join([self._tenant, *self._words])
        keys: list[int] = []
        after = 0
        for _ in range(room_count // FEW_ROOMS):
            row_keys = self._find_rows(match, FEW, after)
            keys += self._list_keys(row_keys)
            if len(row_keys) < FEW:
                return [key for key in keys if key <= newest_key]
            after = row_keys[-1]
            yield
        return None

    def _is_narrow(self, prefix: str) -> bool:
        """Whether SQLite may merge what the words that begin so have in the index."""
        entries, words = 0, 0
        scope: dict[str, object] = {"first": prefix.encode(), "end": prefix + "\U0010ffff", "limit": WORDS_COUNTED}
        while rows := self._execute(_COUNT_WORDS, scope):
            words += len(rows)
            entries += sum(count for _, count in rows)
            if entries > FEW_ENTRIES or words > FEW_WORDS:
                return False
            scope["first"] = rows[-1][0] + b"\0"  # the next word that there may be
        return True

    def _list_rooms(self) -> list[int]:
        if self._want.room_key is not None:
            return [self._want.room_key]
        return [key for (key,) in self._execute(_LIST_ROOM_KEYS, {**self._scope, "limit": MOST_ROOMS + 1})]

    def _are_many(self, match: str, rooms: Sequence[int]) -> bool:
        """Whether there seem to be more than a few candidates in the rooms, by some of these."""
        if len(rooms) <= ROOMS_TRIED:
            return False
        tried = rooms[:: len(rooms) // ROOMS_TRIED]
        most = FEW_IN_ROOMS * len(tried) // len(rooms)
        return len(self._find_rows(f"{match} AND {_match_any(tried)}", most + 1)) > most

    def _find_rows(self, match: str, limit: int, after: int = 0) -> list[int]:
        return [key for (key,) in self._execute(_FIND_ROWS, {"match": match, "after": after, "limit": limit})]

    def _list_keys(self, row_keys: Sequence[int]) -> list[int]:
        """Of the messages of these rows that are in rooms of the caller."""
        return [key for key, _ in self._execute(_LIST_FEW, {**self._scope, "row_keys": dumps_text(row_keys)})]


def list_words(want: SearchWant) -> list[str]:
    """The words of the index that each message which is found has, as FTS5 takes them."""
    words = [quote(word) for term in want.terms for word in term.words]
    if want.sender_id is not None:
        words.append(quote(f"{MARK}u{want.sender_id.encode().hex().upper()}"))
    return words


def _match_any(rooms: Iterable[int]) -> str:
    return f"({' OR '.join(quote(f'{MARK}r{room_key}') for room_key in rooms)})"


def quote(word: str) -> str:
    """A word as FTS5 takes it, whatever it is: no word has a quote in it."""
    return f'"{word}"'
