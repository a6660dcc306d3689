"""History from memory: blocks of a room's messages as they were encoded, for users who scroll back.

A page from SQLite costs a trip to a reader's thread and 2 microseconds per message, each time; from a block neither.
"""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence

from chatapi.batching import Batcher
from chatapi.protocol.encoders import annotate, strip_type
from chatapi.room import RoomState
from chatapi.store import Readers, log

BLOCK_EVENTS = 64  # a page of 50 lies in one or two
CACHE_BYTES = 32 * 1024 * 1024
BLOCK_BYTES = 256 * 1024  # a larger block is not kept, nor read to its end: pages of it come from the store
ENTRY_BYTES = 200  # of the cache, beside the messages
BLOCKS_PER_QUERY = 8
MAX_BLOCKS = 4  # looked through for one page: where messages are that sparse, their own index is faster

BlockKey = tuple[RoomState, int]
"""The room, and which of its blocks: 0 holds the events up to `BLOCK_EVENTS`."""
Block = list[tuple[int, bytes]]
"""(seq, message as JSON), ascending."""


class HistoryCache:
    """At most `CACHE_BYTES` of blocks, or that share of it; the least recently read go first."""

    def __init__(self, readers: Readers, memory_share: float = 1.0) -> None:
        self._memory_share = memory_share
        self._readers = readers
        # The least recently read first. None stands for a block that is too large.
        self._blocks: OrderedDict[BlockKey, Block | None] = OrderedDict()
        self._size_bytes = 0
        self._reads: Batcher[BlockKey, Block | None] = Batcher(
            self._read_many, BLOCKS_PER_QUERY, lambda key: key[0].tenant
        )

    async def find_before(self, room: RoomState, before_seq: int, limit: int) -> tuple[list[bytes], bool] | None:
        """The newest `limit` messages before `before_seq` as JSON, ascending, and whether there are more; None when
        too many blocks would have to be looked through, or one of them is too large to be kept."""
        found: list[bytes] = []
        first_seq, seq = room.pruned_seq + 1, min(before_seq - 1, room.published_seq)
        for _ in range(MAX_BLOCKS):
            if seq < first_seq:
                return found[::-1], False
            number = (seq - 1) // BLOCK_EVENTS
            block = await self._get(room, number)
            if block is None:
                return None
            messages = block[bisect_left(block, (first_seq,)) : bisect_left(block, (seq + 1,))]
            found.extend([item for _, item in reversed(messages)])
            if len(found) > limit:
                return found[limit - 1 :: -1], True
            seq = number * BLOCK_EVENTS
        return None

    async def find_after(self, room: RoomState, after_seq: int, limit: int) -> tuple[list[bytes], bool] | None:
        """As `find_before`, of the oldest messages after `after_seq`."""
        found: list[bytes] = []
        seq = max(after_seq, room.pruned_seq) + 1
        for _ in range(MAX_BLOCKS):
            if seq > room.published_seq:
                return found, False
            number = (seq - 1) // BLOCK_EVENTS
            block = await self._get(room, number)
            if block is None:
                return None
            found.extend([item for _, item in block[bisect_left(block, (seq,)) :]])
            if len(found) > limit:
                return found[:limit], True
            seq = (number + 1) * BLOCK_EVENTS + 1
        return None

    def forget(self, room: RoomState, seq: int) -> None:
        """The message with this `seq` is read in another form from now on."""
        self._drop((room, (seq - 1) // BLOCK_EVENTS))

    def clear(self) -> None:
        """Memory is low."""
        self._blocks.clear()
        self._size_bytes = 0

    async def _get(self, room: RoomState, number: int) -> Block | None:
        if (room, number) not in self._blocks:
            return await self._reads.get((room, number))
        self._blocks.move_to_end((room, number))
        return self._blocks[room, number]

    async def _read_many(self, keys: Sequence[BlockKey]) -> list[Block | None]:
        wants, versions = [], []
        for room, number in keys:
            first_seq, last_seq = number * BLOCK_EVENTS, min((number + 1) * BLOCK_EVENTS, room.published_seq)
            wants.append(log.EventsWant(room.room_key, room.tenant.tenant_key, first_seq, last_seq))
            versions.append(room.ring.version)
        blocks: list[Block | None] = []
        pages = await log.read_annotated_events(self._readers, wants, BLOCK_BYTES)
        for key, want, version, page in zip(keys, wants, versions, pages, strict=True):
            is_cut = len(page) < want.to_seq - max(want.after_seq, key[0].pruned_seq)
            block = (
                None
                if is_cut
                else [
                    (event.seq, annotate(strip_type(event.json), event.annotations))
                    for event in page
                    if event.message_seq == event.seq
                ]
            )
            # Only a complete block is kept: a whole one in which nothing has changed while it was read, and no message
            # is still being written.
            if (
                (is_cut or len(page) == BLOCK_EVENTS)
                and key[0].ring.version == version
                and not key[0].gone
                and not any(want.after_seq < seq <= want.to_seq for seq in key[0].ring.streams)
            ):
                self._keep(key, block)
            blocks.append(block)
        return blocks

    def _keep(self, key: BlockKey, block: Block | None) -> None:
        self._drop(key)
        self._blocks[key] = block
        self._size_bytes += _size(block)
        while self._size_bytes > CACHE_BYTES * self._memory_share:
            self._drop(next(iter(self._blocks)))

    def _drop(self, key: BlockKey) -> None:
        if key in self._blocks:
            self._size_bytes -= _size(self._blocks.pop(key))


def _size(block: Block | None) -> int:
    """Includes the entry itself, so that there are not too many small blocks."""
    return ENTRY_BYTES + sum(len(item) for _, item in block or ())
