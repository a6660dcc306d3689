"""Calls to tenants' own endpoints: `queue` stores what is due, in the transaction of its event, and `expansion` makes
many calls of it; `worker` makes the calls (`signing`, `client`); `dead_letters` is what became of those that failed for
good."""
