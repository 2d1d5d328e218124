"""The pytest fixtures of `wxtcb.testing` work whatever runs the coroutines of a test."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent

IMPORTS: Final = """
import pytest
import wxtcb
from wxtcb.api import environment
"""
OPENS: Final = """
async def test_opens(wxtcb_session, wxtcb_sandbox):
    new = await environment.create_env(wxtcb_session, alias="teahouse")
    assert list(wxtcb_sandbox.world.environments) == [new.env]
"""
NAMES_IT: Final = '\npytest_plugins = ["wxtcb.testing"]\n'
ASYNCIO: Final = ("-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function")


class Outside:
    """A project that has wxtcb installed, and the plugins that are named, but none else."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester = pytester
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        pytester.makeini("[pytest]\nfilterwarnings = error\n")

    def run(self, source: str, *options: str, named: str = NAMES_IT, apart: bool = False) -> pytest.RunResult:
        """Run a module of tests; *apart*, in a process of its own, which has loaded nothing yet."""
        self.pytester.makepyfile(IMPORTS + named + source)
        run = self.pytester.runpytest_subprocess if apart else self.pytester.runpytest_inprocess
        return run(*options, "-p", "no:cacheprovider")


@pytest.fixture
def outside(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Outside:
    """Make an empty project."""
    return Outside(pytester, monkeypatch)


def test_a_session_works_in_strict_mode(outside: Outside) -> None:
    """pytest-asyncio's strict mode runs the fixtures for a test that is marked."""
    outside.run("@pytest.mark.asyncio" + OPENS, *ASYNCIO, "--asyncio-mode=strict").assert_outcomes(passed=1)


def test_a_session_works_in_auto_mode(outside: Outside) -> None:
    """pytest-asyncio's auto mode runs the fixtures for a test without a mark."""
    outside.run(OPENS, *ASYNCIO, "--asyncio-mode=auto").assert_outcomes(passed=1)


def test_a_session_works_under_anyio(outside: Outside) -> None:
    """The plugin of anyio runs the fixtures where pytest-asyncio is not installed."""
    backend = "\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n\n"
    outside.pytester.makepyfile(pytest_asyncio="raise ImportError")
    source = backend + "@pytest.mark.anyio" + OPENS
    outside.run(source, "-p", "anyio.pytest_plugin", apart=True).assert_outcomes(passed=1)


def test_the_sandbox_serves_tests_that_are_no_coroutines(outside: Outside) -> None:
    """A test that runs a loop of its own can use the sandbox too."""
    source = """
import asyncio

async def open_one(sandbox):
    async with wxtcb.Session(
        component_appid=sandbox.component_appid,
        component_appsecret=sandbox.component_appsecret,
        ticket=sandbox.ticket,
        base_url=sandbox.url,
    ) as session:
        return await environment.create_env(session, alias="teahouse")

def test_opens(wxtcb_sandbox):
    assert asyncio.run(open_one(wxtcb_sandbox)).env in wxtcb_sandbox.world.environments
"""
    outside.run(source).assert_outcomes(passed=1)


def test_each_test_has_a_world_of_its_own(outside: Outside) -> None:
    """What one test opens, another does not find."""
    source = OPENS + OPENS.replace("test_opens", "test_opens_again")
    outside.run(source, *ASYNCIO, "--asyncio-mode=auto").assert_outcomes(passed=2)


def test_retries_do_not_make_tests_wait(outside: Outside) -> None:
    """The session of the fixture draws its pauses from thousandths of a second."""
    source = """
async def test_policy(wxtcb_session):
    assert wxtcb_session.retry == wxtcb.RetryPolicy(base=0.001)
"""
    outside.run(source, *ASYNCIO, "--asyncio-mode=auto").assert_outcomes(passed=1)


def test_the_plugin_can_be_named_once_for_all(outside: Outside) -> None:
    """A conftest.py that names it gives the fixtures to every module."""
    outside.pytester.makeconftest(NAMES_IT)
    outside.run(OPENS, *ASYNCIO, "--asyncio-mode=auto", named="").assert_outcomes(passed=1)


def test_nobody_is_given_the_plugin_unasked() -> None:
    """The package announces nothing to pytest, so that other people's runs do not import it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "entry-points" not in project


def test_the_plugin_needs_no_pytest_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pytest-asyncio is missing, the fixture is a plain one, which that plugin would not take."""
    monkeypatch.setitem(sys.modules, "pytest_asyncio", None)
    spec = importlib.util.find_spec("wxtcb.testing")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not hasattr(module.wxtcb_session, "_force_asyncio_fixture")
