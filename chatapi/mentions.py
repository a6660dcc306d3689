"""Mentions: whom a message may mention, the list of a user's, and how many of them are unread.

A mention of the room is stored once, however many members there are. Rooms and members in memory know only a bound: no
mention has a greater `seq`. Where a user has read as far, nothing is looked up.
"""

from collections.abc import AsyncIterator, Collection
from heapq import nlargest

from chatapi.access import Access
from chatapi.clock import Clock
from chatapi.errors import ChatError, forbidden, invalid
from chatapi.models import (
    NO_OPTIONAL_FIELDS,
    MemberState,
    OptionalFields,
    Principal,
    Role,
    RoomKey,
    RoomType,
    UserId,
    find_key,
)
from chatapi.protocol.answers import Message
from chatapi.protocol.fields import MAX_UNREAD, optional_fields_of
from chatapi.protocol.json import MAX_KEY
from chatapi.protocol.pages import Page, Window
from chatapi.room import RoomState
from chatapi.store import Readers
from chatapi.store import mentions as store
from chatapi.store.keys import find_key_time

ROOMS_PER_STEP = 500  # of a user, looked through for their mentions: about 2 ms of a reader's time
RECOUNTS = 5  # in a room where mentions are edited, or that the user reads on, all the while
DAY_US = 86_400_000_000
MENTIONS_START = (0,)
"""A sort key: the message's key."""


def check_mentions(
    room: RoomState,
    sender_id: UserId,
    given: Collection[str],
    optional: OptionalFields,
    before: OptionalFields = NO_OPTIONAL_FIELDS,
) -> None:
    """Judges the mentions that are written now; those that the message had `before` stay as they are.

    `given` is what the sender wrote, whose indexes an error names. Raises ChatError.
    """
    for index, user_id in enumerate(given):
        if user_id not in room.members and user_id not in before.mentions:
            raise invalid("Not a member of this room", f"mentions[{index}]")
    if optional.mention_room and not before.mention_room and not _may_mention_room(room, sender_id):
        raise forbidden("Only room admins may mention the whole room")


def _may_mention_room(room: RoomState, user_id: UserId) -> bool:
    return room.type is RoomType.DM or room.members[user_id].role is Role.ADMIN


def note_new_mentions(room: RoomState, message: Message) -> None:
    """The message is the room's newest. A count from before it is exact with what this adds (`UnreadMentions`)."""
    optional = optional_fields_of(message)
    _raise_bounds(room, message, optional)
    sender = room.members.get(UserId(message.sender_id))
    if optional.mention_room:
        room.new_mentions += 1
        if sender is not None:
            sender.new_mentions -= 1  # one's own mentions count nothing
    else:
        for user_id in optional.mentions:
            member = room.members.get(UserId(user_id))
            if member is not None and member is not sender:
                member.new_mentions += 1


def note_changed_mentions(room: RoomState, message: Message) -> None:
    """An older message has these mentions from now on: it was edited or deleted, or a stream has ended. Counts from
    before it are void: they may have seen it or not."""
    room.mentions_version += 1
    _raise_bounds(room, message, optional_fields_of(message))


def _raise_bounds(room: RoomState, message: Message, optional: OptionalFields) -> None:
    if optional.mention_room:
        room.last_mention_seq = max(room.last_mention_seq, message.seq)
    for user_id in optional.mentions:
        member = room.members.get(UserId(user_id))
        if member is not None and user_id != message.sender_id:
            member.last_mention_seq = max(member.last_mention_seq, message.seq)


class UnreadMentions:
    """The number of unread mentions in each of a user's rooms, all at one moment. A count is of the messages up to one
    seq; those that have come since are added from memory, so that a room in which users are mentioned all the while
    needs no second one."""

    def __init__(self, readers: Readers, principal: Principal) -> None:
        self._readers = readers
        self._tenant_key = principal.tenant.tenant_key
        self._user_id = principal.user_id
        # By room: the count less `_count_new` of then, and up to where it was read, and as which version of the room's
        # mentions it was counted.
        self._counted: dict[RoomState, tuple[int, int, int]] = {}
        self._missing: list[RoomState] = []
        self._recounts_left = RECOUNTS

    def find(self, room: RoomState, member: MemberState) -> int:
        """The count as it is now, as far as it is known; `is_complete` tells afterwards."""
        last_read = member.last_read
        if member.last_mention_seq <= last_read and room.last_mention_seq <= last_read:
            return 0
        counted = self._counted.get(room)
        if counted is None or counted[1:] != (last_read, room.mentions_version):
            self._missing.append(room)
        return 0 if counted is None else min(counted[0] + _count_new(room, member), MAX_UNREAD)

    @property
    def is_complete(self) -> bool:
        return not self._missing or not self._recounts_left

    async def count(self) -> None:
        """Counts again where `find` had no count of now."""
        rooms, self._missing = self._missing, []
        self._recounts_left -= 1
        wants, noted = [], []
        for room in rooms:
            member = room.members.get(self._user_id)
            if member is not None:
                wants.append(store.CountWant(room.room_key, member.last_read, room.published_seq))
                noted.append((room, member.last_read, room.mentions_version, _count_new(room, member)))
        counts = await store.count_unread(self._readers, self._tenant_key, self._user_id, wants)
        for room, last_read, version, new_before in noted:
            self._counted[room] = counts[room.room_key] - new_before, last_read, version


def _count_new(room: RoomState, member: MemberState) -> int:
    """The mentions of a member that have come since the room was loaded, or since they joined: only a difference of two
    of these says anything."""
    return room.new_mentions + member.new_mentions


class Mentions:
    """`GET /mentions`."""

    def __init__(self, readers: Readers, access: Access, clock: Clock) -> None:
        self._readers = readers
        self._access = access
        self._clock = clock

    async def list_page(self, principal: Principal, window: Window, before: str | None) -> Page:
        """The messages that mention the caller, in all rooms that they are in, the newest first: those before that
        message. Raises ChatError for one that is not known, or that the caller may not read."""
        before_key = MAX_KEY
        if window.after is not None:
            [before_key] = map(int, window.after)
        elif before is not None:
            before_key = await self._find_before(principal, before)
        newest = await self._find_newest(principal, before_key)
        # A page cannot have messages of more rooms than it has messages.
        rooms = nlargest(window.limit + 1, newest)
        return await store.list_page(self._readers, principal.tenant.tenant_key, principal.user_id, rooms, window.limit)

    async def _find_newest(self, principal: Principal, before_key: int) -> list[tuple[int, RoomKey]]:
        """The newest message of each room that mentions the caller, before that key."""
        found: list[tuple[int, RoomKey]] = []
        async for rooms in self._walk(principal, before_key):
            found += [(message_key, room_key) for room_key, message_key in rooms if message_key]
        return found

    async def _walk(self, principal: Principal, before_key: int) -> AsyncIterator[list[tuple[RoomKey, int]]]:
        """All rooms of the caller, some at a time."""
        tenant_key, user_id = principal.tenant.tenant_key, principal.user_id
        rooms: list[tuple[RoomKey, int]] = [(RoomKey(0), 0)]
        while rooms:
            rooms = await store.find_newest(
                self._readers, tenant_key, user_id, before_key, rooms[-1][0], ROOMS_PER_STEP
            )
            yield rooms
            if len(rooms) < ROOMS_PER_STEP:
                return

    async def _find_before(self, principal: Principal, message_id: str) -> int:
        message_key = find_key("msg_", message_id)
        if message_key is None:
            async for rooms in self._walk(principal, 0):
                found = await store.find_imported(self._readers, [room_key for room_key, _ in rooms], message_id)
                if found is not None:
                    return found
        elif self._is_past(principal, message_key) or await self._can_read(principal, message_key):
            return message_key
        raise invalid("No such message", "before")

    async def _can_read(self, principal: Principal, message_key: int) -> bool:
        """Whether there is a message with this key, perhaps a tombstone, in a room that the caller may read."""
        room_id = await store.find_room_of(self._readers, principal.tenant.tenant_key, message_key)
        if room_id is None:
            return False
        try:
            await self._access.access_reader(principal, room_id)
        except ChatError:
            return False
        return True

    def _is_past(self, principal: Principal, message_key: int) -> bool:
        """Retention has removed all messages of that time, and nothing is left before it."""
        days = principal.tenant.settings.retention_days
        return bool(days) and find_key_time(message_key) < self._clock.now_us() - int(days * DAY_US)
