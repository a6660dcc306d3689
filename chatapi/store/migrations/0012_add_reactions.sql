-- Reactions to messages. The log has an event for each; where a message is read, it shows them all.
BEGIN;

-- 1 once something was attached to the message that its own events do not carry. What that is stands in other tables, so
-- that a message without any costs no look at them.
ALTER TABLE messages ADD COLUMN annotated INTEGER;

-- 1 for an event that is no activity of its room: by the others rooms are ordered.
ALTER TABLE changes ADD COLUMN quiet INTEGER;
CREATE INDEX changes_active ON changes (room_key, seq) WHERE quiet IS NULL;

-- Messages are named by their seq, so that all that belongs to the beginning of a log is found together.
CREATE TABLE reactions (
  room_key INTEGER NOT NULL REFERENCES rooms,
  target_seq INTEGER NOT NULL,
  -- Of the event that added it: the order of reacting.
  seq INTEGER NOT NULL,
  emoji TEXT NOT NULL,
  user_id TEXT NOT NULL,
  created_at_us INTEGER NOT NULL,
  PRIMARY KEY (room_key, target_seq, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX reactions_of_user ON reactions (room_key, target_seq, user_id, emoji);
-- With all columns of a listed reaction, so that an offset passes over entries of this index alone.
CREATE INDEX reactions_of_emoji ON reactions (room_key, target_seq, emoji, seq, user_id, created_at_us);

-- What a message shows of its reactions.
CREATE TABLE reaction_counts (
  room_key INTEGER NOT NULL REFERENCES rooms,
  target_seq INTEGER NOT NULL,
  -- Of the event that brought the emoji: the order of first use.
  first_seq INTEGER NOT NULL,
  emoji TEXT NOT NULL,
  count INTEGER NOT NULL,
  -- A JSON array of the first 20, in the order of reacting.
  user_ids TEXT NOT NULL,
  PRIMARY KEY (room_key, target_seq, first_seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX reaction_counts_emoji ON reaction_counts (room_key, target_seq, emoji);

-- Messages that were deleted, whose reactions are still to be removed, bit by bit.
CREATE TABLE emptied_messages (
  room_key INTEGER NOT NULL REFERENCES rooms,
  target_seq INTEGER NOT NULL,
  PRIMARY KEY (room_key, target_seq)
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 12;
COMMIT;
