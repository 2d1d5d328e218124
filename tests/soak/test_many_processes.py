"""Many processes that provision with one journal, while they are killed and paused, and their database restarts.

WXTCB_SOAK=1 runs them with 1,000 and 600 tenants and the times of the guarantee; otherwise a smaller number of tenants
and shorter times.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter

import pytest

from tests.postgres_server import start_postgres
from tests.soak.candidates import CREATE, FAULTS, LIST, SHARE, SHORT, Hosts, Times
from wxtcb.provision.desired import DesiredState

FULL_LENGTH = bool(os.environ.get("WXTCB_SOAK"))
TIMES = Times() if FULL_LENGTH else SHORT
STORAGES = ["postgresql", "sqlite"]
# Few and slow creates at a time, so that every disturbance meets some of them.
CONCURRENCY = 16 if FULL_LENGTH else 4
SLOW_CREATES = {"kind": "slow", "path": CREATE, "seconds": 0.15}


@pytest.fixture(scope="module")
def postgres():
    """Return a server that tests may restart and crash."""
    server = start_postgres()
    yield server
    server.stop()


@pytest.fixture
def run_hosts(start_sandbox, tmp_path, request):
    """Return a context manager of hosts with a new journal and a new platform that has *faults*."""

    @contextlib.asynccontextmanager
    async def run(storage, count, *, submitted=True, faults=FAULTS, times=TIMES, **sandbox_options):
        server, url = None, f"sqlite:///{tmp_path}/journal.db"
        token_store = f"sqlite:///{tmp_path}/tokens.db"
        if storage == "postgresql":
            server = request.getfixturevalue("postgres")
            url = token_store = server.url(server.create_database())
        sandbox_options = {"visible_after": 0.5, "ready_after": 1.0, **sandbox_options}
        async with start_sandbox(**sandbox_options) as sandbox:
            await sandbox.post("faults", [*faults, SLOW_CREATES])
            hosts = Hosts(sandbox, url, token_store, times, CONCURRENCY, server)
            try:
                if submitted:
                    await hosts.submit(count)
                yield hosts
            finally:
                await hosts.end()

    return run


async def check_all_done(hosts, count):
    """Assert that each tenant is done, and has become so once, with one environment; and that an audit passes."""
    created, state = await hosts.created(), await hosts.sandbox.state()
    ends, finished, audit = hosts.ends(), hosts.finished(), await hosts.audit(count)
    print(
        f"{created.total()} environments of {len(created)} tenants, {ends.total()} ends, {finished.total()} reported; "
        f"{[state['counts'].get(path, 0) for path in (CREATE, LIST, SHARE)]} creates, listings, shares"
    )
    expected = Counter(f"a{number}" for number in range(count))
    assert all(each.running for each in hosts.candidates)
    assert {alias: number for alias, number in created.items() if number != 1} == {}
    assert created == expected
    assert await hosts.states() == {DesiredState.DONE: count}
    assert ends == Counter(f"t{number}" for number in range(count))
    assert audit.passed


async def restart_database(hosts, *, crash):
    """Restart the database, or crash it; it is back after a moment."""
    if hosts.postgres is not None:
        await asyncio.to_thread(hosts.postgres.crash if crash else hosts.postgres.shutdown)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(hosts.postgres.start)


@pytest.mark.parametrize("storage", STORAGES)
async def test_candidates_replace_each_other(run_hosts, storage):
    """The elected process is killed, the next is paused past its lease, the database restarts and crashes: all done."""
    count = 1000 if FULL_LENGTH else 60
    part = count // 6
    async with run_hosts(storage, count) as hosts:
        await hosts.start(4)
        first = await hosts.next_elected()
        await hosts.wait_for_creates(part)
        epoch = first.epoch
        await hosts.kill(first)
        second = await hosts.next_elected(after=epoch)
        await hosts.wait_for_creates(part)
        epoch = second.epoch
        second.pause()
        if hosts.postgres is not None:
            await hosts.next_elected(after=epoch)
        else:
            # The lock of a stopped process does not end.
            await asyncio.sleep(2 * TIMES.lease)
            second.resume()
        await hosts.wait_for_creates(part)
        await restart_database(hosts, crash=False)
        second.resume()
        await hosts.wait_for_creates(part)
        await restart_database(hosts, crash=True)
        seconds = await hosts.wait_until_done()
        print(f"done {seconds:.1f} s after the last event")
        await check_all_done(hosts, count)


async def disturb(hosts, rng, events):
    """Kill and replace, or pause for a while, a random candidate, or restart or crash the database, *events* times."""
    counts, resuming = Counter(), set()
    kinds = ["kill", "kill", "pause"] + ["restart", "crash"] * (hosts.postgres is not None)
    weights = [3, 3, 3] + [1, 1] * (hosts.postgres is not None)

    async def resume_later(candidate, seconds):
        await asyncio.sleep(seconds)
        candidate.resume()

    for _ in range(events):
        await asyncio.sleep(rng.uniform(0.2, 1.4) if FULL_LENGTH else rng.uniform(0.1, 0.5))
        (kind,) = rng.choices(kinds, weights)
        awake = [each for each in hosts.candidates if not each.paused]
        # Half of the time the elected one: otherwise most events would meet those that only wait.
        victim = hosts.elected() if rng.random() < 0.5 else None
        victim = victim or (rng.choice(awake) if awake else None)
        assert all(each.running for each in hosts.candidates)
        if kind in ("restart", "crash"):
            await restart_database(hosts, crash=kind == "crash")
        elif victim is None:
            continue
        elif kind == "kill":
            await hosts.kill(victim)
            await hosts.start()
        else:
            victim.pause()
            seconds = rng.uniform(2 / 3, 3.0) * TIMES.lease
            resuming.add(asyncio.create_task(resume_later(victim, seconds)))
        counts[kind] += 1
    await asyncio.gather(*resuming)
    return counts


@pytest.mark.parametrize("seed", [1, 2, 3] if FULL_LENGTH else [1])
@pytest.mark.parametrize("storage", STORAGES)
async def test_storm_of_kills_pauses_and_restarts(run_hosts, storage, seed):
    """Every candidate is killed or paused again and again, and so is the database: nothing is done twice or lost."""
    count, events = (600, 80) if FULL_LENGTH else (40, 6)
    async with run_hosts(storage, count) as hosts:
        await hosts.start(4 if FULL_LENGTH else 3)
        await hosts.next_elected()
        storm = asyncio.create_task(disturb(hosts, random.Random(seed), events))
        await asyncio.wait([storm])
        counts, states = storm.result(), await hosts.states()
        seconds = await hosts.wait_until_done()
        terms = sum(len(each.of_kind("term")) for each in hosts.everyone)
        print(f"{dict(counts)}, then {states}; {terms} terms; done {seconds:.1f} s after the last event")
        await check_all_done(hosts, count)


@pytest.mark.parametrize("storage", ["postgresql"])
async def test_two_live_processes_without_election(run_hosts, storage):
    """Two processes that apply the same tenants create each once, and both report all of them done."""
    count = 1000 if FULL_LENGTH else 60
    async with run_hosts(storage, count, submitted=False) as hosts:
        both = await hosts.start(2, work="apply", count=count)
        await asyncio.gather(*(each.reader for each in both))
        results = [each.of_kind("applied")[0] for each in both]
        created, state = await hosts.created(), await hosts.sandbox.state()
        audit = await hosts.audit(count)
    print(results, [state["counts"].get(path, 0) for path in (CREATE, LIST, SHARE)])
    assert created == Counter(f"a{number}" for number in range(count))
    assert [result["outcomes"] for result in results] == [{"awaiting confirmation": count}] * 2
    assert audit.passed


async def test_without_versions_and_epochs_tenants_are_created_twice(run_hosts):
    """Control: if the last commit wins, two live processes create most environments twice."""
    count = 200 if FULL_LENGTH else 40
    async with run_hosts("postgresql", count, submitted=False) as hosts:
        both = await hosts.start(2, work="apply", count=count, careless=True)
        await asyncio.gather(*(each.reader for each in both))
        created = await hosts.created()
    duplicates = created.total() - len(created)
    print(f"{duplicates} duplicates of {count}")
    assert duplicates >= count // 2


async def test_environments_hidden_for_longer_than_the_delay_are_created_twice(run_hosts):
    """Control: it is the propagation delay that protects tenants whose create had no response."""
    count = 200 if FULL_LENGTH else 40
    lost = {"kind": "busy-after", "path": CREATE, "times": count}
    async with run_hosts("postgresql", count, faults=[lost], visible_after=3600.0) as hosts:
        await hosts.start()
        await hosts.wait_for_creates(count + count // 4)
        await hosts.end()
        created = await hosts.created()
    duplicates = created.total() - len(created)
    print(f"{duplicates} duplicates of {count}")
    assert duplicates >= count // 4


@pytest.mark.parametrize("storage", STORAGES)
async def test_sigterm_hands_over(run_hosts, storage):
    """A process that is terminated is replaced, also by one whose clock shows two hours less."""
    count = 200 if FULL_LENGTH else 60
    async with run_hosts(storage, count) as hosts:
        (first,) = await hosts.start(clock_offset=3600.0)
        await hosts.next_elected()
        await hosts.start(clock_offset=-3600.0)
        while not hosts.candidates[-1].of_kind("ready"):
            await asyncio.sleep(0.01)
        await hosts.wait_for_creates(count // 3)
        epoch = first.epoch
        hosts.candidates.remove(first)
        hosts.killed.append(first)
        assert await first.terminate() == 0
        second = await hosts.next_elected(after=epoch)
        waited = second.of_kind("term")[0]["at"] - first.of_kind("term ended")[0]["at"]
        print(f"the next one was elected {waited:.2f} s after the end of the term")
        seconds = await hosts.wait_until_done()
        print(f"done {seconds:.1f} s later")
        await check_all_done(hosts, count)
