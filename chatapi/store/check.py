"""Whether a database is sound: SQLite's own checks, and what ChatAPI promises about a room's log.

Each check is a read transaction, so that a server may write meanwhile, and its log (the WAL) grows no longer than the
longest of them takes. Rooms and tenants that were deleted are left out: their rows are being purged, bit by bit. So are
those of tenants that an import or a move has not brought whole.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from chatapi.models import UserId, encode_dm_key, find_key
from chatapi.store.search_index import BLOCK_BITS, can_search, list_row_words
from chatapi.store.standalone import SQLITE_ERRORS, one_line, open_snapshot
from chatapi.store.users import make_sort_name

MAX_FINDINGS = 100  # of each kind: a ruined file has millions

# As a table-valued function it takes no number any more: newer SQLites look for a table of that name.
_INTEGRITY = f"PRAGMA integrity_check({MAX_FINDINGS})"

# The tenants and rooms whose rows are judged.
_KEEP = (
    """
    CREATE TEMP VIEW kept_tenants AS SELECT * FROM tenants WHERE deleted_at_us IS NULL
    """,
    """
    CREATE TEMP VIEW kept_rooms AS SELECT * FROM rooms WHERE deleted_at_us IS NULL
        AND tenant_key IN (SELECT tenant_key FROM kept_tenants)
    """,
)

# Every reference that the schema declares, of whatever table.
_ORPHANS = """
    SELECT printf('%s: %d rows refer to %s that do not exist', "table", count(*), parent)
    FROM pragma_foreign_key_check GROUP BY "table", parent
"""

# Tables that carry their parent's tenant again, so that every statement can name it.
_OTHER_TENANTS = """
    SELECT printf('%s: member %s is stored with another tenant than the room', r.room_id, m.user_id)
    FROM members AS m JOIN kept_rooms AS r ON r.room_key = m.room_key
    WHERE m.tenant_key <> r.tenant_key
    UNION ALL
    SELECT printf('%s: the mute of %s is stored with another tenant than the room', r.room_id, m.user_id)
    FROM mutes AS m JOIN kept_rooms AS r ON r.room_key = m.room_key
    WHERE m.tenant_key <> r.tenant_key
    UNION ALL
    SELECT printf('%s: the ban of %s is stored with another tenant than the room', r.room_id, b.user_id)
    FROM bans AS b JOIN kept_rooms AS r ON r.room_key = b.room_key
    WHERE b.tenant_key <> r.tenant_key
    UNION ALL
    SELECT printf('report_%016x is stored with another tenant than the room %s', p.report_key, r.room_id)
    FROM reports AS p JOIN kept_rooms AS r ON r.room_key = p.room_key
    WHERE p.tenant_key <> r.tenant_key
    UNION ALL
    SELECT printf('notif_%016x: recipient %s is stored with another tenant than the notification',
                  n.notification_key, p.user_id)
    FROM notification_recipients AS p JOIN notifications AS n ON n.notification_key = p.notification_key
    WHERE p.tenant_key <> n.tenant_key
"""

# Both indexes are read in their order, so that nothing is sorted. Rows that retention has given up may still be there.
_BROKEN_LOGS = """
    WITH log AS (
        SELECT room_key, seq FROM messages UNION ALL SELECT room_key, seq FROM changes
    ), step AS (
        SELECT r.room_id AS room_id, l.seq AS seq,
               coalesce(lag(l.seq) OVER (PARTITION BY l.room_key ORDER BY l.seq), r.pruned_seq) AS previous
        FROM log AS l JOIN kept_rooms AS r ON r.room_key = l.room_key
        WHERE l.seq > r.pruned_seq
    )
    SELECT CASE
        WHEN seq = previous THEN printf('%s: seq %d is in the log twice', room_id, seq)
        WHEN seq = previous + 2 THEN printf('%s: seq %d is missing from the log', room_id, previous + 1)
        ELSE printf('%s: seq %d to %d are missing from the log', room_id, previous + 1, seq - 1)
    END
    FROM step WHERE seq <> previous + 1
"""

_LAST_SEQ = """
    max(r.pruned_seq,
        coalesce((SELECT max(seq) FROM messages WHERE room_key = r.room_key), 0),
        coalesce((SELECT max(seq) FROM changes WHERE room_key = r.room_key), 0))
"""
_CURSORS_AHEAD = f"""
    WITH ends AS MATERIALIZED (
        SELECT r.room_key AS room_key, r.room_id AS room_id, {_LAST_SEQ} AS last_seq
        FROM kept_rooms AS r
    )
    SELECT printf('%s: last_ack %d or last_read %d of %s is above last_seq %d',
                  e.room_id, m.last_ack, m.last_read, m.user_id, e.last_seq)
    FROM ends AS e JOIN members AS m ON m.room_key = e.room_key
    WHERE m.last_ack > e.last_seq OR m.last_read > e.last_seq
"""
_WRONG_COUNTS = """
    SELECT printf('%s: member_count is %d, but it has %d members', room_id, member_count, members) FROM (
        SELECT r.room_id AS room_id, r.member_count AS member_count,
               (SELECT count(*) FROM members AS m WHERE m.room_key = r.room_key) AS members
        FROM kept_rooms AS r
    ) WHERE member_count <> members
"""
_WRONG_DMS = """
    SELECT CASE WHEN type <> 'dm' THEN printf('%s: has a unique_key, but is not a dm', room_id)
                WHEN members <> 2 THEN printf('%s: a dm with %d members', room_id, members)
                ELSE printf('%s: its unique_key is not that of its members', room_id) END
    FROM (
        SELECT r.room_id AS room_id, r.type AS type, r.unique_key AS unique_key, count(m.user_id) AS members,
               dm_key(min(m.user_id), max(m.user_id)) AS expected
        FROM kept_rooms AS r LEFT JOIN members AS m ON m.room_key = r.room_key
        WHERE (r.type = 'dm' OR r.unique_key IS NOT NULL)
        GROUP BY r.room_key
    ) WHERE type <> 'dm' OR members <> 2 OR unique_key IS NOT expected
"""
# In both directions: a row for each user whom a message mentions, and no other.
_WRONG_MENTIONS = """
    WITH expected AS MATERIALIZED (
        SELECT m.message_key AS message_key, m.room_key AS room_key, n.value AS user_id, m.seq AS seq,
               m.sender_id AS sender_id
        FROM messages AS m CROSS JOIN json_each(m.mentions) AS n
        WHERE m.mentions IS NOT NULL AND m.stream IS NOT 'open'
        UNION ALL
        SELECT message_key, room_key, '', seq, sender_id FROM messages WHERE mention_room AND stream IS NOT 'open'
    ), stored AS MATERIALIZED (SELECT message_key, room_key, user_id, seq, sender_id FROM mentions)
    SELECT printf('%s: the mention of %s by msg_%016x is not among those of its user',
                  r.room_id, iif(x.user_id = '', 'the room', x.user_id), x.message_key)
    FROM (SELECT * FROM expected EXCEPT SELECT * FROM stored) AS x JOIN kept_rooms AS r ON r.room_key = x.room_key
    UNION ALL
    SELECT printf('%s: a mention of %s by msg_%016x, which does not mention them',
                  r.room_id, iif(x.user_id = '', 'the room', x.user_id), x.message_key)
    FROM (SELECT * FROM stored EXCEPT SELECT * FROM expected) AS x JOIN kept_rooms AS r ON r.room_key = x.room_key
"""
# A message that was deleted, or that retention has removed, keeps its reactions until they are purged.
_WRONG_REACTIONS = """
    SELECT printf('%s: message %d has %d reactions, but is not there', r.room_id, x.target_seq, count(*))
    FROM reactions AS x JOIN kept_rooms AS r ON r.room_key = x.room_key
    LEFT JOIN messages AS m ON m.room_key = x.room_key AND m.seq = x.target_seq AND m.deleted_at_us IS NULL
    LEFT JOIN emptied_messages AS e ON e.room_key = x.room_key AND e.target_seq = x.target_seq
    WHERE m.seq IS NULL AND e.target_seq IS NULL
    GROUP BY x.room_key, x.target_seq
    UNION ALL
    SELECT printf('%s: message %d shows %d reactions with %s, but has %d', r.room_id, t.target_seq, t.shown, t.emoji,
                  t.stored)
    FROM (
        SELECT room_key, target_seq, emoji, sum(shown) AS shown, sum(stored) AS stored FROM (
            SELECT room_key, target_seq, emoji, count AS shown, 0 AS stored FROM reaction_counts
            UNION ALL
            SELECT room_key, target_seq, emoji, 0, count(*) FROM reactions GROUP BY room_key, target_seq, emoji
        ) GROUP BY room_key, target_seq, emoji
    ) AS t JOIN kept_rooms AS r ON r.room_key = t.room_key
    LEFT JOIN emptied_messages AS e ON e.room_key = t.room_key AND e.target_seq = t.target_seq
    WHERE t.shown <> t.stored AND e.target_seq IS NULL
    UNION ALL
    SELECT printf('%s: message %d does not say that it has reactions', r.room_id, m.seq)
    FROM reaction_counts AS c JOIN kept_rooms AS r ON r.room_key = c.room_key
    JOIN messages AS m ON m.room_key = c.room_key AND m.seq = c.target_seq
    WHERE m.annotated IS NULL GROUP BY m.message_key
"""
_WRONG_PINS = """
    SELECT printf('%s: message %d is pinned, but is not there', r.room_id, p.target_seq)
    FROM pins AS p JOIN kept_rooms AS r ON r.room_key = p.room_key
    LEFT JOIN messages AS m ON m.room_key = p.room_key AND m.seq = p.target_seq AND m.deleted_at_us IS NULL
    WHERE m.seq IS NULL
    UNION ALL
    SELECT printf('%s: message %d does not say that it is pinned', r.room_id, m.seq)
    FROM pins AS p JOIN kept_rooms AS r ON r.room_key = p.room_key
    JOIN messages AS m ON m.room_key = p.room_key AND m.seq = p.target_seq
    WHERE m.annotated IS NULL
"""
# Retention takes them with their messages; a deleted message leaves a tombstone.
_WRONG_REPORTS = """
    SELECT printf('%s: report_%016x is about message %d, which is not there', r.room_id, p.report_key, p.target_seq)
    FROM reports AS p JOIN kept_rooms AS r ON r.room_key = p.room_key
    LEFT JOIN messages AS m ON m.room_key = p.room_key AND m.seq = p.target_seq
    WHERE m.seq IS NULL
"""
# In both directions: a row for each open stream, and chunks only of those, without a gap, until they are purged.
_WRONG_STREAMS = """
    SELECT printf('%s: message %d is a stream that never ends', r.room_id, m.seq)
    FROM messages AS m JOIN kept_rooms AS r ON r.room_key = m.room_key
    LEFT JOIN open_streams AS o ON o.room_key = m.room_key AND o.target_seq = m.seq
    WHERE m.stream = 'open' AND o.target_seq IS NULL
    UNION ALL
    SELECT printf('%s: message %d counts as an open stream, but is none', r.room_id, o.target_seq)
    FROM open_streams AS o JOIN kept_rooms AS r ON r.room_key = o.room_key
    LEFT JOIN messages AS m ON m.room_key = o.room_key AND m.seq = o.target_seq AND m.stream = 'open'
    WHERE m.seq IS NULL
    UNION ALL
    SELECT printf('%s: message %d is no open stream, but has text of one', r.room_id, c.target_seq)
    FROM stream_chunks AS c JOIN kept_rooms AS r ON r.room_key = c.room_key
    LEFT JOIN open_streams AS o ON o.room_key = c.room_key AND o.target_seq = c.target_seq
    LEFT JOIN emptied_messages AS e ON e.room_key = c.room_key AND e.target_seq = c.target_seq
    WHERE o.target_seq IS NULL AND e.target_seq IS NULL
    GROUP BY c.room_key, c.target_seq
    UNION ALL
    SELECT printf('%s: message %d has %d appends up to index %d', r.room_id, target_seq, appends, last_index)
    FROM (
        SELECT room_key, target_seq, sum(coalesce(json_array_length(sizes), 1)) AS appends,
               max(last_index) AS last_index
        FROM stream_chunks GROUP BY room_key, target_seq
    ) AS c JOIN kept_rooms AS r ON r.room_key = c.room_key
    LEFT JOIN emptied_messages AS e USING (room_key, target_seq)
    WHERE appends <> last_index AND e.target_seq IS NULL
"""
# The schema declares no reference for them.
_WRONG_CALLS = """
    SELECT printf('webhook_deliveries: %d rows refer to tenants that do not exist', count(*))
    FROM webhook_deliveries AS d LEFT JOIN tenants AS t ON t.tenant_key = d.tenant_key
    WHERE t.tenant_key IS NULL HAVING count(*) > 0
"""
# A ban that has ended may still be there.
_BANNED_MEMBERS = """
    SELECT printf('%s: %s is a member, though banned', r.room_id, b.user_id)
    FROM bans AS b JOIN members AS m ON m.room_key = b.room_key AND m.user_id = b.user_id
        JOIN kept_rooms AS r ON r.room_key = b.room_key
    WHERE b.until_us IS NULL
"""
# Replies whose root retention has removed are of no thread.
_WRONG_THREADS = """
    WITH found AS MATERIALIZED (
        SELECT p.room_key AS room_key, m.seq AS root_seq, p.replies AS replies, p.last_seq AS last_seq
        FROM (
            SELECT room_key, thread_id, count(*) AS replies, max(seq) AS last_seq FROM messages
            WHERE thread_id IS NOT NULL AND deleted_at_us IS NULL GROUP BY room_key, thread_id
        ) AS p
        JOIN messages AS m ON m.message_key = coalesce(message_key(p.thread_id), (
            SELECT message_key FROM messages WHERE room_key = p.room_key AND imported_id = p.thread_id))
        WHERE m.room_key = p.room_key
    ), stored AS MATERIALIZED (
        SELECT room_key, root_seq, reply_count AS replies, last_reply_seq AS last_seq FROM threads
    )
    SELECT printf('%s: the thread of seq %d has %d replies up to seq %d, which is not what it shows',
                  r.room_id, x.root_seq, x.replies, x.last_seq)
    FROM (SELECT * FROM found EXCEPT SELECT * FROM stored) AS x JOIN kept_rooms AS r ON r.room_key = x.room_key
    UNION ALL
    SELECT printf('%s: seq %d shows a thread without replies', r.room_id, t.root_seq)
    FROM threads AS t JOIN kept_rooms AS r ON r.room_key = t.room_key
      AND NOT EXISTS (SELECT 1 FROM found AS f WHERE f.room_key = t.room_key AND f.root_seq = t.root_seq)
"""
# By these columns users are searched, and the dm of a block is found.
_WRONG_USERS = """
    SELECT printf('user %s: is not found by the name %s', user_id, quote(name)) FROM users
    WHERE sort_name <> sort_name_of(name) OR folded_id <> lower(user_id)
    UNION ALL
    SELECT printf('user %s: the block of %s does not name the dm of the two', user_id, blocked_id) FROM blocks
    WHERE dm_key IS NOT dm_key(user_id, blocked_id)
"""
_NO_EPOCH = """
    SELECT printf('%s: the tenant has no epoch', tenant_id) FROM kept_tenants WHERE epoch = ''
"""
# Entries are only added, and no id is given twice.
_WRONG_AUDIT = """
    SELECT printf('audit_%016x: the actor is not whole', audit_key) FROM audit
    WHERE (key_id IS NOT NULL) <> (kind = 'key') OR (user_id IS NOT NULL) <> (kind IN ('key', 'user'))
       OR (address IS NULL) <> (kind = 'server')
    UNION ALL
    SELECT printf('audit_%016x: the details are no JSON object', audit_key) FROM audit
    WHERE details IS NOT NULL AND iif(json_valid(details), json_type(details), '') <> 'object'
    UNION ALL
    SELECT printf('audit_%016x: this id may be given again', max(audit_key)) FROM audit
    HAVING max(audit_key) > (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'audit')
"""

_CHECKS: Mapping[str, str] = {
    "references": _ORPHANS,
    "tenants": _OTHER_TENANTS,
    "logs": _BROKEN_LOGS,
    "cursors": _CURSORS_AHEAD,
    "member counts": _WRONG_COUNTS,
    "dms": _WRONG_DMS,
    "mentions": _WRONG_MENTIONS,
    "threads": _WRONG_THREADS,
    "reactions": _WRONG_REACTIONS,
    "pins": _WRONG_PINS,
    "reports": _WRONG_REPORTS,
    "streams": _WRONG_STREAMS,
    "webhook calls": _WRONG_CALLS,
    "bans": _BANNED_MEMBERS,
    "users": _WRONG_USERS,
    "epochs": _NO_EPOCH,
    "audit": _WRONG_AUDIT,
}

# The words of each row, as the index has them; and the message of each row, as it was when it went in.
_INDEXED = "SELECT doc, CAST(term AS BLOB) FROM search_entries"
_ROWS = """
    SELECT b.block_key << 10 | 1023 - (m.seq & 1023) AS row_key, r.tenant_key, m.room_key, m.sender_id, m.content
    FROM search_progress AS p CROSS JOIN messages AS m
    JOIN rooms AS r ON r.room_key = m.room_key
    JOIN search_blocks AS b ON b.room_key = m.room_key AND b.number = m.seq >> 10
    WHERE m.content IS NOT NULL
      AND (m.message_key <= p.done_key OR m.message_key > p.gap_end_key AND m.message_key <= p.head_key)
      AND NOT EXISTS (SELECT 1 FROM search_outdated WHERE row_key = (b.block_key << 10 | 1023 - (m.seq & 1023)))
    UNION ALL
    SELECT row_key, tenant_key, room_key, sender_id, content FROM search_outdated
"""
_WITHOUT_BLOCK = """
    SELECT DISTINCT r.room_id
    FROM search_progress AS p CROSS JOIN messages AS m JOIN rooms AS r ON r.room_key = m.room_key
    WHERE m.content IS NOT NULL
      AND (m.message_key <= p.done_key OR m.message_key > p.gap_end_key AND m.message_key <= p.head_key)
      AND NOT EXISTS (SELECT 1 FROM search_blocks WHERE room_key = m.room_key AND number = m.seq >> 10)
"""
_ROOM_OF_BLOCK = """
    SELECT r.room_id FROM search_blocks AS b JOIN rooms AS r ON r.room_key = b.room_key WHERE b.block_key = :block_key
"""

_COUNTS = """
    SELECT (SELECT count(*) FROM kept_tenants),
           (SELECT count(*) FROM kept_rooms),
           (SELECT count(*) FROM members),
           (SELECT count(*) FROM messages),
           (SELECT count(*) FROM changes),
           (SELECT count(*) FROM notifications)
"""


@dataclass(frozen=True, slots=True)
class CheckReport:
    findings: list[str]  # one line each
    counts: dict[str, int]  # rows by what they are; empty when the file is too damaged to tell


def check_database(path: str, *, with_index: bool = True, max_value_bytes: int | None = None) -> CheckReport:
    """Reads all of it, the index of search only if that is wanted; a live one, too. A value of more than
    `max_value_bytes` is damage. Raises UnusableDatabase when it cannot be opened as a ChatAPI database."""
    with open_snapshot(path) as connection:
        if max_value_bytes is not None:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max_value_bytes)
        connection.create_function("dm_key", 2, _encode_dm_key, deterministic=True)
        connection.create_function("sort_name_of", 1, make_sort_name, deterministic=True)
        connection.create_function("message_key", 1, _find_message_key, deterministic=True)
        connection.rollback()  # which would take the views along later
        for statement in _KEEP:
            connection.execute(statement)
        findings = [f"SQLite: {line}" for line in _run(connection, "integrity check", _INTEGRITY) if line != "ok"]
        for name, statement in _CHECKS.items():
            connection.rollback()  # lets the server start its log (the WAL) over; a damaged page has ended it already
            connection.execute("BEGIN")
            findings += _run(connection, name, statement)
        if with_index and can_search(connection):
            connection.rollback()
            connection.execute("BEGIN")
            findings += _compare_index(connection)
        try:
            row = connection.execute(_COUNTS).fetchone()
        except SQLITE_ERRORS:
            row = ()
    names = ("tenants", "rooms", "members", "messages", "other events", "notifications")
    return CheckReport(findings, dict(zip(names, row, strict=False)))


def _run(connection: sqlite3.Connection, name: str, statement: str) -> Iterator[str]:
    try:
        for number, (line,) in enumerate(connection.execute(statement)):
            if number == MAX_FINDINGS:
                yield f"{name}: there is more of this kind"
                return
            yield one_line(line)
    except SQLITE_ERRORS as error:  # the read that meets a damaged page finds it
        yield f"{name}: {one_line(error)}"


def _find_message_key(message_id: str) -> int | None:
    return find_key("msg_", message_id)


def _compare_index(connection: sqlite3.Connection) -> Iterator[str]:
    """By a checksum for each block of rows, so that an index of any size takes little memory."""
    sums: Counter[int] = Counter()
    try:
        for row_key, word in connection.execute(_INDEXED):
            sums[row_key >> BLOCK_BITS] ^= hash((row_key, word))
        for row_key, *message in connection.execute(_ROWS):
            for word in list_row_words(*message):
                sums[row_key >> BLOCK_BITS] ^= hash((row_key, word))
        rooms = (connection.execute(_ROOM_OF_BLOCK, {"block_key": key}).fetchone() for key in sums if sums[key])
        wrong = dict.fromkeys(room[0] if room else "a room that is gone" for room in rooms)
        wrong |= dict.fromkeys(room_id for (room_id,) in connection.execute(_WITHOUT_BLOCK))
    except SQLITE_ERRORS as error:
        yield f"search index: {one_line(error)}"
        return
    for number, room_id in enumerate(wrong):
        if number == MAX_FINDINGS:
            yield "search index: there is more of this kind"
            return
        yield f"{room_id}: the search index does not agree with its messages"


def _encode_dm_key(first: str | None, second: str | None) -> str | None:
    return None if first is None or second is None else encode_dm_key(UserId(first), UserId(second))
