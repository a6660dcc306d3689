"""ChatAPI in the tests of others: a pytest plugin that gives each test an empty server (docs/testing.md).

It imports pytest, and the server imports nothing of it. The plugin's module is loaded by every run of pytest where
`chatapi` is installed, so it imports nothing else before a test asks for the server.
"""
