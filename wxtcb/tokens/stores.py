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

from wxtcb.validation import as_file

if TYPE_CHECKING:
    from wxtcb.tokens.files.worker import Workers


@attrs.frozen
class Kept:
    """What a store holds of a platform: its `document`, None if there is none yet.

    `version` is another one after every change, and never comes back; `now` is the time by the store's own clock, in
    seconds. The document holds secrets and is in no repr.
    """

    document: str | None = attrs.field(repr=False)
    version: str
    now: float


class TokenStore(Protocol):
    """Keeps one document for each platform, for everybody who is given the same store. Provisional.

    Whatever is raised counts as "the store is down". None of the methods blocks the event loop.
    """

    async def load(self, component_appid: str) -> Kept:
        """Return what is kept; every change made before the call is in it."""
        ...

    async def swap(self, component_appid: str, document: str, *, version: str) -> bool:
        """Keep *document* if what is kept still has this *version*, and ring; else change nothing and return False."""
        ...

    async def changed(self, component_appid: str, *, version: str, within: float) -> None:
        """Return within 50 ms after what is kept has another *version*, and after *within* seconds at the latest."""
        ...


def is_store(value: object) -> bool:
    """Tell whether *value* has the methods of a `TokenStore`."""
    return all(callable(getattr(value, name, None)) for name in ("load", "swap", "changed"))


class OwnedStore(TokenStore, Protocol):
    """A store that holds something open, and is closed by whoever opened it."""

    async def aclose(self) -> None:
        """Close what is open; it may be closed twice."""
        ...


@attrs.define(repr=False, eq=False)
class MemoryStore:
    """A token store in the memory of this process; sessions that are given the same one share their token.

    They may run in several loops and threads.
    """

    now: Callable[[], float] = time.monotonic
    _kept: dict[str, tuple[str, str]] = attrs.field(init=False, repr=False, factory=dict[str, tuple[str, str]])
    _bells: dict[str, set[asyncio.Future[None]]] = attrs.field(
        init=False, repr=False, factory=dict[str, set["asyncio.Future[None]"]]
    )
    _versions: Iterator[int] = attrs.field(init=False, repr=False, factory=lambda: itertools.count(1))
    _lock: threading.Lock = attrs.field(init=False, repr=False, factory=threading.Lock)

    async def load(self, component_appid: str) -> Kept:
        document, version = self._kept.get(component_appid, (None, ""))
        return Kept(document, version, self.now())

    async def swap(self, component_appid: str, document: str, *, version: str) -> bool:
        with self._lock:
            if self._version(component_appid) != version:
                return False
            self._kept[component_appid] = document, str(next(self._versions))
            bells = tuple(self._bells.get(component_appid, ()))
        for bell in bells:
            with contextlib.suppress(RuntimeError):  # its loop was closed without a word to who waited in it
                bell.get_loop().call_soon_threadsafe(_ring, bell)
        return True

    async def changed(self, component_appid: str, *, version: str, within: float) -> None:
        bell: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._version(component_appid) != version:
                return
            bells = self._bells.setdefault(component_appid, set())
            bells.add(bell)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await bell
        finally:
            with self._lock:
                bells.discard(bell)

    def _version(self, component_appid: str) -> str:
        return self._kept.get(component_appid, ("", ""))[1]


def _full_path(path: str | os.PathLike[str]) -> Path:
    return as_file(path, otherwise="MemoryStore keeps a token in memory")


def _workers_of(store: SqliteStore) -> Workers:
    from wxtcb.tokens.files.worker import Workers

    return Workers(store.path)


@attrs.define(repr=False, eq=False)
class SqliteStore:
    """A token store in a file, for all processes of one machine; it needs no server.

    The file at *path* is made when it is first needed, in a directory that is there, readable for this user alone; one
    that is open to others, or that another program made, is refused with `TokenStoreError` and left as it is. A change
    is on the disk when `swap` returns, and kept whole or not at all, whatever kills the process. While another process
    stands still in the middle of a change, `load` goes on and `swap` fails after 1.5 seconds. `changed` looks every 20
    ms.

    The disk must be a local one: processes share memory beside the file (SQLite's WAL), which no network filesystem
    gives to several machines. Delete the file, its ``-wal`` and its ``-shm`` only together; what was deleted is made
    anew.

    `clock` tells Unix seconds, the same ones in all processes. A store may be built before a fork and used on both
    sides, and in several event loops. All SQLite does, it does in a thread of the store; whoever built the store ends
    that with `aclose`, or by `async with`, after which nothing can be asked any more.
    """

    path: Path = attrs.field(converter=_full_path)
    clock: Callable[[], float] = attrs.field(default=time.time, kw_only=True, repr=False)
    _workers: Workers = attrs.field(init=False, repr=False, default=attrs.Factory(_workers_of, takes_self=True))

    async def load(self, component_appid: str) -> Kept:
        clock = self.clock
        ask = self._workers.mine().submit(lambda file: Kept(*file.load(component_appid), clock()))
        return await asyncio.wrap_future(ask)

    async def swap(self, component_appid: str, document: str, *, version: str) -> bool:
        ask = self._workers.mine().submit(lambda file: file.swap(component_appid, document, version))
        return await asyncio.wrap_future(ask)

    async def changed(self, component_appid: str, *, version: str, within: float) -> None:
        await asyncio.wrap_future(self._workers.mine().watch(component_appid, version, within))

    async def aclose(self) -> None:
        """Close the file; what waits in `changed` fails with `TokenStoreError`, and so does all that is asked later."""
        await asyncio.shield(asyncio.wrap_future(self._workers.close()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _ring(bell: asyncio.Future[None]) -> None:
    if not bell.done():
        bell.set_result(None)
