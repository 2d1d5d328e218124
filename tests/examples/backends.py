"""Processes of a sign-up backend of `examples`, and browsers that follow their tenants through any of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import aiohttp
import attrs

from tests.postgres_server import Postgres

PROGRAM = Path(__file__).with_name("run_backend.py")
ROOT = Path(__file__).parents[2]
# What a browser sends again after a pause, such as to another process behind the same address.
RETRY_SECONDS = 0.1
LIMITS = aiohttp.ClientTimeout(total=None, sock_connect=2.0, sock_read=60.0)


def appid(number: int) -> str:
    return f"wx{number:016x}"


@attrs.define(eq=False)
class Backends:
    """Processes of one backend, each on a port of its own; `stop_seconds` are the seconds that they took to stop."""

    name: str
    environ: dict[str, str]
    server: Postgres
    database: str
    folder: Path
    processes: list[asyncio.subprocess.Process] = attrs.field(factory=list)
    ports: list[int] = attrs.field(factory=list)
    stop_seconds: list[float] = attrs.field(factory=list)
    _turns: itertools.count[int] = attrs.field(factory=itertools.count)

    async def start(self, count: int) -> None:
        for _ in range(count):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.ports.append(probe.getsockname()[1])
        self.processes = list(await asyncio.gather(*map(self._spawn, self.ports)))

    async def kill(self, number: int) -> None:
        """Kill a process, and start another one on its port."""
        self.processes[number].kill()
        await self.processes[number].wait()
        await self.start_again(number)

    async def restart(self, number: int) -> None:
        """Stop a process gracefully, and start another one on its port."""
        await self.stop(number)
        await self.start_again(number)

    async def start_again(self, number: int) -> None:
        self.processes[number] = await self._spawn(self.ports[number])

    async def stop(self, number: int) -> int:
        """Stop a process gracefully, and return its exit code."""
        started = time.monotonic()
        # It may have been killed, and its successor be starting.
        while self.processes[number].returncode is not None:
            await asyncio.sleep(0.02)
        self.processes[number].send_signal(signal.SIGTERM)
        code = await self.processes[number].wait()
        self.stop_seconds.append(time.monotonic() - started)
        return code

    def elected(self) -> int | None:
        """Return the number of the process that is elected, if any."""
        holders = self.server.execute("SELECT holder FROM wxtcb_leader", database=self.database)
        pids = [process.pid for process in self.processes]
        pid = int(holders[0][0].split(":")[1]) if holders and holders[0][0] else None
        return pids.index(pid) if pid in pids else None

    def url(self) -> str:
        """Return the address of the next process."""
        return f"http://127.0.0.1:{self.ports[next(self._turns) % len(self.ports)]}"

    def log(self) -> str:
        return "".join(path.read_text() for path in self.folder.glob("*.log"))

    async def aclose(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _spawn(self, port: int) -> asyncio.subprocess.Process:
        command = (sys.executable, "-W", "error::ResourceWarning", str(PROGRAM), self.name, str(port))
        with (self.folder / f"{port}.log").open("a") as log:
            process = await asyncio.create_subprocess_exec(*command, env=self.environ, stdout=log, stderr=log, cwd=ROOT)
        async with aiohttp.ClientSession() as http:
            while process.returncode is None:
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"http://127.0.0.1:{port}/customers/nobody"):
                        return process
                await asyncio.sleep(0.02)
        raise RuntimeError(f"the backend did not start: {self.log()}")


@contextlib.asynccontextmanager
async def running(name, sandbox, server, folder, count):
    """Run *count* processes of a backend on a database of their own."""
    database = server.create_database()
    environ = os.environ | {
        "DATABASE_URL": server.url(database),
        "PYTHONPATH": str(ROOT),
        "WXTCB_BASE_URL": sandbox.url,
        "WXTCB_COMPONENT_APPID": sandbox.component_appid,
        "WXTCB_COMPONENT_APPSECRET": sandbox.component_appsecret,
        "WXTCB_TICKET": sandbox.ticket,
    }
    backends = Backends(name, environ, server, database, folder)
    try:
        await backends.start(count)
        yield backends
    finally:
        await backends.aclose()
        server.drop_database(database)


@attrs.define(eq=False)
class Browser:
    """Someone who signs up, and follows as a browser's `EventSource` does; `ends` are the last statuses it got."""

    backends: Backends
    http: aiohttp.ClientSession
    customer: str
    appid: str
    ends: list[dict] = attrs.field(factory=list)
    connections: int = 0

    async def run(self) -> None:
        while not await self._sign_up():
            await asyncio.sleep(RETRY_SECONDS)
        while not self.ends:
            await self._follow()
            if not self.ends:
                await asyncio.sleep(RETRY_SECONDS)

    async def _sign_up(self) -> bool:
        body = {"email": f"{self.customer}@example.com", "appid": self.appid}
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self.http.put(f"{self.backends.url()}/customers/{self.customer}", json=body) as response:
                assert response.status == 202, await response.text()
                return True
        return False

    async def _follow(self) -> None:
        self.connections += 1
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self.http.get(f"{self.backends.url()}/customers/{self.customer}/events") as response:
                assert response.status == 200
                assert response.content_type == "text/event-stream"
                async for line in response.content:
                    if line.startswith(b"data: "):
                        status = json.loads(line[6:])
                        if status["state"] != "waiting":
                            self.ends.append(status)
