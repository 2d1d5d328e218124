"""What a step of a tenant's way is. The engine knows steps as data only; each kind of step is a file in `steps`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Protocol

import attrs

from wxtcb.api.environment import EnvList
from wxtcb.provision.journal import Record
from wxtcb.provision.spec import Tenant
from wxtcb.sweep import Look

if TYPE_CHECKING:
    from wxtcb.provision.report import Problem
    from wxtcb.provision.site import Site
    from wxtcb.provision.work import Work


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


def _never_apart(_one: Work, _other: Work) -> bool:
    return True


@attrs.frozen(eq=False, kw_only=True)
class Step:
    """One kind of step.

    `name` stands in plans, events and reports, `title` over the progress bar. `wants` tells whether anything is to be
    done about it for a tenant, given its record and the last status seen of its environment. `take` does it, for at
    most `together` tenants of which each may go with each other (`joins`); what it raises ends them. A step that
    `spends` is not begun any more once a run is stopped.
    """

    name: str
    title: str
    wants: Callable[[Tenant, Record, str | None], bool]
    take: Callable[[Site, Sequence[Work]], Awaitable[Move]]
    together: int = 1
    joins: Callable[[Work, Work], bool] = _never_apart
    spends: bool = False
