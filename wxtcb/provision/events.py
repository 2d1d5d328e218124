"""What a run tells while it works: frozen events, in the order in which things happened. None holds a secret."""

from __future__ import annotations

from datetime import datetime

import attrs

from wxtcb.provision.report import Problem, TenantReport


@attrs.frozen
class TenantStarted:
    """The work for a tenant begins."""

    tenant: str
    alias: str


@attrs.frozen
class StepDone:
    """A step of a tenant is done; services that were asked for one after another end as one step."""

    tenant: str
    step: str
    env: str


@attrs.frozen
class StepOutcomeUnknown:
    """A create had no clear answer: nothing is sent for this tenant until looks have shown what it did."""

    tenant: str
    problem: Problem


@attrs.frozen
class StepFailed:
    """A step of a tenant did not end well, or nobody knows how; the tenant's other steps may go on."""

    tenant: str
    problem: Problem


@attrs.frozen
class TenantFinished:
    """Nothing more is done for this tenant; a tenant that never started has no such event, but stands in the report."""

    report: TenantReport


@attrs.frozen
class RunStopped:
    """No further tenant is started, because of `reason`; told once. `retry_after` is when it may go on, if known."""

    reason: str
    retry_after: datetime | None = None


RunEvent = TenantStarted | StepDone | StepOutcomeUnknown | StepFailed | TenantFinished | RunStopped
