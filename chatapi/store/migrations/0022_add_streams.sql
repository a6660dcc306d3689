-- Streams: messages that are still being written. What was appended stands in rows of its own until the message has
-- ended: then it becomes a part of messages.content, and the rows go.
BEGIN;

-- Of a message that was opened as a stream: 'open', and then how it has ended.
ALTER TABLE messages ADD COLUMN stream TEXT;

-- Of an event that ended a stream, the index of the last append; 0 if there was none. Null for other events.
ALTER TABLE changes ADD COLUMN last_index INTEGER;
CREATE INDEX changes_endings ON changes (room_key, message_key) WHERE last_index IS NOT NULL;

-- Messages are named by their seq, so that all that belongs to the beginning of a log is found together.
CREATE TABLE open_streams (
  room_key INTEGER NOT NULL REFERENCES rooms,
  target_seq INTEGER NOT NULL,
  -- 1 once somebody has asked its sender to stop.
  cancel_requested INTEGER,
  PRIMARY KEY (room_key, target_seq)
) STRICT, WITHOUT ROWID;

-- The appends of one message that were committed together.
CREATE TABLE stream_chunks (
  room_key INTEGER NOT NULL REFERENCES rooms,
  target_seq INTEGER NOT NULL,
  last_index INTEGER NOT NULL,
  text TEXT NOT NULL,
  -- If they are several, the bytes of each, as a JSON array.
  sizes TEXT,
  PRIMARY KEY (room_key, target_seq, last_index)
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 22;
COMMIT;
