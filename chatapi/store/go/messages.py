"""Messages with new numbers, and how far each user had acknowledged them."""

from collections.abc import Iterator

from chatapi.store.go.run import HAPPENED, NO_ROOM, WRAPPED, Run
from chatapi.store.go.values import clean_text, encode_object, is_user_id

BAD_SENDER = "kept with their sender's user id, which cannot be one here"
NO_TIME = "without a readable time: that of their room is used"
REPLACED = "with U+0000, which is replaced by U+FFFD"

# `stage` says for each message of the open rooms which seq it had and which it has now. Messages that are here already
# keep theirs, the others follow in their old order.
_STAGE_MESSAGES = (
    """
    CREATE TEMP TABLE stage AS
    WITH found AS MATERIALIZED (
        SELECT m.source AS source, t.room_key AS room_key, t.last_seq AS last_seq,
               CAST(coalesce(m.seq, 0) AS INTEGER) AS old_seq,
               go_time(m.created_at) AS sent_at_us, t.created_at_us AS room_created_at_us,
               (SELECT h.seq FROM main.messages AS h
                WHERE h.room_key = t.room_key AND h.imported_id = m.message_id) AS present_seq
        FROM old_messages AS m JOIN room_map AS t ON t.room_id = m.room_id AND t.tenant_id = m.tenant_id
        WHERE t.is_open
    )
    SELECT source, room_key, old_seq, coalesce(sent_at_us, room_created_at_us) AS created_at_us,
           sent_at_us IS NOT NULL AS has_time, present_seq IS NULL AS is_new,
           coalesce(present_seq, last_seq + sum(present_seq IS NULL)
               OVER (PARTITION BY room_key ORDER BY old_seq, sent_at_us, source)) AS seq
    FROM found
    """,
    "CREATE INDEX temp.stage_new ON stage (created_at_us, room_key, seq) WHERE is_new",
    "CREATE INDEX temp.stage_seq ON stage (room_key, old_seq, seq)",
)
_NEW_MESSAGES_COUNT = "SELECT count(*) FROM stage WHERE is_new"
# The index gives the order, so that no content is sorted.
_NEW_MESSAGES = """
    SELECT s.room_key, s.seq, s.created_at_us, s.has_time, m.message_id, m.sender_id, m.content, m.meta
    FROM stage AS s CROSS JOIN old_messages AS m ON m.source = s.source
    WHERE s.is_new ORDER BY s.created_at_us, s.room_key, s.seq
"""
# The old server let anybody write who knew a room's id.
_NOTE_TRACES = """
    INSERT INTO main.traces (room_key, user_id, tenant_key)
    SELECT w.room_key, w.sender_id, r.tenant_key
    FROM (SELECT DISTINCT s.room_key, m.sender_id
          FROM stage AS s CROSS JOIN main.messages AS m ON m.room_key = s.room_key AND m.seq = s.seq
          WHERE s.is_new) AS w
    CROSS JOIN main.rooms AS r ON r.room_key = w.room_key
    WHERE NOT EXISTS (SELECT 1 FROM main.members WHERE room_key = w.room_key AND user_id = w.sender_id)
      AND NOT EXISTS (SELECT 1 FROM main.traces WHERE room_key = w.room_key AND user_id = w.sender_id)
"""
_HAS_MESSAGES = "SELECT EXISTS (SELECT 1 FROM main.messages)"
_FIND_MESSAGE_KEY = "SELECT 1 FROM main.messages WHERE message_key = :message_key"
_INSERT_MESSAGE = """
    INSERT INTO main.messages (message_key, room_key, seq, sender_id, content, meta, created_at_us, imported_id)
    VALUES (:message_key, :room_key, :seq, :sender_id, :content, :meta, :created_at_us, :imported_id)
"""
_MESSAGES_WITHOUT_ROOM = """
    SELECT count(*) FROM old_messages AS m
    WHERE NOT EXISTS (SELECT 1 FROM room_map AS t WHERE t.room_id = m.room_id AND t.tenant_id = m.tenant_id)
"""
_MESSAGES_TOO_LATE = """
    SELECT count(*) FROM old_messages AS m JOIN room_map AS t ON t.room_id = m.room_id AND t.tenant_id = m.tenant_id
    WHERE NOT t.is_open AND NOT EXISTS (
        SELECT 1 FROM main.messages AS h WHERE h.room_key = t.room_key AND h.imported_id = m.message_id)
"""

# Acknowledged up to an old seq is acknowledged up to the message that had it, or to the last one before.
_STAGE_ACKS = (
    """
    CREATE TEMP TABLE ack_stage AS
    SELECT t.room_key AS room_key, k.user_id AS user_id, t.is_new AS is_new_room, h.last_ack AS present,
           coalesce((SELECT s.seq FROM stage AS s WHERE s.room_key = t.room_key AND s.old_seq <= k.last_ack
                     ORDER BY s.old_seq DESC, s.seq DESC LIMIT 1), 0) AS seq
    FROM old_acks AS k JOIN room_map AS t ON t.room_id = k.room_id AND t.tenant_id = k.tenant_id
    JOIN main.members AS h ON h.room_key = t.room_key AND h.user_id = k.user_id
    WHERE t.is_open
    """,
)
_ACKS_WITHOUT_MEMBER = """
    SELECT count(*) FROM old_acks AS k
    WHERE NOT EXISTS (
        SELECT 1 FROM room_map AS t JOIN main.members AS h ON h.room_key = t.room_key AND h.user_id = k.user_id
        WHERE t.room_id = k.room_id AND t.tenant_id = k.tenant_id)
"""
_NEW_ACKS = "SELECT count(*) FROM ack_stage WHERE is_new_room OR seq > present"
# Delivered messages count as read, too: otherwise all that was ever said would be unread.
_APPLY_ACKS = """
    UPDATE main.members SET last_ack = max(last_ack, a.seq), last_read = max(last_read, a.seq)
    FROM ack_stage AS a WHERE members.room_key = a.room_key AND members.user_id = a.user_id AND a.seq > a.present
"""


def take_messages(run: Run) -> None:
    for statement in _STAGE_MESSAGES:
        run.connection.execute(statement)
    run.report.counts["messages"].imported = run.number(_NEW_MESSAGES_COUNT)
    run.connection.executemany(_INSERT_MESSAGE, _read_new_messages(run))
    run.connection.execute(_NOTE_TRACES)
    run.report.skip("messages", NO_ROOM, run.number(_MESSAGES_WITHOUT_ROOM))
    run.report.skip("messages", HAPPENED, run.number(_MESSAGES_TOO_LATE))


def _read_new_messages(run: Run) -> Iterator[dict[str, object]]:
    """In the order of their keys."""
    make_key = run.make_keys(0)  # older than what is here, as they are
    had_messages = bool(run.number(_HAS_MESSAGES))
    report = run.report
    for row in run.connection.execute(_NEW_MESSAGES):
        room_key, seq, created_at_us, has_time, message_id, sender_id, content, meta = row
        message_key = make_key(created_at_us)
        while had_messages and run.connection.execute(_FIND_MESSAGE_KEY, {"message_key": message_key}).fetchone():
            message_key = make_key(created_at_us)
        stored_meta, is_wrapped = encode_object(meta)
        report.remark("messages", WRAPPED, is_wrapped)
        report.remark("messages", REPLACED, "\0" in (content or ""))
        report.remark("messages", NO_TIME, not has_time)
        report.remark("messages", BAD_SENDER, not is_user_id(str(sender_id).encode()))
        yield {
            "message_key": message_key,
            "room_key": room_key,
            "seq": seq,
            "sender_id": clean_text(sender_id),
            "content": clean_text(content),
            "meta": stored_meta,
            "created_at_us": created_at_us,
            "imported_id": message_id,
        }


def take_acks(run: Run) -> None:
    for statement in _STAGE_ACKS:
        run.connection.execute(statement)
    run.report.skip("acks", "their user is not a member of the room", run.number(_ACKS_WITHOUT_MEMBER))
    run.report.counts["acks"].imported = run.number(_NEW_ACKS)
    run.connection.execute(_APPLY_ACKS)
