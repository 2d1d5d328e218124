"""docs/sandbox.md: its tables are complete, and its examples run."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from attrs import fields

from wxtcb import testing
from wxtcb.cli.app import _sandbox
from wxtcb.sandbox import Fault, FaultKind, Faults
from wxtcb.sandbox.admin import ADMIN_ROUTES
from wxtcb.sandbox.faults import parse_fault_option

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "sandbox.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)
FAULT_ROWS = re.findall(r"^\| `([a-z-]+)` \| (.*?) ?\| (yes|no)[^|]* \|", DOCS, re.MULTILINE)


def test_every_fault_is_described() -> None:
    """The table has every kind, and whether the call takes effect under it."""
    rows = [(kind, effect == "yes") for kind, _, effect in FAULT_ROWS]
    # The call is handled, but with an expired token.
    handled = [(kind.value, kind.takes_effect and kind is not FaultKind.EXPIRE_TOKEN) for kind in FaultKind]
    assert rows == handled


def test_options_of_faults_exist() -> None:
    """The options are fields of `Fault`, and all of those that belong to a kind are in the table."""
    options = {name for _, cell, _ in FAULT_ROWS for name in re.findall(r"`(\w+)`", cell)}
    assert options == {field.name for field in fields(Fault)} - {"kind", "path", "times", "probability"}


def test_each_kind_has_a_method() -> None:
    """The method of `Faults` for a kind has its name."""
    assert [kind for kind in FaultKind if not hasattr(Faults, kind.value.replace("-", "_"))] == []


def test_examples_of_faults_are_valid() -> None:
    """The command accepts the values of --fault in the text."""
    examples = re.findall(r"`--fault ([a-z][^`]*)`", DOCS)
    assert [parse_fault_option(text).kind.value for text in examples] == ["drop-after", "slow"]


def test_every_option_of_the_command_is_described() -> None:
    """The table has each option of `wxtcb sandbox`."""
    options = [f"--{name.replace('_', '-')}" for name in inspect.signature(_sandbox).parameters]
    assert [option for option in options if f"| `{option} " not in DOCS] == []


def test_every_admin_route_is_described() -> None:
    """The table has each request of the admin API, and no other."""
    assert set(re.findall(r"^\| `([A-Z]+) (/_sandbox\S*)` \|", DOCS, re.MULTILINE)) == set(ADMIN_ROUTES)


def test_every_fixture_is_described() -> None:
    """The table has each fixture."""
    fixtures = [name for name in testing.__all__ if name.startswith("wxtcb_")]
    assert [name for name in fixtures if f"| `{name}` |" not in DOCS] == []


def test_example_with_own_replies_passes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example is a test that passes."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(BLOCKS[1])
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_application_of_the_readme_can_be_tested(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of an application passes for the one in README.md, as it is printed there."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [backend] = [
        block
        for block in re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
        if "TicketReceiver" in block
    ]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(backend=backend)
    plugin = 'from fastapi.testclient import TestClient\n\npytest_plugins = ["wxtcb.testing"]\n\n'
    pytester.makepyfile(test_backend=plugin + BLOCKS[0])
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "test_backend.py")
    result.assert_outcomes(passed=1, warnings=None)
