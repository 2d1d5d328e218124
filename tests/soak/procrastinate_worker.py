"""Program: a worker of procrastinate that drains platforms, as an application would run it.

It prints one JSON line for each begin and end of a term, with the monotonic time of the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time

import procrastinate

import wxtcb
from wxtcb.provision import Provisioner, context
from wxtcb.provision.events import RunStopped, TermEnded, TermStarted
from wxtcb.provision.postgres.journal import PostgresJournal
from wxtcb.provision.procrastinate import ProvisioningBlueprint

DAY, CHINA_OFFSET = 86_400, 8 * 3600


def print_line(kind, **fields):
    print(json.dumps({"kind": kind, "at": time.monotonic(), **fields}), flush=True)


def on_event(platform, event):
    match event:
        case TermStarted():
            print_line("term", platform=platform, epoch=event.epoch)
        case TermEnded():
            print_line("term ended", platform=platform, epoch=event.epoch, reason=event.reason)
        case RunStopped():
            print_line("stopped", platform=platform, reason=event.reason.value)
        case _:
            pass


def make_app(options):
    times = options["times"]
    context.CREATE_WINDOW_MARGIN = times["window_margin"]
    timeout = wxtcb.Timeout(connect=times["connect"], reply=times["reply"])
    # The clock of the provisioners: Unix time, or a time that passes midnight soon after the first of them is opened.
    clock = time.time

    def clock_before_midnight():
        offset = -(time.time() + CHINA_OFFSET) % DAY - options["midnight_in"]
        return lambda: time.time() + offset

    settings = {name: times[name] for name in ("settle", "interval", "lease")}

    @contextlib.asynccontextmanager
    async def open_provisioner(platform):
        nonlocal clock
        if options["midnight_in"] is not None and clock is time.time:
            clock = clock_before_midnight()
        async with (
            PostgresJournal(options["database"], schema=options["schemas"][platform]) as journal,
            wxtcb.Session(
                **options["sessions"][platform],
                timeout=timeout,
                token_store=options["database"],
                max_fetches_per_hour=None,
            ) as session,
            Provisioner(session, journal=journal, clock=clock, **settings) as provisioner,
        ):
            yield provisioner

    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=options["database"]))
    blueprint = ProvisioningBlueprint(
        open_provisioner,
        stalled_after=times["stalled_after"],
        rescue_cron="* * * * * */2",
        on_event=on_event,
    )
    app.add_tasks_from(blueprint, namespace="wxtcb")
    return app, blueprint


async def main(options):
    app, _ = make_app(options)
    async with app.open_async():
        print_line("ready")
        await app.run_worker_async(
            concurrency=options["concurrency"],
            update_heartbeat_interval=options["times"]["stalled_after"] / 4,
            stalled_worker_timeout=options["times"]["stalled_after"],
            fetch_job_polling_interval=1.0,
        )


def run():
    asyncio.run(main(json.loads(sys.argv[1])))
