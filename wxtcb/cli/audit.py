"""Command `wxtcb audit`: compares a tenants file and its journal with the platform, and prints the findings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from rich.console import Console

from wxtcb.cli.console import echo_err_newline, escape_unprintable, make_console, print_json_bytes, print_table
from wxtcb.cli.journal import require_journal, run_with_journal, select_journal
from wxtcb.cli.runner import EXIT_FAILED, Interrupted, run_until_signal
from wxtcb.cli.target import select_target
from wxtcb.provision import Audit, FindingKind, Provisioner, SqliteJournal, read_tenants
from wxtcb.provision.audit import BoundEnvironment
from wxtcb.provision.error_policy import CHINA_TIMEZONE
from wxtcb.provision.journal import SharedJournal

_MAX_FINDINGS: Final = 50
_MAX_ENVIRONMENTS: Final = 20


def audit(file: Path, *, journal: str | None, own_token: bool, as_json: bool) -> int:
    """Print the audit of a tenants file and return the exit code; nothing is changed, and no journal is created.

    Raises `WxtcbError` if the command is rejected, or if the platform cannot be read.
    """
    target = select_target("audit", sandbox=False, own_token=own_token)
    tenants = read_tenants(file, namespace=target.component_appid)

    def action(journal: SharedJournal, runner: asyncio.Runner) -> int:
        async def compute() -> Audit:
            async with target.session() as session, Provisioner(session, journal=journal) as provisioner:
                return await provisioner.audit(tenants)

        result = run_until_signal(compute(), runner=runner)
        if isinstance(result, Interrupted):
            echo_err_newline(f"{result.signal_name} interrupted the audit. Nothing was changed.")
            return result.exit_code
        if as_json:
            print_json_bytes(result.to_json())
        else:
            print_audit(make_console(), result)
        return 0 if result.passed else EXIT_FAILED

    selected = select_journal(journal) or SqliteJournal.for_tenants_file(file)
    return run_with_journal(require_journal(selected), action)


def print_audit(console: Console, audit: Audit) -> None:
    """Print the findings in order of severity, the opened environments, the summary and the conclusion."""
    rows: list[tuple[str, ...]] = []
    # A share that awaits an administrator is no problem of the run: it is counted below the tables.
    findings = [finding for finding in audit.findings if finding.kind is not FindingKind.AWAITING]
    for kind, group in groupby(findings, key=lambda finding: finding.kind):
        kind_rows = [(kind.value, finding.tenant, finding.message) for finding in group]
        rows += _truncate_rows(kind_rows, _MAX_FINDINGS, kind.value)
    if rows:
        print_table(console, ("finding", "tenant", "description"), rows)
    if audit.bound_environments:
        environment_rows = _truncate_rows([*map(_environment_row, audit.bound_environments)], _MAX_ENVIRONMENTS, "")
        print_table(console, ("tenant", "environment", "opened (China time)"), [*environment_rows])
    closing_lines = [audit.summary, *audit.notes, audit.conclusion]
    if count := audit.counts[FindingKind.AWAITING]:
        subject = "1 share awaits" if count == 1 else f"{count} shares await"
        closing_lines.insert(0, f"{subject} confirmation by a mini program's administrator; --json lists the links.")
    for line in closing_lines:
        console.print(escape_unprintable(line), soft_wrap=not console.is_terminal)


def _truncate_rows(rows: Sequence[tuple[str, ...]], limit: int, first_cell: str) -> Iterator[tuple[str, ...]]:
    yield from rows[:limit]
    if len(rows) > limit:
        yield first_cell, "", f"and {len(rows) - limit} more; --json lists all of them"


def _environment_row(environment: BoundEnvironment) -> tuple[str, ...]:
    # The platform reports times in China time, so those of the journal are shown in it as well.
    opened_at = "at an unknown time"
    if environment.opened_at:
        opened_at = environment.opened_at.astimezone(CHINA_TIMEZONE).strftime("%Y-%m-%d %H:%M:%S")
    order = f"order {environment.tranid}" if environment.tranid else "adopted"
    listed = (
        f"{environment.status}, created {environment.create_time or 'at an unknown time'}"
        if environment.is_listed
        else "not listed"
    )
    removed = "; removed from the tenants" if environment.retired else ""
    return environment.tenant, environment.env, f"{order}, {opened_at}; {listed}{removed}"
