"""Command `wxtcb plan`, the plan as a table, and suggested options for decisions that a person must make."""

from __future__ import annotations

import asyncio
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Final

import attrs
from rich.console import Console

from wxtcb.cli.console import echo_err_newline, escape_unprintable, make_console, print_json_bytes, print_table
from wxtcb.cli.journal import require_journal, run_with_journal, select_journal
from wxtcb.cli.runner import Interrupted, run_until_signal
from wxtcb.cli.target import Target, select_target
from wxtcb.errors import InvalidArgument
from wxtcb.provision import (
    Action,
    Outcome,
    Plan,
    Provisioner,
    Report,
    SqliteJournal,
    Tenant,
    TenantPlan,
    read_adoptions,
    read_tenants,
)
from wxtcb.provision.journal import SharedJournal
from wxtcb.provision.plan import ACTION_SYMBOLS
from wxtcb.provision.sqlite.journal import default_journal_path

_MAX_SUGGESTED_PAIRS: Final = 3


@attrs.frozen(kw_only=True)
class PlanRequest:
    """Tenants file to plan for, and the decisions of the operator: `adopt` and `forget` map tenants to environments.

    `retry` are names of tenants.
    """

    file: Path
    adopt: dict[str, str] = attrs.field(factory=dict[str, str])
    adopt_all: bool = False
    forget: dict[str, str] = attrs.field(factory=dict[str, str])
    retry: frozenset[str] = frozenset()
    removed: bool = False
    resend_links: bool = False

    @classmethod
    def from_options(
        cls,
        file: Path,
        adopt: list[str] | None,
        adopt_from: Path | None,
        forget: list[str] | None,
        retry: list[str] | None,
        **flags: bool,
    ) -> PlanRequest:
        """Return the request of command line options; raise `InvalidArgument` for invalid ``TENANT=ENV`` pairs."""
        adopted, forgotten = _parse_pairs("--adopt", adopt), _parse_pairs("--forget", forget)
        listed = read_adoptions(adopt_from) if adopt_from else {}
        if repeated := sorted(adopted.keys() & listed.keys()):
            raise InvalidArgument(f"--adopt: tenant {repeated[0]!r} is also in {adopt_from}; no request was sent")
        return cls(file=file, adopt=adopted | listed, forget=forgotten, retry=frozenset(retry or ()), **flags)

    def load_tenants(self, target: Target) -> tuple[Tenant, ...]:
        """Read the tenants file; raise `InvalidArgument` with all errors in it."""
        return read_tenants(self.file, namespace=target.component_appid)


def _parse_pairs(option: str, values: list[str] | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in values or ():
        # From the right: the name of a tenant may contain "=", the id of an environment cannot.
        tenant, _, env = (part.strip() for part in text.rpartition("="))
        if not tenant or not env:
            raise InvalidArgument(f"{option}: {text!r} must be TENANT=ENV; no request was sent")
        if tenant in pairs:
            raise InvalidArgument(f"{option}: tenant {tenant!r} is duplicated; no request was sent")
        pairs[tenant] = env
    return pairs


def plan(request: PlanRequest, *, sandbox: bool, journal: str | None, own_token: bool, as_json: bool) -> int:
    """Print the plan and return the exit code; nothing is changed, and no journal is created.

    Raises `WxtcbError` if the command is rejected, or if the platform cannot be read.
    """
    target = select_target("plan", sandbox=sandbox, own_token=own_token)
    tenants = request.load_tenants(target)
    selected = select_journal(journal, sandbox=sandbox)
    if selected is not None:
        # A plan without a journal that was meant to be used would promise too many creations.
        selected = require_journal(selected)
    elif not sandbox and default_journal_path(request.file).exists():
        selected = SqliteJournal.for_tenants_file(request.file)

    def action(journal: SharedJournal, runner: asyncio.Runner) -> int:
        result = make_plan(request, tenants, target, journal, settle=target.settle, runner=runner)
        if isinstance(result, Interrupted):
            return result.exit_code
        if as_json:
            print_json_bytes(result.to_json())
        else:
            print_plan(make_console(), result)
        return 0

    return run_with_journal(selected, action)


def make_plan(
    request: PlanRequest,
    tenants: tuple[Tenant, ...],
    target: Target,
    journal: SharedJournal,
    *,
    settle: float,
    runner: asyncio.Runner,
) -> Plan | Interrupted:
    """Make a plan with *runner*; report a signal that interrupts it. *settle* is in seconds."""

    async def compute() -> Plan:
        # Tenants that were submitted need not be in the file, so that an absent one proves nothing.
        has_others = any((await journal.desired.counts()).values())
        if has_others and request.removed:
            raise InvalidArgument(
                "--removed: the journal also has tenants that were submitted, so FILE does not name all tenants; end "
                "the work on one with `wxtcb decide TENANT --cancel`. Nothing was changed"
            )
        async with target.session() as session, Provisioner(session, journal=journal, settle=settle) as provisioner:
            decisions = attrs.asdict(request, filter=attrs.filters.exclude("file"))
            return await provisioner.plan(tenants, all_tenants=not has_others, **decisions)

    result = run_until_signal(compute(), runner=runner)
    if isinstance(result, Interrupted):
        echo_err_newline(f"{result.signal_name} interrupted the planning. Nothing was changed.")
    return result


def print_plan(console: Console, plan: Plan, *, max_per_action: int | None = None) -> None:
    """Print a row for each tenant, the summary, notes and suggested options.

    With *max_per_action*, print at most that many rows for each action, and the number of the others.
    """
    counts: Counter[Action] = Counter()
    shown: list[TenantPlan] = []
    for tenant_plan in plan.tenants:
        counts[tenant_plan.action] += 1
        if max_per_action is None or counts[tenant_plan.action] <= max_per_action:
            shown.append(tenant_plan)
    print_table(console, ("", "tenant", "action", "environment", "to do"), map(_plan_row, shown))
    if max_per_action is not None and len(shown) < len(plan.tenants):
        for action, count in counts.items():
            if count > max_per_action:
                console.print(f"  and {count - max_per_action} more: {action.value}")
        console.print("  `wxtcb plan` lists all of them")
    console.print(plan.summary)
    for line in (*map(escape_unprintable, plan.notes), *suggestions(plan)):
        # In a pipe each line stays whole, so that its options can be found by grep and copied.
        console.print(line, soft_wrap=not console.is_terminal)


def _plan_row(tenant_plan: TenantPlan) -> tuple[str, ...]:
    to_do = tenant_plan.reason or ", ".join(_describe_steps(tenant_plan)) or "nothing"
    env = tenant_plan.env or f"alias {tenant_plan.alias}"
    return ACTION_SYMBOLS[tenant_plan.action], tenant_plan.tenant.name, tenant_plan.action.value, env, to_do


def _describe_steps(tenant_plan: TenantPlan) -> Iterator[str]:
    tenant, record = tenant_plan.tenant, tenant_plan.effective_record
    for step in tenant_plan.steps:
        match step:
            case "environment":
                yield "open" if tenant_plan.env is None else "adopt"
            case "ready":
                yield "wait for NORMAL"
            case "share":
                yield f"share with {len(record.unshared_appids(tenant.appids))}"
            case "services":
                if missing := [service for service in tenant.services if not record.has_service(service.name)]:
                    names = (each.name + (f" ({each.remark})" if each.remark else "") for each in missing)
                    yield f"establish {', '.join(names)}"
                if unconfirmed := record.unconfirmed_services(tenant.service_names):
                    yield f"confirm {', '.join(unconfirmed)}"
            case _:
                yield step


def suggestions(plan: Plan, report: Report | None = None) -> Iterator[str]:
    """Iterate over the options to add, one line for each kind of decision that a person must make.

    With *report*, include conflicts that the run has met and the plan did not know.
    """
    if adoptable := dict(_adoptable_environments(plan, report)):
        # Environments of missing tenants are left out: `--adopt-all` does not adopt them.
        unowned = adoptable.keys() - {name for name, env in adoptable.items() if env in plan.absent_tenants.values()}
        if len(unowned) > _MAX_SUGGESTED_PAIRS:
            yield "If each environment belongs to the tenant that has its alias, add: --adopt-all"
        yield f"If the environment belongs to the tenant, add: {_format_options('--adopt', adoptable)}"
    if plan.missing_envs:
        yield f"If it was deleted on purpose, add: {_format_options('--forget', plan.missing_envs)}"
    if plan.absent_tenants:
        env = next(iter(plan.absent_tenants.values())) or "ENV"
        renamed = f"if one was renamed, give the new name the old alias, and add: --adopt {shlex.quote(f'NEW={env}')}"
        yield escape_unprintable(f"If the missing tenants were removed, add: --removed; {renamed}")


def _adoptable_environments(plan: Plan, report: Report | None) -> Iterator[tuple[str, str]]:
    """Iterate over tenants in conflict with exactly one environment; of several, a person must choose one."""
    for tenant_plan in plan.tenants:
        if len(tenant_plan.existing) == 1 and tenant_plan.adoptable:
            yield tenant_plan.tenant.name, tenant_plan.adoptable[0]
    # The plan knows better about these: it may have found that the environment belongs to another tenant.
    blocked = {tenant_plan.tenant.name for tenant_plan in plan.tenants if tenant_plan.is_blocked}
    for entry in report.tenants if report else ():
        if entry.outcome is Outcome.CONFLICT and len(entry.existing) == 1 and entry.tenant not in blocked:
            yield entry.tenant, entry.existing[0]


def _format_options(option: str, pairs: Mapping[str, str]) -> str:
    words = [f"{option} {shlex.quote(f'{name}={env}')}" for name, env in islice(pairs.items(), _MAX_SUGGESTED_PAIRS)]
    more = f" (and {len(pairs) - _MAX_SUGGESTED_PAIRS} more)" if len(pairs) > _MAX_SUGGESTED_PAIRS else ""
    return escape_unprintable(" ".join(words) + more)
