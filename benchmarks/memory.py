"""How much memory this process holds, and held at most since it was last asked to forget that."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

MEGABYTE: Final = 1_000_000
STATUS: Final = Path("/proc/self/status")


def forget_peak() -> float:
    """Let the peak of the resident set begin anew; return the megabytes it starts from."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak()


def peak() -> float:
    """Return the megabytes of the resident set at its largest; 0 where the system does not tell."""
    if not STATUS.exists():
        return 0.0
    fields = dict(line.split(":", 1) for line in STATUS.read_text(encoding="ascii").splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024 / MEGABYTE
