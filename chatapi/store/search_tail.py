"""The messages that are not in the index of search yet: those that came last, and are looked through by each search."""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from chatapi.protocol.json import MAX_KEY, loads_stored
from chatapi.store.readers import Readers
from chatapi.store.search_index import LONG_TAIL
from chatapi.words import Term

MAX_LAG = 10_000  # messages, counted
TAIL_PER_QUERY = 2_000  # messages, about 2 ms

_COUNT_LAG = """
    SELECT (SELECT count(*) FROM (SELECT 1 FROM messages WHERE message_key > p.head_key LIMIT :limit))
         + (SELECT count(*) FROM (SELECT 1 FROM messages
                                  WHERE message_key > p.done_key AND message_key <= p.gap_end_key LIMIT :limit))
         + (SELECT count(*) FROM (SELECT 1 FROM search_outdated LIMIT :limit))
    FROM search_progress AS p
"""
# An edit or a removal, or so many new messages.
_HAS_WORK = """
    SELECT EXISTS (SELECT 1 FROM search_outdated)
        OR (SELECT count(*) FROM (SELECT 1 FROM messages WHERE message_key > p.head_key LIMIT :limit)) >= :limit
    FROM search_progress AS p
"""
_GET_HEAD = "SELECT head_key FROM search_progress"
# Of the newest messages up to :to_key: where they begin, how many they are, and the keys of those that may have the
# word. In a text in ASCII words are as they stand, apart from case.
_LIST_TAIL = """
    SELECT min(m.message_key), count(*), json_group_array(m.message_key) FILTER (
        WHERE m.message_key < :before_key AND m.created_at_us < :before_us AND m.created_at_us > :after_us
          AND (:sender_id IS NULL OR m.sender_id = :sender_id)
          AND iif(m.room_key = :room_key OR :room_key IS NULL AND EXISTS (
                      SELECT 1 FROM members
                      WHERE room_key = m.room_key AND user_id = :user_id AND tenant_key = :tenant_key),
                  length(m.content) <> length(CAST(m.content AS BLOB)) OR instr(lower(m.content), :word), 0))
    FROM (SELECT message_key, room_key, sender_id, content, created_at_us FROM messages
          WHERE message_key > :head_key AND message_key <= :to_key ORDER BY message_key DESC LIMIT :limit) AS m
"""


class Tail:
    """Of one search."""

    def __init__(
        self,
        terms: Sequence[Term],
        scope: Mapping[str, object],
        execute: Callable[[str, dict[str, object]], list[Any]],
    ) -> None:
        """`execute` runs a statement on the connection that the search has at that time."""
        # Each message that has all terms has this word, or one that begins with it.
        word = max((word for term in terms for word in (*term.words, term.prefix or "")), key=len)
        self._scope = {**scope, "word": word, "limit": TAIL_PER_QUERY}
        self._execute = execute
        self._head_key = 0

    def note_head(self) -> None:
        """To be called before the index is asked: it may get more messages between two steps."""
        [(self._head_key,)] = self._execute(_GET_HEAD, {})

    def list_keys(self) -> Generator[None, None, list[int]]:
        """The keys of messages after the head that may have all terms, the newest first."""
        to_key = MAX_KEY
        keys: list[int] = []
        for _ in range(LONG_TAIL // TAIL_PER_QUERY):
            scope = {**self._scope, "head_key": self._head_key, "to_key": to_key}
            [(first_key, count, found)] = self._execute(_LIST_TAIL, scope)
            keys += loads_stored(found)
            if count < TAIL_PER_QUERY:
                break
            to_key = first_key - 1
            yield
        return keys


async def has_work(readers: Readers, messages: int) -> bool:
    """Whether the index has to take out or replace anything, or does not have so many messages that came last."""
    row = await readers.fetch_one(_HAS_WORK, {"limit": messages})
    return row is not None and bool(row[0])


async def count_lag(readers: Readers) -> int:
    """How many messages and edits are not in the index yet, counted to `MAX_LAG`."""
    row = await readers.fetch_one(_COUNT_LAG, {"limit": MAX_LAG})
    return 0 if row is None else min(int(row[0]), MAX_LAG)
