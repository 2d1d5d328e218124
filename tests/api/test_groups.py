"""Groups of endpoints: each is imported on first access."""

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


def run_json(code):
    """Run *code* in a fresh interpreter and return what it prints as JSON."""
    command = [sys.executable, "-c", code]
    return json.loads(subprocess.run(command, check=True, capture_output=True, cwd=ROOT.parent, timeout=60).stdout)


def test_no_group_is_imported_before_its_first_access():
    """`import wxtcb` imports no group."""
    loaded = run_json("import json, sys, wxtcb; print(json.dumps([*sys.modules]))")
    assert "wxtcb.api" in loaded
    assert [name for name in loaded if name.startswith("wxtcb.api.")] == []


def test_group_is_an_attribute():
    """After `import wxtcb`, `wxtcb.api.<group>` is the module."""
    names = run_json(f"import json, wxtcb; print(json.dumps([getattr(wxtcb.api, name).__name__ for name in {GROUPS}]))")
    assert names == [f"wxtcb.api.{name}" for name in GROUPS]


def test_every_group_is_public():
    """Each module is in `__all__`, and its endpoints are in `endpoints`."""
    assert sorted({*GROUPS, "endpoints"}) == api.__all__ == dir(api)
    assert {each for name in GROUPS for each in getattr(api, name).ENDPOINTS} == set(api.endpoints())


def test_unknown_group_raises_attribute_error():
    """The message has the module's and the attribute's name."""
    with pytest.raises(AttributeError, match=r"module 'wxtcb\.api' has no attribute 'nothing'"):
        operator.attrgetter("nothing")(api)
