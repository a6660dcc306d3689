-- Threads, mentions, and the view that a member has of a room: what is stored of them beside a message's plain fields.
BEGIN;

ALTER TABLE messages ADD COLUMN thread_id TEXT;
-- A JSON array of user ids, each once.
ALTER TABLE messages ADD COLUMN mentions TEXT;
ALTER TABLE messages ADD COLUMN mention_room INTEGER;

CREATE TABLE mentions (
  room_key INTEGER NOT NULL REFERENCES rooms,
  -- Empty for a mention of the whole room, which is one row however many members there are.
  user_id TEXT NOT NULL,
  message_key INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  sender_id TEXT NOT NULL,
  PRIMARY KEY (room_key, user_id, message_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX mentions_by_seq ON mentions (room_key, user_id, seq, sender_id);

-- No mention that counts has a greater seq: where nothing is unread, none is looked for.
ALTER TABLE rooms ADD COLUMN last_mention_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN last_mention_seq INTEGER NOT NULL DEFAULT 0;
-- Messages from before have smaller keys: a mention of the room holds for those who had joined before it. Null for
-- members of older databases, where it is made of joined_at_us.
ALTER TABLE members ADD COLUMN joined_key INTEGER;

-- What is to be told to a member who is offline. The value before holds for messages with keys up to notify_key.
ALTER TABLE members ADD COLUMN notify TEXT NOT NULL DEFAULT 'all' CHECK (notify IN ('all', 'mentions', 'none'));
ALTER TABLE members ADD COLUMN notify_before TEXT NOT NULL DEFAULT 'all';
ALTER TABLE members ADD COLUMN notify_key INTEGER NOT NULL DEFAULT 0;

-- The room's last seq when the member hid it. It stays hidden until somebody else posts: so a message that unhides it for
-- many members is one row to write. The newest message's sender and seq, and the seq of the newest one of anybody else;
-- kept while the room is hidden by somebody.
ALTER TABLE members ADD COLUMN hidden_seq INTEGER;
ALTER TABLE rooms ADD COLUMN poster TEXT;
ALTER TABLE rooms ADD COLUMN posted_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN other_posted_seq INTEGER NOT NULL DEFAULT 0;
CREATE INDEX members_hidden ON members (tenant_key, user_id, room_key) WHERE hidden_seq IS NOT NULL;

-- Of a message: whom it mentioned when it was stored, as a JSON array, and whether it mentioned the whole room.
ALTER TABLE webhook_events ADD COLUMN mentioned TEXT NOT NULL DEFAULT '[]';
ALTER TABLE webhook_events ADD COLUMN mention_room INTEGER NOT NULL DEFAULT 0;
ALTER TABLE webhook_deliveries ADD COLUMN mentioned INTEGER NOT NULL DEFAULT 0;

PRAGMA user_version = 10;
COMMIT;
