"""One task that many wait for."""

from __future__ import annotations

import asyncio
import contextvars
import gc

import pytest

from wxtcb._concurrency.single_flight import SharedTask
from wxtcb.errors import SessionClosed, WxtcbError

pytestmark = pytest.mark.virtual_time

VARIABLE = contextvars.ContextVar("VARIABLE", default="empty")


def launch(work):
    """Launch a flight now."""
    return SharedTask.start(work, asyncio.get_running_loop().time())


async def arrive():
    """Take five seconds."""
    await asyncio.sleep(5)
    return "arrived"


async def crash():
    """Fail after five seconds."""
    await asyncio.sleep(5)
    raise WxtcbError("crashed")


async def test_all_waiters_get_the_value_of_one_flight():
    """However many wait, the work runs once and everybody gets what it returned."""
    runs = []

    async def work():
        runs.append(1)
        return await arrive()

    flight = launch(work)
    assert await asyncio.gather(*(flight.wait() for _ in range(10_000))) == ["arrived"] * 10_000
    assert runs == [1]


async def test_flight_knows_when_it_started_and_landed():
    """`started_at` is the time of the launch; `landed` is set only at the end."""
    flight = launch(arrive)
    assert flight.started_at == 1000
    assert not flight.done.is_set()
    await flight.wait()
    assert flight.done.is_set()
    assert await flight.wait() == "arrived"


async def test_each_waiter_gets_an_exception_of_its_own():
    """What one waiter writes on its exception, notes included, shows on no other."""

    async def noted():
        error = WxtcbError("crashed")
        error.add_note("sent 8 times")
        raise error

    flight = launch(noted)
    first, second = await asyncio.gather(flight.wait(), flight.wait(), return_exceptions=True)
    assert first is not second
    first.retry_after = 3
    first.add_note("mine")
    assert second.retry_after is None
    assert second.__notes__ == ["sent 8 times"]
    assert str(second) == "crashed"


@pytest.mark.parametrize("cancelled", [1, 9, 10])
@pytest.mark.parametrize("work", [arrive, crash])
async def test_cancelled_waiters_touch_neither_the_flight_nor_the_others(work, cancelled, settle):
    """Cancelling one waiter, all but one, or all, leaves the flight and the rest as they were."""
    flight = launch(work)
    waiters = [asyncio.create_task(flight.wait()) for _ in range(10)]
    await settle()
    for waiter in waiters[:cancelled]:
        waiter.cancel()
    results = await asyncio.gather(*waiters, flight.wait(), return_exceptions=True)
    assert [type(result) for result in results[:cancelled]] == [asyncio.CancelledError] * cancelled
    expected = str if work is arrive else WxtcbError
    assert {type(result) for result in results[cancelled:]} == {expected}


async def test_nothing_is_reported_when_nobody_waited_for_a_failure():
    """A failed flight without waiters does not trouble the loop (it looks when it is closed)."""
    await launch(crash).done.wait()


async def test_work_runs_in_an_empty_context():
    """The flight does not see the context variables of whoever happened to launch it."""
    VARIABLE.set("a caller's")

    async def look():
        return VARIABLE.get()

    assert await launch(look).wait() == "empty"


async def test_aclose_ends_the_work_and_gives_waiters_session_closed(settle):
    """Closing cancels the work at once; whoever waits gets SessionClosed, not CancelledError."""
    flight = launch(arrive)
    waiters = [asyncio.create_task(flight.wait()) for _ in range(3)]
    await settle()
    await flight.aclose()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert {type(result) for result in results} == {SessionClosed}
    assert len({id(result) for result in results}) == 3
    assert asyncio.get_running_loop().time() == 1000


async def test_aclose_reaches_waiters_when_the_work_has_not_begun():
    """A flight closed before its task had its first turn lets nobody wait for ever."""
    flight = launch(arrive)
    waiter = asyncio.create_task(flight.wait())
    await flight.aclose()
    with pytest.raises(SessionClosed):
        await waiter


async def test_aclose_changes_nothing_when_the_flight_has_landed():
    """What has arrived stays."""
    flight = launch(arrive)
    await flight.wait()
    await flight.aclose()
    assert await flight.wait() == "arrived"


async def test_foreign_exception_reaches_waiters_as_ours_and_the_loop_as_itself():
    """A bug in the work ends every wait with a WxtcbError that quotes nothing, and is reported to the loop."""

    async def work():
        raise LookupError("S3CRET")

    flight = launch(work)
    with pytest.raises(WxtcbError, match="LookupError") as caught:
        await flight.wait()
    assert "S3CRET" not in str(caught.value)
    loop = asyncio.get_running_loop()
    del flight, caught
    await asyncio.sleep(0)
    gc.collect()
    assert isinstance(loop.reported.pop()["exception"], LookupError)


async def test_second_cancel_does_not_break_into_the_clean_up(settle):
    """Work that releases something when it is cancelled is left to do so."""
    steps = []

    async def work():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(1)
            steps.append("released")

    flight = launch(work)
    await settle()
    flight.cancel()
    await settle()
    await flight.aclose()
    assert steps == ["released"]
