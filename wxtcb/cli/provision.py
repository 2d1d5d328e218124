"""`wxtcb provision`: what has to be right before anything is sent, then the run."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import attrs

from wxtcb.arguments import is_loopback
from wxtcb.cli.conduct import ENDING, Job
from wxtcb.cli.output import console, say
from wxtcb.cli.settings import BASE_URL, Settings, base_url_of, read_settings
from wxtcb.cli.summary import print_summary
from wxtcb.cli.view import choose_view
from wxtcb.errors import InvalidArgument
from wxtcb.provision import Provisioner, Report, Tenant, read_tenants
from wxtcb.sandbox import Ready, Sandbox, World
from wxtcb.session import Session

_SANDBOX_READY: Final = 1.5
_SANDBOX_INTERVAL: Final = 0.25


class Declined(InvalidArgument):
    """The person said no, or nobody could be asked."""


@attrs.frozen(kw_only=True)
class Options:
    """What the command line asks for."""

    file: Path
    sandbox: bool
    journal: Path | None
    concurrency: int
    timeout: float
    max_failures: int | None
    as_json: bool
    yes: bool


def provision(options: Options) -> int:
    """Check, ask, run and report; return the exit code.

    Raises `WxtcbError` for what is refused before anything was sent.
    """
    if options.journal:
        say(f"--journal {options.journal}: this version keeps nothing on disk, so no journal is written.")
    platform = SandboxPlatform() if options.sandbox else _own_platform()
    tenants = read_tenants(options.file, namespace=platform.component_appid)
    if isinstance(platform, OwnPlatform) and not options.yes:
        _ask(len(tenants), platform.settings.base_url)
    return _run(options, tenants, platform)


def _make_box() -> Sandbox:
    return Sandbox(world=World(ready_after=Ready.after_seconds(_SANDBOX_READY)))


@attrs.frozen
class SandboxPlatform:
    """The simulated platform, in this process, for as long as the run lasts."""

    box: Sandbox = attrs.field(factory=_make_box)
    interval: float = _SANDBOX_INTERVAL

    @property
    def component_appid(self) -> str:
        return self.box.component_appid

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Open the sandbox, and a session on it."""
        box = self.box
        async with (
            box,
            Session(
                component_appid=box.component_appid,
                component_appsecret=box.component_appsecret,
                ticket=box.ticket,
                base_url=box.url,
            ) as session,
        ):
            yield session


@attrs.frozen
class OwnPlatform:
    """The platform that the environment variables name."""

    settings: Settings
    interval: float = 5.0

    @property
    def component_appid(self) -> str:
        return self.settings.component_appid

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Open a session."""
        async with self.settings.session() as session:
            yield session


def _own_platform() -> OwnPlatform:
    base_url = base_url_of(os.environ)
    if base_url.startswith("https://") and not is_loopback(base_url):
        raise Declined(
            f"{base_url} is not on this machine. provision keeps no journal on disk yet, so a crash would "
            "lose track of environments that are billed: until then it runs with --sandbox, or with "
            f"{BASE_URL} on loopback. Nothing was sent."
        )
    return OwnPlatform(read_settings(os.environ))


def _ask(count: int, base_url: str) -> None:
    question = f"Open up to {count} environments, which are billed, at {base_url}?"
    if sys.stdin is None or not sys.stdin.isatty():
        raise Declined(f"{question} There is no terminal to ask: add --yes. Nothing was sent.")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Declined("You said no. Nothing was sent.")


def _run(options: Options, tenants: tuple[Tenant, ...], platform: OwnPlatform | SandboxPlatform) -> int:
    screen = console(stderr=options.as_json)
    job = Job(tenants, choose_view(screen, tenants, quiet=options.as_json))
    asyncio.run(_conduct(job, options, platform))
    return _exit_code(job)


async def _conduct(job: Job, options: Options, platform: OwnPlatform | SandboxPlatform) -> None:
    """Run and report; signals are caught until the report is out, so that impatience does not cost it."""
    with anyio.open_signal_receiver(*ENDING) as signals:
        try:
            async with platform.session() as session:
                await job.conduct(_provisioner(session, options, platform.interval), signals)
        finally:
            if job.report:
                _tell(job.report, options)


def _provisioner(session: Session, options: Options, interval: float) -> Provisioner:
    return Provisioner(
        session,
        concurrency=options.concurrency,
        timeout=options.timeout,
        interval=interval,
        max_failures=options.max_failures,
    )


def _tell(report: Report, options: Options) -> None:
    if options.as_json:
        sys.stdout.write(report.to_json().decode() + "\n")
        sys.stdout.flush()
    else:
        print_summary(console(), report)


def _exit_code(job: Job) -> int:
    if job.ended_by is not None:
        return 128 + job.ended_by
    return 0 if job.report and job.report.all_done else 3
