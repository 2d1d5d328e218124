"""One journal with several processes: what another one changes is judged anew, and is never a failure of a tenant."""

from __future__ import annotations

import asyncio
import time

import attrs
import pytest

from wxtcb.provision import MemoryJournal, Outcome, StopReason, Tenant, event_stream
from wxtcb.provision.engine import Engine
from wxtcb.provision.events import EventsDropped, TenantFinished
from wxtcb.provision.journal import JournalConflict, JournalError
from wxtcb.provision.record import HistoryEntry, ServiceState
from wxtcb.sandbox import Fault, FaultKind

from .conftest import Harness
from .constants import CREATE, ESTABLISH, LIST, SHARE, WX1, WX2, plain_tenants, wait_for_requests

pytestmark = pytest.mark.virtual_time


class Interfering(MemoryJournal):
    """A journal in which another process changes a record right before the first commit that `meets` accepts."""

    meets = staticmethod(lambda _record: False)

    async def commit(self, record, entry, previous_owner=None, *, epoch=None):
        if self.meets(record):
            self.meets = lambda _record: False
            stored = (await self.load([record.tenant])).get(record.tenant)
            before = stored or attrs.evolve(record, version=0, env=None, intent=None, attempt=0)
            changed = attrs.evolve(before, version=before.version + 1, metadata={"by": "another process"})
            await super().commit(changed, HistoryEntry(0.0, "changed by another process"))
        return await super().commit(record, entry, previous_owner, epoch=epoch)


@pytest.mark.parametrize(
    "meets",
    [
        pytest.param(lambda record: record.intent is not None, id="intent"),
        pytest.param(lambda record: record.env is not None, id="binding"),
        pytest.param(lambda record: record.tenant == "b" and bool(record.links), id="share"),
        pytest.param(lambda record: bool(record.services), id="service"),
    ],
)
async def test_lost_race_is_no_failure(harness: Harness, meets) -> None:
    """The tenant goes on with the new record; no environment is created twice or lost."""
    journal = Interfering()
    journal.meets = meets
    tenants = [Tenant(name, alias=name, appids=[appid], services=["api"]) for name, appid in (("a", WX1), ("b", WX2))]
    report = await harness.provision(tenants, journal=journal)
    assert report.counts[Outcome.AWAITING] == 2
    assert harness.sandbox.count(CREATE) == len(harness.sandbox.world.environments) == 2
    assert [record.metadata for record in (await journal.load()).values()].count({"by": "another process"}) == 1


async def test_failed_listing_after_a_lost_race_fails_the_tenant(harness: Harness) -> None:
    """What the new record means cannot be judged without one."""
    journal = Interfering()
    journal.meets = lambda record: record.env is not None and not record.links and record.metadata == {}
    journal.meets = lambda record: bool(record.links)
    harness.sandbox.faults.script(SHARE, [Fault(FaultKind.SLOW, seconds=6)])
    async with harness.provisioner(journal=journal) as provisioner:
        run = provisioner.apply([Tenant("a", appids=[WX1])])
        await wait_for_requests(harness.sandbox, SHARE)
        harness.sandbox.faults.errcode(40097, path=LIST)
        report = await run
    assert (report.tenants[0].outcome, report.tenants[0].problems[0].step) == (Outcome.FAILED, "share")


async def test_two_live_processes_report_the_same(harness: Harness) -> None:
    """Both report every tenant as done, although creates are ambiguous; each environment is created once."""
    journal = MemoryJournal()
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.BUSY_AFTER), Fault(FaultKind.DROP_AFTER), None] * 5)
    reports = await asyncio.gather(
        *(harness.provision(plain_tenants(30), journal=journal, concurrency=4) for _ in range(2))
    )
    assert [report.done_count for report in reports] == [30, 30]
    assert len(harness.sandbox.world.environments) == 30


async def test_nothing_is_created_after_the_storage_lost_commits(harness: Harness) -> None:
    """An intent may be among them; the create that followed it can take effect for a while, and be listed later."""
    journal = MemoryJournal()
    journal.rolled_back_at = time.monotonic() - 1e6
    await harness.provision([Tenant("long ago")], journal=journal, settle=120.0)
    harness.sandbox.seen.clear()
    journal.rolled_back_at = time.monotonic()
    started = asyncio.get_running_loop().time()
    report = await harness.provision(plain_tenants(2), journal=journal, settle=120.0)
    created = [seen.at - started for seen in harness.sandbox.seen if seen.path == CREATE]
    assert report.all_done
    assert min(created) > 160


async def test_no_intent_is_stored_while_creates_are_paused(harness: Harness) -> None:
    """A tenant that would only wait for the platform's minute limit changes nothing in the journal."""
    journal = MemoryJournal()
    harness.sandbox.faults.script(CREATE, [None, None, Fault(FaultKind.ERRCODE, errcode=45011)])
    async with harness.provisioner(journal=journal, concurrency=1) as provisioner:
        run = provisioner.apply(plain_tenants(6))
        report = await run
        histories = await journal.history([tenant.name for tenant in plain_tenants(6)])
    assert report.all_done
    intents = sum("intended" in entry.change for entries in histories.values() for entry in entries)
    assert intents <= 7


async def test_run_waits_for_another_process_that_provisions(harness: Harness) -> None:
    """If the journal requires an election, a run waits as long as the journal says, and then sends nothing."""
    journal = MemoryJournal()
    journal.wait = 5.0
    term = await journal.election.acquire("other", 1e6)
    report = await harness.provision(plain_tenants(1), journal=journal)
    assert report.stop_reason is StopReason.FATAL_ERROR
    assert "another process (other) provisions" in report.stop_message
    assert harness.sandbox.count(LIST) == 0
    async with harness.provisioner(journal=journal) as provisioner:
        run = provisioner.apply(plain_tenants(1))
        await asyncio.sleep(1)
        await run.cancel()
        assert run.report.stop_reason is StopReason.CANCELLED
        runs = [provisioner.apply(plain_tenants(2)[number:]) for number in range(2)]
        await asyncio.sleep(1)
        await journal.election.release(term)
        reports = await asyncio.gather(*runs)
        assert await journal.election.leader() is None
    assert all(report.all_done for report in reports)


async def test_outcome_of_a_tenant_that_is_not_done_is_stored(harness: Harness) -> None:
    """Any process can ask for it; it is cleared when work on the tenant goes on."""
    journal = MemoryJournal()
    harness.sandbox.faults.script(SHARE, [Fault(FaultKind.ERRCODE, errcode=40097)])
    tenants = [Tenant("a", appids=[WX1])]
    report = await harness.provision(tenants, journal=journal)
    record = (await journal.load())["a"]
    assert (record.outcome, record.problem) == ("failed", report.tenants[0].summary)
    assert (await journal.history(["a"]))["a"][-1].change.startswith("failed: share")
    await harness.provision(tenants, journal=journal)
    record = (await journal.load())["a"]
    assert (record.outcome, record.problem) == ("", "")


async def test_conflict_before_any_create_does_not_count_as_known(harness: Harness) -> None:
    """A tenant whose only record is a conflict is still new: an absent one may be the same under another name."""
    async with harness.provisioner() as provisioner:
        await provisioner.apply([Tenant("a", alias="x")])
        harness.sandbox.world.add("y")
        await provisioner.apply([Tenant("b", alias="y")])
        plan = await provisioner.plan([Tenant("b", alias="z")], all_tenants=True)
    assert "was it renamed" in plan.tenants[0].reason


async def test_slow_subscriber_loses_old_events_and_learns_how_many(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of a run does not grow with what is not read; the report is complete."""
    monkeypatch.setattr(event_stream, "MAX_UNREAD", 3)
    async with harness.provisioner() as provisioner:
        run = provisioner.apply(plain_tenants(5))
        events = run.events()
        report = await run
        first, *others = [event async for event in events]
    assert isinstance(first, EventsDropped)
    assert (first.count, len(others)) == (17, 3)
    assert isinstance(others[-1], TenantFinished)
    assert report.done_count == 5


class Away:
    """An election whose storage is away."""

    async def acquire(self, _holder, _lease):
        raise JournalError("the storage is away")


async def test_journal_that_is_away_stops_the_run(harness: Harness) -> None:
    """A storage that cannot say who is elected is an error of every tenant."""
    journal = MemoryJournal()
    journal.wait, journal.election = 0.0, Away()
    report = await harness.provision(plain_tenants(1), journal=journal)
    assert (report.stop_reason, report.stop_message) == (StopReason.FATAL_ERROR, "the storage is away")


async def test_fail_over_that_an_intent_meets_delays_its_create(harness: Harness) -> None:
    """The commit of the intent may be the first statement on the new server: the create is not sent at once."""

    class FailingOver(MemoryJournal):
        async def commit(self, record, entry, previous_owner=None, *, epoch=None):
            if record.intent and self.rolled_back_at is None:
                self.rolled_back_at = time.monotonic()
            return await super().commit(record, entry, previous_owner, epoch=epoch)

    started = asyncio.get_running_loop().time()
    report = await harness.provision(plain_tenants(1), journal=FailingOver(), settle=120.0)
    (created,) = [seen.at - started for seen in harness.sandbox.seen if seen.path == CREATE]
    assert report.all_done
    assert created > 160


@pytest.mark.parametrize("seconds", [6.02, 9.0], ids=["pause", "listing"])
async def test_run_cancelled_while_a_tenant_begins_again_is_unfinished(harness: Harness, seconds: float) -> None:
    """Neither the pause before it nor the listing for it holds up the end."""
    journal = Interfering()
    journal.meets = lambda record: ServiceState.DONE in record.services.values()
    harness.sandbox.faults.script(ESTABLISH, [Fault(FaultKind.SLOW, seconds=6)])
    async with harness.provisioner(journal=journal) as provisioner:
        run = provisioner.apply([Tenant("a", services=["api"])])
        await wait_for_requests(harness.sandbox, ESTABLISH)
        harness.sandbox.faults.slow(20, path=LIST)
        await asyncio.sleep(seconds)
        async with asyncio.timeout(1):
            await run.cancel()
    assert (run.report.tenants[0].outcome, run.report.tenants[0].step) == (Outcome.UNFINISHED, "services")


async def test_record_changed_once_more_while_a_tenant_begins_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its new plan would change is rejected: it begins again once more, and ends done."""
    journal, real, rejections = Interfering(), Engine.commit_changes, [JournalConflict("changed")]
    journal.meets = lambda record: bool(record.services)

    async def commit_changes(engine, plan):
        changed = any(record.metadata for record in (await journal.load()).values())
        if changed and rejections:
            raise rejections.pop()
        await real(engine, plan)

    monkeypatch.setattr(Engine, "commit_changes", commit_changes)
    report = await harness.provision([Tenant("a", services=["api"])], journal=journal)
    assert (report.all_done, rejections) == (True, [])
