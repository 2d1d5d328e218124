"""The waiter for NORMAL: one shared poll for many waiters, and every way a wait ends."""

from __future__ import annotations

import asyncio
import gc
import itertools

import pytest

from wxtcb._http.transport import SendFailure
from wxtcb.api import environment
from wxtcb.errors import (
    ApiError,
    InvalidArgument,
    OperationFailed,
    OperationNotFound,
    OperationTimeout,
    SessionClosed,
)

pytestmark = pytest.mark.virtual_time

PATH = environment.DESCRIBE_ENVS.path


def clock():
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


def listing(**statuses):
    """Return a reply with environments of these statuses."""
    times = {"create_time": "2026-11-22 00:00:00", "update_time": "2026-11-22 00:00:00"}
    entries = [{"env": env, "alias": env, "status": status, **times} for env, status in statuses.items()]
    return {"errcode": 0, "errmsg": "ok", "info_list": entries}


@pytest.fixture
async def session(new_session):
    """Open a session with the scripted platform."""
    async with new_session() as session:
        yield session


async def test_normal_environment_is_returned_after_one_poll(session, wechat):
    """A NORMAL environment needs no waiting."""
    wechat.usual[PATH] = listing(e1="NORMAL", e2="UNAVAILABLE")
    info = await environment.wait_until_normal(session, "e1")
    assert (info.env, info.status) == ("e1", "NORMAL")
    assert wechat.sent_at(PATH) == [1000]


@pytest.mark.parametrize("status", ["UNAVAILABLE", "FROBNICATING"])
async def test_other_status_keeps_waiting_with_a_poll_per_interval(session, wechat, status):
    """UNAVAILABLE and unknown statuses are polled again after the interval."""
    wechat.play(PATH, *[listing(e1=status)] * 3)
    wechat.usual[PATH] = listing(e1="NORMAL")
    await environment.wait_until_normal(session, "e1", interval=5)
    assert wechat.sent_at(PATH) == pytest.approx([1000, 1005, 1010, 1015])


async def test_halted_environment_ends_the_wait(session, wechat):
    """Waiting does not change a halted environment."""
    wechat.usual[PATH] = listing(e1="HALTED")
    with pytest.raises(OperationFailed) as caught:
        await environment.wait_until_normal(session, "e1")
    assert (caught.value.env, caught.value.status) == ("e1", "HALTED")
    assert clock() == 1000


async def test_timeout_names_the_last_status(session, wechat):
    """OperationTimeout is also a TimeoutError, comes on time, and has no cause."""
    wechat.usual[PATH] = listing(e1="UNAVAILABLE")
    with pytest.raises(OperationTimeout, match="UNAVAILABLE") as caught:
        await environment.wait_until_normal(session, "e1", timeout=22)
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.env, caught.value.status) == ("e1", "UNAVAILABLE")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert clock() == pytest.approx(1022)


async def test_default_timeout_is_600_and_interval_5_seconds(session, wechat):
    """A wait without arguments ends after 600 seconds and polls every 5."""
    wechat.usual[PATH] = listing(e1="UNAVAILABLE")
    with pytest.raises(OperationTimeout, match="after 600 s"):
        await environment.wait_until_normal(session, "e1")
    assert wechat.sent_at(PATH)[:3] == pytest.approx([1000, 1005, 1010])
    assert clock() == pytest.approx(1600)


async def test_timeout_without_a_status_says_not_listed(session, wechat):
    """The message says that the environment was not listed."""
    wechat.usual[PATH] = listing()
    with pytest.raises(OperationTimeout, match="not listed") as caught:
        await environment.wait_until_normal(session, "e1", timeout=12)
    assert caught.value.status is None


async def test_timeout_of_the_caller_is_a_plain_timeout(session, wechat):
    """An asyncio.timeout around the wait raises a plain TimeoutError."""
    wechat.usual[PATH] = listing(e1="UNAVAILABLE")
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(7):
            await environment.wait_until_normal(session, "e1", timeout=60)
    assert not isinstance(caught.value, OperationTimeout)
    assert clock() == pytest.approx(1007)


async def test_timeout_error_of_a_poll_is_unchanged(session, wechat, monkeypatch):
    """A TimeoutError of a poll does not become OperationTimeout."""

    class Broken:
        async def poll(self, newer_than):
            raise TimeoutError("from a poll")

    monkeypatch.setattr(type(session), "shared_poller", lambda *_: Broken())
    with pytest.raises(TimeoutError, match="from a poll") as caught:
        await environment.wait_until_normal(session, "e1")
    assert not isinstance(caught.value, OperationTimeout)


async def test_one_poll_without_it_is_tolerated(session, wechat):
    """Single incomplete lists do not count, however often they occur."""
    steps = [listing(e1="UNAVAILABLE"), listing()] * 20
    wechat.play(PATH, *steps, listing(e1="NORMAL"))
    assert (await environment.wait_until_normal(session, "e1")).status == "NORMAL"


async def test_missing_for_30_seconds_and_3_polls_is_not_found(session, wechat):
    """With a poll every 5 s, the wait ends at the first poll 30 s after the first missing one."""
    wechat.play(PATH, listing(e1="UNAVAILABLE"))
    wechat.usual[PATH] = listing(e2="NORMAL")
    with pytest.raises(OperationNotFound) as caught:
        await environment.wait_until_normal(session, "e1", interval=5)
    assert caught.value.status == "UNAVAILABLE"
    assert clock() == pytest.approx(1005 + 30)


async def test_missing_needs_3_polls_at_any_interval(session, wechat):
    """With a poll every 100 s, two polls are not enough."""
    wechat.usual[PATH] = listing()
    with pytest.raises(OperationNotFound, match="3 polls"):
        await environment.wait_until_normal(session, "e1", interval=100)
    assert wechat.sent_at(PATH) == pytest.approx([1000, 1100, 1200])


async def test_missing_count_restarts_when_it_is_listed(session, wechat):
    """Only polls in a row count."""
    wechat.play(PATH, *[listing()] * 5, listing(e1="UNAVAILABLE"), *[listing()] * 5)
    wechat.usual[PATH] = listing(e1="NORMAL")
    assert (await environment.wait_until_normal(session, "e1")).status == "NORMAL"
    assert len(wechat.sent_to(PATH)) == 12


@pytest.mark.unmeasured
async def test_thousand_waiters_share_their_polls(session, wechat):
    """Waiters that start over 10 s cause at most one poll a second, one at a time."""
    wechat.usual[PATH] = lambda request: wechat.after(
        0.3, listing(**{f"e{n}": "NORMAL" if clock() > 1060 else "UNAVAILABLE" for n in range(1000)})
    )

    async def wait(number):
        await asyncio.sleep(number / 100)
        return await environment.wait_until_normal(session, f"e{number}", interval=5)

    infos = await asyncio.gather(*(wait(number) for number in range(1000)))
    assert [info.env for info in infos] == [f"e{number}" for number in range(1000)]
    times = wechat.sent_at(PATH)
    assert min(after - before for before, after in itertools.pairwise(times)) > 1 - 1e-6
    assert wechat.most_under_way == 1
    assert clock() < 1070


async def test_simultaneous_waiters_cause_one_poll_per_interval(session, wechat):
    """A hundred waiters that start together poll as often as one."""
    wechat.usual[PATH] = lambda request: listing(e1="NORMAL" if clock() > 1029 else "UNAVAILABLE")
    await asyncio.gather(*(environment.wait_until_normal(session, "e1", interval=5) for _ in range(100)))
    assert len(wechat.sent_to(PATH)) == 7


async def test_permanent_error_reaches_every_waiter_as_its_own_exception(session, wechat):
    """Each waiter gets its own exception object, with its notes."""
    wechat.usual[PATH] = 48001
    waits = (environment.wait_until_normal(session, "e1") for _ in range(50))
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert {result.errcode for result in results if isinstance(result, ApiError)} == {48001}
    assert len({id(result) for result in results}) == 50
    results[0].add_note("mine")
    assert not any("mine" in getattr(result, "__notes__", ()) for result in results[1:])
    assert len(wechat.sent_to(PATH)) == 1


async def test_sleeping_waiters_keep_no_list(session, wechat):
    """Only the newest list of environments is in memory."""
    wechat.usual[PATH] = listing(e1="UNAVAILABLE")
    waiters = []
    for _ in range(5):
        waiters.append(asyncio.create_task(environment.wait_until_normal(session, "e1", interval=60)))
        await asyncio.sleep(3)
    assert len(wechat.sent_at(PATH)) == 5
    gc.collect()  # of what earlier tests left
    assert sum(isinstance(each, environment.EnvList) for each in gc.get_objects()) == 1
    for waiter in waiters:
        waiter.cancel()


async def test_cancelled_waiter_does_not_affect_others(session, wechat):
    """One of two waiters is cancelled; the other one succeeds."""
    wechat.usual[PATH] = lambda request: listing(e1="NORMAL" if clock() > 1020 else "UNAVAILABLE")
    first, second = (asyncio.create_task(environment.wait_until_normal(session, "e1")) for _ in range(2))
    await asyncio.sleep(7)
    first.cancel()
    assert (await second).status == "NORMAL"
    assert first.cancelled()


async def test_waiters_hold_no_slot_between_polls(new_session, wechat):
    """A session of one connection serves other calls while a hundred wait."""
    wechat.usual[PATH] = listing(e1="UNAVAILABLE")
    async with new_session(connections=1) as session:
        waits = [asyncio.create_task(environment.wait_until_normal(session, "e1")) for _ in range(100)]
        await asyncio.sleep(1)
        began = clock()
        await environment.batch_share_env(session, [environment.Share(env="e1", appids=["wx0000000000000001"])])
        assert clock() == began
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def test_closing_the_session_ends_a_sleeping_wait(new_session, wechat):
    """Between two polls, closing the session raises SessionClosed."""
    wechat.usual[PATH] = listing(e1="UNAVAILABLE")
    async with new_session() as session:
        wait = asyncio.create_task(environment.wait_until_normal(session, "e1", interval=300))
        await asyncio.sleep(10)
    with pytest.raises(SessionClosed):
        await wait
    assert clock() == pytest.approx(1010)


async def test_closing_the_session_ends_a_running_poll(new_session, wechat):
    """Closing ends the running poll and all its waiters."""
    wechat.usual[PATH] = wechat.after(100, listing(e1="NORMAL"))
    async with new_session() as session:
        waits = [asyncio.create_task(environment.wait_until_normal(session, "e1")) for _ in range(3)]
        await asyncio.sleep(10)
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert {type(result) for result in results} == {SessionClosed}
    assert clock() == pytest.approx(1010)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [({"timeout": 0}, "timeout"), ({"interval": -1}, "interval")],
)
async def test_invalid_wait_is_rejected_before_a_request(session, wechat, arguments, name):
    """Times that are not positive raise InvalidArgument."""
    with pytest.raises(InvalidArgument, match=name):
        await environment.wait_until_normal(session, **{"env": "e1", **arguments})
    assert wechat.requests == []


async def test_transient_errors_keep_waiting(session, wechat):
    """An outage of the list during the wait only takes time."""
    wechat.usual[PATH] = lambda request: (
        SendFailure("no connection", sent=False) if clock() < 1200 else listing(e1="NORMAL")
    )
    found = await environment.wait_until_normal(session, "e1")
    assert found.status == "NORMAL"
    assert 1200 <= clock() < 1300


async def test_timeout_names_the_last_transient_error(session, wechat):
    """The message of a wait during an outage has the error."""
    wechat.usual[PATH] = SendFailure("no connection", sent=False)
    with pytest.raises(OperationTimeout, match="the last poll failed: no connection"):
        await environment.wait_until_normal(session, "e1", timeout=300)


async def test_timeout_without_a_poll_does_not_say_not_listed(new_session):
    """Without a successful poll it is unknown whether the environment is listed."""

    async def never():
        await asyncio.get_running_loop().create_future()

    async with new_session(ticket=never) as session:
        with pytest.raises(OperationTimeout, match="no poll succeeded"):
            await environment.wait_until_normal(session, "e1", timeout=1)
