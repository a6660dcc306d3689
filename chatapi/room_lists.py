"""`GET /rooms`: a user's rooms by their last activity, and what is unread in each.

A page costs its own rooms, however many the user has and whatever is unread in them. Their order and the counts are
kept in memory (`rankings`). An order or a count that is not there is read in steps of a few milliseconds, so that other
requests have their turn in between.
"""

from collections.abc import Sequence

from chatapi.models import Principal, RoomKey, TenantKey, UserId
from chatapi.protocol.fields import MAX_UNREAD
from chatapi.protocol.json import MAX_INTEGER
from chatapi.protocol.pages import Page, Value, Window
from chatapi.rankings import Ranking, Unread
from chatapi.rooms import Rooms
from chatapi.store import Readers
from chatapi.store import mentions as store_mentions
from chatapi.store import rooms as store_rooms
from chatapi.store import views as store_views
from chatapi.store.mentions import CountWant
from chatapi.store.rooms import Counted, ListedRoom, RankedRoom

RANKED_ROOMS = 500  # per statement: about 2 ms of a reader's time
EXAMINED_MESSAGES = 10_000  # per statement, of all its rooms together, to count what is unread: about 3 ms
KEPT_MESSAGES = 50  # a count of fewer is not worth its memory
CAUGHT_UP_ROOMS = 5_000  # active since a ranking was last asked for; for more, ranking the rooms again is cheaper

NOTHING = Counted(0, 0, 0)
ROOMS_START: Sequence[Value] = (0, 0, 0, "")
"""A sort key: when the newest room was active as the paging began, whether those come that were active since, when this
room was active, and its id. Not its key, which is another one once the tenant has moved to another server."""


class RoomLists:
    def __init__(self, readers: Readers, rooms: Rooms) -> None:
        self._readers = readers
        self._rooms = rooms

    async def list_page(self, principal: Principal, window: Window, *, with_hidden: bool = False) -> Page:
        """The caller's rooms, the most recently active first; those that they have hidden only on request.

        A room that becomes active moves to the front, where those who page on will not look again. So a cursor keeps
        when the newest room was active as its paging began: after all that have been quiet since then come those that
        have not, in an order that they do not change any more. Some of them were there before; none is left out.
        """
        tenant_key, user_id = principal.tenant.tenant_key, principal.user_id
        ranking = await self._get_ranking(tenant_key, user_id)
        began_us, found = _find_ranked(ranking if with_hidden else ranking.shown(), window)
        items, was_full = await self._read(tenant_key, user_id, ranking, found[: window.limit])
        if not was_full and len(found) <= window.limit:
            return Page(items, None)
        last = found[len(items) - 1 if was_full else window.limit - 1]
        return Page(items, (began_us, int(last.active_us > began_us), last.active_us, last.room_id))

    async def _get_ranking(self, tenant_key: TenantKey, user_id: UserId) -> Ranking:
        ranking = self._rooms.rankings.find(tenant_key, user_id)
        if ranking is None or not self._catch_up(tenant_key, ranking):
            ranking = await self._make_ranking(tenant_key, user_id)
            self._catch_up(tenant_key, ranking)
        return ranking

    def _catch_up(self, tenant_key: TenantKey, ranking: Ranking) -> bool:
        """Brings the ranking up to date, or says that too much has happened."""
        active = self._rooms.active_since(tenant_key, ranking.seen_us, CAUGHT_UP_ROOMS)
        if active is None:
            return False
        ranking.put_all(
            [RankedRoom(room.active_us, room.room_id, room.room_key) for room in active if room.room_key in ranking]
        )
        ranking.seen_us = self._rooms.newest_us
        return True

    async def _make_ranking(self, tenant_key: TenantKey, user_id: UserId) -> Ranking:
        rankings = self._rooms.rankings
        ranking = rankings.begin(tenant_key, user_id, self._rooms.newest_us)
        last_key: RoomKey | None = RoomKey(0)
        while last_key is not None:
            ranked, last_key = await store_rooms.rank_rooms(self._readers, tenant_key, user_id, last_key, RANKED_ROOMS)
            ranking.put_all(ranked)
        for room_key in await store_views.list_hidden(self._readers, tenant_key, user_id):
            ranking.hidden.setdefault(room_key, True)  # unless it has changed meanwhile
        if ranking.ranked:
            self._rooms.see(ranking.ranked[-1].active_us)
        rankings.complete(ranking)
        return ranking

    async def _read(
        self, tenant_key: TenantKey, user_id: UserId, ranking: Ranking, ranked: Sequence[RankedRoom]
    ) -> tuple[list[bytes], bool]:
        """These rooms, as JSON, and whether the page was full before the last one."""
        if not ranked:
            return [], False
        versions = {room.room_key: self._rooms.rankings.version(room.room_key) for room in ranked}
        known = {
            room_key: unread
            for room_key, version in versions.items()
            if (unread := ranking.unread.get(room_key)) is not None and unread.version == version
        }
        wanted = [(room_key, known[room_key].seq if room_key in known else 0) for room_key in versions]
        examined = max(1, EXAMINED_MESSAGES // len(wanted))
        rooms, was_full = await store_rooms.list_rooms(self._readers, tenant_key, user_id, wanted, examined)
        counting = [_Counting(room, known.get(room.room_key), versions[room.room_key], examined) for room in rooms]
        await self._count_rest(tenant_key, user_id, counting)
        for count in counting:
            count.keep(ranking)
        mentions = await self._count_mentions(tenant_key, user_id, rooms)
        return [
            b'%s,"unread_count":%d,"unread_mentions":%d}'
            % (count.room.item[:-1], min(count.unread, MAX_UNREAD), mentions.get(count.room.room_key, 0))
            for count in counting
        ], was_full

    async def _count_mentions(
        self, tenant_key: TenantKey, user_id: UserId, rooms: Sequence[ListedRoom]
    ) -> dict[RoomKey, int]:
        """Rooms without any are left out, most of them without a look."""
        wants = [CountWant(room.room_key, room.last_read, MAX_INTEGER) for room in rooms if room.may_have_mentions]
        return await store_mentions.count_unread(self._readers, tenant_key, user_id, wants) if wants else {}

    async def _count_rest(self, tenant_key: TenantKey, user_id: UserId, counting: Sequence["_Counting"]) -> None:
        while unfinished := {count.room.room_key: count for count in counting if not count.is_done}:
            wanted = [(room_key, count.seq) for room_key, count in unfinished.items()]
            examined = max(1, EXAMINED_MESSAGES // len(wanted))
            counted = await store_rooms.count_unread(self._readers, tenant_key, user_id, wanted, examined)
            for room_key, count in unfinished.items():
                count.add(counted.get(room_key, NOTHING), examined)


def _find_ranked(ranking: Ranking, window: Window) -> tuple[int, Sequence[RankedRoom]]:
    """When the newest room was active as the paging began, and one room more than the page holds, if there is one."""
    most = window.limit + 1
    if window.after is None:
        return ranking.ranked[-1].active_us if ranking.ranked else 0, ranking.latest(window.offset, most)
    began_us, is_moved, active_us = map(int, window.after[:3])
    room_id = str(window.after[3])
    if is_moved:
        return began_us, ranking.active_after(began_us, room_id, most)
    quiet = ranking.before(active_us, room_id, most)
    return began_us, [*quiet, *ranking.active_after(began_us, "", most - len(quiet))]


class _Counting:
    """The number of unread messages in one room, counted up to `seq`."""

    def __init__(self, room: ListedRoom, known: Unread | None, version: int, examined: int) -> None:
        self.room = room
        self.version = version
        self.unread = 0
        self.seq = room.last_read
        self.is_done = False
        if known is None or known.seq <= room.last_read:
            self.add(room.counted, examined)
        elif (known.last_read, known.pruned_seq) == (room.last_read, room.pruned_seq):
            self.unread, self.seq = known.unread, known.seq
            self.add(room.counted, examined)
        # Else it was counted after `known.seq` only, and has to be counted again.

    def add(self, counted: Counted, examined: int) -> None:
        self.unread += counted.unread
        self.seq = max(self.seq, counted.seq)
        self.is_done = counted.examined < examined or self.unread >= MAX_UNREAD

    def keep(self, ranking: Ranking) -> None:
        """Keeps a long count for the next time."""
        room = self.room
        if room.room_key in ranking and self.seq - room.last_read > KEPT_MESSAGES:
            ranking.unread[room.room_key] = Unread(room.last_read, self.seq, self.unread, room.pruned_seq, self.version)
        else:
            ranking.unread.pop(room.room_key, None)
