"""The FastAPI backend of the documentation under uvicorn: four workers share one token and one ticket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import sys
from collections import Counter
from pathlib import Path

import aiohttp

from wxtcb.sandbox import Sandbox

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
[BACKEND] = (
    block
    for block in re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    if "TicketReceiver" in block
)
BACKEND_KEY = "key-of-the-backend"
PID_ROUTE = """

@app.get("/who")
def who() -> int:
    return os.getpid()
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.asynccontextmanager
async def serve_backend(sandbox, folder):
    """Run the documented backend, with an additional route that returns the process id."""
    (folder / "backend.py").write_text(BACKEND + PID_ROUTE)
    port = free_port()
    env = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
        "WXTCB_BASE_URL": sandbox.url,
        "WXTCB_COMPONENT_APPID": sandbox.component_appid,
        "WXTCB_COMPONENT_APPSECRET": sandbox.component_appsecret,
        "WXTCB_MESSAGE_TOKEN": sandbox.message_token,
        "WXTCB_ENCODING_AES_KEY": sandbox.encoding_aes_key,
        "WXTCB_TOKEN_STORE": f"sqlite:///{folder}/tokens.db",
        "BACKEND_KEY": BACKEND_KEY,
    }
    command = ("-m", "uvicorn", "backend:app", "--workers", "4", "--port", str(port))
    command += ("--no-access-log", "--log-level", "warning", "--timeout-worker-healthcheck", "300")
    process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=folder, env=env)
    # A connection for each request, so that the requests reach different workers.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    url = f"http://127.0.0.1:{port}"
    try:
        headers = {"Authorization": f"Bearer {BACKEND_KEY}"}
        async with aiohttp.ClientSession(url, connector=connector, headers=headers) as client:
            yield url, client
    finally:
        process.terminate()
        await process.wait()


async def get(client, path):
    async with client.get(path) as response:
        return response.status, await response.text()


async def wait_for_workers(client):
    """Wait until four workers have answered."""
    pids = set()
    async with asyncio.timeout(300):
        while len(pids) < 4:
            try:
                pids.update(await asyncio.gather(*(get(client, "/who") for _ in range(8))))
            except aiohttp.ClientError:
                await asyncio.sleep(0.02)


async def listings(client, number):
    """Return the statuses of *number* concurrent listings."""
    responses = await asyncio.gather(*(get(client, "/environments") for _ in range(number)))
    return Counter(status for status, _ in responses)


async def test_four_workers_share_ticket_and_token(tmp_path):
    """A push to one worker serves all; there is one fetch at the start, and one per invalidated token."""
    async with Sandbox() as sandbox, serve_backend(sandbox, tmp_path) as (url, client):
        await wait_for_workers(client)
        assert await listings(client, 8) == {502: 8}
        assert sandbox.world.tokens_issued == 0
        sandbox.push_to(f"{url}/wechat/push", every=None)
        assert (await sandbox.push()).accepted
        assert await listings(client, 40) == {200: 40}
        assert sandbox.world.tokens_issued == 1
        for invalidations in range(1, 4):
            assert sandbox.world.expire_token()
            assert await listings(client, 40) == {200: 40}
            assert sandbox.world.tokens_issued == invalidations + 1
