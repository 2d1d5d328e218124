"""State of one tenant during a run, and the report made from it. Pure."""

from __future__ import annotations

from typing import Final

import attrs

from wxtcb.api.environment import ShareLink
from wxtcb.provision.listing_watch import ListingWait
from wxtcb.provision.plan import Action, TenantPlan
from wxtcb.provision.record import ServiceState, TenantRecord
from wxtcb.provision.report import EnvironmentOrigin, Outcome, Problem, TenantReport

__all__ = ["TenantState"]

ENVIRONMENT_STEP_NAME: Final = "environment"
_BLOCKED_OUTCOMES: Final = {Action.CONFLICT: Outcome.CONFLICT, Action.DUPLICATE: Outcome.DUPLICATE}


@attrs.define(eq=False)
class TenantState:
    """State of one tenant during a run.

    - `record`: the newest record that the journal has stored. `env`, `tranid`, `status`: even if it could not store it.
    - `blocked_outcome`, `existing`, `reason`: the environments that have its alias, if they block it.
    - `how`: how the current step got the environment, for its event.
    - `ambiguous_create`: a create with an unknown outcome; it may take effect for `check_after` more seconds.
    - `interruption`: raised by the tenant's own coroutine, after another one has worked for it.
    - `cancelled`: no further step begins.
    """

    index: int
    plan: TenantPlan
    record: TenantRecord
    env: str | None = None
    tranid: str | None = None
    status: str | None = None
    step: str | None = None
    how: EnvironmentOrigin | None = None
    ended: bool = False
    blocked_outcome: Outcome | None = None
    existing: tuple[str, ...] = ()
    reason: str = ""
    pending_wait: ListingWait | None = None
    cancelled: bool = False
    interruption: Exception | None = None
    ambiguous_create: Problem | None = None
    resend_links: bool = False
    check_after: float = 0.0
    completed_steps: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @classmethod
    def from_plan(cls, index: int, plan: TenantPlan) -> TenantState:
        record = plan.record
        blocked = _BLOCKED_OUTCOMES.get(plan.action)
        state = cls(index, plan, record, record.env, record.tranid, plan.status, blocked_outcome=blocked)
        state.existing, state.reason, state.resend_links = plan.existing, plan.reason, plan.resend_links
        if record.intent is not None:
            message = f"the outcome of a create of an earlier run (attempt {record.attempt}) is unknown"
            state.ambiguous_create = Problem(step=ENVIRONMENT_STEP_NAME, message=message, outcome_unknown=True)
        return state

    @property
    def name(self) -> str:
        return self.plan.tenant.name

    @property
    def effective_record(self) -> TenantRecord:
        return self.record.effective_record(resend_links=self.resend_links)

    def block(self, envs: tuple[str, ...]) -> None:
        self.existing = envs
        self.blocked_outcome = Outcome.CONFLICT if len(envs) == 1 else Outcome.DUPLICATE

    def to_report(self) -> TenantReport:
        problems = (*self.problems, *([self.ambiguous_create] if self.ambiguous_create else ()))
        services = self._service_states
        return TenantReport(
            tenant=self.name,
            alias=self.plan.alias,
            outcome=self._determine_outcome(problems),
            env=self.env,
            tranid=self.tranid,
            step=None if self.ended else self.step,
            done=self.completed_steps,
            links=self._share_links,
            services=tuple(name for name, state in services.items() if state is not ServiceState.SENT),
            unconfirmed=tuple(name for name, state in services.items() if state is ServiceState.UNCONFIRMED),
            existing=self.existing,
            reason=self.reason,
            problems=problems,
            metadata=self.record.metadata,
        )

    @property
    def _share_links(self) -> tuple[ShareLink, ...]:
        # The record keeps links of mini programs that were removed from the tenant; these are not reported.
        urls = ((appid, self.record.links.get(appid)) for appid in self.plan.tenant.appids)
        return tuple(ShareLink(appid=appid, url=url) for appid, url in urls if url)

    @property
    def _service_states(self) -> dict[str, ServiceState]:
        known = self.record.services
        return {each.name: known[each.name] for each in self.plan.tenant.services if each.name in known}

    def _determine_outcome(self, problems: tuple[Problem, ...]) -> Outcome:
        # The order matters: what blocks a tenant explains its problems, and a problem outweighs what is done.
        if self.blocked_outcome:
            return self.blocked_outcome
        if problems:
            return Outcome.UNKNOWN if any(problem.outcome_unknown for problem in problems) else Outcome.FAILED
        if not self.ended:
            return Outcome.UNFINISHED
        if ServiceState.UNCONFIRMED in self._service_states.values():
            return Outcome.UNCONFIRMED
        return Outcome.AWAITING if self._share_links else Outcome.DONE
