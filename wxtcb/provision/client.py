"""Provisioning client: submits tenants, follows them and decides about them, from any process."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, Protocol, cast

import attrs
import orjson

from wxtcb import validation
from wxtcb._concurrency.shared_poll import SharedPoller
from wxtcb._concurrency.tasks import cooperative_iter
from wxtcb.api.environment import ShareLink
from wxtcb.errors import InvalidArgument
from wxtcb.provision.desired import (
    Cancel,
    Decide,
    Decision,
    DesiredChange,
    DesiredState,
    DesiredTenant,
    Effect,
    Submit,
)
from wxtcb.provision.journal import JournalError, SharedJournal
from wxtcb.provision.record import HistoryEntry, ServiceState, TenantRecord
from wxtcb.provision.tenant import Tenant, iter_aliases
from wxtcb.provision.tenant_spec import dump_tenant, load_tenant

__all__ = ["ProvisioningClient", "Statement", "Submission", "TenantStatus", "UnknownTenant"]

# Seconds between two reads for all followers of one client.
_MIN_READ_INTERVAL: Final = 0.5
# Seconds after which followers read without a notification: it may be lost, such as in a connection pooler.
_MAX_READ_INTERVAL: Final = 5.0
_PAGE_SIZE: Final = 1_000


class UnknownTenant(JournalError):
    """The tenant was never submitted."""

    def __init__(self, tenant: str) -> None:
        super().__init__(f"tenant {tenant!r} was never submitted: check its name, or submit it first")


class Statement(Protocol):
    """SQL statement that submits tenants, for any driver of PostgreSQL.

    - `sql` has the placeholders ``$1``, ``$2`` and so on; `pyformat` has ``%s`` instead.
    - `arguments` are lists of strings, bytes, numbers and booleans. They may contain secrets of services.
    """

    @property
    def sql(self) -> str: ...

    @property
    def pyformat(self) -> str: ...

    @property
    def arguments(self) -> Sequence[Sequence[object]]: ...

    def effects(self, row: Sequence[Any], /) -> tuple[Effect, ...]:
        """Return the effect on each tenant, from the only row of the result; raise `AliasInUse` if there was none."""
        ...


@attrs.frozen(kw_only=True)
class Submission:
    """Number of tenants of a submission that are new, that were changed, and that were submitted like this before."""

    new: int
    changed: int
    unchanged: int


@attrs.frozen(kw_only=True)
class TenantStatus:
    """Status of one submitted tenant.

    - `state`: only a WAITING tenant is worked on. It is DONE, CANCELLED or NEEDS_ATTENTION at the end.
    - `step`: what a WAITING tenant needs next by the journal: "environment", "share", "services", or "ready" if nothing
      is missing but the last check. None in another state.
    - `outcome`, `problem`: result of the last attempt if the tenant is not done, and why; otherwise empty.
    - `env`, `tranid`: its environment, and the order number if this namespace created it.
    - `links`: pages on which administrators of mini programs must confirm. `services`: state of each requested service.
    - `decision`: decision that has not been carried out yet. `tries`: attempts that failed since the last change.
    - `next_attempt`: time of the next attempt, by the clock of this process; None if it is due. Two statuses that
      differ only in this time are equal.
    - `changed_at`, `revision`: time and number of the last submission, cancel or decision.
    """

    tenant: str
    alias: str
    state: DesiredState
    step: str | None = None
    outcome: str = ""
    problem: str = ""
    env: str | None = None
    tranid: str | None = None
    links: tuple[ShareLink, ...] = ()
    services: Mapping[str, ServiceState] = attrs.field(factory=dict[str, ServiceState], hash=False)
    decision: Decision | None = None
    tries: int = 0
    # It is computed from a remaining time: each read gives a slightly different one.
    next_attempt: datetime | None = attrs.field(default=None, eq=lambda moment: moment is None)
    changed_at: datetime
    revision: int

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON values; times are in ISO 8601."""
        return attrs.asdict(self, recurse=False) | {
            "state": self.state.value,
            "links": [{"appid": link.appid, "url": link.url} for link in self.links],
            "services": {name: state.value for name, state in self.services.items()},
            "decision": self.decision and attrs.asdict(self.decision, filter=lambda _, value: bool(value)),
            "next_attempt": self.next_attempt and self.next_attempt.isoformat(timespec="seconds"),
            "changed_at": self.changed_at.isoformat(timespec="seconds"),
        }

    def to_json(self) -> str:
        """Return the fields as JSON in one line, for example for the data of a server-sent event."""
        return orjson.dumps(self.to_dict()).decode()


@attrs.frozen
class _Read:
    """Statuses of all followed tenants, and the number of changes noticed before they were read."""

    changes: int
    statuses: Mapping[str, TenantStatus | None]


@attrs.define(eq=False)
class ProvisioningClient:
    """Submits tenants to *journal*, and reads how far they are.

    Use it in any process, such as every worker of a web application: it needs no `Session`, sends no request to the
    platform and need not be closed. The work is done by the process in which a `Provisioner` of the same journal is
    elected (`Provisioner.serve`). One client belongs to one event loop.

    All methods raise `JournalError` if the journal cannot be read or written. `clock` returns the Unix time.
    """

    journal: SharedJournal
    clock: Callable[[], float] = attrs.field(default=time.time, kw_only=True)
    _namespace: str | None = attrs.field(init=False, default=None)
    # Number of followers of each tenant that is followed.
    _followed: Counter[str] = attrs.field(init=False, repr=False, factory=Counter[str])
    _changes: int = attrs.field(init=False, repr=False, default=0)
    _poller: SharedPoller[_Read] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._poller = SharedPoller(self._read_followed, _loop_time, asyncio.sleep, _MIN_READ_INTERVAL)

    async def submit(self, tenants: Iterable[Tenant], *, connection: Any = None) -> Submission:
        """Let *tenants* be provisioned: all of them, or none if an error is raised. Nothing is sent by this call.

        The same tenant again changes nothing, so a submission can be repeated; it continues a cancelled tenant. Other
        values change the tenant, also while it is worked on. Tenants that are not in *tenants* stay as they are.

        With *connection*, the submission belongs to its open transaction: it exists if you commit it. A
        `PostgresJournal` takes a connection of psycopg, asyncpg or SQLAlchemy; for other drivers, see `submission`.

        Raises `InvalidArgument` for a duplicate among *tenants*, or a tenant with more than 10,000 values or a text of
        more than 32,767 characters; `AliasInUse` if another submitted tenant has the alias of one of them.
        """
        effects = await self.journal.desired.change(await self._to_changes(tenants), connection=connection)
        counts = Counter(effects)
        return Submission(new=counts[Effect.NEW], changed=counts[Effect.CHANGED], unchanged=counts[Effect.UNCHANGED])

    async def submission(self, tenants: Iterable[Tenant]) -> Statement:
        """Return an SQL statement that does the same as `submit`, for your own driver and transaction.

        Execute it, and give its only row to `Statement.effects`, which raises `AliasInUse` if nothing was submitted. If
        another transaction submits the same alias meanwhile, the driver raises the error of a violated unique
        constraint. Raises `InvalidArgument` as `submit` does, and if the journal is not in PostgreSQL.
        """
        to_statement = cast(
            "Callable[[tuple[DesiredChange, ...]], Statement] | None",
            getattr(self.journal.desired, "submission", None),
        )
        if to_statement is None:
            raise InvalidArgument(
                f"a {type(self.journal).__name__} has no SQL statement for a submission: call submit, or use a "
                "PostgresJournal"
            )
        return to_statement(await self._to_changes(tenants))

    async def status(self, tenant: str) -> TenantStatus | None:
        """Return the status of a tenant; None if it was never submitted."""
        return (await self._read([tenant]))[tenant]

    async def statuses(
        self, tenants: Iterable[str] | None = None, *, states: Iterable[DesiredState] | None = None
    ) -> AsyncIterator[TenantStatus]:
        """Iterate over the status of the submitted tenants, in the order of their names, read in pages of 1,000.

        With *tenants* or *states*, only over these tenants, or over those in these states.
        """
        wanted = None if states is None else tuple(states)
        names = None if tenants is None else iter(sorted(set(_to_names(tenants))))
        after = ""
        while (chunk := None if names is None else tuple(islice(names, _PAGE_SIZE))) != ():
            page = await self.journal.desired.select(chunk, states=wanted, after=after, limit=_PAGE_SIZE)
            for status in await self._to_statuses(page):
                yield status
            if names is None:
                if len(page) < _PAGE_SIZE:
                    return
                after = page[-1].tenant

    def needs_attention(self) -> AsyncIterator[TenantStatus]:
        """Iterate over the status of the tenants that need a decision, or a change of what was submitted."""
        return self.statuses(states=[DesiredState.NEEDS_ATTENTION])

    async def counts(self) -> Mapping[DesiredState, int]:
        """Return the number of tenants in each state; includes states with 0."""
        return await self.journal.desired.counts()

    async def history(self, tenant: str) -> tuple[HistoryEntry, ...]:
        """Return what has happened to a tenant, oldest entry first."""
        return (await self.journal.history([tenant])).get(tenant, ())

    async def follow(self, tenant: str) -> AsyncIterator[TenantStatus]:
        """Iterate over the status of a tenant: first the present one, then each different one.

        The iteration ends after a status that is DONE, CANCELLED or NEEDS_ATTENTION, also if the first one is. If a
        tenant changes quickly, statuses between two reads are skipped, but never the last one.

        All followers of one client share one read, at most two a second. To resume after a lost connection, follow the
        tenant again. Raises `UnknownTenant` if it was never submitted.
        """
        self._followed[tenant] += 1
        try:
            last: TenantStatus | None = None
            newer_than = _loop_time()
            while True:
                snapshot = await self._poller.poll(newer_than)
                newer_than = math.nextafter(snapshot.started_at, math.inf)
                # A read that started in the same tick of the clock may have started before this call.
                if tenant not in snapshot.value.statuses:
                    continue
                status = snapshot.value.statuses[tenant]
                if status is None:
                    raise UnknownTenant(tenant)
                if status != last:
                    yield status
                if status.state is not DesiredState.WAITING:
                    return
                last = status
                # With the number of the read, which may be older than this moment: no change is lost in between.
                await self.journal.desired.wait_for_change(snapshot.value.changes, _MAX_READ_INTERVAL)
        finally:
            self._followed[tenant] -= 1
            if not self._followed[tenant]:
                del self._followed[tenant]

    async def cancel(self, tenant: str) -> bool:
        """Begin no further step of a tenant; return whether this changed anything.

        It does not if the tenant is done or was cancelled before. What was created stays, and may be billed: see `env`
        of its status. A request that was already sent may still take effect. Submit the tenant again to continue.
        Raises `UnknownTenant`.
        """
        return await self._change(Cancel(tenant))

    async def decide(
        self, tenant: str, *, adopt: str | None = None, forget: str | None = None, retry: bool = False
    ) -> None:
        """Decide about a tenant that needs attention; give exactly one of the three.

        - *adopt*: environment that the tenant shall have. *forget*: its environment, which was deleted on purpose.
        - *retry*: the tenant continues after a failure, with up to three more creates.

        The elected process checks the decision and carries it out; if it cannot, `problem` of the status says why. The
        same decision again changes nothing. Raises `UnknownTenant`; `DecisionPending` if another decision about the
        tenant has not been carried out yet.
        """
        if sum((adopt is not None, forget is not None, retry)) != 1:
            raise InvalidArgument("give exactly one of adopt, forget and retry")
        for name, env in (("adopt", adopt), ("forget", forget)):
            if env is not None:
                validation.check_string(name, env)
        await self._change(Decide(tenant, Decision(adopt=adopt, forget=forget, retry=retry)))

    async def _change(self, change: Cancel | Decide) -> bool:
        (effect,) = await self.journal.desired.change([change])
        if effect is Effect.UNKNOWN_TENANT:
            raise UnknownTenant(change.tenant)
        return effect is Effect.CHANGED

    async def _to_changes(self, tenants: Iterable[Tenant]) -> tuple[DesiredChange, ...]:
        if self._namespace is None:
            self._namespace = (await self.journal.bind_identity()).namespace
        return tuple(
            [
                Submit(tenant=tenant.name, alias=alias, spec=dump_tenant(tenant))
                async for tenant, alias in cooperative_iter(iter_aliases(tenants, self._namespace))
            ]
        )

    async def _read_followed(self) -> _Read:
        # Before the read: what changes during it is noticed afterwards.
        self._changes = await self.journal.desired.wait_for_change(self._changes, 0.0)
        return _Read(self._changes, await self._read([*self._followed]))

    async def _read(self, tenants: Iterable[str]) -> dict[str, TenantStatus | None]:
        names = tuple(tenants)
        found = await self._to_statuses(await self.journal.desired.select(names))
        return dict.fromkeys(names) | {status.tenant: status for status in found}

    async def _to_statuses(self, desired: tuple[DesiredTenant, ...]) -> list[TenantStatus]:
        # After what is desired: a tenant that was done then has all of its record now.
        records = await self.journal.load([each.tenant for each in desired])
        now = self.clock()
        return [_to_status(each, records.get(each.tenant), now) async for each in cooperative_iter(desired)]


def _to_names(tenants: Iterable[str]) -> tuple[str, ...]:
    names = validation.to_str_tuple(tenants)
    validation.check_strings("tenants", names)
    return names


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


def _to_status(desired: DesiredTenant, record: TenantRecord | None, now: float) -> TenantStatus:
    problem = ""
    try:
        tenant = load_tenant(desired.spec, desired.tenant)
    except JournalError as error:
        # It may be of a newer version of wxtcb. The other tenants of the same read must not be lost for it.
        tenant, problem = Tenant(desired.tenant), str(error)
    record = record or TenantRecord(tenant=desired.tenant, alias=desired.alias)
    waiting = desired.state is DesiredState.WAITING
    urls = ((appid, record.links.get(appid)) for appid in tenant.appids)
    return TenantStatus(
        tenant=desired.tenant,
        alias=desired.alias,
        state=desired.state,
        step=_next_step(tenant, record) if waiting else None,
        outcome=record.outcome,
        problem=record.problem or problem,
        env=record.env,
        tranid=record.tranid,
        # The record keeps links and services that were removed from the tenant.
        links=tuple(ShareLink(appid=appid, url=url) for appid, url in urls if url),
        services={name: record.services[name] for name in tenant.service_names if name in record.services},
        decision=desired.decision,
        tries=desired.tries,
        next_attempt=datetime.fromtimestamp(now + desired.due_in, UTC) if waiting and desired.due_in else None,
        changed_at=datetime.fromtimestamp(desired.changed_at, UTC),
        revision=desired.revision,
    )


def _next_step(tenant: Tenant, record: TenantRecord) -> str:
    """Return the first step that the journal does not show as done; it cannot show that an environment is ready."""
    if record.env is None:
        return "environment"
    if record.unshared_appids(tenant.appids):
        return "share"
    return "ready" if all(map(record.has_service, tenant.service_names)) else "services"
