-- A room's members in the order in which they are listed and loaded, so that a page of them reads no more than itself.
BEGIN;

CREATE INDEX members_standing ON members (room_key, joined_at_us, user_id);

PRAGMA user_version = 4;
COMMIT;
