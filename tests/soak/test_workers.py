"""The FastAPI backend of README.md under uvicorn with four workers: one token and one ticket for all of them."""

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
    block for block in re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL) if "fastapi" in block
)
WHO = """

@app.get("/who")
def who() -> int:
    return os.getpid()
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.asynccontextmanager
async def serving(box, folder):
    """Run the backend as it is printed, with a page that tells which worker answers."""
    (folder / "backend.py").write_text(BACKEND + WHO)
    port = free_port()
    env = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
        "WXTCB_BASE_URL": box.url,
        "WXTCB_COMPONENT_APPID": box.component_appid,
        "WXTCB_COMPONENT_APPSECRET": box.component_appsecret,
        "WXTCB_MESSAGE_TOKEN": box.message_token,
        "WXTCB_ENCODING_AES_KEY": box.encoding_aes_key,
        "WXTCB_TOKEN_STORE": f"sqlite:///{folder}/tokens.db",
    }
    command = ("-m", "uvicorn", "backend:app", "--workers", "4", "--port", str(port))
    command += ("--no-access-log", "--log-level", "warning", "--timeout-worker-healthcheck", "300")
    process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=folder, env=env)
    wire = aiohttp.TCPConnector(limit=0, force_close=True)  # a connection for each request, so that workers take turns
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession(url, connector=wire) as client:
            yield url, client
    finally:
        process.terminate()
        await process.wait()


async def get(client, path):
    async with client.get(path) as answer:
        return answer.status, await answer.text()


async def up(client):
    """Wait until four workers have answered."""
    seen = set()
    async with asyncio.timeout(300):
        while len(seen) < 4:
            try:
                seen.update(await asyncio.gather(*(get(client, "/who") for _ in range(8))))
            except aiohttp.ClientError:
                await asyncio.sleep(0.02)


async def listings(client, number):
    """Return the statuses of *number* listings at once."""
    answers = await asyncio.gather(*(get(client, "/environments") for _ in range(number)))
    return Counter(status for status, _ in answers)


async def test_four_workers_share_ticket_and_token(tmp_path):
    """A push that reached one worker serves all; one fetch at the start, and one for each token that is killed."""
    async with Sandbox() as box, serving(box, tmp_path) as (url, client):
        await up(client)
        assert await listings(client, 8) == {502: 8}
        assert box.world.tokens_issued == 0
        box.push_to(f"{url}/wechat/push", every=None)
        assert (await box.push()).accepted
        assert await listings(client, 40) == {200: 40}
        assert box.world.tokens_issued == 1
        for kills in range(1, 4):
            assert box.world.expire_token()
            assert await listings(client, 40) == {200: 40}
            assert box.world.tokens_issued == kills + 1
