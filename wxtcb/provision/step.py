"""What a step of a tenant's way is. The engine knows steps as data only; each kind of step is a file in `steps`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from wxtcb._concurrency.shared_poll import Snapshot
    from wxtcb.api.environment import EnvList
    from wxtcb.provision.context import StepContext
    from wxtcb.provision.journal import TenantRecord
    from wxtcb.provision.report import Problem
    from wxtcb.provision.tenant import Tenant
    from wxtcb.provision.tenant_state import TenantState


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


def _always_batchable(_one: TenantState, _other: TenantState) -> bool:
    return True


@attrs.frozen(eq=False, kw_only=True)
class Step:
    """One kind of step.

    `name` stands in plans, events and reports, `title` over the progress bar. `is_needed` tells whether anything is to be
    done about it for a tenant, given its record and the last status seen of its environment. `run` does it, for at
    most `batch_size` tenants of which each may go with each other (`can_batch`); what it raises ends them. A step that
    `billable` is not begun any more once a run is stopped.
    """

    name: str
    title: str
    is_needed: Callable[[Tenant, TenantRecord, str | None], bool]
    run: Callable[[StepContext, Sequence[TenantState]], Awaitable[StepResult]]
    batch_size: int = 1
    can_batch: Callable[[TenantState, TenantState], bool] = _always_batchable
    billable: bool = False
