"""Durable work for users: `notifications` and their subscriptions; `offline` decides who gets a webhook, `webhooks`
makes the calls (`signing`, `caller`), and `dead_letters` is what became of those that failed for good."""
