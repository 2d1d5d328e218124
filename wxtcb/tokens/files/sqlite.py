"""The SQLite file that keeps the documents of `SqliteStore`: opened, checked, read and written; all of it blocks."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import tempfile
from pathlib import Path
from typing import Final

import attrs

from wxtcb.errors import TokenStoreError

_APPLICATION: Final = int.from_bytes(b"wxTS")
_FORMAT: Final = 1
_OTHERS: Final = 0o077 if os.name == "posix" else 0
_LOG_PAGES: Final = 100  # of 4 KB: what a small and full disk still has room for
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


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

    def swap(self, component_appid: str, document: str, version: str) -> bool:
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
        stir = int(_pragma(self._opened(), "data_version"))
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
            if self._db is not None and _code_of(error) == sqlite3.SQLITE_FULL:
                self._db.execute("PRAGMA wal_checkpoint")
            else:
                self.close()

    def _opened(self) -> sqlite3.Connection:
        if self._db is not None and self._inode == _inode_of(self.path):
            return self._db
        self.close()
        inode = _inode_of(self.path) or _create(self.path)
        _check_kind(self.path)
        self._db, self._inode = _connect(self.path), inode  # if it was replaced meanwhile, the next look will tell
        return self._db


def is_locked(error: Exception) -> bool:
    """Tell whether *error* says that somebody else holds a lock."""
    return _code_of(error) in _BUSY


def is_foreign(error: sqlite3.Error) -> bool:
    """Tell whether *error* says that the file is none of SQLite's, or damaged: then waiting does not mend it."""
    return _code_of(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def _code_of(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _inode_of(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _create(path: Path) -> tuple[int, int] | None:
    """Put an empty file in place that nobody else could ever read, unless somebody was quicker.

    It gets its place by a link when it is closed: to close any file at the place would end the locks that other
    connections of this process hold there.
    """
    if not path.parent.is_dir():
        raise TokenStoreError(f"there is no directory {path.parent} for {path.name}")
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        draft.chmod(0o600)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink()
    return _inode_of(path)


def _check_kind(path: Path) -> None:
    """Refuse what is no file, cannot be written, or is open to other users.

    It is not tightened in silence: its owner has to know what they may have read already.
    """
    if not path.is_file():
        raise TokenStoreError(f"{path} is no file", lasting=True)
    if not os.access(path, os.R_OK | os.W_OK):
        raise TokenStoreError(f"{path} must be readable and writable for this process", lasting=True)
    for each in (path, *(_beside(path, what) for what in ("wal", "shm", "journal"))):
        with contextlib.suppress(FileNotFoundError):
            mode = stat.S_IMODE(each.stat().st_mode)
            if mode & _OTHERS:
                reason = f"{each} has mode {mode:03o}, so other users may have read the secrets in it; it must have 600"
                raise TokenStoreError(reason, lasting=True)


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file; only one that is empty is made ours, and any other that is not is left as it is."""
    db = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=0, isolation_level=None)
    try:
        if not _is_ours(db) and not path.stat().st_size:
            _make_ours(db, path)
        _check_format(db, path)
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        _keep_log(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _make_ours(db: sqlite3.Connection, path: Path) -> None:
    """Write the tables into an empty file, and remove what a deleted one left beside it.

    While the lock holds nobody uses the new file, and so nobody uses its ``-shm``, which SQLite would believe.
    """
    db.execute("BEGIN EXCLUSIVE")
    if not path.stat().st_size:
        _beside(path, "shm").unlink(missing_ok=True)
        db.execute("CREATE TABLE kept (appid TEXT PRIMARY KEY, document BLOB NOT NULL, version TEXT NOT NULL)")
        db.execute(f"PRAGMA application_id = {_APPLICATION}")
        db.execute(f"PRAGMA user_version = {_FORMAT}")
    db.execute("COMMIT")


def _check_format(db: sqlite3.Connection, path: Path) -> None:
    if not _is_ours(db):
        raise TokenStoreError(f"{path} is the database of another program; it was left as it is", lasting=True)
    if _pragma(db, "user_version") != _FORMAT:
        raise TokenStoreError(f"{path} was written by another version of wxtcb; it was left as it is", lasting=True)


def _keep_log(db: sqlite3.Connection, path: Path) -> None:
    if _pragma(db, "journal_mode = WAL") != "wal":
        raise TokenStoreError(f"{path} must be on a local disk, where a write-ahead log can be kept", lasting=True)


def _beside(path: Path, what: str) -> Path:
    return Path(f"{path}-{what}")


def _is_ours(db: sqlite3.Connection) -> bool:
    return _pragma(db, "application_id") == _APPLICATION


def _pragma(db: sqlite3.Connection, words: str) -> str | int:
    row: tuple[str | int] = db.execute(f"PRAGMA {words}").fetchone()
    return row[0]
