"""What the long trials share. They run at a tenth of their length; WXTCB_SOAK=1 runs them in full."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path

import aiohttp
import attrs
import pytest

import wxtcb

BOX = Path(__file__).with_name("box.py")


@pytest.fixture(scope="session")
def scale():
    return 1.0 if os.environ.get("WXTCB_SOAK") else 0.1


@attrs.frozen
class Box:
    """A sandbox in another process."""

    way: dict

    def session(self, **options):
        return wxtcb.Session(**self.way, **options)

    async def state(self):
        async with aiohttp.ClientSession() as http, http.get(f"{self.way['base_url']}/_sandbox") as reply:
            return await reply.json()

    async def order(self, what, body=None, *, method="POST"):
        """Give an order to the sandbox: `kill-token`, `faults`."""
        url = f"{self.way['base_url']}/_sandbox/{what}"
        async with aiohttp.ClientSession() as http, http.request(method, url, json=body) as reply:
            return await reply.json()


@pytest.fixture
def box_process():
    @contextlib.asynccontextmanager
    async def start(**options):
        pipe = asyncio.subprocess.PIPE
        arguments = (sys.executable, str(BOX), json.dumps(options))
        process = await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe)
        try:
            yield Box(json.loads(await process.stdout.readline()))
        finally:
            process.stdin.close()
            await process.wait()

    return start
