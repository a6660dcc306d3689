-- Users who want no dm from one another.
BEGIN;

CREATE TABLE blocks (
  tenant_key INTEGER NOT NULL REFERENCES tenants,
  user_id TEXT NOT NULL,
  blocked_id TEXT NOT NULL,
  -- The unique_key of the dm of the two, by which its room and its creation find out.
  dm_key TEXT NOT NULL,
  created_at_us INTEGER NOT NULL,
  PRIMARY KEY (tenant_key, user_id, blocked_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX blocks_newest ON blocks (tenant_key, user_id, created_at_us, blocked_id);
CREATE INDEX blocks_dm ON blocks (tenant_key, dm_key);

PRAGMA user_version = 18;
COMMIT;
