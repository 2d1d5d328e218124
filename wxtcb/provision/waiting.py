"""Where a tenant goes when a step was taken, and what one that is parked waits for."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from wxtcb._concurrency.shared_poll import Snapshot
from wxtcb.api.environment import EnvList
from wxtcb.provision.report import Problem


class StepResult(Enum):
    """Where a tenant goes when a step was taken."""

    NEXT = "to the next step"
    RETRY = "to the same step once more"
    WAIT = "to those who wait for what a look will show"
    END = "no further"


class PendingWait(Protocol):
    """What a parked tenant waits for; it holds no worker and no call meanwhile."""

    @property
    def due_at(self) -> float:
        """The moment, on the clock of the event loop, before which no look is of use."""
        ...

    def evaluate(self, snapshot: Snapshot[EnvList]) -> StepResult | Problem | None:
        """Say what *look* means for the tenant; None is to wait on, a problem ends it."""
        ...

    def check_timeout(self, now: float) -> StepResult | Problem | None:
        """Say the same when looking failed."""
        ...
