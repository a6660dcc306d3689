-- Users whose data is being erased, or was, until they come back.
BEGIN;

CREATE TABLE erasures (
  tenant_key INTEGER NOT NULL REFERENCES tenants,
  user_id TEXT NOT NULL,
  begun_at_us INTEGER NOT NULL,
  -- Null while it is under way.
  erased_at_us INTEGER,
  PRIMARY KEY (tenant_key, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX erasures_under_way ON erasures (tenant_key) WHERE erased_at_us IS NULL;

-- A user who comes back is a new one, whose data can be erased again. What else they may do before they are a member of a
-- room leaves a row by which they are found.
CREATE TRIGGER members_returned AFTER INSERT ON members
  WHEN EXISTS (SELECT 1 FROM erasures
               WHERE tenant_key = NEW.tenant_key AND user_id = NEW.user_id AND erased_at_us IS NOT NULL)
BEGIN
  DELETE FROM erasures WHERE tenant_key = NEW.tenant_key AND user_id = NEW.user_id;
END;
-- Readers of a channel report messages without being members.
CREATE TRIGGER reports_returned AFTER INSERT ON reports
  WHEN EXISTS (SELECT 1 FROM erasures
               WHERE tenant_key = NEW.tenant_key AND user_id = NEW.user_id AND erased_at_us IS NOT NULL)
BEGIN
  DELETE FROM erasures WHERE tenant_key = NEW.tenant_key AND user_id = NEW.user_id;
END;

PRAGMA user_version = 27;
COMMIT;
