"""Did a create act whose answer was not clear? What looks show after the settle decides; pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import Final

import attrs

from wxtcb._concurrency.shared_poll import Snapshot
from wxtcb.api.environment import EnvList
from wxtcb.provision.plan import AliasIndex
from wxtcb.provision.waiting import StepResult

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
