"""Builds the index of search beside the writer's other work: one FTS5 table, in steps of the background.

The table keeps no text, and no positions in it (`detail=none`): it says which messages may have some words, and the
messages themselves say the rest (`search.py`). Beside its words a row has a word for its tenant, its room and its
sender, so that what others have written costs a search nothing. A message that is edited or removed leaves what it was
in `search_outdated`, by a trigger, until a step has taken it out of the index: messages are sent without a statement
more.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import aiosqlite

from chatapi.protocol.json import dumps_text
from chatapi.store.background import CHUNK_ROWS
from chatapi.store.transaction import SqliteConnection
from chatapi.words import list_words

logger = logging.getLogger(__name__)

OUTDATED_ROWS = 100  # replaced by one statement: 1 to 2 ms
CHUNK_CHARACTERS = 200  # for each of a chunk's rows, on average
MERGED_PAGES, IDLE_MERGED_PAGES = 8, 32  # by one statement, about 1 and 4 ms
LONG_TAIL = 40_000  # messages that came last and are not in the index: a search reads so many

MAX_WORD_BYTES = 32_768  # FTS5 cuts longer ones, in the middle of a character if need be
BLOCK_BITS = 10  # of a row's key, which tell the place in its block

# A character that no word of a message has begins the words for its tenant, room and sender.
MARK = "\ue000"

_HAS_FTS5 = "SELECT 1 FROM pragma_module_list WHERE name = 'fts5'"
_IS_THERE = (
    "SELECT is_stale FROM search_progress WHERE EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'search_index')"
)
_MARK_STALE = "UPDATE search_progress SET is_stale = 1, done_key = 0, gap_end_key = 0, head_key = 0"
_CREATE = (
    "CREATE VIRTUAL TABLE search_index"
    " USING fts5 (words, content = '', detail = none, columnsize = 0, tokenize = 'ascii')",
    # No commit merges more than a step may: `merge_segments` does.
    "INSERT INTO search_index (search_index, rank) VALUES ('automerge', 0)",
    "INSERT INTO search_index (search_index, rank) VALUES ('crisismerge', 1000)",
    "INSERT INTO search_index (search_index, rank) VALUES ('usermerge', 8)",
    "CREATE VIRTUAL TABLE search_vocabulary USING fts5vocab (search_index, 'row')",
    "CREATE VIRTUAL TABLE search_entries USING fts5vocab (search_index, 'instance')",
)
_DROP = (
    "DROP TABLE search_entries",
    "DROP TABLE search_vocabulary",
    "DROP TABLE search_index",
    "DELETE FROM search_blocks",
    "DELETE FROM search_outdated",
    "UPDATE search_progress SET is_stale = 0, next_block_key = 2147483647",
)


# The index as FTS5 stores it, for an SQLite without FTS5. `_UNLINK` leaves an empty one, which FTS5 can drop later.
_IS_STORED = "SELECT 1 FROM sqlite_schema WHERE name = 'search_index_data'"
_UNLINK = "UPDATE search_index_data SET block = x'00000000000000' WHERE id = 10 AND block <> x'00000000000000'"
_EMPTY_STORED = (
    """DELETE FROM search_index_data WHERE id IN (
           SELECT id FROM search_index_data WHERE id > 10 ORDER BY id LIMIT :limit)""",
    """DELETE FROM search_index_idx WHERE (segid, term) IN (
           SELECT segid, term FROM search_index_idx WHERE segid > 0 ORDER BY segid, term LIMIT :limit)""",
)


def _words(tenant_key: str, room_key: str, sender_id: str, content: str) -> str:
    """SQL of a row's words. FTS5's own tokenizer folds ASCII, as `fold` does, outside the GIL."""
    return f"""
        '{MARK}t' || {tenant_key} || ' {MARK}r' || {room_key} || ' {MARK}u' || hex({sender_id}) || ' '
        || iif(length({content}) = length(CAST({content} AS BLOB)), {content}, search_words({content}))
    """


_MEASURE_CHUNK = """
    SELECT max(message_key), count(*), total(length(content))
    FROM (SELECT message_key, content FROM messages
          WHERE message_key > :after_key AND message_key <= :to_key ORDER BY message_key LIMIT :limit)
"""
# Of those messages the first ones, with so many characters, and at least one.
_CUT_CHUNK = """
    SELECT max(message_key), count(*) FROM (
        SELECT message_key, sum(characters) OVER (ORDER BY message_key) AS total,
               row_number() OVER (ORDER BY message_key) AS place
        FROM (SELECT message_key, coalesce(length(content), 0) AS characters FROM messages
              WHERE message_key > :after_key AND message_key <= :to_key ORDER BY message_key LIMIT :limit)
    ) WHERE place = 1 OR total <= :characters
"""
_IN_RANGE = "m.message_key > :after_key AND m.message_key <= :to_key"
_OF_KEYS = "m.message_key IN (SELECT value FROM json_each(:keys))"


def _make_blocks(which: str) -> str:
    """SQL. A room's blocks are made in their order, those of its older events included."""
    return f"""
    INSERT INTO search_blocks (block_key, room_key, number)
    WITH RECURSIVE missing (room_key, number, last) AS (
        SELECT m.room_key,
               coalesce((SELECT max(number) + 1 FROM search_blocks WHERE room_key = m.room_key), r.pruned_seq >> 10),
               max(m.seq) >> 10
        FROM messages AS m CROSS JOIN rooms AS r
        WHERE {which} AND r.room_key = m.room_key
          AND NOT EXISTS (SELECT 1 FROM search_blocks WHERE room_key = m.room_key AND number = m.seq >> 10)
        GROUP BY m.room_key
        UNION ALL
        SELECT room_key, number + 1, last FROM missing WHERE number < last
    )
    SELECT (SELECT next_block_key FROM search_progress) - row_number() OVER (ORDER BY room_key, number) + 1,
           room_key, number
    FROM missing WHERE number <= last
    """


_TAKE_BLOCK_KEYS = "UPDATE search_progress SET next_block_key = next_block_key - :blocks"


def _add(which: str) -> str:
    """SQL. In the order of the rows: any other makes a segment for each turn back."""
    return f"""
    INSERT INTO search_index (rowid, words)
    SELECT b.block_key << 10 | 1023 - (m.seq & 1023) AS row_key,
           {_words("r.tenant_key", "m.room_key", "m.sender_id", "m.content")}
    FROM messages AS m CROSS JOIN search_blocks AS b CROSS JOIN rooms AS r
    WHERE {which} AND m.content IS NOT NULL
      AND b.room_key = m.room_key AND b.number = m.seq >> 10 AND r.room_key = m.room_key
    ORDER BY row_key
    """


_MAKE_BLOCKS, _ADD = _make_blocks(_IN_RANGE), _add(_IN_RANGE)
_MAKE_BLOCKS_OF, _ADD_THESE = _make_blocks(_OF_KEYS), _add(_OF_KEYS)
_GET_PROGRESS = "SELECT done_key, gap_end_key, head_key FROM search_progress"
_SET_PROGRESS = "UPDATE search_progress SET done_key = :done_key, gap_end_key = :gap_end_key, head_key = :head_key"
_FIND_TAIL = """
    SELECT count(*), (SELECT max(message_key) FROM messages)
    FROM (SELECT 1 FROM messages WHERE message_key > :head_key LIMIT :limit)
"""

_LIST_OUTDATED = "SELECT row_key FROM search_outdated ORDER BY row_key LIMIT :limit"
_REMOVE = f"""
    INSERT INTO search_index (search_index, rowid, words)
    SELECT 'delete', row_key, {_words("tenant_key", "room_key", "sender_id", "content")}
    FROM search_outdated WHERE row_key <= :to_key ORDER BY row_key
"""
# If it is still the message of this row: one whose tenant has moved away and come back has another row.
_ADD_AGAIN = f"""
    INSERT INTO search_index (rowid, words)
    SELECT o.row_key, {_words("o.tenant_key", "o.room_key", "m.sender_id", "m.content")}
    FROM search_outdated AS o CROSS JOIN messages AS m CROSS JOIN search_blocks AS b
    WHERE o.row_key <= :to_key AND m.message_key = o.message_key AND m.content IS NOT NULL
      AND b.room_key = m.room_key AND b.number = m.seq >> 10 AND o.row_key = (b.block_key << 10 | 1023 - (m.seq & 1023))
    ORDER BY o.row_key
"""
_SETTLE = "DELETE FROM search_outdated WHERE row_key <= :to_key"
_MERGE = "INSERT INTO search_index (search_index, rank) VALUES ('merge', :pages)"


class IndexProgress(NamedTuple):
    """The keys of the messages that are in the index: those up to `done_key`, and those after `gap_end_key` up to
    `head_key`. Where there is no gap the three are the same."""

    done_key: int
    gap_end_key: int
    head_key: int


class IndexStep(NamedTuple):
    """The outcome of one step. `seconds` are of the processor."""

    rows: int  # put in
    has_more: bool
    seconds: float


class _Chunk(NamedTuple):
    last_key: int
    rows: int
    is_last: bool  # there are no more messages


async def prepare_index(connection: aiosqlite.Connection) -> bool:
    """Makes the index if there is none, and lets the connection write it. Whether SQLite can: where it cannot, the
    index is built again once it can, since what is edited and removed meanwhile is not noted."""
    found = list(await connection.execute_fetchall(_IS_THERE))
    if not list(await connection.execute_fetchall(_HAS_FTS5)):
        if found:
            await _run(connection, (_MARK_STALE, "DELETE FROM search_outdated"))
        return False
    await connection.create_function("search_words", 1, list_words, deterministic=True)
    if found and found[0][0]:
        await _run(connection, (*_DROP, *_CREATE))
    elif not found:
        await _run(connection, _CREATE)
    return True


async def _run(connection: aiosqlite.Connection, statements: Iterable[str]) -> None:
    await connection.execute("BEGIN IMMEDIATE")
    for statement in statements:
        await connection.execute(statement)
    await connection.execute("COMMIT")


def can_search(connection: SqliteConnection) -> bool:
    """For commands: whether there is an index that this SQLite can read."""
    is_made = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'search_index'").fetchall()
    return bool(is_made and connection.execute(_HAS_FTS5).fetchall())


def prepare_offline(connection: SqliteConnection) -> None:
    """Lets a command's connection write the index."""
    connection.create_function("search_words", 1, list_words, deterministic=True)


def build_again(connection: SqliteConnection) -> None:
    """For a command that has added messages among older ones: the next server builds the index from the beginning."""
    connection.execute(_MARK_STALE)
    if can_search(connection):
        for statement in (*_DROP, *_CREATE):
            connection.execute(statement)


def list_row_words(tenant_key: int, room_key: int, sender_id: str, content: str) -> set[bytes]:
    """The words of a message's row, as the index has them of `_words`."""
    marked = (f"{MARK}t{tenant_key}", f"{MARK}r{room_key}", f"{MARK}u{sender_id.encode().hex()}")
    words = {*marked, *list_words(content).split(" ")} - {""}
    return {word.encode()[:MAX_WORD_BYTES] for word in words}


def skip_long_tail(connection: SqliteConnection, _is_over: Callable[[], bool]) -> bool:
    """Leaves very many messages that have come while there was no indexing to `fill_gap`, so that newer ones do not
    wait for them. Whether there is such a gap."""
    progress = _get_progress(connection)
    if progress.done_key == progress.gap_end_key:
        scope = {"head_key": progress.head_key, "limit": LONG_TAIL + 1}
        count, last_key = connection.execute(_FIND_TAIL, scope).fetchone()
        if count <= LONG_TAIL:
            return False
        _set_progress(connection, IndexProgress(progress.done_key, last_key, last_key))
    return True


def add_newest(rows: int, connection: SqliteConnection, is_over: Callable[[], bool]) -> IndexStep:
    """One step: takes out what is outdated, and puts in what has come, `rows` at a time."""
    return _take_step(partial(_add_newest, rows), connection, is_over)


def fill_gap(rows: int, connection: SqliteConnection, is_over: Callable[[], bool]) -> IndexStep:
    """One step of catching up with messages that came while the index was off, `rows` at a time, oldest first."""
    return _take_step(partial(_fill_some, rows), connection, is_over)


def add_among_older(connection: SqliteConnection, message_keys: Sequence[int]) -> None:
    """In the transaction that has inserted these messages: those go in whose place the index has passed already."""
    progress = _get_progress(connection)
    passed = [
        key for key in message_keys if key <= progress.done_key or progress.gap_end_key < key <= progress.head_key
    ]
    if not passed:
        return
    scope = {"keys": dumps_text(passed)}
    blocks = connection.execute(_MAKE_BLOCKS_OF, scope).rowcount
    if blocks > 0:
        connection.execute(_TAKE_BLOCK_KEYS, {"blocks": blocks})
    connection.execute(_ADD_THESE, scope)
    connection.execute(_MERGE, {"pages": MERGED_PAGES})


def merge_segments(pages: int, connection: SqliteConnection, is_over: Callable[[], bool]) -> IndexStep:
    """One step, `pages` at a time. The more segments an index has, the longer a search takes."""
    return _take_step(partial(_merge_some, pages), connection, is_over)


def _take_step(
    work: Callable[[SqliteConnection], tuple[int, bool]], connection: SqliteConnection, is_over: Callable[[], bool]
) -> IndexStep:
    started_s = time.thread_time()
    rows, has_more = work(connection)
    while has_more and not is_over():
        some, has_more = work(connection)
        rows += some
    return IndexStep(rows, has_more, time.thread_time() - started_s)


def clear_outdated(connection: SqliteConnection, is_over: Callable[[], bool]) -> bool:
    """One step of an index that takes in no new messages; those that were edited stay in it. Whether there is more to
    do. Segments are merged as fast as new ones come: first, since a step may end after its first chunk."""
    while True:
        _merge_some(MERGED_PAGES, connection)
        if not _replace_outdated(connection):
            return False
        if is_over():
            return True


def remove_outdated(connection: SqliteConnection, is_over: Callable[[], bool]) -> bool:
    """As `clear_outdated`, for those who only want the space: no segments are merged."""
    while _replace_outdated(connection):
        if is_over():
            return True
    return False


def forget_removed(connection: SqliteConnection, is_over: Callable[[], bool]) -> bool:
    """The first step of taking the words of removed messages out of the file: FTS5 leaves them in a segment until it is
    merged with the one that removes them. Whether there are still outdated rows; `merge_segments` goes on once there
    are none, until it has no more."""
    if remove_outdated(connection, is_over):
        return True
    connection.execute(_MERGE, {"pages": -MERGED_PAGES})  # of all segments into one
    return False


def empty_unreadable(connection: SqliteConnection, is_over: Callable[[], bool]) -> bool:
    """One step of emptying an index that this SQLite, without FTS5, cannot change: it is built again anyway once one
    can. Whether there is more to do."""
    if not connection.execute(_IS_STORED).fetchall():
        return False
    connection.execute(_UNLINK)
    for statement in _EMPTY_STORED:
        while connection.execute(statement, {"limit": CHUNK_ROWS}).rowcount:
            if is_over():
                return True
    return False


def _replace_outdated(connection: SqliteConnection) -> bool:
    found = connection.execute(_LIST_OUTDATED, {"limit": OUTDATED_ROWS}).fetchall()
    if not found:
        return False
    scope = {"to_key": found[-1][0]}
    for statement in (_REMOVE, _ADD_AGAIN, _SETTLE):
        connection.execute(statement, scope)
    return True


def _add_newest(rows: int, connection: SqliteConnection) -> tuple[int, bool]:
    if _replace_outdated(connection):
        return 0, True
    progress = _get_progress(connection)
    chunk = _add_chunk(connection, progress.head_key, (1 << 63) - 1, rows)
    if chunk is None:
        return 0, False
    if progress.done_key < progress.gap_end_key:
        _set_progress(connection, progress._replace(head_key=chunk.last_key))
    else:
        _set_progress(connection, IndexProgress(chunk.last_key, chunk.last_key, chunk.last_key))
    return chunk.rows, not chunk.is_last


def _fill_some(rows: int, connection: SqliteConnection) -> tuple[int, bool]:
    progress = _get_progress(connection)
    if progress.done_key >= progress.gap_end_key:
        return 0, False
    chunk = _add_chunk(connection, progress.done_key, progress.gap_end_key, rows)
    if chunk is None or chunk.is_last:
        _set_progress(connection, IndexProgress(progress.head_key, progress.head_key, progress.head_key))
        connection.execute(_MERGE, {"pages": -MERGED_PAGES})  # of all segments into one, which goes on in later steps
        return 0 if chunk is None else chunk.rows, False
    _set_progress(connection, progress._replace(done_key=chunk.last_key))
    return chunk.rows, True


def _add_chunk(connection: SqliteConnection, after_key: int, to_key: int, rows: int) -> _Chunk | None:
    """Puts in the first messages of these; None if there are none."""
    scope: dict[str, object] = {"after_key": after_key, "to_key": to_key}
    size = {"limit": rows, "characters": rows * CHUNK_CHARACTERS}
    last_key, count, characters = connection.execute(_MEASURE_CHUNK, {**scope, "limit": rows}).fetchone()
    if last_key is None:
        return None
    is_last = count < rows
    if characters > size["characters"]:
        last_key, fewer = connection.execute(_CUT_CHUNK, {**scope, **size}).fetchone()
        is_last, count = is_last and fewer == count, fewer
    scope["to_key"] = last_key
    blocks = connection.execute(_MAKE_BLOCKS, scope).rowcount
    if blocks > 0:
        connection.execute(_TAKE_BLOCK_KEYS, {"blocks": blocks})
    connection.execute(_ADD, scope)
    return _Chunk(int(last_key), int(count), is_last)


def _get_progress(connection: SqliteConnection) -> IndexProgress:
    return IndexProgress(*connection.execute(_GET_PROGRESS).fetchone())


def _set_progress(connection: SqliteConnection, progress: IndexProgress) -> None:
    connection.execute(_SET_PROGRESS, progress._asdict())


def _merge_some(pages: int, connection: SqliteConnection) -> tuple[int, bool]:
    """No rows, and whether there may be more to merge."""
    before = connection.total_changes
    connection.execute(_MERGE, {"pages": pages})
    return 0, connection.total_changes - before > 1  # SQLite's documented sign that there was something to merge
