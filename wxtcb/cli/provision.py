"""`wxtcb provision`: what has to be right before anything is sent, the plan, the question, and the run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import anyio
import attrs

from wxtcb.cli.console import confirm, echo_err, escape_unprintable, make_console, print_json_bytes, require_terminal
from wxtcb.cli.journal_file import run_with_journal
from wxtcb.cli.plan import PlanRequest, make_plan, print_plan, suggestions
from wxtcb.cli.progress import ProgressView, create_progress_view
from wxtcb.cli.report_files import ReportFiles
from wxtcb.cli.runner import TERMINATION_SIGNALS, Interrupted
from wxtcb.cli.summary import print_summary
from wxtcb.cli.target import Target, select_target
from wxtcb.provision import Journal, Plan, Provisioner, Report, Run, Tenant
from wxtcb.session import Session

_MAX_ROWS_PER_ACTION: Final = 20


@attrs.frozen(kw_only=True)
class ProvisionOptions:
    """What the command line asks for."""

    request: PlanRequest
    sandbox: bool
    journal: Path | None
    concurrency: int
    settle: float | None
    timeout: float
    max_failures: int | None
    as_json: bool
    yes: bool
    own_token: bool
    report_files: ReportFiles


def provision(options: ProvisionOptions) -> int:
    """Check, plan, ask, run and report; return the exit code.

    Raises `WxtcbError` for what is refused before anything was sent.
    """
    platform = select_target("provision", sandbox=options.sandbox, own_token=options.own_token)
    tenants = options.request.load_tenants(platform)
    where = None if options.yes else platform.billed_url
    if where:
        require_terminal(f"Provision {len(tenants)} tenants at {where}? Environments are billed.")
    if options.journal and not options.sandbox and not options.journal.exists():
        echo_err(escape_unprintable(f"{options.journal} is new: it knows of no earlier run."))
    return run_with_journal(options.journal, lambda journal: _plan_and_run(options, platform, tenants, where, journal))


def _plan_and_run(
    options: ProvisionOptions, target: Target, tenants: tuple[Tenant, ...], billed_url: str | None, journal: Journal
) -> int:
    """Plan, ask where *where* is a platform that bills, and run."""
    plan = make_plan(options.request, tenants, target, journal, options.settle or target.settle)
    if isinstance(plan, Interrupted):
        return plan.exit_code
    if billed_url or not options.as_json:
        print_plan(make_console(stderr=options.as_json), plan, max_per_action=_MAX_ROWS_PER_ACTION)
    if not plan.has_changes:
        echo_err("There is nothing to do.")
    elif billed_url:
        confirm(f"{_cost_message(plan)} at {billed_url}?")
    return _run_plan(options, plan, target)


def _cost_message(plan: Plan) -> str:
    """Say what a yes would cost."""
    if plan.create_count == 1:
        return "Open 1 environment, which is billed,"
    if plan.create_count:
        return f"Open {plan.create_count} environments, which are billed,"
    changed = sum(planned.has_changes for planned in plan.tenants)
    return f"Change {changed} of {len(plan.tenants)} tenants, opening no environment,"


def _run_plan(options: ProvisionOptions, plan: Plan, target: Target) -> int:
    screen = make_console(stderr=options.as_json)
    job = RunController(plan, create_progress_view(screen, plan, quiet=options.as_json))
    asyncio.run(_run_with_signals(job, options, target))
    return _exit_code(job)


async def _run_with_signals(controller: RunController, options: ProvisionOptions, target: Target) -> None:
    """Run and report; signals are caught until the report is out, so that impatience does not cost it."""
    with anyio.open_signal_receiver(*TERMINATION_SIGNALS) as signals:
        try:
            async with target.session() as session:
                await controller.execute(_create_provisioner(session, options, target, controller.plan), signals)
        finally:
            if controller.report:
                _print_report(controller.report, controller.plan, options)
                await options.report_files.write(controller.report, controller.plan.journal)


def _create_provisioner(session: Session, options: ProvisionOptions, target: Target, plan: Plan) -> Provisioner:
    return Provisioner(
        session,
        journal=plan.journal,
        concurrency=options.concurrency,
        timeout=options.timeout,
        interval=target.interval,
        settle=options.settle or target.settle,
        max_failures=options.max_failures,
    )


def _print_report(report: Report, plan: Plan, options: ProvisionOptions) -> None:
    if options.as_json:
        print_json_bytes(report.to_json())
    else:
        print_summary(make_console(), report, () if report.all_done else suggestions(plan, report))


def _exit_code(controller: RunController) -> int:
    if controller.interrupted_by is not None:
        return 128 + controller.interrupted_by
    return 0 if controller.report and controller.report.all_done else 3


@attrs.define(eq=False)
class RunController:
    """One run; `interrupted_by` is the first signal that asked it to end.

    After `execute` failed, `report` still has what was done.
    """

    plan: Plan
    view: ProgressView
    run: Run | None = None
    interrupted_by: int | None = None

    @property
    def report(self) -> Report | None:
        return self.run.report if self.run else None

    async def execute(self, provisioner: Provisioner, signals: AsyncIterator[int]) -> None:
        """Run to the end, or until the signals have ended it."""
        async with provisioner:
            self.run = provisioner.apply(self.plan)
            async with asyncio.TaskGroup() as group:
                heeding = group.create_task(self._handle_signals(signals, self.run, group))
                await self._display_events(self.run)
                heeding.cancel()

    async def _display_events(self, run: Run) -> None:
        with self.view.open():
            async for event in run.events():
                self.view.handle_event(event)
            await run.wait()

    async def _handle_signals(self, signals: AsyncIterator[int], run: Run, group: asyncio.TaskGroup) -> None:
        async for number in signals:
            first = self.interrupted_by is None
            self.interrupted_by = self.interrupted_by or number
            if first:
                self.view.print_message(
                    "Stopping: nothing new is sent, answers under way are awaited. Once more cuts them off."
                )
            group.create_task(run.cancel(grace=None if first else 0.0))
