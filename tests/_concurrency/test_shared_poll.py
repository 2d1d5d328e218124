"""Shared polling: one poll for many callers."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given, settings, strategies as st

from wxtcb._concurrency.shared_poll import SharedPoller
from wxtcb.errors import SessionClosed, WxtcbError

pytestmark = pytest.mark.virtual_time


class Source:
    """State source whose polls take `seconds` each and are counted."""

    def __init__(self, seconds=0.2, fail=()):
        self.seconds, self.fail = seconds, fail
        self.started, self.open, self.most_open = [], 0, 0
        self.poller = SharedPoller(self.fetch, asyncio.get_running_loop().time, asyncio.sleep)

    async def fetch(self):
        self.started.append(asyncio.get_running_loop().time())
        number = len(self.started)
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        await asyncio.sleep(self.seconds)
        self.open -= 1
        if number in self.fail:
            raise WxtcbError(f"poll {number} failed")
        return number


async def test_first_poll_starts_at_once():
    """The first caller does not wait for the interval."""
    source = Source()
    snapshot = await source.poller.poll(1000)
    assert (snapshot.started_at, snapshot.value) == (1000, 1)


async def test_recent_poll_is_shared():
    """A caller gets the running or last poll if it started late enough."""
    source = Source()
    snapshots = await asyncio.gather(*(source.poller.poll(1000) for _ in range(1000)))
    assert {snapshot.value for snapshot in snapshots} == {1}
    assert (await source.poller.poll(999)).value == 1
    assert len(source.started) == 1


async def test_caller_waits_for_the_next_poll_if_the_running_one_is_too_old():
    """The next poll starts after the running one has ended."""
    source = Source(seconds=3)
    first = asyncio.create_task(source.poller.poll(1000))
    await asyncio.sleep(1)
    second = await source.poller.poll(1001)
    assert (await first).value == 1
    assert (second.started_at, second.value) == (1003, 2)
    assert source.most_open == 1


async def test_polls_start_at_most_once_a_second():
    """This holds however fast a poll is."""
    source = Source(seconds=0.1)
    for _ in range(5):
        await source.poller.poll(asyncio.get_running_loop().time())
    assert source.started == [pytest.approx(1000 + second) for second in range(5)]


async def test_failed_poll_raises_a_separate_exception_in_each_caller():
    """Callers do not share an exception object."""
    source = Source(fail={1})
    results = await asyncio.gather(*(source.poller.poll(1000) for _ in range(100)), return_exceptions=True)
    assert {str(result) for result in results} == {"poll 1 failed"}
    assert len({id(result) for result in results}) == 100


async def test_poll_after_a_failed_one_starts_anew():
    """A failure is not stored for later callers."""
    source = Source(fail={1})
    with pytest.raises(WxtcbError):
        await source.poller.poll(1000)
    assert (await source.poller.poll(1000.1)).value == 2


async def test_cancelled_caller_does_not_cancel_the_poll(settle):
    """The other callers still get its result."""
    source = Source()
    first, second = (asyncio.create_task(source.poller.poll(1000)) for _ in range(2))
    await settle()
    first.cancel()
    assert (await second).value == 1


async def test_aclose_ends_a_running_poll_with_session_closed(settle):
    """Its callers get SessionClosed."""
    source = Source(seconds=100)
    waiter = asyncio.create_task(source.poller.poll(1000))
    await settle()
    await source.poller.aclose()
    with pytest.raises(SessionClosed):
        await waiter
    assert asyncio.get_running_loop().time() == 1000


async def test_close_ends_a_running_poll_without_waiting(settle):
    """Its callers get SessionClosed at once."""
    source = Source(seconds=100)
    waiter = asyncio.create_task(source.poller.poll(1000))
    await settle()
    source.poller.close()
    with pytest.raises(SessionClosed):
        await waiter
    await source.poller.aclose()


async def test_closing_without_a_poll_does_nothing():
    """An unused poller can be closed."""
    source = Source()
    source.poller.close()
    await source.poller.aclose()


@given(
    asks=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 3)), min_size=1, max_size=30),
    seconds=st.floats(0, 4),
)
@settings(deadline=None, max_examples=100)
def test_polls_never_overlap_and_are_recent_enough(virtual_run, asks, seconds):
    """Every caller gets a result as new as requested, and polls start a second apart."""

    async def scenario():
        source = Source(seconds)

        async def poll_later(at, past):
            await asyncio.sleep(at)
            moment = asyncio.get_running_loop().time() - past
            snapshot = await source.poller.poll(moment)
            assert snapshot.started_at >= moment
            assert source.started[snapshot.value - 1] == pytest.approx(snapshot.started_at)

        await asyncio.gather(*(poll_later(at, past) for at, past in asks))
        assert source.most_open == 1
        gaps = [after - before for before, after in itertools.pairwise(source.started)]
        assert all(gap > 1 - 1e-6 for gap in gaps)
        assert len(source.started) <= len(asks)

    virtual_run(scenario())


async def test_callers_of_one_poll_get_the_same_snapshot():
    """What one caller computes from a snapshot can be found again by the identity of the snapshot."""
    source = Source()
    first, second = await asyncio.gather(source.poller.poll(1000), source.poller.poll(1000))
    assert first is second
    assert await source.poller.poll(999) is first
