"""What a step of a tenant's way is. The engine knows steps as data only; each kind of step is a file in `steps`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import attrs

from wxtcb.provision.context import StepContext
from wxtcb.provision.journal import TenantRecord
from wxtcb.provision.tenant import Tenant
from wxtcb.provision.tenant_state import TenantState
from wxtcb.provision.waiting import StepResult


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
