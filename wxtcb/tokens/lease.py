"""Lease on token fetches: at most one process holds it, extends it during its request, and releases it.

A lease ends when the store's clock says so. It also ends when it has not been extended for `LEASE_DURATION` seconds on
the clock of the process that waits for it, so that a store's clock that is set back blocks no process.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Final

import attrs

from wxtcb.errors import TokenStoreError
from wxtcb.tokens.state_repository import StateRepository, StateSnapshot, StateTransition
from wxtcb.tokens.token_state import LEASE_DURATION, Lease, TokenState

# A third of the duration, so that one lost reply of the store leaves time for another attempt.
RENEW_INTERVAL: Final = LEASE_DURATION / 3
RENEW_RETRY_INTERVAL: Final = 0.5


@attrs.define
class LeaseHandle:
    """A lease of this process; on its own clock it ends at `expires_at` at the latest."""

    nonce: str
    expires_at: float


@attrs.define(eq=False)
class LeaseManager:
    """The leases of one process, `owner`, and its view of other processes' leases."""

    owner: str
    state_repository: StateRepository
    now: Callable[[], float]
    # The lease that was seen last, and when this process saw it first.
    _observed_lease: tuple[Lease | None, float] = attrs.field(init=False, default=(None, 0.0))
    # A lease that the store may have granted although its reply was lost.
    _unconfirmed: LeaseHandle | None = attrs.field(init=False, default=None)

    def without_unconfirmed_lease(self, state: TokenState, now: float) -> TokenState:
        """Return *state* without a lease that was granted to this process but never confirmed."""
        if self._unconfirmed is None:
            return state
        return state.with_failure(self._unconfirmed.nonce, "", now, backoff=None) or state

    def remaining(self, state: TokenState, now: float) -> float:
        """Return the seconds for which a process may still hold the lease, 0 if no process holds it."""
        lease = state.lease
        if lease is None:
            return 0.0
        # Each extension changes the lease, so an unchanged one shows no sign of its holder.
        if self._observed_lease[0] != lease:
            self._observed_lease = lease, self.now()
        return max(0.0, min(lease.remaining(now), self._observed_lease[1] + LEASE_DURATION - self.now()))

    async def acquire(
        self, may_acquire: Callable[[TokenState, float], bool], *, not_latest: bool, counts_as_fetch: bool
    ) -> LeaseHandle | None:
        """Acquire the lease if *may_acquire* returns True for the state and the store's time; else return None."""
        claimed = await self._claim_unconfirmed()
        if claimed is not None:
            return claimed
        # The time is read before the store is asked: on this process's clock the lease must not end too late.
        handle = LeaseHandle(uuid.uuid4().hex, self.now() + LEASE_DURATION)

        def grant(state: TokenState, now: float) -> TokenState | None:
            state = self.without_unconfirmed_lease(state, now)
            if not may_acquire(state, now):
                return None
            nonce, counts = handle.nonce, counts_as_fetch
            return state.with_lease(nonce, self.owner, now, not_latest=not_latest, counts_as_fetch=counts)

        try:
            snapshot = await self.state_repository.update(grant)
        except TokenStoreError:
            self._unconfirmed = handle
            raise
        except asyncio.CancelledError:
            # The lease may have been granted already.
            await self.release(handle)
            raise
        return None if snapshot is None else handle

    async def _claim_unconfirmed(self) -> LeaseHandle | None:
        """Return a lease that was granted although the store's reply was lost, if it still holds."""
        handle = self._unconfirmed
        if handle is None or self.now() >= handle.expires_at:
            return None
        if (await self.state_repository.read()).state.lease_for(handle.nonce) is None:
            return None
        self._unconfirmed = None
        return handle

    @contextlib.asynccontextmanager
    async def renewing(self, handle: LeaseHandle) -> AsyncIterator[None]:
        """Extend the lease periodically while the block runs."""
        renewal = asyncio.create_task(self._renew_periodically(handle))
        try:
            yield
        finally:
            renewal.cancel()
            # `wait` and not `await renewal`: that would raise the task's own CancelledError into the block's caller.
            await asyncio.wait([renewal])

    async def release(self, handle: LeaseHandle) -> None:
        """Release the lease after an interrupted request; the token that it may have fetched stays counted."""
        with contextlib.suppress(TokenStoreError):
            await self.state_repository.update(lambda state, _: state.without_lease(handle.nonce))

    async def release_with(self, transition: StateTransition) -> StateSnapshot | None:
        """Apply *transition*, which releases the lease; if cancelled, apply it before CancelledError is raised."""
        try:
            return await self.state_repository.update(transition)
        except asyncio.CancelledError:
            # A fetched token must not be lost when the session closes. Applying the transition twice is harmless: the
            # second time the lease is gone, so it returns None.
            with contextlib.suppress(TokenStoreError):
                await self.state_repository.update(transition)
            raise

    async def _renew_periodically(self, handle: LeaseHandle) -> None:
        interval = RENEW_INTERVAL
        while True:
            await asyncio.sleep(interval)
            requested_at = self.now()
            try:
                snapshot = await self.state_repository.update(
                    lambda state, at: state.with_lease_extended(handle.nonce, at)
                )
            except TokenStoreError:
                interval = RENEW_RETRY_INTERVAL
                continue
            # Another process has taken the lease over; `handle.expires_at` passes, and the fence stops the request.
            if snapshot is None:
                return
            handle.expires_at, interval = requested_at + LEASE_DURATION, RENEW_INTERVAL
