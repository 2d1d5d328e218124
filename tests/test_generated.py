"""What is generated from the code and the samples is up to date."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

GENERATED = runpy.run_path(str(Path(__file__).parent / "generated.py"))


@pytest.mark.parametrize(("file", "made"), GENERATED["FILES"].items(), ids=lambda each: getattr(each, "name", None))
def test_a_generated_file_is_what_the_code_makes_now(file, made):
    """Who changed a call, or its sample, has run `python tests/generated.py`."""
    assert file.read_text("utf-8") == made()
