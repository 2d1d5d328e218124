"""Tenants, a sandbox in another process, and a run that brings the one to the other."""

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
from harness import child

import wxtcb
from wxtcb.events import Hook
from wxtcb.provision import Journal, MemoryJournal, Provisioner, Report, Service, SqliteJournal, Tenant

CONCURRENCY: Final = 64
LOOK: Final = "/componenttcb/describeenvs"


@attrs.frozen
class Box:
    """A sandbox in another process."""

    way: dict[str, str]

    @property
    def url(self) -> str:
        """Where it is."""
        return self.way["base_url"]

    @property
    def credentials(self) -> dict[str, object]:
        """What buys a token there."""
        names = ("component_appid", "component_appsecret")
        return {"component_verify_ticket": self.way["ticket"], **{name: self.way[name] for name in names}}

    def session(self, *, hooks: Sequence[Hook] = (), max_fetches_per_hour: int | None = 30) -> wxtcb.Session:
        """Make a session with it."""
        return wxtcb.Session(
            component_appid=self.way["component_appid"],
            component_appsecret=self.way["component_appsecret"],
            ticket=self.way["ticket"],
            base_url=self.url,
            hooks=hooks,
            max_fetches_per_hour=max_fetches_per_hour,
        )

    async def kill_token(self) -> None:
        """Let the newest token die before its time."""
        async with aiohttp.ClientSession() as http:
            await http.post(f"{self.url}/_sandbox/kill-token")

    async def looks(self) -> int:
        """Return how many lists of environments it was asked for."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/_sandbox") as reply:
            return int((await reply.json())["counts"].get(LOOK, 0))


@contextlib.contextmanager
def sandboxed(**options: float) -> Iterator[Box]:
    """Run a sandbox with these options; see sandbox.py."""
    with child("sandbox.py", orjson.dumps(options).decode()) as process:
        yield Box(orjson.loads(process.ready))


def make_tenants(count: int) -> list[Tenant]:
    """Return tenants that want an environment, one mini program and one service each."""
    api = Service.from_name("api")
    return [Tenant(f"tenant {number}", appids=[f"wx{number:016}"], services=[api]) for number in range(count)]


@contextlib.asynccontextmanager
async def journal_on_disk() -> AsyncIterator[SqliteJournal]:
    """Keep a journal in a file until the block ends."""
    with tempfile.TemporaryDirectory() as directory:
        async with SqliteJournal(Path(directory) / "journal.db") as journal:
            yield journal


async def provision(box: Box, tenants: list[Tenant], journal: Journal | None = None) -> tuple[Report, float]:
    """Bring the tenants there; return the report and the seconds it took. The journal is in memory unless given."""
    started = time.perf_counter()
    kept = journal or MemoryJournal()
    async with box.session() as session, Provisioner(session, journal=kept, concurrency=CONCURRENCY) as provisioner:
        report = await provisioner.apply(tenants).wait()
    if report.done_count != len(tenants):
        raise RuntimeError(
            f"only {report.done_count} of {len(tenants)} tenants are done; stopped: {report.stop_reason}"
        )
    return report, time.perf_counter() - started


async def by_hand(box: Box, tenants: list[Tenant]) -> None:
    """Make the calls of every tenant on bare aiohttp, with as many in flight, hoping for the best."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        token: dict[str, str] = {}

        async def post(path: str, body: dict[str, object]) -> dict[str, Any]:
            reply = await http.post(box.url + path, params=token, data=orjson.dumps(body))
            answer: dict[str, Any] = orjson.loads(await reply.read())
            if answer.get("errcode"):
                raise RuntimeError(f"{path}: {answer}")
            return answer

        async def open_one(number: int) -> None:
            envs[number] = (await post("/componenttcb/createenv", {"alias": f"a{number}"}))["env"]

        async def finish_one(number: int) -> None:
            env = envs[number]
            share = {"env": env, "appids": tenants[number].appids}
            await post("/componenttcb/batchshareenv", {"data": [share]})
            service = {"env_id": env, "service_name": "api", "is_public": False}
            await post("/componenttcb/establishcloudbaserunserver", service)

        envs = [""] * len(tenants)
        bought = await post("/cgi-bin/component/api_component_token", box.credentials)
        token["access_token"] = bought["component_access_token"]
        await _in_turn(open_one, len(tenants))
        await post(LOOK, {})
        await _in_turn(finish_one, len(tenants))


async def _in_turn(do: Callable[[int], Awaitable[None]], count: int) -> None:
    left = iter(range(count))

    async def work() -> None:
        for number in left:
            await do(number)

    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
