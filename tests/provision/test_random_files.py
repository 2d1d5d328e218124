"""Random tenants files: each gives tenants or a `TenantsFileError`."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from .random_files import check_file, files


@pytest.mark.unmeasured
@settings(max_examples=500)
@given(files())
def test_random_file_gives_tenants_or_problems(
    tmp_path_factory: pytest.TempPathFactory, file: tuple[str, bytes]
) -> None:
    """No other exception leaves the reader."""
    check_file(tmp_path_factory.getbasetemp(), file)
