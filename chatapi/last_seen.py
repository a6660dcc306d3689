"""When users were last online: kept in memory when they go offline, and written in batches."""

from itertools import islice

from chatapi.clock import Clock
from chatapi.models import TenantKey, UserId
from chatapi.store import Writer, users

SEEN_AT_ONCE = 200  # users in one transaction, 2 to 3 ms of the writer's time: thousands may leave together


class LastSeen:
    def __init__(self, writer: Writer, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock
        self._unwritten: dict[tuple[TenantKey, UserId], int] = {}  # when, in microseconds

    def note(self, tenant_key: TenantKey, user_id: UserId, seconds_ago: float = 0.0) -> None:
        """The user was online until then. `write` stores it."""
        self._unwritten[tenant_key, user_id] = self._clock.now_us() - round(seconds_ago * 1_000_000)

    async def write(self) -> None:
        """Called now and then, and at the end. Raises ChatError; the rest is written later then."""
        while self._unwritten:
            seen = dict(islice(self._unwritten.items(), SEEN_AT_ONCE))
            await self._writer.change(lambda transaction, seen=seen: users.note_seen(transaction, seen))  # type: ignore[misc]
            for user, seen_us in seen.items():
                if self._unwritten.get(user) == seen_us:
                    del self._unwritten[user]
