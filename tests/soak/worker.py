"""A backend in a process of its own: many tasks call in a loop until its stdin closes.

Ten times a second it prints what they have done so far, as one JSON line, so that this is known of a killed one too.
With it comes how many lines it has read: so whoever writes one knows what was done after that.
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
    """What was done, and what failed, by its words."""

    done: int = 0
    failed: dict = attrs.field(factory=dict)
    renewals: int = 0
    alone: int = 0
    asked: int = 0
    advice: str = ""

    def on_event(self, event):
        self.renewals += isinstance(event, TokenRefreshed)
        self.alone += isinstance(event, TokenStoreWriteFailed)
        if isinstance(event, TokenConflictDetected):
            self.advice = event.hint

    def note(self, error):
        self.done += 1
        if error is not None:
            words = f"{type(error).__name__}: {error}"[:300]
            self.failed[words] = self.failed.get(words, 0) + 1


async def call_for_ever(session, tally, pause):
    while True:
        failed = None
        try:
            await environment.describe_envs(session)
        except wxtcb.WxtcbError as error:
            failed = error
        tally.note(failed)
        await asyncio.sleep(1.0 if failed else pause)


async def report(tally):
    while True:
        print(json.dumps(attrs.asdict(tally)), flush=True)
        await asyncio.sleep(0.1)


async def main(options):
    tally = Tally()
    async with wxtcb.Session(**options["session"], hooks=[tally.on_event]) as session:
        work = [call_for_ever(session, tally, options["pause"]) for _ in range(options["tasks"])]
        tasks = [asyncio.create_task(each) for each in (*work, report(tally))]
        while await asyncio.to_thread(sys.stdin.readline):
            tally.asked += 1
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    print(json.dumps(attrs.asdict(tally)), flush=True)


asyncio.run(main(json.loads(sys.argv[1])))
