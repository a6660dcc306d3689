"""Fills a database with messages, as years of use would: for measuring how the server fares as it grows.

Run as a program (`python -m chatapi.store.prefill FILE MESSAGES`) by `chatapi bench`, so that each version of ChatAPI
makes a database of its own schema.
"""

import argparse
import asyncio
import secrets
import sqlite3
import sys
from contextlib import closing

from chatapi.clock import Clock
from chatapi.store import StoreError, check_usable, open_store
from chatapi.store.epochs import make_epoch
from chatapi.store.keys import KEY_EPOCH_US
from chatapi.store.lock import DatabaseInUse, DatabaseLock

MESSAGES_PER_ROOM = 1000
USERS_PER_ROOM = 2
CHUNK_ROWS = 200_000  # per transaction: enough to be fast, not so much that the WAL outgrows the database
AGE_US = 365 * 86_400 * 1_000_000  # the oldest message is a year old
CONTENT_CHARACTERS = 100
WORDS = 20_000  # of the vocabulary, some of which come far more often than others

_FAST = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = OFF",  # a file that a power cut has spoilt is made again
    "PRAGMA cache_size = -262144",  # 256 MiB: the indexes are written all over
    "PRAGMA foreign_keys = OFF",
)
_INSERT_TENANT = """
    INSERT INTO tenants (tenant_id, name, token_secret, created_at_us, epoch)
    VALUES (:tenant_id, 'prefilled', :token_secret, :now_us, :epoch) RETURNING tenant_key
"""
_COUNT = "WITH RECURSIVE numbers (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :after)"
_INSERT_ROOMS = f"""
    {_COUNT}
    INSERT INTO rooms (room_key, tenant_key, room_id, type, created_by, created_at_us, updated_at_us)
    SELECT :room_key + n, :tenant_key, 'room_' || lower(hex(randomblob(12))), 'group', 'u0', :oldest_us, :oldest_us
    FROM numbers
"""
_INSERT_MEMBERS = f"""
    {_COUNT}
    INSERT INTO members (room_key, user_id, tenant_key, role, joined_at_us)
    SELECT :room_key + n / {USERS_PER_ROOM}, 'u' || (n % {USERS_PER_ROOM}), :tenant_key, 'member', :oldest_us
    FROM numbers
"""
_CONTENT = ":content"
_WORDS = " || ' ' || ".join(
    [f"'w' || abs(random() % (1 + abs(random() % (1 + abs(random() % {WORDS})))))" for _ in range(16)]
)


def _insert_messages(content: str) -> str:
    """SQL. Message n is the next one of room n % rooms: as it happens in use, neighbours in time are in different
    rooms."""
    return f"""
    {_COUNT}
    INSERT INTO messages (message_key, room_key, seq, sender_id, content, client_message_id, body_digest, created_at_us)
    SELECT (:oldest_us + n * :step_us - {KEY_EPOCH_US}) << 12, :room_key + n % :rooms, n / :rooms + 1,
           'u' || (n % {USERS_PER_ROOM}), {content}, lower(hex(randomblob(8))), n, :oldest_us + n * :step_us
    FROM numbers
"""


# Their keys may be below those that search has indexed.
_INDEX_AGAIN = "UPDATE search_progress SET done_key = 0, gap_end_key = head_key"
_ROOM_KEY = "SELECT coalesce(max(room_key), 0) + 1 FROM rooms"


def prefill(path: str, messages: int, clock: Clock, *, has_words: bool = False) -> None:
    """Makes the database if there is none. The messages are a tenant's of their own: about 100 characters each, which
    are one word, or words as people use them, some often, most seldom.

    Raises StoreError, DatabaseInUse, OSError, or sqlite3.Error when it cannot be written to.
    """
    check_usable(path)
    with DatabaseLock(path):
        asyncio.run(_migrate(path, clock))
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for pragma in _FAST:
                connection.execute(pragma)
            _fill(connection, messages, clock.now_us(), _insert_messages(_WORDS if has_words else _CONTENT))
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("PRAGMA optimize")


async def _migrate(path: str, clock: Clock) -> None:
    store = await open_store(path, synchronous="normal", readers=1, clock=clock)
    await store.close()


def _fill(connection: sqlite3.Connection, messages: int, now_us: int, insert_messages: str) -> None:
    rooms = max(1, messages // MESSAGES_PER_ROOM)
    (room_key,) = connection.execute(_ROOM_KEY).fetchone()
    tenant = {
        "tenant_id": f"tenant_{secrets.token_hex(12)}",
        "token_secret": secrets.token_hex(32),
        "now_us": now_us,
        "epoch": make_epoch(),
    }
    (tenant_key,) = connection.execute(_INSERT_TENANT, tenant).fetchone()
    shape: dict[str, object] = {
        "tenant_key": tenant_key,
        "room_key": room_key,
        "rooms": rooms,
        "oldest_us": now_us - AGE_US,
        "step_us": max(1, AGE_US // (messages + 1)),
        "content": "x" * CONTENT_CHARACTERS,
    }
    connection.execute(_INSERT_ROOMS, {**shape, "first": 0, "after": rooms})
    connection.execute(_INSERT_MEMBERS, {**shape, "first": 0, "after": rooms * USERS_PER_ROOM})
    connection.execute(_INDEX_AGAIN)
    for first in range(0, messages, CHUNK_ROWS):
        connection.execute(insert_messages, {**shape, "first": first, "after": min(first + CHUNK_ROWS, messages)})


def main() -> None:
    parser = argparse.ArgumentParser(description="Fills a database with messages of a tenant of their own.")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("messages", metavar="MESSAGES", type=int)
    parser.add_argument("--words", action="store_true", help="texts of many words instead of one")
    args = parser.parse_args()
    try:
        prefill(args.file, args.messages, Clock(), has_words=args.words)
    except (StoreError, DatabaseInUse) as error:
        sys.exit(str(error))
    except (sqlite3.Error, OSError) as error:
        sys.exit(f"cannot write the database {args.file}: {error}")


if __name__ == "__main__":
    main()
