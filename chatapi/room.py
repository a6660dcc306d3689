"""A room in memory, with its members, its listeners, and its newest events as they were encoded."""

from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, TypeVar

from chatapi.models import MemberState, Posting, Role, RoomId, RoomKey, RoomType, TenantState, UserId, encode_time
from chatapi.protocol.answers import Room
from chatapi.protocol.json import encoded
from chatapi.protocol.server_frames import RoomFrame
from chatapi.ring import Ring
from chatapi.rules import Rules
from chatapi.store import SeqCounter

if TYPE_CHECKING:
    from chatapi.connection import Connection

NOBODY: frozenset[UserId] = frozenset()
FrameT = TypeVar("FrameT", bound=RoomFrame)


class RoomState:
    """A loaded room. `published_seq` is its newest event; `counter.last_seq` is ahead of it while events wait for their
    commit. Retention has removed the events up to `pruned_seq`."""

    __slots__ = (
        "active_us",
        "admins",
        "counter",
        "created_at_us",
        "created_by",
        "gone",
        "hidden_by",
        "last_mention_seq",
        "members",
        "mentions_version",
        "metadata",
        "name",
        "new_mentions",
        "pruned_seq",
        "published_seq",
        "ring",
        "room_id",
        "rules",
        "subscribers",
        "tenant",
        "type",
        "unique_key",
        "unsubscribed",
        "updated_at_us",
        "used_at_s",
    )

    def __init__(
        self,
        *,
        tenant: TenantState,
        room_key: RoomKey,
        room_id: RoomId,
        room_type: RoomType,
        unique_key: str | None,
        name: str | None,
        metadata: str | None,
        created_by: UserId,
        created_at_us: int,
        updated_at_us: int,
        pruned_seq: int = 0,
        last_seq: int = 0,
        last_mention_seq: int = 0,
    ) -> None:
        self.tenant = tenant
        self.room_id = room_id
        self.type = room_type
        self.unique_key = unique_key
        self.name = name
        self.metadata = metadata  # as JSON
        self.created_by = created_by
        self.created_at_us = created_at_us
        self.updated_at_us = updated_at_us
        self.pruned_seq = pruned_seq
        self.published_seq = last_seq
        self.last_mention_seq = last_mention_seq  # no message with a greater seq mentions the whole room
        self.counter = SeqCounter(room_key, last_seq)
        self.members: dict[UserId, MemberState] = {}  # the longest-standing first
        self.admins: set[UserId] = set()  # those of the members
        self.hidden_by: AbstractSet[UserId] = NOBODY  # those of the members who have hidden it
        self.mentions_version = 0  # grows when mentions of an older message change
        self.new_mentions = 0  # of the whole room, by messages that were sent since it was loaded
        self.subscribers: dict[Connection, None] = {}  # a set that keeps its order
        self.unsubscribed: dict[Connection, None] = {}  # of members; they hear of changes outside its log
        self.ring = Ring(last_seq + 1)
        self.rules: Rules | None = None  # none of the defaults is changed, and nobody muted
        self.gone = False  # deleted, or forgotten: nothing may be written through this object any more
        self.used_at_s = 0.0
        self.active_us = 0  # when its newest event since it was loaded came

    @property
    def room_key(self) -> RoomKey:
        return RoomKey(self.counter.room_key)

    @property
    def is_idle(self) -> bool:
        """Nobody listens, and no event waits for its commit."""
        return not self.subscribers and not self.unsubscribed and self.counter.last_seq == self.published_seq

    @property
    def posting(self) -> Posting:
        return Posting.MEMBERS if self.rules is None else self.rules.posting

    @property
    def slow_mode_seconds(self) -> int:
        return 0 if self.rules is None else self.rules.slow_mode_seconds

    def _fields(self) -> dict[str, Any]:
        """Those that the room's record and its frames share."""
        return {
            "room_id": self.room_id,
            "unique_key": self.unique_key,
            "name": self.name,
            "metadata": encoded(self.metadata),
            "posting": self.posting,
            "slow_mode_seconds": self.slow_mode_seconds,
            "last_seq": self.published_seq,
            "member_count": len(self.members),
            "created_by": self.created_by,
            "created_at": encode_time(self.created_at_us),
            "updated_at": encode_time(self.updated_at_us),
        }

    def record(self) -> Room:
        """The room as clients see it."""
        return Room(type=self.type, **self._fields())

    def frame(self, record: type[FrameT], **changes: object) -> FrameT:
        """The room as its frames show it, as these changes leave it."""
        return record(room_type=self.type, **(self._fields() | changes))

    def find_messages(
        self, after_seq: int | None, before_seq: int | None, limit: int
    ) -> tuple[list[bytes], bool] | None:
        """A page of history from memory: frames, ascending, and whether there are more; None when it must be read."""
        first_seq = max(self.ring.first_seq, self.pruned_seq + 1)
        if after_seq is not None:
            if after_seq + 1 < first_seq:
                return None
            found = self.ring.messages(range(after_seq + 1, self.published_seq + 1), limit + 1)
            return found[:limit], len(found) > limit
        end_seq = self.published_seq + 1 if before_seq is None else min(before_seq, self.published_seq + 1)
        found = self.ring.messages(range(end_seq - 1, first_seq - 1, -1), limit + 1)
        has_all = first_seq == self.pruned_seq + 1
        if len(found) <= limit and not has_all:
            return None
        return found[limit - 1 :: -1], len(found) > limit

    def add_member(self, member: MemberState, is_hidden: bool = False) -> None:
        """Call it in the order of joining: `members` has the longest-standing first."""
        self.members[member.user_id] = member
        if member.role is Role.ADMIN:
            self.admins.add(member.user_id)
        if is_hidden:
            self.set_hidden(member.user_id, True)

    def set_hidden(self, user_id: UserId, is_hidden: bool) -> None:
        """Whether this member has hidden the room."""
        if not isinstance(self.hidden_by, set):  # nobody's, which most rooms share
            self.hidden_by = {user_id} if is_hidden else NOBODY
        elif is_hidden:
            self.hidden_by.add(user_id)
        else:
            self.hidden_by.discard(user_id)

    def remove_member(self, user_id: UserId) -> None:
        del self.members[user_id]
        self.admins.discard(user_id)
        self.set_hidden(user_id, False)

    def set_role(self, user_id: UserId, role: Role) -> None:
        self.members[user_id].role = role
        (self.admins.add if role is Role.ADMIN else self.admins.discard)(user_id)

    def has_other_admin(self, user_id: UserId) -> bool:
        return len(self.admins) > (user_id in self.admins)
