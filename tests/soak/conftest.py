"""Fixtures of the long tests. They run at a tenth of their length; WXTCB_SOAK=1 runs them in full."""

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

PROGRAM = Path(__file__).with_name("sandbox_process.py")


@pytest.fixture(scope="session")
def scale():
    return 1.0 if os.environ.get("WXTCB_SOAK") else 0.1


@attrs.frozen
class SandboxProcess:
    """A sandbox in another process."""

    session_options: dict

    def session(self, **options):
        return wxtcb.Session(**self.session_options, **options)

    async def state(self):
        url = f"{self.session_options['base_url']}/_sandbox"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            return await response.json()

    async def post(self, path, body=None):
        """Call the admin API of the sandbox, at `kill-token` or `faults`."""
        url = f"{self.session_options['base_url']}/_sandbox/{path}"
        data, headers = b"" if body is None else json.dumps(body), {"Content-Type": "application/json"}
        async with aiohttp.ClientSession() as http, http.post(url, data=data, headers=headers) as response:
            response.raise_for_status()
            return await response.json()


@pytest.fixture
def start_sandbox():
    """Return a context manager that starts a sandbox in a process of its own."""

    @contextlib.asynccontextmanager
    async def start(**options):
        pipe = asyncio.subprocess.PIPE
        arguments = (sys.executable, str(PROGRAM), json.dumps(options))
        process = await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe)
        try:
            yield SandboxProcess(json.loads(await process.stdout.readline()))
        finally:
            process.stdin.close()
            await process.wait()

    return start
