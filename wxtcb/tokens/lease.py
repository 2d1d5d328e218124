"""The right to renew: one process in the world holds it, prolongs it as long as its request is under way, and ends it.

A lease is over when the store's clock says so, or when it has shown no sign of life for its length by the clock of who
waits for it: a store's clock that is set back holds nobody up.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Final

import attrs

from wxtcb.errors import TokenStoreError
from wxtcb.tokens.shared_state import Change, Seen, SharedRecord
from wxtcb.tokens.state import LEASE, Lease, Record

PROLONGED_EVERY: Final = LEASE / 3
TRIED_EVERY: Final = 0.5


@attrs.define
class Hold:
    """A lease of this process; by its own clock it ends at `until` at the latest."""

    nonce: str
    until: float


@attrs.define(eq=False)
class Leases:
    """Takes and ends the leases of one process, `me`, and watches those of others."""

    me: str
    shared: SharedRecord
    now: Callable[[], float]
    _watched: tuple[Lease | None, float] = attrs.field(init=False, default=(None, 0.0))
    _doubtful: Hold | None = attrs.field(init=False, default=None)

    def cleared(self, record: Record, now: float) -> Record:
        """Return *record* without a lease that this process was granted but has not heard of."""
        if self._doubtful is None:
            return record
        return record.failed(self._doubtful.nonce, "", now, pause=None) or record

    def left(self, record: Record, now: float) -> float:
        """Return the seconds for which somebody holds the lease, at most; 0 if nobody does."""
        lease = record.lease
        if lease is None:
            return 0.0
        if self._watched[0] != lease:
            self._watched = lease, self.now()
        return max(0.0, min(lease.left(now), self._watched[1] + LEASE - self.now()))

    async def take(self, is_free: Callable[[Record, float], bool], *, not_latest: bool, counted: bool) -> Hold | None:
        """Take the lease, if *is_free* says of the record that it may be taken; None otherwise."""
        if (hold := await self._granted_unheard()) is not None:
            return hold
        hold = Hold(uuid.uuid4().hex, self.now() + LEASE)

        def grant(record: Record, now: float) -> Record | None:
            record = self.cleared(record, now)
            if not is_free(record, now):
                return None
            return record.granted(hold.nonce, self.me, now, not_latest=not_latest, counted=counted)

        try:
            seen = await self.shared.change(grant)
        except TokenStoreError:
            self._doubtful = hold
            raise
        except asyncio.CancelledError:
            await self.release(hold)
            raise
        return None if seen is None else hold

    async def _granted_unheard(self) -> Hold | None:
        """Return a lease that was granted without our hearing of it, if there is one, and it holds still."""
        hold = self._doubtful
        if hold is None or self.now() >= hold.until:
            return None
        if (await self.shared.read()).record.leased_to(hold.nonce) is None:
            return None
        self._doubtful = None
        return hold

    @contextlib.asynccontextmanager
    async def keeping(self, hold: Hold) -> AsyncIterator[None]:
        """Prolong the lease as long as the block runs."""
        beat = asyncio.create_task(self._prolong(hold))
        try:
            yield
        finally:
            beat.cancel()
            await asyncio.wait([beat])

    async def release(self, hold: Hold) -> None:
        """End the lease of a request that was cut off; what it may have made counts."""
        with contextlib.suppress(TokenStoreError):
            await self.shared.change(lambda record, _: record.released(hold.nonce))

    async def end(self, change: Change) -> Seen | None:
        """Make the *change* that ends a lease; if that is cancelled, make it before that takes effect."""
        try:
            return await self.shared.change(change)
        except asyncio.CancelledError:
            with contextlib.suppress(TokenStoreError):
                await self.shared.change(change)
            raise

    async def _prolong(self, hold: Hold) -> None:
        pause = PROLONGED_EVERY
        while True:
            await asyncio.sleep(pause)
            asked_at = self.now()
            try:
                seen = await self.shared.change(lambda record, now: record.extended(hold.nonce, now))
            except TokenStoreError:
                pause = TRIED_EVERY
                continue
            if seen is None:
                return
            hold.until, pause = asked_at + LEASE, PROLONGED_EVERY
