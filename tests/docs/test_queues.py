"""docs/queues.md: an app of procrastinate as it is shown there provisions a customer; its other code compiles."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from types import SimpleNamespace

import procrastinate
import psycopg

import wxtcb
from wxtcb.provision import DesiredState, Provisioner, ProvisioningClient
from wxtcb.sandbox import Sandbox

DOCS = (Path(__file__).parents[2] / "docs" / "queues.md").read_text(encoding="utf-8")
APP, SIGN_UP, CELERY = re.findall(r"^```python\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)


async def test_customer_who_signs_up_is_provisioned(postgres_url, monkeypatch):
    """The handler submits in its transaction, and a worker drains the platform."""
    with procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=postgres_url)).open() as app:
        app.schema_manager.apply_schema()
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE customers (name text)")
    async with Sandbox() as sandbox:
        platform = sandbox.component_appid
        monkeypatch.setenv("DATABASE_URL", postgres_url)
        monkeypatch.setenv(f"SECRET_{platform}", sandbox.component_appsecret)
        program = {"__name__": "jobs"}
        exec(APP + SIGN_UP, program)
        session = functools.partial(wxtcb.Session, base_url=sandbox.url, ticket=sandbox.ticket)
        program["wxtcb"] = SimpleNamespace(Session=session)
        async with program["open_provisioner"](platform) as provisioner:
            assert isinstance(provisioner, Provisioner)
        async with program["app"].open_async(), program["open_journal"](platform) as journal:
            client = ProvisioningClient(journal)
            await program["sign_up"](client, platform, "lanhai-tea")
            await program["app"].run_worker_async(wait=False, listen_notify=False, install_signal_handlers=False)
            assert (await client.status("lanhai-tea")).state is DesiredState.DONE


def test_celery_example_compiles():
    """Celery is not installed with the tests."""
    compile(CELERY, "queues.md", "exec")
