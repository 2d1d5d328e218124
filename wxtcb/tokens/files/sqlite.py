"""The SQLite file that keeps the documents of `SqliteStore`: opened, checked, read and written; all of it blocks."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final

import attrs

from wxtcb._sqlite import (
    FileFormat,
    check_access,
    connect,
    create_private_file,
    enable_wal,
    error_code,
    file_identity,
    pragma,
)

_KIND: Final = FileFormat(
    application_id=int.from_bytes(b"wxTS"),
    schema_version=1,
    create_statements=("CREATE TABLE kept (appid TEXT PRIMARY KEY, document BLOB NOT NULL, version TEXT NOT NULL)",),
)
_LOG_PAGES: Final = 100  # of 4 KB: what a small and full disk still has room for


@attrs.define(eq=False)
class TokenFile:
    """The file at `path`, opened when first needed, and again when another one has taken its place."""

    path: Path
    _db: sqlite3.Connection | None = attrs.field(init=False, default=None)
    _inode: tuple[int, int] | None = attrs.field(init=False, default=None)
    _stir: int | None = attrs.field(init=False, default=None)

    def load(self, component_appid: str) -> tuple[str | None, str]:
        """Return the document and its version, None and an empty version if there is none."""
        found = self._opened().execute("SELECT document, version FROM kept WHERE appid = ?", (component_appid,))
        row: tuple[bytes, str] | None = found.fetchone()
        return (None, "") if row is None else (row[0].decode(errors="surrogatepass"), row[1])

    def version(self, component_appid: str) -> str:
        """Return the version alone."""
        found = self._opened().execute("SELECT version FROM kept WHERE appid = ?", (component_appid,))
        row: tuple[str] | None = found.fetchone()
        return row[0] if row else ""

    def compare_and_set(self, component_appid: str, document: str, version: str) -> bool:
        """Keep *document* under a new version if what is kept has this *version*; one statement, so all or nothing."""
        new = {"appid": component_appid, "document": document.encode(errors="surrogatepass"), "seen": version}
        statement = (
            "UPDATE kept SET document = :document, version = :version WHERE appid = :appid AND version = :seen"
            if version
            else "INSERT INTO kept VALUES (:appid, :document, :version) ON CONFLICT DO NOTHING"
        )
        done = self._opened().execute(statement, new | {"version": os.urandom(12).hex()})
        self._stir = None
        return done.rowcount == 1

    def stirred(self) -> bool:
        """Tell whether anything was committed, or the file replaced, since this was last asked."""
        stir = int(pragma(self._opened(), "data_version"))
        before, self._stir = self._stir, stir
        return stir != before

    def close(self) -> None:
        """Close the file; what is asked next opens it again."""
        db, self._db, self._stir = self._db, None, None
        if db is not None:
            db.close()

    def recover(self, error: Exception) -> None:
        """Help the next call after *error*: make room in the log if the disk is full, else open the file anew."""
        with contextlib.suppress(sqlite3.Error):
            if self._db is not None and error_code(error) == sqlite3.SQLITE_FULL:
                self._db.execute("PRAGMA wal_checkpoint")
            else:
                self.close()

    def _opened(self) -> sqlite3.Connection:
        if self._db is not None and self._inode == file_identity(self.path):
            return self._db
        self.close()
        inode = file_identity(self.path) or create_private_file(self.path)
        check_access(self.path)
        self._db, self._inode = _connect(self.path), inode  # if it was replaced meanwhile, the next look will tell
        return self._db


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file; only one that is empty is made ours, and any other that is not is left as it is."""
    db = connect(path)
    try:
        _KIND.ensure_schema(db, path)
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        enable_wal(db, path)
    except BaseException:
        db.close()
        raise
    return db
