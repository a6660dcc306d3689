"""Random clients against a real server that is killed again and again, and a verifier that has only their records.

`clients` act and note in a `journal` what they sent, what they were told and what they received; `run` kills and
restarts the server meanwhile; at the end `truth` reads every room's log, and `streams` and `verdict` hold the journal
against it.
Nothing of the product is imported here, so that no fault of its own client can hide one of the server.
"""
