"""The record that all processes of a platform share: read, and changed by compare-and-set."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import attrs

from wxtcb.errors import TokenStoreError, WxtcbError
from wxtcb.tokens.callbacks import Told, ask_foreign
from wxtcb.tokens.state import LONGEST_PAUSE, Record, read_record, write_record
from wxtcb.tokens.stores import TokenStore

T = TypeVar("T")

Change = Callable[[Record, float], Record | None]

STORE_PATIENCE: Final = 2.0


@attrs.frozen
class Seen:
    """The record as it was when the store answered: at `now` by the store's clock, at `at` by the event loop's."""

    record: Record
    version: str
    now: float
    at: float


@attrs.define(eq=False)
class SharedRecord:
    """The record of one platform in a store; `last` is how it was seen last.

    Whatever the store raises becomes a `TokenStoreError` that names the place, without a frame of the store; so does an
    answer that takes longer than two seconds.
    """

    store: TokenStore
    component_appid: str
    last: Seen | None = attrs.field(init=False, repr=False, default=None)

    async def read(self) -> Seen:
        """Return the record as it is."""
        self.last = await self._ask(self._load)
        return self.last

    async def change(self, change: Change) -> Seen | None:
        """Replace the record by what *change* makes of it (and of the store's time), however often it is overtaken.

        Returns the record that is kept then, or None where *change* returned None, and nothing was changed. What
        *change* raises is passed on.
        """
        while True:
            seen = await self.read()
            record = change(seen.record, seen.now)
            if record is None:
                return None
            if await self._swap(record, seen.version):
                self.last = attrs.evolve(seen, record=record)
                return self.last

    async def change_when_up(self, change: Change, rest: Callable[[float], Awaitable[None]]) -> Seen | None:
        """Do `change` as soon as the store allows it: it is tried again after 1 s, doubled up to 30 s."""
        pause = 1.0
        while True:
            try:
                return await self.change(change)
            except TokenStoreError:
                await rest(pause)
                pause = min(LONGEST_PAUSE, 2 * pause)

    async def wait(self, seen: Seen, within: float) -> None:
        """Return when the record is no longer as *seen*, and after *within* seconds at the latest."""
        await self._ask(
            lambda: self.store.changed(self.component_appid, version=seen.version, within=within),
            within + STORE_PATIENCE,
        )

    async def _load(self) -> Seen:
        kept = await self.store.load(self.component_appid)
        record = read_record(kept.document)
        if record is None:
            raise TokenStoreError("keeps what is no token record of this version of wxtcb", lasting=True)
        return Seen(record, kept.version, float(kept.now), asyncio.get_running_loop().time())

    async def _swap(self, record: Record, version: str) -> bool:
        return await self._ask(lambda: self.store.swap(self.component_appid, write_record(record), version=version))

    async def _ask(self, question: Callable[[], Awaitable[T]], patience: float = STORE_PATIENCE) -> T:
        answer = await ask_foreign(question, patience)
        if isinstance(answer, Told):
            raise TokenStoreError(answer.words)
        if isinstance(answer, WxtcbError):
            raise answer if isinstance(answer, TokenStoreError) else TokenStoreError(answer.reason)
        return answer
