"""Which aliases are taken, as of a look that all tenants of the same few seconds share."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Final

import attrs

from wxtcb._concurrency.shared_poll import SharedPoller, Snapshot
from wxtcb.api.environment import DESCRIBE_ENVS, EnvList
from wxtcb.errors import SendVetoed, WxtcbError
from wxtcb.provision.error_policy import IncompleteListing, is_fatal
from wxtcb.provision.journal import Binding, recently_opened
from wxtcb.provision.pace import RunSettings
from wxtcb.provision.plan import AliasIndex, Plan
from wxtcb.provision.reconciliation import ExpectedEnvironments

MAX_LISTING_AGE: Final = 5.0
_REMOVAL_CONFIRMATION_SECONDS: Final = 30.0
MAX_SLOW_LISTING_AGE: Final = 30.0
_POLL_RETRIES: Final = 2


@attrs.define(eq=False)
class EnvironmentListing:
    """Answers from a look that is fresh and shows every environment that an earlier one did.

    Fresh is what started at most 5 seconds ago, or where the platform takes long to answer, at most twice that time,
    but never more than half a minute. A list that lacks some is not trusted before they have been missing for 30
    seconds: then they were removed, and if the journal knows one of them, that is for a person to say
    (`IncompleteListing`). Once `halted`, it waits no more.
    """

    poller: SharedPoller[EnvList]
    alias_index: AliasIndex
    started_at: float
    expected: ExpectedEnvironments
    halted: bool = False
    _last_duration: float = attrs.field(init=False, default=0.0)

    @classmethod
    def from_plan(
        cls, poller: SharedPoller[EnvList], plan: Plan, bindings: Mapping[str, Binding], settings: RunSettings
    ) -> EnvironmentListing:
        """Go on from what *plan* has seen; that is not fresh if it lacks what an earlier run opened just before."""
        unseen = recently_opened(bindings, settings.wall_clock(), settings.settle) - plan.alias_index.envs
        since = dict.fromkeys(bindings, -math.inf) | dict.fromkeys(unseen, asyncio.get_running_loop().time())
        started_at = -math.inf if unseen else plan.listed_at
        return cls(poller, plan.alias_index, started_at, ExpectedEnvironments(settings.settle, since, unseen))

    def is_fresh(self, now: float) -> bool:
        """Tell whether a create may still follow what was seen."""
        return self.started_at >= now - max(MAX_LISTING_AGE, min(2 * self._last_duration, MAX_SLOW_LISTING_AGE))

    async def find_by_alias(self, alias: str, now: float) -> tuple[str, ...]:
        """Return the environments that have *alias*, in whatever case; raise what keeps a look from succeeding."""
        if not self.is_fresh(now):
            await self._refresh(now - MAX_LISTING_AGE)
        return self.alias_index.find(alias)

    async def _refresh(self, newer_than: float) -> None:
        asked_at = asyncio.get_running_loop().time()
        look = await self._poll_with_retries(newer_than)
        suspect = look.started_at
        while look.started_at < suspect + _REMOVAL_CONFIRMATION_SECONDS and not self._is_complete(look):
            await self.poller.sleep(self.poller.min_interval)
            if self.halted:
                raise SendVetoed(endpoint=DESCRIBE_ENVS.path)
            look = await self._poll_with_retries(look.started_at + self.poller.min_interval)
        shown = self.expected.compare(look)
        if shown.missing:
            raise IncompleteListing(shown.missing_message)
        if look.started_at > self.started_at:
            self.alias_index, self.started_at = shown.alias_index, look.started_at
            answered_at = asyncio.get_running_loop().time()
            self._last_duration = answered_at - look.started_at if answered_at > asked_at else 0.0

    def _is_complete(self, snapshot: Snapshot[EnvList]) -> bool:
        lacks = self.expected.compare(snapshot).missing or self.expected.is_waiting_for_recent(snapshot)
        return not lacks and self.alias_index.envs <= snapshot.value.by_env.keys()

    async def _poll_with_retries(self, newer_than: float) -> Snapshot[EnvList]:
        """Look three times at most, or one look that fails would fail all who ask within its five seconds."""
        for _ in range(_POLL_RETRIES):
            try:
                return await self.poller.poll(newer_than)
            except WxtcbError as error:
                if is_fatal(error):
                    raise
                newer_than = asyncio.get_running_loop().time()
        return await self.poller.poll(newer_than)
