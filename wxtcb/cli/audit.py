"""`wxtcb audit`: what the platform lists, held against the file and the journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from rich.console import Console

from wxtcb.cli.console import echo_err_newline, escape_unprintable, make_console, print_json_bytes, print_table
from wxtcb.cli.journal_file import default_journal_path, require_journal, run_with_journal
from wxtcb.cli.signals import Interrupted, run_until_signal
from wxtcb.cli.target import Target, select_target
from wxtcb.provision import Audit, FindingKind, Journal, Provisioner, Tenant, read_tenants
from wxtcb.provision.audit import BoundEnvironment
from wxtcb.provision.error_policy import CHINA_TIMEZONE

_FINDING_COLUMNS: Final = ("finding", "tenant", "what it is, and what to do")
_ENVIRONMENT_COLUMNS: Final = ("tenant", "environment", "opened (times are China's)")
_MAX_FINDINGS: Final = 50
_MAX_ENVIRONMENTS: Final = 20


def audit(file: Path, *, journal: Path | None, own_token: bool, as_json: bool) -> int:
    """Audit and print what was found; return the exit code. Nothing is spent or changed, and no journal is made.

    Raises `WxtcbError` for what is refused, and for a look that failed.
    """
    platform = select_target("audit", sandbox=False, own_token=own_token)
    tenants = read_tenants(file, namespace=platform.component_appid)
    path = require_journal(journal or default_journal_path(file))
    return run_with_journal(
        path, lambda kept: _print_result(run_until_signal(_run_audit(tenants, platform, kept)), as_json=as_json)
    )


def _print_result(result: Audit | Interrupted, *, as_json: bool) -> int:
    if isinstance(result, Interrupted):
        echo_err_newline(f"{result.signal_name} cut the audit off; nothing was changed.")
        return result.exit_code
    if as_json:
        print_json_bytes(result.to_json())
    else:
        print_audit(make_console(), result)
    return 0 if result.passed else 3


async def _run_audit(tenants: tuple[Tenant, ...], target: Target, journal: Journal) -> Audit:
    async with target.session() as session, Provisioner(session, journal=journal) as provisioner:
        return await provisioner.audit(tenants)


def print_audit(console: Console, audit: Audit) -> None:
    """Print the findings, the worst first, what was opened, the sum, and whether all is proven."""
    told = [finding for finding in audit.findings if finding.kind is not FindingKind.AWAITING]
    rows: list[tuple[str, ...]] = []
    for kind, findings in groupby(told, key=lambda finding: finding.kind):
        of_kind = [(kind.value, each.tenant, each.message) for each in findings]
        rows += _truncate_rows(of_kind, _MAX_FINDINGS, kind.value)
    if rows:
        print_table(console, _FINDING_COLUMNS, rows)
    if audit.bound_environments:
        print_table(
            console,
            _ENVIRONMENT_COLUMNS,
            [*_truncate_rows([_environment_row(each) for each in audit.bound_environments], _MAX_ENVIRONMENTS, "")],
        )
    for line in _closing_lines(audit):
        console.print(escape_unprintable(line), soft_wrap=not console.is_terminal)


def _truncate_rows(rows: Sequence[tuple[str, ...]], limit: int, first_cell: str) -> Iterator[tuple[str, ...]]:
    """Go through the first rows, and say how many are left out."""
    yield from rows[:limit]
    if len(rows) > limit:
        yield first_cell, "", f"and {len(rows) - limit} more; --json lists them all"


def _environment_row(environment: BoundEnvironment) -> tuple[str, ...]:
    at = (
        environment.opened_at.astimezone(CHINA_TIMEZONE).strftime("%Y-%m-%d %H:%M:%S")
        if environment.opened_at
        else "at an unknown time"
    )
    order = f"order {environment.tranid}" if environment.tranid else "adopted"
    listed = f"{environment.status}, created {environment.create_time}" if environment.is_listed else "not listed"
    removed = "; removed from the tenants" if environment.retired else ""
    return environment.tenant, environment.env, f"{order}, {at}; {listed}{removed}"


def _closing_lines(audit: Audit) -> Iterator[str]:
    if awaiting := audit.counts[FindingKind.AWAITING]:
        what = "1 share awaits" if awaiting == 1 else f"{awaiting} shares await"
        yield f"{what} a mini program's administrator; --json lists the links."
    yield audit.summary
    yield from audit.notes
    yield audit.conclusion
