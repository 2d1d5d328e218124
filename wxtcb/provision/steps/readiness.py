"""Step that waits until a tenant's environment is NORMAL; one poll serves all waiting tenants."""

from __future__ import annotations

from typing import Final

import attrs

from wxtcb._concurrency.shared_poll import Snapshot
from wxtcb.api._waiters import WaitState, env_normal
from wxtcb.api.environment import EnvInfo, EnvList
from wxtcb.provision.context import StepContext
from wxtcb.provision.step import Step


@attrs.define(eq=False)
class WaitForNormal:
    """Wait until an environment is NORMAL or cannot become NORMAL, at most `timeout` seconds after `due_at`."""

    wait_state: WaitState[EnvList, EnvInfo]
    due_at: float
    timeout: float

    def describe(self, _now: float, /) -> tuple[str, float]:
        return "environments that are not NORMAL yet", self.due_at + self.timeout

    def evaluate(self, snapshot: Snapshot[EnvList]) -> bool:
        # The poll is shared: it may have started before the environment was created, and lack it.
        if snapshot.started_at < self.due_at:
            return False
        return self.wait_state.update(snapshot) is not None or self.check_timeout(snapshot.started_at)

    def check_timeout(self, now: float) -> bool:
        if now - self.due_at >= self.timeout:
            raise self.wait_state.timeout_error(self.timeout)
        return False


async def _run(context: StepContext) -> None:
    wait_state = WaitState(env_normal(context.env))
    try:
        await context.wait(WaitForNormal(wait_state, context.loop_time(), context.shared.timeout))
    finally:
        context.state.status = wait_state.status


READY: Final = Step(
    name="ready", title="environments NORMAL", is_needed=lambda _, __, status: status != "NORMAL", run=_run
)
