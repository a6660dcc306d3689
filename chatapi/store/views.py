"""A member's own view of a room in SQL: how they are told of messages while offline, and whether they have hidden it.

A hidden room has the room's last `seq` of that moment in `members.hidden_seq`: it stays hidden until a message of
somebody else comes after that. So no message has to be noted for each member who has hidden its room.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chatapi.models import NotifyLevel, RoomKey, TenantKey, UserId
from chatapi.store.readers import Readers
from chatapi.store.rooms import IS_HIDDEN
from chatapi.store.transaction import Transaction
from chatapi.store.writes import MessageWrite, Statement

_GET = f"""
    SELECT m.notify, {IS_HIDDEN} FROM members AS m CROSS JOIN rooms AS r
    WHERE m.room_key = :room_key AND m.user_id = :user_id AND m.tenant_key = :tenant_key AND r.room_key = m.room_key
"""
_SET_NOTIFY = """
    UPDATE members SET notify_before = notify, notify = :notify, notify_key = :now_key
    WHERE room_key = :room_key AND user_id = :user_id AND tenant_key = :tenant_key
"""
_SET_HIDDEN = """
    UPDATE members SET hidden_seq = :hidden_seq
    WHERE room_key = :room_key AND user_id = :user_id AND tenant_key = :tenant_key
"""
# `other_seq` is null if all the new messages are of the newest one's sender.
NOTE_POST = """
    UPDATE rooms SET
        other_posted_seq = coalesce(:other_seq, iif(poster IS :sender_id, other_posted_seq, posted_seq)),
        poster = :sender_id, posted_seq = :seq
    WHERE room_key = :room_key
"""
# The next rooms of a user, after a room_key, that they have hidden at some time, and whether each is hidden now.
_LIST_HIDDEN = f"""
    SELECT m.room_key, {IS_HIDDEN}
    FROM members AS m INDEXED BY members_hidden CROSS JOIN rooms AS r ON r.room_key = m.room_key
    WHERE m.tenant_key = :tenant_key AND m.user_id = :user_id AND m.hidden_seq IS NOT NULL AND m.room_key > :after_key
    ORDER BY m.room_key LIMIT :limit
"""

HIDDEN_ROOMS = 500  # per statement


class View(NamedTuple):
    notify: NotifyLevel
    hidden: bool


class Post(NamedTuple):
    """Of some messages the newest one, and the newest one of another sender, if there is one."""

    seq: int
    sender_id: str
    other_seq: int | None


async def get_view(transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, user_id: UserId) -> View:
    """That of a member."""
    scope = {"tenant_key": tenant_key, "room_key": room_key, "user_id": user_id}
    row = await transaction.fetch_one(_GET, scope)
    assert row is not None  # a member
    return View(NotifyLevel(row[0]), bool(row[1]))


async def set_notify(
    transaction: Transaction,
    tenant_key: TenantKey,
    room_key: RoomKey,
    user_id: UserId,
    notify: NotifyLevel,
    now_key: int,
) -> None:
    """`now_key`: greater than those of all messages up to now."""
    scope = {"tenant_key": tenant_key, "room_key": room_key, "user_id": user_id}
    await transaction.execute(_SET_NOTIFY, {**scope, "notify": notify, "now_key": now_key})


async def set_hidden(
    transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, user_id: UserId, hidden_seq: int | None
) -> None:
    """`hidden_seq`: the room's last one; None to show the room again."""
    scope = {"tenant_key": tenant_key, "room_key": room_key, "user_id": user_id}
    await transaction.execute(_SET_HIDDEN, {**scope, "hidden_seq": hidden_seq})


def list_statements(messages: Sequence[MessageWrite]) -> list[Statement]:
    """Statements to run beside these messages, all of rooms that somebody has hidden."""
    posts: dict[RoomKey, Post] = {}
    for write in messages:
        room_key = RoomKey(write.counter.room_key)
        other_seq = None
        if (before := posts.get(room_key)) is not None:
            other_seq = before.other_seq if before.sender_id == write.sender_id else before.seq
        posts[room_key] = Post(write.seq, write.sender_id, other_seq)
    return [(NOTE_POST, {"room_key": room_key, **post._asdict()}) for room_key, post in posts.items()]


async def list_hidden(readers: Readers, tenant_key: TenantKey, user_id: UserId) -> list[RoomKey]:
    """All rooms that the user has hidden; in steps, so that other requests have their turn in between."""
    found: list[RoomKey] = []
    scope: Mapping[str, object] = {"tenant_key": tenant_key, "user_id": user_id, "limit": HIDDEN_ROOMS}
    last_key: int | None = 0
    while last_key is not None:
        rows = await readers.fetch(_LIST_HIDDEN, {**scope, "after_key": last_key})
        found += [RoomKey(room_key) for room_key, is_hidden in rows if is_hidden]
        last_key = rows[-1][0] if len(rows) == HIDDEN_ROOMS else None
    return found
