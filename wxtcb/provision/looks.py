"""Which aliases are taken, as of a look that all tenants of the same few seconds share."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Final

import attrs

from wxtcb._concurrency.shared_poll import Look, Sweep
from wxtcb.api.environment import DESCRIBE_ENVS, EnvList
from wxtcb.errors import Withheld, WxtcbError
from wxtcb.provision.error_policy import ListIncomplete, hits_everybody
from wxtcb.provision.journal import Binding, young
from wxtcb.provision.pace import Pace
from wxtcb.provision.plan import Plan, Taken
from wxtcb.provision.reconciliation import Expected

FRESH: Final = 5.0
_GONE: Final = 30.0
MOST: Final = 30.0
_TRIES: Final = 2


@attrs.define(eq=False)
class Looks:
    """Answers from a look that is fresh and shows every environment that an earlier one did.

    Fresh is what started at most 5 seconds ago, or where the platform takes long to answer, at most twice that time,
    but never more than half a minute. A list that lacks some is not trusted before they have been missing for 30
    seconds: then they were removed, and if the journal knows one of them, that is for a person to say
    (`ListIncomplete`). Once `halted`, it waits no more.
    """

    sweep: Sweep[EnvList]
    taken: Taken
    started_at: float
    expected: Expected
    halted: bool = False
    _took: float = attrs.field(init=False, default=0.0)

    @classmethod
    def begin(cls, sweep: Sweep[EnvList], plan: Plan, bound: Mapping[str, Binding], pace: Pace) -> Looks:
        """Go on from what *plan* has seen; that is not fresh if it lacks what an earlier run opened just before."""
        unseen = young(bound, pace.clock(), pace.settle) - plan.taken.envs
        since = dict.fromkeys(bound, -math.inf) | dict.fromkeys(unseen, asyncio.get_running_loop().time())
        started_at = -math.inf if unseen else plan.looked_at
        return cls(sweep, plan.taken, started_at, Expected(pace.settle, since, unseen))

    def is_fresh(self, now: float) -> bool:
        """Tell whether a create may still follow what was seen."""
        return self.started_at >= now - max(FRESH, min(2 * self._took, MOST))

    async def find(self, alias: str, now: float) -> tuple[str, ...]:
        """Return the environments that have *alias*, in whatever case; raise what keeps a look from succeeding."""
        if not self.is_fresh(now):
            await self._refresh(now - FRESH)
        return self.taken.by(alias)

    async def _refresh(self, oldest: float) -> None:
        asked_at = asyncio.get_running_loop().time()
        look = await self._try(oldest)
        suspect = look.started_at
        while look.started_at < suspect + _GONE and not self._is_whole(look):
            await self.sweep.rest(self.sweep.every)
            if self.halted:
                raise Withheld(endpoint=DESCRIBE_ENVS.path)
            look = await self._try(look.started_at + self.sweep.every)
        shown = self.expected.compare(look)
        if shown.missing:
            raise ListIncomplete(shown.gap)
        if look.started_at > self.started_at:
            self.taken, self.started_at = shown.taken, look.started_at
            answered_at = asyncio.get_running_loop().time()
            self._took = answered_at - look.started_at if answered_at > asked_at else 0.0

    def _is_whole(self, look: Look[EnvList]) -> bool:
        lacks = self.expected.compare(look).missing or self.expected.awaits(look)
        return not lacks and self.taken.envs <= look.seen.by_env.keys()

    async def _try(self, oldest: float) -> Look[EnvList]:
        """Look three times at most, or one look that fails would fail all who ask within its five seconds."""
        for _ in range(_TRIES):
            try:
                return await self.sweep.since(oldest)
            except WxtcbError as error:
                if hits_everybody(error):
                    raise
                oldest = asyncio.get_running_loop().time()
        return await self.sweep.since(oldest)
