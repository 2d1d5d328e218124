"""One shared look for everybody who waits."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given, settings, strategies as st

from wxtcb._concurrency.shared_poll import SharedPoller
from wxtcb.errors import SessionClosed, WxtcbError

pytestmark = pytest.mark.virtual_time


class Watcher:
    """Looks that take `seconds` each and count themselves."""

    def __init__(self, seconds=0.2, fail=()):
        self.seconds, self.fail = seconds, fail
        self.started, self.open, self.most_open = [], 0, 0
        self.sweep = SharedPoller(self.look, asyncio.get_running_loop().time, asyncio.sleep)

    async def look(self):
        self.started.append(asyncio.get_running_loop().time())
        number = len(self.started)
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        await asyncio.sleep(self.seconds)
        self.open -= 1
        if number in self.fail:
            raise WxtcbError(f"look {number} failed")
        return number


async def test_look_starts_at_once_when_there_was_none():
    """The first asker does not wait for a second to pass."""
    watcher = Watcher()
    look = await watcher.sweep.poll(1000)
    assert (look.started_at, look.value) == (1000, 1)


async def test_look_is_shared_when_it_started_late_enough():
    """Who asks for a look since a moment gets the one under way, or the last one, if it started at or after that."""
    watcher = Watcher()
    looks = await asyncio.gather(*(watcher.sweep.poll(1000) for _ in range(1000)))
    assert {look.value for look in looks} == {1}
    assert (await watcher.sweep.poll(999)).value == 1
    assert len(watcher.started) == 1


async def test_asker_waits_for_the_next_look_when_the_one_under_way_started_too_early():
    """A look that began before the moment asked for does not count, and the next begins only after it ended."""
    watcher = Watcher(seconds=3)
    first = asyncio.create_task(watcher.sweep.poll(1000))
    await asyncio.sleep(1)
    second = await watcher.sweep.poll(1001)
    assert (await first).value == 1
    assert (second.started_at, second.value) == (1003, 2)
    assert watcher.most_open == 1


async def test_looks_start_at_most_once_a_second():
    """However fast a look is, a second passes between two starts."""
    watcher = Watcher(seconds=0.1)
    for _ in range(5):
        await watcher.sweep.poll(asyncio.get_running_loop().time())
    assert watcher.started == [pytest.approx(1000 + second) for second in range(5)]


async def test_failed_look_reaches_every_waiter_as_its_own_exception():
    """Everybody hears of the failure; each has an exception object to itself."""
    watcher = Watcher(fail={1})
    results = await asyncio.gather(*(watcher.sweep.poll(1000) for _ in range(100)), return_exceptions=True)
    assert {str(result) for result in results} == {"look 1 failed"}
    assert len({id(result) for result in results}) == 100


async def test_next_look_is_made_when_the_last_one_failed():
    """A failure is not kept for those who ask later."""
    watcher = Watcher(fail={1})
    with pytest.raises(WxtcbError):
        await watcher.sweep.poll(1000)
    assert (await watcher.sweep.poll(1000.1)).value == 2


async def test_cancelled_asker_leaves_the_look_to_the_others(settle):
    """The one who caused a look may go; the others still get it."""
    watcher = Watcher()
    first, second = (asyncio.create_task(watcher.sweep.poll(1000)) for _ in range(2))
    await settle()
    first.cancel()
    assert (await second).value == 1


async def test_aclose_ends_the_look_under_way_with_session_closed(settle):
    """Who waits for a look when the session closes gets SessionClosed."""
    watcher = Watcher(seconds=100)
    waiter = asyncio.create_task(watcher.sweep.poll(1000))
    await settle()
    await watcher.sweep.aclose()
    with pytest.raises(SessionClosed):
        await waiter
    assert asyncio.get_running_loop().time() == 1000


async def test_aclose_is_harmless_when_nobody_ever_looked():
    """A sweep that was never used closes."""
    await Watcher().sweep.aclose()


@given(
    asks=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 3)), min_size=1, max_size=30),
    seconds=st.floats(0, 4),
)
@settings(deadline=None, max_examples=100)
def test_looks_keep_their_rules_whoever_asks_when(virtual_run, asks, seconds):
    """Everybody gets a look no older than asked for; looks never overlap, and start a second apart."""

    async def scenario():
        watcher = Watcher(seconds)

        async def ask(at, past):
            await asyncio.sleep(at)
            moment = asyncio.get_running_loop().time() - past
            look = await watcher.sweep.poll(moment)
            assert look.started_at >= moment
            assert watcher.started[look.value - 1] == pytest.approx(look.started_at)

        await asyncio.gather(*(ask(at, past) for at, past in asks))
        assert watcher.most_open == 1
        gaps = [after - before for before, after in itertools.pairwise(watcher.started)]
        assert all(gap > 1 - 1e-6 for gap in gaps)
        assert len(watcher.started) <= len(asks)

    virtual_run(scenario())
