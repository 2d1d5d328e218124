"""Resident memory of this process, and its peak since the last reset."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

MEGABYTE: Final = 1_000_000
STATUS: Final = Path("/proc/self/status")


def reset_peak() -> float:
    """Reset the peak to the current resident memory; return it in megabytes."""
    with contextlib.suppress(OSError):
        # 5 resets VmHWM, see proc_pid_clear_refs(5).
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_memory()


def peak_memory() -> float:
    """Return the peak of the resident memory in megabytes, or 0 if the system does not report it."""
    if not STATUS.exists():
        return 0.0
    fields = dict(line.split(":", 1) for line in STATUS.read_text(encoding="ascii").splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024 / MEGABYTE
