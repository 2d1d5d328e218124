"""Program: provisions tenants, and prints the result as one JSON line.

A naive one stores a list of finished tenants, and sends a create again until one is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections import Counter
from pathlib import Path

import wxtcb
from wxtcb.api import environment
from wxtcb.provision import Provisioner, Service, SqliteJournal, Tenant, context


def make_tenants(count):
    services = [Service.from_name("api")]
    return [
        Tenant(f"t{number}", alias=f"a{number}", appids=["wx0000000000000001"], services=services)
        for number in range(count)
    ]


async def provision(session, options):
    context.CREATE_WINDOW_MARGIN = options["window_margin"]
    journal = SqliteJournal(options["journal"])
    settings = {"settle": options["settle"], "interval": 0.5, "concurrency": options["concurrency"]}
    async with journal, Provisioner(session, journal=journal, **settings) as provisioner:
        tenants = make_tenants(options["count"])
        run, loop, cancellations = provisioner.apply(tenants), asyncio.get_running_loop(), set()
        loop.add_signal_handler(signal.SIGTERM, lambda: cancellations.add(loop.create_task(run.cancel())))
        report = await run.wait()
        audit = await provisioner.audit(tenants) if report.all_done else None
        outcomes = Counter(entry.outcome.value for entry in report.tenants)
        return {
            "outcomes": outcomes,
            "proven": audit is not None and audit.passed,
            "stopped": report.stop_message,
        }


async def retry_naively(session, options):
    finished = Path(options["journal"]).with_suffix(".done")
    done = set(finished.read_text().split()) if finished.exists() else set()
    unfinished = (f"a{number}" for number in range(options["count"]) if f"a{number}" not in done)

    async def work():
        for alias in unfinished:
            while True:
                with contextlib.suppress(wxtcb.WxtcbError):
                    await environment.create_env(session, alias=alias)
                    break
            with finished.open("a") as file:
                file.write(f"{alias}\n")

    await asyncio.gather(*(work() for _ in range(options["concurrency"])))
    return {"outcomes": {}}


async def main(options):
    timeout = wxtcb.Timeout(connect=0.5, reply=1.5)
    session_options = {**options["session"], "timeout": timeout, "max_fetches_per_hour": None}
    work = retry_naively if options["naive"] else provision
    async with wxtcb.Session(**session_options) as session:
        print(json.dumps(await work(session, options)), flush=True)


asyncio.run(main(json.loads(sys.argv[1])))
