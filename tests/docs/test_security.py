"""Tests of docs/security.md and SECURITY.md: complete for each party, current, and with links that work."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("SECURITY.md", "docs/security.md")}
PARTIES: Final = dict(section.split("\n", 1) for section in PAGES["docs/security.md"].split("\n## ")[1:])


@pytest.mark.parametrize("title", PARTIES)
def test_section_states_what_is_promised_and_what_is_not(title: str) -> None:
    """A reader finds both the promises and their limits for each party."""
    assert "- **Promised.** " in PARTIES[title]
    assert "- **Not promised.** " in PARTIES[title]


@pytest.mark.parametrize("name", PAGES)
def test_local_links_lead_to_files(name: str) -> None:
    """Every relative link leads to a file of the project."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGES[name])
    assert links
    assert [link for link in links if not (ROOT / name).parent.joinpath(link).is_file()] == []


def test_the_supported_version_is_the_current_one() -> None:
    """The minor version that gets security fixes is the one in pyproject.toml."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    minor = version.rpartition(".")[0]
    assert f"| the newest minor version ({minor}) | yes |" in PAGES["SECURITY.md"]
