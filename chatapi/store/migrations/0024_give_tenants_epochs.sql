-- The epoch is the tenant's own, so that it can move along with the tenant: the cursors of clients hold for it alone.
BEGIN;

ALTER TABLE tenants ADD COLUMN epoch TEXT NOT NULL DEFAULT '';
UPDATE tenants SET epoch = lower(hex(randomblob(12)));
-- Epochs were made from it.
DELETE FROM meta WHERE name = 'epoch';

PRAGMA user_version = 24;
COMMIT;
