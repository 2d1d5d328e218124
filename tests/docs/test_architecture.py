"""Tests of docs/architecture.md: it describes the code that exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PICTURE: Final = PAGE.split("```text\n", 1)[1].split("```", 1)[0]


def test_the_picture_shows_the_layers_of_the_import_contract() -> None:
    """The rows of the picture are the layers that import-linter checks, from top to bottom."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = config["tool"]["importlinter"]["contracts"][0]["layers"]
    rows = [set(re.findall(r"\w+", row.rsplit("│", 1)[0])) for row in PICTURE.splitlines() if row.startswith("  │")]
    assert rows == [set(re.findall(r"\w+", layer)) for layer in layers if layer != "__main__"]


def test_every_package_and_module_has_a_row() -> None:
    """The table of purposes names everything at the top of the package."""
    table = PAGE.split("| package or module |", 1)[1].split("\n\n", 1)[0]
    parts = {
        path.stem for path in (ROOT / "wxtcb").iterdir() if not path.name.startswith("__") and path.name != "py.typed"
    }
    assert parts == set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


def test_every_file_that_it_names_exists() -> None:
    """Paths are relative to the repository, or to the package."""
    paths = re.findall(r"`([\w./*]+/[\w./*]*)`", PAGE)
    assert paths
    assert [path for path in paths if not [*ROOT.glob(path), *(ROOT / "wxtcb").glob(path)]] == []


def test_every_class_that_it_names_exists() -> None:
    """Names in CamelCase are defined in the package, or are classes of Python."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "wxtcb").rglob("*.py"))
    names = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)\b", PAGE)) - {"ResourceWarning"}
    assert {name for name in names if f"class {name}" not in source} == set()
