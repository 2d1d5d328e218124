"""docs/contributing.md keeps its promises: the endpoint that it adds is whole, and gone when it is taken out again."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(?:python|json)\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)
CALL, FACTS, HANDLER, SAMPLE = BLOCKS
FILES = {
    "wxtcb/api/token.py": CALL,
    "wxtcb/sandbox/facts/token.json": FACTS,
    "wxtcb/sandbox/handlers/token.py": HANDLER,
    "tests/samples/get_clear_count.json": SAMPLE,
}
PAGE, EXAMPLES = "docs/endpoints.md", "wxtcb/cli/examples.json"
ADDITION = re.compile(r"^(?P<name>[A-Z]+): Final = [({]\.\.\., (?P<entry>.*)[)}]$", re.MULTILINE)
SUITE = ("tests/api/test_contract.py", "tests/api/test_samples.py", "tests/api/test_properties.py")
FAILED = re.compile(r"^FAILED .*::(test_\w+)\[get_clear_count\]", re.MULTILINE)


@pytest.fixture
def copy(tmp_path):
    """Make a copy of the package and of the tests that hold calls to what they owe."""
    for name in ("wxtcb", "tests/api", "tests/samples", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("pyproject.toml", "tests/conftest.py", "tests/generated.py", "tests/test_generated.py"):
        shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def add(copy, *names):
    """Write what the docs show into these files."""
    for name in names:
        file, block = copy / name, FILES[name]
        old = file.read_text("utf-8") if file.exists() else ""
        file.write_text(with_entry(old, block) if name.endswith(".json") else with_code(old, block), encoding="utf-8")


def with_entry(old, block):
    """Add a JSON object to a list, or write it where there is none."""
    return json.dumps([*json.loads(old), json.loads(block)]) if old else block


def with_code(old, block):
    """Put in front of a table what belongs above it, add the entry to it, and put the rest at the end."""
    addition = ADDITION.search(block)
    above, below = block[: addition.start()], block[addition.end() :]
    start = re.search(rf"^{addition['name']}: ", old, re.MULTILINE).start()
    end = re.compile(r"[)}]$", re.MULTILINE).search(old, start).start()
    table = f"{old[start:end].rstrip().rstrip(',')}, {addition['entry']}"
    return f"{old[:start]}{above}{table}{old[end:]}{below}"


def run(copy, *command):
    """Run Python in the copy; return how it ended and what it printed."""
    seen = {**os.environ, "PYTHONPATH": str(copy), "COLUMNS": "300"}
    ended = subprocess.run(
        [sys.executable, *command], cwd=copy, env=seen, capture_output=True, text=True, check=False, timeout=60
    )
    return ended.returncode, ended.stdout + ended.stderr


def run_tests(copy):
    """Run what holds the new call to what it owes."""
    return run(copy, "-m", "pytest", "-q", *SUITE, "-k", "get_clear_count")


def test_the_endpoint_of_the_docs_is_whole_and_can_be_taken_out_again(copy):
    """Its contract, its sample and its properties hold, it is in what is generated, and afterwards nothing is left."""
    old = {name: (copy / name).read_bytes() for name in FILES if (copy / name).exists()}
    add(copy, *FILES)
    code, told = run_tests(copy)
    assert (code, FAILED.findall(told)) == (0, []), told
    assert run(copy, "tests/generated.py") == (0, "")
    assert "`get_clear_count`" in (copy / PAGE).read_text("utf-8")
    assert "get_clear_count" in json.loads((copy / EXAMPLES).read_text("utf-8"))
    for name in FILES:
        (copy / name).write_bytes(old[name]) if name in old else (copy / name).unlink()
    assert run(copy, "tests/generated.py") == (0, "")
    assert [(copy / name).read_bytes() for name in (PAGE, EXAMPLES)] == [
        (ROOT / name).read_bytes() for name in (PAGE, EXAMPLES)
    ]


def test_an_endpoint_that_lacks_something_fails_by_its_name(copy):
    """With the call alone: without facts, handler and sample."""
    add(copy, "wxtcb/api/token.py")
    _, told = run_tests(copy)
    assert {
        "test_a_call_has_a_documented_sample",
        "test_the_sandbox_knows_the_facts_of_a_call",
        "test_the_sandbox_simulates_a_call",
    } <= set(FAILED.findall(told)), told


def test_local_links_lead_to_files():
    """Every link that is no address leads to a file of the project."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", DOCS)
    assert [link for link in links if not (ROOT / "docs" / link).is_file()] == []
