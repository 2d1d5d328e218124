"""Services that were there after a send in doubt: done for certain once the platform lists them."""

from __future__ import annotations

import asyncio

import attrs
import pytest

import wxtcb
from wxtcb.provision import MemoryJournal, Outcome, Provisioner, Tenant, TenantRecord
from wxtcb.provision.journal import HistoryEntry, ServiceState
from wxtcb.sandbox import Fault, FaultKind, Sandbox

from .conftest import Rig, Rigging
from .constants import API, ESTABLISH, SERVICE_LIST, SERVICES, WEB, seen

pytestmark = pytest.mark.virtual_time

MINE = [Tenant("a", alias="x", services=[API, WEB])]


def doubt(rig: Rig, count: int = 1) -> None:
    """Let the first answers to establishing be lost, each after the service was made."""
    script = [step for _ in range(count) for step in (Fault(FaultKind.DROP_AFTER), None)]
    rig.box.faults.script(ESTABLISH, script)


@pytest.mark.parametrize("count", [1, 2])
async def test_a_listed_service_is_done_for_certain(rig: Rig, count: int) -> None:
    """One read confirms all that are unconfirmed in an environment."""
    doubt(rig, count)
    entry = (await rig.provision(MINE)).tenants[0]
    assert (entry.outcome, entry.services, entry.unconfirmed) == (Outcome.DONE, ("api", "web"), ())
    assert (rig.box.count(SERVICE_LIST), rig.box.count(ESTABLISH)) == (1, 2 + count)


async def test_nothing_is_listed_where_nothing_is_in_doubt(rig: Rig) -> None:
    """Services with a clear answer cost no read."""
    assert (await rig.provision(MINE)).all_done
    assert rig.box.count(SERVICE_LIST) == 0


async def test_a_service_on_a_later_page_is_found(rig: Rig) -> None:
    """The list is read on from as many as came, whatever a page holds."""
    tenant = Tenant("a", alias="x")
    async with rig.provisioner() as provisioner:
        env = (await provisioner.apply([tenant]).wait()).tenants[0].env or ""
        for number in range(45):
            rig.box.world.establish(env, f"s{number}", {})
        doubt(rig)
        report = await provisioner.apply([attrs.evolve(tenant, services=[API])]).wait()
    assert report.tenants[0].outcome is Outcome.DONE
    offsets = [request.body.get("offset") for request in rig.box.seen if request.path == SERVICE_LIST]
    assert offsets == [None, 20, 40]


async def test_a_short_page_in_the_middle_is_not_the_end(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is asked for from as many as came so far, not from as many as a page may hold."""
    containers = wxtcb.api.containers
    names = ("s0", "s1", "s2", "api")

    async def short_pages(_session, _env, *, offset=None):
        page = names[offset or 0 :][: 2 - bool(offset)]
        return containers.ContainerServices(
            cslist=tuple(containers.ContainerService(service_name=name, status="succ") for name in page), total=4
        )

    monkeypatch.setattr("wxtcb.provision.steps.services.get_cs_list", short_pages)
    doubt(rig)
    entry = (await rig.provision([Tenant("a", alias="x", services=[API])])).tenants[0]
    assert (entry.outcome, entry.unconfirmed) == (Outcome.DONE, ())


@pytest.mark.parametrize(
    ("trouble", "most"),
    [(Fault(FaultKind.ERRCODE, errcode=48001), 1), (Fault(FaultKind.BUSY), 8), (Fault(FaultKind.EMPTY), 8)],
)
async def test_a_list_that_fails_leaves_a_service_unconfirmed(rig: Rig, trouble: Fault, most: int) -> None:
    """It is done all the same, and the tenant has no problem."""
    doubt(rig)
    rig.box.faults.script(SERVICE_LIST, [trouble] * 8)
    entry = (await rig.provision(MINE)).tenants[0]
    assert (entry.outcome, entry.unconfirmed, entry.problems) == (Outcome.UNCONFIRMED, ("api",), ())
    assert entry.done[-1] == SERVICES
    assert rig.box.count(SERVICE_LIST) == most


async def test_a_later_run_confirms_without_establishing(rig: Rig) -> None:
    """The plan names the step; a run that cannot confirm leaves it to the next, and once done it is not asked again."""
    rig.box.world.getcslist_includes_cloudrun = False
    doubt(rig)
    async with rig.provisioner() as provisioner:
        outcomes = [(await provisioner.apply(MINE).wait()).tenants[0].outcome for _ in range(2)]
        sent = rig.box.count(ESTABLISH)
        rig.box.world.getcslist_includes_cloudrun = True
        steps = (await provisioner.plan(MINE)).tenants[0].steps
        outcomes += [(await provisioner.apply(MINE).wait()).tenants[0].outcome for _ in range(2)]
    assert outcomes == [Outcome.UNCONFIRMED, Outcome.UNCONFIRMED, Outcome.DONE, Outcome.DONE]
    assert steps == (SERVICES,)
    assert (rig.box.count(SERVICE_LIST), rig.box.count(ESTABLISH)) == (3, sent)


async def test_a_service_that_is_wanted_no_more_is_not_asked_for(rig: Rig) -> None:
    """What the record keeps of it stays, and costs no read."""
    rig.box.world.getcslist_includes_cloudrun = False
    doubt(rig)
    async with rig.provisioner() as provisioner:
        await provisioner.apply(MINE).wait()
        plan = await provisioner.plan([Tenant("a", alias="x", services=[WEB])])
    assert (plan.has_changes, rig.box.count(SERVICE_LIST)) == (False, 1)


async def test_a_list_without_an_end_is_left(rigging: Rigging, box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform that gives the same page for every offset is asked twenty times and no more."""
    pages = []

    async def same_page(_session, env, *, offset=None):
        pages.append(offset)
        return wxtcb.api.containers.ContainerServices(cslist=(wxtcb.api.containers.ContainerService(status="succ"),))

    monkeypatch.setattr("wxtcb.provision.steps.services.get_cs_list", same_page)
    journal = MemoryJournal()
    env = box.world.add("x")
    unconfirmed = {"api": ServiceState.UNCONFIRMED}
    await journal.commit(
        TenantRecord(tenant="a", alias="x", version=1, env=env, services=unconfirmed), HistoryEntry(0.0, "noted")
    )
    async with rigging.session(box) as session, Provisioner(session, journal=journal) as provisioner:
        report = await provisioner.apply([Tenant("a", alias="x", services=[API])]).wait()
    assert (report.tenants[0].outcome, len(pages)) == (Outcome.UNCONFIRMED, 20)


async def test_a_cancel_does_not_wait_for_a_confirmation(rig: Rig) -> None:
    """Nothing is asked once the run was cancelled, and the service stays done."""
    rig.box.faults.script(ESTABLISH, [Fault(FaultKind.DROP_AFTER), Fault(FaultKind.SLOW, seconds=5)])
    async with rig.provisioner() as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", services=[API])])
        await seen(rig.box, ESTABLISH, 2)
        await asyncio.sleep(0.01)
        await run.cancel()
    assert (run.report.tenants[0].outcome, rig.box.count(SERVICE_LIST)) == (Outcome.UNCONFIRMED, 0)
