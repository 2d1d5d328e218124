"""A provisioning step as data: a name, when a tenant needs it, and the coroutine that does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    # At run time these modules import this one.
    from wxtcb.provision.context import StepContext
    from wxtcb.provision.record import TenantRecord
    from wxtcb.provision.tenant import Tenant

__all__ = ["Step"]


@attrs.frozen(eq=False, kw_only=True)
class Step:
    """One kind of step; it runs if it is in `Provisioner(steps=)`.

    - `name` appears in plans, events and reports; `title`, above its progress bar, is the name by default.
    - `is_needed` returns whether a tenant needs the step, from its record and the last known status of its environment.
    - `run` does the step for one tenant (`StepContext`). It may run again after a crash, and so must be safe to repeat.
      If it raises, the tenant ends.
    """

    name: str
    title: str = attrs.field(default=attrs.Factory(lambda self: self.name, takes_self=True))
    is_needed: Callable[[Tenant, TenantRecord, str | None], bool]
    run: Callable[[StepContext], Awaitable[None]]
