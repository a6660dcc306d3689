"""Two servers, a tenant that is moved to and fro between them, and SIGKILL for each party of a move at random moments.

The clients are those of users: `chatters.py` runs the Python SDK, `chatter.mjs` the JavaScript SDK in processes of
Node. They send, listen and write streams over each transport, know the first server's address alone, and note what they
were told in a `journal`; `run` moves the tenant with `chatapi tenant move` and kills the servers and the command
meanwhile; at the end `verdict` holds the journal against the rooms' logs.
"""
