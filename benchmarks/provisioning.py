"""Provisioning against a sandbox in another process: tenants, sandbox, and a run through wxtcb or on bare aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import attrs
import orjson
from harness import run_script

import wxtcb
from wxtcb.events import Hook
from wxtcb.provision import Journal, MemoryJournal, Provisioner, Report, Service, SqliteJournal, Tenant

CONCURRENCY: Final = 64
LIST_PATH: Final = "/componenttcb/describeenvs"


@attrs.frozen
class SandboxProcess:
    """A sandbox in another process: its URL and credentials."""

    base_url: str
    component_appid: str
    component_appsecret: str
    ticket: str

    def session(
        self,
        *,
        hooks: Sequence[Hook] = (),
        max_fetches_per_hour: int | None = 30,
        timeout: wxtcb.Timeout | None = None,
    ) -> wxtcb.Session:
        """Return a session with the sandbox as its platform."""
        return wxtcb.Session(
            component_appid=self.component_appid,
            component_appsecret=self.component_appsecret,
            ticket=self.ticket,
            base_url=self.base_url,
            hooks=hooks,
            max_fetches_per_hour=max_fetches_per_hour,
            timeout=timeout or wxtcb.Timeout(),
        )

    async def invalidate_token(self) -> None:
        """Invalidate the newest token."""
        async with aiohttp.ClientSession() as http:
            headers = {"Content-Type": "application/json"}
            await http.post(f"{self.base_url}/_sandbox/kill-token", headers=headers, raise_for_status=True)

    async def count_listings(self) -> int:
        """Return the number of received requests that list environments."""
        return (await self.count_calls()).get(LIST_PATH, 0)

    async def count_calls(self) -> dict[str, int]:
        """Return the number of received requests by path."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.base_url}/_sandbox") as reply:
            counts: dict[str, int] = (await reply.json())["counts"]
            return counts


@contextlib.contextmanager
def run_sandbox(**options: float) -> Iterator[SandboxProcess]:
    """Run a sandbox until the block ends; sandbox.py describes the options."""
    with run_script("sandbox.py", orjson.dumps(options).decode()) as process:
        yield SandboxProcess(**orjson.loads(process.ready))


def make_tenants(count: int) -> list[Tenant]:
    """Return tenants with one mini program and one service each."""
    api = Service.from_name("api")
    return [Tenant(f"tenant {number}", appids=[f"wx{number:016}"], services=[api]) for number in range(count)]


@contextlib.asynccontextmanager
async def journal_on_disk() -> AsyncIterator[SqliteJournal]:
    """Open a journal in a temporary file."""
    with tempfile.TemporaryDirectory() as directory:
        async with SqliteJournal(Path(directory) / "journal.db") as journal:
            yield journal


async def provision(
    sandbox: SandboxProcess, tenants: list[Tenant], journal: Journal | None = None
) -> tuple[Report, float]:
    """Provision the tenants; return the report and the elapsed seconds. The journal is in memory by default.

    Raises `RuntimeError` if a tenant is not done.
    """
    started = time.perf_counter()
    async with (
        sandbox.session() as session,
        Provisioner(session, journal=journal or MemoryJournal(), concurrency=CONCURRENCY) as provisioner,
    ):
        report = await provisioner.apply(tenants).wait()
    if report.done_count != len(tenants):
        raise RuntimeError(
            f"only {report.done_count} of {len(tenants)} tenants are done; stopped: {report.stop_message}"
        )
    return report, time.perf_counter() - started


async def provision_on_aiohttp(sandbox: SandboxProcess, tenants: list[Tenant]) -> None:
    """Make the same calls on bare aiohttp, with the same concurrency; there is no journal and no retry."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        query: dict[str, str] = {}

        async def post(path: str, body: dict[str, object]) -> dict[str, Any]:
            reply = await http.post(sandbox.base_url + path, params=query, data=orjson.dumps(body))
            fields: dict[str, Any] = orjson.loads(await reply.read())
            if fields.get("errcode"):
                raise RuntimeError(f"{path}: {fields}")
            return fields

        async def create_env(number: int) -> None:
            envs[number] = (await post("/componenttcb/createenv", {"alias": f"a{number}"}))["env"]

        async def share_and_establish(number: int) -> None:
            env = envs[number]
            share = {"env": env, "appids": tenants[number].appids}
            await post("/componenttcb/batchshareenv", {"data": [share]})
            service = {"env_id": env, "service_name": "api", "is_public": False}
            await post("/componenttcb/establishcloudbaserunserver", service)

        envs = [""] * len(tenants)
        credentials: dict[str, object] = {
            "component_appid": sandbox.component_appid,
            "component_appsecret": sandbox.component_appsecret,
            "component_verify_ticket": sandbox.ticket,
        }
        token = await post("/cgi-bin/component/api_component_token", credentials)
        query["access_token"] = token["component_access_token"]
        await _run_concurrently(create_env, len(tenants))
        await post(LIST_PATH, {})
        await _run_concurrently(share_and_establish, len(tenants))


async def _run_concurrently(task: Callable[[int], Awaitable[None]], count: int) -> None:
    remaining = iter(range(count))

    async def work() -> None:
        for number in remaining:
            await task(number)

    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
