"""The sandbox in a process of its own.

Takes how it shall be as JSON: `ready_after`, the seconds until an environment is NORMAL; `slow`, the seconds until it
answers; `nice`, how far it steps back for other processes; `opened`, how many of the tenants of provisioning.py have an
environment from the beginning. Prints how to reach it as JSON, and serves until its standard input is closed.
"""

from __future__ import annotations

import asyncio
import os
import sys

import orjson

from wxtcb.provision import derive_alias
from wxtcb.sandbox import Faults, ReadyPolicy, Sandbox, World


async def serve(ready_after: float = 0.0, slow: float = 0.0, nice: int = 0, opened: int = 0) -> None:
    """Serve until standard input is closed."""
    os.nice(nice)
    faults = Faults()
    if slow:
        faults.slow(slow)
    async with Sandbox(world=World(ready_after=ReadyPolicy.after_seconds(ready_after)), faults=faults) as box:
        for number in range(opened):
            box.world.add(derive_alias(box.component_appid, f"tenant {number}"), env=f"env-{number}")
        way = {
            "base_url": box.url,
            "component_appid": box.component_appid,
            "component_appsecret": box.component_appsecret,
            "ticket": box.ticket,
        }
        sys.stdout.write(f"{orjson.dumps(way).decode()}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(**orjson.loads(sys.argv[1])))
