-- Rooms in which something of a user may be although they are no member: those that they have left, and those in which
-- they reported a message. Exports and erasures of a user find them by it: messages have no index by sender, which would
-- cost every send.
BEGIN;

CREATE TABLE traces (
  room_key INTEGER NOT NULL REFERENCES rooms,
  user_id TEXT NOT NULL,
  tenant_key INTEGER NOT NULL,
  PRIMARY KEY (room_key, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX traces_user ON traces (tenant_key, user_id, room_key);

INSERT INTO traces (room_key, user_id, tenant_key)
  SELECT w.room_key, w.user_id, r.tenant_key
  FROM (SELECT room_key, sender_id AS user_id FROM messages
        UNION SELECT room_key, user_id FROM reactions
        UNION SELECT room_key, user_id FROM reports) AS w
  JOIN rooms AS r ON r.room_key = w.room_key
  WHERE r.deleted_at_us IS NULL
    AND NOT EXISTS (SELECT 1 FROM members WHERE room_key = w.room_key AND user_id = w.user_id);

-- The purge of a deleted room leaves none.
CREATE TRIGGER members_traced AFTER DELETE ON members
  WHEN EXISTS (SELECT 1 FROM rooms WHERE room_key = OLD.room_key AND deleted_at_us IS NULL)
    AND NOT EXISTS (SELECT 1 FROM traces WHERE room_key = OLD.room_key AND user_id = OLD.user_id)
BEGIN
  INSERT INTO traces (room_key, user_id, tenant_key) VALUES (OLD.room_key, OLD.user_id, OLD.tenant_key);
END;
CREATE TRIGGER reports_traced AFTER INSERT ON reports
  WHEN NOT EXISTS (SELECT 1 FROM traces WHERE room_key = NEW.room_key AND user_id = NEW.user_id)
BEGIN
  INSERT INTO traces (room_key, user_id, tenant_key) VALUES (NEW.room_key, NEW.user_id, NEW.tenant_key);
END;

PRAGMA user_version = 29;
COMMIT;
