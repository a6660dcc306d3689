-- What search needs beside its index, which is made at the start where SQLite has FTS5 (`chatapi/store/search_index.py`).
BEGIN;

-- One row: the messages with keys up to done_key, and those after gap_end_key up to head_key, are in the index.
CREATE TABLE search_progress (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  done_key INTEGER NOT NULL,
  gap_end_key INTEGER NOT NULL,
  head_key INTEGER NOT NULL,
  -- The next block's key, which is never used again.
  next_block_key INTEGER NOT NULL,
  -- 1 when SQLite has had no FTS5 meanwhile: the index has to be built again.
  is_stale INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO search_progress VALUES (1, 0, 0, 0, 2147483647, 0);

-- A row of the index is known by a small integer: 1,024 of them are one block, which holds so many events of one room's
-- log. The later the block, and the event in it, the smaller the integer, so that the index has a room's newest first.
CREATE TABLE search_blocks (
  block_key INTEGER PRIMARY KEY,
  room_key INTEGER NOT NULL REFERENCES rooms ON DELETE CASCADE,
  number INTEGER NOT NULL,
  UNIQUE (room_key, number)
) STRICT;

-- Rows of the index that are no longer right, with what they were made of: SQLite needs that to remove them.
CREATE TABLE search_outdated (
  row_key INTEGER PRIMARY KEY,
  message_key INTEGER NOT NULL,
  tenant_key INTEGER NOT NULL,
  room_key INTEGER NOT NULL,
  sender_id TEXT NOT NULL,
  content TEXT NOT NULL
) STRICT;

CREATE TRIGGER search_edited AFTER UPDATE OF content, sender_id ON messages
  WHEN OLD.content IS NOT NULL AND (NEW.content IS NOT OLD.content OR NEW.sender_id <> OLD.sender_id)
BEGIN
  INSERT OR IGNORE INTO search_outdated
  SELECT b.block_key << 10 | 1023 - (OLD.seq & 1023), OLD.message_key, r.tenant_key, OLD.room_key, OLD.sender_id,
         OLD.content
  FROM search_progress AS p CROSS JOIN rooms AS r CROSS JOIN search_blocks AS b
  WHERE (OLD.message_key <= p.done_key OR OLD.message_key > p.gap_end_key AND OLD.message_key <= p.head_key)
    AND r.room_key = OLD.room_key AND b.room_key = OLD.room_key AND b.number = OLD.seq >> 10;
END;
CREATE TRIGGER search_removed AFTER DELETE ON messages WHEN OLD.content IS NOT NULL
BEGIN
  INSERT OR IGNORE INTO search_outdated
  SELECT b.block_key << 10 | 1023 - (OLD.seq & 1023), OLD.message_key, r.tenant_key, OLD.room_key, OLD.sender_id,
         OLD.content
  FROM search_progress AS p CROSS JOIN rooms AS r CROSS JOIN search_blocks AS b
  WHERE (OLD.message_key <= p.done_key OR OLD.message_key > p.gap_end_key AND OLD.message_key <= p.head_key)
    AND r.room_key = OLD.room_key AND b.room_key = OLD.room_key AND b.number = OLD.seq >> 10;
END;

PRAGMA user_version = 20;
COMMIT;
