"""Tests of docs/tokens.md: its code runs, and the names in it exist."""

from __future__ import annotations

import asyncio
import os
import re
import runpy
import subprocess
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
STORE, ENCRYPTED, PLAIN_PUSHES, OWNERS, WITHOUT_TTL = re.findall(
    r"^```python\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL
)


async def output_of(program: str, tmp_path: Path) -> str:
    """Run a program with warnings as errors, and return its output."""
    script = tmp_path / "program.py"
    script.write_text(program, encoding="utf-8")
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TOKENS_DB": str(tmp_path / "tokens.db")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", str(script), stdout=asyncio.subprocess.PIPE, env=environ
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_store_of_the_caller_is_shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first run fetches a token, and the second one finds it in the store."""
    async with Sandbox() as sandbox:
        monkeypatch.setenv("WXTCB_BASE_URL", sandbox.url)
        monkeypatch.setenv("WXTCB_COMPONENT_APPID", sandbox.component_appid)
        monkeypatch.setenv("WXTCB_COMPONENT_APPSECRET", sandbox.component_appsecret)
        monkeypatch.setenv("WXTCB_TICKET", sandbox.ticket)
        assert [await output_of(STORE, tmp_path) for _ in range(2)] == ["first\n"] * 2
        assert sandbox.world.tokens_issued == 1


async def test_encrypted_store_example_encrypts(tmp_path: Path) -> None:
    """The document cannot be read in the file."""
    assert await output_of(ENCRYPTED, tmp_path) == "encrypted True\n"
    assert b"a document" not in (tmp_path / "tokens.db").read_bytes()


def test_sessions_with_other_token_owners_can_be_created(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither session needs a secret or a ticket."""
    monkeypatch.setenv("WXTCB_COMPONENT_APPID", "wx0123456789abcdef")
    module = tmp_path / "owners.py"
    module.write_text(OWNERS)
    variables = runpy.run_path(str(module))
    assert {type(variables[name]) for name in ("external", "read_only")} == {wxtcb.Session}


def test_session_with_tokens_without_a_lifetime_can_be_created(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The service is asked again after a minute."""
    monkeypatch.setenv("WXTCB_COMPONENT_APPID", "wx0123456789abcdef")
    module = tmp_path / "without_ttl.py"
    module.write_text(WITHOUT_TTL)
    variables = runpy.run_path(str(module))
    assert isinstance(variables["session"], wxtcb.Session)
    assert asyncio.run(variables["fetch_from_service"]()).expires_in == 60


def test_receiver_of_plain_pushes_can_be_created(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The generated secrets of the page are accepted."""
    command = re.search(r'^python -c "(import secrets, string.*)"$', DOCS, re.MULTILINE)
    key = re.search(r'python -c "(import secrets; .*)"$', PLAIN_PUSHES, re.MULTILINE)
    assert command
    assert key
    printed = [subprocess.check_output([sys.executable, "-c", each[1]], text=True) for each in (command, key)]
    token, aes_key, plain_key = " ".join(printed).split()
    monkeypatch.setenv("WXTCB_COMPONENT_APPID", "wx0123456789abcdef")
    monkeypatch.setenv("WXTCB_MESSAGE_TOKEN", token)
    monkeypatch.setenv("WXTCB_ENCODING_AES_KEY", aes_key)
    monkeypatch.setenv("WXTCB_PLAIN_PUSH_KEY", plain_key)
    monkeypatch.setenv("WXTCB_TOKEN_STORE", f"sqlite:///{tmp_path}/tokens.db")
    module = tmp_path / "plain.py"
    module.write_text(PLAIN_PUSHES)
    assert runpy.run_path(str(module))["receiver"].plain_push_key == wxtcb.Secret(plain_key)


def test_output_of_the_command_line_matches() -> None:
    """`wxtcb token` prints the documented lines, with the problem of another process."""
    problem = api_error(
        61004, "access clientip is not registered", endpoint=API_COMPONENT_TOKEN.path, without_token=True
    )
    problem.add_note("received by web1:812")
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
    lines = list(describe_health(health))
    assert lines[:3] == printed[:3]
    start, end = printed[3].split("...")
    assert lines[3].startswith(start)
    assert lines[3].endswith(end)


def test_every_named_class_exists() -> None:
    """Each name in CamelCase is an error, an event, or another class of the package."""
    known = {*vars(errors), *vars(events), *vars(tokens), *vars(wxtcb)}
    known |= {"RedisStore", "PostgresStore", "EncryptedStore", "TicketReceiver", "UvicornWorker", "EncodingAESKey"}
    named = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)[`(]", DOCS))
    assert named - known == set()


def test_local_links_are_files() -> None:
    """Each link without a scheme is a file of the project."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", DOCS)
    assert [link for link in links if not (ROOT / "docs" / link).is_file()] == []
