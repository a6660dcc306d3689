"""How much each tenant has, in SQL."""

from collections.abc import Sequence
from typing import NamedTuple

from chatapi.models import TenantKey
from chatapi.protocol.json import dumps_text
from chatapi.store.readers import Readers
from chatapi.store.rooms import LAST_SEQ

TENANTS_PER_QUERY = 20  # so that no query keeps a reader busy for long

# A log has no gap: every event that is not of another type is a message. So messages are counted by a look at both ends
# of each log and by counting the other, much fewer, events.
_COUNT = f"""
    SELECT w.value,
        (SELECT count(*) FROM rooms AS r WHERE r.tenant_key = w.value AND r.deleted_at_us IS NULL),
        (SELECT coalesce(sum({LAST_SEQ} - r.pruned_seq
                - (SELECT count(*) FROM changes AS c WHERE c.room_key = r.room_key AND c.seq > r.pruned_seq)), 0)
            FROM rooms AS r WHERE r.tenant_key = w.value AND r.deleted_at_us IS NULL),
        (SELECT count(*) FROM notification_recipients AS p INDEXED BY notification_recipients_pending
            WHERE p.tenant_key = w.value AND p.acked_at_us IS NULL),
        (SELECT count(*) FROM webhook_deliveries
            WHERE tenant_key = w.value AND next_attempt_at_us IS NOT NULL AND ordinal > 0)
            + (SELECT count(*) FROM webhook_deliveries
                WHERE tenant_key = w.value AND next_attempt_at_us IS NOT NULL AND ordinal = 0)
            + (SELECT count(*) FROM webhook_events WHERE tenant_key = w.value),
        (SELECT count(*) FROM webhook_deliveries
            WHERE tenant_key = w.value AND next_attempt_at_us IS NULL AND last_attempt_at_us > 0)
    FROM json_each(:tenant_keys) AS w ORDER BY w.key
"""


class Counts(NamedTuple):
    """`messages` includes those that were deleted and left a tombstone. `notifications` are the recipients who have not
    acknowledged, `webhooks` the calls still to be made, where an event with many recipients that is not yet made into
    calls counts as one."""

    rooms: int
    messages: int
    notifications: int
    webhooks: int
    dead_letters: int


async def count_per_tenant(readers: Readers, tenant_keys: Sequence[TenantKey]) -> list[Counts]:
    """In the order of the keys."""
    counts: list[Counts] = []
    for start in range(0, len(tenant_keys), TENANTS_PER_QUERY):
        wanted = dumps_text(tenant_keys[start : start + TENANTS_PER_QUERY])
        counts.extend(Counts(*row[1:]) for row in await readers.fetch(_COUNT, {"tenant_keys": wanted}))
    return counts
