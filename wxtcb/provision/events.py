"""Events of a provisioning run: frozen values, in the order in which things happened. None holds a secret."""

from __future__ import annotations

from datetime import datetime

import attrs

from wxtcb.provision.report import Problem, TenantReport

__all__ = [
    "RunEvent",
    "RunStopped",
    "StepDone",
    "StepFailed",
    "StepOutcomeUnknown",
    "TenantFinished",
    "TenantStarted",
]

# Separate from `wxtcb.events`: a hook runs while a call waits for it. These events are queued for each subscriber of
# `Run.events`, so that no subscriber can slow down the run.


@attrs.frozen
class TenantStarted:
    """Work on a tenant has started."""

    tenant: str
    alias: str


@attrs.frozen
class StepDone:
    """A step of a tenant is done; all services of a tenant are one step."""

    tenant: str
    step: str
    env: str


@attrs.frozen
class StepOutcomeUnknown:
    """A create had an ambiguous outcome: nothing is sent for this tenant until listings show whether it succeeded."""

    # Not a `StepFailed`: the tenant is still in progress, and usually done after the check.
    tenant: str
    problem: Problem


@attrs.frozen
class StepFailed:
    """A step of a tenant failed, or its outcome stayed unknown; the tenant's other steps may continue."""

    tenant: str
    problem: Problem


@attrs.frozen
class TenantFinished:
    """A tenant is finished; one that never started has no such event, but an entry in the report."""

    # Part of the event, because `Run.report` builds the reports of all tenants each time it is read.
    report: TenantReport


@attrs.frozen
class RunStopped:
    """No further tenant is started, because of `reason`; emitted once.

    `retry_after` is the time from which another run may continue, if known.
    """

    reason: str
    retry_after: datetime | None = None


RunEvent = TenantStarted | StepDone | StepOutcomeUnknown | StepFailed | TenantFinished | RunStopped
