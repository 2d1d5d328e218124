"""Desired state: what every tenant is to have, submitted by any process and carried out by the elected one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol

import attrs

from wxtcb.provision.journal import JournalError

__all__ = [
    "AliasInUse",
    "Cancel",
    "Decide",
    "Decision",
    "DecisionPending",
    "DesiredChange",
    "DesiredState",
    "DesiredTenant",
    "DesiredTenants",
    "Effect",
    "Finish",
    "Submit",
]


class AliasInUse(JournalError):
    """Two submitted tenants have the same alias, without regard to case; nothing of the submission is stored."""

    def __init__(self, alias: str, tenant: str, other: str) -> None:
        super().__init__(
            f"alias {alias!r} of tenant {tenant!r} is already used by tenant {other!r}; aliases are compared without "
            "case: choose another alias"
        )


class DecisionPending(JournalError):
    """Another decision about the tenant waits to be carried out; this one is not stored."""

    def __init__(self, tenant: str) -> None:
        super().__init__(
            f"another decision about tenant {tenant!r} has not been carried out yet: wait until its status changes, or "
            "cancel the tenant first"
        )


class DesiredState(Enum):
    """State of a submitted tenant. Only WAITING tenants are worked on."""

    WAITING = "waiting"
    DONE = "done"
    NEEDS_ATTENTION = "needs attention"
    CANCELLED = "cancelled"


@attrs.frozen
class Decision:
    """Decision of an operator about one tenant: exactly one of the three.

    `adopt` is the environment that the tenant adopts; `forget` its environment that was deleted on purpose; `retry`
    lets it continue after a failure, with three more creates.
    """

    adopt: str | None = None
    forget: str | None = None
    retry: bool = False


@attrs.frozen(kw_only=True)
class DesiredTenant:
    """What a tenant is to have.

    - `spec`: the tenant as JSON (`tenant_spec.dump_tenant`); it may hold a secret of a service.
    - `revision`: grows with every change of a caller. `tries`: attempts that failed since the last change.
    - `due_in`: seconds until the next attempt; 0.0 if it is due. `changed_at`: Unix time by the clock of the storage.
    """

    tenant: str
    alias: str
    spec: bytes = attrs.field(repr=False)
    revision: int
    state: DesiredState
    decision: Decision | None = None
    tries: int = 0
    due_in: float = 0.0
    changed_at: float


@attrs.frozen(kw_only=True)
class Submit:
    """Let a tenant have what *spec* says. If the same was submitted before, nothing changes unless it was cancelled."""

    tenant: str
    alias: str
    spec: bytes = attrs.field(repr=False)


@attrs.frozen
class Cancel:
    """Begin no further step of a tenant; what was done stays. A tenant that is done stays done.

    A decision that was not carried out is withdrawn.
    """

    tenant: str


@attrs.frozen
class Decide:
    """Carry out a decision about a tenant, which is WAITING again."""

    tenant: str
    decision: Decision


@attrs.frozen(kw_only=True)
class Finish:
    """Set the state of a tenant after an attempt.

    It has no effect if the revision has changed meanwhile, or if the tenant is DONE or CANCELLED.

    With WAITING, the tenant is due in *delay* seconds, and counts one more try if *failed*; any other state sets its
    tries to 0. The decision of the tenant is cleared, unless it is WAITING and nothing failed: then nothing was tried.
    """

    tenant: str
    revision: int
    state: DesiredState
    delay: float = 0.0
    failed: bool = False


DesiredChange = Submit | Cancel | Decide | Finish


class Effect(Enum):
    """Effect of one change."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    # The tenant of a `Cancel`, `Decide` or `Finish` was never submitted.
    UNKNOWN_TENANT = "unknown tenant"


class DesiredTenants(Protocol):
    """Storage of the desired state, in the same storage as its journal. All methods raise `JournalError`.

    A `Submit`, `Cancel` or `Decide` that changes something raises the revision by one, sets `changed_at`, and clears
    `tries` and the delay; a `Submit` or `Decide` makes the tenant WAITING, a `Cancel` makes it CANCELLED unless it is
    DONE. A cancelled tenant keeps its alias.
    """

    async def change(self, changes: Sequence[DesiredChange], *, connection: Any = None) -> tuple[Effect, ...]:
        """Make all *changes*, or none, and return the effect of each; at most one change of a tenant in one call.

        With *connection*, the changes belong to its open transaction: they exist if the caller commits it. Which types
        are supported is up to the implementation; any other raises `InvalidArgument`.
        Raise `AliasInUse` or `DecisionPending`, and change nothing.
        """
        ...

    async def take(self, epoch: int, limit: int) -> tuple[DesiredTenant, ...]:
        """Return at most *limit* WAITING tenants that are due and were not taken in this *epoch*; mark them as taken.

        A tenant that a caller changes afterwards can be taken again; so can one that a `Finish` leaves WAITING, once it
        is due. Raise `Deposed` if *epoch* is not the present one. Those that wait longest are returned first.
        """
        ...

    async def select(
        self,
        tenants: Iterable[str] | None = None,
        *,
        states: Iterable[DesiredState] | None = None,
        after: str = "",
        limit: int | None = None,
    ) -> tuple[DesiredTenant, ...]:
        """Return tenants in the order of their names, by code point.

        These are the first *limit* of *tenants*, in *states*, with a name greater than *after*; None: no restriction.
        """
        ...

    async def counts(self) -> Mapping[DesiredState, int]:
        """Return the number of tenants in each state; includes states with 0."""
        ...

    async def wait_for_change(self, seen: int, timeout: float) -> int:
        """Return the number of changes that this object knows of, once it differs from *seen*, or after *timeout* s.

        Start with 0, read the state, and pass the returned number the next time: so no change goes unnoticed. Changes
        of other processes, of records and of elections count too. Some may be noticed only by the *timeout*.
        """
        ...


def apply_change(
    desired: DesiredTenant | None, change: DesiredChange, now: float
) -> tuple[Effect, DesiredTenant | None]:
    """Return the effect of *change* at the time *now*, and the tenant after it; None if nothing changes.

    Raise `DecisionPending`. `due_in` of the tenant is its delay from now.
    """
    if desired is None:
        if not isinstance(change, Submit):
            return Effect.UNKNOWN_TENANT, None
        tenant, alias, spec, state = change.tenant, change.alias, change.spec, DesiredState.WAITING
        return Effect.NEW, DesiredTenant(tenant=tenant, alias=alias, spec=spec, revision=1, state=state, changed_at=now)
    after = _finish(desired, change) if isinstance(change, Finish) else _revise(desired, change, now)
    return (Effect.UNCHANGED, None) if after is None else (Effect.CHANGED, after)


def _finish(desired: DesiredTenant, finish: Finish) -> DesiredTenant | None:
    # One of a process that was deposed meanwhile sets nothing back.
    if finish.revision != desired.revision or desired.state in (DesiredState.DONE, DesiredState.CANCELLED):
        return None
    waiting = finish.state is DesiredState.WAITING
    tries = desired.tries + finish.failed if waiting else 0
    decision = desired.decision if waiting and not finish.failed else None
    return attrs.evolve(desired, state=finish.state, decision=decision, tries=tries, due_in=finish.delay)


def _revise(desired: DesiredTenant, change: Submit | Cancel | Decide, now: float) -> DesiredTenant | None:
    fields: dict[str, Any] = {"state": DesiredState.WAITING}
    if isinstance(change, Submit):
        is_same = (desired.alias, desired.spec) == (change.alias, change.spec)
        if is_same and desired.state is not DesiredState.CANCELLED:
            return None
        fields |= {"alias": change.alias, "spec": change.spec}
    elif isinstance(change, Cancel):
        if desired.state in (DesiredState.DONE, DesiredState.CANCELLED):
            return None
        # The decision is withdrawn too: nothing will carry it out.
        fields = {"state": DesiredState.CANCELLED, "decision": None}
    elif desired.decision == change.decision:
        return None
    elif desired.decision is not None:
        raise DecisionPending(change.tenant)
    else:
        fields["decision"] = change.decision
    revision = desired.revision + 1
    return attrs.evolve(desired, revision=revision, tries=0, due_in=0.0, changed_at=now, **fields)
