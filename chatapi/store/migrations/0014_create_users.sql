-- What is known of a user: a profile, when they were last online, or both.
BEGIN;

CREATE TABLE users (
  tenant_key INTEGER NOT NULL REFERENCES tenants,
  user_id TEXT NOT NULL,
  name TEXT,
  avatar_url TEXT,
  metadata TEXT,
  -- By these users are searched and ordered: without case and diacritics. Users without a name come last.
  sort_name TEXT NOT NULL DEFAULT (char(1114111)),
  folded_id TEXT NOT NULL,
  last_seen_at_us INTEGER,
  -- Null: they were online, but nobody has written a profile.
  created_at_us INTEGER,
  updated_at_us INTEGER,
  PRIMARY KEY (tenant_key, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX users_names ON users (tenant_key, sort_name, folded_id, user_id);
CREATE INDEX users_ids ON users (tenant_key, folded_id, sort_name, user_id);

-- A large room's members whose id begins so.
ALTER TABLE members ADD COLUMN folded_id TEXT GENERATED ALWAYS AS (lower(user_id)) VIRTUAL;
CREATE INDEX members_ids ON members (room_key, folded_id, user_id);

PRAGMA user_version = 14;
COMMIT;
