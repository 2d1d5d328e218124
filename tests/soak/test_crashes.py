"""Provisioning that is killed, stopped and ended in its middle, and begun again: real processes and a real file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import attrs

PROGRAM = Path(__file__).with_name("provisioner.py")
CREATE = "/componenttcb/createenv"
LIST = "/componenttcb/describeenvs"
FAULTS = [
    {"trouble": "busy-after", "path": CREATE, "probability": 0.05},
    {"trouble": "drop-after", "path": CREATE, "probability": 0.03},
    {"trouble": "slow", "path": CREATE, "probability": 0.05, "seconds": 3.0},
    {"trouble": "slow", "path": CREATE, "seconds": 0.5},
    {"trouble": "hiccup", "path": LIST, "probability": 0.02},
]


@attrs.define(eq=False)
class Trial:
    """Programs that provision the same tenants one after the other, on one journal."""

    box: object
    options: dict
    process: asyncio.subprocess.Process = None
    killed: int = 0

    @property
    def longest(self):
        """The seconds that a process without creates lives at most before it is killed."""
        return self.options["spare"] + 4.0

    async def start(self):
        given = json.dumps({"way": self.box.way, **self.options})
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(sys.executable, str(PROGRAM), given, stdout=pipe)

    async def creates(self, more, patience=60.0):
        """Wait until the platform has had so many creates more, or the time is up."""
        goal, end = await self._count() + more, time.monotonic() + patience
        while await self._count() < goal and time.monotonic() < end:
            await asyncio.sleep(0.02)

    async def _count(self):
        return (await self.box.state())["counts"].get(CREATE, 0)

    async def kill(self):
        self.killed += self.process.returncode is None
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.communicate()

    async def end(self):
        """Wait for its end, and return what it tells."""
        out, _ = await self.process.communicate()
        assert self.process.returncode == 0
        return json.loads(out)

    async def opened(self):
        """Return how many environments each alias has."""
        return Counter(row["alias"] for row in (await self.box.state())["environments"])


def trial_of(box, folder, scale, **options):
    """Return a trial of a thousand tenants, or of fifty; a create is over after 12 s, or after 3."""
    usual = {"journal": str(folder / "journal.db"), "count": 1000 if scale == 1 else 50}
    usual |= {
        "concurrency": 64 if scale == 1 else 8,
        "settle": 1.0,
        "spare": 10.0 if scale == 1 else 1.0,
        "naive": False,
    }
    return Trial(box, {**usual, **options})


async def kill_again_and_again(trial, times):
    """Kill after some creates, or at any moment while no new ones are sent because all wait for looks."""
    dice = random.Random(7)
    for _ in range(times):
        await trial.start()
        await trial.creates(dice.randint(1, trial.options["count"] // times // 2), dice.uniform(0.5, trial.longest))
        await asyncio.sleep(dice.uniform(0.0, 0.3))
        await trial.kill()


def every_one_once(trial, opened):
    return opened == Counter(f"a{number}" for number in range(trial.options["count"]))


async def test_nothing_is_opened_twice_or_lost_by_kill_9(box_process, tmp_path, scale):
    """Killed at random moments and started again each time: in the end an audit proves that all have what they want."""
    async with box_process(visible_after=0.5) as box:
        await box.order("faults", FAULTS)
        trial = trial_of(box, tmp_path, scale)
        await kill_again_and_again(trial, 20 if scale == 1 else 2)
        await trial.start()
        told, opened = await trial.end(), await trial.opened()
        state = await box.state()
    print(told, f"{trial.killed} killed, {state['counts']}")
    assert trial.killed >= 2
    assert told["proven"]
    assert every_one_once(trial, opened)


async def test_naive_retry_opens_some_twice(box_process, tmp_path):
    """The control: the same without journal and looks."""
    async with box_process() as box:
        await box.order("faults", FAULTS)
        trial = trial_of(box, tmp_path, 0.1, naive=True, concurrency=16)
        await kill_again_and_again(trial, 2)
        await trial.start()
        await trial.end()
        opened = await trial.opened()
    print(f"{opened.total() - len(opened)} too many of {opened.total()}")
    assert len(opened) == trial.options["count"]
    assert opened.total() > len(opened) + 3


async def test_what_is_hidden_for_longer_than_the_settle_is_opened_twice(box_process, tmp_path):
    """The control: it is the settle that protects."""
    async with box_process(visible_after=60.0) as box:
        await box.order("faults", [{**FAULTS[0], "times": 1, "probability": 1}])
        trial = trial_of(box, tmp_path, 0.1, count=1)
        await trial.start()
        await trial.creates(2)
        await trial.kill()
        opened = await trial.opened()
    assert opened.total() >= 2


async def test_a_process_that_is_stopped_in_mid_create_opens_nothing_twice(box_process, tmp_path, scale):
    """For longer than its requests and its intents last; then it goes on, and all are done."""
    async with box_process(visible_after=0.5) as box:
        await box.order("faults", FAULTS)
        trial = trial_of(box, tmp_path, scale)
        await trial.start()
        for _ in range(3 if scale == 1 else 1):
            await trial.creates(12)
            trial.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(14.0 if scale == 1 else 3.5)
            trial.process.send_signal(signal.SIGCONT)
        told, opened = await trial.end(), await trial.opened()
    print(told)
    assert told["proven"]
    assert every_one_once(trial, opened)


async def test_sigterm_ends_with_a_report_and_the_next_run_finishes(box_process, tmp_path, scale):
    """What was sent is awaited, nobody is left out, and no tenant gets two."""
    async with box_process(visible_after=0.5) as box:
        await box.order("faults", FAULTS)
        trial = trial_of(box, tmp_path, scale)
        await trial.start()
        await trial.creates(16)
        trial.process.terminate()
        first, opened = await trial.end(), await trial.opened()
        assert (first["stopped"], sum(first["outcomes"].values())) == ("cancelled", trial.options["count"])
        assert 0 < opened.total() < trial.options["count"]
        await trial.start()
        told, opened = await trial.end(), await trial.opened()
    print(first, told)
    assert told["proven"]
    assert every_one_once(trial, opened)
