"""What is the user's, and may raise anything: told by the place it happened in, for its frames hold secrets."""

from __future__ import annotations

import traceback


def place_of(error: Exception) -> str:
    """Say where *error* was raised, for a message in place of its traceback."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"in {frame.filename}, line {frame.lineno}"
