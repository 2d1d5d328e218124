"""A process that provisions tenants, and measures itself.

Takes its options as a JSON object: `sandbox` is the platform, `journal` the URL of the journal, `count` the number of
tenants, and `work` is "serve" (what is desired) or "apply" (a list of its own). Prints a line when it is ready, and its
measurements as JSON when all tenants are finished.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time

import orjson
from memory import peak_memory, reset_peak
from provisioning import CONCURRENCY, SandboxProcess, make_tenants, open_journal

from wxtcb.provision import Provisioner

# Without a gap, so that the longest run of callbacks between two ticks is seen.
TICK: float = 0.001


async def measure_blocking(worst: list[float]) -> None:
    """Append each new maximum of the CPU seconds that the event loop spent between two ticks."""
    while True:
        before = time.thread_time()
        await asyncio.sleep(TICK)
        # By CPU time: on a shared machine, elapsed time says more about other programs.
        if (seconds := time.thread_time() - before) > worst[-1]:
            worst.append(seconds)


async def serve(provisioner: Provisioner, count: int) -> None:
    """Serve until *count* tenants are finished."""
    from wxtcb.provision.events import TenantFinished

    remaining, finished = iter(range(count - 1)), asyncio.Event()

    def on_event(event: object) -> None:
        if isinstance(event, TenantFinished) and next(remaining, None) is None:
            finished.set()

    serving = asyncio.create_task(provisioner.serve(on_event=on_event))
    waiting = asyncio.create_task(finished.wait())
    await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
    # Until what has finished is stored.
    await asyncio.sleep(0.5)
    serving.cancel()
    await asyncio.wait([serving])


async def main(sandbox: dict[str, str], journal: str, count: int, work: str) -> None:
    """Provision and print the measurements."""
    async with (
        open_journal(journal) as opened,
        SandboxProcess(**sandbox).session() as session,
        Provisioner(session, journal=opened, concurrency=CONCURRENCY) as provisioner,
    ):
        tenants = make_tenants(count) if work == "apply" else []
        gc.collect()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        worst, before = [0.0], reset_peak()
        ticking = asyncio.create_task(measure_blocking(worst))
        cpu, started = time.process_time(), time.perf_counter()
        if work == "apply":
            report = await provisioner.apply(tenants)
            if report.done_count != count:
                raise RuntimeError(f"only {report.done_count} of {count} tenants are done: {report.stop_message}")
        else:
            await serve(provisioner, count)
        result = {
            "cpu": time.process_time() - cpu,
            "elapsed": time.perf_counter() - started,
            "memory": peak_memory() - before,
            "blocking": worst[-1],
        }
        ticking.cancel()
    sys.stdout.write(f"{orjson.dumps(result).decode()}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(**orjson.loads(sys.argv[1])))
