"""`wxtcb provision`: what has to be right before anything is sent, the plan, the question, and the run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import anyio
import attrs

from wxtcb.cli.asking import ask, demand_terminal
from wxtcb.cli.conduct import Job
from wxtcb.cli.console import console, print_document, printable, say
from wxtcb.cli.journal_file import lend_journal
from wxtcb.cli.plan import Wish, make_plan, print_plan
from wxtcb.cli.progress import choose_view
from wxtcb.cli.remedies import remedies
from wxtcb.cli.report_files import Reports
from wxtcb.cli.signals import ENDING, Ended
from wxtcb.cli.summary import print_summary
from wxtcb.cli.target import Platform, choose_platform
from wxtcb.provision import Journal, Plan, Provisioner, Report, Tenant
from wxtcb.session import Session

_MOST_SHOWN: Final = 20


@attrs.frozen(kw_only=True)
class Options:
    """What the command line asks for."""

    wish: Wish
    sandbox: bool
    journal: Path | None
    concurrency: int
    settle: float | None
    timeout: float
    max_failures: int | None
    as_json: bool
    yes: bool
    own_token: bool
    reports: Reports


def provision(options: Options) -> int:
    """Check, plan, ask, run and report; return the exit code.

    Raises `WxtcbError` for what is refused before anything was sent.
    """
    platform = choose_platform("provision", sandbox=options.sandbox, own_token=options.own_token)
    tenants = options.wish.tenants(platform)
    where = None if options.yes else platform.billed_at
    if where:
        demand_terminal(f"Provision {len(tenants)} tenants at {where}? Environments are billed.")
    if options.journal and not options.sandbox and not options.journal.exists():
        say(printable(f"{options.journal} is new: it knows of no earlier run."))
    return lend_journal(options.journal, lambda journal: _provision(options, platform, tenants, where, journal))


def _provision(
    options: Options, platform: Platform, tenants: tuple[Tenant, ...], where: str | None, journal: Journal
) -> int:
    """Plan, ask where *where* is a platform that bills, and run."""
    plan = make_plan(options.wish, tenants, platform, journal, options.settle or platform.settle)
    if isinstance(plan, Ended):
        return plan.exit_code
    if where or not options.as_json:
        print_plan(console(stderr=options.as_json), plan, most=_MOST_SHOWN)
    if not plan.changes:
        say("There is nothing to do.")
    elif where:
        ask(f"{_price(plan)} at {where}?")
    return _run(options, plan, platform)


def _price(plan: Plan) -> str:
    """Say what a yes would cost."""
    if plan.creates == 1:
        return "Open 1 environment, which is billed,"
    if plan.creates:
        return f"Open {plan.creates} environments, which are billed,"
    changed = sum(planned.changes for planned in plan.tenants)
    return f"Change {changed} of {len(plan.tenants)} tenants, opening no environment,"


def _run(options: Options, plan: Plan, platform: Platform) -> int:
    screen = console(stderr=options.as_json)
    job = Job(plan, choose_view(screen, plan, quiet=options.as_json))
    asyncio.run(_conduct(job, options, platform))
    return _exit_code(job)


async def _conduct(job: Job, options: Options, platform: Platform) -> None:
    """Run and report; signals are caught until the report is out, so that impatience does not cost it."""
    with anyio.open_signal_receiver(*ENDING) as signals:
        try:
            async with platform.session() as session:
                await job.conduct(_provisioner(session, options, platform, job.plan), signals)
        finally:
            if job.report:
                _tell(job.report, job.plan, options)
                await options.reports.write(job.report, job.plan.journal)


def _provisioner(session: Session, options: Options, platform: Platform, plan: Plan) -> Provisioner:
    return Provisioner(
        session,
        journal=plan.journal,
        concurrency=options.concurrency,
        timeout=options.timeout,
        interval=platform.interval,
        settle=options.settle or platform.settle,
        max_failures=options.max_failures,
    )


def _tell(report: Report, plan: Plan, options: Options) -> None:
    if options.as_json:
        print_document(report.to_json())
    else:
        print_summary(console(), report, () if report.all_done else remedies(plan, report))


def _exit_code(job: Job) -> int:
    if job.ended_by is not None:
        return 128 + job.ended_by
    return 0 if job.report and job.report.all_done else 3
