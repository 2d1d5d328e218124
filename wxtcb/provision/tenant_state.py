"""What is known of one tenant while it is worked on, and what that makes of it. Pure."""

from __future__ import annotations

from typing import Final

import attrs

from wxtcb.api.environment import ShareLink
from wxtcb.provision.journal import Record, ServiceState
from wxtcb.provision.plan import Action, Planned, taken_by
from wxtcb.provision.report import Outcome, Problem, TenantReport
from wxtcb.provision.waiting import Waiting

CREATE: Final = "environment"
_BLOCKED: Final = {Action.CONFLICT: Outcome.CONFLICT, Action.DUPLICATE: Outcome.DUPLICATE}


@attrs.define(eq=False)
class Work:
    """A tenant on its way.

    `step` is where it stands, None before its start; `ended` is set once nothing more is to be done for it. `env`,
    `tranid` and `status` are of its environment, also where the journal could not keep them; `waiting` is what it is
    parked for, and `doubt` what nobody knows yet of a create; `creates_in_doubt` counts those of this run. With
    `resend` links are to be asked for again.
    """

    place: int
    planned: Planned
    record: Record
    env: str | None = None
    tranid: str | None = None
    status: str | None = None
    step: str | None = None
    ended: bool = False
    blocked: Outcome | None = None
    existing: tuple[str, ...] = ()
    reason: str = ""
    waiting: Waiting | None = None
    doubt: Problem | None = None
    resend: bool = False
    creates_in_doubt: int = 0
    done: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @classmethod
    def begin(cls, place: int, planned: Planned) -> Work:
        """Take up a tenant as it was planned."""
        record = planned.record
        return cls(
            place,
            planned,
            record,
            env=record.env,
            tranid=record.tranid,
            status=planned.status,
            blocked=_BLOCKED.get(planned.action),
            existing=planned.existing,
            reason=planned.reason,
            doubt=_left_over(record),
            resend=planned.resend,
        )

    @property
    def name(self) -> str:
        return self.planned.tenant.name

    @property
    def to_go_by(self) -> Record:
        """What the steps go by."""
        return self.record.to_go_by(resend=self.resend)

    def block(self, envs: tuple[str, ...]) -> None:
        """Leave the tenant to a person: other environments have its alias."""
        self.existing = envs
        self.blocked = Outcome.CONFLICT if len(envs) == 1 else Outcome.DUPLICATE
        self.reason = taken_by(self.record.alias, envs)

    def report(self) -> TenantReport:
        """Return how it stands now."""
        problems = (*self.problems, *([self.doubt] if self.doubt else ()))
        links, services = self._links, self._services
        return TenantReport(
            tenant=self.name,
            alias=self.planned.alias,
            outcome=self._outcome(problems),
            env=self.env,
            tranid=self.tranid,
            step=None if self.ended else self.step,
            done=self.done,
            links=links,
            services=tuple(name for name, state in services.items() if state is not ServiceState.SENT),
            unconfirmed=tuple(name for name, state in services.items() if state is ServiceState.UNCONFIRMED),
            existing=self.existing,
            reason=self.reason,
            problems=problems,
            marks=self.record.marks,
        )

    @property
    def _links(self) -> tuple[ShareLink, ...]:
        """The pages to be opened, of those mini programs that are wanted now."""
        urls = ((appid, self.record.links.get(appid)) for appid in self.planned.tenant.appids)
        return tuple(ShareLink(appid=appid, url=url) for appid, url in urls if url)

    @property
    def _services(self) -> dict[str, ServiceState]:
        known = self.record.services
        return {each.name: known[each.name] for each in self.planned.tenant.services if each.name in known}

    def _outcome(self, problems: tuple[Problem, ...]) -> Outcome:
        if self.blocked:
            return self.blocked
        if problems:
            return Outcome.UNKNOWN if any(problem.unknown for problem in problems) else Outcome.FAILED
        if not self.ended:
            return Outcome.UNFINISHED
        if ServiceState.UNCONFIRMED in self._services.values():
            return Outcome.UNCONFIRMED
        return Outcome.AWAITING if self._links else Outcome.DONE


def _left_over(record: Record) -> Problem | None:
    if record.intent is None:
        return None
    message = f"a create of an earlier run, attempt {record.attempt}, has no clear answer"
    return Problem(step=CREATE, message=message, unknown=True)
