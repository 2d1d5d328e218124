"""Token stores: the `TokenStore` protocol, `MemoryStore` and `SqliteStore`.

A store keeps one document for each platform, replaces it by compare-and-set, has a clock, and wakes waiters when the
document changes. The content of the document and the rules for fetching tokens are the same for every store; see
`wxtcb.tokens.token_state`.

The `TokenStore` protocol is provisional: it may change in any release before 1.0.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeVar

import attrs

from wxtcb._concurrency.tasks import run_in_thread
from wxtcb.errors import TokenStoreError
from wxtcb.telemetry.dispatch import logger
from wxtcb.validation import to_file_path

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")

# How long an operation waits for locks of other processes. Shorter than the 2 seconds after which callers give up on a
# store, so that they get the message about the lock.
LOCK_TIMEOUT: Final = 1.5
LOCK_RETRY_INTERVAL: Final = 0.005
# `wait_for_change` has to return within 50 ms after a change.
POLL_INTERVAL: Final = 0.02
# `kind` of the log record, as those of events have it.
STORE_CREATED: Final = "TokenStoreCreated"


@attrs.frozen
class StoredDocument:
    """The document of a platform in a store; None if there is none yet.

    `version` changes with every write and is never used again. `store_time` is the time on the store's clock, in
    seconds. The document contains secrets, so no repr shows it.
    """

    document: str | None = attrs.field(repr=False)
    version: str
    store_time: float


class TokenStore(Protocol):
    """One document for each platform, shared by all who use the same store. Provisional.

    Any exception of a method means that the store is down. No method may block the event loop.
    """

    async def load(self, component_appid: str) -> StoredDocument:
        """Return the document, including every write that returned before this call."""
        ...

    async def compare_and_set(self, component_appid: str, document: str, *, version: str) -> bool:
        """Write *document* if the stored version is *version*, and wake waiters; else change nothing, return False."""
        ...

    async def wait_for_change(self, component_appid: str, *, version: str, timeout: float) -> None:
        """Return within 50 ms after the version differs from *version*, after *timeout* seconds at the latest."""


def is_token_store(value: object) -> bool:
    """Return whether *value* has the methods of a `TokenStore`."""
    return all(callable(getattr(value, name, None)) for name in ("load", "compare_and_set", "wait_for_change"))


def store_name(store: object) -> str:
    """Return the name of *store* in messages: its URL without the password, or else the name of its class."""
    url = getattr(store, "masked_url", None)
    return url if isinstance(url, str) else type(store).__name__


class ClosableTokenStore(TokenStore, Protocol):
    """A store that holds resources and is closed by the code that opened it."""

    async def aclose(self) -> None:
        """Release the resources; closing twice is allowed."""


@attrs.define(repr=False, eq=False)
class MemoryStore:
    """A token store in the memory of this process; sessions that use the same instance share their token.

    They may run in different event loops and threads. *clock* returns seconds.
    """

    clock: Callable[[], float] = time.monotonic
    # Document and version by appid.
    _documents: dict[str, tuple[str, str]] = attrs.field(init=False, repr=False, factory=dict[str, tuple[str, str]])
    _waiters: dict[str, set[asyncio.Future[None]]] = attrs.field(init=False, repr=False, factory=dict)
    _version_counter: Iterator[int] = attrs.field(init=False, repr=False, factory=lambda: itertools.count(1))
    _lock: threading.Lock = attrs.field(init=False, repr=False, factory=threading.Lock)

    async def load(self, component_appid: str) -> StoredDocument:
        document, version = self._documents.get(component_appid, (None, ""))
        return StoredDocument(document, version, self.clock())

    async def compare_and_set(self, component_appid: str, document: str, *, version: str) -> bool:
        with self._lock:
            if self._current_version(component_appid) != version:
                return False
            self._documents[component_appid] = document, str(next(self._version_counter))
            waiters = tuple(self._waiters.get(component_appid, ()))
        for waiter in waiters:
            # A waiter whose loop was closed without cancelling it raises RuntimeError here.
            with contextlib.suppress(RuntimeError):
                waiter.get_loop().call_soon_threadsafe(_wake, waiter)
        return True

    async def wait_for_change(self, component_appid: str, *, version: str, timeout: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Under the lock: a change between the comparison and the registration would otherwise be missed.
        with self._lock:
            if self._current_version(component_appid) != version:
                return
            waiters = self._waiters.setdefault(component_appid, set())
            waiters.add(waiter)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await waiter
        finally:
            with self._lock:
                waiters.discard(waiter)

    def _current_version(self, component_appid: str) -> str:
        return self._documents.get(component_appid, ("", ""))[1]


def _wake(waiter: asyncio.Future[None]) -> None:
    # Two changes in a row schedule this twice.
    if not waiter.done():
        waiter.set_result(None)


def _resolve_path(path: str | os.PathLike[str]) -> Path:
    return to_file_path(path, memory_hint="MemoryStore keeps a token in memory")


@attrs.define(repr=False, eq=False)
class SqliteStore:
    """A token store in a file, for all processes of one machine; it needs no server.

    - The file at *path* is created at the first use, in an existing directory, with access for this user only.
      A file that other users may read, or that another program created, raises `TokenStoreError` and stays unchanged.
    - A write is on the disk when `compare_and_set` returns. It is complete or absent, even if the process is killed.
    - While another process is stuck in the middle of a write, `load` works, and `compare_and_set` fails after 1.5
      seconds. `wait_for_change` polls every 20 ms.
    - The disk must be local: SQLite's write-ahead log needs shared memory, which network file systems do not provide.
    - Delete the file, its ``-wal`` and its ``-shm`` only together. A deleted file is created again.

    `clock` returns Unix seconds and must agree between processes. With `warn_if_created`, a file that the store creates
    is a warning in the log: `Session` sets it for the URL of a relative path.

    A store may be created before a fork and used on both
    sides, and in several event loops. A process uses one connection, in worker threads. It is closed before a fork, and
    by `aclose` or at the end of ``async with``; afterwards every operation raises `TokenStoreError`.
    """

    path: Path = attrs.field(converter=_resolve_path)
    clock: Callable[[], float] = attrs.field(default=time.time, kw_only=True, repr=False)
    warn_if_created: bool = attrs.field(default=False, kw_only=True, repr=False)
    _file: _SqliteFile = attrs.field(
        init=False,
        repr=False,
        default=attrs.Factory(lambda self: _SqliteFile(self.path, self.warn_if_created), takes_self=True),
    )
    # Operations that are under way. The process id is part of the key, because a child inherits its parent's entries.
    _active: set[tuple[int, object]] = attrs.field(init=False, repr=False, factory=set[tuple[int, object]])
    _closed: bool = attrs.field(init=False, repr=False, default=False)

    @property
    def masked_url(self) -> str:
        """The URL of the store, with the absolute path of the file."""
        path = str(self.path).replace("%", "%25").replace("?", "%3F").replace("#", "%23")
        return f"sqlite:///{path}"

    async def load(self, component_appid: str) -> StoredDocument:
        def select(db: sqlite3.Connection) -> StoredDocument:
            cursor = db.execute("SELECT document, version FROM kept WHERE appid = ?", (component_appid,))
            row: tuple[bytes, str] | None = cursor.fetchone()
            # A `StoredDocument` in the thread already: in debug mode asyncio logs the repr of the thread's result.
            if row is None:
                return StoredDocument(None, "", self.clock())
            return StoredDocument(row[0].decode(errors="surrogatepass"), row[1], self.clock())

        return await self._run(select)

    async def compare_and_set(self, component_appid: str, document: str, *, version: str) -> bool:
        # A single statement, so SQLite makes it atomic. An empty version stands for "no document".
        statement = (
            "UPDATE kept SET document = :document, version = :version WHERE appid = :appid AND version = :expected"
            if version
            else "INSERT INTO kept VALUES (:appid, :document, :version) ON CONFLICT DO NOTHING"
        )
        values = {
            "appid": component_appid,
            # A blob, because SQLite's text stops at a NUL character. "surrogatepass" accepts any str.
            "document": document.encode(errors="surrogatepass"),
            "expected": version,
            # Random and not a counter: after the file was deleted no old version may occur again.
            "version": os.urandom(12).hex(),
        }
        return await self._run(lambda db: db.execute(statement, values).rowcount == 1)

    async def wait_for_change(self, component_appid: str, *, version: str, timeout: float) -> None:
        def select_version(db: sqlite3.Connection) -> str:
            row = db.execute("SELECT version FROM kept WHERE appid = ?", (component_appid,)).fetchone()
            return "" if row is None else str(row[0])

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while await self._run(select_version) == version:
                    await asyncio.sleep(POLL_INTERVAL)

    async def aclose(self) -> None:
        """Close the store and its file, after the reads and writes that are running.

        `wait_for_change` raises `TokenStoreError` at its next poll.
        """
        self._closed = True
        # Polled, because the operations may run in other event loops and threads. It ends soon: an operation waits at
        # most `LOCK_TIMEOUT` for locks.
        while any(process_id == os.getpid() for process_id, _ in tuple(self._active)):
            await asyncio.sleep(POLL_INTERVAL)
        await run_in_thread(self._file.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _run(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run *operation* on the connection in a worker thread; no SQLite call runs on the event loop."""
        if self._closed:
            raise TokenStoreError(f"the store on {self.path} was closed", permanent=True)
        entry = os.getpid(), object()
        self._active.add(entry)
        try:
            # Also if the caller is cancelled, this waits for the thread. So a write never lands after its cancellation.
            return await run_in_thread(lambda: self._file.run(operation))
        finally:
            self._active.discard(entry)


@attrs.define(eq=False)
class _SqliteFile:
    """The file at `path` and this process's connection to it, which the first operation opens.

    All methods block, and may be called from any thread.
    """

    path: Path
    warn_if_created: bool = False
    _db: sqlite3.Connection | None = attrs.field(init=False, default=None)
    # Device and inode of the file that is open. They differ from those at `path` after the file was deleted.
    _identity: tuple[int, int] | None = attrs.field(init=False, default=None)
    # Held while the connection is in use, but not during the wait for a lock of another process.
    lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        _files.add(self)

    def run(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Return the result of *operation*; repeat it for `LOCK_TIMEOUT` while another process holds a lock."""
        # Imported here, so that `import wxtcb` does not load SQLite.
        import sqlite3

        from wxtcb._files import sqlite

        # Not SQLite's own `busy_timeout`: that limits each statement, and opening the file takes several.
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            with self.lock:
                try:
                    return operation(self._open())
                except sqlite.UnusableFile as error:
                    raise TokenStoreError(str(error), permanent=error.permanent) from error
                except sqlite3.Error as error:
                    if not sqlite.is_locked(error):
                        # Opening the file anew repairs what can be repaired, such as a full or a lost log.
                        self.close_connection()
                        raise TokenStoreError(f"{self.path}: {error}", permanent=sqlite.is_corrupt(error)) from error
                    if time.monotonic() >= deadline:
                        message = f"another process held the lock on {self.path} for more than {LOCK_TIMEOUT:g} s"
                        raise TokenStoreError(message) from error
                except OSError as error:
                    raise TokenStoreError(f"{self.path}: {error.strerror}") from error
            time.sleep(LOCK_RETRY_INTERVAL)

    def close(self) -> None:
        """Close the connection; the next operation opens another one."""
        with self.lock:
            self.close_connection()

    def close_connection(self) -> None:
        """Close the connection; the caller holds `lock`."""
        if self._db is not None:
            self._db.close()
            self._db = None

    # A store that was never closed must not cause the ResourceWarning of sqlite3.
    __del__ = close_connection

    def _open(self) -> sqlite3.Connection:
        """Return the connection; open it if there is none, or if the file was deleted or replaced."""
        from wxtcb._files import sqlite

        identity = sqlite.file_identity(self.path)
        if self._db is not None and self._identity == identity:
            return self._db
        self.close_connection()
        file_format = sqlite.FileFormat(
            application_id=int.from_bytes(b"wxTS"),
            schema_version=1,
            create_statements=(
                "CREATE TABLE kept (appid TEXT PRIMARY KEY, document BLOB NOT NULL, version TEXT NOT NULL)",
            ),
        )
        # Read before the file is opened: if it is replaced in between, the next operation notices.
        self._identity = identity or self._create()
        sqlite.check_access(self.path)
        with contextlib.ExitStack() as stack:
            # Worker threads take turns, under `lock`.
            db = stack.enter_context(contextlib.closing(sqlite.connect(self.path, check_same_thread=False)))
            file_format.ensure_schema(db, self.path)
            # FULL: a commit is on the disk when it returns. In WAL mode SQLite's default is NORMAL.
            db.execute("PRAGMA synchronous = FULL")
            # Of several tokens and tickets, some may still be valid. This also keeps the log short.
            sqlite.overwrite_old_data(db)
            # With a write-ahead log a reader never waits for a writer.
            sqlite.enable_wal(db, self.path)
            stack.pop_all()
        self._db = db
        return db

    def _create(self) -> tuple[int, int] | None:
        from wxtcb._files import sqlite

        identity = sqlite.create_private_file(self.path)
        if self.warn_if_created:
            logger.warning(
                "created the token store %s in the working directory. A program that starts in another directory would "
                "create another store, and its fetches would invalidate the token in this one. Use an absolute path "
                "(sqlite:////...)",
                self.path,
                extra={"kind": STORE_CREATED},
            )
        return identity


# SQLite's locks belong to a process, so a connection must not be open during a fork: the child would take the parent's
# locks for its own. The hooks close all connections, and keep other threads from opening them until after the fork.
_files: weakref.WeakSet[_SqliteFile] = weakref.WeakSet()
_files_during_fork: list[_SqliteFile] = []


def _before_fork() -> None:
    for file in tuple(_files):
        file.lock.acquire()
        _files_during_fork.append(file)
        file.close_connection()


def _after_fork() -> None:
    while _files_during_fork:
        _files_during_fork.pop().lock.release()


# The function is missing on Windows, which has no fork.
getattr(os, "register_at_fork", dict)(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
