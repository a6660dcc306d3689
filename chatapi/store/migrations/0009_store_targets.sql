-- A notification of very many recipients is stored in steps: what is left of its targets. One at a time of each tenant,
-- so that a user's notifications are complete in the order of their keys.
BEGIN;

CREATE TABLE unfinished_notifications (
  tenant_key INTEGER PRIMARY KEY REFERENCES tenants,
  notification_key INTEGER NOT NULL REFERENCES notifications,
  -- The room whose members are recipients, and the topic whose subscribers are; null once all of them are stored.
  room_key INTEGER,
  topic TEXT,
  -- Of the first of the two that is left, the last user who is stored.
  last_user_id TEXT NOT NULL
) STRICT;

PRAGMA user_version = 9;
COMMIT;
