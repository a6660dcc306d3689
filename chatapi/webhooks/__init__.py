"""Calls to tenants' own endpoints: `queue` stores what is due, in the transaction of its event, and `expansion` makes
many calls of it; `events` names those of which the backend is told, `presence` adds the users who come and go, and
`waiting_events` bounds them; `worker` makes the calls (`tenant_queues`, `signing`, `client`), those for the backends at
its `pace`, and their `outcomes` are stored together; `dead_letters` is what became of those that failed for good."""
