-- The event that deleted a message is found by the message: to look for it through the log took as long as what came since.
BEGIN;

CREATE INDEX changes_deletions ON changes (room_key, message_key) WHERE message_key IS NOT NULL AND frame IS NOT NULL;

PRAGMA user_version = 6;
COMMIT;
