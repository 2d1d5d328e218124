"""Where a token is kept, so that several sessions can share it.

The `TokenStore` protocol is provisional: it may change in any release until shared stores stand on it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

    from wxtcb.secret import Secret

HOUR: Final = 3600.0


@attrs.frozen
class TokenRecord:
    """The newest token of a platform: `seconds_left` of its `life`, both in seconds, when the store answered.

    A newer token has a greater `generation`.
    """

    token: Secret
    generation: int
    life: float
    seconds_left: float


class TokenStore(Protocol):
    """Keeps the newest token of each platform, never an older one over a newer. Provisional."""

    async def load(self, component_appid: str) -> TokenRecord | None:
        """Return the newest token, living or not, or None."""
        ...

    async def save(self, component_appid: str, token: Secret, *, after: int, life: float, age: float) -> bool:
        """Keep *token*, minted *age* seconds ago to live *life* seconds, as generation ``after + 1``.

        Nothing is kept, and False returned, if a generation above *after* is there already; the mint counts even so.
        """
        ...

    async def mint_ages(self, component_appid: str) -> list[float]:
        """Return how many seconds ago each token of the last hour was minted, the oldest first."""
        ...


@attrs.frozen
class _Minted:
    token: Secret
    generation: int
    life: float
    at: float


@attrs.define(eq=False)
class MemoryStore:
    """A token store in the memory of this process; sessions that are given the same one share their token."""

    now: Callable[[], float] = time.monotonic
    _newest: dict[str, _Minted] = attrs.field(init=False, factory=dict)
    _mints: dict[str, list[float]] = attrs.field(init=False, factory=dict)

    async def load(self, component_appid: str) -> TokenRecord | None:
        newest = self._newest.get(component_appid)
        if newest is None:
            return None
        return TokenRecord(newest.token, newest.generation, newest.life, newest.at + newest.life - self.now())

    async def save(self, component_appid: str, token: Secret, *, after: int, life: float, age: float) -> bool:
        now = self.now()
        mints = self._mints.setdefault(component_appid, [])
        mints[:] = sorted((*(at for at in mints if at > now - HOUR), now - age))
        newest = self._newest.get(component_appid)
        if newest is not None and newest.generation > after:
            return False
        self._newest[component_appid] = _Minted(token, after + 1, life, now - age)
        return True

    async def mint_ages(self, component_appid: str) -> list[float]:
        now = self.now()
        return [now - at for at in self._mints.get(component_appid, ()) if at > now - HOUR]
