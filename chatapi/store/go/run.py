"""One run of an import: the state that its parts share, and the report of its work."""

import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from chatapi.clock import Clock
from chatapi.store.keys import KeyMaker

BAD_USER_ID = "the user id is not 1 to 128 characters of printable ASCII without spaces"
BAD_ID = "the id is empty or too long"
NO_TENANT = "of a tenant that does not exist or was skipped"
NO_ROOM = "there is no such room of their tenant, or it was skipped"
DELETED = "deleted here since"
HAPPENED = "in the meantime something else has happened in their room here"
WRAPPED = "had something else than a JSON object as metadata: it is kept in one, as `imported`"

_COUNTS = {
    "tenants": "SELECT count(*) FROM old_tenants",
    "API keys": "SELECT count(*) FROM old_tenants",
    "rooms": "SELECT count(*) FROM old_rooms",
    "members": "SELECT count(*) FROM old_members",
    "messages": "SELECT count(*) FROM old_messages",
    "acks": "SELECT count(*) FROM old_acks",
    "subscriptions": "SELECT count(*) FROM old_subscriptions",
    "notifications": "SELECT count(*) FROM old_notifications",
}


_CREATE_MAPS = (
    """
    CREATE TEMP TABLE tenant_map (tenant_id TEXT PRIMARY KEY, tenant_key INTEGER NOT NULL, is_new INTEGER NOT NULL)
    """,
    # Open is a room that is new, or in which nothing has happened since it was imported.
    """
    CREATE TEMP TABLE room_map (
        room_id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, tenant_key INTEGER NOT NULL, room_key INTEGER NOT NULL,
        created_at_us INTEGER NOT NULL, last_seq INTEGER NOT NULL, is_open INTEGER NOT NULL, is_new INTEGER NOT NULL
    )
    """,
)


@dataclass(slots=True)
class Count:
    found: int
    imported: int = 0
    skipped: int = 0

    @property
    def present(self) -> int:
        """The rows that were here already."""
        return self.found - self.imported - self.skipped


@dataclass(slots=True)
class ImportReport:
    counts: dict[str, Count] = field(default_factory=dict)
    remarks: Counter[tuple[str, str]] = field(default_factory=Counter)  # (kind, what about them) → how many

    def skip(self, kind: str, reason: str, number: int = 1) -> None:
        if number:
            self.counts[kind].skipped += number
            self.remarks[kind, f"skipped: {reason}"] += number

    def remark(self, kind: str, what: str, number: int = 1) -> None:
        if number:
            self.remarks[kind, what] += number


@dataclass(frozen=True, slots=True)
class CredentialMakers:
    """How they are made and hashed, which is the business of those who check them."""

    make_key_id: Callable[[], str]
    make_token_secret: Callable[[], str]
    hash_key: Callable[[str], bytes]


class _RowClock(Clock):
    """Shows the time of the row at hand, so that `KeyMaker` makes keys of the past; never a time to come, which would
    push all later keys ahead of the clock."""

    def __init__(self, clock: Clock) -> None:
        self._latest_us = clock.now_us()
        self._now_us = 0

    def set(self, time_us: int) -> None:
        self._now_us = min(time_us, self._latest_us)

    def now_us(self) -> int:
        return self._now_us


class Run:
    """Inside one transaction of `connection`, to which the old database is attached."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock, credentials: CredentialMakers) -> None:
        self.connection = connection
        self.credentials = credentials
        self.now_us = clock.now_us()
        self._row_clock = _RowClock(clock)
        self.report = ImportReport({kind: Count(self.number(sql)) for kind, sql in _COUNTS.items()})
        for statement in _CREATE_MAPS:
            connection.execute(statement)

    def number(self, sql: str) -> int:
        return int(self.connection.execute(sql).fetchone()[0])

    def make_keys(self, last_key: int) -> Callable[[int], int]:
        """A function that makes a row's key from its time in microseconds, for rows in the order of their times.
        Every key is greater than the one before and than `last_key`."""
        keys = KeyMaker(self._row_clock, last_key)

        def make_key(time_us: int) -> int:
            self._row_clock.set(time_us)
            return keys.next_key()

        return make_key
