"""Single task: one task with many waiters."""

from __future__ import annotations

import asyncio
import contextvars
import gc

import pytest

from wxtcb._concurrency.single_flight import SharedTask
from wxtcb.errors import SessionClosed, WxtcbError

pytestmark = pytest.mark.virtual_time

VARIABLE = contextvars.ContextVar("VARIABLE", default="empty")


def start_task(function):
    """Start a shared task now."""
    return SharedTask.start(function, asyncio.get_running_loop().time())


async def succeed():
    """Return after five seconds."""
    await asyncio.sleep(5)
    return "arrived"


async def fail():
    """Fail after five seconds."""
    await asyncio.sleep(5)
    raise WxtcbError("crashed")


async def test_all_waiters_get_the_value_of_one_task():
    """The function runs once."""
    runs = []

    async def function():
        runs.append(1)
        return await succeed()

    task = start_task(function)
    assert await asyncio.gather(*(task.result() for _ in range(10_000))) == ["arrived"] * 10_000
    assert runs == [1]


async def test_task_records_its_start_and_its_end():
    """`started_at` is the time of the start, and `done` is set only at the end."""
    task = start_task(succeed)
    assert task.started_at == 1000
    assert not task.finished.is_set()
    await task.result()
    assert task.finished.is_set()
    assert await task.result() == "arrived"


async def test_each_waiter_gets_its_own_exception():
    """Notes added by one waiter do not appear in another."""

    async def noted():
        error = WxtcbError("crashed")
        error.add_note("sent 8 times")
        raise error

    task = start_task(noted)
    first, second = await asyncio.gather(task.result(), task.result(), return_exceptions=True)
    assert first is not second
    first.retry_after = 3
    first.add_note("mine")
    assert second.retry_after is None
    assert second.__notes__ == ["sent 8 times"]
    assert str(second) == "crashed"


@pytest.mark.parametrize("cancelled", [1, 9, 10])
@pytest.mark.parametrize("function", [succeed, fail])
async def test_cancelled_waiters_affect_neither_the_task_nor_the_others(function, cancelled, settle):
    """This holds for one waiter, all but one, and all."""
    task = start_task(function)
    waiters = [asyncio.create_task(task.result()) for _ in range(10)]
    await settle()
    for waiter in waiters[:cancelled]:
        waiter.cancel()
    results = await asyncio.gather(*waiters, task.result(), return_exceptions=True)
    assert [type(result) for result in results[:cancelled]] == [asyncio.CancelledError] * cancelled
    expected = str if function is succeed else WxtcbError
    assert {type(result) for result in results[cancelled:]} == {expected}


async def test_failure_without_waiters_is_not_reported():
    """A failed task without waiters logs nothing."""
    await start_task(fail).finished.wait()


async def test_task_runs_in_an_empty_context():
    """It does not see the context variables of the caller that started it."""
    VARIABLE.set("a caller's")

    async def read_variable():
        return VARIABLE.get()

    assert await start_task(read_variable).result() == "empty"


async def test_aclose_cancels_the_task_and_its_waiters_get_session_closed(settle):
    """The waiters do not get CancelledError."""
    task = start_task(succeed)
    waiters = [asyncio.create_task(task.result()) for _ in range(3)]
    await settle()
    await task.aclose()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert {type(result) for result in results} == {SessionClosed}
    assert len({id(result) for result in results}) == 3
    assert asyncio.get_running_loop().time() == 1000


async def test_aclose_before_the_first_step_reaches_waiters():
    """A task that was closed before it ran leaves no caller waiting."""
    task = start_task(succeed)
    waiter = asyncio.create_task(task.result())
    await task.aclose()
    with pytest.raises(SessionClosed):
        await waiter


async def test_aclose_after_the_end_changes_nothing():
    """The value remains available."""
    task = start_task(succeed)
    await task.result()
    await task.aclose()
    assert await task.result() == "arrived"


async def test_unexpected_exception_is_reported_and_raised_as_internal_error():
    """Waiters get a WxtcbError that quotes nothing, and the loop gets the exception."""

    async def function():
        raise LookupError("S3CRET")

    task = start_task(function)
    with pytest.raises(WxtcbError, match="LookupError") as caught:
        await task.result()
    assert "S3CRET" not in str(caught.value)
    loop = asyncio.get_running_loop()
    del task, caught
    await asyncio.sleep(0)
    gc.collect()
    assert isinstance(loop.reported.pop()["exception"], LookupError)


async def test_second_cancel_does_not_interrupt_the_clean_up(settle):
    """A task that releases resources after its cancellation is not disturbed."""
    steps = []

    async def function():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(1)
            steps.append("released")

    task = start_task(function)
    await settle()
    task.cancel()
    await settle()
    await task.aclose()
    assert steps == ["released"]
