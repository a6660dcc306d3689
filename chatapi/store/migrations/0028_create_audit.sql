-- Acts of operators and moderators. The tenant's id is text: entries outlive their tenant. AUTOINCREMENT, so that no id
-- is given twice, also when old rows are gone.
BEGIN;

CREATE TABLE audit (
    audit_key INTEGER PRIMARY KEY AUTOINCREMENT,
    at_us INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('master', 'key', 'user', 'server')),
    key_id TEXT,
    user_id TEXT,
    address TEXT,
    action TEXT NOT NULL,
    tenant_id TEXT,
    target TEXT,
    details TEXT
) STRICT;
CREATE INDEX audit_by_tenant ON audit (tenant_id, audit_key);

-- Append-only: rows go from the beginning alone, as retention removes them.
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN
    SELECT raise(ABORT, 'audit is append-only');
END;
CREATE TRIGGER audit_ends_at_its_beginning BEFORE DELETE ON audit
WHEN OLD.audit_key > (SELECT min(audit_key) FROM audit)
BEGIN
    SELECT raise(ABORT, 'only the oldest entries of audit may go');
END;

PRAGMA user_version = 28;
COMMIT;
