"""Bytes to records and back, with no I/O: `json` (bounds of any JSON), `requests` and `frames` (what clients send),
`replies` (what they get) with its description in `responses`, `server_frames` and `fields`, `wire` (RFC 6455)."""
