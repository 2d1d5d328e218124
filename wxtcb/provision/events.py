"""Events of a provisioning run: frozen values, in the order in which things happened. None holds a secret."""

from __future__ import annotations

from datetime import UTC, datetime

import attrs

from wxtcb.provision.report import EnvironmentOrigin, Problem, StopReason, TenantReport

__all__ = [
    "ElectionUnavailable",
    "EventsDropped",
    "RunEvent",
    "RunStopped",
    "StepDone",
    "StepFailed",
    "StepOutcomeUnknown",
    "TenantFinished",
    "TenantStarted",
    "TermEnded",
    "TermStarted",
    "Waiting",
]

# Separate from `wxtcb.events`: a hook runs while a call waits for it. These events are queued for each subscriber of
# `Run.events`, so that no subscriber can slow down the run.


def _to_json_value(_event: object, _field: object, value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case StopReason():
            return value.value
        case Problem() | TenantReport():
            return value.to_dict()
        case _:
            return value


@attrs.frozen(kw_only=True)
class BaseRunEvent:
    """What all events of a run have: the time in UTC, by the clock of the provisioner, and a number.

    `sequence` counts the events of a run from 1, also those that no subscriber received. Both are set when the run
    emits the event, and are ignored in comparisons.
    """

    at: datetime = attrs.field(factory=lambda: datetime.now(UTC), eq=False)
    sequence: int = attrs.field(default=0, eq=False)

    def to_dict(self) -> dict[str, object]:
        """Return the fields as values for JSON, with the name of the class as `kind`; times are in ISO 8601."""
        fields = attrs.asdict(self, recurse=False, value_serializer=_to_json_value)
        return {"kind": type(self).__name__, **fields}


@attrs.frozen
class TenantStarted(BaseRunEvent):
    """Work on a tenant has started."""

    tenant: str
    alias: str


@attrs.frozen
class StepDone(BaseRunEvent):
    """A step of a tenant is done; all services of a tenant are one step.

    `how` is set for the step "environment": "opened" by a create of this run, "adopted" as planned, or "found" in a
    listing after a create with an ambiguous outcome.
    """

    tenant: str
    step: str
    env: str
    how: EnvironmentOrigin | None = None


@attrs.frozen
class StepOutcomeUnknown(BaseRunEvent):
    """A create had an ambiguous outcome: nothing is sent for this tenant until listings show whether it succeeded.

    Listings that start at `until` or later can show it.
    """

    # Not a `StepFailed`: the tenant is still in progress, and usually done after the check.
    tenant: str
    problem: Problem
    until: datetime | None = None


@attrs.frozen
class Waiting(BaseRunEvent):
    """What `tenants` tenants wait for; emitted after each 2 seconds without another event, once for each `reason`.

    The wait for this reason ends at `until` at the latest. None means that the run knows no limit.
    """

    reason: str
    tenants: int
    until: datetime | None = None


@attrs.frozen
class StepFailed(BaseRunEvent):
    """A step of a tenant failed, or its outcome stayed unknown; the tenant's other steps may continue."""

    tenant: str
    problem: Problem


@attrs.frozen
class TenantFinished(BaseRunEvent):
    """A tenant is finished; one that never started has no such event, but an entry in the report."""

    # Part of the event, because `Run.report` builds the reports of all tenants each time it is read.
    report: TenantReport


@attrs.frozen
class RunStopped(BaseRunEvent):
    """No further tenant is started, because of `reason`, which `message` explains; emitted once.

    `retry_after` is the time from which another run may continue, if known.
    """

    reason: StopReason
    message: str
    retry_after: datetime | None = None


@attrs.frozen
class TermStarted(BaseRunEvent):
    """This process was elected, for the term with this `epoch` (`Provisioner.serve`)."""

    epoch: int


@attrs.frozen
class TermEnded(BaseRunEvent):
    """This process is no longer elected, because of `reason`."""

    epoch: int
    reason: str


@attrs.frozen
class ElectionUnavailable(BaseRunEvent):
    """This process cannot take part in the election, because of the storage; it goes on trying."""

    message: str


@attrs.frozen
class EventsDropped(BaseRunEvent):
    """`count` events were dropped, because this subscriber had 10,000 unread ones; `Run.report` has what they said."""

    count: int


RunEvent = (
    TenantStarted
    | StepDone
    | StepOutcomeUnknown
    | Waiting
    | StepFailed
    | TenantFinished
    | RunStopped
    | EventsDropped
    | TermStarted
    | TermEnded
    | ElectionUnavailable
)
