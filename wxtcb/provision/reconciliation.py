"""Did a create act whose answer was not clear? What looks show after the settle decides; pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import Final

import attrs

from wxtcb._concurrency.shared_poll import Look
from wxtcb.api.environment import EnvList
from wxtcb.provision.plan import Taken
from wxtcb.provision.waiting import Move

SOUND_LOOKS: Final = 2


class Verdict(Enum):
    """What was proven."""

    FOUND = "one environment has the alias"
    SEVERAL = "several have it"
    ABSENT = "none has it"
    UNPROVEN = "the looks showed too little"


@attrs.frozen(eq=False)
class Shown:
    """What one look shows: the environments by alias, and those `missing` that must be there by now."""

    look: Look[EnvList]
    taken: Taken
    missing: tuple[str, ...]

    @property
    def gap(self) -> str:
        """What it lacks, in words."""
        first, *others = self.missing
        more = f" and {len(others)} more" if others else ""
        return f"did not show environment {first}{more}, which should be there"


@attrs.define(eq=False)
class Expected:
    """Which environments a look must show: those that belong to a tenant, `settle` seconds after that became so.

    What was shown once must be shown from then on. `since` has the moment of each on the clock of the event loop.
    `young` are those which an earlier run opened, and which the list did not show when this one began.
    """

    settle: float
    since: dict[str, float]
    young: frozenset[str] = frozenset()
    _shown: Shown | None = attrs.field(init=False, default=None)

    def compare(self, look: Look[EnvList]) -> Shown:
        """Return what *look* shows; worked out once, however many wait for it."""
        if self._shown is None or self._shown.look is not look:
            listed, settled = look.seen.by_env, look.started_at - self.settle
            missing = tuple(env for env, since in self.since.items() if since <= settled and env not in listed)
            seen = [env for env, since in self.since.items() if since > settled and env in listed]
            self.since.update(dict.fromkeys(seen, -math.inf))
            self._shown = Shown(look, Taken.of(look.seen), missing)
        return self._shown

    def awaits(self, look: Look[EnvList]) -> bool:
        """Tell whether *look* lacks one of the young, and that is not overdue; if none, they are young no more."""
        listed, overdue = look.seen.by_env, self.compare(look).missing
        if all(env in listed or env in overdue for env in self.young):
            self.young = frozenset()
        return bool(self.young)


@attrs.define(eq=False)
class AwaitYoung:
    """Parked until looks show what an earlier run opened just before, or that it has to be shown and is not."""

    expected: Expected
    due: float
    deadline: float

    def judge(self, look: Look[EnvList]) -> Move | None:
        return None if self.expected.awaits(look) else Move.AGAIN

    def overdue(self, now: float) -> Move | None:
        return Move.AGAIN if now >= self.deadline else None


@attrs.define(eq=False)
class Proof:
    """Parked until looks have decided about *alias*: none counts that started before `due`.

    What one shows is there. Nothing is absent before two in a row have lacked it, and those must show every environment
    that is known. At `deadline` it is given up; `reason` says what it lacked.
    """

    alias: str
    due: float
    deadline: float
    shown: Callable[[Look[EnvList]], Shown]
    found: tuple[str, ...] = ()
    verdict: Verdict | None = None
    reason: str = "no look has succeeded since then"
    _looks: int = 0

    def judge(self, look: Look[EnvList]) -> Move | None:
        if look.started_at < self.due:
            return None
        shown = self.shown(look)
        self.found = shown.taken.by(self.alias)
        if self.found:
            return self._decide(Verdict.FOUND if len(self.found) == 1 else Verdict.SEVERAL)
        if shown.missing:
            return self._distrust(shown, look.started_at)
        self._looks += 1
        return self._decide(Verdict.ABSENT) if self._looks >= SOUND_LOOKS else None

    def overdue(self, now: float) -> Move | None:
        return self._decide(Verdict.UNPROVEN) if now >= self.deadline else None

    def _distrust(self, shown: Shown, now: float) -> Move | None:
        self._looks = 0
        self.reason = f"the looks since then {shown.gap}"
        return self.overdue(now)

    def _decide(self, verdict: Verdict) -> Move:
        self.verdict = verdict
        return Move.AGAIN
