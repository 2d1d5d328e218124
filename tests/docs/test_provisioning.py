"""docs/provisioning.md: its programs run, and its options exist."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

import wxtcb
from wxtcb.cli.app import app
from wxtcb.provision import Provisioner, Tenant
from wxtcb.sandbox import Fault, FaultKind, Sandbox

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = (ROOT / "docs" / "provisioning.md").read_text(encoding="utf-8")
PROGRAM, FOLLOW = re.findall(r"^```python\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)


async def test_program_runs_twice_without_a_second_create(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The second run creates no environment; the report is private to its user."""
    async with Sandbox() as sandbox:
        monkeypatch.setenv("WXTCB_BASE_URL", sandbox.url)
        monkeypatch.setenv("WXTCB_COMPONENT_APPID", sandbox.component_appid)
        monkeypatch.setenv("WXTCB_COMPONENT_APPSECRET", sandbox.component_appsecret)
        monkeypatch.setenv("WXTCB_TICKET", sandbox.ticket)
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
        async with (
            wxtcb.Session(
                component_appid=sandbox.component_appid,
                component_appsecret=sandbox.component_appsecret,
                ticket=sandbox.ticket,
                base_url=sandbox.url,
            ) as session,
            Provisioner(session, concurrency=1) as provisioner,
        ):
            report = await namespace["follow"](provisioner.apply([Tenant("a"), Tenant("b")]), sent.append)
    # On a slow machine the run may be silent for 2 seconds.
    documents = [json.loads(text) for text in sent if '"Waiting"' not in text]
    assert [each["event"]["kind"] for each in documents[:2]] == ["TenantStarted", "StepDone"]
    assert documents[1]["opened"] == "1 of 2"
    assert documents[-1] == {"retry_after": report.retry_after.isoformat()}


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


def test_every_option_exists() -> None:
    """`wxtcb provision --help` shows each option that the page names."""
    options = set(re.findall(r"`(?:wxtcb [^`]*?)?(--[a-z-]+)", DOCS))
    help_text = CliRunner().invoke(app, ["provision", "--help"], env={"COLUMNS": "200"}).stdout
    assert options
    assert {option for option in options if option not in help_text} == set()
