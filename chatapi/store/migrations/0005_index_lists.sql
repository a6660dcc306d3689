-- Pages of these lists read no more than themselves.
BEGIN;

CREATE INDEX notification_recipients_delivered ON notification_recipients (tenant_key, user_id, notification_key)
  WHERE acked_at_us IS NOT NULL;

DROP INDEX api_keys_tenant;
CREATE INDEX api_keys_listed ON api_keys (tenant_key, created_at_us, key_id);

PRAGMA user_version = 5;
COMMIT;
