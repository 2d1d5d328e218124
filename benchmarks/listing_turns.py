"""Turns of the event loop while 64 tenants wait for one listing of 10,000 environments.

Every create of a run follows a listing of at most 5 seconds ago, and all tenants that wait for one share it: the
request, the decoding of the reply, its index, and the comparison with the journal. No turn of the event loop may take
more than 20 ms of processor time, or other tasks of the process, such as the requests of a web app, are late.

The time is that of the thread of the loop, so that a busy machine does not count. Full garbage collections are reported
on their own: they examine all objects of the process, happen in whichever turn the threshold is reached, and depend on
the program (`gc.freeze`). `--smoke` checks in seconds that the script works. Exits with 1 if a turn takes longer.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import time
from typing import Final

from loops import new_session, run_server

import wxtcb
from wxtcb.api.environment import DESCRIBE_ENVS, EnvList
from wxtcb.provision import MemoryJournal
from wxtcb.provision.reconciliation import EnvironmentListing, ExpectedEnvironments, KnownBindings
from wxtcb.provision.record import Binding

ENVIRONMENTS: Final = 10_000
WAITERS: Final = 64
LISTINGS: Final = 30
# Milliseconds.
LIMIT: Final = 20.0


class MeasuredLoop(asyncio.SelectorEventLoop):
    """An event loop that measures the processor time of its turns, in milliseconds."""

    longest = 0.0
    total = 0.0
    collecting = 0.0

    def _run_once(self) -> None:
        started, self.collecting = time.thread_time(), 0.0
        # Not in the stubs: the method that runs one turn.
        super()._run_once()  # type: ignore[misc]
        turn = (time.thread_time() - started) * 1e3 - self.collecting
        self.longest, self.total = max(self.longest, turn), self.total + turn


def watch_collections(loop: MeasuredLoop, collections: list[float]) -> None:
    """Record the time of each full garbage collection, and subtract it from the turn of *loop*."""
    started = 0.0

    def record(phase: str, info: dict[str, int]) -> None:
        nonlocal started
        if info["generation"] != 2:
            return
        if phase == "start":
            started = time.thread_time()
        else:
            collections.append((time.thread_time() - started) * 1e3)
            loop.collecting += collections[-1]

    gc.callbacks.append(record)


class FullJournal(MemoryJournal):
    """A journal that has every environment of a list."""

    def __init__(self, listed: EnvList) -> None:
        super().__init__()
        self.listed = listed

    async def bindings(self, now: float) -> dict[str, Binding]:
        """Return one tenant for each environment; all were bound long before *now*."""
        return {env: Binding(env, now - 1e6) for env in self.listed.by_env}


async def list_once(session: wxtcb.Session, loop: MeasuredLoop) -> tuple[float, float]:
    """Let all waiters wait for a new listing; return the longest turn meanwhile, and the time of all turns."""
    poller = session.shared_poller(DESCRIBE_ENVS)
    poller.min_interval = 0.0
    known = (await poller.poll(loop.time())).value
    # A turn of its own, so that the preparation does not count.
    await asyncio.sleep(0)
    loop.longest = loop.total = 0.0
    expected = ExpectedEnvironments(5.0)
    bindings = KnownBindings(FullJournal(known), expected, lambda: 0.0, lambda: True)
    await bindings.read()
    listing = EnvironmentListing(poller, bindings)
    now = loop.time() + 5.0
    aliases = [info.alias for info in known.info_list[:WAITERS]]
    await asyncio.gather(*(listing.refresh(now) for _ in aliases))
    await asyncio.sleep(0)
    assert all(len(listing.alias_index.find(alias)) == 1 for alias in aliases)
    return loop.longest, loop.total


async def measure(environments: int, listings: int, collections: list[float]) -> list[tuple[float, float]]:
    """Return the longest turn and the time of all turns for each listing, after a warm-up."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, MeasuredLoop)
    with run_server(environments=environments) as target:
        async with new_session(target) as session:
            await list_once(session, loop)
            watch_collections(loop, collections)
            return [await list_once(session, loop) for _ in range(listings)]


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="see in seconds that it works")
    smoke = parser.parse_args().smoke
    environments, listings = (200, 2) if smoke else (ENVIRONMENTS, LISTINGS)
    collections: list[float] = []
    with asyncio.Runner(loop_factory=MeasuredLoop) as runner:
        results = runner.run(measure(environments, listings, collections))
    longest = [turn for turn, _ in results]
    print(f"{WAITERS} waiters, {listings} listings of {environments:,} environments; milliseconds of processor time:")
    print(f"longest turn: median {statistics.median(longest):.2f}, maximum {max(longest):.2f}; limit {LIMIT:.0f}")
    print(f"all turns of a listing: median {statistics.median(total for _, total in results):.2f}")
    print(f"full garbage collections: {len(collections)}, longest {max(collections, default=0.0):.2f}")
    return 0 if smoke or max(longest) <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
