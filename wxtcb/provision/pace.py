"""How fast a run goes, and how patient it is."""

from __future__ import annotations

from collections.abc import Callable

import attrs


@attrs.frozen(kw_only=True)
class RunSettings:
    """What a run goes by; see `wxtcb.provision.Provisioner`."""

    concurrency: int
    timeout: float
    interval: float
    settle: float
    grace: float
    max_failures: int | None
    wall_clock: Callable[[], float]
