"""Step that waits until a tenant's environment is NORMAL; one poll serves all waiting tenants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from wxtcb._concurrency.shared_poll import Snapshot
from wxtcb.api._waiters import WaitState, env_normal
from wxtcb.api.environment import EnvInfo, EnvList
from wxtcb.errors import OperationNotReady, WxtcbError
from wxtcb.provision.context import StepContext
from wxtcb.provision.report import Problem
from wxtcb.provision.step import Step, StepResult
from wxtcb.provision.tenant_state import TenantState

_STEP_NAME: Final = "ready"


@attrs.define(eq=False)
class WaitForNormal:
    """Wait until an environment is NORMAL or cannot become NORMAL, at most `timeout` seconds after `due_at`."""

    tenant_state: TenantState
    wait_state: WaitState[EnvList, EnvInfo]
    due_at: float
    timeout: float

    def describe(self, _now: float, /) -> tuple[str, float]:
        return "environments that are not NORMAL yet", self.due_at + self.timeout

    def evaluate(self, snapshot: Snapshot[EnvList]) -> StepResult | Problem | None:
        # The poll is shared: it may have started before the environment was created, and lack it.
        if snapshot.started_at < self.due_at:
            return None
        try:
            found = self.wait_state.update(snapshot)
        except OperationNotReady as error:
            return _build_problem(error)
        self.tenant_state.status = self.wait_state.status
        return StepResult.NEXT if found else self.check_timeout(snapshot.started_at)

    def check_timeout(self, now: float) -> Problem | None:
        return None if now - self.due_at < self.timeout else _build_problem(self.wait_state.timeout_error(self.timeout))


def _build_problem(error: WxtcbError) -> Problem:
    return Problem(step=_STEP_NAME, message=str(error), error=error)


async def _run(context: StepContext, tenant_states: Sequence[TenantState]) -> StepResult:
    (tenant_state,) = tenant_states
    wait_state = WaitState(env_normal(tenant_state.env or ""))
    tenant_state.pending_wait = WaitForNormal(tenant_state, wait_state, context.loop_time(), context.timeout)
    return StepResult.WAIT


READY: Final = Step(
    name=_STEP_NAME, title="environments NORMAL", is_needed=lambda _, __, status: status != "NORMAL", run=_run
)
