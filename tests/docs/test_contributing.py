"""CONTRIBUTING.md: its example adds a complete endpoint, which can be removed again."""

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
DOCS = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(?:python|json)\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)
CALL, FACTS, HANDLER, SAMPLE = BLOCKS
FILES = {
    "wxtcb/api/token.py": CALL,
    "wxtcb/sandbox/facts/token.json": FACTS,
    "wxtcb/sandbox/services/token.py": HANDLER,
    "tests/samples/get_clear_count.json": SAMPLE,
}
PAGE, EXAMPLES = "docs/endpoints.md", "wxtcb/cli/examples.json"
ADDITION = re.compile(r"^(?P<name>[A-Z]+): Final = [({]\.\.\., (?P<entry>.*)[)}]$", re.MULTILINE)
SUITE = ("tests/api/test_contract.py", "tests/api/test_samples.py", "tests/api/test_properties.py")
FAILED = re.compile(r"^FAILED .*::(test_\w+)\[get_clear_count\]", re.MULTILINE)


@pytest.fixture
def copy(tmp_path):
    """Copy the package and the tests that check every endpoint."""
    for name in ("wxtcb", "tests/api", "tests/samples", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("pyproject.toml", "tests/conftest.py", "tests/generated.py", "tests/test_generated.py"):
        shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def add(copy, *names):
    """Add the examples of the page to these files."""
    for name in names:
        file, block = copy / name, FILES[name]
        old = file.read_text("utf-8") if file.exists() else ""
        file.write_text(with_entry(old, block) if name.endswith(".json") else with_code(old, block), encoding="utf-8")


def with_entry(old, block):
    """Return a JSON list with another entry, or the entry itself for a new file."""
    return json.dumps([*json.loads(old), json.loads(block)]) if old else block


def with_code(old, block):
    """Insert code above a table, add an entry to the table, and append the rest."""
    addition = ADDITION.search(block)
    above, below = block[: addition.start()], block[addition.end() :]
    start = re.search(rf"^{addition['name']}: ", old, re.MULTILINE).start()
    end = re.compile(r"[)}]$", re.MULTILINE).search(old, start).start()
    table = f"{old[start:end].rstrip().rstrip(',')}, {addition['entry']}"
    return f"{old[:start]}{above}{table}{old[end:]}{below}"


def run(copy, *command):
    """Run Python in the copy; return the exit code and the output."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "COLUMNS": "300"}
    process = subprocess.run(
        [sys.executable, *command], cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    return process.returncode, process.stdout + process.stderr


def run_tests(copy):
    """Run the tests of the new endpoint."""
    return run(copy, "-m", "pytest", "-q", *SUITE, "-k", "get_clear_count")


def test_example_adds_a_complete_endpoint_that_can_be_removed(copy):
    """All tests of the new endpoint pass, the generated files list it, and removing it restores all files."""
    old = {name: (copy / name).read_bytes() for name in FILES if (copy / name).exists()}
    add(copy, *FILES)
    code, output = run_tests(copy)
    assert (code, FAILED.findall(output)) == (0, []), output
    assert run(copy, "tests/generated.py") == (0, "")
    assert "`get_clear_count`" in (copy / PAGE).read_text("utf-8")
    assert "get_clear_count" in json.loads((copy / EXAMPLES).read_text("utf-8"))
    for name in FILES:
        (copy / name).write_bytes(old[name]) if name in old else (copy / name).unlink()
    assert run(copy, "tests/generated.py") == (0, "")
    assert [(copy / name).read_bytes() for name in (PAGE, EXAMPLES)] == [
        (ROOT / name).read_bytes() for name in (PAGE, EXAMPLES)
    ]


def test_incomplete_endpoint_fails_by_its_name(copy):
    """A call without facts, handler and sample fails one test for each of them."""
    add(copy, "wxtcb/api/token.py")
    _, output = run_tests(copy)
    assert {
        "test_endpoint_has_a_documented_sample",
        "test_sandbox_has_the_schema_of_an_endpoint",
        "test_sandbox_has_a_handler_for_an_endpoint",
    } <= set(FAILED.findall(output)), output


def test_local_links_lead_to_files():
    """Every relative link leads to a file of the project."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", DOCS)
    assert [link for link in links if not (ROOT / link).is_file()] == []
