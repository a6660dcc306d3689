-- What was deleted is looked for once a second or so, and emptied many rooms at a time.
BEGIN;

CREATE INDEX tenants_deleted ON tenants (tenant_key) WHERE deleted_at_us IS NOT NULL;

-- A room that is being purged needs no count of its members.
DROP TRIGGER members_left;
CREATE TRIGGER members_left AFTER DELETE ON members
  WHEN (SELECT deleted_at_us FROM rooms WHERE room_key = OLD.room_key) IS NULL
BEGIN
  UPDATE rooms SET member_count = member_count - 1 WHERE room_key = OLD.room_key;
END;

PRAGMA user_version = 7;
COMMIT;
