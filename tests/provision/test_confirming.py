"""Unconfirmed services: those that existed after an ambiguous request are confirmed by listing them."""

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


def lose_replies(rig: Rig, count: int = 1) -> None:
    """Lose the reply of the first *count* establish requests, after the service was created."""
    script = [step for _ in range(count) for step in (Fault(FaultKind.DROP_AFTER), None)]
    rig.box.faults.script(ESTABLISH, script)


@pytest.mark.parametrize("count", [1, 2])
async def test_listed_service_is_confirmed(rig: Rig, count: int) -> None:
    """One request confirms all unconfirmed services of an environment."""
    lose_replies(rig, count)
    entry = (await rig.provision(MINE)).tenants[0]
    assert (entry.outcome, entry.services, entry.unconfirmed) == (Outcome.DONE, ("api", "web"), ())
    assert (rig.box.count(SERVICE_LIST), rig.box.count(ESTABLISH)) == (1, 2 + count)


async def test_no_list_without_unconfirmed_services(rig: Rig) -> None:
    """Services with a clear reply cost no request."""
    assert (await rig.provision(MINE)).all_done
    assert rig.box.count(SERVICE_LIST) == 0


async def test_service_on_a_later_page_is_found(rig: Rig) -> None:
    """The offset of the next page is the number of services so far."""
    tenant = Tenant("a", alias="x")
    async with rig.provisioner() as provisioner:
        env = (await provisioner.apply([tenant]).wait()).tenants[0].env or ""
        for number in range(45):
            rig.box.world.establish(env, f"s{number}", {})
        lose_replies(rig)
        report = await provisioner.apply([attrs.evolve(tenant, services=[API])]).wait()
    assert report.tenants[0].outcome is Outcome.DONE
    offsets = [request.body.get("offset") for request in rig.box.seen if request.path == SERVICE_LIST]
    assert offsets == [None, 20, 40]


async def test_short_page_does_not_end_the_list(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next offset is the number of services so far, not a multiple of the page size."""
    containers = wxtcb.api.containers
    names = ("s0", "s1", "s2", "api")

    async def short_pages(_session, _env, *, offset=None):
        page = names[offset or 0 :][: 2 - bool(offset)]
        return containers.ContainerServices(
            cslist=tuple(containers.ContainerService(service_name=name, status="succ") for name in page), total=4
        )

    monkeypatch.setattr("wxtcb.provision.steps.services.get_cs_list", short_pages)
    lose_replies(rig)
    entry = (await rig.provision([Tenant("a", alias="x", services=[API])])).tenants[0]
    assert (entry.outcome, entry.unconfirmed) == (Outcome.DONE, ())


@pytest.mark.parametrize(
    ("fault", "max_requests"),
    [(Fault(FaultKind.ERRCODE, errcode=48001), 1), (Fault(FaultKind.BUSY), 8), (Fault(FaultKind.EMPTY), 8)],
)
async def test_failed_list_leaves_service_unconfirmed(rig: Rig, fault: Fault, max_requests: int) -> None:
    """The tenant is done, and has no problem."""
    lose_replies(rig)
    rig.box.faults.script(SERVICE_LIST, [fault] * 8)
    entry = (await rig.provision(MINE)).tenants[0]
    assert (entry.outcome, entry.unconfirmed, entry.problems) == (Outcome.UNCONFIRMED, ("api",), ())
    assert entry.done[-1] == SERVICES
    assert rig.box.count(SERVICE_LIST) == max_requests


async def test_later_run_confirms_without_establishing_again(rig: Rig) -> None:
    """A run that cannot confirm leaves it to the next one; a confirmed service is not listed again."""
    rig.box.world.getcslist_includes_cloudrun = False
    lose_replies(rig)
    async with rig.provisioner() as provisioner:
        outcomes = [(await provisioner.apply(MINE).wait()).tenants[0].outcome for _ in range(2)]
        sent = rig.box.count(ESTABLISH)
        rig.box.world.getcslist_includes_cloudrun = True
        steps = (await provisioner.plan(MINE)).tenants[0].steps
        outcomes += [(await provisioner.apply(MINE).wait()).tenants[0].outcome for _ in range(2)]
    assert outcomes == [Outcome.UNCONFIRMED, Outcome.UNCONFIRMED, Outcome.DONE, Outcome.DONE]
    assert steps == (SERVICES,)
    assert (rig.box.count(SERVICE_LIST), rig.box.count(ESTABLISH)) == (3, sent)


async def test_service_no_longer_requested_is_not_confirmed(rig: Rig) -> None:
    """Its state stays in the record, and costs no request."""
    rig.box.world.getcslist_includes_cloudrun = False
    lose_replies(rig)
    async with rig.provisioner() as provisioner:
        await provisioner.apply(MINE).wait()
        plan = await provisioner.plan([Tenant("a", alias="x", services=[WEB])])
    assert (plan.has_changes, rig.box.count(SERVICE_LIST)) == (False, 1)


async def test_endless_list_ends_after_twenty_pages(
    rigging: Rigging, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A platform that returns the same page for every offset is not polled forever."""
    pages = []

    async def same_page(_session, env, *, offset=None):
        pages.append(offset)
        return wxtcb.api.containers.ContainerServices(cslist=(wxtcb.api.containers.ContainerService(status="succ"),))

    monkeypatch.setattr("wxtcb.provision.steps.services.get_cs_list", same_page)
    journal = MemoryJournal()
    env = box.world.add("x")
    unconfirmed = {"api": ServiceState.UNCONFIRMED}
    await journal.commit(
        TenantRecord(tenant="a", alias="x", version=1, env=env, services=unconfirmed), HistoryEntry(0.0, "test")
    )
    async with rigging.session(box) as session, Provisioner(session, journal=journal) as provisioner:
        report = await provisioner.apply([Tenant("a", alias="x", services=[API])]).wait()
    assert (report.tenants[0].outcome, len(pages)) == (Outcome.UNCONFIRMED, 20)


async def test_cancel_does_not_wait_for_confirmation(rig: Rig) -> None:
    """No request is sent after the cancel, and the service stays done."""
    rig.box.faults.script(ESTABLISH, [Fault(FaultKind.DROP_AFTER), Fault(FaultKind.SLOW, seconds=5)])
    async with rig.provisioner() as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", services=[API])])
        await seen(rig.box, ESTABLISH, 2)
        await asyncio.sleep(0.01)
        await run.cancel()
    assert (run.report.tenants[0].outcome, rig.box.count(SERVICE_LIST)) == (Outcome.UNCONFIRMED, 0)
