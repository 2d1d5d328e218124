"""docs/provisioning.md: its programs run, its options exist, and it describes every event and step option."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from typer.testing import CliRunner

import wxtcb
from wxtcb.cli.app import app
from wxtcb.provision import MemoryJournal, PostgresJournal, Provisioner, ProvisioningClient, StopReason, Tenant, events
from wxtcb.provision.context import StepContext
from wxtcb.provision.postgres.schema import schema_sql
from wxtcb.sandbox import Fault, FaultKind, Sandbox

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = (ROOT / "docs" / "provisioning.md").read_text(encoding="utf-8")
SERVE, SIGN_UP, PROGRAM, FOLLOW, STEP = re.findall(r"^```python\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)


def session_on(sandbox: Sandbox) -> wxtcb.Session:
    """Return a session on the simulated platform."""
    return wxtcb.Session(
        component_appid=sandbox.component_appid,
        component_appsecret=sandbox.component_appsecret,
        ticket=sandbox.ticket,
        base_url=sandbox.url,
    )


def set_variables(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """Set the variables that the programs read."""
    monkeypatch.setenv("WXTCB_BASE_URL", sandbox.url)
    monkeypatch.setenv("WXTCB_COMPONENT_APPID", sandbox.component_appid)
    monkeypatch.setenv("WXTCB_COMPONENT_APPSECRET", sandbox.component_appsecret)
    monkeypatch.setenv("WXTCB_TICKET", sandbox.ticket)


async def test_program_submits_and_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, postgres_url: str) -> None:
    """With both journals, it follows the tenant to its end; the second time it changes nothing."""
    for journal in (str(tmp_path / "journal.db"), postgres_url):
        async with Sandbox() as sandbox:
            set_variables(monkeypatch, sandbox)
            monkeypatch.setenv("WXTCB_JOURNAL", journal)
            outputs = [(await output_of(SERVE, tmp_path)).splitlines() for _ in range(2)]
            (env,) = sandbox.world.environments
        assert [lines[0] for lines in outputs] == ["1 new", "0 new"]
        for lines in outputs:
            last = json.loads(lines[-1])
            assert (last["tenant"], last["state"], last["env"]) == ("lanhai-tea", "done", env)
            assert [link["appid"] for link in last["links"]] == ["wx0123456789abcdef"]
        assert len(outputs[1]) == 2


async def test_submission_belongs_to_a_transaction(postgres_url: str) -> None:
    """A tenant whose transaction is rolled back was never submitted."""
    namespace: dict[str, Any] = {}
    exec(SIGN_UP, namespace)
    async with (
        Sandbox() as sandbox,
        PostgresJournal(postgres_url) as journal,
        session_on(sandbox) as session,
        Provisioner(session, journal=journal),
        await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection,
    ):
        client = ProvisioningClient(journal)
        await connection.execute("CREATE TABLE customers (name text PRIMARY KEY)")
        await connection.execute("INSERT INTO customers VALUES ('b')")
        await namespace["sign_up"](connection, client, "a")
        with pytest.raises(psycopg.errors.UniqueViolation):
            await namespace["sign_up"](connection, client, "b")
        assert [status.tenant async for status in client.statuses()] == ["a"]


async def test_program_runs_twice_without_a_second_create(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The second run creates no environment; the report is private to its user."""
    async with Sandbox() as sandbox:
        set_variables(monkeypatch, sandbox)
        monkeypatch.setenv("JOURNAL", str(tmp_path / "journal.db"))
        outputs = [await output_of(PROGRAM, tmp_path) for _ in range(2)]
        assert len(sandbox.world.environments) == 2
    assert outputs == ["2 of 2 done; audit passed: True\ncreate environment "] * 2
    page = tmp_path / "report.html"
    assert "lanhai-tea" in page.read_text(encoding="utf-8")
    assert page.stat().st_mode & 0o777 == 0o600


async def test_function_follows_a_run() -> None:
    """It sends each event with the number of opened environments, and when another run may continue."""
    sent: list[str] = []
    namespace: dict[str, Any] = {}
    exec(FOLLOW, namespace)
    async with Sandbox() as sandbox:
        sandbox.faults.script("/componenttcb/createenv", [None, Fault(FaultKind.ERRCODE, errcode=45009)])
        async with session_on(sandbox) as session, Provisioner(session, concurrency=1) as provisioner:
            report = await namespace["follow"](provisioner.apply([Tenant("a"), Tenant("b")]), sent.append)
    # On a slow machine the run may be silent for 2 seconds.
    documents = [json.loads(text) for text in sent if '"Waiting"' not in text]
    assert [each["event"]["kind"] for each in documents[:2]] == ["TenantStarted", "StepDone"]
    assert documents[1]["opened"] == "1 of 2"
    assert documents[-1] == {"retry_after": report.retry_after.isoformat()}


async def test_step_runs_once() -> None:
    """It runs after the other steps, and not again."""
    namespace: dict[str, Any] = {}
    exec(STEP, namespace)
    journal = MemoryJournal()
    async with Sandbox() as sandbox, session_on(sandbox) as session:
        for steps in (("environment", "ready", "announce"), ()):
            async with namespace["make_provisioner"](session, journal) as provisioner:
                (report,) = (await provisioner.apply([Tenant("a")])).tenants
            assert report.done == steps
            assert report.metadata == {"announced": report.env}


def test_what_a_step_may_use_exists() -> None:
    """Each name in the list of the section is an attribute of `StepContext`."""
    section = DOCS.split("The `StepContext` has:", 1)[1].split("\n\n", 2)[1]
    names = {name for line in section.splitlines() for name in re.findall(r"`([a-z]\w+)[`(]", line)}
    assert names == {"tenant", "record", "env", "status", "session", "commit", "record_problem", "wait", "acquire_slot"}
    assert {name for name in names if not hasattr(StepContext, name)} == set()


def test_every_event_and_reason_is_described() -> None:
    """The table has each class of events, and each reason of a stop."""
    table = DOCS.split("| event | meaning |", 1)[1].split("\n\n", 1)[0]
    assert {name for name in events.__all__ if f"`{name}`" not in table} - {"RunEvent"} == set()
    assert {reason.name for reason in StopReason if f"`{reason.name}`" not in table} == set()


def test_tables_that_need_rights_are_listed() -> None:
    """The page names every table of a journal in PostgreSQL, and no other."""
    assert set(re.findall(r"`(wxtcb_\w+)`", DOCS)) == set(
        re.findall(r"TABLE IF NOT EXISTS \w+\.(wxtcb_\w+)", schema_sql())
    )


async def output_of(program: str, directory: Path) -> str:
    """Run a program in *directory* with warnings as errors, and return its output."""
    script = directory / "program.py"
    script.write_text(program, encoding="utf-8")
    command = (sys.executable, "-X", "utf8", "-W", "error", str(script))
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=env, cwd=directory)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


def help_of(command: str) -> str:
    """Return the help page of a command."""
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, command
    return result.stdout


def test_every_command_and_option_exists() -> None:
    """An option after a command is one of that command; any other is one of a command for tenants."""
    shell = "".join(re.findall(r"^```sh\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL))
    commands = re.findall(r"^wxtcb [^#\n]*", shell, re.MULTILINE) + re.findall(r"`(wxtcb [^`]*)`", DOCS)
    used = {(words[1], option) for words in map(str.split, commands) for option in words if option.startswith("--")}
    pages = {words[1]: help_of(words[1]) for words in map(str.split, commands)}
    assert {"init", "worker", "submit", "status", "decide", "plan", "provision", "audit"} <= pages.keys()
    assert {(command, option) for command, option in used if option not in pages[command]} == set()
    options = set(re.findall(r"(?<=`)--[a-z-]+", DOCS))
    assert {option for option in options if not any(option in page for page in pages.values())} == set()


def test_links_lead_to_headings() -> None:
    """Each link within the page leads to one of its headings."""
    headings = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", DOCS, re.MULTILINE)
    }
    links = set(re.findall(r"\]\(#([^)]*)\)", DOCS))
    assert links
    assert links - headings == set()
