"""Lists what is stored of one user, as JSON lines, in steps of a few milliseconds each.

Most of it has an index by user. Messages have none: that would cost every send. So the rooms of the user are gone
through, also those that they have left, in windows of their logs.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from chatapi.models import TenantKey, UserId
from chatapi.store.log import MESSAGE_JSON
from chatapi.store.transaction import SqliteConnection

STEP_SECONDS = 0.008
STEP_BYTES = 262_144  # after which a step ends: a line may have a message's 64 KiB of content and 16 KiB of meta
PAGE_LINES = 32  # of one statement
WINDOW = 1_000  # events of a room's log that one statement looks at, below a millisecond
ROOMS_PER_PAGE = 100


def _time(column: str) -> str:
    seconds = f"strftime('%Y-%m-%dT%H:%M:%S', {column} / 1000000, 'unixepoch')"
    return f"iif({column} IS NULL, NULL, {seconds} || printf('.%06dZ', {column} % 1000000))"


class _Section(NamedTuple):
    """Rows of (sort key, line): the next `PAGE_LINES` after the parameter `after`."""

    sql: str
    start: object = ""


_PROFILE = f"""
    SELECT u.user_id, json_object('type', 'profile', 'name', u.name, 'avatar_url', u.avatar_url,
        'metadata', json(u.metadata), 'last_seen', {_time("u.last_seen_at_us")},
        'created_at', {_time("u.created_at_us")}, 'updated_at', {_time("u.updated_at_us")})
    FROM users AS u WHERE u.tenant_key = :tenant_key AND u.user_id = :user_id AND u.user_id > :after LIMIT :limit
"""
_MEMBERSHIPS = f"""
    SELECT m.room_key, json_object('type', 'membership', 'room_id', r.room_id, 'room_type', r.type, 'role', m.role,
        'joined_at', {_time("m.joined_at_us")}, 'last_ack', m.last_ack, 'last_read', m.last_read,
        'notify', m.notify, 'hidden', json(iif(m.hidden_seq IS NULL, 'false', 'true')))
    FROM members AS m CROSS JOIN rooms AS r ON r.room_key = m.room_key
    WHERE m.tenant_key = :tenant_key AND m.user_id = :user_id AND m.room_key > :after
    ORDER BY m.room_key LIMIT :limit
"""
_NOTIFICATIONS = f"""
    SELECT x.notification_key, json_object('type', 'notification',
        'notification_id', printf('notif_%016x', x.notification_key), 'topic', n.topic, 'payload', json(n.payload),
        'created_at', {_time("n.created_at_us")}, 'acked_at', {_time("x.acked_at_us")})
    FROM notification_recipients AS x CROSS JOIN notifications AS n ON n.notification_key = x.notification_key
    WHERE x.tenant_key = :tenant_key AND x.user_id = :user_id AND x.notification_key > :after
    ORDER BY x.notification_key LIMIT :limit
"""
_SUBSCRIPTIONS = f"""
    SELECT s.subscription_key, json_object('type', 'subscription',
        'subscription_id', printf('sub_%016x', s.subscription_key), 'topic', s.topic,
        'created_at', {_time("s.created_at_us")})
    FROM subscriptions AS s
    WHERE s.tenant_key = :tenant_key AND s.user_id = :user_id AND s.subscription_key > :after
    ORDER BY s.subscription_key LIMIT :limit
"""
_BLOCKS = f"""
    SELECT b.blocked_id, json_object('type', 'block', 'user_id', b.blocked_id, 'created_at', {_time("b.created_at_us")})
    FROM blocks AS b WHERE b.tenant_key = :tenant_key AND b.user_id = :user_id AND b.blocked_id > :after
    ORDER BY b.blocked_id LIMIT :limit
"""
_TENANT_BAN = f"""
    SELECT b.user_id, json_object('type', 'ban', 'room_id', NULL, 'reason', b.reason, 'until', {_time("b.until_us")})
    FROM user_bans AS b WHERE b.tenant_key = :tenant_key AND b.user_id = :user_id AND b.user_id > :after LIMIT :limit
"""
_SECTIONS = (
    _Section(_PROFILE),
    _Section(_MEMBERSHIPS, 0),
    _Section(_NOTIFICATIONS, 0),
    _Section(_SUBSCRIPTIONS, 0),
    _Section(_BLOCKS),
    _Section(_TENANT_BAN),
)

# Deleted rooms are being purged.
_LIST_ROOMS = f"""
    SELECT r.room_id, r.room_key, r.pruned_seq,
        max(coalesce((SELECT max(seq) FROM messages WHERE room_key = r.room_key), 0),
            coalesce((SELECT max(seq) FROM changes WHERE room_key = r.room_key), 0)),
        iif(r.created_by = :user_id, json_object('type', 'room', 'room_id', r.room_id, 'room_type', r.type,
            'name', r.name, 'metadata', json(r.metadata), 'created_at', {_time("r.created_at_us")}), NULL),
        EXISTS (SELECT 1 FROM members WHERE room_key = r.room_key AND user_id = :user_id)
            OR EXISTS (SELECT 1 FROM traces WHERE room_key = r.room_key AND user_id = :user_id)
    FROM rooms AS r
    WHERE r.tenant_key = :tenant_key AND r.room_id > :after AND r.deleted_at_us IS NULL
    ORDER BY r.room_id LIMIT :limit
"""
_MUTE = f"""
    SELECT json_object('type', 'mute', 'room_id', :room_id, 'until', {_time("x.until_us")})
    FROM mutes AS x WHERE x.room_key = :room_key AND x.user_id = :user_id AND x.tenant_key = :tenant_key
"""
_BAN = f"""
    SELECT json_object('type', 'ban', 'room_id', :room_id, 'reason', x.reason, 'until', {_time("x.until_us")})
    FROM bans AS x WHERE x.room_key = :room_key AND x.user_id = :user_id AND x.tenant_key = :tenant_key
"""
# Each of one window of a room's log. The messages of others are looked at and passed over.
_MESSAGES = f"""
    SELECT m.seq, json_insert({MESSAGE_JSON}, '$.type', 'message')
    FROM rooms AS r CROSS JOIN messages AS m ON m.room_key = r.room_key
    WHERE r.room_key = :room_key AND r.tenant_key = :tenant_key AND m.seq > :after AND m.seq <= :to_seq
      AND m.sender_id = :user_id
    ORDER BY m.seq LIMIT :limit
"""
_REACTIONS = f"""
    SELECT x.target_seq, json_object('type', 'reaction', 'room_id', :room_id, 'target_seq', x.target_seq,
        'emoji', x.emoji, 'created_at', {_time("x.created_at_us")})
    FROM (SELECT DISTINCT target_seq FROM reaction_counts
          WHERE room_key = (SELECT room_key FROM rooms WHERE room_key = :room_key AND tenant_key = :tenant_key)
            AND target_seq > :after AND target_seq <= :to_seq) AS t
    CROSS JOIN reactions AS x INDEXED BY reactions_of_user
    WHERE x.room_key = :room_key AND x.target_seq = t.target_seq AND x.user_id = :user_id
"""
_PINS = f"""
    SELECT x.target_seq, json_object('type', 'pin', 'room_id', :room_id, 'target_seq', x.target_seq,
        'pinned_at', {_time("x.pinned_at_us")})
    FROM pins AS x
    WHERE x.room_key = (SELECT room_key FROM rooms WHERE room_key = :room_key AND tenant_key = :tenant_key)
      AND x.target_seq > :after AND x.target_seq <= :to_seq AND x.user_id = :user_id
"""
_REPORTS = f"""
    SELECT x.target_seq, json_object('type', 'report', 'report_id', printf('report_%016x', x.report_key),
        'room_id', :room_id, 'target_seq', x.target_seq, 'reason', x.reason, 'created_at', {_time("x.created_at_us")})
    FROM reports AS x
    WHERE x.room_key = :room_key AND x.tenant_key = :tenant_key AND x.target_seq > :after AND x.target_seq <= :to_seq
      AND x.user_id = :user_id
"""
_MENTIONS = """
    SELECT x.seq, json_object('type', 'mention', 'room_id', :room_id, 'seq', x.seq, 'sender_id', x.sender_id)
    FROM mentions AS x INDEXED BY mentions_by_seq
    WHERE x.room_key = (SELECT room_key FROM rooms WHERE room_key = :room_key AND tenant_key = :tenant_key)
      AND x.user_id = :user_id AND x.seq > :after AND x.seq <= :to_seq
"""
_OF_WINDOW = (_REACTIONS, _PINS, _REPORTS, _MENTIONS)


class UserExport:
    """One export. `take_step` is work for `Readers.run_step`; no statement stays open between two steps."""

    def __init__(self, tenant_key: TenantKey, user_id: UserId) -> None:
        self._scope: dict[str, object] = {"tenant_key": tenant_key, "user_id": user_id}
        self._connection: SqliteConnection | None = None
        self._run = self._list_pages()

    def take_step(self, connection: SqliteConnection) -> tuple[bytes, bool]:
        """The next lines, and whether there are more."""
        self._connection = connection
        end_s = time.perf_counter() + STEP_SECONDS
        lines: deque[str] = deque()
        size = 0
        for page in self._run:
            lines.extend(page)
            size += sum(map(len, page))
            if size >= STEP_BYTES or time.perf_counter() >= end_s:
                return _join(lines), True
        return _join(lines), False

    def _list_pages(self) -> Iterator[list[str]]:
        """The lines, in pages, some of them empty."""
        for section in _SECTIONS:
            yield from self._list_section(section.sql, {}, section.start)
        after = ""
        while rooms := self._fetch(_LIST_ROOMS, {"after": after, "limit": ROOMS_PER_PAGE}):
            for room_id, room_key, pruned_seq, last_seq, made, is_theirs in rooms:
                yield [] if made is None else [made]
                room = {"room_id": room_id, "room_key": room_key}
                yield from self._list_room(room, pruned_seq, last_seq if is_theirs else pruned_seq)
            after = rooms[-1][0]

    def _list_room(self, room: Mapping[str, object], pruned_seq: int, last_seq: int) -> Iterator[list[str]]:
        yield [row[0] for sql in (_MUTE, _BAN) for row in self._fetch(sql, room)]
        for after in range(pruned_seq, last_seq, WINDOW):
            window = {**room, "to_seq": after + WINDOW}
            yield from self._list_section(_MESSAGES, window, after)
            yield [row[1] for sql in _OF_WINDOW for row in self._fetch(sql, {**window, "after": after})]

    def _list_section(self, sql: str, scope: Mapping[str, object], after: object) -> Iterator[list[str]]:
        while rows := self._fetch(sql, {**scope, "after": after, "limit": PAGE_LINES}):
            yield [row[1] for row in rows]
            if len(rows) < PAGE_LINES:
                return
            after = rows[-1][0]

    def _fetch(self, sql: str, scope: Mapping[str, object]) -> list[Any]:
        assert self._connection is not None  # of the step
        return self._connection.execute(sql, {**self._scope, **scope}).fetchall()


def _join(lines: deque[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
