"""What is known of one tenant while it is worked on, and what that makes of it. Pure."""

from __future__ import annotations

from typing import Final

import attrs

from wxtcb.api.environment import EnvInfo, EnvList, ShareLink, Watch
from wxtcb.errors import (
    AccountBlocked,
    AddressNotAllowed,
    EnvironmentNotReady,
    EnvironmentTimeout,
    NotPermitted,
    SecretRefused,
    SessionClosed,
    TicketError,
    TokenCeiling,
    WrongLoop,
    WxtcbError,
)
from wxtcb.provision.doubt import Doubt, is_doubtful
from wxtcb.provision.report import Outcome, Problem, Step, TenantReport
from wxtcb.provision.spec import Tenant
from wxtcb.sweep import Look

_PLATFORM_LACKS: Final = (48001, 85088)
_FOR_EVERYBODY: Final = (
    AccountBlocked,
    AddressNotAllowed,
    SecretRefused,
    SessionClosed,
    TicketError,
    TokenCeiling,
    WrongLoop,
)


@attrs.define(eq=False)
class Work:
    """A tenant on its way; `step` is None before its start, `ended` once nothing more is to be done for it.

    `watch` has its environment, once that is there, and `since` is when the create was answered. `unconfirmed` are
    those of `services` that exist after a send in doubt.
    """

    tenant: Tenant
    alias: str
    step: Step | None = None
    ended: bool = False
    watch: Watch = attrs.field(factory=lambda: Watch(""))
    since: float = 0.0
    done: list[Step] = attrs.field(factory=list[Step])
    links: tuple[ShareLink, ...] = ()
    services: list[str] = attrs.field(factory=list[str])
    unconfirmed: list[str] = attrs.field(factory=list[str])
    existing: tuple[str, ...] = ()
    problems: list[Problem] = attrs.field(factory=list[Problem])

    @property
    def env(self) -> str | None:
        """The id of its environment, None before there is one."""
        return self.watch.env or None

    def report(self) -> TenantReport:
        """Return how it stands now."""
        return TenantReport(
            tenant=self.tenant.name,
            alias=self.alias,
            outcome=self._outcome(),
            env=self.env,
            step=None if self.ended else self.step,
            done=tuple(self.done),
            links=self.links,
            services=tuple(self.services),
            unconfirmed=tuple(self.unconfirmed),
            existing=self.existing,
            problems=tuple(self.problems),
        )

    def _outcome(self) -> Outcome:
        if self.existing:
            return Outcome.CONFLICT if len(self.existing) == 1 else Outcome.DUPLICATE
        if self.problems:
            unknown = any(problem.unknown for problem in self.problems)
            return Outcome.UNKNOWN if unknown else Outcome.FAILED
        if not self.ended:
            return Outcome.UNFINISHED
        if self.unconfirmed:
            return Outcome.UNCONFIRMED
        return Outcome.AWAITING if self.links else Outcome.DONE

    def judge(self, look: Look[EnvList], timeout: float) -> EnvInfo | EnvironmentNotReady | None:
        """Return its environment once it is NORMAL, why it will not become so, or None to look again.

        A look that started before the create was answered says nothing.
        """
        try:
            found = self.watch.judge(look) if look.started_at >= self.since else None
        except EnvironmentNotReady as error:
            return error
        return found or self.overdue(look.started_at, timeout)

    def overdue(self, now: float, timeout: float) -> EnvironmentTimeout | None:
        """Return the error of an environment that took too long, if it did."""
        if now - self.since < timeout:
            return None
        return self.watch.overdue(timeout)


def problem_of(step: Step, error: WxtcbError, service: str | None = None, doubt: Doubt | None = None) -> Problem:
    """Put an error on record; of a call that adds something *doubt* knows what was sent before."""
    unknown = doubt is not None and (doubt.there or is_doubtful(error))
    earlier = "" if not unknown or is_doubtful(error) else " An earlier send of it may have taken effect."
    return Problem(step=step, message=f"{error}{earlier}", service=service, unknown=unknown, error=error)


def cut_off(step: Step, service: str | None) -> Problem:
    """Put on record that a call which adds something was cancelled before its answer came."""
    message = "cancelled while its answer was awaited; it may have taken effect, and was not sent again"
    return Problem(step=step, message=message, service=service, unknown=True)


def hits_everybody(error: WxtcbError) -> bool:
    """Tell whether every other tenant would meet the same error."""
    if isinstance(error, NotPermitted):
        return error.errcode in _PLATFORM_LACKS
    if isinstance(error, TicketError) and error.passing:
        return False
    return isinstance(error, _FOR_EVERYBODY)
