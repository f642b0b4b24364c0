"""What the tests run on: the databases, the stores and the server processes of each stack.

`embedded` is SQLite with LMDB, `server` is PostgreSQL with Redis; nothing here knows what is tested.
"""
