"""Which aliases are taken, as of a look that all tenants of the same few seconds share."""

from __future__ import annotations

import asyncio
from typing import Final

import attrs

from wxtcb.api.environment import EnvList
from wxtcb.sweep import Sweep

FRESH: Final = 5.0


@attrs.define(eq=False)
class Aliases:
    """Answers from a look that started after `since` (when the run began), and at most 5 seconds ago."""

    sweep: Sweep[EnvList]
    since: float
    _seen: EnvList | None = attrs.field(init=False, default=None)
    _envs: dict[str, tuple[str, ...]] = attrs.field(init=False, factory=dict)

    async def taken(self, alias: str) -> tuple[str, ...]:
        """Return the environments that have *alias*, in whatever case."""
        oldest = max(self.since, asyncio.get_running_loop().time() - FRESH)
        look = await self.sweep.since(oldest)
        if look.seen is not self._seen:
            self._index(look.seen)
        return self._envs.get(alias.lower(), ())

    def _index(self, seen: EnvList) -> None:
        self._seen, self._envs = seen, {}
        for info in seen.info_list:
            key = info.alias.lower()
            self._envs[key] = (*self._envs.get(key, ()), info.env)
