"""Provisioner: plans, applies and audits a list of tenants."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, NoReturn, Self, cast

import anyio
import attrs

from wxtcb import validation
from wxtcb._concurrency.priority_limiter import PriorityLimiter
from wxtcb.api.environment import DESCRIBE_ENVS
from wxtcb.errors import InvalidArgument, SessionClosed
from wxtcb.provision.audit import Audit, audit_tenants
from wxtcb.provision.context import SharedContext
from wxtcb.provision.desired import DesiredTenants
from wxtcb.provision.election import Election
from wxtcb.provision.engine import Engine
from wxtcb.provision.event_stream import EventNotifier
from wxtcb.provision.events import RunEvent
from wxtcb.provision.journal import Journal
from wxtcb.provision.listing_watch import ListingWatch
from wxtcb.provision.memory import MemoryJournal
from wxtcb.provision.plan import OperatorDecisions, Plan
from wxtcb.provision.planner import Planner
from wxtcb.provision.reconciliation import EnvironmentListing, ExpectedEnvironments, KnownBindings
from wxtcb.provision.record import EMPTY_MAPPING, JournalIdentity
from wxtcb.provision.report import RunInfo
from wxtcb.provision.run import ReportCollector, Run
from wxtcb.provision.step import Step
from wxtcb.provision.steps import STEPS
from wxtcb.provision.steps.sharing import make_share_batcher
from wxtcb.provision.tenant import Tenant, check_name, resolve_aliases
from wxtcb.provision.term import TermHolder
from wxtcb.provision.work_group import Stop, WorkGroup
from wxtcb.provision.worker import Drained, Worker
from wxtcb.session import Session
from wxtcb.validation import check_positive_int, check_seconds, type_validator, validator

__all__ = ["Provisioner"]


def _as_steps(value: Iterable[Step] | None) -> tuple[Step, ...]:
    return STEPS if value is None else validation.to_tuple(value)


def _check_steps(name: str, value: object) -> None:
    validation.check_list_of(name, value, Step)
    names = [step.name for step in cast("tuple[Step, ...]", value)]
    if len(set(names)) < len(names):
        raise InvalidArgument(f"{name} must have different names: {', '.join(names)}")


@attrs.define(eq=False)
class Provisioner:
    """Provisioner of tenants: creates an environment each, waits for NORMAL, shares it, and establishes services.

    ::

        async with Provisioner(session) as p:
            plan = await p.plan(tenants)
            report = await p.apply(plan).wait()

    A failure of one tenant does not affect another. Leaving the block cancels runs in progress, and raises the
    unexpected error of a run that was not awaited.

    - `journal`: state of every tenant. With the default, in memory, only a platform on loopback may be provisioned.
    - `concurrency`: number of steps in progress at a time. A tenant that waits for NORMAL uses none.
    - `timeout`, `interval`: seconds until a tenant that is not NORMAL has failed, and between the shared polls for it.
    - `settle`: propagation delay, the seconds until an environment is surely listed, and before an outcome is checked.
    - `grace`: seconds that a cancelled run waits for replies; None for the total timeout of a request.
    - `max_failures`: number of failed tenants after which no further tenant is started; None for no limit.
    - `namespace`: goes into derived aliases (`derive_alias`), and into the journal; by default the component appid.
    - `steps`: steps of each tenant, in this order; None for `STEPS`.
    - `clock`: returns Unix time; it can make no wait shorter.
    - `lease`: seconds after which another process is elected if this one cannot be reached (`serve`).

    Before each create, the run lists the environments and commits an intent to the journal. An ambiguous create is not
    sent again without a check. A service is safe to send again: its name is its key.

    An error that every tenant would meet (ticket, secret, IP, permission, closed session, unwritable journal) stops the
    run. An exhausted quota, or a list that lacks an environment of the journal, stops creates. Other tenants are then
    `unfinished`.
    """

    session: Session = attrs.field(validator=type_validator(Session, optional=False))
    journal: Journal = attrs.field(factory=MemoryJournal, kw_only=True)
    concurrency: int = attrs.field(default=16, kw_only=True, validator=validator(check_positive_int))
    timeout: float = attrs.field(default=600.0, kw_only=True, validator=validator(check_seconds))
    interval: float = attrs.field(default=5.0, kw_only=True, validator=validator(check_seconds))
    settle: float = attrs.field(default=120.0, kw_only=True, validator=validator(check_seconds))
    grace: float | None = attrs.field(default=None, kw_only=True, validator=validator(check_seconds, optional=True))
    max_failures: int | None = attrs.field(
        default=None, kw_only=True, validator=validator(check_positive_int, optional=True)
    )
    namespace: str | None = attrs.field(default=None, kw_only=True, validator=validator(check_name, optional=True))
    clock: Callable[[], float] = attrs.field(default=time.time, kw_only=True)
    # None and not `STEPS`, whose repr editors would show in the signature.
    steps: tuple[Step, ...] = attrs.field(
        default=None, kw_only=True, converter=_as_steps, validator=validator(_check_steps)
    )
    lease: float = attrs.field(default=30.0, kw_only=True, validator=validator(check_seconds))
    _runs: list[Run] = attrs.field(init=False, factory=list[Run])
    _namespace: str | None = attrs.field(init=False, default=None)
    _opened: _Opened | None = attrs.field(init=False, default=None)

    if not TYPE_CHECKING:
        # For a type checker the methods do not exist, so that it reports the mistake.
        def __enter__(self) -> None:
            raise TypeError("a Provisioner needs `async with`, not `with`")

        def __exit__(self, *_: object) -> None: ...

    async def __aenter__(self) -> Self:
        appid = self.session.component_appid
        on_loopback = validation.is_loopback(self.session.base_url)
        current = JournalIdentity(component_appid=appid, on_loopback=on_loopback, namespace=self.namespace or appid)
        stored = await self.journal.bind_identity(current)
        mismatch = ""
        if stored.component_appid != appid:
            mismatch = f"component {stored.component_appid}, not {appid}"
        elif stored.on_loopback != on_loopback:
            platforms = {True: "a platform on loopback", False: "the real platform"}
            mismatch = f"{platforms[stored.on_loopback]}, not {platforms[on_loopback]}"
        # Without a namespace of its own, the provisioner uses the stored one.
        elif self.namespace not in (None, stored.namespace):
            mismatch = f"namespace {stored.namespace!r}, not {self.namespace!r}: other aliases would be derived"
        if mismatch:
            raise InvalidArgument(f"the journal belongs to {mismatch}; no request was sent")
        self._namespace = stored.namespace
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        self._namespace = self._opened = None
        # After an exception in the block, replies are not awaited: the caller wants to leave.
        grace = self.grace if exc_type is None else 0.0
        # Shielded: a run that is left alone would go on to commit to a journal that the caller closes.
        with anyio.CancelScope(shield=True):
            await asyncio.gather(*(run.cancel(grace=grace) for run in self._runs))
        for run in self._runs if exc_type is None else ():
            run.raise_unretrieved_error()

    async def plan(
        self,
        tenants: Iterable[Tenant],
        *,
        all_tenants: bool = False,
        adopt: Mapping[str, str] = EMPTY_MAPPING,
        adopt_all: bool = False,
        forget: Mapping[str, str] = EMPTY_MAPPING,
        removed: bool = False,
        retry: Iterable[str] = (),
        resend_links: bool = False,
    ) -> Plan:
        """Return what an apply would do. Nothing is billed or changed.

        - *all_tenants*: *tenants* are all that exist, like those of a file. If one with an environment is absent, no
          environment is created for new tenants, because one of them may be the absent one under another name.
        - *adopt*: environment by tenant name. It must be listed under the tenant's alias, and belong to no other
          tenant, except an absent one: then the tenant takes it over. `Tenant.env` has the same effect.
        - *adopt_all*: each tenant without an environment adopts the one that has its alias, if there is exactly one and
          it belongs to no tenant in the journal.
        - *forget*: environment by tenant name that was deleted on purpose; the platform must not list it. An apply
          removes it from the record of the tenant, who may get a new one.
        - *removed*: absent tenants were removed on purpose, and none was renamed. An apply marks their records as
          retired. Their environments stay unchanged.
        - *retry*: names of tenants that may send three more creates, although three had no known effect.
        - *resend_links*: request a new link for mini programs that have one.

        Raises `InvalidArgument` if two tenants have the same name or alias, or if a decision cannot be carried out; and
        the errors of listing environments.
        """
        planner, desired = self._get_opened().engine.planner, tuple(tenants)
        aliases = resolve_aliases(desired, planner.namespace)
        for argument, pairs in (("adopt", adopt), ("forget", forget)):
            validation.check_mapping(argument, pairs)
            for name, env in pairs.items():
                validation.check_string(f"{argument}: {name}", env)
        for tenant in desired:
            if tenant.env and adopt.get(tenant.name, tenant.env) != tenant.env:
                env = adopt[tenant.name]
                raise InvalidArgument(f"adopt: {tenant.name} names {tenant.env}, not {env}; no request was sent")
        flags = {"resend_links": resend_links, "all_tenants": all_tenants, "removed": removed, "adopt_all": adopt_all}
        return await planner.plan(
            desired, aliases, OperatorDecisions(adopt=adopt, forget=forget, retry=frozenset(retry), **flags)
        )

    async def audit(self, tenants: Iterable[Tenant]) -> Audit:
        """Compare *tenants*, which must be all that exist, with the journal and the platform.

        Nothing is billed or changed. If the list lacks an environment of the journal, it is requested twice more. If a
        mini program cannot be looked up, the audit does not fail: this is a finding of kind `FindingKind.UNKNOWN`.

        Raises `InvalidArgument` if two tenants have the same name or alias; and the errors of listing environments.
        """
        planner, desired = self._get_opened().engine.planner, tuple(tenants)
        aliases = resolve_aliases(desired, planner.namespace)
        return await audit_tenants(planner, self.session, self.concurrency, desired, aliases)

    def apply(self, plan_or_tenants: Plan | Iterable[Tenant]) -> Run:
        """Start a run that carries out a plan, or that plans for tenants first.

        If the plan is older than 5 seconds, or the journal has a newer record of one of its tenants, it is renewed
        first. Renewal never adds the creation of an environment that the given plan did not contain. A tenant that
        another run of this provisioner works on is not worked on twice: both runs report the same.

        Raises `InvalidArgument` if two tenants have the same name or alias, or if the journal is not durable and the
        platform is not on loopback; `SessionClosed`; `WrongLoop`.
        """
        opened = self._get_opened()
        planner, namespace = opened.engine.planner, opened.engine.planner.namespace
        if isinstance(plan_or_tenants, Plan):
            if plan_or_tenants.journal is not self.journal:
                raise InvalidArgument("the plan was made with another journal; no request was sent")
            pairs = tuple((planned.tenant.name, planned.alias) for planned in plan_or_tenants.tenants)
            make_plan = partial(planner.refresh, plan_or_tenants)
        else:
            desired = tuple(plan_or_tenants)
            aliases = resolve_aliases(desired, namespace)
            pairs = tuple(zip((tenant.name for tenant in desired), aliases, strict=True))
            make_plan = partial(planner.plan, desired, aliases, OperatorDecisions())
        self._check_journal()
        run_info = RunInfo(
            base_url=self.session.base_url, component_appid=self.session.component_appid, namespace=namespace
        )
        create_group = partial(self._create_group, opened.engine)
        collector = ReportCollector(pairs)
        run = Run(
            opened.engine, opened.terms, create_group, collector, make_plan, run_info, self._grace, self.max_failures
        )
        self._runs = [*(each for each in self._runs if not each.ended), run]
        return run

    async def serve(self, *, on_event: Callable[[RunEvent], None] | None = None) -> NoReturn:
        """Provision what is desired (`ProvisioningClient`), whenever this process is elected, until it is cancelled.

        Any number of processes may serve with the same journal: one is elected, and the others take over when it ends.
        A failed tenant, an exhausted quota and a storage that is away for a while do not end it. If it is cancelled, no
        further request is sent, another process is elected within a second, and `CancelledError` is raised once the
        responses of earlier requests have arrived, at most *grace* seconds later.

        *on_event* gets every event, and must return quickly; if it raises, the loop's exception handler is called.
        Raises `InvalidArgument` if the journal has no election.
        """
        await self._create_worker(on_event).serve()

    async def drain(self, *, on_event: Callable[[RunEvent], None] | None = None) -> Drained:
        """Provision what is desired until nothing is due, if this process is elected; for jobs of a task queue.

        An exhausted quota ends it too: `Drained.retry_after` is the time at which to call it again.
        """
        return await self._create_worker(on_event).drain()

    @property
    def _grace(self) -> float:
        return self.session.timeout.total if self.grace is None else self.grace

    def _get_opened(self) -> _Opened:
        if self._namespace is None:
            raise SessionClosed("the provisioner is not open: use it inside `async with`; no request was sent")
        # Made at the first use, and not by `__aenter__`: a session may be opened after its provisioner.
        if self._opened is None:
            self._opened = self._open(self._namespace)
        return self._opened

    def _open(self, namespace: str) -> _Opened:
        poller = self.session.shared_poller(DESCRIBE_ENVS)
        planner = Planner(self.journal, poller, self.steps, namespace, self.settle, self.clock)
        # The functions refer to objects that are made from the objects that hold the functions.
        bindings = KnownBindings(
            self.journal, ExpectedEnvironments(self.settle), self.clock, lambda: shared.term is not None
        )
        shared = SharedContext(
            journal=self.journal,
            listing=EnvironmentListing(poller, bindings),
            limiter=PriorityLimiter(self.concurrency),
            settle=self.settle,
            timeout=self.timeout,
            wall_clock=self.clock,
            share_batcher=make_share_batcher(),
        )
        engine = Engine(planner, self.steps, shared)
        # A journal of the user may have no election.
        election: Election | None = getattr(self.journal, "election", None)
        wait: float | None = getattr(self.journal, "wait", None)
        holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        return _Opened(engine, TermHolder(election, wait, shared, holder, self.lease) if election else None)

    def _create_group(
        self, engine: Engine, emit: Callable[[RunEvent], None], on_stop: Callable[[Stop], None]
    ) -> WorkGroup:
        watch = ListingWatch(self.session.shared_poller(DESCRIBE_ENVS), self.interval, engine.on_poll_error)
        return WorkGroup(self.session, emit, on_stop, watch)

    def _create_worker(self, on_event: Callable[[RunEvent], None] | None) -> Worker:
        opened = self._get_opened()
        desired: DesiredTenants | None = getattr(self.journal, "desired", None)
        if desired is None or opened.terms is None:
            raise InvalidArgument(
                "the journal stores neither what is desired nor who is elected: use a SqliteJournal or PostgresJournal"
            )
        self._check_journal()
        create_group = partial(self._create_group, opened.engine)
        notifier = EventNotifier(self.clock, on_event)
        return Worker(opened.engine, opened.terms, desired, create_group, notifier.emit, self._grace)

    def _check_journal(self) -> None:
        base_url = self.session.base_url
        if not self.journal.durable and not validation.is_loopback(base_url):
            raise InvalidArgument(
                f"{base_url} is not on this machine, and the journal ends with the process, so a crash would lose "
                "track of billed environments: use a SqliteJournal or a PostgresJournal. No request was sent"
            )


@attrs.frozen(eq=False)
class _Opened:
    """What a provisioner has between `__aenter__` and `__aexit__`."""

    engine: Engine
    terms: TermHolder | None
