-- Threads and mentions: fields that a message has only if its sender wrote them, and what of them is looked up by user.
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
-- A mention of the room holds for those who had joined before. Members of older databases joined before any of them.
ALTER TABLE members ADD COLUMN joined_seq INTEGER NOT NULL DEFAULT 0;

PRAGMA user_version = 10;
COMMIT;
