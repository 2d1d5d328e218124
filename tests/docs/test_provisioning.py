"""docs/provisioning.md keeps its promises: its code runs, and what it names is there."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Final

import pytest
from typer.testing import CliRunner

from wxtcb.cli.app import app
from wxtcb.sandbox import Sandbox

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = (ROOT / "docs" / "provisioning.md").read_text(encoding="utf-8")
(PROGRAM,) = re.findall(r"^```python\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)


async def test_its_program_runs_and_can_be_run_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The second run opens nothing more; the page is written."""
    async with Sandbox() as box:
        monkeypatch.setenv("WXTCB_BASE_URL", box.url)
        monkeypatch.setenv("WXTCB_COMPONENT_APPID", box.component_appid)
        monkeypatch.setenv("WXTCB_COMPONENT_APPSECRET", box.component_appsecret)
        monkeypatch.setenv("WXTCB_TICKET", box.ticket)
        monkeypatch.setenv("JOURNAL", str(tmp_path / "journal.db"))
        said = [await output_of(PROGRAM, tmp_path) for _ in range(2)]
        assert len(box.world.environments) == 2
    assert said == ["2 of 2 are done; proven: True\ncreate environment "] * 2
    page = tmp_path / "report.html"
    assert "lanhai-tea" in page.read_text(encoding="utf-8")
    assert page.stat().st_mode & 0o777 == 0o600


async def output_of(program: str, place: Path) -> str:
    """Run a whole program in *place*, warnings being errors; return what it prints."""
    script = place / "program.py"
    script.write_text(program, encoding="utf-8")
    command = (sys.executable, "-X", "utf8", "-W", "error", str(script))
    seen = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=seen, cwd=place)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


def test_every_option_that_it_names_is_one() -> None:
    """A person who is told to use it can."""
    named = set(re.findall(r"`(?:wxtcb [^`]*?)?(--[a-z-]+)", DOCS))
    helped = CliRunner().invoke(app, ["provision", "--help"], env={"COLUMNS": "200"}).stdout
    assert named
    assert {option for option in named if option not in helped} == set()
