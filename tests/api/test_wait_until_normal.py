"""Waiting for NORMAL: one shared look for many, and an end for every kind of environment."""

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
    """Make the reply that lists environments with these statuses."""
    times = {"create_time": "2026-11-22 00:00:00", "update_time": "2026-11-22 00:00:00"}
    entries = [{"env": env, "alias": env, "status": status, **times} for env, status in statuses.items()]
    return {"errcode": 0, "errmsg": "ok", "info_list": entries}


@pytest.fixture
async def session(new_session):
    """Open a session before the scripted platform."""
    async with new_session() as session:
        yield session


async def test_normal_environment_is_returned_after_one_look(session, wechat):
    """What is NORMAL already needs no waiting."""
    wechat.usual[PATH] = listing(e1="NORMAL", e2="UNAVAILABLE")
    info = await environment.wait_until_normal(session, "e1")
    assert (info.env, info.status) == ("e1", "NORMAL")
    assert wechat.sent_at(PATH) == [1000]


@pytest.mark.parametrize("status", ["UNAVAILABLE", "FROBNICATING"])
async def test_other_status_is_waited_out_with_a_look_per_interval(session, wechat, status):
    """UNAVAILABLE, and a status wxtcb does not know, means looking again after the interval."""
    wechat.play(PATH, *[listing(e1=status)] * 3)
    wechat.usual[PATH] = listing(e1="NORMAL")
    await environment.wait_until_normal(session, "e1", interval=5)
    assert wechat.sent_at(PATH) == pytest.approx([1000, 1005, 1010, 1015])


async def test_halted_environment_is_raised_at_once(session, wechat):
    """Waiting does not help a halted environment."""
    wechat.usual[PATH] = listing(e1="HALTED")
    with pytest.raises(OperationFailed) as caught:
        await environment.wait_until_normal(session, "e1")
    assert (caught.value.env, caught.value.status) == ("e1", "HALTED")
    assert clock() == 1000


async def test_timeout_says_what_was_seen_last(session, wechat):
    """OperationTimeout is a TimeoutError too, comes on time, and carries no chain."""
    wechat.usual[PATH] = listing(e1="UNAVAILABLE")
    with pytest.raises(OperationTimeout, match="UNAVAILABLE") as caught:
        await environment.wait_until_normal(session, "e1", timeout=22)
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.env, caught.value.status) == ("e1", "UNAVAILABLE")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert clock() == pytest.approx(1022)


async def test_timeout_says_so_when_the_environment_was_never_listed(session, wechat):
    """Without any status seen, the message says that it was not listed."""
    wechat.usual[PATH] = listing()
    with pytest.raises(OperationTimeout, match="not listed") as caught:
        await environment.wait_until_normal(session, "e1", timeout=12)
    assert caught.value.status is None


async def test_timeout_of_the_caller_is_the_callers(session, wechat):
    """An asyncio.timeout around it ends in the plain TimeoutError."""
    wechat.usual[PATH] = listing(e1="UNAVAILABLE")
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(7):
            await environment.wait_until_normal(session, "e1", timeout=60)
    assert not isinstance(caught.value, OperationTimeout)
    assert clock() == pytest.approx(1007)


async def test_foreign_timeout_error_out_of_a_look_passes_as_it_is(session, wechat, monkeypatch):
    """A TimeoutError that is not our deadline's is not turned into OperationTimeout."""

    class Broken:
        async def since(self, moment):
            raise TimeoutError("not ours")

    monkeypatch.setattr(type(session), "shared_poller", lambda *_: Broken())
    with pytest.raises(TimeoutError, match="not ours") as caught:
        await environment.wait_until_normal(session, "e1")
    assert not isinstance(caught.value, OperationTimeout)


async def test_one_look_without_it_is_tolerated(session, wechat):
    """A hiccup of the list is no loss, however often it comes singly."""
    steps = [listing(e1="UNAVAILABLE"), listing()] * 20
    wechat.play(PATH, *steps, listing(e1="NORMAL"))
    assert (await environment.wait_until_normal(session, "e1")).status == "NORMAL"


async def test_missing_for_thirty_seconds_and_three_looks_is_gone(session, wechat):
    """Looks every 5 s: the environment is given up at the first one 30 s after it was first missed."""
    wechat.play(PATH, listing(e1="UNAVAILABLE"))
    wechat.usual[PATH] = listing(e2="NORMAL")
    with pytest.raises(OperationNotFound) as caught:
        await environment.wait_until_normal(session, "e1", interval=5)
    assert caught.value.status == "UNAVAILABLE"
    assert clock() == pytest.approx(1005 + 30)


async def test_missing_takes_three_looks_however_slow_they_are(session, wechat):
    """With a look every 100 s, two looks without it are not enough."""
    wechat.usual[PATH] = listing()
    with pytest.raises(OperationNotFound, match="3 looks"):
        await environment.wait_until_normal(session, "e1", interval=100)
    assert wechat.sent_at(PATH) == pytest.approx([1000, 1100, 1200])


async def test_missing_begins_anew_when_it_was_seen_in_between(session, wechat):
    """Only looks in a row count."""
    wechat.play(PATH, *[listing()] * 5, listing(e1="UNAVAILABLE"), *[listing()] * 5)
    wechat.usual[PATH] = listing(e1="NORMAL")
    assert (await environment.wait_until_normal(session, "e1")).status == "NORMAL"
    assert len(wechat.sent_to(PATH)) == 12


@pytest.mark.unmeasured
async def test_thousand_waiters_share_the_looks(session, wechat):
    """Waiters that come over 10 s make at most one look a second, one at a time, and all of them arrive."""
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


async def test_waiters_that_come_together_make_one_look_per_interval(session, wechat):
    """A hundred waiters of the same moment look as often as one."""
    wechat.usual[PATH] = lambda request: listing(e1="NORMAL" if clock() > 1029 else "UNAVAILABLE")
    await asyncio.gather(*(environment.wait_until_normal(session, "e1", interval=5) for _ in range(100)))
    assert len(wechat.sent_to(PATH)) == 7


async def test_failing_look_reaches_every_waiter_as_its_own_exception(session, wechat):
    """What a look raises ends every wait, with an object for each, notes included."""
    wechat.usual[PATH] = 48001
    waits = (environment.wait_until_normal(session, "e1") for _ in range(50))
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert {result.errcode for result in results if isinstance(result, ApiError)} == {48001}
    assert len({id(result) for result in results}) == 50
    results[0].add_note("mine")
    assert not any("mine" in getattr(result, "__notes__", ()) for result in results[1:])
    assert len(wechat.sent_to(PATH)) == 1


async def test_waiters_that_rest_keep_no_list(session, wechat):
    """Only the newest list of environments is in memory, however many wait and whenever they came."""
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


async def test_cancelled_waiter_leaves_the_others_waiting(session, wechat):
    """One of two waiters goes; the other arrives."""
    wechat.usual[PATH] = lambda request: listing(e1="NORMAL" if clock() > 1020 else "UNAVAILABLE")
    first, second = (asyncio.create_task(environment.wait_until_normal(session, "e1")) for _ in range(2))
    await asyncio.sleep(7)
    first.cancel()
    assert (await second).status == "NORMAL"
    assert first.cancelled()


async def test_waiters_hold_no_slot_between_looks(new_session, wechat):
    """A session of one connection serves others while a hundred wait."""
    wechat.usual[PATH] = listing(e1="UNAVAILABLE")
    async with new_session(connections=1) as session:
        waits = [asyncio.create_task(environment.wait_until_normal(session, "e1")) for _ in range(100)]
        await asyncio.sleep(1)
        began = clock()
        await environment.batch_share_env(session, [environment.Share(env="e1", appids=["wx1"])])
        assert clock() == began
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def test_wait_ends_at_once_when_the_session_closes(new_session, wechat):
    """Between two looks, however far apart, closing the session ends the wait with SessionClosed."""
    wechat.usual[PATH] = listing(e1="UNAVAILABLE")
    async with new_session() as session:
        wait = asyncio.create_task(environment.wait_until_normal(session, "e1", interval=300))
        await asyncio.sleep(10)
    with pytest.raises(SessionClosed):
        await wait
    assert clock() == pytest.approx(1010)


async def test_wait_ends_when_the_session_closes_under_a_look(new_session, wechat):
    """Closing ends the look under way, and everybody who waits for it."""
    wechat.usual[PATH] = wechat.after(100, listing(e1="NORMAL"))
    async with new_session() as session:
        waits = [asyncio.create_task(environment.wait_until_normal(session, "e1")) for _ in range(3)]
        await asyncio.sleep(10)
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert {type(result) for result in results} == {SessionClosed}
    assert clock() == pytest.approx(1010)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [({"env": ""}, "env"), ({"env": None}, "env"), ({"timeout": 0}, "timeout"), ({"interval": -1}, "interval")],
)
async def test_senseless_arguments_are_refused_before_anything_is_sent(session, wechat, arguments, name):
    """An empty id and times that are not positive are InvalidArgument."""
    with pytest.raises(InvalidArgument, match=name):
        await environment.wait_until_normal(session, **{"env": "e1", **arguments})
    assert wechat.requests == []


async def test_failing_looks_are_waited_out_when_they_may_pass(session, wechat):
    """An outage of the list in the middle of the wait costs only time."""
    wechat.usual[PATH] = lambda request: (
        SendFailure("no connection", sent=False) if clock() < 1200 else listing(e1="NORMAL")
    )
    found = await environment.wait_until_normal(session, "e1")
    assert found.status == "NORMAL"
    assert 1200 <= clock() < 1300


async def test_timeout_names_the_failure_that_hid_the_environment(session, wechat):
    """Who waited in vain through an outage is told of it."""
    wechat.usual[PATH] = SendFailure("no connection", sent=False)
    with pytest.raises(OperationTimeout, match="the last look failed: no connection"):
        await environment.wait_until_normal(session, "e1", timeout=300)


async def test_timeout_before_any_look_does_not_say_that_it_is_not_listed(new_session):
    """Nobody has looked, so nobody knows."""

    async def never():
        await asyncio.get_running_loop().create_future()

    async with new_session(ticket=never) as session:
        with pytest.raises(OperationTimeout, match="no look succeeded"):
            await environment.wait_until_normal(session, "e1", timeout=1)
