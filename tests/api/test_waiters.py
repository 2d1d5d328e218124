"""Waiters: conditions, timeouts and errors, with polls that are not shared."""

from __future__ import annotations

import asyncio

import attrs
import pytest

from wxtcb.api._waiters import WaitCondition, wait_until
from wxtcb.errors import (
    InvalidArgument,
    OperationFailed,
    OperationNotFound,
    OperationTimeout,
    PermissionDenied,
    SessionClosed,
    TransportError,
)

pytestmark = pytest.mark.virtual_time

PATH = "/componenttcb/dbmigrationstate"
JOB = WaitCondition(
    resource="job 7",
    find=lambda jobs: jobs.get(7),
    status_of=lambda job: job,
    ready_statuses=frozenset({"success"}),
    failure_statuses={"fail": "it went wrong"},
)


@pytest.fixture
async def session(new_session):
    """Open a session with the scripted platform."""
    async with new_session() as session:
        yield session


@pytest.fixture
def wait(session):
    """Return a function that waits for job 7 through steps: a status, None for a missing job, or an error."""

    def begin(*steps, timeout=100.0, interval=5.0, condition=JOB):
        script = [*steps]

        async def poll_job():
            step = script.pop(0) if len(script) > 1 else script[0]
            if isinstance(step, BaseException):
                raise step
            return {} if step is None else {7: step}

        return wait_until(session.poller(poll_job), condition, timeout=timeout, interval=interval)

    return begin


def passed():
    """Return the seconds since the start of virtual time."""
    return asyncio.get_running_loop().time() - 1000


def lost():
    """Return the error of a poll with a lost reply, which is transient."""
    return TransportError("reset", endpoint=PATH, sent=True)


async def test_ready_resource_is_returned(wait):
    """There is one poll per interval, and unknown statuses keep waiting."""
    assert await wait("waiting", "exporting", "success") == "success"
    assert passed() == 10


async def test_ready_resource_may_be_falsy(wait):
    """Only None means that the resource is missing."""
    nothing_left = attrs.evolve(JOB, ready_statuses=frozenset({""}))
    assert await wait("waiting", "", condition=nothing_left) == ""


async def test_failure_status_is_raised_with_its_explanation(wait):
    """Waiting does not change it."""
    with pytest.raises(OperationFailed, match=r"^job 7: fail: it went wrong$") as caught:
        await wait("waiting", "fail")
    assert (caught.value.resource, caught.value.status) == ("job 7", "fail")
    assert passed() == 5


async def test_timeout_names_the_last_status(wait):
    """The resource may be ready later."""
    with pytest.raises(
        OperationTimeout, match="job 7: still waiting after 12 s; it may become success later"
    ) as caught:
        await wait("waiting", timeout=12)
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.resource, caught.value.status) == ("job 7", "waiting")
    assert passed() == 12


async def test_timeout_without_a_successful_poll_has_the_last_error(wait):
    """The message says why the last poll failed."""
    with pytest.raises(OperationTimeout, match=r"not seen: no poll succeeded after 12 s.*the last poll failed: reset"):
        await wait(lost(), timeout=12)
    with pytest.raises(OperationTimeout, match="still not listed after 12 s"):
        await wait(None, timeout=12)


async def test_missing_status_keeps_waiting(wait):
    """A reply may lack the status for a while."""
    condition = WaitCondition(
        resource="job 7",
        find=lambda jobs: jobs,
        status_of=lambda _: None,
        ready_statuses=frozenset({"success"}),
        failure_statuses={},
    )
    with pytest.raises(OperationTimeout, match="still not listed"):
        await wait("any", timeout=12, condition=condition)


async def test_missing_resource_is_not_found(wait):
    """It must be missing from 3 polls in a row over 30 seconds."""
    with pytest.raises(OperationNotFound, match="missing from 7 polls in a row over 30 s") as caught:
        await wait("waiting", None)
    assert caught.value.status == "waiting"
    assert passed() == 35


async def test_resource_that_reappears_is_not_missing(wait):
    """The wait goes on as before."""
    assert await wait(None, None, "waiting", None, None, "success", interval=14) == "success"


async def test_permanent_error_of_a_poll_is_raised(wait):
    """A transient error keeps waiting."""
    assert await wait(lost(), "success") == "success"
    with pytest.raises(PermissionDenied):
        await wait(PermissionDenied(48001, "api unauthorized", endpoint=PATH))


@pytest.mark.parametrize("bad", [{"timeout": 0}, {"interval": 0}, {"interval": "5"}, {"timeout": float("inf")}])
async def test_invalid_times_are_rejected(wait, bad):
    """Nothing is polled."""
    with pytest.raises(InvalidArgument, match=next(iter(bad))):
        await wait("success", **bad)


async def test_closing_the_session_ends_an_unshared_wait(wait, session, settle):
    """This includes a sleep between two polls."""
    waiting = asyncio.create_task(wait("waiting"))
    await settle()
    await session.aclose()
    with pytest.raises(SessionClosed):
        await waiting


async def test_unshared_poll_starts_when_it_is_requested(session):
    """No poll is shared, even if an older one would be new enough."""
    poller = session.poller(lambda: asyncio.sleep(1, "value"))
    first, second = await poller.poll(0.0), await poller.poll(0.0)
    assert (first.started_at, second.started_at, second.value) == (1000, 1001, "value")
