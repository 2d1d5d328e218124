"""Tests of private SQLite files."""

from __future__ import annotations

import sqlite3

from wxtcb._sqlite import FileFormat

FORMAT = FileFormat(0x77785474, 1, ("CREATE TABLE rows (value TEXT)",))


def test_schema_that_another_process_created_is_kept(tmp_path):
    """Two processes may find the file empty. The second one, which had to wait for the lock, changes nothing."""
    path = tmp_path / "file.db"
    path.touch()
    db = sqlite3.connect(path, isolation_level=None)
    FORMAT.create_schema(db, path)
    db.execute("INSERT INTO rows VALUES ('kept')")
    FORMAT.create_schema(db, path)
    assert db.execute("SELECT value FROM rows").fetchall() == [("kept",)]
    db.close()
