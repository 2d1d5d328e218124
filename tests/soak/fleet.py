"""Many real processes on one token store: started, killed, paused, and observed from outside."""

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
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.store_urls import open_store

PROGRAM = Path(__file__).with_name("worker.py")
NO_COUNTS = {"done": 0, "failed": {}, "refreshes": 0, "store_write_failures": 0, "lines_read": 0, "hint": ""}


@attrs.define(eq=False)
class Worker:
    """One process, and the counts that it printed last."""

    process: asyncio.subprocess.Process
    counts: dict = attrs.field(factory=lambda: dict(NO_COUNTS))
    ready: asyncio.Event = attrs.field(factory=asyncio.Event)
    paused: bool = False
    _lines_written: int = 0
    _reader: asyncio.Task = attrs.field(init=False)

    def __attrs_post_init__(self):
        self._reader = asyncio.create_task(self._read())

    async def _read(self):
        while line := await self.process.stdout.readline():
            self.counts = json.loads(line)
            if self.counts["done"]:
                self.ready.set()

    def pause(self):
        self.paused = True
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)
        self.paused = False

    async def make_progress(self, calls):
        """Wait until it has made so many more calls, but not for a process that is paused or has ended."""
        # The line marks this moment: counts that include it were printed after it.
        self._lines_written += 1
        number = self._lines_written
        self.process.stdin.write(b"\n")
        await self._wait_until(lambda: self.counts["lines_read"] >= number)
        goal = self.counts["done"] + calls
        await self._wait_until(lambda: self.counts["done"] >= goal)

    async def _wait_until(self, condition):
        while not (condition() or self.paused or self.process.returncode is not None):
            await asyncio.sleep(0.01)

    async def kill(self):
        self.process.kill()
        await self.process.wait()
        await self._reader

    async def end(self):
        """End it gracefully; return whether it did."""
        self.process.stdin.close()
        await self._reader
        return await self.process.wait() == 0


@attrs.define(eq=False)
class Watch:
    """The stored state as polled: each token as its generation and the platform's number of it."""

    tokens: list = attrs.field(factory=list)
    lease: object = None
    polls: int = 0

    async def follow(self, url, appid):
        store = open_store(url)
        shared = StateRepository(store, appid)
        try:
            while True:
                with contextlib.suppress(TokenStoreError):
                    snapshot = await shared.read()
                    lease = snapshot.state.lease
                    self.lease = lease if lease is not None and lease.remaining(snapshot.store_time) > 0 else None
                    self._record(snapshot.state.token)
                    self.polls += 1
                await asyncio.sleep(0.005)
        finally:
            await store.aclose()

    async def poll_again(self):
        """Wait for a poll that started after this call."""
        # Two: the next poll to end may have started already.
        goal = self.polls + 2
        while self.polls < goal:
            await asyncio.sleep(0.005)

    def _record(self, token):
        if token is None:
            return
        stored = token.generation, int(token.value.reveal().partition("_")[0])
        if not self.tokens or self.tokens[-1] != stored:
            self.tokens.append(stored)

    def regressions(self):
        """Return the pairs in which an older token replaced a newer one."""
        pairs = zip(self.tokens, self.tokens[1:], strict=False)
        return [(old, new) for old, new in pairs if new[0] <= old[0] or new[1] <= old[1]]


@attrs.define(eq=False)
class Fleet:
    """Processes of one platform; `killed` are those that were killed."""

    session_options: dict
    tasks: int
    pause: float = 0.0
    options: dict = attrs.field(factory=dict)
    workers: list = attrs.field(factory=list)
    killed: list = attrs.field(factory=list)

    async def start(self, number):
        """Start *number* more processes, and return when each has made its first calls."""
        session = {**self.session_options, "max_fetches_per_hour": None, **self.options}
        arguments = json.dumps({"session": session, "tasks": self.tasks, "pause": self.pause})
        command = (sys.executable, str(PROGRAM), arguments)
        pipe = asyncio.subprocess.PIPE
        new = [Worker(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)) for _ in range(number)]
        self.workers += new
        await asyncio.gather(*(each.ready.wait() for each in new))

    async def make_progress(self):
        """Wait until each running process has made two more calls for each of its tasks."""
        await asyncio.gather(*(each.make_progress(2 * self.tasks) for each in self.workers))

    async def kill(self, worker):
        """End *worker* as kill -9 does."""
        self.workers.remove(worker)
        self.killed.append(worker)
        await worker.kill()

    def holder(self, lease):
        """Return the process that holds *lease*, if it belongs to the fleet."""
        pid = int(lease.owner.rpartition(":")[2])
        return next((each for each in self.workers if each.process.pid == pid), None)

    async def end(self):
        """End all processes gracefully; return whether each did."""
        return all(await asyncio.gather(*(each.end() for each in self.workers)))

    async def abandon(self):
        for worker in [*self.workers]:
            if worker.process.returncode is None:
                await self.kill(worker)

    def counts(self, name):
        return [each.counts[name] for each in (*self.workers, *self.killed)]

    @property
    def failed(self):
        """The failures of all processes, counted by message."""
        return sum((Counter(each) for each in self.counts("failed")), Counter())

    def summary(self):
        """Return the counts of all processes in one line."""
        done, refreshes = sum(self.counts("done")), sum(self.counts("refreshes"))
        return f"{done:,} calls, {refreshes} refreshes, failed {sum(self.failed.values())}"
