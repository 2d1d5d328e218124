"""`wxtcb audit`: what the platform lists, held against the file and the journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from rich.console import Console

from wxtcb.cli.console import console, print_document, print_table, printable, say_below
from wxtcb.cli.journal_file import demand_journal, lend_journal, path_beside
from wxtcb.cli.signals import Ended, run_until_signal
from wxtcb.cli.target import Platform, choose_platform
from wxtcb.provision import Audit, FindingKind, Journal, Opened, Provisioner, Tenant, read_tenants
from wxtcb.provision.error_policy import CHINA

_FINDINGS: Final = ("finding", "tenant", "what it is, and what to do")
_OPENED: Final = ("tenant", "environment", "opened (times are China's)")
_MOST_FINDINGS: Final = 50
_MOST_OPENED: Final = 20


def audit(file: Path, *, journal: Path | None, own_token: bool, as_json: bool) -> int:
    """Audit and print what was found; return the exit code. Nothing is spent or changed, and no journal is made.

    Raises `WxtcbError` for what is refused, and for a look that failed.
    """
    platform = choose_platform("audit", sandbox=False, own_token=own_token)
    tenants = read_tenants(file, namespace=platform.component_appid)
    path = demand_journal(journal or path_beside(file))
    return lend_journal(path, lambda kept: _tell(run_until_signal(_audit(tenants, platform, kept)), as_json=as_json))


def _tell(made: Audit | Ended, *, as_json: bool) -> int:
    if isinstance(made, Ended):
        say_below(f"{made.name} cut the audit off; nothing was changed.")
        return made.exit_code
    if as_json:
        print_document(made.to_json())
    else:
        print_audit(console(), made)
    return 0 if made.proven else 3


async def _audit(tenants: tuple[Tenant, ...], platform: Platform, journal: Journal) -> Audit:
    async with platform.session() as session, Provisioner(session, journal=journal) as provisioner:
        return await provisioner.audit(tenants)


def print_audit(screen: Console, audit: Audit) -> None:
    """Print the findings, the worst first, what was opened, the sum, and whether all is proven."""
    told = [finding for finding in audit.findings if finding.kind is not FindingKind.AWAITING]
    rows: list[tuple[str, ...]] = []
    for kind, findings in groupby(told, key=lambda finding: finding.kind):
        of_kind = [(kind.value, each.tenant, each.text) for each in findings]
        rows += _cut(of_kind, _MOST_FINDINGS, kind.value)
    if rows:
        print_table(screen, _FINDINGS, rows)
    if audit.opened:
        print_table(screen, _OPENED, [*_cut([_row(each) for each in audit.opened], _MOST_OPENED, "")])
    for line in _ending(audit):
        screen.print(printable(line), soft_wrap=not screen.is_terminal)


def _cut(rows: Sequence[tuple[str, ...]], most: int, first: str) -> Iterator[tuple[str, ...]]:
    """Go through the first rows, and say how many are left out."""
    yield from rows[:most]
    if len(rows) > most:
        yield first, "", f"and {len(rows) - most} more; --json lists them all"


def _row(opened: Opened) -> tuple[str, ...]:
    at = opened.opened_at.astimezone(CHINA).strftime("%Y-%m-%d %H:%M:%S") if opened.opened_at else "at an unknown time"
    order = f"order {opened.tranid}" if opened.tranid else "adopted"
    listed = f"{opened.status}, created {opened.create_time}" if opened.listed else "not listed"
    removed = "; removed from the tenants" if opened.retired else ""
    return opened.tenant, opened.env, f"{order}, {at}; {listed}{removed}"


def _ending(audit: Audit) -> Iterator[str]:
    if awaiting := audit.counts[FindingKind.AWAITING]:
        what = "1 share awaits" if awaiting == 1 else f"{awaiting} shares await"
        yield f"{what} a mini program's administrator; --json lists the links."
    yield audit.summary
    yield from audit.notes
    yield audit.verdict
