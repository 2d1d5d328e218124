"""What to type where a person has to decide: the options, with the tenants and environments that they are about."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from wxtcb.cli.console import escape_unprintable
from wxtcb.provision import Outcome, Plan, Report

_MAX_SUGGESTED_PAIRS: Final = 3


def suggestions(plan: Plan, report: Report | None = None) -> Iterator[str]:
    """Return a line for each kind of decision that a plan waits for, or a run that has ended."""
    if adoptable := dict(_adoptable_environments(plan, report)):
        yield f"If the environment is the tenant's, add: {_format_options('--adopt', adoptable)}"
    if plan.missing_envs:
        yield f"If it was deleted on purpose, add: {_format_options('--forget', plan.missing_envs)}"
    if plan.absent_tenants:
        env = next(iter(plan.absent_tenants.values())) or "ENV"
        renamed = f"if renamed, give the new name the old alias, and add: --adopt {shlex.quote(f'NEW={env}')}"
        yield escape_unprintable(f"If those who are missing here were removed, add: --removed; {renamed}")


def _adoptable_environments(plan: Plan, report: Report | None) -> Iterator[tuple[str, str]]:
    for planned in plan.tenants:
        if len(planned.existing) == 1 and planned.adoptable:
            yield planned.tenant.name, planned.adoptable[0]
    blocked = {planned.tenant.name for planned in plan.tenants if planned.is_blocked}
    for entry in report.tenants if report else ():
        if entry.outcome is Outcome.CONFLICT and len(entry.existing) == 1 and entry.tenant not in blocked:
            yield entry.tenant, entry.existing[0]


def _format_options(option: str, pairs: Mapping[str, str]) -> str:
    words = [f"{option} {shlex.quote(f'{name}={env}')}" for name, env in islice(pairs.items(), _MAX_SUGGESTED_PAIRS)]
    more = f" (and {len(pairs) - _MAX_SUGGESTED_PAIRS} more)" if len(pairs) > _MAX_SUGGESTED_PAIRS else ""
    return escape_unprintable(" ".join(words) + more)
