"""A week of three hosts on one store, in virtual time, with a fault about every hour."""

from __future__ import annotations

import asyncio
import itertools
import random

import attrs
import pytest

from wxtcb.errors import TransportError
from wxtcb.secret import Secret
from wxtcb.tokens.providers import StoredTicketSource
from wxtcb.tokens.refresh import TOKEN_PATH

from .fake_token_service import FakeTokenService, Process, RecordingStore
from .token_harness import clock

pytestmark = pytest.mark.virtual_time

WEEK = 7 * 24 * 3600
PUSHES = 1008
SOON = 6000
BOUND = 10 + 8 + 1  # to wait for a store that is gone, and for a platform that is slow
SEED = 2


@attrs.define(eq=False)
class Host(Process):
    """A process that fetches with the ticket that it read last, at most 12 hours old.

    A fetch while it is cut off is an excuse for the next fetch.
    """

    pushed: list = attrs.field(factory=list)
    excuses: list = attrs.field(factory=list)

    async def prepare(self):
        ticket = await StoredTicketSource(self.harness.refresher.state_repository)()
        if ticket is None or ticket.reveal() not in self.pushed[-72:]:
            raise TransportError("no ticket, or an old one", endpoint=TOKEN_PATH, sent=False)
        return self.fetch

    async def fetch(self, may_send):
        if self.was_faulty(clock() - 3):
            self.excuses.append(clock())
        return await Process.fetch(self, may_send)


@attrs.define(eq=False)
class Week:
    """The events of a week; after one of the moments in `excuses` a token may be replaced soon."""

    rng: random.Random
    service: FakeTokenService = attrs.field(factory=FakeTokenService)
    store: RecordingStore = attrs.field(factory=lambda: RecordingStore(asyncio.get_running_loop().time))
    pushed: list = attrs.field(factory=list)
    hosts: list = attrs.field(init=False)
    ended: list = attrs.field(factory=list)
    tasks: list = attrs.field(factory=list)
    excuses: list = attrs.field(factory=list)
    mishaps: int = 0
    calls: int = 0
    slowest: float = 0.0
    failures: list = attrs.field(factory=list)

    def __attrs_post_init__(self):
        self.hosts = [self._new(number) for number in range(3)]

    def _new(self, number):
        name = f"host{number}:{self.mishaps}"
        return Host(name, self.service, self.store, self.rng.uniform, pushed=self.pushed, excuses=self.excuses)

    async def push(self):
        """Push a ticket every ten minutes; a healthy host stores it."""
        for number in range(PUSHES):
            self.pushed.append(f"ticket-{number}")
            keep = self.rng.choice(self.hosts).harness.refresher.state_repository.update_with_retry
            ticket = Secret(self.pushed[-1])
            await keep(lambda state, now, ticket=ticket: state.with_ticket(ticket, int(clock()), now), asyncio.sleep)
            await asyncio.sleep(1000 + (number + 1) * 600 - clock())

    async def call(self, place):
        """Call from one host about once a minute."""
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / 60))
            began, host = clock(), self.hosts[place]
            error = await host.call()
            if host not in self.hosts:
                continue
            self.calls += 1
            self.slowest = max(self.slowest, clock() - began)
            if error is not None:
                self.failures.append((clock(), error))

    async def go_wrong(self):
        """Cause a fault about every hour, half of them during a fetch."""
        mishaps = [self._refuse, self._slow, self._lose_store, self._cut, self._freeze, self._kill, self._end_token]
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / 3600))
            if self.rng.random() < 0.5:
                await self._next_fetch()
            self.mishaps += 1
            await self.rng.choice(mishaps)(self.rng.randrange(3))

    async def _next_fetch(self):
        await self.service.busy.wait()

    async def _refuse(self, _):
        self.service.faults.clear()
        self.service.faults.extend(self.rng.choice(["refused", "busy"]) for _ in range(self.rng.randint(1, 3)))

    async def _slow(self, _):
        self.service.faults.append("slow")

    async def _lose_store(self, _):
        await self._apply_fault(self.hosts, self.rng.uniform(1, 6), cut=True)

    async def _cut(self, place):
        await self._apply_fault([self.hosts[place]], self.rng.uniform(1, 30), cut=True)

    async def _freeze(self, place):
        await self._apply_fault([self.hosts[place]], self.rng.uniform(1, 8), frozen=True)

    async def _apply_fault(self, hosts, seconds, **how):
        self._excuse(hosts)
        for host in hosts:
            host.apply_fault(**how)
        await asyncio.sleep(seconds)
        self._excuse(hosts)
        for host in hosts:
            host.apply_fault(**dict.fromkeys(how, False))

    async def _kill(self, place):
        self._excuse([self.hosts[place]])
        self.hosts[place].kill()
        self.ended.append(self.hosts[place])
        self.hosts[place] = self._new(place)

    async def _end_token(self, _):
        if self.service.kill():
            self.excuses.append(clock())

    def _excuse(self, hosts):
        if any(host in self.service.under_way for host in hosts):
            self.excuses.append(clock())

    def inexcusable(self):
        """Return the fetches that followed another one too soon, without a reason."""
        return [
            (sooner, later)
            for sooner, later in itertools.pairwise(self.service.issued_at)
            if later - sooner < SOON and not any(sooner - 1 <= each <= later for each in self.excuses)
        ]

    async def end(self):
        for task in self.tasks:
            task.cancel()
        for host in self.hosts:
            host.apply_fault(cut=False, frozen=False)
            await host.harness.cache.aclose()
        for host in self.ended:
            host.apply_fault(cut=True, frozen=False)


async def run_week(seed):
    """Run a week."""
    week = Week(random.Random(seed))
    work = [week.call(place) for place in range(3)]
    pushing = asyncio.create_task(week.push())
    week.tasks += [asyncio.create_task(each) for each in (week.go_wrong(), *work)]
    await pushing
    assert not any(task.done() for task in week.tasks)
    await week.end()
    return week


@pytest.mark.unmeasured
async def test_week_without_a_failed_call():
    """With 96 refreshes, 1,008 tickets and hourly faults there is no extra fetch, no long wait and no failed call."""
    week = await run_week(SEED)
    assert clock() - 1000 == pytest.approx(WEEK, abs=60)
    assert len(week.pushed) == PUSHES
    assert week.service.violations == []
    assert week.inexcusable() == []
    assert week.store.numbers == sorted(week.store.numbers)
    assert 95 <= len(week.service.issued_at) <= 97 + len(week.excuses)
    assert week.mishaps > 100
    assert week.calls > 29_000
    assert week.slowest < BOUND
    assert week.failures == []
