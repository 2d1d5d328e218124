"""A process that provisions what is desired when it is elected, and measures itself.

Takes its options as a JSON object: `sandbox` is the platform, `journal` the URL of the journal, `count` the number of
tenants, `until` what ends it: "done", or "waiting" for all tenants that have an environment. Other options are those of
a provisioner or a timeout. Prints a line when it is ready, begins when it reads a line, and prints its measurements as
JSON at the end. SIGTERM ends it gracefully.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
import time

import anyio
import orjson
from memory import peak_memory, reset_peak
from provisioning import CONCURRENCY, SandboxProcess

import wxtcb
from wxtcb.provision import Provisioner, context
from wxtcb.provision.events import RunEvent, StepDone, TenantFinished
from wxtcb.provision.journal_urls import open_journal

TICK = 0.001


async def measure_turns(longest: list[float]) -> None:
    """Append each new maximum of the CPU seconds that the event loop spent between two ticks."""
    while True:
        before = time.thread_time()
        await asyncio.sleep(TICK)
        # By CPU time: on a shared machine, elapsed time says more about other programs.
        if (seconds := time.thread_time() - before) > longest[-1]:
            longest.append(seconds)


async def serve(provisioner: Provisioner, count: int, until: str) -> None:
    """Serve until *count* tenants are finished, or have an environment."""
    remaining, ended = iter(range(count - 1)), asyncio.Event()

    def on_event(event: RunEvent) -> None:
        if until == "done":
            counts = isinstance(event, TenantFinished)
        else:
            counts = isinstance(event, StepDone) and event.step == "environment"
        if counts and next(remaining, None) is None:
            ended.set()

    serving = asyncio.ensure_future(provisioner.serve(on_event=on_event))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
    # Until what has finished is stored.
    await asyncio.sleep(0.5)
    if until == "waiting":
        gc.collect()
        write({"resident": peak_memory() - RESIDENT[0]})
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


RESIDENT: list[float] = []


def write(value: object) -> None:
    """Write a line of JSON."""
    sys.stdout.write(f"{orjson.dumps(value).decode()}\n")
    sys.stdout.flush()


async def main(
    sandbox: dict[str, str],
    journal: str,
    count: int,
    until: str = "done",
    *,
    connect: float = 5.0,
    reply: float = 30.0,
    **settings: float,
) -> None:
    """Provision and print the measurements."""
    context.CREATE_WINDOW_MARGIN = min(context.CREATE_WINDOW_MARGIN, connect + reply)
    timeout = wxtcb.Timeout(connect=connect, reply=reply)
    async with (
        open_journal(journal) as opened,
        SandboxProcess(**sandbox).session(max_fetches_per_hour=None, timeout=timeout) as session,
        Provisioner(session, journal=opened, **{"concurrency": CONCURRENCY, **settings}) as provisioner,
    ):
        # It imports modules at its first use, which must not count as a turn of the loop.
        with anyio.CancelScope():
            await asyncio.sleep(0)
        write("ready")
        await asyncio.to_thread(sys.stdin.readline)
        longest = [0.0]
        RESIDENT.append(reset_peak())
        ticking = asyncio.create_task(measure_turns(longest))
        cpu, started = time.process_time(), time.perf_counter()
        await serve(provisioner, count, until)
        ticking.cancel()
        result = {"cpu": time.process_time() - cpu, "elapsed": time.perf_counter() - started}
        write({**result, "memory": peak_memory() - RESIDENT[0], "turn": longest[-1]})


if __name__ == "__main__":
    asyncio.run(main(**orjson.loads(sys.argv[1])))
