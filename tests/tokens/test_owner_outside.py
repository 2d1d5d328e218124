"""Tests against another program that keeps fetching tokens of the same platform."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from wxtcb.api import environment, token
from wxtcb.api.environment import DESCRIBE_ENVS
from wxtcb.errors import WxtcbError
from wxtcb.events import TokenConflictDetected
from wxtcb.tokens.providers import API_COMPONENT_TOKEN
from wxtcb.tokens.refresh import FIND_OTHER_FETCHER_HINT, SHARE_STORE_HINT
from wxtcb.tokens.stores import MemoryStore

from .token_harness import clock

pytestmark = pytest.mark.virtual_time

HOURS = 1.1


@pytest.fixture
def platform(wechat):
    """Accept the newest token only."""

    def judge(request):
        return {"info_list": []} if request.token.reveal() == f"T0KEN-{wechat.minted}" else 40001

    wechat.usual[DESCRIBE_ENVS.path] = judge
    return wechat


def our_fetch_times(platform):
    """Return when the sessions fetched tokens; the other program uses a ticket of its own."""
    sent = zip(platform.requests, platform.times, strict=True)
    return [
        at for request, at in sent if request.path == API_COMPONENT_TOKEN.path and b"theirs" not in request.body.data
    ]


async def fetch_every_second(session):
    while True:
        await token.api_component_token(session, component_verify_ticket="theirs")
        await asyncio.sleep(1)


async def call_for_ever(session):
    while True:
        with contextlib.suppress(WxtcbError):
            await environment.describe_envs(session)
        await asyncio.sleep(2)


def max_in_an_hour(times):
    """Return the largest number of *times* within one hour."""
    return max(sum(at <= other < at + 3600 for other in times) for at in times)


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("shared", "ceiling", "advice"),
    [(True, 30, FIND_OTHER_FETCHER_HINT), (True, None, FIND_OTHER_FETCHER_HINT), (False, 30, SHARE_STORE_HINT)],
    ids=["shared", "shared, no ceiling", "memory"],
)
async def test_sessions_back_off_and_report_the_conflict(new_session, platform, shared, advice, ceiling):
    """Two sessions against one fetch a second fetch rarely, stay below the limit, and report the reason."""
    events = []
    store = MemoryStore(asyncio.get_running_loop().time) if shared else None
    options = {"token_store": store, "hooks": [events.append], "max_fetches_per_hour": ceiling}
    async with new_session() as other_program, new_session(**options) as one, new_session(**options) as two:
        tasks = [asyncio.create_task(fetch_every_second(other_program))]
        tasks += [asyncio.create_task(call_for_ever(session)) for session in (one, two)]
        await asyncio.sleep(HOURS * 3600)
        for task in tasks:
            task.cancel()
    times = our_fetch_times(platform)
    owners = 1 if shared else 2
    assert len(times) > 20
    assert max_in_an_hour(times) <= owners * (ceiling or 70)
    assert {event.hint for event in events if isinstance(event, TokenConflictDetected)} == {advice}
    assert clock() > HOURS * 3600


@pytest.mark.unmeasured
async def test_without_backoff_sessions_would_race(new_session, platform, monkeypatch):
    """The control: without the backoff the sessions fetch again for each fetch of the other program."""
    monkeypatch.setattr("wxtcb.tokens.token_state.CONFLICT_THRESHOLD", 10**9)
    async with new_session() as other_program, new_session(max_fetches_per_hour=None) as session:
        tasks = [asyncio.create_task(fetch_every_second(other_program)), asyncio.create_task(call_for_ever(session))]
        await asyncio.sleep(600)
        for task in tasks:
            task.cancel()
    assert len(our_fetch_times(platform)) > 250
