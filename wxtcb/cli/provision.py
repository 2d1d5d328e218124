"""Command `wxtcb provision`: checks, plan, confirmation, run and report."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, Final

import attrs
from rich.box import ROUNDED
from rich.console import Console
from rich.table import Table

from wxtcb.cli.console import (
    align_columns,
    confirm,
    echo_err,
    escape_unprintable,
    make_console,
    print_json_bytes,
    require_terminal,
)
from wxtcb.cli.journal import DurableJournal, announce_new_journal, run_with_journal
from wxtcb.cli.plan import PlanRequest, make_plan, print_plan, suggestions
from wxtcb.cli.progress import ProgressView, create_progress_view, format_tenant
from wxtcb.cli.report_files import ReportFiles
from wxtcb.cli.runner import EXIT_FAILED, Interrupted, run_until_signal
from wxtcb.cli.target import Target, select_target
from wxtcb.provision import Action, Outcome, Plan, Provisioner, Report, Run, Tenant
from wxtcb.provision.journal import JournalInUse, SharedJournal
from wxtcb.provision.report import OUTCOME_ADVICE

_INDENT: Final = "  "
# In order of urgency. Tenants that are simply done, or that await an administrator, are only counted.
_LISTED_OUTCOMES: Final = (
    Outcome.UNKNOWN,
    Outcome.DUPLICATE,
    Outcome.CONFLICT,
    Outcome.FAILED,
    Outcome.UNFINISHED,
    Outcome.UNCONFIRMED,
)


@attrs.frozen(kw_only=True)
class ProvisionOptions:
    """Options of the command; `journal` is None for a journal in memory, `settle` and `timeout` are in seconds."""

    request: PlanRequest
    sandbox: bool
    journal: DurableJournal | None
    concurrency: int
    settle: float | None
    timeout: float
    max_failures: int | None
    as_json: bool
    yes: bool
    own_token: bool
    report_files: ReportFiles


def provision(options: ProvisionOptions) -> int:
    """Provision the tenants of a file and print the report; return the exit code.

    Raises `WxtcbError` if the command is rejected before anything is changed.
    """
    target = select_target("provision", sandbox=options.sandbox, own_token=options.own_token)
    tenants = options.request.load_tenants(target)
    billed_url = None if options.yes else target.billed_url
    if billed_url:
        # Checked before the plan is made, which needs a token: without a terminal, no request may be sent.
        require_terminal(f"Provision {len(tenants)} tenants at {billed_url}? Environments are billed.")
    if not options.sandbox:
        announce_new_journal(options.journal)

    def action(journal: SharedJournal, runner: asyncio.Runner) -> int:
        return _plan_and_run(options, target, tenants, journal, billed_url=billed_url, runner=runner)

    return run_with_journal(options.journal, action)


def _plan_and_run(
    options: ProvisionOptions,
    target: Target,
    tenants: tuple[Tenant, ...],
    journal: SharedJournal,
    *,
    billed_url: str | None,
    runner: asyncio.Runner,
) -> int:
    """Make and show the plan, ask for confirmation if *billed_url* is not None, and run; return the exit code."""
    if isinstance(interrupted := run_until_signal(_check_free(journal), runner=runner), Interrupted):
        return interrupted.exit_code
    settle = options.settle or target.settle
    plan = make_plan(options.request, tenants, target, journal, settle=settle, runner=runner)
    if isinstance(plan, Interrupted):
        return plan.exit_code
    # From here on, a full disk or a closed pipe behind the output must not stop the run or change its exit code.
    console = make_console(stderr=options.as_json, resilient=True)
    if billed_url or not options.as_json:
        print_plan(console, plan, max_per_action=20)
    if not plan.has_changes:
        # The run follows all the same: its report lists conflicts, and sets the exit code.
        echo_err("Nothing to do.")
    elif billed_url:
        confirm(f"{_cost_message(plan)} at {billed_url}?")
    controller = RunController(plan, create_progress_view(console, len(plan.tenants), quiet=options.as_json))
    run_until_signal(_run_and_report(controller, options, target), controller.handle_signal, runner=runner)
    return controller.exit_code


async def _check_free(journal: SharedJournal) -> None:
    """Raise `JournalInUse` if the run would have to wait for another process; otherwise only the run would find out."""
    if journal.wait is not None and (leader := await journal.election.leader()):
        raise JournalInUse(
            f"another process ({leader.holder}) provisions with this journal: submit the tenants to it by "
            "`wxtcb submit`, or end it. No request was sent"
        )


def _cost_message(plan: Plan) -> str:
    adopted = plan.counts[Action.ADOPT]
    if plan.create_count:
        is_one = plan.create_count == 1
        opened = "1 environment, which is billed," if is_one else f"{plan.create_count} environments, which are billed,"
        return f"Open {opened}{f' and adopt {adopted},' if adopted else ''}"
    changed = sum(tenant_plan.has_changes for tenant_plan in plan.tenants)
    cost = f"adopting {adopted} and opening no environment," if adopted else "opening no environment,"
    return f"Change {changed} of {len(plan.tenants)} tenants, {cost}"


async def _run_and_report(controller: RunController, options: ProvisionOptions, target: Target) -> None:
    try:
        async with target.session() as session:
            provisioner = Provisioner(
                session,
                journal=controller.plan.journal,
                concurrency=options.concurrency,
                timeout=options.timeout,
                interval=target.interval,
                settle=options.settle or target.settle,
                max_failures=options.max_failures,
            )
            await controller.execute(provisioner)
    finally:
        # Also after an internal error: the report is the only list of what was opened and is billed. It is written
        # while signals are still handled, so that a second Ctrl-C cannot prevent it.
        if report := controller.report:
            if options.as_json:
                print_json_bytes(report.to_json(), resilient=True)
            else:
                advice = () if report.all_done else suggestions(controller.plan, report)
                print_summary(make_console(resilient=True), report, advice)
            await options.report_files.write(report, controller.plan.journal)


@attrs.define(eq=False)
class RunController:
    """One run with its progress view; signals end it.

    `interrupted_by` is the first signal. `report` is available also after `execute` has raised.
    """

    plan: Plan
    view: ProgressView
    run: Run | None = None
    interrupted_by: int | None = None
    # The event loop has only weak references to tasks.
    _cancellations: set[asyncio.Task[None]] = attrs.field(init=False, factory=set[asyncio.Task[None]])

    @property
    def report(self) -> Report | None:
        return self.run.report if self.run else None

    async def execute(self, provisioner: Provisioner) -> None:
        """Run until the end, or until signals have ended the run; raise what the run raises."""
        async with provisioner:
            self.run = provisioner.apply(self.plan)
            # A signal may have come while the session was opened, when there was no run to cancel yet.
            if self.interrupted_by is not None:
                self._cancel_run(grace=None)
            with self.view.open():
                async for event in self.run.events():
                    self.view.handle_event(event, self.run.progress)
                await self.run.wait()

    @property
    def exit_code(self) -> int:
        if self.interrupted_by is not None:
            return Interrupted(self.interrupted_by).exit_code
        return 0 if self.report and self.report.all_done else EXIT_FAILED

    # Any: a signal handler gets the task of work of every result type. This one does not need it.
    def handle_signal(self, signum: int, _: asyncio.Task[Any]) -> None:
        """Stop the run; requests in progress may finish after the first signal, and are cancelled by the second."""
        if self.interrupted_by is not None:
            self._cancel_run(grace=0.0)
            return
        self.interrupted_by = signum
        self.view.print_message("Stopping: waiting for requests in progress, sending no others. Repeat to cancel them.")
        self._cancel_run(grace=None)

    def _cancel_run(self, grace: float | None) -> None:
        if self.run is not None:
            task = asyncio.get_running_loop().create_task(self.run.cancel(grace=grace))
            self._cancellations.add(task)
            task.add_done_callback(self._cancellations.discard)


def print_summary(console: Console, report: Report, suggestions: Iterable[str] = ()) -> None:
    """Print the summary of *report*, followed by *suggestions* of options to add."""
    on_terminal = console.is_terminal
    table = Table("outcome", header_style="bold", box=ROUNDED if on_terminal else None, pad_edge=on_terminal)
    table.add_column("tenants", justify="right")
    for outcome, count in report.counts.items():
        if count:
            table.add_row(outcome.value, str(count))
    console.print(table)
    lines = (
        # Progress lines in a pipe already name every tenant. The bars of a terminal do not, so no list is cut there.
        *_detail_lines(report, limit=None if on_terminal else 50),
        *suggestions,
        f"{report.done_count} of {len(report.tenants)} done in {report.elapsed:.1f} s",
    )
    for line in lines:
        # As a table, so that the continuation of a line has the same indentation.
        text = line.removeprefix(_INDENT)
        row = (text,) if text == line else ("", text)
        for part in align_columns([row], console.width) if on_terminal else (line,):
            console.print(part, soft_wrap=True)


def _detail_lines(report: Report, *, limit: int | None) -> Iterator[str]:
    for outcome in _LISTED_OUTCOMES:
        if entries := [entry for entry in report.tenants if entry.outcome is outcome]:
            yield f"{outcome.value}: {OUTCOME_ADVICE[outcome]}"
            started = [entry for entry in entries if not entry.not_started]
            yield from (f"{_INDENT}{format_tenant(entry)}" for entry in started[:limit])
            if limit is not None and len(started) > limit:
                yield f"{_INDENT}and {len(started) - limit} more, listed above"
            if len(entries) > len(started):
                yield f"{_INDENT}{len(entries) - len(started)} not started"
    if report.stop_message:
        yield f"Stopped early: {escape_unprintable(report.stop_message)}"
    if retry_after := report.retry_after:
        yield f"Retry after {retry_after:%Y-%m-%d %H:%M} ({retry_after.tzname()})"
    if report.link_count:
        subject = "1 link awaits" if report.link_count == 1 else f"{report.link_count} links await"
        yield f"{subject} confirmation by a mini program's administrator; --json lists the links."
