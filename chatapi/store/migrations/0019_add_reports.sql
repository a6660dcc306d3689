-- Messages that users have reported to the tenant, as they were then.
BEGIN;

CREATE TABLE reports (
  report_key INTEGER PRIMARY KEY,
  tenant_key INTEGER NOT NULL REFERENCES tenants,
  room_key INTEGER NOT NULL REFERENCES rooms,
  -- The message's seq, so that reports go together with the beginning of a log.
  target_seq INTEGER NOT NULL,
  -- The user who reported it.
  user_id TEXT NOT NULL,
  reason TEXT NOT NULL,
  -- The message as JSON.
  message TEXT NOT NULL,
  created_at_us INTEGER NOT NULL,
  resolved_by TEXT,
  resolved_at_us INTEGER,
  UNIQUE (room_key, target_seq, user_id)
) STRICT;
CREATE INDEX reports_open ON reports (tenant_key, report_key) WHERE resolved_at_us IS NULL;
CREATE INDEX reports_resolved ON reports (tenant_key, report_key) WHERE resolved_at_us IS NOT NULL;

PRAGMA user_version = 19;
COMMIT;
