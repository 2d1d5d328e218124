"""Where the processes of a platform share what they know: stores behind one small protocol.

A store keeps one document for each platform, replaces it by compare-and-set, tells the time, and rings when something
changed. What the document says, and who may renew, is decided above (`wxtcb.tokens.state`), alike for every store.

The `TokenStore` protocol is provisional: it may change in any release before 1.0.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import attrs

from wxtcb.validation import to_file_path

if TYPE_CHECKING:
    from wxtcb.tokens.files.worker import Workers


@attrs.frozen
class StoredDocument:
    """What a store holds of a platform: its `document`, None if there is none yet.

    `version` is another one after every change, and never comes back; `now` is the time by the store's own clock, in
    seconds. The document holds secrets and is in no repr.
    """

    document: str | None = attrs.field(repr=False)
    version: str
    store_time: float


class TokenStore(Protocol):
    """Keeps one document for each platform, for everybody who is given the same store. Provisional.

    Whatever is raised counts as "the store is down". None of the methods blocks the event loop.
    """

    async def load(self, component_appid: str) -> StoredDocument:
        """Return what is kept; every change made before the call is in it."""
        ...

    async def compare_and_set(self, component_appid: str, document: str, *, version: str) -> bool:
        """Keep *document* if what is kept still has this *version*, and ring; else change nothing and return False."""
        ...

    async def wait_for_change(self, component_appid: str, *, version: str, timeout: float) -> None:
        """Return within 50 ms after what is kept has another *version*, and after *within* seconds at the latest."""
        ...


def is_token_store(value: object) -> bool:
    """Tell whether *value* has the methods of a `TokenStore`."""
    return all(callable(getattr(value, name, None)) for name in ("load", "compare_and_set", "wait_for_change"))


class ClosableTokenStore(TokenStore, Protocol):
    """A store that holds something open, and is closed by whoever opened it."""

    async def aclose(self) -> None:
        """Close what is open; it may be closed twice."""
        ...


@attrs.define(repr=False, eq=False)
class MemoryStore:
    """A token store in the memory of this process; sessions that are given the same one share their token.

    They may run in several loops and threads.
    """

    clock: Callable[[], float] = time.monotonic
    _documents: dict[str, tuple[str, str]] = attrs.field(init=False, repr=False, factory=dict[str, tuple[str, str]])
    _waiters: dict[str, set[asyncio.Future[None]]] = attrs.field(
        init=False, repr=False, factory=dict[str, set["asyncio.Future[None]"]]
    )
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
            bells = tuple(self._waiters.get(component_appid, ()))
        for bell in bells:
            with contextlib.suppress(RuntimeError):  # its loop was closed without a word to who waited in it
                bell.get_loop().call_soon_threadsafe(_wake, bell)
        return True

    async def wait_for_change(self, component_appid: str, *, version: str, timeout: float) -> None:
        bell: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._current_version(component_appid) != version:
                return
            bells = self._waiters.setdefault(component_appid, set())
            bells.add(bell)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await bell
        finally:
            with self._lock:
                bells.discard(bell)

    def _current_version(self, component_appid: str) -> str:
        return self._documents.get(component_appid, ("", ""))[1]


def _resolve_path(path: str | os.PathLike[str]) -> Path:
    return to_file_path(path, memory_hint="MemoryStore keeps a token in memory")


def _create_workers(store: SqliteStore) -> Workers:
    from wxtcb.tokens.files.worker import Workers

    return Workers(store.path)


@attrs.define(repr=False, eq=False)
class SqliteStore:
    """A token store in a file, for all processes of one machine; it needs no server.

    The file at *path* is made when it is first needed, in a directory that is there, readable for this user alone; one
    that is open to others, or that another program made, is refused with `TokenStoreError` and left as it is. A change
    is on the disk when `compare_and_set` returns, and kept whole or not at all, whatever kills the process. While another process
    stands still in the middle of a change, `load` goes on and `compare_and_set` fails after 1.5 seconds. `wait_for_change` looks every 20
    ms.

    The disk must be a local one: processes share memory beside the file (SQLite's WAL), which no network filesystem
    gives to several machines. Delete the file, its ``-wal`` and its ``-shm`` only together; what was deleted is made
    anew.

    `clock` tells Unix seconds, the same ones in all processes. A store may be built before a fork and used on both
    sides, and in several event loops. All SQLite does, it does in a thread of the store; whoever built the store ends
    that with `aclose`, or by `async with`, after which nothing can be asked any more.
    """

    path: Path = attrs.field(converter=_resolve_path)
    clock: Callable[[], float] = attrs.field(default=time.time, kw_only=True, repr=False)
    _workers: Workers = attrs.field(init=False, repr=False, default=attrs.Factory(_create_workers, takes_self=True))

    async def load(self, component_appid: str) -> StoredDocument:
        clock = self.clock
        ask = self._workers.for_this_process().submit(lambda file: StoredDocument(*file.load(component_appid), clock()))
        return await asyncio.wrap_future(ask)

    async def compare_and_set(self, component_appid: str, document: str, *, version: str) -> bool:
        ask = self._workers.for_this_process().submit(
            lambda file: file.compare_and_set(component_appid, document, version)
        )
        return await asyncio.wrap_future(ask)

    async def wait_for_change(self, component_appid: str, *, version: str, timeout: float) -> None:
        await asyncio.wrap_future(self._workers.for_this_process().wait_for_change(component_appid, version, timeout))

    async def aclose(self) -> None:
        """Close the file; what waits in `wait_for_change` fails with `TokenStoreError`, and so does all that is asked later."""
        await asyncio.shield(asyncio.wrap_future(self._workers.close()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
