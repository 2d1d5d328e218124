"""Journal in memory: what its clock does, and simulated processes that share it."""

from __future__ import annotations

import asyncio

import attrs

from wxtcb.provision import DesiredState, MemoryJournal
from wxtcb.provision.desired import Finish, Submit
from wxtcb.provision.election import Leader, Term


@attrs.define
class Clock:
    """A clock that stands still."""

    now: float = 1_800_000_000.0

    def __call__(self):
        return self.now


async def test_term_ends_with_its_lease():
    """Until then it can be renewed, and no other process is elected."""
    clock = Clock()
    election = MemoryJournal(clock).election
    term = await election.acquire("one", 30.0)
    assert term == Term(1, 30.0)
    clock.now += 20
    assert await election.renew(term)
    clock.now += 29
    assert await election.leader() == Leader("one", 1, 1.0)
    assert await election.acquire("two", 30.0) is None
    clock.now += 1
    assert await election.leader() is None
    assert await election.acquire("two", 30.0) == Term(2, 30.0)


async def test_delay_passes():
    """The tenant is due when its delay is over, and is taken once more."""
    clock = Clock()
    journal = MemoryJournal(clock)
    epoch = (await journal.election.acquire("one", 3600.0)).epoch
    await journal.desired.change([Submit(tenant="a", alias="ta", spec=b"{}")])
    await journal.desired.change([Finish(tenant="a", revision=1, state=DesiredState.WAITING, delay=10.0)])
    due_in, taken = [], []
    for _ in range(3):
        due_in += [each.due_in for each in await journal.desired.select()]
        taken += [len(await journal.desired.take(epoch, 9))]
        clock.now += 6
    assert (due_in, taken) == ([10.0, 4.0, 0.0], [0, 0, 1])


def test_processes_with_a_loop_of_their_own_share_the_journal():
    """A change in one loop ends the wait in another."""
    journal = MemoryJournal()
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        waits = [loop.create_task(journal.desired.wait_for_change(0, 60.0)) for loop in (first, second)]
        for loop in (first, second):
            loop.run_until_complete(asyncio.sleep(0))
        first.run_until_complete(journal.desired.change([Submit(tenant="a", alias="ta", spec=b"{}")]))
        assert [loop.run_until_complete(wait) for loop, wait in zip((first, second), waits, strict=True)] == [1, 1]
    finally:
        first.close()
        second.close()


def test_memory_is_not_durable():
    """A platform outside loopback is not provisioned with it."""
    assert not MemoryJournal().durable
