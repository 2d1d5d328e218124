"""The platform as token life sees it, and processes that are cut off, held up and killed around it."""

from __future__ import annotations

import asyncio
from collections import deque

import attrs

from wxtcb.errors import SendVetoed, TransportError, WxtcbError
from wxtcb.events import TokenConflictDetected, TokenStoreWriteFailed
from wxtcb.secret import Secret
from wxtcb.tokens.providers import ComponentToken
from wxtcb.tokens.refresh import TOKEN_PATH
from wxtcb.tokens.state import parse_state
from wxtcb.tokens.stores import MemoryStore

from .token_harness import Line, Rig, clock, errcode, refused


def number_of(token):
    """Return the platform's number of a token."""
    return int(token.reveal())


@attrs.define(eq=False)
class Desk:
    """Sells numbered tokens; each voids the one before, and any may be killed.

    `faults` befall the next requests: "refused" and "busy" before, "lost" and "slow" after the token was made. `wrongs`
    are what no process may do.
    """

    life: float = 7200.0
    seconds: float = 0.5
    sold_at: list = attrs.field(factory=list)
    killed: set = attrs.field(factory=set)
    faults: deque = attrs.field(factory=deque)
    under_way: dict = attrs.field(factory=dict)
    wrongs: list = attrs.field(factory=list)
    busy: asyncio.Event = attrs.field(factory=asyncio.Event)

    def verdict(self, token):
        """Return the errcode that a call with *token* meets, 0 if it is the living one."""
        number = number_of(token)
        if number < len(self.sold_at):
            return 40001
        return 42001 if number in self.killed or clock() - self.sold_at[-1] >= self.life else 0

    def kill(self):
        """End the newest token; tell whether it lived."""
        if not self.sold_at or self.verdict(Secret(str(len(self.sold_at)))):
            return False
        self.killed.add(len(self.sold_at))
        return True

    async def sell(self, buyer):
        """Answer a request of *buyer*; the token is made half-way."""
        fault = self.faults.popleft() if self.faults else None
        self.under_way[buyer] = clock()
        self.busy.set()
        try:
            await asyncio.sleep(self.seconds / 2)
            if fault == "refused":
                raise refused()
            if fault == "busy":
                raise errcode(-1)
            self.sold_at.append(clock())
            number = len(self.sold_at)
            await asyncio.sleep(8.0 if fault == "slow" else self.seconds / 2)
            if fault == "lost":
                raise TransportError("the connection was lost", endpoint=TOKEN_PATH, sent=True)
            return ComponentToken(Secret(str(number)), int(self.life))
        finally:
            del self.under_way[buyer]
            if not self.under_way:
                self.busy.clear()


@attrs.define(eq=False)
class Witness(MemoryStore):
    """A store that is told each change of the token: `numbers` are those kept, one after the other."""

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

    `dead` are the tokens that it was told are dead; `ill_until` is when it was cut off, held up or killed last.
    """

    name: str
    desk: Desk
    store: MemoryStore
    uniform: object
    options: dict = attrs.field(factory=dict)
    invalidates_previous: bool = True
    dead: set = attrs.field(factory=set)
    ill_until: float = float("-inf")
    rig: Rig = attrs.field(init=False)

    def __attrs_post_init__(self):
        line = Line(self.store)
        self.rig = Rig(store=line, owner=self.name, uniform=self.uniform, provider=self, **self.options)

    @property
    def is_ill(self):
        return self.rig.store.cut or self.rig.store.frozen or self.rig.store.locked

    def was_ill(self, since):
        """Tell whether it was cut off, held up or killed at any time after *since*."""
        return self.is_ill or self.ill_until >= since

    def strike(self, **how):
        """Cut it off, or hold it up, or let it go on."""
        for name, value in how.items():
            setattr(self.rig.store, name, value)
        self.ill_until = clock()

    def kill(self):
        """End it as kill -9 does: nothing of it reaches anybody any more."""
        self.strike(frozen=True)
        for flight in self.rig.cache._tasks():
            flight._task.cancel()

    async def prepare(self):
        return self.fetch

    async def fetch(self, may_send):
        await self._go_on()
        if not may_send():
            raise SendVetoed(endpoint=TOKEN_PATH)
        for other, since in self.desk.under_way.items():
            if not (other.was_ill(since - 3) or self.was_ill(clock() - 3)):
                self.desk.wrongs.append(f"{self.name} fetches beside {other.name}")
        token = await self.desk.sell(self)
        await self._go_on()
        return token

    async def _go_on(self):
        while self.rig.store.frozen:
            await asyncio.sleep(1)

    async def call(self):
        """Make a call: get a token and use it, at most three times; return what ended it, None if it was accepted."""
        error = None
        for _ in range(3):
            try:
                token = await self.rig.token()
            except WxtcbError as failure:
                return failure
            if number_of(token.value) in self.dead:
                self.desk.wrongs.append(f"{self.name} was given a token that it knows to be dead")
            code = self.desk.verdict(token.value)
            if not code:
                return None
            error = errcode(code)
            self.dead.add(number_of(token.value))
            self.rig.cache.invalidate(token, code)
        return error

    @property
    def alone(self):
        """The number of tokens that it fetched without the store, or could not store."""
        return len(self.rig.emitted(TokenStoreWriteFailed))

    @property
    def suspicions(self):
        return self.rig.emitted(TokenConflictDetected)
