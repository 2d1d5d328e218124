"""State repository: reads the `TokenState` of a platform from its token store, and replaces it by compare-and-set.

A store may go back to an older state: a backup is restored, a Redis replica without the last write takes over, or a
program with access to the store writes an old document. A process that has read a newer state does not use the older
one. It goes on with the newer one, which its next write stores again, and emits `TokenStoreRolledBack`. So an old token
is not used, and fetches that the hourly limit counts are not forgotten. A store without a token is accepted.
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
    # The last state with the newest token that was read or written, and the last older state that was reported.
    _newest: TokenState = attrs.field(init=False, repr=False, factory=TokenState)
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
            document, version = dump_state(state), snapshot.version
            if await self._call_store(
                partial(self.store.compare_and_set, self.component_appid, document, version=version)
            ):
                # The new version is not known here, so the snapshot keeps the old one: a wait on it returns at once.
                self.last_snapshot = attrs.evolve(snapshot, state=state)
                self._remember(state)
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
        stored = await self.store.load(self.component_appid)
        state = parse_state(stored.document)
        if state is None:
            message = f"{store_name(self.store)} contains data that this version of wxtcb cannot read"
            raise TokenStoreError(message, permanent=True)
        state = self._keep_newest(state, stored.version)
        return StateSnapshot(state, stored.version, float(stored.store_time), asyncio.get_running_loop().time())

    def _keep_newest(self, state: TokenState, version: str) -> TokenState:
        """Return *state*, or the newest state that this process knows if the store has gone back to an older one."""
        if not state.is_older_than(self._newest):
            self._remember(state)
            return state
        if version != self._reported_version:
            self._reported_version = version
            self.dispatcher.emit(TokenStoreRolledBack(state.generation, self._newest.generation))
        return state.with_newest(self._newest)

    def _remember(self, state: TokenState) -> None:
        # After the store was emptied, the last token is still remembered: an older state may be written next.
        if state.token is not None:
            self._newest = state

    async def _call_store(self, operation: Callable[[], Awaitable[T]], timeout: float = STORE_TIMEOUT) -> T:
        result = await call_user_code(operation, timeout)
        if isinstance(result, UserCodeFailure):
            raise TokenStoreError(f"{store_name(self.store)} {result.message}")
        if isinstance(result, WxtcbError):
            raise result if isinstance(result, TokenStoreError) else TokenStoreError(result.reason)
        return result
