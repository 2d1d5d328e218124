"""Where the processes of a platform share what they know: stores behind one small protocol.

A store keeps one document for each platform, replaces it by compare-and-set, tells the time, and rings when something
changed. What the document says, and who may renew, is decided above (`wxtcb.tokens.record`), alike for every store.

The `TokenStore` protocol is provisional: it may change in any release before 1.0.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import attrs


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


class OwnedStore(TokenStore, Protocol):
    """A store that holds something open, and is closed by whoever opened it."""

    async def aclose(self) -> None:
        """Close what is open; it may be closed twice."""
        ...


@attrs.define(eq=False)
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


def _ring(bell: asyncio.Future[None]) -> None:
    if not bell.done():
        bell.set_result(None)
