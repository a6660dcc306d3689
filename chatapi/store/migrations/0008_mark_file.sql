-- The file says whose it is: the bytes "chat" in its header.
BEGIN;

PRAGMA application_id = 1667785076;

PRAGMA user_version = 8;
COMMIT;
