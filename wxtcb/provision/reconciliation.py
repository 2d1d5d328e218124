"""Did a create act whose answer was not clear? What looks show after the settle decides; pure."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

import attrs

from wxtcb._concurrency.shared_poll import SharedPoller, Snapshot
from wxtcb.api.environment import DESCRIBE_ENVS, EnvList
from wxtcb.errors import SendVetoed, WxtcbError
from wxtcb.provision.error_policy import IncompleteListing, is_fatal
from wxtcb.provision.journal import Binding, recently_opened
from wxtcb.provision.plan import AliasIndex, Plan
from wxtcb.provision.step import StepResult

REQUIRED_COMPLETE_LISTINGS: Final = 2


class CheckResult(Enum):
    """What was proven."""

    FOUND = "one environment has the alias"
    MULTIPLE = "several have it"
    ABSENT = "none has it"
    INCONCLUSIVE = "the looks showed too little"


@attrs.frozen(eq=False)
class ListingDiff:
    """What one look shows: the environments by alias, and those `missing` that must be there by now."""

    snapshot: Snapshot[EnvList]
    alias_index: AliasIndex
    missing: tuple[str, ...]

    @property
    def missing_message(self) -> str:
        """What it lacks, in words."""
        first, *others = self.missing
        more = f" and {len(others)} more" if others else ""
        return f"did not show environment {first}{more}, which should be there"


@attrs.define(eq=False)
class ExpectedEnvironments:
    """Which environments a look must show: those that belong to a tenant, `settle` seconds after that became so.

    What was shown once must be shown from then on. `bound_since` has the moment of each on the clock of the event loop.
    `recently_created` are those which an earlier run opened, and which the list did not show when this one began.
    """

    settle: float
    bound_since: dict[str, float]
    recently_created: frozenset[str] = frozenset()
    _last_diff: ListingDiff | None = attrs.field(init=False, default=None)

    def compare(self, snapshot: Snapshot[EnvList]) -> ListingDiff:
        """Return what *look* shows; worked out once, however many wait for it."""
        if self._last_diff is None or self._last_diff.snapshot is not snapshot:
            listed, settled = snapshot.value.by_env, snapshot.started_at - self.settle
            missing = tuple(env for env, since in self.bound_since.items() if since <= settled and env not in listed)
            seen = [env for env, since in self.bound_since.items() if since > settled and env in listed]
            self.bound_since.update(dict.fromkeys(seen, -math.inf))
            self._last_diff = ListingDiff(snapshot, AliasIndex.from_list(snapshot.value), missing)
        return self._last_diff

    def is_waiting_for_recent(self, snapshot: Snapshot[EnvList]) -> bool:
        """Tell whether *look* lacks one of the young, and that is not overdue; if none, they are young no more."""
        listed, overdue = snapshot.value.by_env, self.compare(snapshot).missing
        if all(env in listed or env in overdue for env in self.recently_created):
            self.recently_created = frozenset()
        return bool(self.recently_created)


@attrs.define(eq=False)
class WaitForVisibility:
    """Parked until looks show what an earlier run opened just before, or that it has to be shown and is not."""

    expected: ExpectedEnvironments
    due_at: float
    deadline: float

    def evaluate(self, snapshot: Snapshot[EnvList]) -> StepResult | None:
        return None if self.expected.is_waiting_for_recent(snapshot) else StepResult.RETRY

    def check_timeout(self, now: float) -> StepResult | None:
        return StepResult.RETRY if now >= self.deadline else None


@attrs.define(eq=False)
class OutcomeCheck:
    """Parked until looks have decided about *alias*: none counts that started before `due_at`.

    What one shows is there. Nothing is absent before two in a row have lacked it, and those must show every environment
    that is known. At `deadline` it is given up; `reason` says what it lacked.
    """

    alias: str
    due_at: float
    deadline: float
    compare: Callable[[Snapshot[EnvList]], ListingDiff]
    found_envs: tuple[str, ...] = ()
    result: CheckResult | None = None
    reason: str = "no look has succeeded since then"
    _complete_listings: int = 0

    def evaluate(self, snapshot: Snapshot[EnvList]) -> StepResult | None:
        if snapshot.started_at < self.due_at:
            return None
        shown = self.compare(snapshot)
        self.found_envs = shown.alias_index.find(self.alias)
        if self.found_envs:
            return self._finish(CheckResult.FOUND if len(self.found_envs) == 1 else CheckResult.MULTIPLE)
        if shown.missing:
            return self._discard_incomplete(shown, snapshot.started_at)
        self._complete_listings += 1
        return self._finish(CheckResult.ABSENT) if self._complete_listings >= REQUIRED_COMPLETE_LISTINGS else None

    def check_timeout(self, now: float) -> StepResult | None:
        return self._finish(CheckResult.INCONCLUSIVE) if now >= self.deadline else None

    def _discard_incomplete(self, diff: ListingDiff, now: float) -> StepResult | None:
        self._complete_listings = 0
        self.reason = f"the looks since then {diff.missing_message}"
        return self.check_timeout(now)

    def _finish(self, result: CheckResult) -> StepResult:
        self.result = result
        return StepResult.RETRY


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
        cls,
        poller: SharedPoller[EnvList],
        plan: Plan,
        bindings: Mapping[str, Binding],
        *,
        settle: float,
        wall_time: float,
    ) -> EnvironmentListing:
        """Go on from what *plan* has seen; that is not fresh if it lacks what an earlier run opened just before."""
        unseen = recently_opened(bindings, wall_time, settle) - plan.alias_index.envs
        since = dict.fromkeys(bindings, -math.inf) | dict.fromkeys(unseen, asyncio.get_running_loop().time())
        started_at = -math.inf if unseen else plan.listed_at
        return cls(poller, plan.alias_index, started_at, ExpectedEnvironments(settle, since, unseen))

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
