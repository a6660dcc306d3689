"""Calls to tenants' own endpoints: `queue` stores what is due, in the transaction of its event, and `expansion` makes
many calls of it; `events` names those of which the backend is told, `presence` adds the users who come and go; `worker`
makes the calls (`tenant_queues`, `signing`, `client`); `dead_letters` is what became of those that failed for good."""
