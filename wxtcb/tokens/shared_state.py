"""The record that all processes of a platform share: read, and changed by compare-and-set."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import attrs

from wxtcb.errors import TokenStoreError, WxtcbError
from wxtcb.tokens.callbacks import UserCodeFailure, call_user_code
from wxtcb.tokens.state import MAX_BACKOFF, TokenState, dump_state, parse_state
from wxtcb.tokens.stores import TokenStore

T = TypeVar("T")

StateTransition = Callable[[TokenState, float], TokenState | None]

STORE_TIMEOUT: Final = 2.0


@attrs.frozen
class StateSnapshot:
    """The record as it was when the store answered: at `store_time` by the store's clock, at `loop_time` by the event loop's."""

    state: TokenState
    version: str
    store_time: float
    loop_time: float


@attrs.define(eq=False)
class SharedState:
    """The record of one platform in a store; `last_snapshot` is how it was seen last.

    Whatever the store raises becomes a `TokenStoreError` that names the place, without a frame of the store; so does an
    answer that takes longer than two seconds.
    """

    store: TokenStore
    component_appid: str
    last_snapshot: StateSnapshot | None = attrs.field(init=False, repr=False, default=None)

    async def read(self) -> StateSnapshot:
        """Return the record as it is."""
        self.last_snapshot = await self._call_store(self._load_snapshot)
        return self.last_snapshot

    async def update(self, transition: StateTransition) -> StateSnapshot | None:
        """Replace the record by what *change* makes of it (and of the store's time), however often it is overtaken.

        Returns the record that is kept then, or None where *change* returned None, and nothing was changed. What
        *change* raises is passed on.
        """
        while True:
            seen = await self.read()
            record = transition(seen.state, seen.store_time)
            if record is None:
                return None
            if await self._compare_and_set(record, seen.version):
                self.last_snapshot = attrs.evolve(seen, state=record)
                return self.last_snapshot

    async def update_with_retry(
        self, transition: StateTransition, sleep: Callable[[float], Awaitable[None]]
    ) -> StateSnapshot | None:
        """Do `change` as soon as the store allows it: it is tried again after 1 s, doubled up to 30 s."""
        pause = 1.0
        while True:
            try:
                return await self.update(transition)
            except TokenStoreError:
                await sleep(pause)
                pause = min(MAX_BACKOFF, 2 * pause)

    async def wait_for_change(self, snapshot: StateSnapshot, timeout: float) -> None:
        """Return when the record is no longer as *seen*, and after *within* seconds at the latest."""
        await self._call_store(
            lambda: self.store.wait_for_change(self.component_appid, version=snapshot.version, timeout=timeout),
            timeout + STORE_TIMEOUT,
        )

    async def _load_snapshot(self) -> StateSnapshot:
        kept = await self.store.load(self.component_appid)
        record = parse_state(kept.document)
        if record is None:
            raise TokenStoreError("keeps what is no token record of this version of wxtcb", permanent=True)
        return StateSnapshot(record, kept.version, float(kept.store_time), asyncio.get_running_loop().time())

    async def _compare_and_set(self, state: TokenState, version: str) -> bool:
        return await self._call_store(
            lambda: self.store.compare_and_set(self.component_appid, dump_state(state), version=version)
        )

    async def _call_store(self, operation: Callable[[], Awaitable[T]], timeout: float = STORE_TIMEOUT) -> T:
        answer = await call_user_code(operation, timeout)
        if isinstance(answer, UserCodeFailure):
            raise TokenStoreError(answer.message)
        if isinstance(answer, WxtcbError):
            raise answer if isinstance(answer, TokenStoreError) else TokenStoreError(answer.reason)
        return answer
