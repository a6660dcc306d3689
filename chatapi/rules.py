"""The decisions of a room's admins about those who post in it, as far as they are in force.

Most rooms have no such rules at all, and then no `Rules` either. `chatapi.access` judges by them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from chatapi.clock import Clock, rule_time_us
from chatapi.models import Posting, UserId
from chatapi.protocol.json import MAX_INTEGER, MAX_KEY
from chatapi.store import Readers, moderation

if TYPE_CHECKING:
    from chatapi.room import RoomState

NO_END_US = MAX_KEY
"""The end of a ban that has none."""
ROWS_PER_STEP = 2_000  # read at a stretch: about 2 ms of a reader's time
POSTS_PER_STEP = 500  # likewise, if they are long
MIN_POSTERS = 1_000  # remembered before any of them is forgotten


class Rules:
    """The mutes and bans of a room, and the rules for posting there. As committed."""

    __slots__ = ("_clock", "banned", "is_blocked", "muted", "posters", "posting", "slow_mode_seconds")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.posting = Posting.MEMBERS
        self.slow_mode_seconds = 0
        self.muted: dict[UserId, int] = {}  # until when; also users who have left
        self.banned: dict[UserId, int] = {}  # until when
        self.posters: Posters | None = None  # in slow mode
        self.is_blocked = False  # a dm in which one of the two has blocked the other

    def now_us(self) -> int:
        return rule_time_us(self._clock)

    def find_mute(self, user_id: UserId) -> int | None:
        """When the user's mute ends, in microseconds since 1970; None unless that is still ahead."""
        until_us = self.muted.get(user_id)
        return None if until_us is None or until_us <= self.now_us() else until_us

    def find_ban(self, user_id: UserId) -> int | None:
        """When the user's ban ends, `NO_END_US` for one without an end; None unless it is in force."""
        until_us = self.banned.get(user_id)
        return None if until_us is None or until_us <= self.now_us() else until_us

    def find_wait(self, user_id: UserId) -> tuple[int, float] | None:
        """When slow mode lets the user post again, in microseconds since 1970, and in how many seconds that is; None if
        they may post now."""
        last_us = None if self.posters is None else self.posters.find(user_id)
        return None if last_us is None else self.find_wait_after(last_us)

    def find_wait_after(self, last_us: int) -> tuple[int, float] | None:
        """As `find_wait`, of a user who last posted then."""
        until_us = last_us + self.slow_mode_seconds * 1_000_000
        left_us = until_us - self.now_us()
        return (until_us, left_us / 1_000_000) if left_us > 0 else None

    def note_post(self, user_id: UserId, at_us: int) -> None:
        """A message of this user was committed then."""
        if self.posters is not None:
            self.posters.note(user_id, at_us)

    def mute(self, user_id: UserId, until_us: int) -> None:
        """A mute that ends now is none. Those that have ended are forgotten."""
        self.muted = _keep_later(self.muted | {user_id: until_us}, self.now_us())

    def ban(self, user_id: UserId, until_us: int | None) -> None:
        """As `mute`; None for a ban without an end."""
        banned = self.banned | {user_id: NO_END_US if until_us is None else until_us}
        self.banned = _keep_later(banned, self.now_us())

    def unban(self, user_id: UserId) -> None:
        self.banned.pop(user_id, None)

    def unmute(self, user_id: UserId) -> None:
        self.muted.pop(user_id, None)

    def follow_posters(self, seconds: int) -> "Posters":
        """From now on it is remembered when each user last posted, for so long."""
        if self.posters is None:
            self.posters = Posters()
        self.posters.window_us = max(self.posters.window_us, seconds * 1_000_000)
        return self.posters


class Posters:
    """When each user last posted: of those who did within `window_us`, and perhaps a few others."""

    __slots__ = ("_last_us", "_sweep_at", "window_us")

    def __init__(self) -> None:
        self.window_us = 0
        self._last_us: dict[UserId, int] = {}
        self._sweep_at = MIN_POSTERS

    def __len__(self) -> int:
        return len(self._last_us)

    def find(self, user_id: UserId) -> int | None:
        return self._last_us.get(user_id)

    def note(self, user_id: UserId, at_us: int) -> None:
        """The user posted then, which may be before what is known."""
        self._last_us[user_id] = max(at_us, self._last_us.get(user_id, 0))
        if len(self._last_us) >= self._sweep_at:
            self._last_us = _keep_later(self._last_us, at_us - self.window_us)
            self._sweep_at = max(MIN_POSTERS, 2 * len(self._last_us))


def _keep_later(times: Mapping[UserId, int], than_us: int) -> dict[UserId, int]:
    return {user_id: at_us for user_id, at_us in times.items() if at_us > than_us}


async def load_rules(readers: Readers, room: "RoomState", rules: Rules) -> None:
    """Reads what the room's own row does not hold."""
    tenant_key, room_key = room.tenant.tenant_key, room.room_key
    has_more, after = True, ""
    while has_more:
        rows = await moderation.load_mutes(readers, tenant_key, room_key, after, ROWS_PER_STEP)
        rules.muted.update(rows)
        has_more, after = len(rows) == ROWS_PER_STEP, rows[-1][0] if rows else ""
    has_more, after = True, ""
    while has_more:
        rows = await moderation.load_bans(readers, tenant_key, room_key, after, ROWS_PER_STEP)
        rules.banned.update((user_id, NO_END_US if until_us is None else until_us) for user_id, until_us in rows)
        has_more, after = len(rows) == ROWS_PER_STEP, rows[-1][0] if rows else ""
    if rules.slow_mode_seconds:
        await load_posters(readers, room, rules, rules.slow_mode_seconds)


async def load_posters(readers: Readers, room: "RoomState", rules: Rules, seconds: int) -> None:
    """Reads when each user posted within the last seconds, and remembers it from now on. In slow mode these are few:
    each user posts once."""
    posters = rules.follow_posters(seconds)
    since_us = rules.now_us() - posters.window_us
    seq = MAX_INTEGER
    while True:
        rows = await moderation.list_posts(readers, room.tenant.tenant_key, room.room_key, seq, POSTS_PER_STEP)
        for _, sender_id, at_us in rows:
            if at_us <= since_us:
                return
            posters.note(UserId(sender_id), at_us)
        if len(rows) < POSTS_PER_STEP:
            return
        seq = rows[-1][0]
