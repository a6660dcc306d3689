-- Users by the first character of their id, in the order of their names: for a search by a prefix of very many ids.
BEGIN;

CREATE INDEX users_initials ON users (tenant_key, substr(folded_id, 1, 1), sort_name, folded_id, user_id);

PRAGMA user_version = 21;
COMMIT;
