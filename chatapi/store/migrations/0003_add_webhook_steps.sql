-- A try that is put off since the user is connected is no attempt, but takes its place in the schedule. And each webhook
-- secret that was replaced within a day signs along, however many there are.
BEGIN;

ALTER TABLE webhook_deliveries ADD COLUMN step INTEGER NOT NULL DEFAULT 0;
UPDATE webhook_deliveries SET step = attempts WHERE attempts > 0;

-- A JSON array of [secret, until when it signs, in microseconds], the latest replaced first.
ALTER TABLE tenants ADD COLUMN replaced_webhook_secrets TEXT NOT NULL DEFAULT '[]';
UPDATE tenants SET replaced_webhook_secrets = json_array(json_array(old_webhook_secret, old_webhook_secret_until_us))
  WHERE old_webhook_secret IS NOT NULL;
ALTER TABLE tenants DROP COLUMN old_webhook_secret;
ALTER TABLE tenants DROP COLUMN old_webhook_secret_until_us;

PRAGMA user_version = 3;
COMMIT;
