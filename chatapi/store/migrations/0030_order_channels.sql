-- Channels are listed by when they were made, and by their id: a tenant that moves to another server keeps both, and gets
-- other keys of rooms there.
BEGIN;

DROP INDEX rooms_channels;
CREATE INDEX rooms_channels ON rooms (tenant_key, created_at_us, room_id)
  WHERE type = 'channel' AND deleted_at_us IS NULL;

PRAGMA user_version = 30;
COMMIT;
