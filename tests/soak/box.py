"""A sandbox in a process of its own: prints how to reach it as one JSON line, then serves until its stdin closes."""

from __future__ import annotations

import asyncio
import json
import sys

from wxtcb.sandbox import Faults, Sandbox, World


async def main(options: dict[str, float | None]) -> None:
    faults = Faults(seed=7, expire_token_every=options.get("kill_token_every"))
    if busy := options.get("busy"):
        faults.busy(probability=busy)
    async with Sandbox(world=World(seed=7, visible_after=options.get("visible_after", 0.0)), faults=faults) as box:
        way = {
            "base_url": box.url,
            "component_appid": box.component_appid,
            "component_appsecret": box.component_appsecret,
            "ticket": box.ticket,
        }
        print(json.dumps(way), flush=True)
        await asyncio.to_thread(sys.stdin.read)


asyncio.run(main(json.loads(sys.argv[1])))
