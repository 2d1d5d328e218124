"""The record that all processes of a platform share: read, and changed by compare-and-set."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import attrs

from wxtcb.errors import TokenStoreError, WxtcbError
from wxtcb.tokens.foreign import place_of
from wxtcb.tokens.record import Record, read_record, write_record
from wxtcb.tokens.stores import Kept, TokenStore

T = TypeVar("T")

STORE_PATIENCE: Final = 2.0


@attrs.frozen
class Seen:
    """The record as it was when the store answered, at `now` on the store's clock."""

    record: Record
    version: str
    now: float


@attrs.frozen(eq=False)
class SharedRecord:
    """The record of one platform in a store.

    Whatever the store raises becomes a `TokenStoreError` that names the place, without a frame of the store; so does an
    answer that takes longer than two seconds.
    """

    store: TokenStore
    component_appid: str

    async def read(self) -> Seen:
        """Return the record as it is."""
        kept = await self._ask(self.store.load(self.component_appid))
        return self._seen(kept)

    async def change(self, change: Callable[[Record, float], Record | None]) -> Seen | None:
        """Replace the record by what *change* makes of it (and of the store's time), however often it is overtaken.

        Returns the record then kept, or None where *change* returned None, and nothing was changed. What *change*
        raises is passed on.
        """
        while True:
            seen = await self.read()
            record = change(seen.record, seen.now)
            if record is None:
                return None
            document = write_record(record)
            if await self._ask(self.store.swap(self.component_appid, document, version=seen.version)):
                return attrs.evolve(seen, record=record)
            del document

    async def wait(self, seen: Seen, within: float) -> None:
        """Return when the record is no longer as *seen*, and after *within* seconds at the latest."""
        await self._ask(
            self.store.changed(self.component_appid, version=seen.version, within=within), within + STORE_PATIENCE
        )

    def _seen(self, kept: Kept) -> Seen:
        try:
            return Seen(read_record(kept.document), kept.version, kept.now)
        except ValueError as error:
            reason = str(error)
        raise TokenStoreError(reason)

    async def _ask(self, answer: Awaitable[T], patience: float = STORE_PATIENCE) -> T:
        result = await _outcome(answer, patience)
        if isinstance(result, WxtcbError):
            raise result
        return result


async def _outcome(answer: Awaitable[T], patience: float) -> T | WxtcbError:
    """Return what the store answers, or what is wrong: its frames end here, for they hold documents."""
    deadline = asyncio.timeout(patience)
    try:
        async with deadline:
            return await answer
    except WxtcbError as error:
        return copy.copy(error)
    except Exception as error:
        if deadline.expired():
            return TokenStoreError(f"no answer within {patience:g} s")
        return TokenStoreError(f"{type(error).__name__} {place_of(error)}")
