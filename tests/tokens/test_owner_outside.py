"""Somebody outside keeps fetching tokens of our platform: our sessions against theirs."""

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
    """Let the platform take the newest token alone."""

    def judge(request):
        return {"info_list": []} if request.token.reveal() == f"T0KEN-{wechat.minted}" else 40001

    wechat.usual[DESCRIBE_ENVS.path] = judge
    return wechat


def ours_at(platform):
    """Return when we asked for tokens; theirs are bought with a ticket that says so."""
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


def most_in_an_hour(times):
    """Return how many of *times* lie within one hour at most."""
    return max(sum(at <= other < at + 3600 for other in times) for at in times)


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("shared", "ceiling", "advice"),
    [(True, 30, FIND_OTHER_FETCHER_HINT), (True, None, FIND_OTHER_FETCHER_HINT), (False, 30, SHARE_STORE_HINT)],
    ids=["shared", "shared, no ceiling", "memory"],
)
async def test_owner_outside_makes_us_neither_race_nor_keep_silent(new_session, platform, shared, advice, ceiling):
    """Two sessions against one fetch a second: ours get rare, stay below the ceiling, and somebody is told why."""
    events = []
    store = MemoryStore(asyncio.get_running_loop().time) if shared else None
    options = {"token_store": store, "hooks": [events.append], "max_fetches_per_hour": ceiling}
    async with new_session() as theirs, new_session(**options) as one, new_session(**options) as two:
        tasks = [asyncio.create_task(fetch_every_second(theirs))]
        tasks += [asyncio.create_task(call_for_ever(session)) for session in (one, two)]
        await asyncio.sleep(HOURS * 3600)
        for task in tasks:
            task.cancel()
    times = ours_at(platform)
    owners = 1 if shared else 2
    assert len(times) > 20
    assert most_in_an_hour(times) <= owners * (ceiling or 70)
    assert {event.hint for event in events if isinstance(event, TokenConflictDetected)} == {advice}
    assert clock() > HOURS * 3600


@pytest.mark.unmeasured
async def test_without_a_limit_ours_would_race(new_session, platform, monkeypatch):
    """The control: without the pauses we fetch again for each of their fetches."""
    monkeypatch.setattr("wxtcb.tokens.state.CONFLICT_THRESHOLD", 10**9)
    async with new_session() as theirs, new_session(max_fetches_per_hour=None) as ours:
        tasks = [asyncio.create_task(fetch_every_second(theirs)), asyncio.create_task(call_for_ever(ours))]
        await asyncio.sleep(600)
        for task in tasks:
            task.cancel()
    assert len(ours_at(platform)) > 250
