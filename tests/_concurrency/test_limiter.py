"""Who may send now: slots in the order of asking, and paths that pause."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings, strategies as st

from wxtcb._concurrency.limiter import MINUTE, RequestLimiter
from wxtcb.errors import SessionClosed

pytestmark = pytest.mark.virtual_time


def new_gate(slots=1):
    """Make a gate whose wall clock is the loop's: at 1000 s, 20 s are left of the minute."""
    time = asyncio.get_running_loop().time
    return RequestLimiter(slots, time, time)


def clock():
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


async def start(*coros, settle):
    """Start tasks and let them run as far as they get."""
    tasks = [asyncio.create_task(coro) for coro in coros]
    await settle()
    return tasks


async def test_enter_takes_a_slot_at_once_when_one_is_free():
    """A free slot is taken without waiting."""
    gate = new_gate(2)
    assert gate.try_acquire("/a")
    assert gate.try_acquire("/a")
    assert not gate.try_acquire("/a")


async def test_enter_waits_until_a_slot_comes_back(settle):
    """Who finds no slot gets the next one given back."""
    gate = new_gate()
    await gate.acquire("/a")
    (waiter,) = await start(gate.acquire("/b"), settle=settle)
    assert not waiter.done()
    gate.release()
    await waiter
    assert not gate.try_acquire("/a")


async def test_slots_go_out_in_the_order_of_asking(settle):
    """First come, first served, whatever the paths."""
    gate = new_gate()
    await gate.acquire("/a")
    order = []

    async def visit(name):
        await gate.acquire(f"/{name % 3}")
        order.append(name)
        gate.release()

    tasks = await start(*(visit(name) for name in range(20)), settle=settle)
    gate.release()
    await asyncio.gather(*tasks)
    assert order == list(range(20))


async def test_newcomer_does_not_overtake_those_who_wait(settle):
    """While somebody waits, a slot given back is not for a newcomer."""
    gate = new_gate()
    await gate.acquire("/a")
    (waiter,) = await start(gate.acquire("/a"), settle=settle)
    gate.release()
    assert not gate.try_acquire("/a")
    await waiter


async def test_all_progress_when_300_tasks_loop_on_100_slots():
    """Nobody waits for ever: after a while all 300 looping tasks have had about as many turns."""
    gate = new_gate(100)
    turns = [0] * 300
    until = clock() + 30

    async def loop(number):
        while clock() < until:
            await gate.acquire("/a")
            await asyncio.sleep(1)
            turns[number] += 1
            gate.release()

    await asyncio.gather(*(loop(number) for number in range(300)))
    assert max(turns) - min(turns) <= 1
    assert min(turns) >= 10


async def test_waiting_counts_only_those_who_still_wait(settle):
    """A cancelled waiter does not count as waiting."""
    gate = new_gate()
    await gate.acquire("/a")
    tasks = await start(gate.acquire("/a"), gate.acquire("/a"), settle=settle)
    assert gate.waiting == 2
    tasks[0].cancel()
    await settle()
    assert gate.waiting == 1
    gate.release()
    await tasks[1]
    assert gate.waiting == 0


async def test_cancelled_waiter_loses_no_slot(settle):
    """A waiter that is cancelled in the queue is passed over."""
    gate = new_gate()
    await gate.acquire("/a")
    first, second = await start(gate.acquire("/a"), gate.acquire("/a"), settle=settle)
    first.cancel()
    await settle()
    gate.release()
    await second
    gate.release()
    assert gate.try_acquire("/a")


async def test_slot_is_passed_on_when_its_receiver_is_cancelled_at_that_moment(settle):
    """A slot already handed to a task that is cancelled before it runs goes to the next."""
    gate = new_gate()
    await gate.acquire("/a")
    first, second = await start(gate.acquire("/a"), gate.acquire("/a"), settle=settle)
    gate.release()
    first.cancel()
    await second
    assert first.cancelled()
    gate.release()
    assert gate.try_acquire("/a")


async def test_pause_lasts_until_the_next_wall_minute():
    """A path met by the minute limit at second 40 of the minute opens 20 s later."""
    gate = new_gate(5)
    await gate.acquire("/a")
    assert gate.pause("/a", sent_at=clock()) == 20
    gate.release()
    began = clock()
    await gate.acquire("/a")
    assert clock() - began == pytest.approx(20)


async def test_pause_lasts_a_whole_minute_when_the_minute_has_just_begun():
    """On the very edge of a minute, the next minute is meant."""
    gate = new_gate(5)
    await asyncio.sleep(20)
    await gate.acquire("/a")
    assert gate.pause("/a", sent_at=clock()) == MINUTE


async def test_pause_stops_everybody_on_that_path_and_nobody_on_others(settle):
    """The path is closed for all; other paths go on at once."""
    gate = new_gate(50)
    await gate.acquire("/a")
    gate.pause("/a", sent_at=clock())
    tasks = await start(*(gate.acquire("/a") for _ in range(10)), settle=settle)
    assert not any(task.done() for task in tasks)
    began = clock()
    await gate.acquire("/b")
    assert clock() == began
    for task in tasks:
        task.cancel()
    await settle()


async def test_paused_path_holds_no_slot(settle):
    """Those who wait for a paused path leave every slot to others."""
    gate = new_gate(2)
    await gate.acquire("/a")
    gate.pause("/a", sent_at=clock())
    gate.release()
    tasks = await start(*(gate.acquire("/a") for _ in range(10)), settle=settle)
    assert gate.try_acquire("/b")
    assert gate.try_acquire("/b")
    for task in tasks:
        task.cancel()
    await settle()


async def test_pause_also_stops_those_who_wait_for_a_slot(settle):
    """Who was past the path but had no slot yet does not slip through a pause, and gives the slot back."""
    gate = new_gate()
    await gate.acquire("/a")
    sent_at = clock()
    (late,) = await start(gate.acquire("/a"), settle=settle)
    gate.release()
    gate.pause("/a", sent_at=sent_at)
    await settle()
    assert not late.done()
    assert gate.try_acquire("/b")
    gate.release()
    began = clock()
    await late
    assert clock() - began == pytest.approx(20)


async def test_second_limit_is_ignored_when_that_call_was_sent_before_the_pause():
    """The 45011 of a call that was under way when the path closed changes nothing."""
    gate = new_gate(5)
    await gate.acquire("/a")
    await gate.acquire("/a")
    sent_at = clock()
    await asyncio.sleep(1)
    assert gate.pause("/a", sent_at=sent_at) == 19
    await asyncio.sleep(25)
    await gate.acquire("/a")
    assert gate.pause("/a", sent_at=sent_at) is None
    began = clock()
    gate._paths["/a"].allowance = 100
    await gate.acquire("/a")
    assert clock() == began


async def test_limit_counts_when_the_minute_turned_after_that_call_was_sent():
    """A path that was never paused is paused by a call of the minute before, and at the pace of that minute."""
    gate = new_gate(100)
    await gate.acquire("/a")
    await asyncio.sleep(59.9)
    for _ in range(39):
        await gate.acquire("/a")
    sent_at = clock()
    await asyncio.sleep(0.3)
    await gate.acquire("/a")
    assert gate.pause("/a", sent_at=sent_at) == pytest.approx(19.8)
    assert not gate.try_acquire("/a")
    await asyncio.sleep(19.9)
    assert [gate.try_acquire("/a") for _ in range(11)] == [True] * 10 + [False]


async def test_path_opens_slowly_and_doubles_with_each_clean_minute():
    """After 40 calls met the limit, the next minutes admit 10, 20, 40 and so on."""
    gate = new_gate(1000)
    for _ in range(40):
        await gate.acquire("/a")
    gate.pause("/a", sent_at=clock())
    opens_at = clock() + 20
    minutes = [0] * 4

    async def visit():
        await gate.acquire("/a")
        minute = int((clock() - opens_at + 1e-6) // MINUTE)
        if minute < 4:
            minutes[minute] += 1

    await asyncio.gather(*(visit() for _ in range(200)))
    assert minutes == [10, 20, 40, 80]


async def test_pace_is_cut_again_when_the_limit_comes_back():
    """A limit in an opened minute closes the path again and quarters what that minute admitted."""
    gate = new_gate(1000)
    for _ in range(80):
        await gate.acquire("/a")
    gate.pause("/a", sent_at=clock())
    for _ in range(20):
        await gate.acquire("/a")
    assert gate.pause("/a", sent_at=clock()) == pytest.approx(60)
    began = clock()
    for _ in range(6):
        await gate.acquire("/a")
    assert clock() - began == pytest.approx(120)


async def test_pace_counts_the_minute_before_when_the_limit_comes_early_in_a_minute():
    """A minute that has just begun is no measure: the one before counts too."""
    gate = new_gate(1000)
    for _ in range(40):
        await gate.acquire("/a")
    await asyncio.sleep(61)
    await gate.acquire("/a")
    gate.pause("/a", sent_at=clock())
    await gate.acquire("/a")
    began = clock()
    for _ in range(9):
        await gate.acquire("/a")
    assert clock() == began


async def test_path_admits_at_least_one_call_in_a_minute():
    """Even where a single call met the limit, the path does not stay shut."""
    gate = new_gate(5)
    await gate.acquire("/a")
    gate.pause("/a", sent_at=clock())
    began = clock()
    await gate.acquire("/a")
    await gate.acquire("/a")
    assert clock() - began == pytest.approx(80)


async def test_pace_is_free_again_after_quiet_hours():
    """Minutes without calls are clean too."""
    gate = new_gate(2000)
    await gate.acquire("/a")
    gate.pause("/a", sent_at=clock())
    await asyncio.sleep(20 + 10 * MINUTE)
    began = clock()
    for _ in range(1000):
        await gate.acquire("/a")
    assert clock() == began


async def test_path_opens_in_the_order_of_asking(settle):
    """Those who waited out a pause pass first come, first served."""
    gate = new_gate(100)
    await gate.acquire("/a")
    gate.pause("/a", sent_at=clock())
    order = []

    async def visit(name):
        await gate.acquire("/a")
        order.append(name)

    await asyncio.gather(*(visit(name) for name in range(10)))
    assert order == list(range(10))


async def test_next_takes_over_when_the_one_at_the_head_of_a_path_is_cancelled(settle):
    """Cancelling the one who watches the pause, or one in the middle, holds up nobody."""
    gate = new_gate(100)
    for _ in range(40):
        await gate.acquire("/a")
    gate.pause("/a", sent_at=clock())
    began = clock()
    tasks = await start(*(gate.acquire("/a") for _ in range(4)), settle=settle)
    tasks[2].cancel()
    tasks[0].cancel()
    await asyncio.gather(tasks[1], tasks[3])
    assert clock() - began == pytest.approx(20)


async def test_close_ends_every_wait(settle):
    """Waiting for a slot, for a path (first or not in its queue) and in a rest: all get SessionClosed."""
    gate = new_gate()
    await gate.acquire("/a")
    gate.pause("/a", sent_at=clock())
    tasks = await start(
        gate.acquire("/a"), gate.acquire("/a"), gate.acquire("/b"), gate.acquire("/c"), gate.sleep(1000), settle=settle
    )
    began = clock()
    gate.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [SessionClosed] * 5
    assert clock() == began


async def test_close_refuses_newcomers():
    """After close nobody enters or rests."""
    gate = new_gate(5)
    gate.close()
    with pytest.raises(SessionClosed):
        gate.try_acquire("/a")
    with pytest.raises(SessionClosed):
        await gate.acquire("/a")
    with pytest.raises(SessionClosed):
        await gate.sleep(1)


async def test_close_reaches_one_who_was_just_given_a_slot(settle):
    """A slot handed over in the moment of closing is of no use any more."""
    gate = new_gate()
    await gate.acquire("/a")
    (waiter,) = await start(gate.acquire("/a"), settle=settle)
    gate.release()
    gate.close()
    with pytest.raises(SessionClosed):
        await waiter


async def test_rest_lasts_as_long_as_asked_and_leaves_no_timer():
    """A rest takes its seconds; a cancelled one leaves nothing behind."""
    gate = new_gate()
    began = clock()
    await gate.sleep(7)
    assert clock() - began == pytest.approx(7)
    task = asyncio.create_task(gate.sleep(1000))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not gate._sleepers


VISIT = st.tuples(st.sampled_from("abc"), st.integers(0, 6), st.integers(1, 5), st.none() | st.integers(0, 8))


@pytest.mark.unmeasured
@given(visits=st.lists(VISIT, max_size=25), slots=st.integers(1, 4))
@settings(deadline=None, max_examples=150)
def test_slots_are_never_exceeded_nor_lost_under_any_interleaving(virtual_run, visits, slots):
    """Whoever enters, leaves or is cancelled when: at most `slots` inside, in order of asking, all slots come back."""

    async def scenario():
        gate = new_gate(slots)
        inside, served, asked = 0, {}, []

        async def visit(number, path, at, stay):
            nonlocal inside
            await asyncio.sleep(at)
            asked.append(number)
            await gate.acquire(path)
            served[number] = clock()
            inside += 1
            assert inside <= slots
            try:
                await asyncio.sleep(stay)
            finally:
                inside -= 1
                gate.release()

        tasks = []
        for number, (path, at, stay, cancel_at) in enumerate(visits):
            task = asyncio.create_task(visit(number, path, at, stay))
            tasks.append(task)
            if cancel_at is not None:
                asyncio.get_running_loop().call_later(cancel_at, task.cancel)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        times = [served[number] for number in asked if number in served]
        assert times == sorted(times)
        assert {number for number, visit in enumerate(visits) if visit[3] is None} <= served.keys()
        assert [gate.try_acquire("/d") for _ in range(slots + 1)] == [True] * slots + [False]

    virtual_run(scenario())


async def test_cancelled_call_gives_its_place_in_the_minute_back(settle):
    """After a minute limit one call passes; if it is cancelled while it waits for a slot, the next one passes."""
    gate = new_gate()
    await gate.acquire("/a")
    gate.pause("/a", sent_at=clock())
    first, second = await start(gate.acquire("/a"), gate.acquire("/a"), settle=settle)
    await asyncio.sleep(21)
    first.cancel()
    await settle()
    gate.release()
    await settle()
    assert second.done()
    assert clock() < 1000 + MINUTE


async def test_call_cancelled_after_its_minute_gives_nothing_back(settle):
    """A place in a minute that is over helps nobody."""
    gate = new_gate()
    await gate.acquire("/a")
    gate.pause("/a", sent_at=clock())
    (late,) = await start(gate.acquire("/a"), settle=settle)
    await asyncio.sleep(2 * MINUTE)
    gate.pause("/a", sent_at=clock())
    late.cancel()
    await settle()
    assert gate._paths["/a"].admitted == 0
