-- Threads: replies name their root in messages.thread_id, and a root shows the sum of its replies.
BEGIN;

-- Roots are named by their seq, so that all that belongs to the beginning of a log is found together.
CREATE TABLE threads (
  room_key INTEGER NOT NULL REFERENCES rooms,
  root_seq INTEGER NOT NULL,
  -- Of the replies that are not deleted, of which there is at least one.
  reply_count INTEGER NOT NULL,
  last_reply_seq INTEGER NOT NULL,
  last_reply_at_us INTEGER NOT NULL,
  PRIMARY KEY (room_key, root_seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX messages_replies ON messages (room_key, thread_id, seq) WHERE thread_id IS NOT NULL;
CREATE INDEX messages_present_replies ON messages (room_key, thread_id, seq)
  WHERE thread_id IS NOT NULL AND deleted_at_us IS NULL;

PRAGMA user_version = 17;
COMMIT;
