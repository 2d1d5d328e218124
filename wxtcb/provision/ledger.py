"""Who is where in a run: every tenant exactly once, those not started included."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from wxtcb.provision.report import Outcome, TenantReport
from wxtcb.provision.tenant_state import TenantState


@attrs.define(eq=False)
class ReportCollector:
    """Keeps the tenants under way, and of those that have ended the report alone.

    `names_and_aliases` has name and alias of all of them, in their order.
    """

    names_and_aliases: tuple[tuple[str, str], ...]
    active: dict[int, TenantState] = attrs.field(init=False, factory=dict[int, TenantState])
    _finished: dict[int, TenantReport] = attrs.field(init=False, factory=dict[int, TenantReport])

    def start(self, tenant_state: TenantState) -> None:
        self.active[tenant_state.index] = tenant_state

    def finish(self, tenant_state: TenantState) -> TenantReport:
        """Note that nothing more is done for a tenant, and return what came of it."""
        tenant_state.ended = True
        del self.active[tenant_state.index]
        report = self._finished[tenant_state.index] = tenant_state.to_report()
        return report

    def iter_reports(self) -> Iterator[TenantReport]:
        """Return how every tenant stands now."""
        for place, (name, alias) in enumerate(self.names_and_aliases):
            if place in self._finished:
                yield self._finished[place]
            elif place in self.active:
                yield self.active[place].to_report()
            else:
                yield TenantReport(tenant=name, alias=alias, outcome=Outcome.UNFINISHED)
