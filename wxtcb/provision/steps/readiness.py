"""Readiness: the environment is NORMAL. One look serves all who wait, and nobody who waits holds a worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from wxtcb._concurrency.shared_poll import Look
from wxtcb.api._waiters import Watch
from wxtcb.api.environment import EnvInfo, EnvList, normal
from wxtcb.errors import EnvironmentNotReady, WxtcbError
from wxtcb.provision.context import Site
from wxtcb.provision.journal import Record
from wxtcb.provision.report import Problem
from wxtcb.provision.step import Step
from wxtcb.provision.tenant import Tenant
from wxtcb.provision.tenant_state import Work
from wxtcb.provision.waiting import Move

_NAME: Final = "ready"
_NORMAL: Final = "NORMAL"


@attrs.define(eq=False)
class AwaitNormal:
    """Parked until its environment is NORMAL, cannot become so, or has taken `patience` seconds.

    A look that started before `due`, when the create was answered, says nothing.
    """

    work: Work
    watch: Watch[EnvList, EnvInfo]
    due: float
    patience: float

    def judge(self, look: Look[EnvList]) -> Move | Problem | None:
        if look.started_at < self.due:
            return None
        try:
            found = self.watch.judge(look)
        except EnvironmentNotReady as error:
            return _problem(error)
        self.work.status = self.watch.status
        return Move.ON if found else self.overdue(look.started_at)

    def overdue(self, now: float) -> Problem | None:
        if now - self.due < self.patience:
            return None
        return _problem(self.watch.overdue(self.patience))


def _problem(error: WxtcbError) -> Problem:
    return Problem(step=_NAME, message=str(error), error=error)


def _wants(_tenant: Tenant, _record: Record, status: str | None) -> bool:
    return status != _NORMAL


async def _take(site: Site, works: Sequence[Work]) -> Move:
    (work,) = works
    work.waiting = AwaitNormal(work, Watch(normal(work.env or "")), site.now(), site.patience)
    return Move.PARK


READY: Final = Step(name=_NAME, title="environments NORMAL", wants=_wants, take=_take)
