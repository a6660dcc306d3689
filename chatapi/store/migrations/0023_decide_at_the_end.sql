-- Calls that tell of a stream are decided at its end.
BEGIN;

-- The members' `notify` counts as it was when this was the newest key; null stands for the event's own, as of a message that
-- was whole when it was stored.
ALTER TABLE webhook_events ADD COLUMN decided_key INTEGER;

PRAGMA user_version = 23;
COMMIT;
