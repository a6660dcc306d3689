"""The order of users' rooms, as `GET /rooms` lists them, and what was unread in them: kept for those who asked lately.

To rank 10,000 rooms by the newest event of each takes SQLite 15 ms or more, and to count what is unread as long as that
is: here both are done once, and then brought up to date with what has happened since.
"""

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import NamedTuple

from chatapi.models import RoomKey, TenantKey, UserId
from chatapi.store.rooms import RankedRoom

MAX_ENTRIES = 100_000  # rooms in all rankings: 30 MB
BASE_WEIGHT = 10  # the weight of a ranking without rooms, in entries
MAX_VERSIONS = 100_000  # rooms in which messages were deleted: 10 MB


class Unread(NamedTuple):
    """How many messages after `last_read` and up to `seq` are unread, as long as the other two are what they are."""

    last_read: int
    seq: int
    unread: int
    pruned_seq: int
    version: int


class Ranking:
    """The rooms of one user. `is_complete` once all of them are in it, as they were at `seen_us` or later."""

    def __init__(self, seen_us: int) -> None:
        self.ranked: list[RankedRoom] = []  # ascending
        self.unread: dict[RoomKey, Unread] = {}
        self.seen_us = seen_us
        self.is_complete = False
        self.weight = 0
        self._of_keys: dict[RoomKey, RankedRoom] = {}
        self.hidden: dict[RoomKey, bool] = {}  # whether the user has hidden a room; most are not in here

    def __contains__(self, room_key: RoomKey) -> bool:
        return room_key in self._of_keys

    def put(self, room: RankedRoom) -> None:
        """Adds a room, or moves it forward."""
        before = self._of_keys.get(room.room_key)
        if before is not None:
            if room <= before:
                return
            del self.ranked[bisect_left(self.ranked, before)]
        self._of_keys[room.room_key] = room
        insort(self.ranked, room)

    def put_all(self, rooms: Iterable[RankedRoom]) -> None:
        """As `put` of each."""
        for room in rooms:
            self._of_keys[room.room_key] = max(room, self._of_keys.get(room.room_key, room))
        self.ranked = sorted(self._of_keys.values())

    def drop(self, room_key: RoomKey) -> None:
        """Does nothing for a room that is not in it."""
        room = self._of_keys.pop(room_key, None)
        if room is not None:
            del self.ranked[bisect_left(self.ranked, room)]
            self.unread.pop(room_key, None)
            self.hidden.pop(room_key, None)

    def shown(self) -> "Ranking":
        """The rooms that the user has not hidden."""
        if not any(self.hidden.values()):
            return self
        shown = Ranking(self.seen_us)
        shown.ranked = [room for room in self.ranked if not self.hidden.get(room.room_key)]
        return shown

    def before(self, active_us: int, room_id: str, limit: int) -> list[RankedRoom]:
        """The next rooms that were active before this one, the latest first."""
        end = bisect_left(self.ranked, (active_us, room_id))
        return self.ranked[max(0, end - limit) : end][::-1]

    def latest(self, offset: int, limit: int) -> list[RankedRoom]:
        """The latest first."""
        end = max(0, len(self.ranked) - offset)
        return self.ranked[max(0, end - limit) : end][::-1]

    def active_after(self, us: int, after_id: str, limit: int) -> list[RankedRoom]:
        """The rooms that were active after `us`, in the order of their ids, those after `after_id`."""
        first = bisect_right(self.ranked, us, key=lambda room: room.active_us)
        chosen = [room for room in self.ranked[first:] if room.room_id > after_id]
        return sorted(chosen, key=lambda room: room.room_id)[:limit]


class Rankings:
    """The rankings of all users, of `MAX_ENTRIES` rooms in all: those of users who have not asked for long go first."""

    def __init__(self) -> None:
        self._of_users: OrderedDict[tuple[TenantKey, UserId], Ranking] = OrderedDict()  # the least recently asked first
        self._size = 0  # in entries, as each was when it was complete
        self._forgotten_us: dict[TenantKey, int] = {}  # `Rooms` no longer knows the activity until then
        self._versions: dict[RoomKey, int] = {}
        self._last_version = self._other_version = 0  # the latter of rooms that are not in there

    def find(self, tenant_key: TenantKey, user_id: UserId) -> Ranking | None:
        """The complete ranking, except for activity since `seen_us`; None if there is none."""
        ranking = self._of_users.get((tenant_key, user_id))
        if ranking is None or not ranking.is_complete or ranking.seen_us < self._forgotten_us.get(tenant_key, 0):
            return None
        self._of_users.move_to_end((tenant_key, user_id))
        return ranking

    def begin(self, tenant_key: TenantKey, user_id: UserId, seen_us: int) -> Ranking:
        """A ranking that is still to be filled; it hears of joins and departures meanwhile."""
        self._remove(tenant_key, user_id)
        ranking = self._of_users[tenant_key, user_id] = Ranking(seen_us)
        return ranking

    def complete(self, ranking: Ranking) -> None:
        """From now on `find` returns it, as long as there are not too many."""
        ranking.is_complete = True
        ranking.weight = len(ranking.ranked) + BASE_WEIGHT
        self._size += ranking.weight
        while self._size > MAX_ENTRIES and len(self._of_users) > 1:
            self._remove(*next(iter(self._of_users)))

    def _remove(self, tenant_key: TenantKey, user_id: UserId) -> None:
        ranking = self._of_users.pop((tenant_key, user_id), None)
        if ranking is not None:
            self._size -= ranking.weight

    def join(self, tenant_key: TenantKey, user_id: UserId, room: RankedRoom) -> None:
        ranking = self._of_users.get((tenant_key, user_id))
        if ranking is not None:
            ranking.put(room)

    def leave(self, tenant_key: TenantKey, user_id: UserId, room_key: RoomKey) -> None:
        ranking = self._of_users.get((tenant_key, user_id))
        if ranking is not None:
            ranking.drop(room_key)

    def set_hidden(self, tenant_key: TenantKey, user_id: UserId, room_key: RoomKey, is_hidden: bool) -> None:
        ranking = self._of_users.get((tenant_key, user_id))
        if ranking is not None:
            ranking.hidden[room_key] = is_hidden

    def show(self, tenant_key: TenantKey, room_key: RoomKey, user_ids: Collection[UserId]) -> None:
        """The room is hidden by these users no more."""
        if len(user_ids) < len(self._of_users):
            for user_id in user_ids:
                self.set_hidden(tenant_key, user_id, room_key, False)
        else:
            for (_, user_id), ranking in self._of_users.items():
                if user_id in user_ids and room_key in ranking:
                    ranking.hidden[room_key] = False

    def drop(self, tenant_key: TenantKey, room_key: RoomKey, members: Collection[UserId]) -> None:
        """The room was deleted."""
        if len(members) < len(self._of_users):
            for user_id in members:
                self.leave(tenant_key, user_id, room_key)
        else:
            for ranking in self._of_users.values():
                ranking.drop(room_key)
        self._versions.pop(room_key, None)

    def drop_tenant(self, tenant_key: TenantKey) -> None:
        for user in [user for user in self._of_users if user[0] == tenant_key]:
            self._remove(*user)

    def forget_until(self, tenant_key: TenantKey, us: int) -> None:
        """`Rooms` has forgotten a room that was active then."""
        self._forgotten_us[tenant_key] = max(us, self._forgotten_us.get(tenant_key, 0))

    def version(self, room_key: RoomKey) -> int:
        """Another one whenever a message of the room is deleted."""
        return self._versions.get(room_key, self._other_version)

    def void_counts(self, room_key: RoomKey) -> None:
        """A message of the room was deleted, so that earlier counts are void."""
        self._last_version += 1
        if len(self._versions) >= MAX_VERSIONS:
            self._versions.clear()
            self._other_version = self._last_version
        self._versions[room_key] = self._last_version
