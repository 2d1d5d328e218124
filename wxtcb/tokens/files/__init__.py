"""The file of a `SqliteStore`, and the thread that reads and writes it."""
