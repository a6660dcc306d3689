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
        self._held: set[TenantKey] = set()  # of which nothing may be written

    def note(self, tenant_key: TenantKey, user_id: UserId, seconds_ago: float = 0.0) -> None:
        """The user was online until then. `write` stores it."""
        if tenant_key in self._held:
            return
        self._unwritten[tenant_key, user_id] = self._clock.now_us() - round(seconds_ago * 1_000_000)

    def hold(self, tenant_key: TenantKey) -> None:
        """Nothing of this tenant is noted until `release`."""
        self._held.add(tenant_key)
        self._unwritten = {user: seen_us for user, seen_us in self._unwritten.items() if user[0] != tenant_key}

    def release(self, tenant_key: TenantKey) -> None:
        self._held.discard(tenant_key)

    def forget(self, tenant_key: TenantKey, user_id: UserId) -> None:
        """Nothing of it is stored, as far as it is not yet."""
        self._unwritten.pop((tenant_key, user_id), None)

    async def write(self) -> None:
        """Called now and then, and at the end. Raises ChatError; the rest is written later then."""
        while self._unwritten:
            seen = dict(islice(self._unwritten.items(), SEEN_AT_ONCE))
            await self._writer.change(lambda transaction, seen=seen: users.note_seen(transaction, seen))  # type: ignore[misc]
            for user, seen_us in seen.items():
                if self._unwritten.get(user) == seen_us:
                    del self._unwritten[user]
