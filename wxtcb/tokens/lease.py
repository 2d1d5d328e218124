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
from wxtcb.tokens.shared_state import SharedState, StateSnapshot, StateTransition
from wxtcb.tokens.state import LEASE_DURATION, Lease, TokenState

RENEW_INTERVAL: Final = LEASE_DURATION / 3
RENEW_RETRY_INTERVAL: Final = 0.5


@attrs.define
class LeaseHandle:
    """A lease of this process; by its own clock it ends at `expires_at` at the latest."""

    nonce: str
    expires_at: float


@attrs.define(eq=False)
class LeaseManager:
    """Takes and ends the leases of one process, `owner`, and watches those of others."""

    owner: str
    shared_state: SharedState
    now: Callable[[], float]
    _observed_lease: tuple[Lease | None, float] = attrs.field(init=False, default=(None, 0.0))
    _unconfirmed: LeaseHandle | None = attrs.field(init=False, default=None)

    def without_orphaned(self, state: TokenState, now: float) -> TokenState:
        """Return *record* without a lease that this process was granted but has not heard of."""
        if self._unconfirmed is None:
            return state
        return state.with_failure(self._unconfirmed.nonce, "", now, backoff=None) or state

    def remaining(self, state: TokenState, now: float) -> float:
        """Return the seconds for which somebody holds the lease, at most; 0 if nobody does."""
        lease = state.lease
        if lease is None:
            return 0.0
        if self._observed_lease[0] != lease:
            self._observed_lease = lease, self.now()
        return max(0.0, min(lease.remaining(now), self._observed_lease[1] + LEASE_DURATION - self.now()))

    async def acquire(
        self, may_acquire: Callable[[TokenState, float], bool], *, not_latest: bool, counts_as_fetch: bool
    ) -> LeaseHandle | None:
        """Take the lease, if *is_free* says of the record that it may be taken; None otherwise."""
        if (hold := await self._claim_unconfirmed()) is not None:
            return hold
        hold = LeaseHandle(uuid.uuid4().hex, self.now() + LEASE_DURATION)

        def grant(record: TokenState, now: float) -> TokenState | None:
            record = self.without_orphaned(record, now)
            if not may_acquire(record, now):
                return None
            return record.with_lease(
                hold.nonce, self.owner, now, not_latest=not_latest, counts_as_fetch=counts_as_fetch
            )

        try:
            seen = await self.shared_state.update(grant)
        except TokenStoreError:
            self._unconfirmed = hold
            raise
        except asyncio.CancelledError:
            await self.release(hold)
            raise
        return None if seen is None else hold

    async def _claim_unconfirmed(self) -> LeaseHandle | None:
        """Return a lease that was granted without our hearing of it, if there is one, and it holds still."""
        hold = self._unconfirmed
        if hold is None or self.now() >= hold.expires_at:
            return None
        if (await self.shared_state.read()).state.lease_for(hold.nonce) is None:
            return None
        self._unconfirmed = None
        return hold

    @contextlib.asynccontextmanager
    async def renewing(self, handle: LeaseHandle) -> AsyncIterator[None]:
        """Prolong the lease as long as the block runs."""
        beat = asyncio.create_task(self._renew_periodically(handle))
        try:
            yield
        finally:
            beat.cancel()
            await asyncio.wait([beat])

    async def release(self, handle: LeaseHandle) -> None:
        """End the lease of a request that was cut off; what it may have made counts."""
        with contextlib.suppress(TokenStoreError):
            await self.shared_state.update(lambda record, _: record.without_lease(handle.nonce))

    async def release_with(self, transition: StateTransition) -> StateSnapshot | None:
        """Make the *change* that ends a lease; if that is cancelled, make it before that takes effect."""
        try:
            return await self.shared_state.update(transition)
        except asyncio.CancelledError:
            with contextlib.suppress(TokenStoreError):
                await self.shared_state.update(transition)
            raise

    async def _renew_periodically(self, handle: LeaseHandle) -> None:
        pause = RENEW_INTERVAL
        while True:
            await asyncio.sleep(pause)
            asked_at = self.now()
            try:
                seen = await self.shared_state.update(lambda record, now: record.with_lease_extended(handle.nonce, now))
            except TokenStoreError:
                pause = RENEW_RETRY_INTERVAL
                continue
            if seen is None:
                return
            handle.expires_at, pause = asked_at + LEASE_DURATION, RENEW_INTERVAL
