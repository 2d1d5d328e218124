"""Tests of private SQLite files."""

from __future__ import annotations

import os
import sqlite3

import pytest

from wxtcb._files import sqlite
from wxtcb._files.sqlite import FileFormat, UnusableFile, check_access

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


@pytest.fixture
def path(tmp_path):
    """Return the path of a private file."""
    path = tmp_path / "file.db"
    path.touch(mode=0o600)
    return path


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_file_of_another_user_is_rejected(path, monkeypatch, suffix):
    """Its owner could read what is stored; the error names both users and what to do."""
    check_access(path)
    file = path.with_name(path.name + suffix)
    file.touch(mode=0o600)
    own, lstat = os.geteuid(), type(path).lstat

    def foreign(self):
        status = lstat(self)
        return os.stat_result((*status[:4], own + 1, *status[5:])) if self == file else status

    monkeypatch.setattr(type(path), "lstat", foreign)
    with pytest.raises(
        UnusableFile, match=rf"{file} belongs to another user \(id {own + 1}; .*{own}\); .*chown"
    ) as caught:
        check_access(path)
    assert caught.value.permanent


def test_link_in_place_of_the_file_is_rejected(path):
    """Paths are resolved before; a link that appears later was not checked."""
    path.rename(path.with_name("other"))
    path.symlink_to("other")
    with pytest.raises(UnusableFile, match="not a file"):
        check_access(path)


def test_directory_in_which_everyone_may_replace_the_file_is_rejected(path):
    """The error has the commands that correct it; the corrected directory is accepted at once."""
    path.parent.chmod(0o777)
    with pytest.raises(UnusableFile, match=r"every user may replace .*chmod o-w .*chmod \+t .*emptyDir"):
        check_access(path)
    path.parent.chmod(0o1777)
    check_access(path)


def test_log_of_another_user_that_appears_after_the_check_is_rejected(path, monkeypatch):
    """SQLite would write into it."""
    checks = []
    monkeypatch.setattr(sqlite, "is_own", lambda status: (checks.append(status), len(checks) < 2)[1])
    check_access(path)
    db = sqlite.connect(path)
    with pytest.raises(UnusableFile, match="belongs to another user"):
        sqlite.enable_wal(db, path)
    db.close()
