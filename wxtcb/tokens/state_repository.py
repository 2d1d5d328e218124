"""State repository: reads the `TokenState` of a platform from its token store, and replaces it by compare-and-set.

A store may go back to an older state: a backup is restored, a Redis replica without the last write takes over, or a
program with access to the store writes an old document. A process that has read a higher revision does not use the
older state. It goes on with the newer one, which its next write stores again, and emits `TokenStoreRolledBack`. So an
old token is not used. A store without a document is accepted, but the fetches that this process knows count on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

import attrs

from wxtcb.errors import TokenStoreError, WxtcbError
from wxtcb.events import TokenStoreRolledBack
from wxtcb.telemetry.dispatch import HookDispatcher
from wxtcb.tokens.stores import TokenStore, store_name
from wxtcb.tokens.token_state import RETRY_BACKOFF, TokenState, dump_state, parse_state
from wxtcb.tokens.user_code import UserCodeFailure, call_user_code

T = TypeVar("T")

# Returns the next state, given the current one and the store's time; None leaves the store unchanged.
StateTransition = Callable[[TokenState, float], TokenState | None]

# Longer than any store of this package waits for a lock or a reply, so that their own, clearer error comes first.
STORE_TIMEOUT: Final = 2.0
NOT_REQUIRED_HINT: Final = "To start without it, pass store_required=False."


@attrs.frozen
class StateSnapshot:
    """The state at one moment: `store_time` on the store's clock, `loop_time` on the clock of the event loop."""

    state: TokenState
    version: str
    store_time: float
    loop_time: float


@attrs.define(eq=False)
class StateRepository:
    """Access to the state of one platform in a store; `last_snapshot` is the last state that was read or written.

    An exception of the store, or no answer within two seconds, becomes a `TokenStoreError` without the store's frames.
    """

    store: TokenStore
    component_appid: str
    dispatcher: HookDispatcher = attrs.field(repr=False, factory=HookDispatcher)
    last_snapshot: StateSnapshot | None = attrs.field(init=False, repr=False, default=None)
    # The state with the highest revision that was read or written, and the last older state that was reported. It is
    # kept after the store was emptied: an older state may be written next.
    _newest: TokenState = attrs.field(init=False, repr=False, factory=TokenState)
    # Fetches that the store no longer counts, until the next write adds them to it.
    _lost_fetch_times: tuple[float, ...] = attrs.field(init=False, repr=False, default=())
    _reported_version: str = attrs.field(init=False, repr=False, default="")

    async def read(self) -> StateSnapshot:
        """Return the current state."""
        self.last_snapshot = await self._call_store(self._load_snapshot)
        return self.last_snapshot

    async def require_readable(self) -> None:
        """Raise `TokenStoreError` unless the store can be read."""
        try:
            await self.read()
        except TokenStoreError as error:
            error.add_hint(NOT_REQUIRED_HINT)
            raise

    async def update(self, transition: StateTransition) -> StateSnapshot | None:
        """Replace the state by the result of *transition*; retry while other processes change it in between.

        Returns the new state, or None without a change if *transition* returns None.
        """
        while True:
            snapshot = await self.read()
            state = transition(snapshot.state, snapshot.store_time)
            if state is None:
                return None
            state = attrs.evolve(state, revision=state.revision + 1)
            document, version = dump_state(state), snapshot.version
            if await self._call_store(
                partial(self.store.compare_and_set, self.component_appid, document, version=version)
            ):
                # The new version is not known here, so the snapshot keeps the old one: a wait on it returns at once.
                self.last_snapshot = attrs.evolve(snapshot, state=state)
                self._newest, self._lost_fetch_times = state, ()
                return self.last_snapshot

    async def update_with_retry(
        self, transition: StateTransition, sleep: Callable[[float], Awaitable[None]]
    ) -> StateSnapshot | None:
        """Run `update` until the store accepts it, retrying after 1 s, doubled up to 30 s."""
        failures = 0
        while True:
            try:
                return await self.update(transition)
            except TokenStoreError:
                failures += 1
                await sleep(RETRY_BACKOFF.delay(failures))

    async def wait_for_change(self, snapshot: StateSnapshot, timeout: float) -> None:
        """Return when the state differs from *snapshot*, after *timeout* seconds at the latest."""
        wait = partial(self.store.wait_for_change, self.component_appid, version=snapshot.version, timeout=timeout)
        await self._call_store(wait, timeout + STORE_TIMEOUT)

    async def _load_snapshot(self) -> StateSnapshot:
        # Read first: what another task writes during the load may be newer than the result, which is no rollback.
        newest = self._newest
        stored = await self.store.load(self.component_appid)
        state, store_time = parse_state(stored.document), float(stored.store_time)
        if state is None:
            message = f"{store_name(self.store)} contains data that this version of wxtcb cannot read"
            raise TokenStoreError(message, permanent=True)
        if stored.document is None:
            # The revisions of a new document begin with the time in milliseconds, above all those of one that was
            # deleted: processes that knew that one may not have seen that the store was empty.
            state = TokenState(revision=max(newest.revision, int(store_time * 1000)))
            self._keep_fetch_times(newest)
        else:
            state = self._keep_newest(state, newest, stored.version)
        if self._lost_fetch_times:
            state = state.with_fetch_times(self._lost_fetch_times)
        return StateSnapshot(state, stored.version, store_time, asyncio.get_running_loop().time())

    def _keep_newest(self, state: TokenState, newest: TokenState, version: str) -> TokenState:
        """Return *state*, or *newest* with its changes if the store has gone back to an older state."""
        if state.is_older_than(newest):
            if version != self._reported_version:
                self._reported_version = version
                self.dispatcher.emit(TokenStoreRolledBack(state.generation, newest.generation))
            return state.with_newest(newest)
        # The store was emptied, and another process has begun anew.
        if state.generation < newest.generation:
            self._keep_fetch_times(newest)
        if state.revision >= self._newest.revision:
            self._newest = state
        return state

    def _keep_fetch_times(self, newest: TokenState) -> None:
        self._lost_fetch_times = newest.with_fetch_times(self._lost_fetch_times).fetch_times

    async def _call_store(self, operation: Callable[[], Awaitable[T]], timeout: float = STORE_TIMEOUT) -> T:
        result = await call_user_code(operation, timeout)
        if isinstance(result, UserCodeFailure):
            raise TokenStoreError(f"{store_name(self.store)} {result.message}")
        if isinstance(result, WxtcbError):
            raise result if isinstance(result, TokenStoreError) else TokenStoreError(result.reason)
        return result
