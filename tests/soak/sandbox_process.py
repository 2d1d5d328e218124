"""Program: a sandbox. It prints its address and credentials as one JSON line, and serves until its stdin closes."""

from __future__ import annotations

import asyncio
import json
import sys

from wxtcb.sandbox import Faults, ReadyPolicy, Sandbox, World


async def main(options: dict[str, float | None]) -> None:
    faults = Faults(seed=7, expire_token_every=options.get("expire_token_every"))
    if busy := options.get("busy"):
        faults.busy(probability=busy)
    ready_after = ReadyPolicy.after_seconds(options.get("ready_after", 0.0))
    world = World(seed=7, visible_after=options.get("visible_after", 0.0), ready_after=ready_after)
    async with Sandbox(world=world, faults=faults) as sandbox:
        session_options = {
            "base_url": sandbox.url,
            "component_appid": sandbox.component_appid,
            "component_appsecret": sandbox.component_appsecret,
            "ticket": sandbox.ticket,
        }
        print(json.dumps(session_options), flush=True)
        await asyncio.to_thread(sys.stdin.read)


asyncio.run(main(json.loads(sys.argv[1])))
