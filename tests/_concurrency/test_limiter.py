"""Request limiter: FIFO slots, and paths that are paused."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings, strategies as st

from wxtcb._concurrency.limiter import MINUTE, RequestLimiter
from wxtcb.errors import SessionClosed

pytestmark = pytest.mark.virtual_time


def new_limiter(slots=1):
    """Return a limiter whose wall clock is the loop's time: at 1000 s the minute has 20 s left."""
    time = asyncio.get_running_loop().time
    return RequestLimiter(slots, time, time)


def clock():
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


async def start(*coros, settle):
    """Start tasks and run them until they wait."""
    tasks = [asyncio.create_task(coro) for coro in coros]
    await settle()
    return tasks


async def test_free_slot_is_taken_at_once():
    """No wait is needed."""
    limiter = new_limiter(2)
    assert limiter.try_acquire("/a")
    assert limiter.try_acquire("/a")
    assert not limiter.try_acquire("/a")


async def test_acquire_waits_for_a_released_slot(settle):
    """A call without a slot gets the next one that is released."""
    limiter = new_limiter()
    await limiter.acquire("/a")
    (waiter,) = await start(limiter.acquire("/b"), settle=settle)
    assert not waiter.done()
    limiter.release()
    await waiter
    assert not limiter.try_acquire("/a")


async def test_slots_are_granted_in_fifo_order(settle):
    """The order does not depend on the paths."""
    limiter = new_limiter()
    await limiter.acquire("/a")
    order = []

    async def visit(name):
        await limiter.acquire(f"/{name % 3}")
        order.append(name)
        limiter.release()

    tasks = await start(*(visit(name) for name in range(20)), settle=settle)
    limiter.release()
    await asyncio.gather(*tasks)
    assert order == list(range(20))


async def test_new_call_does_not_overtake_waiting_calls(settle):
    """A released slot goes to the first waiter."""
    limiter = new_limiter()
    await limiter.acquire("/a")
    (waiter,) = await start(limiter.acquire("/a"), settle=settle)
    limiter.release()
    assert not limiter.try_acquire("/a")
    await waiter


async def test_all_progress_when_300_tasks_loop_on_100_slots():
    """No task starves: all 300 looping tasks get about the same number of turns."""
    limiter = new_limiter(100)
    turns = [0] * 300
    until = clock() + 30

    async def loop(number):
        while clock() < until:
            await limiter.acquire("/a")
            await asyncio.sleep(1)
            turns[number] += 1
            limiter.release()

    await asyncio.gather(*(loop(number) for number in range(300)))
    assert max(turns) - min(turns) <= 1
    assert min(turns) >= 10


async def test_cancelled_waiter_is_not_counted_as_waiting(settle):
    """The count contains only calls that still wait."""
    limiter = new_limiter()
    await limiter.acquire("/a")
    tasks = await start(limiter.acquire("/a"), limiter.acquire("/a"), settle=settle)
    assert limiter.waiting == 2
    tasks[0].cancel()
    await settle()
    assert limiter.waiting == 1
    limiter.release()
    await tasks[1]
    assert limiter.waiting == 0


async def test_cancelled_waiter_loses_no_slot(settle):
    """A waiter cancelled in the queue is skipped."""
    limiter = new_limiter()
    await limiter.acquire("/a")
    first, second = await start(limiter.acquire("/a"), limiter.acquire("/a"), settle=settle)
    first.cancel()
    await settle()
    limiter.release()
    await second
    limiter.release()
    assert limiter.try_acquire("/a")


async def test_slot_of_a_waiter_cancelled_on_receipt_is_passed_on(settle):
    """A slot granted to a task that is cancelled before it runs goes to the next one."""
    limiter = new_limiter()
    await limiter.acquire("/a")
    first, second = await start(limiter.acquire("/a"), limiter.acquire("/a"), settle=settle)
    limiter.release()
    first.cancel()
    await second
    assert first.cancelled()
    limiter.release()
    assert limiter.try_acquire("/a")


async def test_pause_lasts_until_the_next_minute():
    """A path that meets the limit at second 40 of the minute opens 20 s later."""
    limiter = new_limiter(5)
    await limiter.acquire("/a")
    assert limiter.pause("/a", sent_at=clock()) == 20
    limiter.release()
    began = clock()
    await limiter.acquire("/a")
    assert clock() - began == pytest.approx(20)


async def test_pause_at_the_start_of_a_minute_lasts_a_minute():
    """Exactly on the boundary the next minute counts."""
    limiter = new_limiter(5)
    await asyncio.sleep(20)
    await limiter.acquire("/a")
    assert limiter.pause("/a", sent_at=clock()) == MINUTE


async def test_pause_affects_only_its_path(settle):
    """Other paths are admitted at once."""
    limiter = new_limiter(50)
    await limiter.acquire("/a")
    limiter.pause("/a", sent_at=clock())
    tasks = await start(*(limiter.acquire("/a") for _ in range(10)), settle=settle)
    assert not any(task.done() for task in tasks)
    began = clock()
    await limiter.acquire("/b")
    assert clock() == began
    for task in tasks:
        task.cancel()
    await settle()


async def test_paused_path_holds_no_slot(settle):
    """Calls waiting for a paused path leave all slots to others."""
    limiter = new_limiter(2)
    await limiter.acquire("/a")
    limiter.pause("/a", sent_at=clock())
    limiter.release()
    tasks = await start(*(limiter.acquire("/a") for _ in range(10)), settle=settle)
    assert limiter.try_acquire("/b")
    assert limiter.try_acquire("/b")
    for task in tasks:
        task.cancel()
    await settle()


async def test_pause_affects_calls_waiting_for_a_slot(settle):
    """A call that gets its slot during the pause releases it and waits for the path."""
    limiter = new_limiter()
    await limiter.acquire("/a")
    sent_at = clock()
    (late,) = await start(limiter.acquire("/a"), settle=settle)
    limiter.release()
    limiter.pause("/a", sent_at=sent_at)
    await settle()
    assert not late.done()
    assert limiter.try_acquire("/b")
    limiter.release()
    began = clock()
    await late
    assert clock() - began == pytest.approx(20)


async def test_limit_of_a_call_sent_before_the_pause_is_ignored():
    """The 45011 of a call that was in flight when the pause started does not extend it."""
    limiter = new_limiter(5)
    await limiter.acquire("/a")
    await limiter.acquire("/a")
    sent_at = clock()
    await asyncio.sleep(1)
    assert limiter.pause("/a", sent_at=sent_at) == 19
    await asyncio.sleep(25)
    await limiter.acquire("/a")
    assert limiter.pause("/a", sent_at=sent_at) is None
    began = clock()
    limiter._paths["/a"].allowance = 100
    await limiter.acquire("/a")
    assert clock() == began


async def test_limit_of_a_call_sent_in_the_previous_minute_pauses():
    """The allowance is derived from that minute."""
    limiter = new_limiter(100)
    await limiter.acquire("/a")
    await asyncio.sleep(59.9)
    for _ in range(39):
        await limiter.acquire("/a")
    sent_at = clock()
    await asyncio.sleep(0.3)
    await limiter.acquire("/a")
    assert limiter.pause("/a", sent_at=sent_at) == pytest.approx(19.8)
    assert not limiter.try_acquire("/a")
    await asyncio.sleep(19.9)
    assert [limiter.try_acquire("/a") for _ in range(11)] == [True] * 10 + [False]


async def test_allowance_doubles_with_each_minute_without_limit():
    """After 40 calls met the limit, the next minutes admit 10, 20, 40 and so on."""
    limiter = new_limiter(1000)
    for _ in range(40):
        await limiter.acquire("/a")
    limiter.pause("/a", sent_at=clock())
    opens_at = clock() + 20
    minutes = [0] * 4

    async def visit():
        await limiter.acquire("/a")
        minute = int((clock() - opens_at + 1e-6) // MINUTE)
        if minute < 4:
            minutes[minute] += 1

    await asyncio.gather(*(visit() for _ in range(200)))
    assert minutes == [10, 20, 40, 80]


async def test_allowance_is_reduced_again_after_another_limit():
    """The path is paused again and then admits a quarter of that minute's calls."""
    limiter = new_limiter(1000)
    for _ in range(80):
        await limiter.acquire("/a")
    limiter.pause("/a", sent_at=clock())
    for _ in range(20):
        await limiter.acquire("/a")
    assert limiter.pause("/a", sent_at=clock()) == pytest.approx(60)
    began = clock()
    for _ in range(6):
        await limiter.acquire("/a")
    assert clock() - began == pytest.approx(120)


async def test_allowance_considers_the_previous_minute():
    """A minute that has just started has too few calls to derive an allowance from."""
    limiter = new_limiter(1000)
    for _ in range(40):
        await limiter.acquire("/a")
    await asyncio.sleep(61)
    await limiter.acquire("/a")
    limiter.pause("/a", sent_at=clock())
    await limiter.acquire("/a")
    began = clock()
    for _ in range(9):
        await limiter.acquire("/a")
    assert clock() == began


async def test_allowance_is_at_least_one():
    """A path whose first call met the limit does not stay closed."""
    limiter = new_limiter(5)
    await limiter.acquire("/a")
    limiter.pause("/a", sent_at=clock())
    began = clock()
    await limiter.acquire("/a")
    await limiter.acquire("/a")
    assert clock() - began == pytest.approx(80)


async def test_allowance_recovers_without_calls():
    """Minutes without calls double it, too."""
    limiter = new_limiter(2000)
    await limiter.acquire("/a")
    limiter.pause("/a", sent_at=clock())
    await asyncio.sleep(20 + 10 * MINUTE)
    began = clock()
    for _ in range(1000):
        await limiter.acquire("/a")
    assert clock() == began


async def test_paused_calls_are_admitted_in_fifo_order(settle):
    """The order of their arrival is kept."""
    limiter = new_limiter(100)
    await limiter.acquire("/a")
    limiter.pause("/a", sent_at=clock())
    order = []

    async def visit(name):
        await limiter.acquire("/a")
        order.append(name)

    await asyncio.gather(*(visit(name) for name in range(10)))
    assert order == list(range(10))


async def test_cancelled_first_waiter_of_a_path_is_replaced(settle):
    """The others are admitted when the pause ends."""
    limiter = new_limiter(100)
    for _ in range(40):
        await limiter.acquire("/a")
    limiter.pause("/a", sent_at=clock())
    began = clock()
    tasks = await start(*(limiter.acquire("/a") for _ in range(4)), settle=settle)
    tasks[2].cancel()
    tasks[0].cancel()
    await asyncio.gather(tasks[1], tasks[3])
    assert clock() - began == pytest.approx(20)


async def test_close_ends_every_wait(settle):
    """Waits for a slot, for a path and in a sleep end with SessionClosed."""
    limiter = new_limiter()
    await limiter.acquire("/a")
    limiter.pause("/a", sent_at=clock())
    tasks = await start(
        limiter.acquire("/a"),
        limiter.acquire("/a"),
        limiter.acquire("/b"),
        limiter.acquire("/c"),
        limiter.sleep(1000),
        settle=settle,
    )
    began = clock()
    limiter.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [SessionClosed] * 5
    assert clock() == began


async def test_closed_limiter_rejects_calls():
    """No call is admitted and no sleep starts."""
    limiter = new_limiter(5)
    limiter.close()
    with pytest.raises(SessionClosed):
        limiter.try_acquire("/a")
    with pytest.raises(SessionClosed):
        await limiter.acquire("/a")
    with pytest.raises(SessionClosed):
        await limiter.sleep(1)


async def test_close_reaches_a_call_that_was_just_granted_a_slot(settle):
    """The slot is of no use any more."""
    limiter = new_limiter()
    await limiter.acquire("/a")
    (waiter,) = await start(limiter.acquire("/a"), settle=settle)
    limiter.release()
    limiter.close()
    with pytest.raises(SessionClosed):
        await waiter


async def test_sleep_leaves_no_timer():
    """A sleep takes its seconds, and a cancelled one leaves nothing behind."""
    limiter = new_limiter()
    began = clock()
    await limiter.sleep(7)
    assert clock() - began == pytest.approx(7)
    task = asyncio.create_task(limiter.sleep(1000))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not limiter._sleepers


VISIT = st.tuples(st.sampled_from("abc"), st.integers(0, 6), st.integers(1, 5), st.none() | st.integers(0, 8))


@pytest.mark.unmeasured
@given(visits=st.lists(VISIT, max_size=25), slots=st.integers(1, 4))
@settings(deadline=None, max_examples=150)
def test_slots_are_never_exceeded_nor_lost_under_any_interleaving(virtual_run, visits, slots):
    """At most `slots` calls are admitted, in FIFO order, and all slots are released."""

    async def scenario():
        limiter = new_limiter(slots)
        inside, served, requested = 0, {}, []

        async def visit(number, path, at, stay):
            nonlocal inside
            await asyncio.sleep(at)
            requested.append(number)
            await limiter.acquire(path)
            served[number] = clock()
            inside += 1
            assert inside <= slots
            try:
                await asyncio.sleep(stay)
            finally:
                inside -= 1
                limiter.release()

        tasks = []
        for number, (path, at, stay, cancel_at) in enumerate(visits):
            task = asyncio.create_task(visit(number, path, at, stay))
            tasks.append(task)
            if cancel_at is not None:
                asyncio.get_running_loop().call_later(cancel_at, task.cancel)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        times = [served[number] for number in requested if number in served]
        assert times == sorted(times)
        assert {number for number, visit in enumerate(visits) if visit[3] is None} <= served.keys()
        assert [limiter.try_acquire("/d") for _ in range(slots + 1)] == [True] * slots + [False]

    virtual_run(scenario())


async def test_cancelled_call_returns_its_admission(settle):
    """After a pause, the next call is admitted in place of one cancelled while it waited for a slot."""
    limiter = new_limiter()
    await limiter.acquire("/a")
    limiter.pause("/a", sent_at=clock())
    first, second = await start(limiter.acquire("/a"), limiter.acquire("/a"), settle=settle)
    await asyncio.sleep(21)
    first.cancel()
    await settle()
    limiter.release()
    await settle()
    assert second.done()
    assert clock() < 1000 + MINUTE


async def test_call_cancelled_after_its_minute_returns_nothing(settle):
    """Its admission belonged to a minute that is over."""
    limiter = new_limiter()
    await limiter.acquire("/a")
    limiter.pause("/a", sent_at=clock())
    (late,) = await start(limiter.acquire("/a"), settle=settle)
    await asyncio.sleep(2 * MINUTE)
    limiter.pause("/a", sent_at=clock())
    late.cancel()
    await settle()
    assert limiter._paths["/a"].passed == 0


async def test_reserved_pass_is_used_once(settle):
    """The call takes only a slot; a reservation that is not used is taken back."""
    limiter = new_limiter(2)
    first, second = await limiter.reserve("/a"), await limiter.reserve("/a")
    await limiter.acquire_reserved("/a", first)
    assert (limiter.in_use, limiter._paths["/a"].passed) == (1, 2)
    for _ in range(2):
        second.cancel()
    assert limiter._paths["/a"].passed == 1
    first.cancel()
    assert limiter._paths["/a"].passed == 1


async def test_reservation_waits_for_a_paused_path(settle):
    """It is made once the path is open again; one from before the pause does not count any more."""
    limiter = new_limiter(2)
    early = await limiter.reserve("/a")
    limiter.pause("/a", sent_at=clock())
    assert limiter.try_reserve("/a") is None
    waiting, late = await start(limiter.reserve("/a"), limiter.acquire_reserved("/a", early), settle=settle)
    assert (waiting.done(), late.done(), limiter.in_use) == (False, False, 0)
    await waiting
    assert clock() == 1020
    await late
    assert (clock(), limiter.in_use) == (1080, 1)
