"""The groups of calls: each is there when it is asked for, and not before."""

from __future__ import annotations

import json
import operator
import subprocess
import sys
from pathlib import Path

import pytest

import wxtcb
from wxtcb import api

ROOT = Path(wxtcb.__file__).parent
GROUPS = sorted(file.stem for file in (ROOT / "api").iterdir() if not file.stem.startswith("_"))


def told(code):
    """Run *code* in a fresh interpreter and return what it prints as JSON."""
    command = [sys.executable, "-c", code]
    return json.loads(subprocess.run(command, check=True, capture_output=True, cwd=ROOT.parent, timeout=60).stdout)


def test_no_group_is_loaded_before_it_is_asked_for():
    """A program pays at its start for no calls but those that it makes."""
    loaded = told("import json, sys, wxtcb; print(json.dumps([*sys.modules]))")
    assert "wxtcb.api" in loaded
    assert [name for name in loaded if name.startswith("wxtcb.api.")] == []


def test_a_group_is_reached_as_an_attribute():
    """After `import wxtcb` alone, `wxtcb.api.<group>` is the module."""
    names = told(f"import json, wxtcb; print(json.dumps([getattr(wxtcb.api, name).__name__ for name in {GROUPS}]))")
    assert names == [f"wxtcb.api.{name}" for name in GROUPS]


def test_every_group_is_listed():
    """Each module beside is in `__all__`, and its endpoints are in `endpoints`."""
    assert sorted({*GROUPS, "endpoints"}) == api.__all__ == dir(api)
    assert {each for name in GROUPS for each in getattr(api, name).ENDPOINTS} == set(api.endpoints())


def test_an_unknown_group_is_refused_as_usual():
    """What is not there raises AttributeError with the module's and the attribute's name."""
    with pytest.raises(AttributeError, match=r"module 'wxtcb\.api' has no attribute 'nothing'"):
        operator.attrgetter("nothing")(api)
