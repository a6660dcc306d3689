"""The rooms in memory: loading and forgetting them.

A room is loaded when it is first needed and forgotten when nobody has needed it for a while. A room in memory is as
committed: it changes only when the committer publishes.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from heapq import merge
from typing import Any

from chatapi.batching import Batcher
from chatapi.clock import Clock
from chatapi.errors import ChatError, not_found
from chatapi.models import MemberState, Posting, RoomId, RoomKey, RoomType, TenantKey, TenantState, UserId
from chatapi.open_streams import OpenStream, OpenStreams
from chatapi.protocol.answers import Message
from chatapi.protocol.wire import encode_text
from chatapi.rankings import Rankings
from chatapi.ring import RING_BYTES, RING_EVENTS
from chatapi.room import RoomState
from chatapi.rules import Rules, load_posters, load_rules
from chatapi.store import Readers, log
from chatapi.store import rooms as store_rooms

ALL_RINGS_BYTES = 48 * 1024 * 1024  # of the process: beyond it the rings of the least recently active rooms are emptied
IDLE_ROOMS = 2_000  # rooms that nobody listens to are kept at most this many
IDLE_SECONDS = 300.0  # and forgotten no sooner than this after their last use, so that no request still holds one
FILL_BATCH = 64  # rings per trip to a reader: 16 MiB where messages are long
LOAD_BATCH = 128  # rooms per query, about 1 ms of a reader's time: more would make the others of a storm wait
ROOMS_PER_STEP = 5_000  # rooms looked at at a stretch: about 1 ms of the loop's time
MEMBERS_PER_STEP = 2_000  # members read and made at a stretch: about 2 ms of a reader's time, and of the loop's
LARGE_MEMBERS = 2_000  # a room with more is loaded by itself, so that nobody else's rooms wait for its members


RoomAddress = tuple[TenantState, str]
"""A tenant, and the id of one of its rooms."""


class Rooms:
    """The loaded rooms of all tenants. One object per room, ever: two would give the same `seq` twice."""

    def __init__(self, readers: Readers, clock: Clock, memory_share: float = 1.0) -> None:
        """Their rings take up to that share of `ALL_RINGS_BYTES`."""
        self._memory_share = memory_share
        self._readers = readers
        self._clock = clock
        # By tenant and id; those that were active since they were loaded come last, the latest at the end.
        self._loaded: dict[TenantKey, OrderedDict[str, RoomState]] = {}
        self._newest_us = 0  # `active_us` of the room that was last active
        self._before_us = 0  # that was it before the commit that is published
        self._stored_us = 0  # and the time with which its change was stored
        self._loads: Batcher[RoomAddress, tuple[RoomState | None, bool]] = Batcher(
            partial(self._load, False), LOAD_BATCH, lambda address: address[0]
        )
        self._large_loads: Batcher[RoomAddress, tuple[RoomState | None, bool]] = Batcher(
            partial(self._load, True), 1, lambda address: address[0]
        )
        # Of each load under way: the rooms being read, and what retention removed of them meanwhile.
        self._loading: list[dict[tuple[TenantKey, str], int]] = []
        self._fills: Batcher[RoomState, None] = Batcher(
            self._fill_rings, max(1, int(FILL_BATCH * memory_share)), lambda room: room.tenant
        )
        self._ring_bytes = 0
        self.rankings = Rankings()
        self.streams = OpenStreams()

    def __len__(self) -> int:
        return sum(map(len, self._loaded.values()))

    def find_loaded(self, tenant_key: TenantKey, room_id: str) -> RoomState | None:
        """The room if it is in memory: no await, for the hot path."""
        rooms = self._loaded.get(tenant_key)
        room = None if rooms is None else rooms.get(room_id)
        if room is not None:
            room.used_at_s = self._clock.monotonic_s()
        return room

    async def get(self, tenant: TenantState, room_id: str) -> RoomState:
        """The tenant's room, loaded if need be. Raises ChatError NOT_FOUND."""
        room = self.find_loaded(tenant.tenant_key, room_id)
        if room is None:
            room, is_large = await self._loads.get((tenant, room_id))
            if is_large:
                room, _ = await self._large_loads.get((tenant, room_id))
        if room is None or room.gone:
            raise tenant.away or not_found("Room")
        return room

    async def load_many(self, tenant: TenantState, room_ids: Iterable[str]) -> None:
        """Loads those of the tenant's rooms that are not in memory; afterwards `find_loaded` finds all that exist."""
        loaded = self._loaded.get(tenant.tenant_key, ())
        missing = [(tenant, room_id) for room_id in room_ids if room_id not in loaded]
        if missing:
            loads = await self._loads.get_many(missing)
            await self._large_loads.get_many(
                [address for address, (_, is_large) in zip(missing, loads, strict=True) if is_large]
            )

    def adopt(self, room: RoomState) -> RoomState:
        """Takes a room that was read. Returns the one object for it, which is another one if the room was read twice at
        once."""
        rooms = self._loaded.setdefault(room.tenant.tenant_key, OrderedDict())
        found = rooms.setdefault(room.room_id, room)
        if found is room:
            rooms.move_to_end(room.room_id, last=False)
            room.ring.streams = self.streams.of_room(room.room_key)
        found.used_at_s = self._clock.monotonic_s()
        return found

    def add(self, room: RoomState) -> RoomState:
        """Takes a room that was just created, which is its first activity. See `adopt`."""
        room = self.adopt(room)
        self._note_activity(room, room.created_at_us)
        return room

    def drop(self, room: RoomState) -> None:
        """Forgets a room that was deleted: from now on nothing is written through this object."""
        self._forget(room)
        self.streams.remove_room(room.room_key)
        self.rankings.drop(room.tenant.tenant_key, room.room_key, room.members)

    def drop_tenant(self, tenant_key: TenantKey) -> None:
        """As `drop` of all its rooms."""
        for room in self._loaded.pop(tenant_key, {}).values():
            room.gone = True
            self._ring_bytes -= room.ring.size_bytes
        self.rankings.drop_tenant(tenant_key)
        self.streams.remove_tenant(tenant_key)

    def _forget(self, room: RoomState) -> None:
        room.gone = True
        self._ring_bytes -= room.ring.size_bytes
        rooms = self._loaded[room.tenant.tenant_key]
        del rooms[room.room_id]
        if not rooms:
            del self._loaded[room.tenant.tenant_key]

    def prune(self, tenant_key: TenantKey, room_id: str, last_seq: int) -> None:
        """Retention has removed the beginning of this room's log, up to `last_seq`."""
        for pruned in self._loading:
            if (tenant_key, room_id) in pruned:
                pruned[tenant_key, room_id] = last_seq
        rooms = self._loaded.get(tenant_key)
        room = None if rooms is None else rooms.get(room_id)
        if room is not None:
            room.pruned_seq = last_seq
        self.streams.prune(tenant_key, room_id, last_seq)

    def open_stream(self, room: RoomState, message: Message) -> None:
        """A message was stored that is still to be written."""
        stream = OpenStream(room.tenant, room.room_key, message, self._clock.monotonic_s())
        room.ring.streams = self.streams.add(stream)

    def end_stream(self, room: RoomState, message: Message, error: ChatError) -> None:
        """The message is written, if it was an open stream: appends to it that still wait fail."""
        stream = self.streams.find(room.room_key, message.message_id)
        if stream is not None:
            self.streams.remove(stream, error)

    def of_tenant(self, tenant_key: TenantKey) -> list[RoomState]:
        """The loaded ones, as a copy: rooms come and go during an await."""
        return list(self._loaded[tenant_key].values()) if tenant_key in self._loaded else []

    def count_per_tenant(self) -> Mapping[TenantKey, int]:
        """Only the loaded ones; a tenant without any is absent."""
        return {tenant_key: len(rooms) for tenant_key, rooms in self._loaded.items()}

    def see(self, us: int) -> None:
        """A room was active then, before it was loaded. All activity from now on is later."""
        self._newest_us = max(self._newest_us, us)

    @property
    def newest_us(self) -> int:
        """When any room was last active. Later activity has a greater `active_us`."""
        return self._newest_us

    def active_since(self, tenant_key: TenantKey, us: int, most: int) -> list[RoomState] | None:
        """The loaded rooms that were active after that, the most recent first; None if they are more than `most`."""
        found: list[RoomState] = []
        for room in reversed(self._loaded.get(tenant_key, {}).values()):
            if room.active_us <= us:
                break
            if len(found) == most:
                return None
            found.append(room)
        return found

    def remember(self, room: RoomState, frame: bytes, message_seq: int = 0, at_us: int | None = None) -> None:
        """The room's next event, as it was encoded, and the time in its row, by default that of the change.
        `message_seq` is that of the message which it shows as that now stands, and 0 for other events."""
        self._note_activity(room, self._stored_us if at_us is None else at_us)
        self.remember_quiet(room, frame, message_seq)

    def remember_quiet(self, room: RoomState, frame: bytes, message_seq: int = 0) -> None:
        """As `remember`, of an event that does not count as activity of the room."""
        ring = room.ring
        before = ring.size_bytes
        ring.append(frame, message_seq)
        self._ring_bytes += ring.size_bytes - before
        if self._ring_bytes > ALL_RINGS_BYTES * self._memory_share:
            self._empty_rings(ALL_RINGS_BYTES * self._memory_share / 2)

    def begin_commit(self) -> None:
        """All activity until the next call is of one commit, and published without a pause."""
        self._before_us = self._newest_us

    def begin_change(self, stored_us: int) -> None:
        self._stored_us = stored_us

    def _note_activity(self, room: RoomState, at_us: int) -> None:
        # Lists are paged by it. It is later than all activity of earlier commits, also when the clock was set back.
        # Else it is what a restart would read, or the server to which the tenant moves.
        room.active_us = max(at_us, self._before_us + 1, room.active_us)
        self._newest_us = max(self._newest_us, room.active_us)
        self._loaded[room.tenant.tenant_key].move_to_end(room.room_id)

    def replace_message(self, room: RoomState, message_seq: int, encode: Callable[[int, bytes], bytes]) -> None:
        """A message was edited or deleted, or has ended; see `Ring.replace`."""
        self._ring_bytes -= room.ring.size_bytes
        room.ring.replace(message_seq, encode)
        self._ring_bytes += room.ring.size_bytes

    def annotate(self, room: RoomState, message_seq: int, annotations: bytes) -> None:
        """Others have added something to a message, or taken it back; see `Ring.annotate`."""
        self._ring_bytes -= room.ring.size_bytes
        room.ring.annotate(message_seq, annotations)
        self._ring_bytes += room.ring.size_bytes

    def empty_rings(self) -> None:
        """Forgets what can be read again from the store: memory is low."""
        self._empty_rings(0)

    def _empty_rings(self, kept_bytes: float) -> None:
        """Empties rings, those of the least recently active rooms first."""
        for room in merge(*(rooms.values() for rooms in self._loaded.values()), key=lambda room: room.active_us):
            if self._ring_bytes <= kept_bytes:
                return
            self._ring_bytes -= room.ring.size_bytes
            room.ring.clear()

    async def forget_idle(self) -> None:
        """Forgets rooms when there are more than `IDLE_ROOMS` that nobody listens to. Called now and then."""
        idle: list[RoomState] = []
        for tenant_key in list(self._loaded):
            for step, room in enumerate(self.of_tenant(tenant_key), start=1):
                if room.is_idle:
                    idle.append(room)
                if step % ROOMS_PER_STEP == 0:
                    await asyncio.sleep(0)
        long_ago_s = self._clock.monotonic_s() - IDLE_SECONDS
        spare = len(idle) - IDLE_ROOMS
        for step, room in enumerate(idle, start=1):
            if spare <= 0:
                return
            if room.is_idle and room.used_at_s < long_ago_s and not room.gone:
                self._forget(room)
                self.rankings.forget_until(room.tenant.tenant_key, room.active_us)
                spare -= 1
            if step % ROOMS_PER_STEP == 0:
                await asyncio.sleep(0)

    async def fill_ring(self, room: RoomState) -> None:
        """Reads the newest `RING_EVENTS` events of the room into its ring, or as many as it takes; many rooms share one
        trip to a reader."""
        if room.ring.size_bytes < RING_BYTES // 2:  # else it holds few events, since they are long
            await self._fills.get(room)

    async def _fill_rings(self, rooms: Sequence[RoomState]) -> list[None]:
        wants = []
        for room in rooms:
            last_seq = room.ring.first_seq - 1
            first_wanted = max(room.pruned_seq, room.published_seq - RING_EVENTS)
            wants.append(log.EventsWant(room.room_key, room.tenant.tenant_key, min(first_wanted, last_seq), last_seq))
        versions = [room.ring.version for room in rooms]
        pages = await log.read_newest_events(self._readers, wants, RING_BYTES)
        for room, version, page in zip(rooms, versions, pages, strict=True):
            ring = room.ring
            if room.gone:
                continue
            # Meanwhile the ring may have dropped entries, or an entry may have changed: then it is read again later.
            if page and ring.first_seq == page[-1].seq + 1 and ring.version == version:
                self._ring_bytes -= ring.size_bytes
                ring.fill(
                    [encode_text(event.json) for event in page],
                    [event.message_seq for event in page],
                    {event.seq: event.annotations for event in page if event.annotations},
                )
                self._ring_bytes += ring.size_bytes
        if self._ring_bytes > ALL_RINGS_BYTES * self._memory_share:
            self._empty_rings(ALL_RINGS_BYTES * self._memory_share / 2)
        return [None] * len(rooms)

    async def _load(self, with_large: bool, addresses: Sequence[RoomAddress]) -> list[tuple[RoomState | None, bool]]:
        """For each address the room, if it exists, and whether it is a large one, whose members take long to read."""
        tenants = {tenant.tenant_key: tenant for tenant, _ in addresses}
        keys = [(tenant.tenant_key, room_id) for tenant, room_id in addresses]
        # One that the batch before has loaded may be deleted while this one is read: it must not come back.
        pruned = {key: 0 for key in keys if key[1] not in self._loaded.get(key[0], ())}
        self._loading.append(pruned)
        try:
            rows = await store_rooms.load_rooms(self._readers, list(pruned))
            found = [(self._read_room(tenants[row[1]], row[:-1]), row[-1]) for row in rows]
            small = [(room, count) for room, count in found if count <= LARGE_MEMBERS]
            large = [room for room, count in found if count > LARGE_MEMBERS]
            await self._load_members(small)
            for room in large if with_large else ():
                await self._load_many_members(room)
            for room, _ in found:
                if room.rules is not None and (with_large or room not in large):
                    await load_rules(self._readers, room, room.rules)
        finally:
            self._loading.remove(pruned)
        for room in [room for room, _ in small] + (large if with_large else []):
            room.pruned_seq = max(room.pruned_seq, pruned[room.tenant.tenant_key, room.room_id])
            if not room.tenant.gone:  # meanwhile; the rows are purged later
                self.adopt(room)
        are_large = {(room.tenant.tenant_key, room.room_id) for room in large if not with_large}
        return [(self.find_loaded(*key), key in are_large) for key in keys]

    async def _load_members(self, rooms: Sequence[tuple[RoomState, int]]) -> None:
        """Rooms share a statement as long as they have few members together."""
        waiting: dict[RoomKey, RoomState] = {}
        size = 0
        for index, (room, count) in enumerate(rooms, start=1):
            waiting[room.room_key] = room
            size += count
            if size >= MEMBERS_PER_STEP or index == len(rooms):
                for row in await store_rooms.load_members(self._readers, list(waiting)):
                    waiting[row[0]].add_member(*store_rooms.read_member(row))
                waiting, size = {}, 0

    async def _load_many_members(self, room: RoomState) -> None:
        last: MemberState | None = None
        while True:
            rows = await store_rooms.load_members_after(self._readers, room.room_key, last, MEMBERS_PER_STEP)
            for row in rows:
                last, is_hidden = store_rooms.read_member(row)
                room.add_member(last, is_hidden)
            if len(rows) < MEMBERS_PER_STEP:
                return

    def _read_room(self, tenant: TenantState, row: tuple[Any, ...]) -> RoomState:
        """Without its members, and with its rules as far as they are in the room's row."""
        room_key, _, room_id, room_type, unique_key, name, metadata, created_by, created_us, updated_us = row[:10]
        pruned_seq, last_seq, last_mention_seq, posting, slow_mode_seconds, has_rules = row[10:]
        room = RoomState(
            tenant=tenant,
            room_key=RoomKey(room_key),
            room_id=RoomId(room_id),
            room_type=RoomType(room_type),
            unique_key=unique_key,
            name=name,
            metadata=metadata,
            created_by=UserId(created_by),
            created_at_us=created_us,
            updated_at_us=updated_us,
            pruned_seq=pruned_seq,
            last_seq=last_seq,
            last_mention_seq=last_mention_seq,
        )
        if has_rules:
            rules = self.rules_of(room)
            rules.posting, rules.slow_mode_seconds = Posting(posting), slow_mode_seconds
            rules.is_blocked = room.type is RoomType.DM  # which can have no other rule
        return room

    # Rules

    def rules_of(self, room: RoomState) -> Rules:
        """The room's rules, made if it has none yet."""
        if room.rules is None:
            room.rules = Rules(self._clock)
        return room.rules

    def set_posting(self, room: RoomState, posting: Posting, slow_mode_seconds: int) -> None:
        """A room with the defaults needs no rules for them."""
        if room.posting is posting and room.slow_mode_seconds == slow_mode_seconds and room.rules is None:
            return
        rules = self.rules_of(room)
        rules.posting, rules.slow_mode_seconds = posting, slow_mode_seconds
        if slow_mode_seconds:
            rules.follow_posters(slow_mode_seconds)
        else:
            rules.posters = None

    async def load_posters(self, room: RoomState, seconds: int) -> None:
        """Call it before a change to slow mode, which counts from each member's last message, also one from before."""
        await load_posters(self._readers, room, self.rules_of(room), seconds)
