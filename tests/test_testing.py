"""The pytest fixtures of `wxtcb.testing`, under every plugin that runs coroutines."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from aioresponses import aioresponses

from wxtcb.testing import MockResponse

ROOT: Final = Path(__file__).parent.parent

IMPORTS: Final = """
import pytest
import wxtcb
from wxtcb.api import environment
"""
CREATE_TEST: Final = """
async def test_create(wxtcb_session, wxtcb_sandbox):
    new = await environment.create_env(wxtcb_session, alias="teahouse")
    assert list(wxtcb_sandbox.world.environments) == [new.env]
"""
PLUGINS: Final = '\npytest_plugins = ["wxtcb.testing"]\n'
ASYNCIO: Final = ("-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function")


class Project:
    """A project with wxtcb installed, and only the plugins that it names."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester = pytester
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        pytester.makeini("[pytest]\nfilterwarnings = error\n")

    def run(self, source: str, *options: str, plugins: str = PLUGINS, subprocess: bool = False) -> pytest.RunResult:
        """Run a module of tests; with *subprocess*, in a new process."""
        self.pytester.makepyfile(IMPORTS + plugins + source)
        # In-process runs share the modules that are already imported.
        run = self.pytester.runpytest_subprocess if subprocess else self.pytester.runpytest_inprocess
        return run(*options, "-p", "no:cacheprovider")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return an empty project."""
    return Project(pytester, monkeypatch)


def test_session_works_in_strict_mode(project: Project) -> None:
    """pytest-asyncio's strict mode runs the fixtures for a marked test."""
    project.run("@pytest.mark.asyncio" + CREATE_TEST, *ASYNCIO, "--asyncio-mode=strict").assert_outcomes(passed=1)


def test_session_works_in_auto_mode(project: Project) -> None:
    """pytest-asyncio's auto mode runs the fixtures for a test without a mark."""
    project.run(CREATE_TEST, *ASYNCIO, "--asyncio-mode=auto").assert_outcomes(passed=1)


def test_session_works_with_anyio(project: Project) -> None:
    """The plugin of anyio runs the fixtures if pytest-asyncio is not installed."""
    backend = "\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n\n"
    project.pytester.makepyfile(pytest_asyncio="raise ImportError")
    source = backend + "@pytest.mark.anyio" + CREATE_TEST
    project.run(source, "-p", "anyio.pytest_plugin", subprocess=True).assert_outcomes(passed=1)


def test_sandbox_works_in_synchronous_tests(project: Project) -> None:
    """A test that runs an event loop of its own can use the sandbox."""
    source = """
import asyncio

async def create(sandbox):
    async with wxtcb.Session(
        component_appid=sandbox.component_appid,
        component_appsecret=sandbox.component_appsecret,
        ticket=sandbox.ticket,
        base_url=sandbox.url,
    ) as session:
        return await environment.create_env(session, alias="teahouse")

def test_create(wxtcb_sandbox):
    assert asyncio.run(create(wxtcb_sandbox)).env in wxtcb_sandbox.world.environments
"""
    project.run(source).assert_outcomes(passed=1)


def test_each_test_has_its_own_world(project: Project) -> None:
    """An environment created by one test does not exist in the next."""
    source = CREATE_TEST + CREATE_TEST.replace("test_create", "test_create_again")
    project.run(source, *ASYNCIO, "--asyncio-mode=auto").assert_outcomes(passed=2)


def test_retries_are_delayed_by_milliseconds(project: Project) -> None:
    """The session of the fixture retries with delays of milliseconds."""
    source = """
async def test_policy(wxtcb_session):
    assert wxtcb_session.retry == wxtcb.RetryPolicy(base=0.001)
"""
    project.run(source, *ASYNCIO, "--asyncio-mode=auto").assert_outcomes(passed=1)


def test_plugin_can_be_named_in_conftest(project: Project) -> None:
    """A conftest.py that names the plugin provides the fixtures to every module."""
    project.pytester.makeconftest(PLUGINS)
    project.run(CREATE_TEST, *ASYNCIO, "--asyncio-mode=auto", plugins="").assert_outcomes(passed=1)


def test_plugin_is_not_registered_automatically() -> None:
    """The package has no entry point, so that other test runs do not import it."""
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "entry-points" not in metadata


def test_plugin_works_without_pytest_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pytest-asyncio the fixture is a plain one, which that plugin would not run."""
    monkeypatch.setitem(sys.modules, "pytest_asyncio", None)
    assert not hasattr(load_plugin().wxtcb_session, "_force_asyncio_fixture")


MOCK_TEST: Final = """
import aiohttp
from aioresponses import CallbackResult
from wxtcb.testing import mock_platform

def answer(url, **kwargs):
    assert json.loads(kwargs["data"].decode()) == {"alias": "tea"}
    return CallbackResult(payload={"errcode": 0, "errmsg": "ok", "env": "tea-1", "tranid": "2"})

async def test_create():
    base_url = "https://api.weixin.qq.com"
    with mock_platform() as mock:
        token = {"component_access_token": "t", "expires_in": 7200}
        mock.post(f"{base_url}/cgi-bin/component/api_component_token", payload=token)
        mock.post(re.compile(f"{base_url}/componenttcb/createenv"), callback=answer)
        async with (
            aiohttp.ClientSession() as http,
            wxtcb.Session(component_appid="wx1", component_appsecret="s", ticket="ticket@@@1", http=http) as session,
        ):
            assert (await environment.create_env(session, alias="tea")).env == "tea-1"
            with pytest.raises(wxtcb.TransportError):
                await environment.create_env(session.with_options(retry=wxtcb.RetryPolicy(attempts=1)), alias="tea")
"""


def test_replies_of_single_calls_can_be_given(project: Project) -> None:
    """Aioresponses works with the aiohttp that wxtcb requires, for replies and for callbacks."""
    project.run("import json, re\n" + MOCK_TEST, *ASYNCIO, "--asyncio-mode=auto").assert_outcomes(passed=1)


async def test_response_works_without_the_context_manager() -> None:
    """The response class can be passed to aioresponses for single replies."""
    with aioresponses() as mock:
        mock.get("http://x/", payload={"a": 1}, response_class=MockResponse)
        async with aiohttp.ClientSession() as http, http.get("http://x/") as reply:
            assert await reply.json() == {"a": 1}


BACKEND: Final = """
import os
from contextlib import asynccontextmanager
from fastapi import FastAPI
from fastapi.testclient import TestClient
from wxtcb.tokens.ticket import TicketReceiver

def build_app():
    account = {"component_appid": os.environ["WXTCB_COMPONENT_APPID"], "token_store": os.environ["WXTCB_TOKEN_STORE"]}
    receiver = TicketReceiver(
        **account,
        message_token=os.environ["WXTCB_MESSAGE_TOKEN"],
        encoding_aes_key=os.environ["WXTCB_ENCODING_AES_KEY"],
    )

    @asynccontextmanager
    async def lifespan(app):
        async with receiver, wxtcb.Session(
            **account,
            component_appsecret=os.environ["WXTCB_COMPONENT_APPSECRET"],
            base_url=os.environ["WXTCB_BASE_URL"],
        ) as app.state.session:
            yield

    app = FastAPI(lifespan=lifespan)
    app.add_route("/wechat/push", receiver)

    @app.get("/environments")
    async def list_environments():
        return len((await environment.describe_envs(app.state.session)).info_list)

    return app

def test_app(wxtcb_environ, wxtcb_sandbox, monkeypatch):
    assert {name for name in os.environ if name.startswith("WXTCB_")} == wxtcb_environ.keys()
    app = build_app()
    with TestClient(app) as client:
        assert client.portal.call(wxtcb_sandbox.deliver, app).accepted
        assert client.get("/environments").json() == 0
"""


def test_whole_application_can_be_tested(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application gets all its variables from a fixture, and its ticket from the sandbox, without a socket."""
    monkeypatch.setenv("WXTCB_TICKET_FILE", "/of/the/developer")
    # Newer versions of Starlette ask for httpx2. In a process of its own: FastAPI would be imported twice otherwise.
    project.run(BACKEND, "-W", "ignore:Using `httpx`", subprocess=True).assert_outcomes(passed=1)


def test_environ_holds_only_the_variables_of_the_sandbox(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of the developer are removed, and those of the sandbox are set."""
    monkeypatch.setenv("WXTCB_TICKET_FILE", "/of/the/developer")
    project.run(
        """
import os

def test_variables(wxtcb_environ, wxtcb_sandbox):
    assert {name: text for name, text in os.environ.items() if name.startswith("WXTCB_")} == wxtcb_environ
    assert wxtcb_environ["WXTCB_BASE_URL"] == wxtcb_sandbox.url
"""
    ).assert_outcomes(passed=1)


@pytest.mark.parametrize("name", ["pytest", "aioresponses"])
def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'wxtcb\[testing\]'"):  # noqa: PT012 - the import or the call
        module = load_plugin()
        with module.mock_platform():
            pass


def load_plugin() -> Any:
    """Import the plugin once more."""
    spec = importlib.util.find_spec("wxtcb.testing")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
