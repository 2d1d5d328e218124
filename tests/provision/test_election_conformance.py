"""Conformance of elections: every storage in `STORAGES` passes the same tests."""

from __future__ import annotations

import asyncio

LEASE = 30.0


async def test_one_process_is_elected_at_a_time(journal, other):
    """Another holder gets no term, however often it asks, and everyone sees who is elected."""
    term = await journal.election.acquire("one", LEASE)
    assert term is not None
    assert [await other.election.acquire("two", LEASE) for _ in range(3)] == [None, None, None]
    for each in (journal, other):
        leader = await each.election.leader()
        assert (leader.holder, leader.epoch) == ("one", term.epoch)
        # The lease is None if the term ends only with the process.
        assert leader.seconds is None if term.lease is None else 0 < leader.seconds <= LEASE


async def test_nobody_is_elected_at_first(journal):
    """A new journal has no leader."""
    assert await journal.election.leader() is None


async def test_one_of_many_candidates_is_elected(journal, other):
    """All others, of this and of another process, get no term."""
    candidates = [(each, f"{number}") for number, each in enumerate((journal, other) * 10)]
    terms = await asyncio.gather(*(each.election.acquire(holder, LEASE) for each, holder in candidates))
    assert sum(term is not None for term in terms) == 1


async def test_lost_response_is_asked_for_again(journal):
    """The same holder gets the term that it has."""
    term = await journal.election.acquire("one", LEASE)
    assert await journal.election.acquire("one", LEASE) == term
    assert await journal.election.renew(term)


async def test_epochs_grow(storage):
    """Every term has a greater epoch, after a release, also for the same holder, and after the end of a lease."""
    epochs = []
    for holder in ("one", "two", "two", "one"):
        term = await storage.journal.election.acquire(holder, LEASE)
        epochs.append(term.epoch)
        await storage.journal.election.release(term)
    for holder in ("one", "two", "three"):
        epochs.append((await storage.journal.election.acquire(holder, LEASE)).epoch)
        await storage.expire_lease()
    epochs.append((await storage.journal.election.acquire("one", LEASE)).epoch)
    assert epochs == sorted(set(epochs))


async def test_release_lets_another_be_elected_at_once(journal, other):
    """No lease has to end first, and the released term cannot be renewed."""
    term = await journal.election.acquire("one", LEASE)
    await journal.election.release(term)
    assert await journal.election.leader() is None
    assert not await journal.election.renew(term)
    following = await other.election.acquire("two", LEASE)
    assert following.epoch > term.epoch
    assert not await journal.election.renew(term)


async def test_release_of_an_earlier_term_does_nothing(storage):
    """It does not end the term of the process that was elected since."""
    first = await storage.journal.election.acquire("one", LEASE)
    await storage.expire_lease()
    second = await storage.journal.election.acquire("two", LEASE)
    await storage.journal.election.release(first)
    assert (await storage.journal.election.leader()).holder == "two"
    assert await storage.journal.election.renew(second)


async def test_end_of_a_lease_lets_another_be_elected(storage):
    """The former process cannot renew its term."""
    first = await storage.journal.election.acquire("one", LEASE)
    await storage.expire_lease()
    assert await storage.journal.election.leader() is None
    second = await storage.journal.election.acquire("two", LEASE)
    assert second.epoch > first.epoch
    assert not await storage.journal.election.renew(first)
    assert (await storage.journal.election.leader()).epoch == second.epoch


async def test_renewed_term_goes_on(journal, other):
    """No other process is elected, and the epoch stays."""
    term = await journal.election.acquire("one", LEASE)
    assert await journal.election.renew(term)
    assert await other.election.acquire("two", LEASE) is None
    leader = await journal.election.leader()
    assert (leader.holder, leader.epoch) == ("one", term.epoch)
