"""Who is where in a run: every tenant exactly once, those not started included."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from wxtcb.provision.report import Outcome, TenantReport
from wxtcb.provision.tenant_state import Work


@attrs.define(eq=False)
class Ledger:
    """Keeps the tenants under way, and of those that have ended the report alone.

    `wanted` has name and alias of all of them, in their order.
    """

    wanted: tuple[tuple[str, str], ...]
    under_way: dict[int, Work] = attrs.field(init=False, factory=dict[int, Work])
    _ended: dict[int, TenantReport] = attrs.field(init=False, factory=dict[int, TenantReport])

    def begin(self, work: Work) -> None:
        self.under_way[work.place] = work

    def end(self, work: Work) -> TenantReport:
        """Note that nothing more is done for a tenant, and return what came of it."""
        work.ended = True
        del self.under_way[work.place]
        report = self._ended[work.place] = work.report()
        return report

    def reports(self) -> Iterator[TenantReport]:
        """Return how every tenant stands now."""
        for place, (name, alias) in enumerate(self.wanted):
            if place in self._ended:
                yield self._ended[place]
            elif place in self.under_way:
                yield self.under_way[place].report()
            else:
                yield TenantReport(tenant=name, alias=alias, outcome=Outcome.UNFINISHED)
