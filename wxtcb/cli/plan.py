"""`wxtcb plan`: what `provision` would do, before it does it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
from rich.console import Console

from wxtcb.cli.console import echo_err_newline, escape_unprintable, make_console, print_json_bytes, print_table
from wxtcb.cli.journal_file import default_journal_path, require_journal, run_with_journal
from wxtcb.cli.remedies import suggestions
from wxtcb.cli.signals import Interrupted, run_until_signal
from wxtcb.cli.target import Target, select_target
from wxtcb.errors import InvalidArgument
from wxtcb.provision import Action, Journal, Plan, Provisioner, Service, Tenant, TenantPlan, read_tenants
from wxtcb.provision.plan import ACTION_SYMBOLS

_PLAN_COLUMNS: Final = ("", "tenant", "action", "environment", "to do")


@attrs.frozen(kw_only=True)
class PlanRequest:
    """What is to be planned: the tenants of a file, who are all there are, and what a person has decided about them."""

    file: Path
    adopt: dict[str, str] = attrs.field(factory=dict[str, str])
    forget: dict[str, str] = attrs.field(factory=dict[str, str])
    removed: bool = False
    resend_links: bool = False

    @classmethod
    def from_options(
        cls, file: Path, adopt: list[str] | None, forget: list[str] | None, *, removed: bool, resend_links: bool
    ) -> PlanRequest:
        """Read `TENANT=ENV` pairs; `InvalidArgument` for what is none."""
        given = {"adopt": _parse_pairs("--adopt", adopt), "forget": _parse_pairs("--forget", forget)}
        return cls(file=file, removed=removed, resend_links=resend_links, **given)

    def load_tenants(self, target: Target) -> tuple[Tenant, ...]:
        """Read the file."""
        return read_tenants(self.file, namespace=target.component_appid)


def _parse_pairs(option: str, values: list[str] | None) -> dict[str, str]:
    pairs = [_parse_pair(option, each) for each in values or ()]
    if len(dict(pairs)) < len(pairs):
        raise InvalidArgument(f"{option}: a tenant is named twice; nothing was sent")
    return dict(pairs)


def _parse_pair(option: str, text: str) -> tuple[str, str]:
    tenant, _, env = text.rpartition("=")
    if not tenant.strip() or not env.strip():
        raise InvalidArgument(f"{option}: {text!r} is not TENANT=ENV; nothing was sent")
    return tenant.strip(), env.strip()


def plan(request: PlanRequest, *, sandbox: bool, journal: Path | None, own_token: bool, as_json: bool) -> int:
    """Print the plan; return the exit code. Nothing is spent or changed, and no journal is made."""
    platform = select_target("plan", sandbox=sandbox, own_token=own_token)
    tenants = request.load_tenants(platform)
    return run_with_journal(
        _resolve_journal_path(request.file, journal, sandbox=sandbox),
        lambda kept: _print_result(make_plan(request, tenants, platform, kept, platform.settle), as_json=as_json),
    )


def _resolve_journal_path(file: Path, journal: Path | None, *, sandbox: bool) -> Path | None:
    """Return the journal to plan with; there may be none beside the file yet, but the one that was named is there."""
    if journal is not None:
        return require_journal(journal)
    beside = default_journal_path(file)
    return beside if beside.exists() and not sandbox else None


def _print_result(result: Plan | Interrupted, *, as_json: bool) -> int:
    if isinstance(result, Interrupted):
        return result.exit_code
    if as_json:
        print_json_bytes(result.to_json())
    else:
        print_plan(make_console(), result)
    return 0


def make_plan(
    request: PlanRequest, tenants: tuple[Tenant, ...], target: Target, journal: Journal, settle: float
) -> Plan | Interrupted:
    """Look at the platform; a signal that comes first is said to have cut that off."""
    made = run_until_signal(_compute_plan(request, tenants, target, journal, settle))
    if isinstance(made, Interrupted):
        echo_err_newline(f"{made.signal_name} cut the look off; nothing was changed.")
    return made


async def _compute_plan(
    request: PlanRequest, tenants: tuple[Tenant, ...], target: Target, journal: Journal, settle: float
) -> Plan:
    decisions = attrs.asdict(request, filter=lambda field, _: field.name != "file")
    async with target.session() as session, Provisioner(session, journal=journal, settle=settle) as provisioner:
        return await provisioner.plan(tenants, complete=True, **decisions)


def print_plan(console: Console, plan: Plan, *, max_per_action: int | None = None) -> None:
    """Print a line for every tenant, of each action *most* at most, the sum, and what to type where one has to decide.

    On a terminal nothing is cut off: what is too wide goes on below.
    """
    shown, hidden = _limit_per_action(plan, max_per_action)
    print_table(console, _PLAN_COLUMNS, [_plan_row(planned) for planned in shown])
    for action, count in hidden.items():
        console.print(f"  and {count} more: {action.value}")
    if hidden:
        console.print("  `wxtcb plan` shows them all")
    console.print(plan.summary)
    for line in (*map(escape_unprintable, plan.notes), *suggestions(plan)):
        console.print(line, soft_wrap=not console.is_terminal)


def _limit_per_action(plan: Plan, max_per_action: int | None) -> tuple[list[TenantPlan], dict[Action, int]]:
    shown: list[TenantPlan] = []
    counts: dict[Action, int] = defaultdict(int)
    for planned in plan.tenants:
        counts[planned.action] += 1
        if max_per_action is None or counts[planned.action] <= max_per_action:
            shown.append(planned)
    return shown, {
        action: count - max_per_action
        for action, count in counts.items()
        if max_per_action is not None and count > max_per_action
    }


def _plan_row(tenant_plan: TenantPlan) -> tuple[str, ...]:
    what = tenant_plan.reason or ", ".join(_describe_steps(tenant_plan)) or "nothing"
    env = tenant_plan.env or f"alias {tenant_plan.alias}"
    return ACTION_SYMBOLS[tenant_plan.action], tenant_plan.tenant.name, tenant_plan.action.value, env, what


def _describe_steps(tenant_plan: TenantPlan) -> Iterator[str]:
    tenant, record = tenant_plan.tenant, tenant_plan.effective_record
    for step in tenant_plan.steps:
        match step:
            case "environment":
                yield "open" if tenant_plan.env is None else "adopt"
            case "ready":
                yield "await NORMAL"
            case "share":
                yield f"share with {len(record.unshared_appids(tenant.appids))}"
            case _:
                if left := [each for each in tenant.services if not record.has_service(each.name)]:
                    yield f"establish {', '.join(map(_format_service, left))}"
                if unconfirmed := record.unconfirmed_services(tenant.service_names):
                    yield f"confirm {', '.join(unconfirmed)}"


def _format_service(service: Service) -> str:
    return f"{service.name} ({service.remark})" if service.remark else service.name
