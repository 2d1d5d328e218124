"""A program that provisions, in a process of its own; what came of it is printed as one JSON line.

A naive one keeps a list of who is done, and opens an environment again and again until it is told of one.
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


def tenants_of(count):
    services = [Service.from_name("api")]
    return [
        Tenant(f"t{number}", alias=f"a{number}", appids=["wx0000000000000001"], services=services)
        for number in range(count)
    ]


async def provision(session, options):
    context.CREATE_WINDOW_MARGIN = options["spare"]
    journal = SqliteJournal(options["journal"])
    pace = {"settle": options["settle"], "interval": 0.5, "concurrency": options["concurrency"]}
    async with journal, Provisioner(session, journal=journal, **pace) as provisioner:
        tenants = tenants_of(options["count"])
        run, loop, ends = provisioner.apply(tenants), asyncio.get_running_loop(), set()
        loop.add_signal_handler(signal.SIGTERM, lambda: ends.add(loop.create_task(run.cancel())))
        report = await run.wait()
        audit = await provisioner.audit(tenants) if report.all_done else None
        outcomes = Counter(entry.outcome.value for entry in report.tenants)
        return {
            "outcomes": outcomes,
            "proven": audit is not None and audit.passed,
            "stopped": report.stop_reason,
        }


async def retry_naively(session, options):
    told = Path(options["journal"]).with_suffix(".done")
    done = set(told.read_text().split()) if told.exists() else set()
    waiting = (f"a{number}" for number in range(options["count"]) if f"a{number}" not in done)

    async def work():
        for alias in waiting:
            while True:
                with contextlib.suppress(wxtcb.WxtcbError):
                    await environment.create_env(session, alias=alias)
                    break
            with told.open("a") as file:
                file.write(f"{alias}\n")

    await asyncio.gather(*(work() for _ in range(options["concurrency"])))
    return {"outcomes": {}}


async def main(options):
    timeout = wxtcb.Timeout(connect=0.5, reply=1.5)
    way = {**options["way"], "timeout": timeout, "max_fetches_per_hour": None}
    work = retry_naively if options["naive"] else provision
    async with wxtcb.Session(**way) as session:
        print(json.dumps(await work(session, options)), flush=True)


asyncio.run(main(json.loads(sys.argv[1])))
