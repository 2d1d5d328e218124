"""The commands with a journal in PostgreSQL."""

from __future__ import annotations

import sys

import pytest

from tests.postgres_server import Postgres

from .children import start
from .conftest import CREATE, Cli, Platform, Tenants

pytestmark = pytest.mark.usefixtures("fast")


@pytest.fixture(autouse=True)
def _journal(platform: Platform, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Select a platform, and a journal in a new database."""
    monkeypatch.setenv("WXTCB_JOURNAL", postgres_url)


def test_file_is_provisioned(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """Plan, run and audit use the database, and create no file."""
    file = tenants("商户,x,wx0000000000000001,api", "b,,,")
    result = cli("provision", file, "--yes")
    assert (result.exit_code, result.stderr) == (0, "")
    again = cli("provision", file, "--yes")
    assert (again.exit_code, again.stderr) == (0, "Nothing to do.\n")
    assert "2 ready" in cli("plan", file).stdout
    assert cli("audit", file).exit_code == 0
    assert platform.sandbox.count(CREATE) == 2
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_worker_provisions_what_is_submitted(cli: Cli, tenants: Tenants, platform: Platform) -> None:
    """A new database is reported as such, until it has the journal of a platform."""
    file = tenants("a,x,,", "b,y,,")
    assert "run `wxtcb init`" in cli("submit", file).stderr
    assert cli("init").exit_code == 0
    assert cli("submit", file).stdout.startswith("2 new")
    worker = start("worker", "--settle", 0.001, fast=True)
    watch = start("status", "a", "b", "--watch")
    out, err = watch.communicate()
    assert (watch.returncode, err) == (0, "")
    assert out.count(": done (") == 2
    # While a worker is elected, a run of a file is possible as well: every commit compares versions.
    assert cli("provision", tenants("a,x,,", "b,y,,", "c,z,,"), "--yes").exit_code == 0
    worker.terminate()
    assert worker.wait() == 143
    assert len(platform.sandbox.world.environments) == 3


def test_printed_statements_create_the_tables(
    cli: Cli, tenants: Tenants, postgres: Postgres, postgres_url: str
) -> None:
    """A role that may not create tables can use them."""
    sql = cli("init", "--sql").stdout
    database = postgres_url.partition("?")[0].rpartition("/")[2]
    postgres.execute(*sql.split(";\n"), database=database)
    assert cli("init").exit_code == 0
    assert cli("submit", tenants("a,x,,")).exit_code == 0


def test_unreachable_database_is_rejected(cli: Cli, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message contains no password."""
    monkeypatch.setenv("WXTCB_JOURNAL", postgres.url("nowhere", password="pa55"))
    result = cli("status")
    assert (result.exit_code, result.stdout) == (2, "")
    assert '"nowhere" does not exist' in result.stderr
    assert "pa55" not in result.stderr


def test_missing_extra_is_reported(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without psycopg, one line names what to install, and the exit code is 2."""
    monkeypatch.delitem(sys.modules, "wxtcb.provision.postgres.connection", raising=False)
    monkeypatch.delitem(sys.modules, "wxtcb.provision.postgres.journal", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    result = cli("status")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "pip install 'wxtcb[postgres]'" in result.stderr
