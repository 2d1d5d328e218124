"""Tenants to environments, shares and services."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Self, cast

import anyio
import attrs

from wxtcb.api.environment import DESCRIBE_ENVS
from wxtcb.errors import InvalidArgument, SessionClosed
from wxtcb.provision.audit import Audit
from wxtcb.provision.auditor import Auditor
from wxtcb.provision.journal import EMPTY_MAPPING, Journal, JournalIdentity, MemoryJournal
from wxtcb.provision.plan import OperatorDecisions, Plan
from wxtcb.provision.planner import Planner
from wxtcb.provision.report import RunInfo
from wxtcb.provision.run import ReportCollector, Run, RunSettings
from wxtcb.provision.step import Step
from wxtcb.provision.steps import STEPS
from wxtcb.provision.tenant import Tenant, check_name, resolve_aliases
from wxtcb.session import Session
from wxtcb.validation import (
    check_list,
    check_mapping,
    check_positive_int,
    check_seconds,
    check_string,
    check_type,
    is_loopback,
    to_tuple,
    validator,
)


def _check_session(name: str, value: object) -> None:
    check_type(name, value, Session)


def _as_steps(value: Iterable[Step]) -> tuple[Step, ...]:
    return to_tuple(value)


def _check_steps(name: str, value: object) -> None:
    check_list(name, value, lambda place, step: check_type(place, step, Step))
    names = [step.name for step in cast("tuple[Step, ...]", value)]
    if len(set(names)) < len(names):
        raise InvalidArgument(f"{name} must have names of their own, not {', '.join(names)}")


@attrs.define(eq=False)
class Provisioner:
    """Takes tenants through environment, NORMAL, share and services; a failure of one is no other's.

    ::

        async with Provisioner(session) as p:
            plan = await p.plan(tenants)
            report = await p.apply(plan).wait()

    Leaving the block cancels what still runs, and raises what has ended a run that nobody waited for.

    At most `concurrency` steps are taken at a time. A tenant whose environment is being delivered takes none: one look
    every `interval` seconds serves all of them, and one that is not NORMAL after `timeout` seconds has failed. After
    `max_failures` failed tenants no other is started. `grace` is how long a cancelled run waits for answers; None
    stands for as long as a request may take. `namespace` goes into derived aliases (`derive_alias`); the `journal` keeps
    it, and it is the component appid unless you chose another. `steps` are what is done for a tenant, in this order.
    `clock` tells the time, in Unix seconds; no wait gets shorter by it.

    A create follows an intent in the journal, and that a look which began at most 5 seconds before, or where looks take
    long, twice their time, at most half a minute. A create without a clear answer is never simply sent again: `settle`
    seconds later, and where no answer came at all later still, looks show whether it acted. An environment found then
    is adopted, one that is absent from two looks is opened again, and where the looks prove nothing the tenant is
    `unknown`. A service is sent again under its name, which makes no second one. An alias that was taken before is a
    `conflict`, or a `duplicate` if by several: nothing is done for it.

    An error that would meet everybody (ticket, secret, address, permission, a closed session) stops the run, and an
    exhausted quota the creates; the rest is reported `unfinished`. So does a journal that cannot be written, and a list
    that goes on lacking an environment which the journal knows. With a journal that is not durable any platform but the
    sandbox or loopback may be planned for only (`InvalidArgument`).
    """

    session: Session = attrs.field(validator=validator(_check_session))
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
    steps: tuple[Step, ...] = attrs.field(
        default=STEPS, kw_only=True, converter=_as_steps, validator=validator(_check_steps)
    )
    _runs: list[Run] = attrs.field(init=False, factory=list[Run])
    _bound_namespace: str | None = attrs.field(init=False, default=None)

    async def __aenter__(self) -> Self:
        home = self._current_identity()
        kept = await self.journal.bind_identity(home)
        if problem := _identity_mismatch(kept, home, self.namespace):
            raise InvalidArgument(f"the journal {problem}; nothing was sent")
        self._bound_namespace = kept.namespace
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        self._bound_namespace = None
        grace = self.grace if exc_type is None else 0.0
        with anyio.CancelScope(shield=True):
            await asyncio.gather(*(run.cancel(grace=grace) for run in self._runs))
        for run in self._runs if exc_type is None else ():
            run.raise_unretrieved_error()

    async def plan(
        self,
        tenants: Iterable[Tenant],
        *,
        complete: bool = False,
        adopt: Mapping[str, str] = EMPTY_MAPPING,
        forget: Mapping[str, str] = EMPTY_MAPPING,
        removed: bool = False,
        resend_links: bool = False,
    ) -> Plan:
        """Look, and return what an apply would do; nothing is spent or changed.

        *adopt* gives tenants, by name, an environment that is there already, listed under the tenant's alias and bound
        to no other. *forget* has environments of the journal, by tenant, that were deleted on purpose: the tenant may
        get a new one. With *resend_links* mini programs that were given a link are given another one.

        *whole* says that *tenants* are all there are, like those of a file. Then nothing is opened for a tenant who is
        new while one who has an environment is missing: it may be the same under another name, who gets its environment
        by *adopt*. With *removed* those who are missing were removed; what they have stays as it is.

        Raises `InvalidArgument` for two tenants with the same name or alias and for a decision that cannot be carried
        out, and what keeps a look from succeeding.
        """
        surveyor = self._create_planner()
        wanted = tuple(tenants)
        aliases = resolve_aliases(wanted, surveyor.namespace)
        for what, pairs in (("adopt", adopt), ("forget", forget)):
            check_mapping(what, pairs)
            for name, env in pairs.items():
                check_string(f"{what}: {name}", env)
        decisions = OperatorDecisions(
            adopt=adopt, forget=forget, resend_links=resend_links, complete=complete, removed=removed
        )
        return await surveyor.plan(wanted, aliases, decisions)

    async def audit(self, tenants: Iterable[Tenant]) -> Audit:
        """Hold *tenants*, which are all there are, against the journal and the platform; nothing is spent or changed.

        An environment that the journal knows and the list lacks is looked for twice more, and then told. A mini program
        that cannot be looked up is told too, and is no failure.

        Raises `InvalidArgument` for two tenants with the same name or alias, and what keeps a look from succeeding.
        """
        namespace = self._create_planner().namespace
        wanted = tuple(tenants)
        aliases = resolve_aliases(wanted, namespace)
        auditor = Auditor(self.session, self.journal, namespace, self.concurrency, self.settle, self.clock)
        return await auditor.audit(wanted, aliases)

    def apply(self, plan_or_tenants: Plan | Iterable[Tenant]) -> Run:
        """Start to carry out a plan, or to plan for tenants and carry that out.

        A plan that is older than 5 seconds, or behind the journal, is made anew first; but nothing is opened for a
        tenant for whom it opened nothing.

        Raises `InvalidArgument` for two tenants with the same name or alias, and for an alias that another run of this
        provisioner works on; `SessionClosed`, `WrongLoop`.
        """
        surveyor = self._create_planner()
        if isinstance(plan_or_tenants, Plan):
            return self._start_run(
                _names_and_aliases(plan_or_tenants, surveyor), partial(surveyor.refresh, plan_or_tenants)
            )
        wanted = tuple(plan_or_tenants)
        aliases = resolve_aliases(wanted, surveyor.namespace)
        names = (tenant.name for tenant in wanted)
        make_plan = partial(surveyor.plan, wanted, aliases, OperatorDecisions())
        return self._start_run(tuple(zip(names, aliases, strict=True)), make_plan)

    def _create_planner(self) -> Planner:
        if self._bound_namespace is None:
            raise SessionClosed("the provisioner is not open: use it inside `async with`; nothing was sent")
        sweep = self.session.shared_poller(DESCRIBE_ENVS)
        return Planner(self.journal, sweep, self.steps, self._bound_namespace, self.settle, self.clock)

    def _current_identity(self) -> JournalIdentity:
        appid = self.session.component_appid
        on_loopback = is_loopback(self.session.base_url)
        return JournalIdentity(component_appid=appid, on_loopback=on_loopback, namespace=self.namespace or appid)

    def _start_run(
        self, names_and_aliases: tuple[tuple[str, str], ...], make_plan: Callable[[], Awaitable[Plan]]
    ) -> Run:
        self._require_durable_journal()
        self._check_no_overlap(names_and_aliases)
        run = Run(
            self.session,
            self.journal,
            self.steps,
            self._run_settings(),
            ReportCollector(names_and_aliases),
            make_plan,
            self._run_info(),
        )
        self._runs.append(run)
        return run

    def _require_durable_journal(self) -> None:
        base_url = self.session.base_url
        if not self.journal.durable and not is_loopback(base_url):
            raise InvalidArgument(
                f"{base_url} is not on this machine, and the journal is gone with the process, so a crash would lose "
                "track of environments that are billed: give a SqliteJournal. Nothing was sent"
            )

    def _check_no_overlap(self, names_and_aliases: tuple[tuple[str, str], ...]) -> None:
        self._runs = [run for run in self._runs if not run.ended]
        busy = frozenset[str]().union(*(run.aliases for run in self._runs))
        for name, alias in names_and_aliases:
            if alias.lower() in busy:
                message = f"alias {alias!r} of tenant {name!r} is being worked on by another run"
                raise InvalidArgument(f"{message}; nothing was sent. Wait for that one first")

    def _run_info(self) -> RunInfo:
        appid = self.session.component_appid
        return RunInfo(base_url=self.session.base_url, component_appid=appid, namespace=self._bound_namespace or appid)

    def _run_settings(self) -> RunSettings:
        return RunSettings(
            concurrency=self.concurrency,
            timeout=self.timeout,
            interval=self.interval,
            settle=self.settle,
            grace=self.session.timeout.total if self.grace is None else self.grace,
            max_failures=self.max_failures,
            wall_clock=self.clock,
        )


def _identity_mismatch(stored: JournalIdentity, current: JournalIdentity, namespace: str | None) -> str | None:
    """Say what speaks against using a journal that was begun at *kept* for *home*."""
    if stored.component_appid != current.component_appid:
        return f"is of the platform {stored.component_appid}, not {current.component_appid}"
    if stored.on_loopback != current.on_loopback:
        places = {True: "one on loopback", False: "the real one"}
        return f"is of another platform: {places[stored.on_loopback]}, not {places[current.on_loopback]}"
    if namespace not in (None, stored.namespace):
        return f"belongs to namespace {stored.namespace!r}, not {namespace!r}: other aliases would be derived"
    return None


def _names_and_aliases(plan: Plan, planner: Planner) -> tuple[tuple[str, str], ...]:
    if plan.journal is not planner.journal:
        raise InvalidArgument("the plan was made with another journal, which knows of other environments; nothing sent")
    return tuple((planned.tenant.name, planned.alias) for planned in plan.tenants)
