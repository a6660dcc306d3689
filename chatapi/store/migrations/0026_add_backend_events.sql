-- Calls that tell a tenant's backend of an event, whoever is online. Each has the ordinal 0, those for a recipient count
-- from 1. They wait apart: neither kind has to look through the rows of the other.
BEGIN;

-- Of a call for the backend: the event's name.
ALTER TABLE webhook_deliveries ADD COLUMN event TEXT;
-- Of an event that is in a room's log: it is shown as the log has it when the call is made.
ALTER TABLE webhook_deliveries ADD COLUMN seq INTEGER;
-- Of an event that is nowhere else: its frame.
ALTER TABLE webhook_deliveries ADD COLUMN frame TEXT;

-- Reports that wait keep their keys, and so their webhook-id.
UPDATE webhook_deliveries SET event = 'message.reported' WHERE user_id = '';

DROP INDEX webhook_deliveries_due;
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (tenant_key, next_attempt_at_us)
  WHERE next_attempt_at_us IS NOT NULL AND ordinal > 0;
-- By its key an event has its place in the order of its room.
CREATE INDEX webhook_deliveries_events ON webhook_deliveries (tenant_key, event_key)
  WHERE next_attempt_at_us IS NOT NULL AND ordinal = 0;
CREATE INDEX webhook_deliveries_event_retries ON webhook_deliveries (tenant_key, next_attempt_at_us)
  WHERE next_attempt_at_us IS NOT NULL AND ordinal = 0 AND step > 0;

PRAGMA user_version = 26;
COMMIT;
