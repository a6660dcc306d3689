-- Users who are banned from their whole tenant.
BEGIN;

CREATE TABLE user_bans (
  tenant_key INTEGER NOT NULL REFERENCES tenants,
  user_id TEXT NOT NULL,
  reason TEXT,
  -- Null: it has no end.
  until_us INTEGER,
  -- Rooms of which the user is the last admin may still need another one.
  heirs_due INTEGER NOT NULL,
  PRIMARY KEY (tenant_key, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX user_bans_until ON user_bans (tenant_key, until_us) WHERE until_us IS NOT NULL;

PRAGMA user_version = 16;
COMMIT;
