"""Facts that the database holds about itself."""

from chatapi.store.readers import Readers
from chatapi.store.transaction import Transaction

_HEARTBEAT = """
    INSERT INTO meta (name, value) VALUES ('heartbeat', :value)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
_PUT_TIME = """
    INSERT INTO meta (name, value) VALUES ('latest_us', :value)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
_GET_TIME = "SELECT value FROM meta WHERE name = 'latest_us'"


async def write_time(transaction: Transaction, now_us: int) -> None:
    """Notes a time of the steady clock, from which stored times were counted."""
    await transaction.execute(_PUT_TIME, {"value": str(now_us)})


async def get_time(readers: Readers) -> int:
    """The last one noted, in microseconds; 0 when there is none."""
    row = await readers.fetch_one(_GET_TIME, {})
    return 0 if row is None else int(row[0])


async def write_heartbeat(transaction: Transaction) -> None:
    """A real write, to see that writing works."""
    await transaction.execute(_HEARTBEAT, {"value": str(transaction.now_us)})
