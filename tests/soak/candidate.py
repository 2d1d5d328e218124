"""Program: a candidate of the election that provisions what is desired, or that applies a list of tenants at once.

It prints one JSON line for each term and each finished tenant, with the monotonic time of the machine; after SIGTERM,
or at the end of an apply, also its CPU time. `candidates.py` describes the options.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections import Counter

import attrs

import wxtcb
from wxtcb.provision import Provisioner, Service, Tenant, context
from wxtcb.provision.events import TenantFinished, TermEnded, TermStarted
from wxtcb.provision.journal import Stale
from wxtcb.provision.journal_urls import open_journal
from wxtcb.provision.postgres.journal import PostgresJournal


def make_tenants(count):
    services = [Service.from_name("api")]
    return [
        Tenant(f"t{number}", alias=f"a{number}", appids=[f"wx{number % 16:016}"], services=services)
        for number in range(count)
    ]


@attrs.define(eq=False)
class CarelessJournal:
    """A journal that compares neither versions nor epochs: the last commit wins."""

    journal: PostgresJournal

    def __getattr__(self, name):
        return getattr(self.journal, name)

    async def commit(self, record, entry, previous_owner=None, *, epoch=None):
        while isinstance(answer := await self.journal.commit(record, entry, previous_owner), Stale):
            version = answer.record.version if answer.record else 0
            record = attrs.evolve(record, version=version + 1)
        return answer


def report(kind, **fields):
    print(json.dumps({"kind": kind, "at": time.monotonic(), **fields}), flush=True)


def on_event(event):
    match event:
        case TermStarted():
            report("term", epoch=event.epoch)
        case TermEnded():
            report("term ended", epoch=event.epoch, reason=event.reason)
        case TenantFinished():
            report("finished", tenant=event.report.tenant, outcome=event.report.outcome.value)
        case _:
            pass


async def serve(provisioner, _options):
    task = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    report("ready")
    with contextlib.suppress(asyncio.CancelledError):
        await provisioner.serve(on_event=on_event)


async def apply(provisioner, options):
    result = await provisioner.apply(make_tenants(options["count"]))
    outcomes = Counter(entry.outcome.value for entry in result.tenants)
    report(
        "applied",
        outcomes=outcomes,
        stopped=result.stop_message,
        problems=sorted({entry.summary for entry in result.tenants if not entry.outcome.is_done})[:20],
    )


async def main(options):
    context.CREATE_WINDOW_MARGIN = options["window_margin"]
    # A session does not start without its token store; a supervisor would start the process again.
    while True:
        with contextlib.suppress(wxtcb.TokenStoreError):
            await run_candidate(options)
            break
        await asyncio.sleep(0.1)
    report("ended", cpu=time.process_time())


async def run_candidate(options):
    timeout = wxtcb.Timeout(connect=options["connect"], reply=options["reply"])
    offset = options["clock_offset"]
    settings = {name: options[name] for name in ("settle", "interval", "concurrency", "lease")}
    async with (
        open_journal(options["journal"]) as opened,
        wxtcb.Session(**options["session"], timeout=timeout, max_fetches_per_hour=None) as session,
    ):
        journal = CarelessJournal(opened) if options["careless"] else opened
        async with Provisioner(session, journal=journal, clock=lambda: time.time() + offset, **settings) as provisioner:
            await {"serve": serve, "apply": apply}[options["work"]](provisioner, options)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
