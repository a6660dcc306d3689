-- Tenants and rooms have integer keys of their own, so that the big tables below stay narrow.
-- Times are microseconds since the Unix epoch.
BEGIN;

CREATE TABLE meta (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tenants (
  tenant_key INTEGER PRIMARY KEY,
  tenant_id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  config TEXT NOT NULL DEFAULT '{}',
  token_secret TEXT NOT NULL,
  webhook_secret TEXT,
  old_webhook_secret TEXT,
  old_webhook_secret_until_us INTEGER NOT NULL DEFAULT 0,
  created_at_us INTEGER NOT NULL,
  -- A deleted tenant is gone for everybody at once; its rows are purged bit by bit.
  deleted_at_us INTEGER
) STRICT;

CREATE TABLE api_keys (
  key_id TEXT PRIMARY KEY,
  tenant_key INTEGER NOT NULL REFERENCES tenants,
  key_hash BLOB NOT NULL UNIQUE,
  -- Only the `dev` tenant of `serve --dev` keeps its key in the clear, to show it again.
  shown_key TEXT,
  created_at_us INTEGER NOT NULL,
  last_used_at_us INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX api_keys_tenant ON api_keys (tenant_key);

CREATE TABLE rooms (
  room_key INTEGER PRIMARY KEY,
  tenant_key INTEGER NOT NULL REFERENCES tenants,
  room_id TEXT NOT NULL,
  type TEXT NOT NULL CHECK (type IN ('dm', 'group', 'channel')),
  unique_key TEXT,
  name TEXT,
  metadata TEXT,
  -- The log begins after pruned_seq: retention has removed what was before.
  pruned_seq INTEGER NOT NULL DEFAULT 0,
  member_count INTEGER NOT NULL DEFAULT 0,
  created_by TEXT NOT NULL,
  created_at_us INTEGER NOT NULL,
  updated_at_us INTEGER NOT NULL,
  deleted_at_us INTEGER,
  UNIQUE (tenant_key, room_id)
) STRICT;
CREATE UNIQUE INDEX rooms_unique_key ON rooms (tenant_key, unique_key) WHERE unique_key IS NOT NULL;
CREATE INDEX rooms_channels ON rooms (tenant_key, room_key) WHERE type = 'channel' AND deleted_at_us IS NULL;
CREATE INDEX rooms_deleted ON rooms (room_key) WHERE deleted_at_us IS NOT NULL;

CREATE TABLE members (
  room_key INTEGER NOT NULL REFERENCES rooms,
  user_id TEXT NOT NULL,
  tenant_key INTEGER NOT NULL,
  role TEXT NOT NULL CHECK (role IN ('admin', 'member')),
  joined_at_us INTEGER NOT NULL,
  last_ack INTEGER NOT NULL DEFAULT 0,
  last_read INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (room_key, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_user ON members (tenant_key, user_id, room_key);

CREATE TRIGGER members_joined AFTER INSERT ON members BEGIN
  UPDATE rooms SET member_count = member_count + 1 WHERE room_key = NEW.room_key;
END;
CREATE TRIGGER members_left AFTER DELETE ON members BEGIN
  UPDATE rooms SET member_count = member_count - 1 WHERE room_key = OLD.room_key;
END;

-- A room's log is two tables that share the room's seq: messages, as they now stand, and every other durable event.
CREATE TABLE messages (
  message_key INTEGER PRIMARY KEY,
  room_key INTEGER NOT NULL REFERENCES rooms,
  seq INTEGER NOT NULL,
  sender_id TEXT NOT NULL,
  content TEXT,
  meta TEXT,
  reply_to TEXT,
  client_message_id TEXT,
  -- A digest of what was first sent, so that a retry with another body is told apart even after an edit.
  body_digest INTEGER,
  created_at_us INTEGER NOT NULL,
  edited_at_us INTEGER,
  deleted_at_us INTEGER,
  -- The id that an imported message had before.
  imported_id TEXT,
  UNIQUE (room_key, seq)
) STRICT;
CREATE UNIQUE INDEX messages_client_message_id ON messages (room_key, sender_id, client_message_id)
  WHERE client_message_id IS NOT NULL;
CREATE UNIQUE INDEX messages_imported_id ON messages (room_key, imported_id) WHERE imported_id IS NOT NULL;

CREATE TABLE changes (
  room_key INTEGER NOT NULL REFERENCES rooms,
  seq INTEGER NOT NULL,
  -- The event's frame; null for an edit, which is shown with the message as it now stands.
  frame TEXT,
  -- The message that was edited or deleted.
  message_key INTEGER,
  created_at_us INTEGER NOT NULL,
  PRIMARY KEY (room_key, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE notifications (
  notification_key INTEGER PRIMARY KEY,
  tenant_key INTEGER NOT NULL REFERENCES tenants,
  topic TEXT NOT NULL,
  payload TEXT NOT NULL,
  created_at_us INTEGER NOT NULL
) STRICT;
CREATE INDEX notifications_tenant ON notifications (tenant_key, notification_key);

-- Each recipient's delivery is tracked on its own.
CREATE TABLE notification_recipients (
  tenant_key INTEGER NOT NULL,
  user_id TEXT NOT NULL,
  notification_key INTEGER NOT NULL REFERENCES notifications,
  acked_at_us INTEGER,
  PRIMARY KEY (tenant_key, user_id, notification_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX notification_recipients_pending ON notification_recipients (tenant_key, user_id, notification_key)
  WHERE acked_at_us IS NULL;
CREATE INDEX notification_recipients_notification ON notification_recipients (notification_key);

INSERT INTO meta VALUES ('epoch', lower(hex(randomblob(12))));
PRAGMA user_version = 1;
COMMIT;
