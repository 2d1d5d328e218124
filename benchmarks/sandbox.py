"""The sandbox in a process of its own.

Takes its options as a JSON object: `ready_after` is the seconds until an environment is NORMAL, `slow` the seconds
until it replies, `nice` the increment of its nice value, and `opened` the number of tenants of provisioning.py that
have an environment from the start. Prints address and credentials as JSON, and serves until its standard input is
closed.
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
    async with Sandbox(world=World(ready_after=ReadyPolicy.after_seconds(ready_after)), faults=faults) as sandbox:
        for number in range(opened):
            sandbox.world.add(derive_alias(sandbox.component_appid, f"tenant {number}"), env=f"env-{number}")
        connection = {
            "base_url": sandbox.url,
            "component_appid": sandbox.component_appid,
            "component_appsecret": sandbox.component_appsecret,
            "ticket": sandbox.ticket,
        }
        sys.stdout.write(f"{orjson.dumps(connection).decode()}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(**orjson.loads(sys.argv[1])))
