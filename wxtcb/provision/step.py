"""What a step of a tenant's way is. The engine knows steps as data only; each kind of step is a file in `steps`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import attrs

from wxtcb.provision.context import Site
from wxtcb.provision.journal import Record
from wxtcb.provision.tenant import Tenant
from wxtcb.provision.tenant_state import Work
from wxtcb.provision.waiting import Move


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
