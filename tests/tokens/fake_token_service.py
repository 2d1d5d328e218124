"""Fake token service of the platform, and processes that are cut off, suspended and killed."""

from __future__ import annotations

import asyncio
from collections import deque

import attrs

from wxtcb.errors import SendVetoed, TransportError, WxtcbError
from wxtcb.events import TokenConflictDetected, TokenStoreWriteFailed
from wxtcb.secret import Secret
from wxtcb.tokens.providers import ComponentToken
from wxtcb.tokens.refresh import TOKEN_PATH
from wxtcb.tokens.stores import MemoryStore
from wxtcb.tokens.token_state import parse_state

from .token_harness import CacheHarness, StoreConnection, clock, errcode, refused


def number_of(token):
    """Return the platform's number of a token."""
    return int(token.reveal())


@attrs.define(eq=False)
class FakeTokenService:
    """The platform's token service: issues numbered tokens, each of which invalidates the one before.

    `faults` apply to the next requests: "refused" and "busy" before, "lost" and "slow" after the token was issued.
    `violations` are the broken invariants.
    """

    life: float = 7200.0
    seconds: float = 0.5
    issued_at: list = attrs.field(factory=list)
    killed: set = attrs.field(factory=set)
    faults: deque = attrs.field(factory=deque)
    under_way: dict = attrs.field(factory=dict)
    violations: list = attrs.field(factory=list)
    busy: asyncio.Event = attrs.field(factory=asyncio.Event)

    def errcode_for(self, token):
        """Return the errcode of a call with *token*, 0 if the token is valid."""
        number = number_of(token)
        if number < len(self.issued_at):
            return 40001
        return 42001 if number in self.killed or clock() - self.issued_at[-1] >= self.life else 0

    def kill(self):
        """Revoke the newest token; return whether it was valid."""
        if not self.issued_at or self.errcode_for(Secret(str(len(self.issued_at)))):
            return False
        self.killed.add(len(self.issued_at))
        return True

    async def issue(self, buyer):
        """Answer a request of *buyer*; the token is issued half-way."""
        fault = self.faults.popleft() if self.faults else None
        self.under_way[buyer] = clock()
        self.busy.set()
        try:
            await asyncio.sleep(self.seconds / 2)
            if fault == "refused":
                raise refused()
            if fault == "busy":
                raise errcode(-1)
            self.issued_at.append(clock())
            number = len(self.issued_at)
            await asyncio.sleep(8.0 if fault == "slow" else self.seconds / 2)
            if fault == "lost":
                raise TransportError("the connection was lost", endpoint=TOKEN_PATH, sent=True)
            return ComponentToken(Secret(str(number)), int(self.life))
        finally:
            del self.under_way[buyer]
            if not self.under_way:
                self.busy.clear()


@attrs.define(eq=False)
class RecordingStore(MemoryStore):
    """A store that records each change of the token: `numbers` are the stored ones in order."""

    numbers: list = attrs.field(factory=list)

    async def compare_and_set(self, component_appid, document, *, version):
        stored = await MemoryStore.compare_and_set(self, component_appid, document, version=version)
        token = parse_state(document).token
        if stored and token is not None and self.numbers[-1:] != [number_of(token.value)]:
            self.numbers.append(number_of(token.value))
        return stored


@attrs.define(eq=False)
class Process:
    """One process with its own line to the store and to the platform.

    `dead` are the tokens that were rejected for it; `faulty_until` is when a fault was applied last.
    """

    name: str
    service: FakeTokenService
    store: MemoryStore
    uniform: object
    options: dict = attrs.field(factory=dict)
    invalidates_previous: bool = True
    dead: set = attrs.field(factory=set)
    faulty_until: float = float("-inf")
    harness: CacheHarness = attrs.field(init=False)

    def __attrs_post_init__(self):
        line = StoreConnection(self.store)
        self.harness = CacheHarness(store=line, owner=self.name, uniform=self.uniform, provider=self, **self.options)

    @property
    def is_faulty(self):
        return self.harness.store.cut or self.harness.store.frozen or self.harness.store.locked

    def was_faulty(self, since):
        """Return whether it was cut off, suspended or killed at any time after *since*."""
        return self.is_faulty or self.faulty_until >= since

    def apply_fault(self, **how):
        """Cut it off, suspend it, or restore it."""
        for name, value in how.items():
            setattr(self.harness.store, name, value)
        self.faulty_until = clock()

    def kill(self):
        """End it as kill -9 does: nothing of it takes effect any more."""
        self.apply_fault(frozen=True)
        for task in self.harness.cache._tasks():
            task._task.cancel()

    async def prepare(self):
        return self.fetch

    async def fetch(self, may_send):
        await self._go_on()
        if not may_send():
            raise SendVetoed(endpoint=TOKEN_PATH)
        for other, since in self.service.under_way.items():
            if not (other.was_faulty(since - 3) or self.was_faulty(clock() - 3)):
                self.service.violations.append(f"{self.name} fetches at the same time as {other.name}")
        token = await self.service.issue(self)
        await self._go_on()
        return token

    async def _go_on(self):
        while self.harness.store.frozen:
            await asyncio.sleep(1)

    async def call(self):
        """Make a call with at most three tokens; return its error, None if a token was accepted."""
        error = None
        for _ in range(3):
            try:
                token = await self.harness.token()
            except WxtcbError as failure:
                return failure
            if number_of(token.value) in self.dead:
                self.service.violations.append(f"{self.name} was given a token that it knows to be dead")
            code = self.service.errcode_for(token.value)
            if not code:
                return None
            error = errcode(code)
            self.dead.add(number_of(token.value))
            self.harness.cache.invalidate(token, code)
        return error

    @property
    def storeless_fetches(self):
        """The number of tokens fetched without the store, or not stored."""
        return len(self.harness.emitted(TokenStoreWriteFailed))

    @property
    def conflicts_detected(self):
        return self.harness.emitted(TokenConflictDetected)
