"""docs/tokens.md keeps its promises: its code runs, and what it names exists."""

from __future__ import annotations

import asyncio
import os
import re
import runpy
import sys
from pathlib import Path

import pytest

import wxtcb
from wxtcb import errors, events, tokens
from wxtcb._protocol.errcodes import api_error
from wxtcb.cli.token import describe_health
from wxtcb.sandbox import Sandbox
from wxtcb.tokens.providers import API_COMPONENT_TOKEN

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "tokens.md").read_text(encoding="utf-8")
STORE, SEALED, OWNERS = re.findall(r"^```python\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)


async def output_of(program: str, tmp_path: Path) -> str:
    """Run a whole program, warnings being errors; return what it prints."""
    script = tmp_path / "program.py"
    script.write_text(program, encoding="utf-8")
    seen = {**os.environ, "PYTHONPATH": str(ROOT), "TOKENS_DB": str(tmp_path / "tokens.db")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", str(script), stdout=asyncio.subprocess.PIPE, env=seen
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_a_store_of_ones_own_is_shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first program fetches a token; run again, it finds it."""
    async with Sandbox() as box:
        monkeypatch.setenv("WXTCB_BASE_URL", box.url)
        monkeypatch.setenv("WXTCB_COMPONENT_APPID", box.component_appid)
        monkeypatch.setenv("WXTCB_COMPONENT_APPSECRET", box.component_appsecret)
        monkeypatch.setenv("WXTCB_TICKET", box.ticket)
        assert [await output_of(STORE, tmp_path) for _ in range(2)] == ["first\n"] * 2
        assert box.world.tokens_issued == 1


async def test_the_sealing_program_seals(tmp_path: Path) -> None:
    """What is kept cannot be read out of the file."""
    assert await output_of(SEALED, tmp_path) == "sealed True\n"
    assert b"what is kept" not in (tmp_path / "tokens.db").read_bytes()


def test_sessions_of_other_owners_can_be_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither needs a secret or a ticket."""
    monkeypatch.setenv("WXTCB_COMPONENT_APPID", "wx0123456789abcdef")
    module = tmp_path / "owners.py"
    module.write_text(OWNERS)
    made = runpy.run_path(str(module))
    assert {type(made[name]) for name in ("asking", "reading")} == {wxtcb.Session}


def test_the_command_line_tells_what_is_printed() -> None:
    """The sentences of `wxtcb token`, and the problem that another process met."""
    problem = api_error(
        61004, "access clientip is not registered", endpoint=API_COMPONENT_TOKEN.path, without_token=True
    )
    problem.add_note("met by web1:812")
    health = tokens.Health(
        token_age=2823.0,
        token_expires_in=4320.0,
        token_fetched_by="web2:4711",
        token_fetch_reason="advisory",
        ticket_age=401.0,
        fetches_last_hour=2,
        max_fetches_per_hour=30,
        lease_owner=None,
        last_error=None,
        problems=(problem,),
    )
    printed = DOCS.split("```console\n$ wxtcb token\n...\n", 1)[1].split("\n```", 1)[0].splitlines()
    told = list(describe_health(health))
    assert told[:3] == printed[:3]
    start, end = printed[3].split("...")
    assert told[3].startswith(start)
    assert told[3].endswith(end)


def test_every_class_that_is_named_exists() -> None:
    """A name in capitals is an error, an event, or a class of ours."""
    known = {*vars(errors), *vars(events), *vars(tokens), *vars(wxtcb)}
    known |= {"RedisStore", "SealedStore", "TicketReceiver", "UvicornWorker", "EncodingAESKey"}
    named = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)[`(]", DOCS))
    assert named - known == set()


def test_local_links_lead_to_files() -> None:
    """Every link that is no address leads to a file of the project."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", DOCS)
    assert [link for link in links if not (ROOT / "docs" / link).is_file()] == []
