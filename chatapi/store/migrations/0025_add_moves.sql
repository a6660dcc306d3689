-- Tenants that move to another server, and that arrive from one.
BEGIN;

-- A tenant that has moved: from this row on the server does not serve it any more.
CREATE TABLE departures (
  own_key INTEGER PRIMARY KEY,
  -- Of the server that it has moved to.
  url TEXT NOT NULL,
  arrival_id TEXT NOT NULL,
  -- By which the other server may be told to serve it; null once it has confirmed that it does.
  secret TEXT,
  moved_at_us INTEGER NOT NULL
) STRICT;

CREATE TABLE arrivals (
  arrival_id TEXT PRIMARY KEY,
  tenant_id TEXT NOT NULL,
  -- Hidden, under a name of its own, until it is live.
  own_key INTEGER NOT NULL,
  -- The server that it comes from: only that one may begin again.
  source TEXT NOT NULL,
  secret_hash BLOB NOT NULL,
  -- The tenant's own row and its keys, once all other rows are there. From then on the arrival is kept until the source
  -- has decided.
  sealed TEXT,
  live_at_us INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX arrivals_hidden ON arrivals (own_key) WHERE live_at_us IS NULL;

INSERT INTO meta VALUES ('server', lower(hex(randomblob(12))));

PRAGMA user_version = 25;
COMMIT;
