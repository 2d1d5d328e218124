"""Program: a backend whose tasks call in a loop until its stdin closes.

Ten times a second it prints its counts as one JSON line, so that those of a killed process are known, too. The counts
include the number of lines read from stdin: a test that writes a line knows which calls were made after it.
"""

from __future__ import annotations

import asyncio
import json
import sys

import attrs

import wxtcb
from wxtcb.api import environment
from wxtcb.events import TokenConflictDetected, TokenRefreshed, TokenStoreWriteFailed


@attrs.define
class Tally:
    """Counts of calls, of failures by message, and of events."""

    done: int = 0
    failed: dict = attrs.field(factory=dict)
    refreshes: int = 0
    store_write_failures: int = 0
    lines_read: int = 0
    hint: str = ""

    def on_event(self, event):
        self.refreshes += isinstance(event, TokenRefreshed)
        self.store_write_failures += isinstance(event, TokenStoreWriteFailed)
        if isinstance(event, TokenConflictDetected):
            self.hint = event.hint

    def count_call(self, error):
        self.done += 1
        if error is not None:
            message = f"{type(error).__name__}: {error}"[:300]
            self.failed[message] = self.failed.get(message, 0) + 1


async def call_repeatedly(session, tally, pause):
    while True:
        failure = None
        try:
            await environment.describe_envs(session)
        except wxtcb.WxtcbError as error:
            failure = error
        tally.count_call(failure)
        await asyncio.sleep(1.0 if failure else pause)


async def report(tally):
    while True:
        print(json.dumps(attrs.asdict(tally)), flush=True)
        await asyncio.sleep(0.1)


async def main(options):
    tally = Tally()
    async with wxtcb.Session(**options["session"], hooks=[tally.on_event]) as session:
        calls = [call_repeatedly(session, tally, options["pause"]) for _ in range(options["tasks"])]
        tasks = [asyncio.create_task(each) for each in (*calls, report(tally))]
        while await asyncio.to_thread(sys.stdin.readline):
            tally.lines_read += 1
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    print(json.dumps(attrs.asdict(tally)), flush=True)


asyncio.run(main(json.loads(sys.argv[1])))
