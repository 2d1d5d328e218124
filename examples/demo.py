"""Everything on this machine: PostgreSQL, the simulated platform, and a web backend that provisions 1,000 tenants.

`python examples/demo.py [CUSTOMERS]` starts it, shows the progress, and stops it, also after Ctrl-C or an error.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from wxtcb.provision import DesiredState, PostgresJournal, ProvisioningClient
from wxtcb.sandbox import ReadyPolicy, Sandbox, World

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))
from postgres_server import start_postgres  # noqa: E402  # also the tests start PostgreSQL from its wheel

CUSTOMERS = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
START_SECONDS, STOP_SECONDS = 60.0, 20.0


@contextlib.asynccontextmanager
async def web_backend(**settings: str) -> AsyncIterator[str]:
    """Run the backend with two processes, both of which provision if they are elected; yield its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(ROOT / "examples" / "fastapi_backend")]
    command += ["--workers", "2", "--port", str(port), "--log-level", "warning"]
    # In a session of its own, so that Ctrl-C does not reach it: it is stopped below, before PostgreSQL.
    process = await asyncio.create_subprocess_exec(*command, env=os.environ | settings, start_new_session=True)
    try:
        await wait_until_ready(process, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError, TimeoutError):
            process.terminate()
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        # What is left of its session, such as after an error.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def wait_until_ready(process: asyncio.subprocess.Process, url: str) -> None:
    async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as http:
        while process.returncode is None:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(f"{url}/docs"):
                    return
            await asyncio.sleep(0.1)
    raise RuntimeError("the web backend did not start; its output says why")


async def sign_up(url: str) -> None:
    """Sign up all customers, 20 at a time."""
    numbers = iter(range(CUSTOMERS))

    async def browser(http: aiohttp.ClientSession) -> None:
        for number in numbers:
            body = {"email": f"{number}@example.com", "appid": f"wx{number % 16:016x}"}
            async with http.put(f"{url}/customers/shop-{number}", json=body) as response:
                response.raise_for_status()

    async with aiohttp.ClientSession() as http:
        await asyncio.gather(*(browser(http) for _ in range(20)))


async def show_progress(journal: PostgresJournal, world: World) -> None:
    """Print how far the tenants are, until none is waiting; this process only reads the database."""
    client, started, last = ProvisioningClient(journal), time.monotonic(), ""
    while True:
        counts, leader = await client.counts(), await journal.election.leader()
        worker = f"process {leader.holder.split(':')[1]} provisions" if leader else "no process is elected"
        states = ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
        line = f"{len(world.environments)} environments; tenants: {states}; {worker}"
        if line != last:
            print(f"{time.monotonic() - started:5.1f} s: {line}", flush=True)
        last = line
        if sum(counts.values()) == CUSTOMERS and not counts[DesiredState.WAITING]:
            return
        await asyncio.sleep(1)


async def demo(database_url: str) -> None:
    # Like Ctrl-C, which asyncio handles.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    world = World(ready_after=ReadyPolicy.after_seconds(2), visible_after=0.5)
    async with Sandbox(world=world) as sandbox, PostgresJournal(database_url) as journal:
        settings = {
            "DATABASE_URL": database_url,
            "WXTCB_BASE_URL": sandbox.url,
            "WXTCB_COMPONENT_APPID": sandbox.component_appid,
            "WXTCB_COMPONENT_APPSECRET": sandbox.component_appsecret,
            "WXTCB_TICKET": sandbox.ticket,
        }
        print(f"the simulated platform is running: {sandbox.url}; the web backend starts")
        async with web_backend(**settings) as url:
            print(f"the web backend is running: {url}/docs; {CUSTOMERS} customers sign up", flush=True)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(show_progress(journal, world))
                tasks.create_task(sign_up(url))
    print(f"{len(world.environments)} environments were opened for {CUSTOMERS} tenants")


def main() -> int:
    try:
        with contextlib.ExitStack() as stack:
            # On the disk, as a real one.
            server = start_postgres(fsync="on", full_page_writes="on")
            stack.callback(server.stop)
            print(f"PostgreSQL is running in {server.folder}", flush=True)
            asyncio.run(demo(server.url()))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted; everything is stopped")
        return 130
    print("everything is stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
