"""The plan as lines: for a pipe, for a terminal, whole and cut."""

from __future__ import annotations

import io
from typing import Any

import attrs
import pytest
from rich.console import Console

from wxtcb.api.cloudrun import Server
from wxtcb.api.environment import EnvList
from wxtcb.cli.plan import print_plan
from wxtcb.provision import Action, MemoryJournal, Plan, Service, Tenant, TenantPlan, TenantRecord
from wxtcb.provision.journal import ServiceState
from wxtcb.provision.plan import AliasIndex
from wxtcb.provision.tenant import PLACEHOLDER_ENV_ID

from .test_console import width_of

ALL_STEPS = ("environment", "ready", "share", "services")


def service(name: str, remark: str | None = None) -> Service:
    """Return a service."""
    return Service(Server(env_id=PLACEHOLDER_ENV_ID, service_name=name, is_public=True, remark=remark))


def planned(action: Action, *, tenant: Tenant | None = None, **facts: Any) -> TenantPlan:
    """Return what is planned for 商户 or another tenant."""
    return TenantPlan(tenant=tenant or Tenant("商户", alias="x"), alias="x", action=action, **facts)


def printed(*tenants: TenantPlan, width: int | None = None, most: int | None = None) -> list[str]:
    """Return the lines of a plan, as a pipe or a terminal of *width* columns gets them."""
    screen = Console(
        file=io.StringIO(), width=width or 1000, force_terminal=width is not None, markup=False, no_color=True
    )
    print_plan(
        screen,
        Plan("wx", tenants, AliasIndex.from_list(EnvList(info_list=())), 0.0, MemoryJournal()),
        max_per_action=most,
    )
    return screen.file.getvalue().splitlines()


RICH = Tenant("c", alias="x", appids=("wx1", "wx2"), services=(service("api", "接口"), service("web")))
STARTED = TenantRecord(tenant="c", alias="x", env="x-1", links={"wx1": "u"}, services={"api": ServiceState.DONE})
UNCONFIRMED = attrs.evolve(STARTED, services=dict.fromkeys(("api", "web"), ServiceState.UNCONFIRMED))


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (
            planned(Action.CREATE, tenant=RICH, steps=ALL_STEPS),
            "+  c       create  alias x      open, await NORMAL, share with 2, establish api (接口), web",
        ),
        (
            planned(Action.ADOPT, env="x-1", status="NORMAL", steps=("environment",)),
            "~  商户    adopt   x-1          adopt",
        ),
        (planned(Action.READY, env="x-1", status="NORMAL"), "   商户    ready   x-1          nothing"),
        (
            planned(Action.READY, tenant=RICH, known=STARTED, env="x-1", steps=("share", "services")),
            "   c       ready   x-1          share with 1, establish web",
        ),
        (
            planned(Action.READY, tenant=RICH, known=UNCONFIRMED, env="x-1", steps=("services",)),
            "   c       ready   x-1          confirm api, web",
        ),
        (
            planned(Action.CONFLICT, reason="alias x is in use by x-1"),
            "!  商户    conflict  alias x      alias x is in use by x-1",
        ),
        (
            planned(Action.DUPLICATE, reason="alias x is in use by x-1, x-2"),
            "!  商户    duplicate  alias x      alias x is in use by x-1, x-2",
        ),
    ],
)
def test_a_line_says_what_is_to_be_done_for_a_tenant(told: TenantPlan, line: str) -> None:
    """With a sign in front; of shares and services only those that are yet to be done."""
    header, row, _ = printed(told)
    assert row == line
    assert header.split() == ["tenant", "action", "environment", "to", "do"]


def test_the_sum_names_what_is_rare_only_where_there_is_some() -> None:
    """Creations, adoptions and ready ones are always told."""
    assert printed(planned(Action.READY))[-1] == "Plan: 0 to create, 0 to adopt, 1 ready."
    everything = printed(*map(planned, Action), planned(Action.CREATE))
    assert everything[-1] == "Plan: 2 to create, 1 to adopt, 1 ready, 1 in conflict, 1 duplicate."


@pytest.mark.parametrize("width", [None, 80])
def test_columns_stand_straight_with_chinese_in_them(width: int | None) -> None:
    """In a pipe a line each; at a terminal what does not fit goes on below."""
    names = ("a", "商户", "杭州西湖旁边的书店")
    tenants = [Tenant(name, alias="x", services=(service("api", "书店的后台接口" * 4),)) for name in names]
    header, *rows, _ = printed(
        *(planned(Action.CREATE, tenant=tenant, steps=ALL_STEPS[:2]) for tenant in tenants), width=width
    )
    header = header.replace("\x1b[1m", "").replace("\x1b[0m", "")
    starts = {width_of(row[: row.index("open")]) for row in rows if row.startswith("+")}
    assert starts == {header.index("to do")}
    assert max(map(width_of, rows)) <= 80


def test_a_terminal_of_80_columns_loses_nothing() -> None:
    """Remarks go on below, and no line is too wide."""
    remark = "书店的后台接口给小程序用" * 4
    tenant = Tenant("杭州西湖旁边的书店", alias="x", services=(service("api", remark),))
    lines = printed(planned(Action.CREATE, tenant=tenant, steps=ALL_STEPS), width=80)
    assert max(map(width_of, lines[1:])) <= 80
    assert sum(line.count("书店的后台接口给小程序用"[0]) for line in lines[1:]) == 5


def test_a_long_list_is_cut_for_each_action() -> None:
    """The plan command has them all, and is named."""
    tenants = [planned(action) for action in (Action.CREATE, Action.CONFLICT) for _ in range(5)]
    assert len(printed(*tenants)) == 12
    lines = printed(*tenants, planned(Action.READY), most=3)
    assert [line[:1] for line in lines[1:8]] == ["+", "+", "+", "!", "!", "!", " "]
    assert lines[8:11] == ["  and 2 more: create", "  and 2 more: conflict", "  `wxtcb plan` shows them all"]
