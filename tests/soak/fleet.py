"""Many real processes on one token store: started, killed, paused, and watched from outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections import Counter
from pathlib import Path

import attrs

from wxtcb.errors import TokenStoreError
from wxtcb.tokens.shared_state import SharedState
from wxtcb.tokens.store_urls import open_store

WORKER = Path(__file__).with_name("worker.py")
NOTHING = {"done": 0, "failed": {}, "renewals": 0, "alone": 0, "asked": 0, "advice": ""}


@attrs.define(eq=False)
class Worker:
    """One process, and what it has told last."""

    process: asyncio.subprocess.Process
    told: dict = attrs.field(factory=lambda: dict(NOTHING))
    ready: asyncio.Event = attrs.field(factory=asyncio.Event)
    paused: bool = False
    _asked: int = 0
    _reader: asyncio.Task = attrs.field(init=False)

    def __attrs_post_init__(self):
        self._reader = asyncio.create_task(self._read())

    async def _read(self):
        while line := await self.process.stdout.readline():
            self.told = json.loads(line)
            if self.told["done"]:
                self.ready.set()

    def pause(self):
        self.paused = True
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)
        self.paused = False

    async def goes_on(self, calls):
        """Wait until it has made so many calls more from now on; do not wait for one that is paused or gone."""
        self._asked += 1
        number = self._asked
        self.process.stdin.write(b"\n")
        await self._comes_to(lambda: self.told["asked"] >= number)
        goal = self.told["done"] + calls
        await self._comes_to(lambda: self.told["done"] >= goal)

    async def _comes_to(self, condition):
        while not (condition() or self.paused or self.process.returncode is not None):
            await asyncio.sleep(0.01)

    async def kill(self):
        self.process.kill()
        await self.process.wait()
        await self._reader

    async def end(self):
        """Let it end in good order; tell whether it did."""
        self.process.stdin.close()
        await self._reader
        return await self.process.wait() == 0


@attrs.define(eq=False)
class Watch:
    """The record as it was seen, again and again: each token by its generation and the platform's number of it."""

    tokens: list = attrs.field(factory=list)
    lease: object = None
    looks: int = 0

    async def follow(self, url, appid):
        store = open_store(url)
        shared = SharedState(store, appid)
        try:
            while True:
                with contextlib.suppress(TokenStoreError):
                    seen = await shared.read()
                    lease = seen.state.lease
                    self.lease = lease if lease is not None and lease.remaining(seen.store_time) > 0 else None
                    self._note(seen.state.token)
                    self.looks += 1
                await asyncio.sleep(0.005)
        finally:
            await store.aclose()

    async def looks_again(self):
        """Wait until the record has been seen as it is from now on."""
        goal = self.looks + 2
        while self.looks < goal:
            await asyncio.sleep(0.005)

    def _note(self, token):
        if token is None:
            return
        kept = token.generation, int(token.value.reveal().partition("_")[0])
        if not self.tokens or self.tokens[-1] != kept:
            self.tokens.append(kept)

    @property
    def numbers(self):
        """The platform's numbers of the tokens kept, in the order in which they were kept."""
        return [number for _, number in self.tokens]

    def steps_back(self):
        """Return what was stored over something newer."""
        pairs = zip(self.tokens, self.tokens[1:], strict=False)
        return [(old, new) for old, new in pairs if new[0] <= old[0] or new[1] <= old[1]]


@attrs.define(eq=False)
class Fleet:
    """Processes of one platform; `gone` are those that were killed."""

    way: dict
    tasks: int
    pause: float = 0.0
    options: dict = attrs.field(factory=dict)
    workers: list = attrs.field(factory=list)
    gone: list = attrs.field(factory=list)

    async def start(self, number):
        """Start *number* processes more, and return when each has made its first calls."""
        session = {**self.way, "max_fetches_per_hour": None, **self.options}
        given = json.dumps({"session": session, "tasks": self.tasks, "pause": self.pause})
        pipe = asyncio.subprocess.PIPE
        new = [
            Worker(await asyncio.create_subprocess_exec(sys.executable, str(WORKER), given, stdin=pipe, stdout=pipe))
            for _ in range(number)
        ]
        self.workers += new
        await asyncio.gather(*(each.ready.wait() for each in new))

    async def goes_on(self):
        """Wait until each that runs has made two calls more for each of its tasks."""
        await asyncio.gather(*(each.goes_on(2 * self.tasks) for each in self.workers))

    async def kill(self, worker):
        """End *worker* as kill -9 does."""
        self.workers.remove(worker)
        self.gone.append(worker)
        await worker.kill()

    def holder(self, lease):
        """Return the process that *lease* belongs to, if it is one of ours."""
        number = int(lease.owner.rpartition(":")[2])
        return next((each for each in self.workers if each.process.pid == number), None)

    async def end(self):
        """End all in good order; tell whether each did."""
        return all(await asyncio.gather(*(each.end() for each in self.workers)))

    async def abandon(self):
        for worker in [*self.workers]:
            if worker.process.returncode is None:
                await self.kill(worker)

    def told(self, name):
        return [each.told[name] for each in (*self.workers, *self.gone)]

    @property
    def failed(self):
        """What failed in all of them, counted by its words."""
        return sum((Counter(each) for each in self.told("failed")), Counter())

    def counts(self):
        """Return what was done, in one line."""
        done, renewals = sum(self.told("done")), sum(self.told("renewals"))
        return f"{done:,} calls, {renewals} renewals, failed {sum(self.failed.values())}"
