"""Bytes to records and back, with no I/O: `json` (bounds of any JSON), `requests`, `queries`, `user_requests`,
`moderation_requests`, `move_requests`, `stream_requests`, `search_records`, `sync_records`, `audit_records` and
`frames` (the records that clients send), `refusals` (why a record is refused), `answers`, `operator_answers`,
`moderation_answers`, `move_answers`, `move_records`, `stream_answers`, `user_answers` and `server_frames` (the records
that clients get, with shared `fields`), `webhook_calls` (those that a tenant's endpoint gets), `encoders` (these as
bytes), `dev_records` and `fault_records` (both sides of `/dev`), `pages` (lists and their cursors), `piped_text` (the
text of a pipe), `wire` (RFC 6455), `event_stream` (Server-Sent Events)."""
