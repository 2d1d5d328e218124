"""The plan as a table in a pipe and on a terminal, and the suggested options below it."""

from __future__ import annotations

import io
from typing import Any

import attrs
import pytest
from rich.console import Console

from wxtcb.api.cloudrun import Server
from wxtcb.api.environment import EnvList
from wxtcb.cli.plan import print_plan, suggestions
from wxtcb.provision import (
    Action,
    MemoryJournal,
    Outcome,
    Plan,
    Report,
    Service,
    Tenant,
    TenantPlan,
    TenantRecord,
    TenantReport,
)
from wxtcb.provision.plan import AliasIndex
from wxtcb.provision.record import ServiceState

from .conftest import width_of

ALL_STEPS = ("environment", "ready", "share", "services")
EMPTY_PLAN = Plan("wx", (), AliasIndex.from_list(EnvList(info_list=())), 0.0, MemoryJournal())


def service(name: str, remark: str | None = None) -> Service:
    """Return a public service."""
    return Service(Server(service_name=name, is_public=True, remark=remark))


def tenant_plan(action: Action, *, tenant: Tenant | None = None, **fields: Any) -> TenantPlan:
    """Return the plan of *tenant*, by default of one with a Chinese name."""
    return TenantPlan(tenant=tenant or Tenant("商户", alias="x"), alias="x", action=action, **fields)


def printed_lines(*tenants: TenantPlan, width: int | None = None, limit: int | None = None) -> list[str]:
    """Return the output for a plan, in a pipe or on a terminal of *width* columns."""
    console = Console(
        file=io.StringIO(), width=width or 1000, force_terminal=width is not None, markup=False, no_color=True
    )
    print_plan(console, attrs.evolve(EMPTY_PLAN, tenants=tenants), max_per_action=limit)
    return console.file.getvalue().splitlines()


FULL = Tenant(
    "c",
    alias="x",
    appids=("wx0000000000000001", "wx0000000000000002"),
    services=(service("api", "接口"), service("web")),
)
STARTED = TenantRecord(
    tenant="c", alias="x", env="x-1", links={"wx0000000000000001": "u"}, services={"api": ServiceState.DONE}
)
UNCONFIRMED = attrs.evolve(STARTED, services=dict.fromkeys(("api", "web"), ServiceState.UNCONFIRMED))


@pytest.mark.parametrize(
    ("planned", "line"),
    [
        (
            tenant_plan(Action.CREATE, tenant=FULL, steps=ALL_STEPS),
            "+  c       create  alias x      open, wait for NORMAL, share with 2, establish api (接口), web",
        ),
        (
            tenant_plan(Action.ADOPT, env="x-1", status="NORMAL", steps=("environment",)),
            "~  商户    adopt   x-1          adopt",
        ),
        (tenant_plan(Action.READY, env="x-1", status="NORMAL"), "   商户    ready   x-1          nothing"),
        (
            tenant_plan(Action.READY, tenant=FULL, initial_record=STARTED, env="x-1", steps=("share", "services")),
            "   c       ready   x-1          share with 1, establish web",
        ),
        (
            tenant_plan(Action.READY, tenant=FULL, initial_record=UNCONFIRMED, env="x-1", steps=("services",)),
            "   c       ready   x-1          confirm api, web",
        ),
        (
            tenant_plan(Action.READY, env="x-1", steps=("backup", "ready")),
            "   商户    ready   x-1          backup, wait for NORMAL",
        ),
        (
            tenant_plan(Action.CONFLICT, reason="alias x was taken by x-1"),
            "!  商户    conflict  alias x      alias x was taken by x-1",
        ),
        (
            tenant_plan(Action.DUPLICATE, reason="alias x was taken by x-1, x-2"),
            "!  商户    duplicate  alias x      alias x was taken by x-1, x-2",
        ),
    ],
)
def test_row_shows_the_steps_of_a_tenant(planned: TenantPlan, line: str) -> None:
    """Shares and services that are done are left out; a step without a text of its own is shown by its name."""
    header, row, _ = printed_lines(planned)
    assert row == line
    assert header.split() == ["tenant", "action", "environment", "to", "do"]


def test_last_line_is_the_summary() -> None:
    """It is the summary of the plan itself."""
    tenants = tuple(map(tenant_plan, Action))
    assert printed_lines(*tenants)[-1] == attrs.evolve(EMPTY_PLAN, tenants=tenants).summary


@pytest.mark.parametrize("width", [None, 80])
def test_columns_are_aligned_with_chinese_text(width: int | None) -> None:
    """A pipe gets one line for each tenant, and a terminal gets wrapped cells."""
    names = ("a", "商户", "杭州西湖旁边的书店")
    tenants = [Tenant(name, alias="x", services=(service("api", "书店的后台接口" * 4),)) for name in names]
    header, *rows, _ = printed_lines(
        *(tenant_plan(Action.CREATE, tenant=tenant, steps=ALL_STEPS[:2]) for tenant in tenants), width=width
    )
    header = header.replace("\x1b[1m", "").replace("\x1b[0m", "")
    starts = {width_of(row[: row.index("open")]) for row in rows if row.startswith("+")}
    assert starts == {header.index("to do")}
    assert max(map(width_of, rows)) <= 80


def test_long_remark_is_wrapped_on_a_terminal() -> None:
    """No line is wider than 80 columns, and no character is left out."""
    remark = "书店的后台接口给小程序用" * 4
    tenant = Tenant("杭州西湖旁边的书店", alias="x", services=(service("api", remark),))
    lines = printed_lines(tenant_plan(Action.CREATE, tenant=tenant, steps=ALL_STEPS), width=80)
    assert max(map(width_of, lines[1:])) <= 80
    assert sum(line.count("书") for line in lines[1:]) == 5


def test_long_plan_is_truncated_for_each_action() -> None:
    """The number of other tenants and the command that lists them follow."""
    tenants = [tenant_plan(action) for action in (Action.CREATE, Action.CONFLICT) for _ in range(5)]
    assert len(printed_lines(*tenants)) == 12
    lines = printed_lines(*tenants, tenant_plan(Action.READY), limit=3)
    assert [line[:1] for line in lines[1:8]] == ["+", "+", "+", "!", "!", "!", " "]
    assert lines[8:11] == ["  and 2 more: create", "  and 2 more: conflict", "  `wxtcb plan` lists all of them"]


def blocked(name: str, *existing: str, adoptable: bool = True) -> TenantPlan:
    """Return the plan of a tenant that is in conflict with *existing* environments."""
    return TenantPlan(
        tenant=Tenant(name),
        alias="x",
        action=Action.DUPLICATE if len(existing) > 1 else Action.CONFLICT,
        existing=existing,
        adoptable=existing if adoptable else (),
    )


def suggested(*tenants: TenantPlan, entries: tuple[TenantReport, ...] = (), **fields: Any) -> list[str]:
    """Return the suggestions for a plan, or for a run that has ended with *entries*."""
    plan = attrs.evolve(EMPTY_PLAN, tenants=tenants, **fields)
    return [*suggestions(plan, Report(entries, 1.0) if entries else None)]


def entry(name: str, outcome: Outcome, *existing: str) -> TenantReport:
    """Return the report of a tenant."""
    return TenantReport(tenant=name, alias="x", outcome=outcome, existing=existing)


def test_nothing_is_suggested_without_a_decision() -> None:
    """An environment of another tenant cannot be adopted, and of duplicates a person must choose one."""
    assert suggested(tenant_plan(Action.CREATE)) == []
    assert suggested(blocked("a", "x-1", adoptable=False), blocked("b", "x-1", "x-2"), blocked("c")) == []


def test_each_kind_of_decision_has_a_line() -> None:
    """Names are quoted for the shell, and unprintable characters are escaped."""
    adopt, forget, remove = suggested(
        blocked("青山 书店\u202e", "x-1"), missing_envs={"b": "b-1"}, absent_tenants={"it's": "c-1"}
    )
    assert adopt.endswith("add: --adopt '青山 书店\\u202e=x-1'")
    assert forget.endswith("add: --forget b=b-1")
    assert "add: --removed; " in remove
    assert remove.endswith("add: --adopt NEW=c-1")


def test_renamed_tenant_without_environment_has_a_placeholder() -> None:
    """The environment is not known before the platform is asked."""
    assert suggested(absent_tenants={"c": ""})[0].endswith("--adopt NEW=ENV")


@pytest.mark.parametrize(("count", "more"), [(3, ""), (5, " (and 2 more)")])
def test_suggestion_has_at_most_three_tenants(count: int, more: str) -> None:
    """The others are counted."""
    *_, line = suggested(*(blocked(f"t{number}", f"x-{number}") for number in range(count)))
    assert line.endswith(f"add: --adopt t0=x-0 --adopt t1=x-1 --adopt t2=x-2{more}")


@pytest.mark.parametrize(("absent", "offered"), [(0, True), (1, True), (2, False)])
def test_adopt_all_is_suggested_for_more_than_three_tenants(absent: int, *, offered: bool) -> None:
    """Environments of missing tenants do not count, because the option does not adopt them."""
    plans = (blocked(f"t{number}", f"x-{number}") for number in range(5))
    lines = suggested(*plans, absent_tenants={f"old{number}": f"x-{number}" for number in range(absent)})
    assert any(line.endswith("add: --adopt-all") for line in lines) == offered


def test_conflict_of_the_run_is_suggested_too() -> None:
    """A conflict that the plan knew is not suggested a second time."""
    plans = (tenant_plan(Action.CREATE, tenant=Tenant("a")), blocked("b", "y-1", adoptable=False))
    entries = (entry("a", Outcome.CONFLICT, "x-1"), entry("b", Outcome.CONFLICT, "y-1"), entry("c", Outcome.DONE))
    (line,) = suggested(*plans, entries=entries)
    assert line.endswith("add: --adopt a=x-1")
