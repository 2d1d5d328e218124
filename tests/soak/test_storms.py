"""Storms: many tasks on one session while the platform, in another process, misbehaves."""

from __future__ import annotations

import asyncio
from collections import Counter

import attrs
import pytest

import wxtcb
from wxtcb.api import environment
from wxtcb.events import RequestResent
from wxtcb.tokens.providers import API_COMPONENT_TOKEN

TOKEN = API_COMPONENT_TOKEN.path


@attrs.define
class Tally:
    """Counts of a storm."""

    done: int = 0
    failures: list = attrs.field(factory=list)
    resent: Counter = attrs.field(factory=Counter)

    def on_event(self, event):
        if isinstance(event, RequestResent):
            self.resent[event.call] += 1

    async def call(self, session):
        try:
            await environment.describe_envs(session)
        except wxtcb.WxtcbError as error:
            self.failures.append(error)
        self.done += 1

    async def make_progress(self, calls):
        """Wait until so many calls more are done, or one has failed."""
        goal = self.done + calls
        while self.done < goal and not self.failures:
            await asyncio.sleep(0.001)


async def storm(session, tally, *, tasks, until):
    """Run *tasks* tasks that call repeatedly until *until* returns true."""

    async def caller():
        while not until():
            await tally.call(session)

    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(caller())


async def test_calls_survive_repeated_token_invalidation(start_sandbox, scale):
    """No call of 500 tasks fails or waits for a second refresh, and each invalidated token costs one fetch."""
    tasks, kills, tally = 500, int(50 * scale), Tally()
    async with (
        start_sandbox() as sandbox,
        sandbox.session(max_fetches_per_hour=None, hooks=[tally.on_event]) as session,
        asyncio.TaskGroup() as group,
    ):

        async def invalidate_repeatedly():
            for _ in range(kills):
                await tally.make_progress(2 * tasks)
                await sandbox.post("kill-token")
            await tally.make_progress(2 * tasks)

        invalidating = group.create_task(invalidate_repeatedly())
        await storm(session, tally, tasks=tasks, until=invalidating.done)
        state = await sandbox.state()
    expired, issued = state["forced_expirations"], state["tokens_issued"]
    print(f"{tally.done} calls, {len(tally.resent)} sent again, {expired} kills, {issued} fetches")
    assert tally.failures == []
    assert (expired, issued, state["counts"][TOKEN]) == (kills, kills + 1, kills + 1)
    assert set(tally.resent.values()) == {1}


async def test_fetch_limit_ends_a_storm_of_invalidations(start_sandbox):
    """The default limit stops a storm of refreshes with an error that says why."""
    tally = Tally()

    def is_over():
        return any(isinstance(error, wxtcb.TokenFetchLimit) for error in tally.failures)

    async with start_sandbox(expire_token_every=0.05) as sandbox, sandbox.session() as session, asyncio.timeout(300):
        await storm(session, tally, tasks=20, until=is_over)
        state = await sandbox.state()
    assert state["tokens_issued"] == 30
    assert {type(error) for error in tally.failures} <= {wxtcb.TokenFetchLimit, wxtcb.InvalidToken}
    limit = next(error for error in tally.failures if isinstance(error, wxtcb.TokenFetchLimit))
    assert "token_store" in str(limit)
    assert 0 < limit.retry_after <= 3600


async def test_ten_thousand_first_calls_share_one_fetch(start_sandbox, scale):
    """Cancelling half of them changes nothing for the rest."""
    calls = int(10_000 * scale)
    async with start_sandbox() as sandbox, sandbox.session() as session:
        tasks = [asyncio.create_task(environment.describe_envs(session)) for _ in range(calls)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        state = await sandbox.state()
    assert state["tokens_issued"] == 1
    assert all(isinstance(result, environment.EnvList) for result in results[1::2])


async def test_few_calls_fail_at_thirty_percent_busy_answers(start_sandbox, scale):
    """At 30 % of -1, about one read in 15,000 fails, and none for lack of quota."""
    calls = iter(range(int(5_000 * scale)))
    tally = Tally()

    async def caller(session):
        for _ in calls:
            await tally.call(session)

    policy = wxtcb.RetryPolicy(base=0.5 * scale)
    async with (
        start_sandbox(busy=0.3) as sandbox,
        sandbox.session(retry=policy) as session,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(int(500 * scale)):
            group.create_task(caller(session))
    assert tally.done == int(5_000 * scale)
    assert len(tally.failures) <= 3 + tally.done / 10_000
    assert all("tried 8 times" in error.__notes__[0] for error in tally.failures)


@pytest.mark.parametrize("keep", [0, 1], ids=["all", "all but one"])
async def test_refresh_continues_when_waiters_are_cancelled(start_sandbox, keep):
    """Cancelling all waiters of the first refresh, or all but one, neither cancels nor repeats it."""
    async with start_sandbox() as sandbox, sandbox.session() as session:
        tasks = [asyncio.create_task(environment.describe_envs(session)) for _ in range(100)]
        await asyncio.sleep(0)
        for task in tasks[keep:]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await environment.describe_envs(session)
        state = await sandbox.state()
    assert state["tokens_issued"] == 1
    assert all(task.cancelled() for task in tasks[keep:])
    assert not any(task.cancelled() for task in tasks[:keep])
