"""A provisioning step as data, its results, and the waits it can leave behind.

A step runs if it is in `STEPS` (`wxtcb.provision.steps`), which is the default of `Provisioner(steps=)`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    # At run time these modules import this one: steps leave their waits in the tenant's state.
    from wxtcb._concurrency.shared_poll import Snapshot
    from wxtcb.api.environment import EnvList
    from wxtcb.provision.context import StepContext
    from wxtcb.provision.record import TenantRecord
    from wxtcb.provision.report import Problem
    from wxtcb.provision.tenant import Tenant
    from wxtcb.provision.tenant_state import TenantState

__all__ = ["PendingWait", "Step", "StepResult"]


class StepResult(Enum):
    """Next action for the tenants of a step after it has run."""

    NEXT = "continue with the next step"
    RETRY = "run the same step again"
    WAIT = "wait for a listing"
    END = "do nothing more"


class PendingWait(Protocol):
    """The condition that a waiting tenant waits for; meanwhile it occupies neither a worker nor a request."""

    @property
    def due_at(self) -> float:
        """Loop time before which a listing cannot satisfy the condition."""
        ...

    def describe(self, now: float, /) -> tuple[str, float]:
        """Return what is waited for at loop time *now*, as a noun phrase, and the loop time at which that ends.

        The time is infinite if there is no limit.
        """
        ...

    def evaluate(self, snapshot: Snapshot[EnvList]) -> StepResult | Problem | None:
        """Return how the tenant continues after a listing; None to keep waiting, a `Problem` to end it."""

    def check_timeout(self, now: float) -> StepResult | Problem | None:
        """Return how the tenant continues after a failed listing; None to keep waiting."""


@attrs.frozen(eq=False, kw_only=True)
class Step:
    """One kind of step.

    - `name` appears in plans, events and reports, `title` above the progress bar.
    - `is_needed` returns whether a tenant needs the step, from its record and the last known status of its environment.
    - `run` runs the step for at most `batch_size` tenants. If it raises, these tenants end.
    - `can_batch` returns whether two tenants may be in one batch. A `billable` step is not started in a stopped run.
    """

    name: str
    title: str
    is_needed: Callable[[Tenant, TenantRecord, str | None], bool]
    run: Callable[[StepContext, Sequence[TenantState]], Awaitable[StepResult]]
    batch_size: int = 1
    can_batch: Callable[[TenantState, TenantState], bool] = lambda _one, _other: True
    billable: bool = False
