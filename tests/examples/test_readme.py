"""The README of the examples."""

from __future__ import annotations

import re

from .backends import ROOT

FOLDER = ROOT / "examples"
README = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_it_names_every_example() -> None:
    """Its links point to files, and no file of the examples is missing."""
    links = {(FOLDER / link).resolve() for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README)}
    assert [link for link in links if not link.is_file()] == []
    files = {path.resolve() for path in FOLDER.rglob("*") if path.suffix in (".py", ".csv")}
    assert files <= links
