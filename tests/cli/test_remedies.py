"""What to type where a person has to decide."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from wxtcb.api.environment import EnvList
from wxtcb.cli.remedies import suggestions
from wxtcb.provision import Action, MemoryJournal, Outcome, Plan, Report, Tenant, TenantPlan, TenantReport
from wxtcb.provision.plan import AliasIndex

RENAMED = "if renamed, give the new name the old alias, and add: --adopt NEW=c-1"
PLAN = Plan("wx", (), AliasIndex.from_list(EnvList(info_list=())), 0.0, MemoryJournal())


def blocked(name: str, *existing: str, adoptable: bool = True) -> TenantPlan:
    """Return a tenant in conflict with environments that somebody may have, or not."""
    action = Action.DUPLICATE if len(existing) > 1 else Action.CONFLICT
    return TenantPlan(
        tenant=Tenant(name), alias="x", action=action, existing=existing, adoptable=existing if adoptable else ()
    )


def told(*tenants: TenantPlan, entries: tuple[TenantReport, ...] = (), **facts: Any) -> list[str]:
    """Return what is to be typed after a plan, or after a run that ended with *entries*."""
    plan = attrs.evolve(PLAN, tenants=tenants, **facts)
    return [*suggestions(plan, Report(entries, 1.0) if entries else None)]


def ended(name: str, outcome: Outcome, *existing: str) -> TenantReport:
    """Return what came of a tenant."""
    return TenantReport(tenant=name, alias="x", outcome=outcome, existing=existing)


def test_where_nobody_has_to_decide_there_is_nothing_to_type() -> None:
    """Neither is there for what can be had by nobody, or is there twice."""
    assert told(TenantPlan(tenant=Tenant("a"), alias="x", action=Action.CREATE)) == []
    assert told(blocked("a", "x-1", adoptable=False), blocked("b", "x-1", "x-2"), blocked("c")) == []


def test_each_kind_of_decision_has_a_line() -> None:
    """With names as a shell takes them, and with what could steer a terminal written out."""
    assert told(blocked("青山 书店\u202e", "x-1"), missing_envs={"b": "b-1"}, absent_tenants={"it's": "c-1"}) == [
        "If the environment is the tenant's, add: --adopt '青山 书店\\u202e=x-1'",
        "If it was deleted on purpose, add: --forget b=b-1",
        f"If those who are missing here were removed, add: --removed; {RENAMED}",
    ]


def test_one_who_may_have_an_environment_may_have_been_renamed_too() -> None:
    """Which one it is shows when it is found."""
    assert told(absent_tenants={"c": ""})[0].endswith("--adopt NEW=ENV")


@pytest.mark.parametrize(("count", "more"), [(3, ""), (5, " (and 2 more)")])
def test_a_line_is_no_longer_than_a_person_reads(count: int, more: str) -> None:
    """Three are named, the others counted."""
    (line,) = told(*(blocked(f"t{number}", f"x-{number}") for number in range(count)))
    assert line.endswith(f"add: --adopt t0=x-0 --adopt t1=x-1 --adopt t2=x-2{more}")


def test_what_came_into_the_way_during_a_run_is_there_too() -> None:
    """What the plan knew stands once, and nobody is sent to adopt what another one has."""
    plan = (TenantPlan(tenant=Tenant("a"), alias="x", action=Action.CREATE), blocked("b", "y-1", adoptable=False))
    entries = (ended("a", Outcome.CONFLICT, "x-1"), ended("b", Outcome.CONFLICT, "y-1"), ended("c", Outcome.DONE))
    assert told(*plan, entries=entries) == ["If the environment is the tenant's, add: --adopt a=x-1"]
