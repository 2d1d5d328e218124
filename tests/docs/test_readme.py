"""Tests of README.md: its code runs, CI runs its commands, its links and tables are complete."""

from __future__ import annotations

import asyncio
import fnmatch
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer
from typer.testing import CliRunner

import wxtcb
from wxtcb.cli.app import app
from wxtcb.provision import DesiredState
from wxtcb.sandbox import Sandbox

ROOT: Final = Path(__file__).parents[2]
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: Final = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
FASTAPI, FIRST_PROGRAM, MANY, SIGN_UP, TESTS = BLOCKS
AIOHTTP: Final = (ROOT / "examples" / "backend_aiohttp.py").read_text(encoding="utf-8")
KEY: Final = {"Authorization": "Bearer S3SAME"}

CREATE: Final = "/componenttcb/createenv"
# The message of the platform is for the log only.
REFERENCE: Final = r"/componenttcb/describeenvs failed, reference [0-9a-f]{8}"
ADVICE: Final = "check GET /environments before you try again"


def section(title: str) -> str:
    """Return the text below a heading of README.md."""
    return README.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


@pytest_asyncio.fixture
async def sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Sandbox]:
    """Run a sandbox and set the environment variables that the code in README.md reads."""
    async with Sandbox() as sandbox:
        monkeypatch.setenv("WXTCB_BASE_URL", sandbox.url)
        monkeypatch.setenv("WXTCB_COMPONENT_APPID", sandbox.component_appid)
        monkeypatch.setenv("WXTCB_COMPONENT_APPSECRET", sandbox.component_appsecret)
        monkeypatch.setenv("WXTCB_TICKET", sandbox.ticket)
        monkeypatch.setenv("BACKEND_KEY", "S3SAME")
        monkeypatch.setenv("WXTCB_MESSAGE_TOKEN", sandbox.message_token)
        monkeypatch.setenv("WXTCB_ENCODING_AES_KEY", sandbox.encoding_aes_key)
        monkeypatch.setenv("WXTCB_TOKEN_STORE", f"sqlite:///{tmp_path}/tokens.db")
        yield sandbox


@pytest.mark.parametrize("title", ["Try it", "Run the tests"])
def test_each_first_step_is_one_command(title: str) -> None:
    """The section contains exactly one code block: one line of shell."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", section(title), re.MULTILINE | re.DOTALL)
    assert [language for language, _ in blocks] == ["sh"]
    assert blocks[0][1].count("\n") == 1


def test_ci_runs_the_commands_of_the_readme(tmp_path: Path) -> None:
    """`.ci/run` passes the commands of README.md to the shell unchanged."""
    for name in ("README.md", ".ci/run"):
        copy = tmp_path / name
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    written = tmp_path / "written"
    path = tmp_path / "bin"
    path.mkdir()
    shell = path / "sh"
    shell.write_text(f'#!/bin/sh\nprintf "%s\\n" "$2" >> "{written}"\n')
    shell.chmod(0o755)
    seen = {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["/bin/sh", str(tmp_path / ".ci/run")], env=seen, check=True, stdout=subprocess.DEVNULL)
    printed = [re.search(r"```sh\n(.*)\n```", section(title)) for title in ("Try it", "Run the tests")]
    assert written.read_text().splitlines() == [found and found[1] for found in printed]


def test_local_links_point_to_files() -> None:
    """Every relative link points to a file of the project."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_every_error_has_a_row() -> None:
    """The error table contains every exception class that wxtcb exports."""
    table = section("When something goes wrong")
    public = {name: getattr(wxtcb, name) for name in wxtcb.__all__}
    raised = [name for name, kind in public.items() if isinstance(kind, type) and issubclass(kind, wxtcb.WxtcbError)]
    assert [name for name in raised if f"{name}`" not in table] == []


def test_the_number_of_calls_is_correct() -> None:
    """The feature table states how many calls and coroutines there are."""
    table = section("What it does")
    paths = {endpoint.path for endpoint in wxtcb.endpoints()}
    below = {path for path in paths if path.startswith("/cgi-bin/")}
    assert f"The {len(paths - below)} calls of batch cloud development" in table
    assert len(below) == 6
    assert "six for tokens, quotas and request ids" in table
    assert f"[{len(wxtcb.endpoints())} typed coroutines]" in table


def test_the_readme_starts_with_a_short_description() -> None:
    """The first paragraph has two sentences. The first two sections say how to try and how to test wxtcb."""
    opening = README.split("\n\n")[1]
    assert len(re.findall(r"\.(?=\s|$)", opening)) == 2
    assert re.findall(r"^## (.*)$", README, re.MULTILINE)[:2] == ["Try it", "Run the tests"]


def test_every_command_exists() -> None:
    """Each command of the table has a help page."""
    commands = re.findall(r"`wxtcb (\w+)", section("On the command line"))
    assert {"plan", "provision", "audit", "worker", "submit", "status", "decide", "init"} <= {*commands}
    assert [name for name in commands if CliRunner().invoke(app, [name, "--help"]).exit_code] == []


# `wxtcb plan`, as a program
PLAN_COMMAND: Final = """
import sys
from wxtcb.cli.app import main
sys.argv = ["wxtcb", "plan", "examples/tenants.csv"]
main()
"""


async def output_of(program: str, tmp_path: Path) -> list[str]:
    """Run a program next to the examples, with warnings as errors, and return the lines it prints."""
    if not (tmp_path / "examples").exists():
        # A copy, because the journal is written next to the file.
        await asyncio.to_thread(shutil.copytree, ROOT / "examples", tmp_path / "examples")
    script = tmp_path / "program.py"
    script.write_text(program, encoding="utf-8")
    command = (sys.executable, "-X", "utf8", "-W", "error", str(script))
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environ, cwd=tmp_path)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().splitlines()


def test_the_backend_is_an_example() -> None:
    """The commands of the section run the file with the code of the section."""
    assert (ROOT / "examples" / "backend.py").read_text(encoding="utf-8") == FASTAPI


@pytest.mark.parametrize("key", [None, ""])
@pytest.mark.parametrize("name", ["backend.py", "backend_aiohttp.py"])
async def test_a_backend_without_key_does_not_start(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, *, name: str, key: str | None
) -> None:
    """The error names the variable, and appears before the first request."""
    monkeypatch.delenv("BACKEND_KEY")
    if key is not None:
        monkeypatch.setenv("BACKEND_KEY", key)
    with pytest.raises(RuntimeError, match="BACKEND_KEY is not set"):
        runpy.run_path(str(ROOT / "examples" / name))


@pytest.mark.parametrize("name", ["platform.env", "tokens.db", "tokens.db-wal"])
def test_git_ignores_the_secrets_that_the_commands_write(name: str) -> None:
    """The commands of README.md write the file of variables and the token store into the checkout."""
    assert name.partition("-")[0] in README
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert any(fnmatch.fnmatch(name, pattern) for pattern in ignored)


async def test_the_first_program_runs(sandbox: Sandbox, tmp_path: Path) -> None:
    """The first program opens an environment, shares it and creates its service. Run again, it opens no other one."""
    lines = await output_of(FIRST_PROGRAM, tmp_path)
    assert lines[0] == "first-steps is NORMAL"
    assert lines[1].startswith("the administrator of wx0123456789abcdef agrees at https://")
    assert lines[2] == "service web is established"
    assert (await output_of(FIRST_PROGRAM, tmp_path))[0] == "first-steps is NORMAL"
    assert [name for _, name in sandbox.world.services] == ["web"]
    assert len(sandbox.world.environments) == 1


async def test_the_program_for_many_tenants_runs(sandbox: Sandbox, tmp_path: Path) -> None:
    """The second program opens one environment for each tenant of the example, and none when it runs again.

    The first program before it, and the command line after it, do not disturb it.
    """
    await output_of(FIRST_PROGRAM, tmp_path)
    lines = await output_of(MANY, tmp_path)
    assert lines[-1] == "200 of 200 are done"
    assert lines[0] == "200 environments would be opened"
    assert any(line.startswith("蓝海茶馆 lanhai-tea-") for line in lines)
    assert len(sandbox.world.environments) == 201
    again = await output_of(MANY, tmp_path)
    assert (again[0], again[-1]) == ("0 environments would be opened", "200 of 200 are done")
    plan = await output_of(PLAN_COMMAND, tmp_path)
    assert plan[-1] == "Plan: 0 to create, 0 to adopt, 200 ready."


@pytest.mark.parametrize("kind", ["file", "database"])
async def test_the_backend_for_sign_ups_runs(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, *, kind: str
) -> None:
    """It provisions what is submitted, with both journals, and reports the progress."""
    journal = str(tmp_path / "j.db") if kind == "file" else request.getfixturevalue("postgres_url")
    monkeypatch.setenv("WXTCB_JOURNAL", journal)
    module = tmp_path / "backend.py"
    module.write_text(SIGN_UP)
    backend = runpy.run_path(str(module))
    async with _client_of(backend["app"]) as client:
        assert (await client.get("/tenants/tea")).json() is None
        assert (await client.put("/tenants/tea")).status_code == 202
        states = [status.state async for status in backend["client"].follow("tea")]
        status = (await client.get("/tenants/tea")).json()
    assert states[-1] is DesiredState.DONE
    assert (status["state"], [status["env"]]) == ("done", list(sandbox.world.environments))


async def test_the_aiohttp_backend_runs(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The aiohttp backend opens and lists environments, and maps errors to HTTP statuses."""
    # The only ticket is the pushed one.
    monkeypatch.delenv("WXTCB_TICKET")
    module = tmp_path / "backend.py"
    module.write_text(AIOHTTP)
    app = runpy.run_path(str(module))["app"]
    async with TestClient(TestServer(app), headers=KEY) as client:
        assert (await client.get("/environments")).status == 502
        sandbox.push_to(str(client.make_url("/wechat/push")), every=None)
        assert (await sandbox.push()).accepted
        opened = await client.put("/environments/lanhai-tea")
        assert opened.status == 200
        env = (await opened.json())["env"]
        assert await (await client.get("/environments")).json() == [{"env": env, "status": "NORMAL"}]
        assert (await client.put("/environments/Lanhai")).status == 422
        sandbox.faults.drop_after(path=CREATE, times=1)
        lost = await client.put("/environments/other-tea")
        assert (lost.status, await lost.text()) == (504, ADVICE)
        sandbox.faults.errcode(85088, times=2)
        assert (await client.put("/environments/lanhai-tea")).status == 502
        failed = await client.get("/environments")
        assert failed.status == 502
        assert re.fullmatch(REFERENCE, await failed.text())
        assert (await client.get("/environments", headers={"Authorization": "Bearer x"})).status == 401
    assert len(sandbox.world.environments) == 2


async def test_the_fastapi_backend_runs(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The FastAPI backend opens and lists environments, and maps errors to HTTP statuses."""
    # The only ticket is the pushed one.
    monkeypatch.delenv("WXTCB_TICKET")
    module = tmp_path / "backend.py"
    module.write_text(FASTAPI)
    app = runpy.run_path(str(module))["app"]
    async with _client_of(app) as client:
        assert (await client.get("/environments")).status_code == 502
        await _push(sandbox, client)
        opened = await client.put("/environments/lanhai-tea")
        assert opened.status_code == 200
        env = opened.json()["env"]
        assert (await client.get("/environments")).json() == [{"env": env, "status": "NORMAL"}]
        assert (await client.put("/environments/Lanhai")).status_code == 422
        sandbox.faults.drop_after(path=CREATE, times=1)
        lost = await client.put("/environments/other-tea")
        assert (lost.status_code, lost.json()) == (504, {"detail": ADVICE})
        sandbox.faults.errcode(85088, times=2)
        assert (await client.put("/environments/lanhai-tea")).status_code == 502
        failed = await client.get("/environments")
        assert failed.status_code == 502
        assert re.fullmatch(REFERENCE, failed.json()["detail"])
        for headers in ({"Authorization": "Bearer x"}, {"Authorization": ""}):
            assert (await client.put("/environments/a", headers=headers)).status_code in (401, 403)
    assert len(sandbox.world.environments) == 2


def _with_expired_deadlines(block: str) -> str:
    """Return the code of a backend with deadlines that have already passed."""
    assert block.count("asyncio.timeout(20)") == block.count("await environment.") == 2
    return block.replace("asyncio.timeout(20)", "asyncio.timeout(0)")


async def test_the_aiohttp_backend_keeps_its_deadlines(sandbox: Sandbox, tmp_path: Path) -> None:
    """After a timeout the backend replies 504. For a create, the text says what to check."""
    module = tmp_path / "backend.py"
    module.write_text(_with_expired_deadlines(AIOHTTP))
    app = runpy.run_path(str(module))["app"]
    async with TestClient(TestServer(app), headers=KEY) as client:
        late = await client.put("/environments/lanhai-tea")
        assert (late.status, await late.text()) == (504, ADVICE)
        assert (await client.get("/environments")).status == 504


async def test_the_fastapi_backend_keeps_its_deadlines(sandbox: Sandbox, tmp_path: Path) -> None:
    """After a timeout the backend replies 504. For a create, the text says what to check."""
    module = tmp_path / "backend.py"
    module.write_text(_with_expired_deadlines(FASTAPI))
    app = runpy.run_path(str(module))["app"]
    async with _client_of(app) as client:
        late = await client.put("/environments/lanhai-tea")
        assert (late.status_code, late.json()) == (504, {"detail": ADVICE})
        assert (await client.get("/environments")).status_code == 504


async def _push(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """Push a ticket as WeChat does."""
    sandbox.push_to("http://127.0.0.1:1/wechat/push", every=None)
    push = sandbox.pushes.make_ticket_push()
    answer = await client.post("/wechat/push", params=push.query, content=push.body)
    assert (answer.status_code, answer.content) == (200, b"success")


@asynccontextmanager
async def _client_of(app) -> AsyncIterator[httpx.AsyncClient]:
    """Start a FastAPI application and yield a client for it."""
    async with app.router.lifespan_context(app) as state:
        wire = httpx.ASGITransport(_with_state(app, state))
        async with httpx.AsyncClient(transport=wire, base_url="http://backend", headers=KEY) as client:
            yield client


def _with_state(app, state):
    """Pass the state of the lifespan to every request, as a server does."""

    async def call(scope, receive, send):
        await app({**scope, "state": dict(state or {})}, receive, send)

    return call


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_the_example_tests_pass(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """The example tests in README.md pass unchanged."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n")
    pytester.makepyfile(TESTS)
    outcome = pytester.runpytest_subprocess(
        "-p", "pytest_asyncio.plugin", f"--asyncio-mode={mode}", "-p", "no:cacheprovider"
    )
    outcome.assert_outcomes(passed=2)
