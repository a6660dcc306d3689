"""Whether anything is left of a user whose data was erased: in the tables, and in the bytes of the files."""

import mmap
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from chatapi.protocol.json import loads_stored
from chatapi.store.file import find_wal
from chatapi.store.keys import KEY_EPOCH_US
from chatapi.store.search_index import MARK, can_search
from chatapi.store.standalone import UnusableDatabase, open_snapshot

PIECE_BYTES = 24
"""Of a text, looked for in the bytes: a longer one may lie on several pages of the file, so it is looked for by its
start, its middle and its end."""
MIN_BYTES = 8  # shorter ones are anywhere

_FIND_TENANT = "SELECT tenant_key FROM tenants WHERE tenant_id = :tenant_id AND deleted_at_us IS NULL"
_OF_USER = "tenant_key = :tenant_key AND user_id = :user_id"
_MESSAGES = """
    messages AS m JOIN rooms AS r ON r.room_key = m.room_key
    WHERE r.tenant_key = :tenant_key AND r.deleted_at_us IS NULL AND m.sender_id = :user_id
"""
# An erasure leaves no such rows.
_COUNTS: Mapping[str, str] = {
    "erasures that are not done": f"SELECT count(*) FROM erasures WHERE {_OF_USER} AND erased_at_us IS NULL",
    "profiles": f"SELECT count(*) FROM users WHERE {_OF_USER}",
    "memberships of other rooms than dms": """
        SELECT count(*) FROM members AS m JOIN rooms AS r ON r.room_key = m.room_key
        WHERE m.tenant_key = :tenant_key AND m.user_id = :user_id AND r.type <> 'dm' AND r.deleted_at_us IS NULL""",
    "messages that are no tombstones": f"SELECT count(*) FROM {_MESSAGES} AND m.deleted_at_us IS NULL",
    "tombstones with content or a client_message_id": f"""
        SELECT count(*) FROM {_MESSAGES} AND m.deleted_at_us IS NOT NULL
        AND (m.content IS NOT NULL OR m.meta IS NOT NULL OR m.client_message_id IS NOT NULL)""",
    "reactions": """
        SELECT count(*) FROM reactions AS x JOIN rooms AS r ON r.room_key = x.room_key
        JOIN messages AS m ON m.room_key = x.room_key AND m.seq = x.target_seq AND m.deleted_at_us IS NULL
        WHERE r.tenant_key = :tenant_key AND r.deleted_at_us IS NULL AND x.user_id = :user_id""",
    "notifications": f"SELECT count(*) FROM notification_recipients WHERE {_OF_USER}",
    "subscriptions": f"SELECT count(*) FROM subscriptions WHERE {_OF_USER}",
    "blocks": f"SELECT count(*) FROM blocks WHERE {_OF_USER}",
    # Those of dms may be newer.
    "webhook calls": f"""
        SELECT count(*) FROM webhook_deliveries AS d WHERE d.tenant_key = :tenant_key AND d.user_id = :user_id
        AND d.ordinal > 0 AND NOT EXISTS (SELECT 1 FROM erasures AS e
            WHERE e.{_OF_USER} AND e.erased_at_us < (d.event_key >> 12) + {KEY_EPOCH_US})""",
    "texts of reports": """
        SELECT count(*) FROM reports AS p JOIN rooms AS r ON r.room_key = p.room_key
        WHERE p.tenant_key = :tenant_key AND r.deleted_at_us IS NULL AND (p.user_id = :user_id AND p.reason <> ''
            OR p.message ->> '$.sender_id' = :user_id AND (p.reason <> '' OR p.message ->> '$.content' IS NOT NULL
                OR p.message ->> '$.client_message_id' IS NOT NULL))""",
    "texts that leave the search index": """
        SELECT count(*) FROM search_outdated WHERE tenant_key = :tenant_key AND sender_id = :user_id""",
}
_INDEXED = "SELECT count(*) FROM search_index WHERE search_index MATCH :match"
# Others may have written the same.
_IS_OF_OTHERS = "SELECT EXISTS (SELECT 1 FROM messages WHERE instr(content, :text))"


def check_user(path: str, tenant_id: str, user_id: str, texts: Iterable[str]) -> list[str]:
    """Findings, one line each. `texts` are looked for in all bytes of the file and of its log (the WAL), free pages
    included. Raises UnusableDatabase."""
    with open_snapshot(path) as connection:
        row = connection.execute(_FIND_TENANT, {"tenant_id": tenant_id}).fetchone()
        if row is None:
            raise UnusableDatabase(f"{path}: no such tenant: {tenant_id}")
        scope = {"tenant_key": row[0], "user_id": user_id}
        findings = []
        for name, statement in _COUNTS.items():
            [count] = connection.execute(statement, scope).fetchone()
            if count:
                findings.append(f"{name}: {count}")
        if can_search(connection):
            match = f'"{MARK}t{row[0]}" "{MARK}u{user_id.encode().hex().upper()}"'
            [count] = connection.execute(_INDEXED, {"match": match}).fetchone()
            findings += [f"rows of the search index: {count}"] * (count > 0)
        sought = sorted({text for text in texts if len(text.encode()) >= MIN_BYTES})
        for file in (path, find_wal(path)):
            findings += _search_file(connection, Path(file), sought)
    return findings


def read_texts(export: Iterable[bytes]) -> Iterator[str]:
    """Every text in the export of a user that an erasure leaves nowhere. Raises ValueError for anything else."""
    for line in export:
        row = loads_stored(line)
        if not isinstance(row, dict):
            raise ValueError("a line is no object")
        match row.get("type"):
            case "message":
                yield from _list_texts([row.get("content"), row.get("meta"), row.get("client_message_id")])
            case "profile":
                yield from _list_texts([row.get("name"), row.get("avatar_url"), row.get("metadata")])
            case "notification":
                yield from _list_texts(row.get("payload"))
            case "report":
                yield from _list_texts(row.get("reason"))


def _list_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _list_texts(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _list_texts(item)


def _search_file(connection: sqlite3.Connection, path: Path, texts: Iterable[str]) -> Iterator[str]:
    if not path.is_file() or not path.stat().st_size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for text in texts:
            offset = next((at for piece in _cut(text.encode()) if (at := content.find(piece)) >= 0), None)
            if offset is not None and not connection.execute(_IS_OF_OTHERS, {"text": text}).fetchone()[0]:
                yield f"{path}: byte {offset}: {text[:40]!r}"


def _cut(text: bytes) -> Iterator[bytes]:
    middle = (len(text) - PIECE_BYTES) // 2
    for start in sorted({0, max(0, middle), max(0, len(text) - PIECE_BYTES)}):
        yield text[start : start + PIECE_BYTES]
