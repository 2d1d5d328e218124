"""Did a create act whose answer was not clear? What looks show after the settle decides; pure."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

import attrs

from wxtcb.api.environment import EnvList
from wxtcb.provision.waiting import Move
from wxtcb.sweep import Look

SOUND_LOOKS: Final = 2


class Verdict(Enum):
    """What was proven."""

    FOUND = "one environment has the alias"
    SEVERAL = "several have it"
    ABSENT = "none has it"
    UNPROVEN = "the looks showed too little"


@attrs.define(eq=False)
class Proof:
    """Parked until looks have decided about *alias*: none counts that started before `due`.

    Only a look that shows every environment known (`is_sound`) counts: one to find, two in a row to find nothing. At
    `deadline` it is given up.
    """

    alias: str
    due: float
    deadline: float
    is_sound: Callable[[Look[EnvList]], bool]
    found: tuple[str, ...] = ()
    verdict: Verdict | None = None
    _looks: int = 0

    def judge(self, look: Look[EnvList]) -> Move | None:
        if look.started_at < self.due:
            return None
        if not self.is_sound(look):
            self._looks = 0
            return self.overdue(look.started_at)
        self._looks += 1
        key = self.alias.lower()
        self.found = tuple(info.env for info in look.seen.info_list if info.alias.lower() == key)
        if self.found:
            return self._decide(Verdict.FOUND if len(self.found) == 1 else Verdict.SEVERAL)
        return self._decide(Verdict.ABSENT) if self._looks >= SOUND_LOOKS else None

    def overdue(self, now: float) -> Move | None:
        return self._decide(Verdict.UNPROVEN) if now >= self.deadline else None

    def _decide(self, verdict: Verdict) -> Move:
        self.verdict = verdict
        return Move.AGAIN
