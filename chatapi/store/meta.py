"""What the database says of itself."""

from chatapi.store.transaction import Transaction

_HEARTBEAT = """
    INSERT INTO meta (name, value) VALUES ('heartbeat', :value)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""


async def write_heartbeat(transaction: Transaction) -> None:
    """A real write, to see that writing works."""
    await transaction.execute(_HEARTBEAT, {"value": str(transaction.now_us)})
