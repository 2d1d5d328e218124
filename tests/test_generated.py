"""Generated files are up to date."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

GENERATED = runpy.run_path(str(Path(__file__).parent / "generated.py"))


@pytest.mark.parametrize(
    ("file", "generate"), GENERATED["FILES"].items(), ids=lambda each: getattr(each, "name", "file")
)
def test_generated_file_is_up_to_date(file, generate):
    """After a change of an endpoint or its sample, `python tests/generated.py` must be run."""
    assert file.read_text("utf-8") == generate()
