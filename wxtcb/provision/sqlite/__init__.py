"""Journal in a SQLite file."""
