"""Where a tenant goes when a step was taken, and what one that is parked waits for."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from wxtcb._concurrency.shared_poll import Look
from wxtcb.api.environment import EnvList
from wxtcb.provision.report import Problem


class Move(Enum):
    """Where a tenant goes when a step was taken."""

    ON = "to the next step"
    AGAIN = "to the same step once more"
    PARK = "to those who wait for what a look will show"
    OUT = "no further"


class Waiting(Protocol):
    """What a parked tenant waits for; it holds no worker and no call meanwhile."""

    @property
    def due(self) -> float:
        """The moment, on the clock of the event loop, before which no look is of use."""
        ...

    def judge(self, look: Look[EnvList]) -> Move | Problem | None:
        """Say what *look* means for the tenant; None is to wait on, a problem ends it."""
        ...

    def overdue(self, now: float) -> Move | Problem | None:
        """Say the same when looking failed."""
        ...
