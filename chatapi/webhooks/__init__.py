"""Calls to tenants' own endpoints: `queue` stores what is due, in the transaction of its event; `worker` makes the
calls (`signing`, `client`); `dead_letters` is what became of those that failed for good."""

"""Calls to tenants' own endpoints: `queue` stores what is due, in the transaction of its event; `worker` makes the
calls (`signing`, `client`); `dead_letters` is what became of those that failed for good."""
