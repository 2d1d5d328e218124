"""Unconfirmed services: those that existed after an ambiguous request are confirmed by listing them."""

from __future__ import annotations

import asyncio

import attrs
import pytest

import wxtcb
from wxtcb.provision import MemoryJournal, Outcome, Provisioner, Tenant, TenantRecord
from wxtcb.provision.record import HistoryEntry, ServiceState
from wxtcb.sandbox import Fault, FaultKind, Sandbox

from .conftest import Harness, SessionFactory
from .constants import API, ESTABLISH, SERVICE_LIST, SERVICES, WEB, wait_for_requests

pytestmark = pytest.mark.virtual_time

MINE = [Tenant("a", alias="x", services=[API, WEB])]


def lose_replies(harness: Harness, count: int = 1) -> None:
    """Lose the reply of the first *count* establish requests, after the service was created."""
    script = [step for _ in range(count) for step in (Fault(FaultKind.DROP_AFTER), None)]
    harness.sandbox.faults.script(ESTABLISH, script)


@pytest.mark.parametrize("count", [1, 2])
async def test_listed_service_is_confirmed(harness: Harness, count: int) -> None:
    """One request confirms all unconfirmed services of an environment."""
    lose_replies(harness, count)
    entry = (await harness.provision(MINE)).tenants[0]
    assert (entry.outcome, entry.services, entry.unconfirmed) == (Outcome.DONE, ("api", "web"), ())
    assert (harness.sandbox.count(SERVICE_LIST), harness.sandbox.count(ESTABLISH)) == (1, 2 + count)


async def test_no_list_without_unconfirmed_services(harness: Harness) -> None:
    """Services with a clear reply cost no request."""
    assert (await harness.provision(MINE)).all_done
    assert harness.sandbox.count(SERVICE_LIST) == 0


async def test_service_on_a_later_page_is_found(harness: Harness) -> None:
    """The offset of the next page is the number of services so far."""
    tenant = Tenant("a", alias="x")
    async with harness.provisioner() as provisioner:
        env = (await provisioner.apply([tenant]).wait()).tenants[0].env or ""
        for number in range(45):
            harness.sandbox.world.establish(env, f"s{number}", {})
        lose_replies(harness)
        report = await provisioner.apply([attrs.evolve(tenant, services=[API])]).wait()
    assert report.tenants[0].outcome is Outcome.DONE
    offsets = [request.body.get("offset") for request in harness.sandbox.seen if request.path == SERVICE_LIST]
    assert offsets == [None, 20, 40]


async def test_short_page_does_not_end_the_list(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next offset is the number of services so far, not a multiple of the page size."""
    containers = wxtcb.api.containers
    names = ("s0", "s1", "s2", "api")

    async def short_pages(_session, _env, *, offset=None):
        page = names[offset or 0 :][: 2 - bool(offset)]
        return containers.ContainerServices(
            cslist=tuple(containers.ContainerService(service_name=name, status="succ") for name in page), total=4
        )

    monkeypatch.setattr("wxtcb.provision.steps.services.get_cs_list", short_pages)
    lose_replies(harness)
    entry = (await harness.provision([Tenant("a", alias="x", services=[API])])).tenants[0]
    assert (entry.outcome, entry.unconfirmed) == (Outcome.DONE, ())


@pytest.mark.parametrize(
    ("fault", "max_requests"),
    [(Fault(FaultKind.ERRCODE, errcode=48001), 1), (Fault(FaultKind.BUSY), 8), (Fault(FaultKind.EMPTY), 8)],
)
async def test_failed_list_leaves_service_unconfirmed(harness: Harness, fault: Fault, max_requests: int) -> None:
    """The tenant is done, and has no problem."""
    lose_replies(harness)
    harness.sandbox.faults.script(SERVICE_LIST, [fault] * 8)
    entry = (await harness.provision(MINE)).tenants[0]
    assert (entry.outcome, entry.unconfirmed, entry.problems) == (Outcome.UNCONFIRMED, ("api",), ())
    assert entry.done[-1] == SERVICES
    assert harness.sandbox.count(SERVICE_LIST) == max_requests


async def test_later_run_confirms_without_establishing_again(harness: Harness) -> None:
    """A run that cannot confirm leaves it to the next one; a confirmed service is not listed again."""
    harness.sandbox.world.getcslist_includes_cloudrun = False
    lose_replies(harness)
    async with harness.provisioner() as provisioner:
        outcomes = [(await provisioner.apply(MINE).wait()).tenants[0].outcome for _ in range(2)]
        sent = harness.sandbox.count(ESTABLISH)
        harness.sandbox.world.getcslist_includes_cloudrun = True
        steps = (await provisioner.plan(MINE)).tenants[0].steps
        outcomes += [(await provisioner.apply(MINE).wait()).tenants[0].outcome for _ in range(2)]
    assert outcomes == [Outcome.UNCONFIRMED, Outcome.UNCONFIRMED, Outcome.DONE, Outcome.DONE]
    assert steps == (SERVICES,)
    assert (harness.sandbox.count(SERVICE_LIST), harness.sandbox.count(ESTABLISH)) == (3, sent)


async def test_service_no_longer_requested_is_not_confirmed(harness: Harness) -> None:
    """Its state stays in the record, and costs no request."""
    harness.sandbox.world.getcslist_includes_cloudrun = False
    lose_replies(harness)
    async with harness.provisioner() as provisioner:
        await provisioner.apply(MINE).wait()
        plan = await provisioner.plan([Tenant("a", alias="x", services=[WEB])])
    assert (plan.has_changes, harness.sandbox.count(SERVICE_LIST)) == (False, 1)


async def test_endless_list_ends_after_twenty_pages(
    session_factory: SessionFactory, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A platform that returns the same page for every offset is not polled forever."""
    pages = []

    async def same_page(_session, env, *, offset=None):
        pages.append(offset)
        return wxtcb.api.containers.ContainerServices(cslist=(wxtcb.api.containers.ContainerService(status="succ"),))

    monkeypatch.setattr("wxtcb.provision.steps.services.get_cs_list", same_page)
    journal = MemoryJournal()
    env = sandbox.world.add("x")
    unconfirmed = {"api": ServiceState.UNCONFIRMED}
    await journal.commit(
        TenantRecord(tenant="a", alias="x", version=1, env=env, services=unconfirmed), HistoryEntry(0.0, "test")
    )
    async with session_factory.session(sandbox) as session, Provisioner(session, journal=journal) as provisioner:
        report = await provisioner.apply([Tenant("a", alias="x", services=[API])]).wait()
    assert (report.tenants[0].outcome, len(pages)) == (Outcome.UNCONFIRMED, 20)


async def test_cancel_does_not_wait_for_confirmation(harness: Harness) -> None:
    """No request is sent after the cancel, and the service stays done."""
    harness.sandbox.faults.script(ESTABLISH, [Fault(FaultKind.DROP_AFTER), Fault(FaultKind.SLOW, seconds=5)])
    async with harness.provisioner() as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", services=[API])])
        await wait_for_requests(harness.sandbox, ESTABLISH, 2)
        await asyncio.sleep(0.01)
        await run.cancel()
    assert (run.report.tenants[0].outcome, harness.sandbox.count(SERVICE_LIST)) == (Outcome.UNCONFIRMED, 0)
