"""Which aliases are taken, as of a look that all tenants of the same few seconds share."""

from __future__ import annotations

import asyncio
from typing import Final

import attrs

from wxtcb.api.environment import EnvList
from wxtcb.errors import WxtcbError
from wxtcb.provision.plan import Taken
from wxtcb.provision.stopping import hits_everybody
from wxtcb.sweep import Look, Sweep

FRESH: Final = 5.0
_GONE: Final = 30.0
_TRIES: Final = 2


@attrs.define(eq=False)
class Looks:
    """Answers from a look that is at most 5 seconds old and shows every environment that an earlier one showed.

    A list that lacks some is not trusted before they have been missing for 30 seconds: then they were removed.
    """

    sweep: Sweep[EnvList]
    taken: Taken
    started_at: float

    async def find(self, alias: str, now: float) -> tuple[str, ...]:
        """Return the environments that have *alias*, in whatever case; raise what keeps a look from succeeding."""
        if self.started_at < now - FRESH:
            await self._refresh(now - FRESH)
        return self.taken.by(alias)

    async def _refresh(self, oldest: float) -> None:
        look = await self._try(oldest)
        suspect = look.started_at
        while look.started_at < suspect + _GONE and not self.taken.envs <= look.seen.by_env.keys():
            await self.sweep.rest(self.sweep.every)
            look = await self._try(look.started_at + self.sweep.every)
        if look.started_at > self.started_at:
            self.taken, self.started_at = Taken.of(look.seen), look.started_at

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
