-- Who may post in a room, how often, and who is muted there.
BEGIN;

ALTER TABLE rooms ADD COLUMN posting TEXT NOT NULL DEFAULT 'members' CHECK (posting IN ('members', 'admins'));
ALTER TABLE rooms ADD COLUMN slow_mode_seconds INTEGER NOT NULL DEFAULT 0;

-- It outlives leaving, so that it is no column of the members.
CREATE TABLE mutes (
  room_key INTEGER NOT NULL REFERENCES rooms,
  user_id TEXT NOT NULL,
  tenant_key INTEGER NOT NULL,
  until_us INTEGER NOT NULL,
  PRIMARY KEY (room_key, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX mutes_until ON mutes (until_us);

PRAGMA user_version = 11;
COMMIT;
