"""Finds messages by their words, the newest first: a search is a task in steps, each a few milliseconds of a reader.

The index says which messages of a room may have what is looked for. A search that few messages may answer looks at
those (`search_few.py`). Any other goes through the caller's rooms side by side: of each it knows its next candidate, or
a key that this is not above, and takes the newest of all. So what it reads is bounded by its rooms and its page,
however common a word is. The newest messages may not be in the index yet: a search looks through them too
(`search_tail.py`).
"""

import heapq
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from chatapi.protocol.json import dumps_text
from chatapi.store.log import MESSAGE_JSON
from chatapi.store.readers import PAGE_BYTES
from chatapi.store.search_few import OF_ROWS, SEQ, FewCandidates, SearchWant, list_words, quote
from chatapi.store.search_index import MARK
from chatapi.store.search_tail import Tail
from chatapi.store.transaction import SqliteConnection
from chatapi.words import Excerpt, has_all, make_excerpt

STEP_SECONDS = 0.008

READ_TOGETHER = 64  # rooms whose next candidates are read at once
ROOMS_PER_QUERY = 100  # about 2 ms
SAMPLE = 256  # messages, after which it is judged how many more have to be read, about 5 us each...
MOST_READ, MOST_READ_PER_ROOM = 2_000, 10  # ...which may be so many: to ask the index takes about 50 us for each room
CANDIDATES = 32  # whose contents are read at once
MOST_AHEAD = 64  # candidates of one room, read at once where the ones before were none


# Rows of (room, its beginning, and its newest message's seq, key and time).
_NEWEST = """
    CROSS JOIN messages AS m ON m.room_key = r.room_key
        AND m.seq = (SELECT max(seq) FROM messages WHERE room_key = r.room_key)
"""
_LIST_ROOMS = f"""
    SELECT r.room_key, r.pruned_seq, m.seq, m.message_key, m.created_at_us
    FROM members AS b CROSS JOIN rooms AS r ON r.room_key = b.room_key AND r.deleted_at_us IS NULL {_NEWEST}
    WHERE b.tenant_key = :tenant_key AND b.user_id = :user_id AND b.room_key > :after_room_key
    ORDER BY b.room_key LIMIT :limit
"""
_GET_ROOM = f"""
    SELECT r.room_key, r.pruned_seq, m.seq, m.message_key, m.created_at_us FROM rooms AS r {_NEWEST}
    WHERE r.room_key = :room_key AND r.tenant_key = :tenant_key AND r.deleted_at_us IS NULL
"""

# Halves the range of seqs until the last message before both bounds is left: in a log keys and times only grow.
_MIDDLE = "(h.low + h.high + 1) / 2"
_IS_BEFORE = f"""
    coalesce((SELECT message_key < :before_key AND created_at_us < :before_us FROM messages
              WHERE room_key = h.room_key AND seq <= {_MIDDLE} ORDER BY seq DESC LIMIT 1), 1)
"""
_SKIP_NEWER = f"""
    WITH RECURSIVE halves (room_key, low, high) AS (
        SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(:rooms)
        UNION ALL
        SELECT h.room_key, iif({_IS_BEFORE}, {_MIDDLE}, h.low), iif({_IS_BEFORE}, h.high, {_MIDDLE} - 1)
        FROM halves AS h WHERE h.low < h.high
    )
    SELECT h.room_key, m.seq, m.message_key, m.created_at_us
    FROM halves AS h CROSS JOIN messages AS m ON m.room_key = h.room_key
        AND m.seq = (SELECT max(seq) FROM messages WHERE room_key = h.room_key AND seq <= h.low)
    WHERE h.low = h.high
"""
# The first row of the index that is not newer than a seq: of its block, or of the next one that there is.
_FIND_START = """
    SELECT w.value ->> 0, coalesce((
        SELECT b.block_key << 10 | iif(b.number = (w.value ->> 1) >> 10, 1023 - ((w.value ->> 1) & 1023), 0)
        FROM search_blocks AS b
        WHERE b.room_key = w.value ->> 0 AND b.number <= (w.value ->> 1) >> 10 ORDER BY b.number DESC LIMIT 1), 0)
    FROM json_each(:rooms) AS w
"""
# Of rooms and rows in them the first row from there on.
_FIND_NEXT = f"""
    WITH found AS MATERIALIZED (
        SELECT w.value ->> 0 AS room_key,
               (SELECT rowid FROM search_index
                WHERE search_index MATCH :match || ' "{MARK}r' || (w.value ->> 0) || '"' AND rowid >= w.value ->> 1
                ORDER BY rowid LIMIT 1) AS row_key
        FROM json_each(:rooms) AS w
    )
    SELECT f.room_key, f.row_key, m.message_key, m.created_at_us
    FROM found AS f LEFT JOIN search_blocks AS b ON b.block_key = f.row_key >> 10
    LEFT JOIN messages AS m ON m.room_key = b.room_key AND m.seq = ({SEQ.format(row="f.row_key")})
"""
_LIST_NEXT = """
    SELECT rowid FROM search_index WHERE search_index MATCH :match AND rowid >= :start ORDER BY rowid LIMIT :limit
"""
_LOCATE = f"SELECT m.message_key, m.created_at_us FROM {OF_ROWS} ORDER BY w.value"
# Of rooms, and two seqs of each, the messages from the first up to before the second.
_LIST_LOG = """
    SELECT m.room_key, m.message_key, m.created_at_us, m.seq
    FROM json_each(:rooms) AS w CROSS JOIN messages AS m
    WHERE m.room_key = w.value ->> 0 AND m.seq >= w.value ->> 1 AND m.seq < w.value ->> 2 AND m.content IS NOT NULL
      AND m.stream IS NOT 'open'
    ORDER BY w.key, m.seq DESC
"""

_READ_CONTENTS = """
    SELECT m.message_key, m.content FROM json_each(:keys) AS w CROSS JOIN messages AS m ON m.message_key = w.value
    CROSS JOIN rooms AS r ON r.room_key = m.room_key
    WHERE r.tenant_key = :tenant_key AND r.deleted_at_us IS NULL AND m.content IS NOT NULL AND m.stream IS NOT 'open'
      AND (:sender_id IS NULL OR m.sender_id = :sender_id)
      AND m.created_at_us < :before_us AND m.created_at_us > :after_us
    ORDER BY m.message_key DESC
"""
_READ_FOUND = f"""
    SELECT m.message_key, m.content, CAST({MESSAGE_JSON} AS BLOB)
    FROM json_each(:keys) AS w CROSS JOIN messages AS m ON m.message_key = w.value
    CROSS JOIN rooms AS r ON r.room_key = m.room_key
    WHERE r.tenant_key = :tenant_key AND r.deleted_at_us IS NULL AND m.content IS NOT NULL AND m.stream IS NOT 'open'
    ORDER BY m.message_key DESC
"""


class Found(NamedTuple):
    message_key: int
    message: bytes  # as JSON
    snippet: Excerpt


class Candidate(NamedTuple):
    message_key: int
    created_at_us: int


class _Stream:
    """One room's candidates, the newest first: `ahead` holds those that have been read, each with its key, and its seq
    if it was read from the log. The others begin below the seq `start`, or from the row `start` of the index."""

    __slots__ = ("ahead", "batch", "bound_key", "is_ended", "pruned_seq", "room_key", "start")

    def __init__(self, room_key: int, pruned_seq: int, seq: int, key: int) -> None:
        """The newest candidate is that one, or an older one."""
        self.room_key = room_key
        self.pruned_seq = pruned_seq
        self.start = seq + 1
        self.bound_key = key  # of the next candidate, or no less than it
        self.ahead: deque[tuple[int, int]] = deque()
        self.batch = 4  # candidates to read at once
        self.is_ended = False  # there are no others


def _make_tail(keys: Sequence[int]) -> _Stream:
    """Of all rooms, the keys of messages that are not in the index."""
    stream = _Stream(0, 0, 0, 0)
    stream.ahead.extend((key, 0) for key in keys)
    stream.is_ended = True
    return stream


class SearchRun:
    """One search. Once `take_step` has said that it is done, `found` is the page."""

    def __init__(self, want: SearchWant) -> None:
        self._want = want
        self._scope: dict[str, object] = {
            name: value for name, value in want._asdict().items() if name not in ("terms", "offset", "limit")
        }
        self._words = list_words(want)
        self._few = FewCandidates(want, self._scope, self._execute)
        self._tail = Tail(want.terms, self._scope, self._execute)
        self._judged = 0  # messages read
        self._room_count = 0
        # At first what was written is looked through: common words, and a prefix that very many words have, are soon
        # found there.
        self._uses_index = False
        self._keys: list[int] = []  # of messages that have all terms: those passed over, the page, and one more
        self._needed = want.offset + want.limit + 1
        self._streams: list[tuple[int, int, _Stream]] = []  # a heap, the newest first
        self._steps = self._run()
        self.found: list[Found] = []
        self.has_more = False

    def take_step(self, deadline_s: float, connection: SqliteConnection) -> bool:
        """Goes on for `STEP_SECONDS`; whether it is done. At the deadline, of `time.perf_counter`, SQLite ends what it
        does with an error."""
        end_s = time.perf_counter() + STEP_SECONDS
        self._connection = connection
        connection.set_progress_handler(lambda: time.perf_counter() > deadline_s, 50_000)
        try:
            return all(time.perf_counter() < end_s for _ in self._steps)
        finally:
            connection.set_progress_handler(None, 0)

    def _run(self) -> Iterator[None]:
        """No statement is left open at a `yield`, since the next step may have another connection."""
        if any(not term.words and term.prefix is None for term in self._want.terms):
            return
        self._tail.note_head()
        few = yield from self._few.find()
        if few is not None:
            few += yield from self._tail.list_keys()
            yield from self._look_at(sorted(set(few), reverse=True))
        else:
            yield from self._list_rooms()
            yield from self._look_through_rooms()
        yield from self._read_page()

    def _execute(self, sql: str, parameters: dict[str, object]) -> list[Any]:
        return self._connection.execute(sql, parameters).fetchall()

    def _look_at(self, keys: Sequence[int]) -> Iterator[None]:
        for start in range(0, len(keys), CANDIDATES):
            self._judge(keys[start : start + CANDIDATES])
            yield
            if len(self._keys) >= self._needed:
                return

    def _judge(self, keys: Sequence[int]) -> None:
        """Keeps those of these messages that have all terms."""
        rows = self._execute(_READ_CONTENTS, {**self._scope, "keys": dumps_text(keys)})
        self._keys += [key for key, content in rows if has_all(content, self._want.terms)]

    # Room by room

    def _list_rooms(self) -> Iterator[None]:
        if self._want.room_key is not None:
            self._begin_streams(self._execute(_GET_ROOM, self._scope))
            return
        after_room_key = 0
        while rows := self._execute(
            _LIST_ROOMS, {**self._scope, "after_room_key": after_room_key, "limit": ROOMS_PER_QUERY}
        ):
            after_room_key = rows[-1][0]
            self._begin_streams(rows)
            yield

    def _begin_streams(self, rooms: Sequence[tuple[int, int, int, int, int]]) -> None:
        want = self._want
        newer: list[tuple[int, int, int]] = []
        begun: list[tuple[int, int, int, int]] = []
        pruned_seqs = {}
        for room_key, pruned_seq, seq, key, created_at_us in rooms:
            pruned_seqs[room_key] = pruned_seq
            if key < want.before_key and created_at_us < want.before_us:
                begun.append((room_key, seq, key, created_at_us))
            elif created_at_us > want.after_us:
                newer.append((room_key, pruned_seq, seq))
        if newer:
            begun += self._execute(_SKIP_NEWER, {**self._scope, "rooms": dumps_text(newer)})
        for room_key, seq, key, created_at_us in begun:
            if created_at_us > want.after_us:
                self._push(_Stream(room_key, pruned_seqs[room_key], seq, key))
        self._room_count = len(self._streams)

    def _push(self, stream: _Stream) -> None:
        if stream.ahead:
            stream.bound_key = stream.ahead[0][0]
        elif stream.is_ended:
            return
        heapq.heappush(self._streams, (-stream.bound_key, stream.room_key, stream))

    def _look_through_rooms(self) -> Iterator[None]:
        candidates: list[int] = []
        last_key = 0
        while self._streams and len(self._keys) < self._needed:
            if self._streams[0][2].ahead:
                _, _, stream = heapq.heappop(self._streams)
                key, _ = stream.ahead.popleft()
                if key != last_key:  # the index may have got what was in its tail
                    candidates.append(key)
                last_key = key
                self._push(stream)
            else:
                self._read_ahead(self._take_unread())
                yield
            if len(candidates) == CANDIDATES or not self._streams:
                self._judge(candidates)
                self._judged += len(candidates)
                candidates = []
                if self._is_rare:
                    yield from self._use_index()
                yield

    @property
    def _is_rare(self) -> bool:
        """Whether there are so few hits among the newest messages that to ask the index is quicker than to go on."""
        if self._uses_index or not self._words or self._judged < SAMPLE:
            return False
        most = max(MOST_READ, MOST_READ_PER_ROOM * self._room_count)
        return self._judged * self._needed > most * len(self._keys)

    def _use_index(self) -> Iterator[None]:
        self._uses_index = True
        self._tail.note_head()
        older = None
        if self._streams:
            older = yield from self._few.find_older(self._room_count, -self._streams[0][0])
        newest_key = -self._streams[0][0] if self._streams else 0
        tail = [key for key in (yield from self._tail.list_keys()) if key <= newest_key]
        if older is not None:
            self._streams = []
            yield from self._look_at(sorted({*older, *tail}, reverse=True))
            return
        streams = [stream for _, _, stream in self._streams]
        for stream in streams:
            if stream.ahead:
                stream.start = stream.ahead[0][1] + 1
                stream.ahead.clear()
            stream.is_ended = False
        for start in range(0, len(streams), ROOMS_PER_QUERY):
            some = {stream.room_key: stream for stream in streams[start : start + ROOMS_PER_QUERY]}
            rooms = dumps_text([(stream.room_key, stream.start - 1) for stream in some.values()])
            for room_key, row_key in self._execute(_FIND_START, {"rooms": rooms}):
                some[room_key].start = row_key
                some[room_key].batch = 1
            yield
        self._push(_make_tail(tail))

    def _take_unread(self) -> list[_Stream]:
        """Those near the top of the heap whose candidates have been used up, or nearly so."""
        nearest = [heapq.heappop(self._streams)[2] for _ in range(min(len(self._streams), READ_TOGETHER))]
        for stream in nearest:
            if len(stream.ahead) > 1 or stream.is_ended:
                self._push(stream)
        return [stream for stream in nearest if len(stream.ahead) <= 1 and not stream.is_ended]

    def _read_ahead(self, streams: Sequence[_Stream]) -> None:
        if not self._uses_index:
            self._read_log({stream.room_key: stream for stream in streams})
        else:
            first = {stream.room_key: stream for stream in streams if stream.batch == 1}
            if first:
                self._read_firsts(first)
            for stream in streams:
                if stream.batch > 1:
                    self._read_rows(stream)
        for stream in streams:
            stream.batch = min(4 * stream.batch, MOST_AHEAD)
            self._push(stream)

    def _read_firsts(self, streams: dict[int, _Stream]) -> None:
        """One candidate of each."""
        rooms = dumps_text([(stream.room_key, stream.start) for stream in streams.values()])
        for room_key, row_key, *candidate in self._execute(
            _FIND_NEXT, {"match": " ".join(self._words), "rooms": rooms}
        ):
            if row_key is None:
                streams[room_key].is_ended = True
            else:
                streams[room_key].start = row_key + 1
                self._keep(streams[room_key], [candidate] if candidate[0] is not None else [])

    def _read_rows(self, stream: _Stream) -> None:
        match = " ".join([*self._words, quote(f"{MARK}r{stream.room_key}")])
        rows = self._execute(_LIST_NEXT, {"match": match, "start": stream.start, "limit": stream.batch})
        stream.is_ended = len(rows) < stream.batch
        if rows:
            stream.start = rows[-1][0] + 1
            self._keep(stream, self._execute(_LOCATE, {"row_keys": dumps_text([row for (row,) in rows])}))

    def _read_log(self, streams: dict[int, _Stream]) -> None:
        rooms = [(stream.room_key, stream.start - stream.batch, stream.start) for stream in streams.values()]
        for stream in streams.values():
            stream.start -= stream.batch
            stream.is_ended = stream.start <= stream.pruned_seq + 1
        for room_key, key, created_at_us, seq in self._execute(_LIST_LOG, {"rooms": dumps_text(rooms)}):
            self._keep(streams[room_key], [(key, created_at_us)], seq)

    def _keep(self, stream: _Stream, candidates: Sequence[Sequence[int]], seq: int = 0) -> None:
        want = self._want
        for key, created_at_us in candidates:
            if created_at_us <= want.after_us:
                stream.is_ended = True
                return
            if key < want.before_key and created_at_us < want.before_us:
                stream.ahead.append((key, seq))

    # The page

    def _read_page(self) -> Iterator[None]:
        """Reads each message once more, as it now stands: one that was deleted or edited meanwhile may be left out."""
        page = self._keys[self._want.offset : self._want.offset + self._want.limit]
        self.has_more = len(self._keys) > self._want.offset + self._want.limit
        size = 0
        for start in range(0, len(page), CANDIDATES):
            keys = dumps_text(page[start : start + CANDIDATES])
            for key, content, message in self._execute(_READ_FOUND, {**self._scope, "keys": keys}):
                snippet = make_excerpt(content, self._want.terms)
                if snippet is None:
                    continue
                size += len(message) + 4 * len(snippet.text) + 16 * len(snippet.hits)
                if size > PAGE_BYTES and self.found:
                    self.has_more = True
                    return
                self.found.append(Found(key, message, snippet))
            yield
