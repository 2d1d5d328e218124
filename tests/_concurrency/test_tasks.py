"""Task helpers: threads, shutdown of tasks, cooperative iteration, backoff."""

from __future__ import annotations

import asyncio
import threading

import pytest

from wxtcb._concurrency import tasks
from wxtcb._concurrency.tasks import Backoff, cancel_and_wait, cooperative_iter, end_tasks, is_running, run_in_thread


def test_backoff_doubles_up_to_its_maximum():
    """The first failure waits `initial` seconds, and no failure waits longer than `maximum`."""
    backoff = Backoff(1.0, 30.0)
    assert [backoff.delay(failures) for failures in range(1, 8)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_backoff_does_not_overflow():
    """Any number of failures yields the maximum."""
    assert Backoff(0.5, 60.0).delay(10**9) == 60.0


async def test_result_of_a_thread_is_returned():
    """The function runs outside the event loop's thread."""
    assert await run_in_thread(threading.get_ident) != threading.get_ident()


async def test_exception_of_a_thread_is_raised():
    """What the function raises reaches the caller."""
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(lambda: 1 / 0)


@pytest.mark.parametrize("fails", [False, True])
async def test_cancelled_caller_waits_for_its_thread(fails):
    """CancelledError is raised after the function has returned, with the arguments of the cancellation."""
    started, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work():
        started.set()
        assert may_end.wait(300)
        ended.set()
        if fails:
            raise ZeroDivisionError

    task = asyncio.create_task(run_in_thread(work))
    assert await asyncio.to_thread(started.wait, 300)
    task.cancel("shutdown")
    await asyncio.sleep(0)
    task.cancel("again")
    await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError, match="again"):
        await task
    assert ended.is_set()


async def _wait_forever(record, slow=None):
    try:
        await asyncio.Event().wait()
    finally:
        if slow is not None:
            await slow.wait()
        record.append("ended")


async def test_cancel_and_wait_returns_when_the_task_has_ended():
    """The clean-up of the cancelled task is complete."""
    record = []
    task = asyncio.create_task(_wait_forever(record))
    await asyncio.sleep(0)
    await cancel_and_wait(task)
    assert record == ["ended"]


async def test_cancelled_caller_of_cancel_and_wait_waits_for_the_task():
    """Its own cancellation is raised after the task has ended."""
    record, slow = [], asyncio.Event()
    task = asyncio.create_task(_wait_forever(record, slow))
    await asyncio.sleep(0)
    caller = asyncio.create_task(cancel_and_wait(task))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    slow.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert record == ["ended"]


async def test_end_tasks_without_running_tasks_returns_at_once():
    """Finished tasks are not waited for."""
    task = asyncio.create_task(asyncio.sleep(0))
    await task
    await end_tasks([task], timeout=60.0)


async def test_end_tasks_waits_for_tasks_within_the_timeout():
    """A task that ends in time is not cancelled."""
    task = asyncio.create_task(asyncio.sleep(0, "done"))
    await end_tasks([task], timeout=60.0)
    assert task.result() == "done"


async def test_end_tasks_cancels_tasks_after_the_timeout():
    """A task that does not end in time is cancelled and awaited."""
    record = []
    task = asyncio.create_task(_wait_forever(record))
    await asyncio.sleep(0)
    await end_tasks([task], timeout=0.0)
    assert task.cancelled()
    assert record == ["ended"]


async def test_end_tasks_abandons_tasks_that_ignore_cancellation(monkeypatch):
    """A task that still runs after the grace period does not block its owner."""
    monkeypatch.setattr(tasks, "CANCEL_GRACE", 0.0)
    record, slow = [], asyncio.Event()
    task = asyncio.create_task(_wait_forever(record, slow))
    await asyncio.sleep(0)
    await end_tasks([task], timeout=0.0)
    assert is_running(task)
    slow.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_end_tasks_cancels_the_tasks():
    """The owner that is cancelled leaves no task running."""
    record = []
    task = asyncio.create_task(_wait_forever(record))
    await asyncio.sleep(0)
    owner = asyncio.create_task(end_tasks([task], timeout=60.0))
    await asyncio.sleep(0)
    owner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await owner
    with pytest.raises(asyncio.CancelledError):
        await task
    assert record == ["ended"]


async def test_cooperative_iter_lets_other_tasks_run():
    """Another task gets a turn after every hundred items."""
    turns = 0

    async def count_turns():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count_turns())
    assert [item async for item in cooperative_iter(range(1000))] == [*range(1000)]
    counter.cancel()
    assert turns == 10
