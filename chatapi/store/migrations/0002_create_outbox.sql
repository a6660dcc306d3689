-- Topics that users subscribe to, and the calls to tenants' webhooks that are still to be made or have failed for good.
BEGIN;

CREATE TABLE subscriptions (
  subscription_key INTEGER PRIMARY KEY,
  tenant_key INTEGER NOT NULL REFERENCES tenants,
  user_id TEXT NOT NULL,
  topic TEXT NOT NULL,
  created_at_us INTEGER NOT NULL,
  UNIQUE (tenant_key, topic, user_id)
) STRICT;
CREATE INDEX subscriptions_user ON subscriptions (tenant_key, user_id, subscription_key);

-- An event with many recipients: its deliveries are made bit by bit, as fast as the webhook takes them. Thus a message
-- for 50,000 who are offline costs its own transaction one row.
CREATE TABLE webhook_events (
  -- The message's or the notification's own key.
  event_key INTEGER PRIMARY KEY,
  tenant_key INTEGER NOT NULL REFERENCES tenants,
  -- Of a message; null for a notification.
  room_key INTEGER,
  -- Of a message.
  seq INTEGER,
  -- A JSON array of those who get no call: the sender, and who was online at the commit.
  excluded TEXT NOT NULL,
  due_at_us INTEGER NOT NULL,
  -- How far it has got: the last recipient, in the order of user ids, and the deliveries made.
  last_user_id TEXT NOT NULL DEFAULT '',
  deliveries INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX webhook_events_tenant ON webhook_events (tenant_key, event_key);

-- One call for one recipient of one event, until it has succeeded or is pointless. The first two columns make the
-- webhook-id, so that it is never used for anything else, also after a backup was restored.
CREATE TABLE webhook_deliveries (
  event_key INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  tenant_key INTEGER NOT NULL,
  -- Of a message; null for a notification.
  room_key INTEGER,
  user_id TEXT NOT NULL,
  -- Tries since it was queued or last retried by hand.
  attempts INTEGER NOT NULL DEFAULT 0,
  -- Null for a dead letter.
  next_attempt_at_us INTEGER,
  last_attempt_at_us INTEGER,
  error TEXT,
  PRIMARY KEY (event_key, ordinal)
) STRICT, WITHOUT ROWID;
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (tenant_key, next_attempt_at_us)
  WHERE next_attempt_at_us IS NOT NULL;
CREATE INDEX webhook_deliveries_dead ON webhook_deliveries (last_attempt_at_us)
  WHERE next_attempt_at_us IS NULL;
CREATE INDEX webhook_deliveries_dead_of_tenant ON webhook_deliveries (tenant_key, last_attempt_at_us)
  WHERE next_attempt_at_us IS NULL;

PRAGMA user_version = 2;
COMMIT;
