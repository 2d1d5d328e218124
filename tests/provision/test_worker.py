"""Workers: whoever is elected provisions what is desired."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from wxtcb.errors import InvalidArgument
from wxtcb.provision import STEPS, MemoryJournal, Provisioner, ProvisioningClient, Step, Tenant
from wxtcb.provision.context import StepContext
from wxtcb.provision.desired import Decision, DesiredState, Submit
from wxtcb.provision.election import Term
from wxtcb.provision.engine import Engine
from wxtcb.provision.events import ElectionUnavailable, RunStopped, TermEnded, TermStarted
from wxtcb.provision.journal import JournalConflict, JournalError, Stale
from wxtcb.provision.plan import Plan
from wxtcb.provision.record import TenantRecord
from wxtcb.provision.report import StopReason
from wxtcb.sandbox import Fault, FaultKind, ReadyPolicy

from .conftest import EPOCH, Harness
from .constants import API, CREATE, LIST, SHARE, WX1, plain_tenants, wait_for_requests

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def journal() -> MemoryJournal:
    """Return a journal whose storage has the time of the loop."""
    return MemoryJournal(clock=lambda: EPOCH + asyncio.get_running_loop().time())


@contextlib.asynccontextmanager
async def serving(harness: Harness, journal: MemoryJournal, **options: object) -> AsyncIterator[Provisioner]:
    """Serve until the end of the block."""
    async with harness.provisioner(journal=journal, **options) as provisioner:
        task = asyncio.create_task(provisioner.serve())
        try:
            yield provisioner
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def follow_to_end(client: ProvisioningClient, name: str) -> DesiredState:
    """Return the state in which a tenant ends."""
    states = [status.state async for status in client.follow(name)]
    return states[-1]


async def test_submitted_tenants_are_provisioned(harness: Harness, journal: MemoryJournal) -> None:
    """Each client that follows one sees its end; the environments, links and services are those of a run."""
    async with serving(harness, journal):
        client = ProvisioningClient(journal)
        tenants = [Tenant("a", appids=[WX1], services=[API]), *plain_tenants(50)]
        await client.submit(tenants)
        states = await asyncio.gather(*(follow_to_end(client, tenant.name) for tenant in tenants))
        status = await client.status("a")
    assert {*states} == {DesiredState.DONE}
    assert len(harness.sandbox.world.environments) == 51
    assert (list(status.services), len(status.links)) == (["api"], 1)


async def wait_for_state(client: ProvisioningClient, name: str, state: DesiredState) -> None:
    """Wait until a tenant is in a state."""
    for _ in range(10_000):
        status = await client.status(name)
        if status is not None and status.state is state:
            return
        await asyncio.sleep(1)
    raise AssertionError(f"{name}: {status}")


async def test_quota_is_a_pause_until_midnight(harness: Harness, journal: MemoryJournal) -> None:
    """All tenants wait, also new ones, and are provisioned after the midnight of the platform."""
    harness.sandbox.faults.script(CREATE, [None, *[Fault(FaultKind.ERRCODE, errcode=45009)] * 16])
    events = []
    async with harness.provisioner(journal=journal) as provisioner:
        serving = asyncio.create_task(provisioner.serve(on_event=events.append))
        client = ProvisioningClient(journal)
        await client.submit(plain_tenants(5))
        await asyncio.sleep(60)
        (stopped,) = [event for event in events if isinstance(event, RunStopped)]
        assert stopped.reason is StopReason.QUOTA_EXCEEDED
        created = harness.sandbox.count(CREATE)
        await client.submit([Tenant("late")])
        await asyncio.sleep(30)
        assert harness.sandbox.count(CREATE) == created
        assert (await client.counts())[DesiredState.WAITING] == 5
        harness.sandbox.faults.clear()
        await asyncio.sleep(86_400)
        assert (await client.counts())[DesiredState.DONE] == 6
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
    assert [type(event) for event in events if isinstance(event, TermStarted | TermEnded)] == [TermStarted, TermEnded]


async def test_cancelled_worker_hands_over(harness: Harness, journal: MemoryJournal) -> None:
    """Another process is elected within a second, although a create of the first one is still without a response.

    The response that arrives afterwards is recorded; nothing is created twice.
    """
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.SLOW, seconds=20)])
    elected = asyncio.Event()

    def on_event(event: object) -> None:
        if isinstance(event, TermStarted):
            elected.set()

    async with harness.provisioner(journal=journal) as first, harness.provisioner(journal=journal) as second:
        tasks = [asyncio.create_task(first.serve())]
        client = ProvisioningClient(journal)
        await client.submit(plain_tenants(3))
        await wait_for_requests(harness.sandbox, CREATE, 3)
        tasks.append(asyncio.create_task(second.serve(on_event=on_event)))
        await asyncio.sleep(2)
        assert not elected.is_set()
        tasks[0].cancel()
        async with asyncio.timeout(1):
            await elected.wait()
        for tenant in plain_tenants(3):
            await wait_for_state(client, tenant.name, DesiredState.DONE)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert harness.sandbox.count(CREATE) == len(harness.sandbox.world.environments) == 3


@pytest.mark.parametrize("kind", [FaultKind.BUSY, FaultKind.BUSY_AFTER])
async def test_worker_that_is_cancelled_during_a_check_hands_over(
    harness: Harness, journal: MemoryJournal, kind: FaultKind
) -> None:
    """The next worker checks the outcome of the create; until then the tenant waits, and needs no person."""
    harness.sandbox.faults.script(CREATE, [Fault(kind)])
    client = ProvisioningClient(journal)
    async with serving(harness, journal, settle=60.0):
        await client.submit([Tenant("a")])
        await wait_for_requests(harness.sandbox, CREATE, 1)
        # The create has got its response, but its outcome is checked only after the propagation delay.
        await asyncio.sleep(1)
    status = await client.status("a")
    assert status is not None
    assert (status.state, status.env) == (DesiredState.WAITING, None)
    async with serving(harness, journal):
        assert await follow_to_end(client, "a") is DesiredState.DONE
    assert len(harness.sandbox.world.environments) == 1


async def test_worker_that_cannot_renew_its_term_stops(harness: Harness, journal: MemoryJournal) -> None:
    """Another one was elected meanwhile: nothing more is sent, and what it stores is rejected by its epoch."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(60)
    events = []
    async with harness.provisioner(journal=journal, lease=9.0) as provisioner:
        task = asyncio.create_task(provisioner.serve(on_event=events.append))
        client = ProvisioningClient(journal)
        await client.submit(plain_tenants(3))
        await wait_for_requests(harness.sandbox, CREATE, 3)
        term = await journal.election.leader()
        assert term is not None
        # As after a pause of this process for longer than its lease.
        journal.election._clock = lambda: EPOCH + 60 + asyncio.get_running_loop().time()
        other = await journal.election.acquire("other", 30.0)
        assert other is not None
        await asyncio.sleep(10)
        ended = [event for event in events if isinstance(event, TermEnded)]
        (reason,) = [event.reason for event in ended]
        assert "another process" in reason
        seen = len(harness.sandbox.seen)
        await asyncio.sleep(15)
        assert len(harness.sandbox.seen) == seen
        await journal.election.release(other)
        for tenant in plain_tenants(3):
            await wait_for_state(client, tenant.name, DesiredState.DONE)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert len(harness.sandbox.world.environments) == 3


async def test_decisions_are_carried_out(harness: Harness, journal: MemoryJournal) -> None:
    """A refused one needs attention with the reason; an adoption and a forgotten environment let the tenant go on."""
    env = harness.sandbox.world.add("a0")
    (tenant,) = plain_tenants(1)
    async with serving(harness, journal):
        client = ProvisioningClient(journal)
        await client.submit([tenant])
        await wait_for_state(client, tenant.name, DesiredState.NEEDS_ATTENTION)
        status = await client.status(tenant.name)
        assert status.outcome == "conflict"
        assert env in status.problem
        await client.decide(tenant.name, adopt="env-unknown")
        await wait_for_state(client, tenant.name, DesiredState.NEEDS_ATTENTION)
        assert "lists no such environment" in (await client.status(tenant.name)).problem
        await client.decide(tenant.name, adopt=env)
        await wait_for_state(client, tenant.name, DesiredState.DONE)
        status = await client.status(tenant.name)
        assert (status.env, status.outcome, status.problem) == (env, "", "")
        harness.sandbox.world.remove(env)
        await client.decide(tenant.name, forget=env)
        await wait_for_state(client, tenant.name, DesiredState.DONE)
    assert harness.sandbox.count(CREATE) == 1
    assert (await client.status(tenant.name)).env != env


async def test_transient_failure_is_tried_again(harness: Harness, journal: MemoryJournal) -> None:
    """After a minute, then less and less often; a failure that is not transient needs attention at once."""
    harness.sandbox.faults.script(SHARE, [Fault(FaultKind.DROP)] * 8)
    async with serving(harness, journal):
        client = ProvisioningClient(journal)
        await client.submit([Tenant("a", appids=[WX1])])
        await asyncio.sleep(30)
        status = await client.status("a")
        assert (status.state, status.tries, status.outcome) == (DesiredState.WAITING, 1, "failed")
        assert status.next_attempt is not None
        await wait_for_state(client, "a", DesiredState.DONE)
        assert (await client.status("a")).tries == 0
        harness.sandbox.faults.errcode(40097, path=SHARE)
        await client.submit([Tenant("b", appids=[WX1])])
        await wait_for_state(client, "b", DesiredState.NEEDS_ATTENTION)
    assert (await client.status("b")).outcome == "failed"


async def test_cancelled_tenant_begins_no_further_step(harness: Harness, journal: MemoryJournal) -> None:
    """Its environment stays; submitted again, the tenant goes on with it."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(60)
    tenant = Tenant("a", appids=[WX1])
    async with serving(harness, journal):
        client = ProvisioningClient(journal)
        await client.submit([tenant])
        await wait_for_requests(harness.sandbox, CREATE)
        assert await client.cancel("a")
        await asyncio.sleep(300)
        status = await client.status("a")
        assert status.state is DesiredState.CANCELLED
        assert status.env in harness.sandbox.world.environments
        assert harness.sandbox.count(SHARE) == 0
        await client.submit([tenant])
        await wait_for_state(client, "a", DesiredState.DONE)
    assert (harness.sandbox.count(CREATE), harness.sandbox.count(SHARE)) == (1, 1)


async def test_tenant_changed_under_way_ends_with_the_change(harness: Harness, journal: MemoryJournal) -> None:
    """The present attempt is finished, and its end does not count as the end of the new revision."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(60)
    async with serving(harness, journal):
        client = ProvisioningClient(journal)
        await client.submit([Tenant("a")])
        await wait_for_requests(harness.sandbox, CREATE)
        await client.submit([Tenant("a", services=[API])])
        await wait_for_state(client, "a", DesiredState.DONE)
    assert list((await client.status("a")).services) == ["api"]
    assert harness.sandbox.count(CREATE) == 1


async def test_drain_ends_when_nothing_is_due(harness: Harness, journal: MemoryJournal) -> None:
    """It says whether it was elected, and when to come back; the next one can be elected at once."""
    async with harness.provisioner(journal=journal) as provisioner:
        client = ProvisioningClient(journal)
        await client.submit(plain_tenants(3))
        drained = await provisioner.drain()
        assert (drained.elected, drained.waiting, drained.retry_after) == (True, 0, None)
        harness.sandbox.faults.script(SHARE, [Fault(FaultKind.DROP)] * 8)
        await client.submit([Tenant("a", appids=[WX1])])
        drained = await provisioner.drain()
        assert (drained.elected, drained.waiting) == (True, 1)
        assert drained.retry_after is not None
        term = await journal.election.acquire("other", 30.0)
        assert (await provisioner.drain()).elected is False
        await journal.election.release(term)
        harness.sandbox.faults.script(CREATE, [Fault(FaultKind.ERRCODE, errcode=45009)])
        await client.submit([Tenant("b")])
        drained = await provisioner.drain()
        assert (drained.waiting, drained.retry_after.hour) == (2, 16)


async def test_drain_that_is_deposed_leaves_the_rest_to_the_next_term(harness: Harness, journal: MemoryJournal) -> None:
    """A create whose outcome is unknown needs no person: the next elected process finds out what became of it."""
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.HANG_AFTER)])
    async with harness.provisioner(journal=journal, grace=1.0) as provisioner:
        client = ProvisioningClient(journal)
        await client.submit(plain_tenants(1))
        draining = asyncio.create_task(provisioner.drain())
        await wait_for_requests(harness.sandbox, CREATE)
        leader = await journal.election.leader()
        await journal.election.release(Term(leader.epoch, 30.0))
        other = await journal.election.acquire("other", 30.0)
        assert (await draining).elected is False
        assert (await client.counts())[DesiredState.WAITING] == 1
        await journal.election.release(other)
        assert (await provisioner.drain()).waiting == 0
    assert (await client.counts())[DesiredState.DONE] == 1
    assert harness.sandbox.count(CREATE) == 1


async def test_fatal_error_lets_another_process_try(harness: Harness, journal: MemoryJournal) -> None:
    """The term ends, and this process is a candidate again after a pause."""
    harness.sandbox.faults.script(LIST, [Fault(FaultKind.ERRCODE, errcode=61004)])
    events = []
    async with harness.provisioner(journal=journal) as provisioner:
        task = asyncio.create_task(provisioner.serve(on_event=events.append))
        client = ProvisioningClient(journal)
        await client.submit(plain_tenants(2))
        await asyncio.sleep(30)
        assert await journal.election.leader() is None
        for tenant in plain_tenants(2):
            await wait_for_state(client, tenant.name, DesiredState.DONE)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert sum(isinstance(event, TermStarted) for event in events) == 2


async def test_fatal_error_is_no_failure_of_the_tenant_that_met_it(harness: Harness, journal: MemoryJournal) -> None:
    """It waits for the next term, like the others, and needs no decision."""
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.ERRCODE, errcode=61004)])
    async with serving(harness, journal):
        client = ProvisioningClient(journal)
        await client.submit(plain_tenants(2))
        await asyncio.sleep(30)
        assert (await client.counts())[DesiredState.NEEDS_ATTENTION] == 0
        for tenant in plain_tenants(2):
            await wait_for_state(client, tenant.name, DesiredState.DONE)


async def test_unknown_create_at_the_end_of_a_term_needs_no_decision(harness: Harness, journal: MemoryJournal) -> None:
    """The next process finds out what became of it, and the tenant is done with one environment."""
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.DROP_AFTER)])
    (tenant,) = plain_tenants(1)
    client = ProvisioningClient(journal)
    async with serving(harness, journal):
        await client.submit([tenant])
        await wait_for_requests(harness.sandbox, CREATE)
        await asyncio.sleep(5)
    status = await client.status(tenant.name)
    assert (status.state, status.outcome) == (DesiredState.WAITING, "unknown")
    async with serving(harness, journal):
        await wait_for_state(client, tenant.name, DesiredState.DONE)
    assert len(harness.sandbox.world.environments) == 1


async def test_journal_without_an_election_cannot_be_served(harness: Harness) -> None:
    """The error names journals that can."""

    class Plain:
        durable, rolled_back_at = True, None

        def __init__(self) -> None:
            self.bind_identity = MemoryJournal().bind_identity

    async with harness.provisioner(journal=Plain()) as provisioner:
        with pytest.raises(InvalidArgument, match="PostgresJournal"):
            await provisioner.serve()


def elect_another(journal: MemoryJournal) -> None:
    """Elect another process without a notification, as the end of a lease does."""
    journal.election._epoch += 1
    journal.election._holder, journal.election._until = "other", float("inf")


def end_term_of_another(journal: MemoryJournal) -> None:
    """Let the lease of the other process end."""
    journal.election._until = 0.0


async def test_idle_worker_notices_that_another_one_was_elected(harness: Harness, journal: MemoryJournal) -> None:
    """It learns it when it renews its lease, and takes part in the next election."""
    events = []
    async with harness.provisioner(journal=journal, lease=9.0) as provisioner:
        task = asyncio.create_task(provisioner.serve(on_event=events.append))
        await asyncio.sleep(1)
        elect_another(journal)
        await asyncio.sleep(4)
        assert isinstance(events[-1], TermEnded)
        end_term_of_another(journal)
        await asyncio.sleep(1)
        assert isinstance(events[-1], TermStarted)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_worker_in_a_pause_notices_that_another_one_was_elected(harness: Harness, journal: MemoryJournal) -> None:
    """Nothing is in progress, so the term ends at once; after the next election it does not wait for the pause."""
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.ERRCODE, errcode=45009)] * 2)
    events = []
    async with harness.provisioner(journal=journal, lease=9.0, concurrency=2) as provisioner:
        task = asyncio.create_task(provisioner.serve(on_event=events.append))
        client = ProvisioningClient(journal)
        await client.submit(plain_tenants(20))
        await asyncio.sleep(30)
        elect_another(journal)
        await asyncio.sleep(5)
        assert isinstance(events[-1], TermEnded)
        end_term_of_another(journal)
        await asyncio.sleep(30)
        assert (await client.counts())[DesiredState.WAITING] == 20
        await asyncio.sleep(86_400)
        assert (await client.counts())[DesiredState.DONE] == 20
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class FailingDesired:
    """The desired state in a storage that fails as often as `failures` says, by method."""

    def __init__(self, desired: object, **failures: int) -> None:
        self.desired, self.failures = desired, failures

    def __getattr__(self, name: str) -> object:
        async def call(*args: object, **options: object) -> object:
            if self.failures.get(name, 0) > 0:
                self.failures[name] -= 1
                raise JournalError("the storage is away")
            return await getattr(self.desired, name)(*args, **options)

        return call


@pytest.mark.parametrize("method", ["take", "change", "wait_for_change", "select"])
async def test_storage_that_is_away_delays_a_worker(harness: Harness, journal: MemoryJournal, method: str) -> None:
    """The term ends, what was taken is taken again in the next one, and nothing is created twice."""
    client = ProvisioningClient(journal)
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(20)
    async with harness.provisioner(journal=journal) as provisioner:
        await client.submit(plain_tenants(5))
        journal.desired = FailingDesired(journal.desired, **{method: 1})
        task = asyncio.create_task(provisioner.serve())
        await asyncio.sleep(300)
        assert (await client.counts())[DesiredState.DONE] == 5
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert harness.sandbox.count(CREATE) == 5


class FailingElection:
    """An election whose storage fails while `is_away`."""

    def __init__(self, election: object) -> None:
        self.election, self.is_away = election, False

    def __getattr__(self, name: str) -> object:
        async def call(*args: object) -> object:
            if self.is_away:
                raise JournalError("the storage is away")
            return await getattr(self.election, name)(*args)

        return call


async def test_worker_that_cannot_reach_the_election_stops_before_its_lease_ends(
    harness: Harness, journal: MemoryJournal
) -> None:
    """A short absence does not end its term."""
    journal.election = election = FailingElection(journal.election)
    events = []
    async with harness.provisioner(journal=journal, lease=30.0) as provisioner:
        task = asyncio.create_task(provisioner.serve(on_event=events.append))
        await asyncio.sleep(1)
        for seconds in (15, 5):
            election.is_away = not election.is_away
            await asyncio.sleep(seconds)
        assert [type(event) for event in events] == [TermStarted]
        election.is_away = True
        await asyncio.sleep(26)
        (ended,) = [event for event in events if isinstance(event, TermEnded)]
        assert ended.reason == "the lease could not be renewed in time"
        election.is_away = False
        await asyncio.sleep(31)
        assert isinstance(events[-1], TermStarted)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_specification_that_cannot_be_read_needs_attention(harness: Harness, journal: MemoryJournal) -> None:
    """It may come from a newer version; the other tenants are provisioned."""
    async with serving(harness, journal):
        client = ProvisioningClient(journal)
        await journal.desired.change([Submit(tenant="a", alias="x", spec=b"{}")])
        await client.submit(plain_tenants(1))
        await wait_for_state(client, plain_tenants(1)[0].name, DesiredState.DONE)
        (row,) = await journal.desired.select(["a"])
        record = (await journal.load())["a"]
    assert row.state is DesiredState.NEEDS_ATTENTION
    assert (record.outcome, "'a'" in record.problem) == ("failed", True)


@pytest.mark.parametrize("seconds", [0.0005, 0.0015, 1.0])
async def test_worker_cancelled_while_it_plans_sends_nothing(
    harness: Harness, journal: MemoryJournal, seconds: float
) -> None:
    """The tenants are left to the next one."""
    harness.sandbox.faults.slow(3, path=LIST)
    client = ProvisioningClient(journal)
    async with harness.provisioner(journal=journal) as provisioner:
        await client.submit(plain_tenants(3))
        task = asyncio.create_task(provisioner.serve())
        await asyncio.sleep(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert harness.sandbox.count(CREATE) == 0
        harness.sandbox.faults.clear()
        assert (await provisioner.drain()).waiting == 0
    assert harness.sandbox.count(CREATE) == 3


async def test_cancel_during_a_pause_ends_the_worker_at_once(harness: Harness, journal: MemoryJournal) -> None:
    """Nothing is in progress."""
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.ERRCODE, errcode=45009)])
    async with harness.provisioner(journal=journal) as provisioner:
        await ProvisioningClient(journal).submit(plain_tenants(1))
        task = asyncio.create_task(provisioner.serve())
        await asyncio.sleep(10)
        task.cancel()
        async with asyncio.timeout(1):
            await asyncio.gather(task, return_exceptions=True)
        assert await journal.election.leader() is None


async def test_many_tenants_are_taken_in_batches(harness: Harness, journal: MemoryJournal) -> None:
    """More than one batch is provisioned with few listings; a tenant that waits holds no slot."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(30)
    async with serving(harness, journal, concurrency=8):
        client = ProvisioningClient(journal)
        await client.submit(plain_tenants(1_200))
        await wait_for_requests(harness.sandbox, CREATE, 1_200)
        await asyncio.sleep(100)
        assert (await client.counts())[DesiredState.DONE] == 1_200
    assert harness.sandbox.count(LIST) < 40


async def test_errors_of_user_code_do_not_end_a_worker(harness: Harness, journal: MemoryJournal) -> None:
    """A function for events, and a step, may raise anything: the loop's handler gets it, other tenants are done."""
    caught = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: caught.append(context["exception"]))

    def fail_once(event: object) -> None:
        if isinstance(event, TermStarted):
            raise ZeroDivisionError

    async def fail_for_one(context: StepContext) -> None:
        if context.tenant.name == "a":
            raise KeyError

    mine = Step(name="mine", is_needed=lambda _, __, ___: True, run=fail_for_one)
    async with harness.provisioner(journal=journal, steps=[*STEPS, mine]) as provisioner:
        task = asyncio.create_task(provisioner.serve(on_event=fail_once))
        client = ProvisioningClient(journal)
        await client.submit([Tenant("a"), Tenant("b")])
        await wait_for_state(client, "a", DesiredState.NEEDS_ATTENTION)
        await wait_for_state(client, "b", DesiredState.DONE)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [type(error) for error in caught] == [ZeroDivisionError, KeyError]


async def test_term_that_was_won_while_the_worker_was_cancelled_is_released(
    harness: Harness, journal: MemoryJournal
) -> None:
    """Otherwise no other process could work until the lease ends."""

    class Slow:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        async def acquire(self, holder: str, lease: float) -> object:
            term = await real.acquire(holder, lease)
            await asyncio.sleep(1)
            return term

    real = journal.election
    journal.election = Slow()
    async with harness.provisioner(journal=journal) as provisioner:
        task = asyncio.create_task(provisioner.serve())
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await real.leader() is None


async def test_run_and_worker_of_one_provisioner_share_a_term(harness: Harness, journal: MemoryJournal) -> None:
    """A run that began first keeps its term until it has ended; the worker is elected afterwards."""
    journal.wait = 0.0
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(20)
    events = []
    async with harness.provisioner(journal=journal) as provisioner:
        run = provisioner.apply(plain_tenants(1))
        await asyncio.sleep(1)
        task = asyncio.create_task(provisioner.serve(on_event=events.append))
        await asyncio.sleep(5)
        assert events == []
        assert (await run).all_done
        await asyncio.sleep(1)
        assert isinstance(events[-1], TermStarted)
        assert (await provisioner.apply([Tenant("b")])).all_done
        assert await journal.election.leader() is not None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await journal.election.leader() is None


async def test_candidate_reports_that_the_storage_is_away(harness: Harness, journal: MemoryJournal) -> None:
    """Once for each absence; it is elected as soon as the storage is back."""
    journal.election = election = FailingElection(journal.election)
    election.is_away = True
    events = []
    async with harness.provisioner(journal=journal) as provisioner:
        task = asyncio.create_task(provisioner.serve(on_event=events.append))
        await asyncio.sleep(5)
        election.is_away = False
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [type(event) for event in events] == [ElectionUnavailable, TermStarted, RunStopped, TermEnded]


async def test_tenant_changed_twice_under_way_ends_once_with_the_last_change(
    harness: Harness, journal: MemoryJournal
) -> None:
    """The change that waited for the end of the attempt, and the one after it, are not worked on side by side."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(1)
    client = ProvisioningClient(journal)
    changes = iter([Tenant("a", services=[API]), Tenant("a", services=[API, "web"])])

    class Changing:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        async def take(self, epoch: int, limit: int) -> object:
            # Between the end of the attempt and the next rows.
            if harness.sandbox.world.environments and (change := next(changes, None)):
                journal.desired = real
                await client.submit([change])
                journal.desired = self
            return await real.take(epoch, limit)

    real = journal.desired
    journal.desired = Changing()
    async with serving(harness, journal):
        await client.submit([Tenant("a")])
        await asyncio.sleep(600)
        status = await client.status("a")
    assert (status.state, list(status.services)) == (DesiredState.DONE, ["api", "web"])
    assert harness.sandbox.count(CREATE) == 1


async def test_incomplete_list_postpones_new_tenants(harness: Harness, journal: MemoryJournal) -> None:
    """An operator decides about the environment that is missing, and not about every tenant that waits for it."""
    async with serving(harness, journal):
        client = ProvisioningClient(journal)
        await client.submit([Tenant("a")])
        await wait_for_state(client, "a", DesiredState.DONE)
        env = (await client.status("a")).env
        await asyncio.sleep(60)
        harness.sandbox.world.remove(env)
        await client.submit(plain_tenants(3))
        await asyncio.sleep(30)
        assert (await client.counts())[DesiredState.WAITING] == 3
        status = await client.status(plain_tenants(1)[0].name)
        assert (status.outcome, env in status.problem, status.tries) == ("conflict", True, 1)
        await client.submit([Tenant("a", services=[API])])
        await wait_for_state(client, "a", DesiredState.NEEDS_ATTENTION)
        await client.decide("a", forget=env)
        for tenant in (Tenant("a"), *plain_tenants(3)):
            await wait_for_state(client, tenant.name, DesiredState.DONE)
    assert harness.sandbox.count(CREATE) == 5


async def test_drain_that_is_deposed_says_so(harness: Harness, journal: MemoryJournal) -> None:
    """The rest is left to the process that was elected."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(60)
    async with harness.provisioner(journal=journal, lease=9.0) as provisioner:
        await ProvisioningClient(journal).submit(plain_tenants(1))
        task = asyncio.create_task(provisioner.drain())
        await wait_for_requests(harness.sandbox, CREATE)
        elect_another(journal)
        assert (await task).elected is False


async def test_decision_survives_a_pause(harness: Harness, journal: MemoryJournal) -> None:
    """It was not carried out, because the list could not be read: it is carried out after the pause."""
    env = harness.sandbox.world.add("a0")
    (tenant,) = plain_tenants(1)
    client = ProvisioningClient(journal)
    async with harness.provisioner(journal=journal) as provisioner:
        await client.submit([tenant])
        await client.decide(tenant.name, adopt=env)
        harness.sandbox.faults.script(LIST, [Fault(FaultKind.ERRCODE, errcode=47001)] * 3)
        task = asyncio.create_task(provisioner.serve())
        await asyncio.sleep(20)
        status = await client.status(tenant.name)
        assert (status.state, status.decision, status.tries) == (DesiredState.WAITING, Decision(adopt=env), 0)
        await wait_for_state(client, tenant.name, DesiredState.DONE)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (harness.sandbox.count(CREATE), (await client.status(tenant.name)).env) == (0, env)


async def test_run_that_is_cancelled_leaves_the_tenants_of_a_worker_alone(
    harness: Harness, journal: MemoryJournal
) -> None:
    """Their shares are not sent in its name."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(5)
    client = ProvisioningClient(journal)
    async with serving(harness, journal) as provisioner:
        await client.submit([Tenant("b", appids=["wx0000000000000002"])])
        run = provisioner.apply([Tenant("a", appids=[WX1])])
        harness.sandbox.faults.slow(3, path=SHARE)
        await wait_for_requests(harness.sandbox, SHARE, 2)
        await run.cancel(grace=0)
        await wait_for_state(client, "b", DesiredState.DONE)
    assert harness.sandbox.count(SHARE) == 2


async def test_other_request_for_a_tenant_in_progress_is_carried_out_too(
    harness: Harness, journal: MemoryJournal
) -> None:
    """A run that provisions the tenant without a mini program is not the end of the submission that has one."""
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(30)
    client = ProvisioningClient(journal)
    async with harness.provisioner(journal=journal) as provisioner:
        run = provisioner.apply([Tenant("a")])
        await wait_for_requests(harness.sandbox, CREATE)
        await client.submit([Tenant("a", appids=[WX1])])
        drained, report = await asyncio.gather(provisioner.drain(), run)
    assert (drained.waiting, report.all_done) == (0, True)
    assert len((await client.status("a")).links) == 1
    assert harness.sandbox.count(CREATE) == 1


async def test_worker_cancelled_again_and_again_leaves_no_task(harness: Harness, journal: MemoryJournal) -> None:
    """The waits for responses end, and another process can be elected."""
    harness.sandbox.faults.script(CREATE, [Fault(FaultKind.SLOW, seconds=20)])
    events = []
    async with harness.provisioner(journal=journal) as provisioner:
        before = asyncio.all_tasks()
        task = asyncio.create_task(provisioner.serve(on_event=events.append))
        await ProvisioningClient(journal).submit([Tenant("a")])
        await wait_for_requests(harness.sandbox, CREATE)
        for seconds in (0.1, 0, 0):
            task.cancel()
            await asyncio.sleep(seconds)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == before
        assert await journal.election.leader() is None
    assert isinstance(events[-1], TermEnded)


async def test_unreadable_specification_hides_no_other_tenant(harness: Harness, journal: MemoryJournal) -> None:
    """It may be of a newer version: its status says so."""
    client = ProvisioningClient(journal)
    async with harness.provisioner(journal=journal) as provisioner:
        await journal.desired.change([Submit(tenant="x", alias="x", spec=b'{"v": 99}')])
        assert "'x'" in (await client.status("x")).problem
        await client.submit([Tenant("a")])
        await provisioner.drain()
        states = {status.tenant: status.state async for status in client.statuses()}
    assert states == {"a": DesiredState.DONE, "x": DesiredState.NEEDS_ATTENTION}


async def test_conflict_of_one_decision_delays_only_its_tenant(harness: Harness, journal: MemoryJournal) -> None:
    """Another process changes the record at the same time: the decision is carried out with the new one."""
    env = harness.sandbox.world.add("a0")
    (tenant,) = plain_tenants(1)
    client, real = ProvisioningClient(journal), journal.commit
    answers = [Stale(None)]

    async def commit(record: TenantRecord, *args: object, **options: object) -> object:
        return answers.pop() if record.tenant == tenant.name and answers else await real(record, *args, **options)

    async with harness.provisioner(journal=journal) as provisioner:
        await client.submit([tenant])
        await provisioner.drain()
        await client.submit([Tenant("b")])
        await client.decide(tenant.name, adopt=env)
        monkey = pytest.MonkeyPatch()
        monkey.setattr(type(journal), "commit", lambda _self, *args, **options: commit(*args, **options))
        drained = await provisioner.drain()
        monkey.undo()
    assert drained.waiting == 0
    assert (await client.status(tenant.name)).env == env
    assert not answers


async def test_run_keeps_the_term_of_a_worker_that_is_cancelled(harness: Harness, journal: MemoryJournal) -> None:
    """Where a journal requires an election of runs, no other process provisions until the run has ended."""
    journal.wait = 0.0
    harness.sandbox.world.ready_after = ReadyPolicy.after_seconds(20)
    async with serving(harness, journal) as provisioner:
        await asyncio.sleep(1)
        run = provisioner.apply(plain_tenants(1))
        await wait_for_requests(harness.sandbox, CREATE)
        worker = next(task for task in asyncio.all_tasks() if "serve" in repr(task.get_coro()) and not task.done())
        worker.cancel()
        await asyncio.sleep(2)
        assert await journal.election.leader() is not None
        assert (await run).all_done
        assert await journal.election.leader() is None


async def test_batch_that_meets_a_conflict_is_planned_one_by_one(
    harness: Harness, journal: MemoryJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process changes the record of one of its tenants at the same time."""
    real, conflicts = Engine.commit_changes, [JournalConflict("changed")]

    async def commit_changes(engine: Engine, plan: Plan) -> None:
        if conflicts:
            raise conflicts.pop()
        await real(engine, plan)

    monkeypatch.setattr(Engine, "commit_changes", commit_changes)
    async with harness.provisioner(journal=journal) as provisioner:
        client = ProvisioningClient(journal)
        await client.submit(plain_tenants(3))
        await provisioner.drain()
        assert (await client.counts())[DesiredState.DONE] == 3
