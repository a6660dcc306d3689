"""What a statement looks at is bounded by what it returns or changes: each is run on data of two sizes, and SQLite's
steps are counted."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from statements import STATEMENTS

from chatapi.store.search_index import prepare_offline

SMALL, LARGE = 150, 1_500  # of everything that a tenant, a room or a user may have many of
USED = 1.3  # times as many steps may be needed at ten times the size: a tree is deeper, a page of it fuller

# Statements that look at more the more there is, and why they may.
GROWING = {
    "handover._LAST_ACTIVITY": "once at the end of a move, which has counted all rows of the tenant before",
    "stats._COUNT": "counts all that a tenant has, for the operator",
    "prefixes._SCAN_ROOM": "all members, of a room that has few",
    "user_bans._LOAD_BANS": "once, at the start",
    "user_bans._LIST_ADMINISTERED": "the rooms of one user, who administers few of them",
    "user_export._MESSAGES": "looks at no more than a window of a log",
    "search._SKIP_NEWER": "halves a range, once more where it is twice as long",
    "search_index._DROP": "once, at the start, after a time without FTS5",
    "tenants._LOAD_TENANTS": "once, at the start",
    "tenants._LOAD_KEYS": "once, at the start",
    "tenants._FIND_SHOWN_KEY": "once, at the start of --dev",
    "notifications._LIST_UNFINISHED": "once, at the start, one row for each tenant at most",
}

FILL = """
    INSERT INTO tenants (tenant_key, tenant_id, name, token_secret, created_at_us, deleted_at_us)
        SELECT n, printf('tenant_%d', n), 'x', 's', n, iif(n = 4, 9, NULL) FROM numbers WHERE n <= 4;
    INSERT INTO api_keys (key_id, tenant_key, key_hash, created_at_us)
        SELECT printf('key_%06d', n), 1, CAST(n AS BLOB), n FROM numbers;
    INSERT INTO rooms (room_key, tenant_key, room_id, type, unique_key, created_by, created_at_us, updated_at_us,
                       deleted_at_us)
        SELECT n, iif(n % 50 = 0, 4, 1), printf('room_%d', n), iif(n % 2, 'channel', 'dm'),
            iif(n % 2, NULL, printf('key_%d', n)), 'u', n, n, iif(n % 50 = 0, 9, NULL) FROM numbers;
    INSERT INTO members (room_key, user_id, tenant_key, role, joined_at_us)
        SELECT n, 'u', iif(n % 50 = 0, 4, 1), 'member', n FROM numbers;
    INSERT INTO members (room_key, user_id, tenant_key, role, joined_at_us)
        SELECT 1, printf('u%06d', n), 1, 'member', n FROM numbers;
    INSERT INTO users (tenant_key, user_id, folded_id, name, sort_name, created_at_us)
        SELECT 1, printf('u%06d', n), printf('u%06d', n), printf('n%06d', n), printf('n%06d', n), n FROM numbers;
    INSERT INTO blocks (tenant_key, user_id, blocked_id, dm_key, created_at_us)
        SELECT 1, 'u', printf('u%06d', n), printf('key_%d', n), n FROM numbers;
    INSERT INTO user_bans (tenant_key, user_id, until_us, heirs_due)
        SELECT 1, printf('u%06d', n), iif(n % 2, NULL, 2000000 + n), 0 FROM numbers;
    INSERT INTO messages (message_key, room_key, seq, sender_id, content, client_message_id, created_at_us,
                          deleted_at_us, imported_id)
        SELECT n, 1, 2 * n, iif(n % 3, 'u', 'u000001'), 'x', printf('c%d', n), n, iif(n % 5, NULL, n), printf('i%d', n)
        FROM numbers;
    INSERT INTO messages (message_key, room_key, seq, sender_id, content, created_at_us)
        SELECT 1000000 + n, n, 1, 'u000001', 'x', n FROM numbers WHERE n > 1;
    INSERT INTO mutes (room_key, user_id, tenant_key, until_us) SELECT n, 'u', 1, n FROM numbers;
    INSERT INTO bans (room_key, user_id, tenant_key, until_us, created_by, created_at_us)
        SELECT n, 'u', 1, n, 'u', n FROM numbers;
    INSERT INTO bans (room_key, user_id, tenant_key, until_us, created_by, created_at_us)
        SELECT 1, printf('u%06d', n), 1, iif(n % 2, NULL, 1000000 + n), 'u', n FROM numbers;
    INSERT INTO mutes (room_key, user_id, tenant_key, until_us) SELECT 1, printf('u%06d', n), 1, n FROM numbers;
    INSERT INTO changes (room_key, seq, frame, message_key, created_at_us)
        SELECT 1, 2 * n + 1, iif(n % 2, '{}', NULL), n, n FROM numbers;
    INSERT INTO messages (message_key, room_key, seq, sender_id, content, created_at_us, deleted_at_us, thread_id)
        SELECT 2000000 + n, 5, 1 + n, 'u000001', 'x', n, iif(n % 3, NULL, n), iif(n % 2, 'msg_1', NULL) FROM numbers;
    INSERT INTO threads (room_key, root_seq, reply_count, last_reply_seq, last_reply_at_us)
        SELECT 1, 2 * n, 1, 2 * n + 2, n FROM numbers;
    INSERT INTO mentions (room_key, user_id, message_key, seq, sender_id)
        SELECT 1, iif(n % 2, 'u', ''), n, 2 * n, 'u000001' FROM numbers;
    INSERT INTO mentions (room_key, user_id, message_key, seq, sender_id)
        SELECT 8, '', 200000000 + n, n, 'u' FROM numbers;
    UPDATE members SET notify = 'none' WHERE room_key = 1 AND user_id > 'u000003';
    UPDATE messages SET annotated = 1 WHERE message_key % 7 = 0;
    INSERT INTO reactions (room_key, target_seq, seq, emoji, user_id, created_at_us)
        SELECT 1, 20, n, printf('e%d', n % 2), printf('u%06d', n), n FROM numbers;
    INSERT INTO reactions (room_key, target_seq, seq, emoji, user_id, created_at_us)
        SELECT n, 1, 1, 'e', 'u', n FROM numbers WHERE n > 1;
    INSERT INTO reaction_counts (room_key, target_seq, first_seq, emoji, count, user_ids)
        SELECT 1, 2 * n, n, 'e1', 1, '["u"]' FROM numbers;
    INSERT INTO pins (room_key, seq, target_seq, user_id, pinned_at_us) SELECT 1, n, 2 * n, 'u', n FROM numbers;
    INSERT INTO emptied_messages (room_key, target_seq) SELECT n, 1 FROM numbers;
    INSERT INTO reports (report_key, tenant_key, room_key, target_seq, user_id, reason, message, created_at_us,
                         resolved_at_us)
        SELECT n, 1, 1, 2 * n, printf('u%06d', n), 'x', '{}', n, iif(n % 2, n, NULL) FROM numbers;
    INSERT INTO reports (report_key, tenant_key, room_key, target_seq, user_id, reason, message, created_at_us)
        SELECT 1000000 + n, 1, n, 1, 'u', 'x', '{}', n FROM numbers;
    INSERT INTO notifications (notification_key, tenant_key, topic, payload, created_at_us)
        SELECT n, 1, 't', '1', n FROM numbers;
    INSERT INTO notification_recipients (tenant_key, user_id, notification_key, acked_at_us)
        SELECT 1, 'u', n, iif(n > (SELECT count(*) FROM numbers) / 2, n, NULL) FROM numbers;
    INSERT INTO notification_recipients (tenant_key, user_id, notification_key)
        SELECT 1, printf('u%06d', n), 1 FROM numbers;
    INSERT INTO subscriptions (subscription_key, tenant_key, user_id, topic, created_at_us)
        SELECT n, 1, 'u', printf('t%d', n), n FROM numbers;
    INSERT INTO subscriptions (subscription_key, tenant_key, user_id, topic, created_at_us)
        SELECT 1000000 + n, 1, printf('u%06d', n), 't', n FROM numbers;
    INSERT INTO webhook_events (event_key, tenant_key, room_key, seq, excluded, due_at_us)
        SELECT n, 1, iif(n % 2, 1, NULL), 2 * n, '[]', n FROM numbers;
    INSERT INTO webhook_deliveries (event_key, ordinal, tenant_key, room_key, user_id, next_attempt_at_us,
                                    last_attempt_at_us)
        SELECT n, 1, 1, iif(n % 2, 1, NULL), 'u', iif(n % 2, n, NULL), n FROM numbers;
    INSERT INTO audit (at_us, kind, action, tenant_id)
        SELECT n, 'master', 'x', iif(n % 16 OR n > 100, 'tenant_2', 'tenant_1') FROM numbers;
    INSERT INTO search_blocks (block_key, room_key, number) SELECT 2000000000 - n, n, 0 FROM numbers WHERE n > 1;
    INSERT INTO search_blocks (block_key, room_key, number) SELECT 2100000000 - n, 1, n - 1 FROM numbers WHERE n <= 3;
    INSERT INTO search_index (rowid, words)
        SELECT b.block_key << 10 | 1023 - (m.seq & 1023) AS row_key, printf('t1 r%d x', m.room_key)
        FROM messages AS m JOIN search_blocks AS b ON b.room_key = m.room_key AND b.number = m.seq >> 10
        ORDER BY row_key;
    INSERT INTO search_outdated (row_key, message_key, tenant_key, room_key, sender_id, content)
        SELECT 1000000 + n, n, 1, 1, 'u', 'x' FROM numbers;
"""

PARAMETERS: dict[str, object] = {
    **dict.fromkeys(("tenant_key", "room_key", "ordinal"), 1),
    **dict.fromkeys(("limit", "examined"), 10),
    **dict.fromkeys(("offset", "after_key", "deliveries", "after_seq", "subscription_key"), 0),
    **dict.fromkeys(("seq", "to_seq", "notification_key", "event_key", "message_key"), 20),
    **dict.fromkeys(("before_us", "until_us"), 30),
    **dict.fromkeys(("now_us", "due_at_us", "last_attempt_at_us"), 10**6),
    **dict.fromkeys(("joined_at_us", "created_at_us"), -1),
    "user_id": "u",
    "emoji": "e1",
    "target_seq": 20,
    "user_ids": '["a", "b"]',
    "users": '[[1, "u", 0], [1, "u000001", 0]]',
    "tenant_keys": "[1, 2, 3]",
    "room_keys": "[2, 3, 4]",
    "keys": "[1, 2, 3]",
    "after_room_id": "",
    "before_key": 30,
    "last_user_id": "",
    "excluded": '[["u000002", "u000004"]]',
    "most": 1_000,
    "size": 2,
    "end_user_id": "u000010",
    "members": '[["new", "member"]]',
    "cursors": '[[1, "u", 3, 3], [2, "u", 1, 1]]',
    "used": '[["key_000003", 5]]',
    "delivery_keys": "[[3, 1], [4, 1]]",
    "under_way": "[[1, 1]]",
    "unique_key": "key_4",
    "thread_id": "msg_1",
    **dict.fromkeys(("root_seq", "last_seq"), 20),
    "last_at_us": 9,
    "topic": "t9",
    "key_id": "",
    "message_id": "i9",
    "role": "admin",
    "notify": "none",
    **dict.fromkeys(("now_key", "hidden_seq"), 10**9),
    "posting": "members",
    "slow_mode_seconds": 0,
    "after_user_id": "",
    "created_by": "u",
    "report_key": 20,
    "reason": "x",
    "message": "{}",
    "type": "group",
    **{"low": "u0000", "high": "u0001", "walked": 20, "count": 10, "most": 20, "initial": "u", "before": "z"},
    **dict.fromkeys(("sort_name", "folded_id"), ""),
}
ROWS = f"[{(2099999999 << 10) + 1000}, {(2099999999 << 10) + 1001}, {(1999999990 << 10) + 1022}]"
OF_STATEMENT: dict[str, dict[str, object]] = {
    "audit._EXPIRE": {"audit_key": 20},
    "audit._LIST_OF_TENANT": {"tenant_id": "tenant_1"},
    "audit._INSERT": {"kind": "master", "action": "x", "tenant_id": "tenant_1"},
    "blocks._INSERT_BLOCK": {"blocked_id": "new", "dm_key": "new"},
    "blocks._FIND_BLOCK": {"blocked_id": "u000003"},
    "blocks._DELETE_BLOCK": {"blocked_id": "u000003"},
    "blocks._LIST_BLOCKS": {"created_at_us": 10**9, "blocked_id": ""},
    "blocks._IS_BLOCKED": {"dm_key": "key_4"},
    "search_tail._COUNT_LAG": {"limit": 10},
    "search_tail._HAS_WORK": {"limit": 10},
    "search_few._COUNT_WORDS": {"first": "x", "end": "y"},
    "search_few._FIND_ROWS": {"match": "t1 x", "after": 0},
    "search_few._LIST_FEW": {"row_keys": ROWS, "before_key": 10**9},
    "search._LOCATE": {"row_keys": ROWS},
    "search._LIST_ROOMS": {"after_room_key": 0},
    "search._SKIP_NEWER": {"rooms": "[[1, 0, 290], [2, 0, 1]]", "before_key": 20, "before_us": 10**9},
    "search._FIND_START": {"rooms": "[[1, 20], [2, 1]]"},
    "search._FIND_NEXT": {"match": "x", "rooms": "[[1, 0], [2, 0]]"},
    "search._LIST_NEXT": {"match": "x r1", "start": 0},
    "search._LIST_LOG": {"rooms": "[[1, 0, 20], [2, 0, 5]]"},
    "search._READ_CONTENTS": {"sender_id": None},
    "search_tail._LIST_TAIL": {"head_key": 5, "to_key": 10**9, "sender_id": None, "word": "x"},
    "search_index._CUT_CHUNK": {"after_key": 5, "to_key": 10**9, "characters": 1000},
    "search_index._MEASURE_CHUNK": {"after_key": 5, "to_key": 10**9},
    "search_index._MAKE_BLOCKS": {"after_key": 5, "to_key": 20},
    "search_index._TAKE_BLOCK_KEYS": {"blocks": 1},
    "search_index._ADD": {"after_key": 5, "to_key": 20},
    "search_index._SET_PROGRESS": {"done_key": 1, "gap_end_key": 1, "head_key": 1},
    "search_index._FIND_TAIL": {"head_key": 5},
    "search_index._REMOVE": {"to_key": 1_000_010},
    "search_index._ADD_AGAIN": {"to_key": 1_000_010},
    "search_index._SETTLE": {"to_key": 1_000_010},
    "search_index._MERGE": {"pages": 8},
    "log.FIND_CLIENT_MESSAGES": {"wanted": '[[1, "u", "c4"], [1, "u", "none"]]'},
    "log._INSERT_CHANGE": {"seq": 990_000},
    "log._ANNOTATE": {"message_key": 10},
    "handover._INSERT_ARRIVAL": {"arrival_id": "a", "tenant_id": "t", "source": "s", "secret_hash": b"h"},
    "tenant_import._INSERT_HIDDEN": {
        "hidden_id": "~a~b",
        "name": "a",
        "config": "{}",
        "token_secret": "s",
        "replaced": "[]",
        "created_at_us": 1,
        "epoch": "e",
    },
    "tenant_import._REVEAL": {"tenant_id": "a", "epoch": "e"},
    "handover._INSERT_DEPARTURE": {"url": "u", "arrival_id": "a", "secret": "s"},
    "handover._INSERT_HIDDEN": {"tenant_id": "arriving", "arrival_id": "a"},
    "handover._MOVE_KEYS": {"new_key": 2},
    "pins._INSERT": {"seq": 990_000, "target_seq": 990_000},
    "pins._LIST": {"seq": 10**9},
    "reactions._LIST": {"seq": 0},
    "reactions._LIST_OF_EMOJI": {"seq": 0},
    "reactions._LIST_FROM_END": {"offset": 2_000},
    "reactions._LIST_OF_EMOJI_FROM_END": {"offset": 2_000},
    "reactions._LIST_OWN": {"user_id": "u000001"},
    "reactions._INSERT": {"seq": 990_000},
    "reactions._COUNT_UP": {"seq": 990_000},
    "reactions._NOTE_EMPTIED": {"target_seq": 10},
    "reactions._DROP_COUNTS": {"target_seq": 10},
    "purge._EMPTY_MESSAGES": {"keys": "[[1, 20], [3, 1]]"},
    "log._HISTORY_BEFORE": {"seq": 290},
    "log._FIND_DELETION": {"message_key": 10},
    "mentions.INSERT_MENTIONS": {"rows": '[[1, "u", 99000000, 990000, "u000001"]]'},
    "mentions.NOTE_MEMBERS": {"rows": '[[1, "u", 99000000, 990000, "u000001"]]'},
    "mentions.NOTE_ROOMS": {"rows": '[[1, "", 99000000, 990000, "u000001"]]'},
    "mentions.SET_OPTIONAL_FIELDS": {"rows": '[[20, null, "[]", null]]'},
    "mentions._COUNT_UNREAD": {"wanted": "[[1, 4, 1000000], [2, 0, 1000000]]"},
    "mentions._FIND_IMPORTED": {"room_keys": "[1, 2]"},
    "mentions._LIST_KEYS": {"wanted": "[[1, 290], [2, 290], [8, 300000000]]"},
    "mentions._END_OF_KEYS": {"wanted": "[[1, 290], [2, 290], [8, 300000000]]"},
    "mentions._SKIP_OWN": {"wanted": "[[1, 290, 0], [2, 290, 0], [8, 300000000, 0]]"},
    "mentions._FIND_NEWEST": {"before_key": 300_000_000},
    "mentions._READ_MESSAGES": {"message_keys": "[1, 2, 3]"},
    "meta._HEARTBEAT": {"value": "x"},
    "meta._PUT_TIME": {"value": "1"},
    "copies.PUT_ID": {"database_id": "x"},
    "notifications._FIND_SUBSCRIPTION": {"topic": "t9"},
    "notifications._DELETE_SUBSCRIPTION": {"subscription_key": 9},
    "notifications._INSERT_NOTIFICATION": {"notification_key": 99_000_000, "payload": "1"},
    "notifications._INSERT_SUBSCRIPTION": {"subscription_key": 99_000_000, "topic": "new"},
    "purge._DELETE_OLD": {"seq": 9},
    "purge._FIND_OLD_NOTIFICATIONS": {"wanted": "[[1, 30, 30], [2, 30, 30]]"},
    "rooms._COUNT_MORE": {"wanted": "[[1, 10], [2, 0]]"},
    "rooms._LIST_ROOMS": {"wanted": "[[1, 10], [2, 0], [3, 0]]"},
    "rooms._LOAD_ROOMS": {"wanted": '[[1, "room_1"], [1, "room_2"], [1, "room_none"]]'},
    "rooms._INSERT_ROOM": {"unique_key": None, "created_by": "u", "room_id": "room_new"},
    "moderation._LIST_POSTS": {"seq": 10**9},
    "moderation._LIST_BANS": {"created_at_us": 10**9},
    "reports._INSERT_REPORT": {"report_key": 99_000_000, "user_id": "new"},
    "reports._LIST_OPEN": {"report_key": 10**9},
    "reports._LIST_RESOLVED": {"report_key": 10**9},
    "rooms._LIST_CHANNELS": {"created_at_us": 10**18, "room_id": ""},
    "rooms._LIST_MEMBERS": {"user_id": ""},
    "rooms._LIST_RECEIPTS": {"user_id": ""},
    "rooms._DELETE_MEMBER": {"room_key": 2},
    "rooms._UPDATE_ROLE": {"room_key": 2},
    "rooms._MARK_DELETED": {"room_key": 3},
    "tenants._DELETE_KEY": {"key_id": "key_000007"},
    "tenants._INSERT_KEY": {"key_id": "key_new", "key_hash": b"new"},
    "tenants._INSERT_TENANT": {"tenant_id": "new", "name": "x", "config": "{}", "token_secret": "s", "epoch": "e"},
    "tenants._UPDATE_TENANT": {"name": "x", "config": "{}"},
    "tenants._UPDATE_TOKEN_SECRET": {"token_secret": "s"},
    "tenants._UPDATE_WEBHOOK_SECRET": {"replaced": "[]"},
    "users._NOTE_SEEN": {"seen": '[[1, "u000001", 5], [1, "new", 5]]'},
    "users._PUT_USER": {"user_id": "u000001", "name": "x", "sort_name": "x"},
    "users._READ_USERS": {"wanted": '[["u000001", true], ["u000002", false]]'},
    "threads.NOTE_REPLIES": {"rows": "[[1, 20, 2, 990000, 9], [5, 30, 1, 990000, 9]]"},
    "threads.MARK_ROOTS": {"rows": "[[1, 20, 2, 990000, 9], [5, 30, 1, 990000, 9]]"},
    **{
        f"threads.{name}": {"room_key": 5}
        for name in ("_FIND_LAST_REPLY", "_HAS_REPLIES", "_REPLIES_AFTER", "_TOP_LEVEL_AFTER", "_END_AFTER")
    },
    "threads._REPLIES_BEFORE": {"room_key": 5, "seq": 140},
    "threads._TOP_LEVEL_BEFORE": {"room_key": 5, "seq": 140},
    "threads._END_BEFORE": {"room_key": 5, "seq": 140},
    "webhooks.INSERT_DELIVERIES": {"rows": '[[99000000, 1, 1, null, "u", 1]]'},
    "webhooks.INSERT_EVENTS": {"rows": "[[99000000, 1, null, null, [], 1]]"},
    "webhooks._EXPAND_MESSAGE": {"event_key": 99_000_000, "seq": 10, "mentioned": '["u000003"]', "mention_room": 0},
    "webhooks._EXPAND_NOTIFICATION": {"event_key": 1, "deliveries": 5},
    "webhooks._LIST_DEAD": {"event_key": 10**9, "ordinal": 10**9},
    "webhooks._LIST_DEAD_OF_TENANT": {"event_key": 10**9, "ordinal": 10**9},
    "webhooks._NOTE_DELAYS": {"delays": "[[3, 1, 2, 9]]"},
    "webhooks._NOTE_FAILURES": {"failures": '[[3, 1, 2, 2, 9, 9, "HTTP 503"]]'},
    "webhooks._READ_BODIES": {"wanted": "[[1, 3, 1], [1, 4, 1]]"},
    "notifications._LIST_ALL": {"notification_key": 10**9},
    "notifications._LIST_PENDING": {"notification_key": 10**9},
    "notifications._LIST_DELIVERED": {"notification_key": 10**9},
}


class Cost(NamedTuple):
    steps: int
    rows: int  # returned and changed


@pytest.fixture(scope="module")
def databases(
    migrated_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[sqlite3.Connection, sqlite3.Connection]]:
    connections = []
    for size in (SMALL, LARGE):
        connection = sqlite3.connect(tmp_path_factory.mktemp("costs") / f"{size}.db", isolation_level=None)
        with closing(sqlite3.connect(migrated_database)) as template:
            template.backup(connection)
        connection.execute("PRAGMA foreign_keys = OFF")  # what is removed here may still be referred to
        connection.execute("CREATE TEMP TABLE numbers (n INTEGER PRIMARY KEY)")
        connection.executemany("INSERT INTO numbers VALUES (?)", ((number,) for number in range(1, size + 1)))
        prepare_offline(connection)
        for statement in FILL.split(";"):
            connection.execute(statement)
        connections.append(connection)
    yield connections[0], connections[1]
    for connection in connections:
        connection.close()


def measure(connection: sqlite3.Connection, sql: str, given: dict[str, Any] | tuple[object, ...]) -> Cost:
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection.execute("BEGIN")
    connection.set_progress_handler(count, 1)
    try:
        before = connection.total_changes
        rows = len(connection.execute(sql, given).fetchall())
        changed = connection.total_changes - before
    finally:
        connection.set_progress_handler(None, 0)
        connection.execute("ROLLBACK")
    return Cost(steps, rows + changed)


def parameters_of(name: str, sql: str) -> dict[str, Any] | tuple[object, ...]:
    if name == "log.INSERT_MESSAGE":
        return (99000000, 1, 990000, "u", "x", None, None, "new", None, 1)
    names = set(re.findall(r"[:](\w+)", re.sub(r"'[^']*'", "", sql)))
    values = {**PARAMETERS, **OF_STATEMENT.get(name, {})}
    return {parameter: values.get(parameter) for parameter in names}


def grows(small: Cost, large: Cost) -> bool:
    return large.steps > USED * small.steps * max(1.0, large.rows / max(1, small.rows)) + 50


CASES = [pair for pair in STATEMENTS if pair[0] not in GROWING]


@pytest.mark.parametrize(("name", "sql"), CASES, ids=[name for name, _ in CASES])
def test_statement_looks_at_no_more_than_it_returns(
    databases: tuple[sqlite3.Connection, sqlite3.Connection], name: str, sql: str
) -> None:
    given = parameters_of(name, sql)
    small, large = (measure(connection, sql, given) for connection in databases)
    assert not grows(small, large), (small, large)


def test_growth_is_noticed(databases: tuple[sqlite3.Connection, sqlite3.Connection]) -> None:
    for sql in (
        "SELECT count(*) FROM messages WHERE room_key = 1 AND sender_id = 'nobody'",
        "SELECT * FROM members WHERE room_key = 1 AND role = 'admin'",
        "SELECT * FROM members WHERE room_key = 1 ORDER BY last_read LIMIT 5",
    ):
        small, large = (measure(connection, sql, {}) for connection in databases)
        assert grows(small, large), (sql, small, large)


def test_the_exceptions_exist() -> None:
    assert set(GROWING) <= {name for name, _ in STATEMENTS}
    assert set(OF_STATEMENT) <= {name for name, _ in STATEMENTS}
