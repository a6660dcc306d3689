-- Users who may neither join a room nor, in a channel, read it.
BEGIN;

CREATE TABLE bans (
  room_key INTEGER NOT NULL REFERENCES rooms,
  user_id TEXT NOT NULL,
  tenant_key INTEGER NOT NULL,
  reason TEXT,
  -- Null: it has no end.
  until_us INTEGER,
  created_by TEXT NOT NULL,
  created_at_us INTEGER NOT NULL,
  PRIMARY KEY (room_key, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX bans_newest ON bans (room_key, created_at_us, user_id);
CREATE INDEX bans_until ON bans (until_us) WHERE until_us IS NOT NULL;

PRAGMA user_version = 15;
COMMIT;
