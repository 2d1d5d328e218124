"""Bulk provisioning as a caller's type checker sees it; checked, never run.

Each ``type: ignore`` marks a call that must be refused: mypy complains about one that is not needed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal, assert_type

from wxtcb import Session, WxtcbError
from wxtcb.api.cloudrun import Server
from wxtcb.api.environment import ShareLink
from wxtcb.provision import (
    STEPS,
    Action,
    Audit,
    Finding,
    FindingKind,
    Journal,
    MemoryJournal,
    Outcome,
    Plan,
    Problem,
    Progress,
    Provisioner,
    Report,
    Run,
    RunProgress,
    Service,
    SqliteJournal,
    StopReason,
    Tenant,
    TenantPlan,
    TenantReport,
    TenantsFileError,
    derive_alias,
    read_tenants,
    render_csv,
    render_html,
)
from wxtcb.provision.audit import BoundEnvironment, Classification
from wxtcb.provision.events import (
    RunEvent,
    RunStopped,
    StepDone,
    StepFailed,
    StepOutcomeUnknown,
    TenantFinished,
    TenantStarted,
    Waiting,
)
from wxtcb.provision.report import OUTCOME_ADVICE, RunInfo


def tenants() -> None:
    """Say what is wanted."""
    service = Service.from_name("x")
    assert_type(service, Service)
    assert_type(service.name, str)
    assert_type(service.to_server("e"), Server)
    server = Server(service_name="api", is_public=True)
    Service(server)
    Service("api")
    Tenant("a", services=["api"])
    Tenant("a", services=[server])
    Tenant("a", services=["api", server, service])
    tenant = Tenant("a", services=[service], env="a-1")
    Tenant("a", alias="x", appids=["wx1"], services=(service, service), source_type=1)
    Tenant("a", alias=None, appids=(each for each in ["wx1"]), services=iter([service]), source_type=None)
    assert_type(tenant.name, str)
    assert_type(tenant.alias, str | None)
    assert_type(tenant.appids, tuple[str, ...])
    assert_type(tenant.services, tuple[Service, ...])
    assert_type(tenant.source_type, int | None)
    assert_type(tenant.env, str | None)
    assert_type(tenant.resolve_alias("wx"), str)
    assert_type(derive_alias("wx", "a"), str)


def refused_tenants() -> None:
    """Say what cannot be."""
    Tenant()  # type: ignore[call-arg]
    Tenant(1)  # type: ignore[arg-type]
    Tenant("a", "x")  # type: ignore[call-arg]
    Tenant("a", appids=5)  # type: ignore[arg-type]
    Tenant("a", services=[1])  # type: ignore[list-item]
    Tenant("a", services=Service.from_name("api"))  # type: ignore[arg-type]
    Tenant("a", source_type="1")  # type: ignore[arg-type]
    Tenant("a", service=[])  # type: ignore[call-arg]
    Tenant("a").alias = "x"  # type: ignore[misc]
    Service(1)  # type: ignore[arg-type]
    Service.from_name(1)  # type: ignore[arg-type]


def files() -> None:
    """Read tenants."""
    assert_type(read_tenants("t.csv"), tuple[Tenant, ...])
    assert_type(read_tenants(Path("t.csv"), namespace="wx"), tuple[Tenant, ...])
    read_tenants(b"t.csv")  # type: ignore[arg-type]
    read_tenants("t.csv", "wx")  # type: ignore[call-arg]


def flaws(error: TenantsFileError) -> None:
    """See what is wrong with a file."""
    assert_type(error.path, Path)
    assert_type(error.problems, tuple[str, ...])


async def runs(session: Session) -> None:
    """Provision."""
    async with Provisioner(session) as provisioner:
        assert_type(provisioner, Provisioner)
        run = provisioner.apply([Tenant("a")])
        assert_type(run, Run)
        assert_type(run.events(), AsyncIterator[RunEvent])
        assert_type(await run.wait(), Report)
        assert_type(await run, Report)
        assert_type(run.progress, RunProgress)
        assert_type(run.progress.tenants, Progress)
        assert_type(run.progress.steps, Mapping[str, Progress])
        assert_type(run.report, Report)
        assert_type(run.ended, bool)
        await run.cancel()
        await run.cancel(grace=0)
        provisioner.apply(Tenant(name) for name in "ab")
    Provisioner(session, concurrency=4, timeout=60, interval=1.5, grace=0.1, max_failures=3, namespace="mine")
    Provisioner(session, max_failures=None, namespace=None, grace=None, settle=60, steps=[*STEPS])
    async with SqliteJournal("tenants.db") as journal, SqliteJournal(Path("tenants.db")):
        Provisioner(session, journal=journal)
    async with Provisioner(session, journal=MemoryJournal()) as provisioner:
        plan = await provisioner.plan([Tenant("a")], adopt={"a": "env-1"}, resend_links=True)
        assert_type(plan, Plan)
        assert_type(plan.tenants, tuple[TenantPlan, ...])
        assert_type(plan.counts, Mapping[Action, int])
        assert_type(plan.create_count, int)
        assert_type(plan.tenants[0].env, str | None)
        assert_type(plan.tenants[0].steps, tuple[str, ...])
        assert_type(provisioner.apply(plan), Run)
        audit = await provisioner.audit(Tenant(name) for name in "ab")
        assert_type(audit, Audit)
        assert_type(audit.passed, bool)
        assert_type(audit.findings, tuple[Finding, ...])
        assert_type(audit.findings[0].kind, FindingKind)
        assert_type(audit.findings[0].kind.is_failure, bool)
        assert_type(audit.findings[0].tenant, str)
        assert_type(audit.findings[0].envs, tuple[str, ...])
        assert_type(audit.counts, Mapping[FindingKind, int])
        assert_type(audit.bound_environments, tuple[BoundEnvironment, ...])
        assert_type(audit.bound_environments[0].tranid, str | None)
        assert_type(audit.bound_environments[0].opened_at, datetime | None)
        assert_type(audit.unrelated_envs, tuple[str, ...])
        assert_type(audit.environment_counts, Mapping[Classification, int])
        assert_type(audit.to_json(), bytes)


async def refused_runs(session: Session, provisioner: Provisioner) -> None:
    """Misuse provisioners."""
    Provisioner()  # type: ignore[call-arg]
    Provisioner("session")  # type: ignore[arg-type]
    Provisioner(session, 4)  # type: ignore[call-arg, arg-type]
    Provisioner(session, concurrency="4")  # type: ignore[arg-type]
    Provisioner(session, timeout=None)  # type: ignore[arg-type]
    Provisioner(session, settle=None)  # type: ignore[arg-type]
    Provisioner(session, journal={})  # type: ignore[arg-type]
    Provisioner(session, steps=["environment"])  # type: ignore[list-item]
    await provisioner.plan([Tenant("a")], adopt={"a": 1})  # type: ignore[dict-item]
    await provisioner.audit(["a"])  # type: ignore[list-item]
    await provisioner.audit([], adopt={})  # type: ignore[call-arg]
    (await provisioner.audit([])).findings = ()  # type: ignore[misc]
    provisioner.apply(provisioner.plan([Tenant("a")]))  # type: ignore[arg-type]
    provisioner.apply(Tenant("a"))  # type: ignore[arg-type]
    provisioner.apply(["a"])  # type: ignore[list-item]
    await provisioner.apply([]).cancel(1)  # type: ignore[call-arg]


def events(event: RunEvent) -> None:
    """Tell events apart."""
    assert_type(event.at, datetime)
    assert_type(event.sequence, int)
    assert_type(event.to_dict(), dict[str, object])
    match event:
        case TenantStarted():
            assert_type(event.alias, str)
        case StepDone():
            assert_type(event.step, str)
            assert_type(event.how, Literal["opened", "adopted", "found"] | None)
        case StepOutcomeUnknown():
            assert_type(event.problem, Problem)
        case Waiting():
            assert_type(event.until, datetime | None)
            assert_type(event.tenants, int)
        case StepFailed():
            assert_type(event.problem, Problem)
        case TenantFinished():
            assert_type(event.report, TenantReport)
        case RunStopped():
            assert_type(event.reason, StopReason)
            assert_type(event.message, str)
            assert_type(event.retry_after, datetime | None)


def reports(report: Report, entry: TenantReport, problem: Problem) -> None:
    """Read what came of it."""
    assert_type(report.tenants, tuple[TenantReport, ...])
    assert_type(report.counts, Mapping[Outcome, int])
    assert_type(report.done_count, int)
    assert_type(report.all_done, bool)
    assert_type(report.link_count, int)
    assert_type(report.unconfirmed_count, int)
    assert_type(report.elapsed, float)
    assert_type(report.stop_reason, StopReason | None)
    assert_type(report.stop_message, str)
    assert_type(report.to_json(), bytes)
    assert_type(render_csv(report), str)
    assert_type(render_html(report), str)
    assert_type(report.run_info, RunInfo | None)
    assert_type(report.created_at, datetime)
    assert_type(entry.outcome, Outcome)
    assert_type(entry.outcome.is_done, bool)
    assert_type(entry.env, str | None)
    assert_type(entry.step, str | None)
    assert_type(entry.done, tuple[str, ...])
    assert_type(entry.links, tuple[ShareLink, ...])
    assert_type(entry.services, tuple[str, ...])
    assert_type(entry.unconfirmed, tuple[str, ...])
    assert_type(entry.existing, tuple[str, ...])
    assert_type(entry.problems, tuple[Problem, ...])
    assert_type(entry.metadata, Mapping[str, str])
    assert_type(entry.summary, str)
    assert_type(problem.error, WxtcbError | None)
    assert_type(problem.outcome_unknown, bool)
    assert_type(OUTCOME_ADVICE, Mapping[Outcome, str])


def refused_reports(report: Report, entry: TenantReport) -> None:
    """Misuse reports."""
    report.stop_reason = None  # type: ignore[misc]
    entry.outcome = Outcome.DONE  # type: ignore[misc]
    TenantReport("a", "x", Outcome.DONE)  # type: ignore[call-arg]


async def pages(report: Report, journal: Journal) -> None:
    """Make a page with what a journal remembers."""
    assert_type(render_html(report, await journal.history(entry.tenant for entry in report.tenants)), str)
