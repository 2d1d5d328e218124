"""Terms of office: takes part in the election of a journal, and keeps a term alive while this process works."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import anyio
import attrs

from wxtcb._concurrency.tasks import wait_shielded
from wxtcb.provision.context import SharedContext
from wxtcb.provision.election import Election, Term
from wxtcb.provision.journal import JournalError, JournalInUse

__all__ = ["TermHolder"]

# Seconds between two attempts to be elected. A process that was asked to stop is replaced within twice that time.
_CAMPAIGN_INTERVAL: Final = 0.4
_RELEASE_TIMEOUT: Final = 5.0
_FOREVER: Final = 1e9


@attrs.define(eq=False)
class TermHolder:
    """Candidate in the election of the journal, for all work of one `Provisioner`.

    `wait` is that of the journal (`SharedJournal.wait`). `holder` names this process; `lease` is in seconds.
    """

    election: Election
    wait: float | None
    shared: SharedContext
    holder: str
    lease: float
    _run_term: Term | None = attrs.field(init=False, default=None)
    _runs: int = attrs.field(init=False, default=0)
    _acquired_at: float = attrs.field(init=False, default=0.0)
    _lock: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)

    async def acquire_for_run(self) -> None:
        """Be elected, if the journal requires that of runs; raise `JournalInUse` if another process is elected.

        Runs at the same time share one term, also that of a worker. Each must call `release_for_run`.
        """
        if self.wait is None:
            return
        async with self._lock:
            if self.shared.term is None:
                self._run_term = await self._acquire_within(self.wait)
            self._runs += 1

    async def release_for_run(self) -> None:
        if self.wait is None:
            return
        self._runs -= 1
        if not self._runs and self._run_term is not None:
            term, self._run_term = self._run_term, None
            await self.release(term)

    async def campaign(self, on_error: Callable[[JournalError], None]) -> Term:
        """Return a new term once this process is elected; a storage that is away for a while only delays that.

        *on_error* gets the first error, and the first one after each success.
        """
        is_away = False
        while True:
            try:
                if term := await self.try_acquire():
                    return term
                is_away = False
            except JournalError as error:
                if not is_away:
                    on_error(error)
                is_away = True
            await asyncio.sleep(_CAMPAIGN_INTERVAL)

    async def try_acquire(self) -> Term | None:
        """Return a new term, or None if another process, or other work of this provisioner, has one."""
        async with self._lock:
            return await self._acquire() if self.shared.term is None else None

    async def _acquire(self) -> Term | None:
        # The lease counts from the request: the response may be late.
        asked_at = asyncio.get_running_loop().time()
        task = asyncio.ensure_future(self.election.acquire(self.holder, self.lease))
        try:
            term = await asyncio.shield(task)
        except asyncio.CancelledError:
            # This process may be elected all the same, and would keep the others waiting until its lease ends.
            await wait_shielded(asyncio.ensure_future(self._give_back(task)))
            raise
        if term is not None:
            self.shared.term, self._acquired_at = term, asked_at
            # Another process may have bound environments.
            self.shared.listing.bindings.expire()
        return term

    async def _give_back(self, acquiring: asyncio.Future[Term | None]) -> None:
        await asyncio.wait([acquiring], timeout=_RELEASE_TIMEOUT)
        acquiring.cancel()
        with contextlib.suppress(asyncio.CancelledError, JournalError):
            if term := await acquiring:
                await self.release(term)

    async def keep(self, term: Term) -> str:
        """Renew *term* until it is lost, and return why; a term without a lease is never lost."""
        now = asyncio.get_running_loop().time
        if (lease := term.lease) is None:
            # Such a term ends with the process.
            lease = _FOREVER
        renewed_at, pause = self._acquired_at, lease / 3
        while True:
            # Before the storage ends the lease: by this process's monotonic clock, which runs also during a pause.
            give_up_at = renewed_at + lease * 5 / 6
            await asyncio.sleep(min(pause, give_up_at - now()))
            if (asked_at := now()) >= give_up_at:
                return "the lease could not be renewed in time"
            try:
                async with asyncio.timeout_at(give_up_at):
                    if not await self.election.renew(term):
                        return "another process was elected"
                renewed_at, pause = asked_at, lease / 3
            except (JournalError, TimeoutError):
                pause = lease / 30

    async def release(self, term: Term) -> None:
        """End *term*, so that another process is elected at once; if that fails, its lease ends it."""
        if self._runs and self.shared.term is term:
            # The last run that shares the term ends it.
            self._run_term = term
            return
        if self.shared.term is term:
            # What is still stored after this is protected by the versions of records alone.
            self.shared.term = None
        with anyio.CancelScope(shield=True), contextlib.suppress(JournalError), anyio.move_on_after(_RELEASE_TIMEOUT):
            await self.election.release(term)

    async def _acquire_within(self, seconds: float) -> Term:
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            if term := await self._acquire():
                return term
            if asyncio.get_running_loop().time() >= deadline:
                leader = await self.election.leader()
                other = f" ({leader.holder})" if leader else ""
                raise JournalInUse(
                    f"another process{other} provisions with this journal; submit the tenants to it, or wait until it "
                    "ends. No request was sent"
                )
            await asyncio.sleep(_CAMPAIGN_INTERVAL)
