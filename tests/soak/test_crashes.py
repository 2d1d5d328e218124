"""Provisioning that is killed, paused, terminated and restarted: real processes and a real file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
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
    {"kind": "busy-after", "path": CREATE, "probability": 0.05},
    {"kind": "drop-after", "path": CREATE, "probability": 0.03},
    {"kind": "slow", "path": CREATE, "probability": 0.05, "seconds": 3.0},
    {"kind": "slow", "path": CREATE, "seconds": 0.5},
    {"kind": "incomplete-list", "path": LIST, "probability": 0.02},
]


@attrs.define(eq=False)
class Trial:
    """Processes that provision the same tenants one after the other, on one journal."""

    sandbox: object
    options: dict
    process: asyncio.subprocess.Process = None
    killed: int = 0

    @property
    def max_lifetime(self):
        """The seconds after which a process without creates is killed."""
        return self.options["window_margin"] + 4.0

    async def start(self):
        given = json.dumps({"session": self.sandbox.session_options, **self.options})
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(sys.executable, str(PROGRAM), given, stdout=pipe)

    async def wait_for_creates(self, more, max_seconds=math.inf):
        """Wait until the platform has received so many more creates, at most *max_seconds*."""
        goal, end = await self._count() + more, time.monotonic() + max_seconds
        while await self._count() < goal and time.monotonic() < end:
            await asyncio.sleep(0.02)

    async def _count(self):
        return (await self.sandbox.state())["counts"].get(CREATE, 0)

    async def kill(self):
        self.killed += self.process.returncode is None
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.communicate()

    async def finish(self):
        """Wait until the process ends, and return its result."""
        out, _ = await self.process.communicate()
        assert self.process.returncode == 0
        return json.loads(out)

    async def created(self):
        """Return the number of environments of each alias."""
        return Counter(row["alias"] for row in (await self.sandbox.state())["environments"])


def make_trial(sandbox, folder, scale, **options):
    """Return a trial of a thousand tenants, or of fifty; a create ends within 12 seconds, or within 3."""
    defaults = {"journal": str(folder / "journal.db"), "count": 1000 if scale == 1 else 50}
    defaults |= {
        "concurrency": 64 if scale == 1 else 8,
        "settle": 1.0,
        "window_margin": 10.0 if scale == 1 else 1.0,
        "naive": False,
    }
    return Trial(sandbox, {**defaults, **options})


async def kill_repeatedly(trial, times):
    """Kill the process after some creates, or at a random moment while all tenants wait for listings."""
    rng = random.Random(7)
    for _ in range(times):
        await trial.start()
        more = rng.randint(1, trial.options["count"] // times // 2)
        await trial.wait_for_creates(more, rng.uniform(0.5, trial.max_lifetime))
        await asyncio.sleep(rng.uniform(0.0, 0.3))
        await trial.kill()


def all_created_once(trial, created):
    return created == Counter(f"a{number}" for number in range(trial.options["count"]))


async def test_kill_9_creates_nothing_twice_and_loses_nothing(start_sandbox, tmp_path, scale):
    """A process killed at random moments and restarted ends with an audit that proves all tenants."""
    async with start_sandbox(visible_after=0.5) as sandbox:
        await sandbox.post("faults", FAULTS)
        trial = make_trial(sandbox, tmp_path, scale)
        await kill_repeatedly(trial, 20 if scale == 1 else 2)
        await trial.start()
        result, created = await trial.finish(), await trial.created()
        state = await sandbox.state()
    print(result, f"{trial.killed} killed, {state['counts']}")
    assert trial.killed >= 2
    assert result["proven"]
    assert all_created_once(trial, created)


async def test_naive_retry_creates_some_twice(start_sandbox, tmp_path):
    """Control: without journal and listings, some environments are created twice."""
    async with start_sandbox() as sandbox:
        await sandbox.post("faults", FAULTS)
        trial = make_trial(sandbox, tmp_path, 0.1, naive=True, concurrency=16)
        await kill_repeatedly(trial, 2)
        await trial.start()
        await trial.finish()
        created = await trial.created()
    print(f"{created.total() - len(created)} too many of {created.total()}")
    assert len(created) == trial.options["count"]
    assert created.total() > len(created) + 3


async def test_too_short_settle_creates_second_environment(start_sandbox, tmp_path):
    """Control: it is the propagation delay that protects."""
    async with start_sandbox(visible_after=3600.0) as sandbox:
        await sandbox.post("faults", [{**FAULTS[0], "times": 1, "probability": 1}])
        trial = make_trial(sandbox, tmp_path, 0.1, count=1)
        await trial.start()
        await trial.wait_for_creates(2)
        await trial.kill()
        created = await trial.created()
    assert created.total() >= 2


async def test_paused_process_creates_nothing_twice(start_sandbox, tmp_path, scale):
    """It is paused for longer than its requests and intents last; then it continues, and all tenants are done."""
    async with start_sandbox(visible_after=0.5) as sandbox:
        await sandbox.post("faults", FAULTS)
        trial = make_trial(sandbox, tmp_path, scale)
        await trial.start()
        for _ in range(3 if scale == 1 else 1):
            await trial.wait_for_creates(12)
            trial.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(14.0 if scale == 1 else 3.5)
            trial.process.send_signal(signal.SIGCONT)
        result, created = await trial.finish(), await trial.created()
    print(result)
    assert result["proven"]
    assert all_created_once(trial, created)


async def test_sigterm_ends_with_complete_report(start_sandbox, tmp_path, scale):
    """Sent requests are awaited, each tenant is reported, and the next run finishes without duplicates."""
    async with start_sandbox(visible_after=0.5) as sandbox:
        await sandbox.post("faults", FAULTS)
        # So many that the run cannot end before the signal, also on a busy machine.
        trial = make_trial(sandbox, tmp_path, scale, count=1000 if scale == 1 else 100)
        await trial.start()
        await trial.wait_for_creates(16)
        trial.process.terminate()
        first, created = await trial.finish(), await trial.created()
        assert (first["stopped"], sum(first["outcomes"].values())) == ("cancelled", trial.options["count"])
        assert 0 < created.total() < trial.options["count"]
        await trial.start()
        result, created = await trial.finish(), await trial.created()
    print(first, result)
    assert result["proven"]
    assert all_created_once(trial, created)
