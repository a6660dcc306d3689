-- Pinned messages: at most 100 of a room. Where such a message is read, it shows when it was pinned.
BEGIN;

CREATE TABLE pins (
  room_key INTEGER NOT NULL REFERENCES rooms,
  -- Of the event that pinned it: the order of pinning.
  seq INTEGER NOT NULL,
  target_seq INTEGER NOT NULL,
  user_id TEXT NOT NULL,
  pinned_at_us INTEGER NOT NULL,
  PRIMARY KEY (room_key, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX pins_message ON pins (room_key, target_seq);

PRAGMA user_version = 13;
COMMIT;
