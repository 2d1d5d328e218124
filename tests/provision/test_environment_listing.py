"""Listings before a create are fresh, complete and shared."""

from __future__ import annotations

import asyncio
import json
import math

import pytest

from wxtcb._concurrency.shared_poll import SharedPoller
from wxtcb.api.environment import EnvInfo, EnvList
from wxtcb.provision import STEPS, MemoryJournal, Outcome, Tenant
from wxtcb.provision.plan import Action, AliasIndex
from wxtcb.provision.reconciliation import EnvironmentListing, ExpectedEnvironments, KnownBindings
from wxtcb.sandbox import Fault, FaultKind

from .conftest import Harness
from .constants import CREATE, LIST, plain_tenants

pytestmark = pytest.mark.virtual_time


async def test_create_follows_listing_of_at_most_five_seconds(harness: Harness) -> None:
    """This holds for creates minutes later, too; one listing serves all creates of five seconds."""
    harness.wire.latency = 1.0
    await harness.provision(plain_tenants(100), concurrency=2, interval=1000)
    listings = [request.at for request in harness.sandbox.seen if request.path == LIST]
    creates = [request.at for request in harness.sandbox.seen if request.path == CREATE]
    assert all(any(at - 5 <= listed_at <= at for listed_at in listings) for at in creates)
    assert len(listings) <= len(creates) / 2 / 4 + 2


async def test_incomplete_list_is_not_trusted(harness: Harness) -> None:
    """Nothing is created before a listing shows the missing environments again."""
    harness.sandbox.world.add("other")
    harness.wire.latency = 1.0
    harness.sandbox.faults.script(LIST, [None, *[Fault(FaultKind.INCOMPLETE_LIST)] * 3])
    report = await harness.provision(plain_tenants(8), concurrency=1, interval=50, steps=STEPS[:1])
    assert report.all_done
    incomplete = [number for number, seen in enumerate(harness.sandbox.seen) if seen.outcome == "incomplete-list"]
    paths = [seen.path for seen in harness.sandbox.seen]
    assert paths[incomplete[0] : incomplete[0] + 5] == [LIST] * 4 + [CREATE]


async def test_refreshed_plan_expects_environments_of_the_old_plan(harness: Harness) -> None:
    """A list that lacks some of them is repeated before anything is created."""
    harness.sandbox.world.add("other")
    async with harness.provisioner() as provisioner:
        plan = await provisioner.plan(plain_tenants(1))
        await asyncio.sleep(6)
        harness.sandbox.faults.script(LIST, [Fault(FaultKind.INCOMPLETE_LIST)])
        listings = harness.sandbox.count(LIST)
        assert (await provisioner.apply(plan).wait()).all_done
    first_create = next(seen.at for seen in harness.sandbox.seen if seen.path == CREATE)
    assert sum(seen.at < first_create for seen in harness.sandbox.seen if seen.path == LIST) == listings + 2


async def test_environment_missing_for_half_a_minute_was_removed(harness: Harness) -> None:
    """After 30 seconds the run continues without it."""
    env = harness.sandbox.world.add("other")
    harness.wire.latency = 1.0
    async with harness.provisioner(concurrency=1, interval=1000) as provisioner:
        plan = await provisioner.plan(plain_tenants(8))
        harness.sandbox.world.remove(env)
        report = await provisioner.apply(plan).wait()
    assert report.all_done
    assert report.elapsed > 30


async def test_fatal_listing_error_stops_the_run(harness: Harness) -> None:
    """The listing is not retried, and nothing is created after it."""
    harness.wire.latency = 2.0
    harness.sandbox.faults.script(LIST, [None, *[Fault(FaultKind.ERRCODE, errcode=61004)] * 3])
    report = await harness.provision(plain_tenants(9), concurrency=1, interval=1000)
    assert "61004" in report.stop_message
    assert (harness.sandbox.count(LIST), harness.sandbox.count(CREATE)) == (2, 1)


async def test_listing_is_compared_once_for_all_waiters(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 tenants that wait for one listing of 10,000 environments share one comparison with it."""
    times = {"create_time": "2026-01-01 00:00:00", "update_time": "2026-01-01 00:00:00"}
    listed = EnvList(
        info_list=tuple(EnvInfo(env=f"e{n}", alias=f"a{n}", status="NORMAL", **times) for n in range(10_000))
    )
    compared: list[EnvList] = []

    def build_index(environments: EnvList) -> AliasIndex:
        compared.append(environments)
        return AliasIndex(frozenset(environments.by_env), {"a0": ("e0",)})

    async def fetch() -> EnvList:
        await asyncio.sleep(1)
        return listed

    monkeypatch.setattr(AliasIndex, "from_list", build_index)
    poller = SharedPoller(fetch, asyncio.get_running_loop().time, asyncio.sleep)
    expected = ExpectedEnvironments(5.0, dict.fromkeys(listed.by_env, -math.inf))
    bindings = KnownBindings(MemoryJournal(), expected, lambda: 0.0, lambda: True)
    listing = EnvironmentListing(poller, bindings)
    await asyncio.gather(*(listing.refresh(asyncio.get_running_loop().time()) for _ in range(64)))
    assert listing.alias_index.find("a0") == ("e0",)
    assert compared == [listed]


async def test_row_whose_alias_cannot_be_read_prevents_creates(harness: Harness) -> None:
    """It may be the environment of a tenant, so that a missing alias proves nothing; the plan says so."""
    harness.sandbox.world.add("other")
    harness.sandbox.faults.missing("info_list.alias", path=LIST)
    report = await harness.provision(plain_tenants(1))
    assert not report.all_done
    assert "alias cannot be read" in report.tenants[0].summary
    assert harness.sandbox.count(CREATE) == 0


async def test_row_whose_alias_becomes_unreadable_stops_the_creates(harness: Harness) -> None:
    """A plan that was made before does not create on the strength of such a list."""
    harness.sandbox.world.add("other")
    async with harness.provisioner() as provisioner:
        plan = await provisioner.plan(plain_tenants(1))
        harness.sandbox.faults.missing("info_list.alias", path=LIST)
        await asyncio.sleep(6)
        report = await provisioner.apply(plan).wait()
    assert not report.all_done
    assert harness.sandbox.count(CREATE) == 0


async def test_unreadable_alias_of_a_known_environment_hinders_nothing(harness: Harness) -> None:
    """The journal binds it by its id: its tenant stays ready, and a new one gets an environment."""
    async with harness.provisioner() as provisioner:
        assert (await provisioner.apply(plain_tenants(1)).wait()).all_done
        (env,) = harness.sandbox.world.environments
        row = {"env": env, "status": "NORMAL"}
        text = json.dumps({"errcode": 0, "errmsg": "ok", "info_list": [row]})
        harness.sandbox.faults.script(LIST, [Fault(FaultKind.NOT_OBJECT, text=text)])
        plan = await provisioner.plan(plain_tenants(2))
    assert [each.action.value for each in plan.tenants] == ["ready", "create"]


async def test_outcome_check_does_not_trust_a_list_with_an_unreadable_alias(harness: Harness) -> None:
    """An ambiguous create is not sent again while its own row may be the one that cannot be read."""
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.DROP_AFTER)])
    harness.sandbox.faults.script(LIST, [None])
    harness.sandbox.faults.missing("info_list.alias", path=LIST)
    report = await harness.provision(plain_tenants(1), timeout=60.0)
    assert report.tenants[0].outcome is Outcome.UNKNOWN
    assert harness.sandbox.count(CREATE) == 1


def script_rows(harness: Harness, *rows: dict[str, object], times: int = 1) -> None:
    """Let the next *times* listings have exactly *rows*."""
    text = json.dumps({"errcode": 0, "errmsg": "ok", "info_list": rows})
    harness.sandbox.faults.script(LIST, [Fault(FaultKind.NOT_OBJECT, text=text)] * times)


OTHER = {"env": "e-other", "alias": "other", "status": "NORMAL"}
WITHOUT_ID = {"alias": "Mine", "status": "NORMAL"}


async def test_row_whose_id_cannot_be_read_has_its_alias(harness: Harness) -> None:
    """The alias is in use, so the tenant is in conflict; no other environment is created either."""
    script_rows(harness, OTHER, WITHOUT_ID)
    async with harness.provisioner() as provisioner:
        plan = await provisioner.plan([Tenant("a", alias="mine"), Tenant("b")])
    assert [each.action for each in plan.tenants] == [Action.CONFLICT] * 2
    assert "alias mine is in use by an environment whose id cannot be read" in plan.tenants[0].reason
    assert "id or alias cannot be read" in plan.tenants[1].reason


async def test_adopt_all_requires_that_all_ids_of_the_alias_can_be_read(harness: Harness) -> None:
    """Two environments have the alias, so which one is the tenant's is a decision."""
    script_rows(harness, OTHER | {"alias": "mine"}, WITHOUT_ID)
    async with harness.provisioner() as provisioner:
        plan = await provisioner.plan([Tenant("a", alias="mine")], adopt_all=True)
    assert (plan.tenants[0].action, plan.tenants[0].existing) == (Action.CONFLICT, ("e-other",))


@pytest.mark.parametrize("rows", [(OTHER, WITHOUT_ID), (OTHER | {"alias": "mine"}, WITHOUT_ID)], ids=["other", "same"])
async def test_outcome_check_does_not_trust_a_row_whose_id_cannot_be_read(
    harness: Harness, rows: tuple[dict[str, object], ...]
) -> None:
    """That row may be the result of the ambiguous create: no other environment is bound or created."""
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.DROP_AFTER)])
    harness.sandbox.faults.script(LIST, [None])
    script_rows(harness, *rows, times=1000)
    report = await harness.provision([Tenant("a", alias="mine")], timeout=300.0)
    assert (report.tenants[0].outcome, report.tenants[0].env) == (Outcome.UNKNOWN, None)
    assert harness.sandbox.count(CREATE) == 1


@pytest.mark.parametrize("odd", [{"alias": None}, {}], ids=str)
async def test_environment_without_an_alias_prevents_no_create(harness: Harness, odd: dict[str, object]) -> None:
    """One that was made in the console proves as much as one whose alias is empty."""
    script_rows(harness, OTHER, {"env": "e-console", "status": "NORMAL", **odd})
    async with harness.provisioner() as provisioner:
        plan = await provisioner.plan(plain_tenants(1))
    assert ([each.action for each in plan.tenants], plan.notes) == ([Action.CREATE], ())
