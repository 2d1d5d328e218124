"""Program: several platforms. It prints their addresses and credentials as one JSON line.

For each line on stdin it prints the state of all of them, and it serves until its stdin closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter

from wxtcb.sandbox import Fault, FaultKind, Faults, ReadyPolicy, Sandbox, World

CREATE = "/componenttcb/createenv"
LIST = "/componenttcb/describeenvs"
# Creates that succeed without a response, that fail without an effect, or that take longer than their timeout.
FAULTS = [
    Fault(FaultKind.BUSY_AFTER, path=CREATE, probability=0.025),
    Fault(FaultKind.DROP_AFTER, path=CREATE, probability=0.025),
    Fault(FaultKind.BUSY, path=CREATE, probability=0.05),
    Fault(FaultKind.SLOW, path=CREATE, probability=0.03, seconds=3.0),
    Fault(FaultKind.INCOMPLETE_LIST, path=LIST, probability=0.02),
]


def make_sandbox(number, options):
    faults = Faults(seed=number)
    for fault in FAULTS:
        faults.add(fault)
    if number in options["exhausted"]:
        faults.script(CREATE, [None, *[Fault(FaultKind.ERRCODE, errcode=45009)] * 3])
    world = World(seed=number, visible_after=0.5, ready_after=ReadyPolicy.after_seconds(options["ready_after"]))
    return Sandbox(world=world, faults=faults)


async def main(options):
    sandboxes = [make_sandbox(number, options) for number in range(options["count"])]
    async with contextlib.AsyncExitStack() as stack:
        for sandbox in sandboxes:
            await stack.enter_async_context(sandbox)
        addresses = {
            sandbox.component_appid: {
                "base_url": sandbox.url,
                "component_appid": sandbox.component_appid,
                "component_appsecret": sandbox.component_appsecret,
                "ticket": sandbox.ticket,
            }
            for sandbox in sandboxes
        }
        print(json.dumps(addresses), flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            states = {
                sandbox.component_appid: {
                    "created": Counter(each.alias for each in sandbox.world.environments.values()),
                    "calls": sandbox.counts,
                }
                for sandbox in sandboxes
            }
            print(json.dumps(states), flush=True)


asyncio.run(main(json.loads(sys.argv[1])))
