"""The epochs of tenants. The cursors of clients hold for one epoch: a tenant gets another one wherever a `seq` that a
client has seen may be given to another event."""

import secrets
import sqlite3

RENEW_EPOCHS = "UPDATE tenants SET epoch = lower(hex(randomblob(12)))"
_HAS_EPOCHS = "SELECT 1 FROM pragma_table_info('tenants') WHERE name = 'epoch'"


def make_epoch() -> str:
    """A new one, for one tenant."""
    return secrets.token_hex(12)


def renew_epochs(connection: sqlite3.Connection) -> None:
    """Gives each tenant of a database that nobody serves a new epoch, as after a restore. Those of an older schema get
    theirs when it is migrated."""
    if connection.execute(_HAS_EPOCHS).fetchone():
        connection.execute(RENEW_EPOCHS)
